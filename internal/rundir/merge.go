package rundir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

// Merged is what all processes of a run recorded.
type Merged struct {
	// Outcomes by sandbox, in the order in which they were first recorded.
	Outcomes map[string][]requirement.Outcome `json:"outcomes"`
	// Attempts are the results of what was judged more than once, by sandbox, in
	// their order; the worst is the outcome.
	Attempts map[string]map[requirement.ID][]requirement.Result `json:"attempts,omitempty"`
	// Problems of the run, and Notes.
	Problems []string `json:"problems,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	// Kept are the IDs of sandboxes that were kept on purpose.
	Kept []string `json:"kept,omitempty"`

	// told are the attempts as a note tells them: of two results that are the same,
	// one may count and the other not.
	told map[string]map[requirement.ID][]string

	// ofRecords is how many of the problems the files of records and evidence alone
	// tell, in whichever directory they lie.
	ofRecords int
}

// nothingExecuted is the problem of a run without outcomes.
const nothingExecuted = "no requirement was executed: a filter that matches nothing, or a run that ended before its first spec"

// Merge reads the records of all processes. A torn line, as a full disk leaves
// it, is a problem of the run and loses nothing else, and so is a process that
// did not come to its end. What another run recorded is a problem, and counts for
// nothing.
func (r *Run) Merge() (Merged, error) {
	merged := Merged{
		Outcomes: map[string][]requirement.Outcome{}, Attempts: map[string]map[requirement.ID][]requirement.Result{},
		told: map[string]map[requirement.ID][]string{},
	}
	names, err := r.recordFiles()
	if err != nil {
		return merged, err
	}
	expected, _ := r.processes()
	for _, name := range names {
		of := process{records: name, origin: r.origin(), number: nobody}
		if i := slices.IndexFunc(expected, func(p process) bool { return p.records == name }); i >= 0 {
			of = expected[i]
		}
		if err := merged.read(of, r.redact); err != nil {
			return merged, err
		}
	}
	merged.settleUnknown()
	if err := r.tellEvidence(&merged); err != nil {
		return merged, err
	}
	if err := r.tellLostProcesses(&merged, names); err != nil {
		return merged, err
	}
	merged.ofRecords = len(merged.Problems)
	if len(merged.Outcomes) == 0 {
		merged.Problems = append(merged.Problems, nothingExecuted)
	}
	for _, sandbox := range slices.Sorted(maps.Keys(merged.Outcomes)) {
		if !slices.Contains(r.Manifest.names(), sandbox) {
			merged.Problems = append(merged.Problems, fmt.Sprintf("outcomes were recorded for %q, which the manifest does not name", sandbox))
		}
	}
	merged.tellUnknown(r.Manifest.Requirements)
	merged.tellAttempts()
	merged.Notes = append(merged.Notes, r.Manifest.shardNotes()...)
	code, err := r.ginkgoExit()
	if err != nil {
		return merged, err
	}
	// A spec that failed explains 1, and nothing else.
	if code != 0 && (code != 1 || merged.AllGreen()) {
		merged.Problems = append(merged.Problems, fmt.Sprintf("ginkgo ended with %d, and nothing that was recorded explains it: see its own output", code))
	}
	return merged, nil
}

// recordFiles lists the record files that are there.
func (r *Run) recordFiles() ([]string, error) {
	dir := filepath.Join(r.Dir, recordsDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the records: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "process-") && strings.HasSuffix(entry.Name(), ".ndjson") {
			names = append(names, filepath.Join(dir, entry.Name()))
		}
	}
	return names, nil
}

// tellUnknown makes a problem of the requirements that this sandproof does not
// have, and so cannot judge.
func (m *Merged) tellUnknown(expected []requirement.ID) {
	unknown := map[requirement.ID]bool{}
	for _, id := range expected {
		_, known := requirement.Lookup(id)
		unknown[id] = !known
	}
	for _, sandbox := range slices.Sorted(maps.Keys(m.Outcomes)) {
		for _, o := range m.Outcomes[sandbox] {
			if _, known := requirement.Lookup(o.Requirement); !known {
				unknown[o.Requirement] = true
			}
		}
	}
	maps.DeleteFunc(unknown, func(_ requirement.ID, is bool) bool { return !is })
	if len(unknown) > 0 {
		m.Problems = append(m.Problems, fmt.Sprintf("the run has requirements that this sandproof does not know (%s): gate it with the sandproof that recorded it",
			joined(slices.Sorted(maps.Keys(unknown)))))
	}
}

// AllGreen tells whether nothing that was recorded is a reason for a red run.
func (m *Merged) AllGreen() bool {
	for _, outcomes := range m.Outcomes {
		for _, o := range outcomes {
			if !o.Result.Green() {
				return false
			}
		}
	}
	return len(m.Problems) == 0
}

// read reads the records of one process. Its recorder has taken secrets out, and
// they are taken out again: files may have been carried here.
func (m *Merged) read(p process, redactor *redact.Redactor) error {
	data, err := os.ReadFile(p.records)
	if err != nil {
		return fmt.Errorf("read the records: %w", err)
	}
	name := filepath.Base(p.records)
	var odd misplaced
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		record, err := read[Record](line, redactor)
		if err != nil {
			m.Problems = append(m.Problems, fmt.Sprintf("%s:%d is no whole record, as a full disk or a killed process leaves it: %v", name, n, err))
			continue
		}
		switch {
		case record.Run == "":
			odd.unnamed++
		case !record.is(p.origin):
			odd.foreign, odd.origin = odd.foreign+1, record.Origin
			continue
		case p.number != nobody && record.Process != p.number:
			odd.strayed, odd.process = odd.strayed+1, record.Process
		}
		if record.Kept != "" {
			m.Kept = append(m.Kept, record.Kept)
		}
		switch {
		case record.Outcome == nil:
		case record.Attempt > mostAttempts:
			m.Problems = append(m.Problems, fmt.Sprintf("%s:%d is no whole record: attempt %d of %s, where %d are the most", name, n, record.Attempt, record.Outcome.Requirement, mostAttempts))
		default:
			m.add(record)
		}
		if record.Problem != "" {
			m.Problems = append(m.Problems, record.Problem)
		}
		if record.Note != "" {
			m.Notes = append(m.Notes, record.Note)
		}
		if record.Outcome == nil && record.Problem == "" && record.Note == "" && !record.End {
			m.Problems = append(m.Problems, fmt.Sprintf("%s:%d records nothing: it is of another sandproof, or was edited", name, n))
		}
	}
	m.Problems = append(m.Problems, odd.problems(name, p)...)
	return nil
}

// misplaced counts the records of a file that do not belong there, and keeps
// where the last of them do.
type misplaced struct {
	unnamed, foreign, strayed int
	origin                    Origin
	process                   int
}

func (odd misplaced) problems(name string, of process) []string {
	var all []string
	if odd.unnamed > 0 {
		all = append(all, fmt.Sprintf("%s: %d records do not name their run: an older sandproof wrote them, or they were edited: run again", name, odd.unnamed))
	}
	if odd.foreign > 0 {
		all = append(all, fmt.Sprintf("%s: %d records are of run %s, and not of run %s: they were left over, or carried here, and count for nothing",
			name, odd.foreign, odd.origin, of.origin))
	}
	if odd.strayed > 0 {
		all = append(all, fmt.Sprintf("%s: %d records are of process %d: the file was renamed or edited, and what its own process found is not known", name, odd.strayed, odd.process))
	}
	return all
}

// mostAttempts is more than anybody retries a spec: each attempt that is missing
// before another is kept in memory.
const mostAttempts = 100

// add keeps one outcome for a requirement: the worst. An attempt that is known
// to have been made and recorded nothing is unproven, so that the retry alone
// never decides. A result that is none is a problem in whichever attempt it
// stands: no other one makes up for it.
func (m *Merged) add(record Record) {
	id := record.Outcome.Requirement
	if !record.Outcome.Result.Known() {
		m.Problems = append(m.Problems, fmt.Sprintf("%s of %s has the result %q, which is none", id, record.Sandbox, record.Outcome.Result))
	}
	attempts := m.Attempts[record.Sandbox]
	if attempts == nil {
		attempts = map[requirement.ID][]requirement.Result{}
		m.Attempts[record.Sandbox], m.told[record.Sandbox] = attempts, map[requirement.ID][]string{}
	}
	for n := len(attempts[id]) + 1; n < record.Attempt; n++ {
		m.keep(record.Sandbox, requirement.Outcome{
			Requirement: id, Result: requirement.Unproven,
			Reason: fmt.Sprintf("attempt %d of %s ended without an outcome, and attempt %d came to %s: a retry does not prove what the first could not", n, id, record.Attempt, record.Outcome.Result),
			Next:   "run again without --flake-attempts",
		})
	}
	m.keep(record.Sandbox, *record.Outcome)
}

func (m *Merged) keep(sandbox string, o requirement.Outcome) {
	m.Attempts[sandbox][o.Requirement] = append(m.Attempts[sandbox][o.Requirement], o.Result)
	m.told[sandbox][o.Requirement] = append(m.told[sandbox][o.Requirement], inWords(o))
	have := m.Outcomes[sandbox]
	i := slices.IndexFunc(have, func(other requirement.Outcome) bool { return other.Requirement == o.Requirement })
	switch {
	case i < 0:
		m.Outcomes[sandbox] = append(have, o)
	case verdict.Outweighs(o, have[i]):
		have[i] = o
	}
}

// inWords tells an attempt's result, and what makes it count for more or for less.
func inWords(o requirement.Outcome) string {
	switch {
	case !o.Result.Known():
		return string(requirement.Unproven)
	case o.Untried:
		return string(o.Result) + " (not tried)"
	case o.Muted():
		return string(o.Result) + " (the log cannot speak)"
	}
	return string(o.Result)
}

// settleUnknown makes outcomes of what is no result: nothing is proven by it.
// While attempts are compared it is as it was recorded, and weighs more than all.
func (m *Merged) settleUnknown() {
	for _, outcomes := range m.Outcomes {
		for i, o := range outcomes {
			if !o.Result.Known() {
				// Nothing else of it is kept that could make it count for less.
				outcomes[i] = requirement.Outcome{
					Requirement: o.Requirement, Result: requirement.Unproven, Read: o.Read, Wanted: o.Wanted,
					Reason: fmt.Sprintf("the record has the result %q, which is none", o.Result),
					Next:   "gate the run with the sandproof that recorded it, or run again",
				}
			}
		}
	}
	for _, attempts := range m.Attempts {
		for _, results := range attempts {
			for i, result := range results {
				if !result.Known() {
					results[i] = requirement.Unproven
				}
			}
		}
	}
}

// tellAttempts notes what was judged more than once, and forgets the rest. What
// varied is a flake, each of which is told by itself.
func (m *Merged) tellAttempts() {
	for _, sandbox := range slices.Sorted(maps.Keys(m.Attempts)) {
		equal := 0
		for _, id := range slices.Sorted(maps.Keys(m.Attempts[sandbox])) {
			told := m.told[sandbox][id]
			switch {
			case len(told) == 1:
				delete(m.Attempts[sandbox], id)
			case len(slices.Compact(slices.Clone(told))) == 1:
				equal++
			default:
				m.Notes = append(m.Notes, fmt.Sprintf("FLAKY: %s of %s was judged %d times within the run: %s; the worst counts", id, sandbox, len(told), joined(told)))
			}
		}
		if equal > 0 {
			m.Notes = append(m.Notes, fmt.Sprintf("of %s %d requirements were judged more than once (--flake-attempts), each with the same result", sandbox, equal))
		}
		if len(m.Attempts[sandbox]) == 0 {
			delete(m.Attempts, sandbox)
		}
	}
}

func joined[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, one := range all {
		words[i] = string(one)
	}
	return strings.Join(words, ", ")
}

// tellLostProcesses makes a problem of every process that was expected and did
// not come to its end: nobody knows what it was about to find.
func (r *Run) tellLostProcesses(m *Merged, names []string) error {
	expected, old := r.processes()
	for _, who := range old {
		m.Problems = append(m.Problems, who+" was recorded by an older sandproof, which did not record whether its processes came to their end: run again")
	}
	if len(old) > 0 {
		return nil
	}
	var silent, cut []string
	for _, p := range expected {
		names = slices.DeleteFunc(names, func(n string) bool { return n == p.records })
		switch ended, err := endOf(p.records); {
		case errors.Is(err, fs.ErrNotExist):
			silent = append(silent, p.name)
		case err != nil:
			return err
		case !ended:
			cut = append(cut, p.name)
		}
	}
	if len(silent) > 0 {
		m.Problems = append(m.Problems, fmt.Sprintf("%s of %d recorded nothing: the run is still beginning, ended before its first spec, or lost them", listed(silent), len(expected)))
	}
	if len(cut) > 0 {
		m.Problems = append(m.Problems, fmt.Sprintf("%s of %d did not come to the end: killed, out of disk, or still running; what was recorded counts", listed(cut), len(expected)))
	}
	for _, name := range names {
		m.Problems = append(m.Problems, fmt.Sprintf("%s is of no process of this run, which had %d", filepath.Base(name), len(expected)))
	}
	return nil
}

// process is one that is expected to have recorded its end, in a run of its own
// where that was a shard's.
type process struct {
	name, records string
	origin        Origin
	number        int
}

// nobody is the number of a process that no file of records should be of.
const nobody = -1

// processes are all that are expected to have recorded their end: those of the
// suites, or of each shard and of the merging. old names what was recorded by a
// sandproof that knew no end.
func (r *Run) processes() (expected []process, old []string) {
	m := r.Manifest
	if len(m.Shards) == 0 {
		if m.Processes == 0 {
			return nil, []string{"this run"}
		}
		for n := range m.Processes {
			expected = append(expected, process{strconv.Itoa(n + 1), r.recordsOf(n + 1), r.origin(), n + 1})
		}
		return expected, nil
	}
	expected = append(expected, process{"0 (the merging)", r.recordsOf(mergeProcess), r.origin(), mergeProcess})
	for _, part := range m.Shards {
		switch {
		case part.Missing:
		case part.Processes == 0:
			old = append(old, "shard "+part.Shard)
		}
		number, _, _ := strings.Cut(part.Shard, "/")
		for n := range part.Processes {
			name := fmt.Sprintf("process-shard-%s-%d.ndjson", number, n+1)
			expected = append(expected, process{fmt.Sprintf("%d of shard %s", n+1, part.Shard), filepath.Join(r.Dir, recordsDir, name), part.origin(), n + 1})
		}
	}
	return expected, old
}

// endOf tells whether the last line of a process's records is its end.
func endOf(name string) (bool, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("read the records: %w", err)
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	var last Record
	err = json.Unmarshal(data[bytes.LastIndexByte(data, '\n')+1:], &last)
	return err == nil && last.End, nil
}

func listed(names []string) string {
	if len(names) == 1 {
		return "process " + names[0]
	}
	return "processes " + strings.Join(names, ", ")
}
