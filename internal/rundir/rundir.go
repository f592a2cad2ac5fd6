// Package rundir is a run on disk: one directory with the effective
// configuration, append-only records per process, evidence per sandbox, and
// what was made of them. A process that is killed loses nothing that it had
// recorded.
package rundir

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

// Manifest says what a run is and what is expected of it; it is written
// before anything runs, so that what is missing in the end can be told.
type Manifest struct {
	Version   int       `json:"version"`
	Run       string    `json:"run"`
	Started   time.Time `json:"started"`
	Harness   string    `json:"harness"`
	Target    string    `json:"target"`
	Profile   string    `json:"profile"`
	Templates []string  `json:"templates"`
	// Repeat is how many sandboxes are expected of a template, where that is
	// more than one; templates of other shards too.
	Repeat map[string]int `json:"repeat,omitempty"`
	// Requirements is the catalogue of this harness; each is expected once
	// for each template.
	Requirements []requirement.ID `json:"requirements"`
	// Command is the harness's command line, for reproduction.
	Command []string `json:"command"`
	// ConfigHash names the effective configuration, the same for all shards of
	// one run.
	ConfigHash string `json:"configHash,omitempty"`
	// Shard is set where Templates are only a part of what is expected.
	Shard *Shard `json:"shard,omitempty"`
	// Shards are what this run was made of, where it was merged.
	Shards []Part `json:"shards,omitempty"`
}

// Sandboxes names the sandboxes that are expected of a template.
func (m *Manifest) Sandboxes(template string) []string {
	names := make([]string, 0, max(m.Repeat[template], 1))
	for n := range cap(names) {
		names = append(names, evidence.NameOf(template, n+1))
	}
	return names
}

// names are those of all sandboxes that are expected.
func (m *Manifest) names() []string {
	var all []string
	for _, template := range m.Templates {
		all = append(all, m.Sandboxes(template)...)
	}
	return all
}

// manifestVersion is the format of the run directory.
const manifestVersion = 1

// Record is one line of a process's record file. Exactly one of Outcome,
// Problem and Note is set.
type Record struct {
	At      time.Time            `json:"at"`
	Process int                  `json:"process"`
	Sandbox string               `json:"sandbox,omitempty"` // its name within the run
	Outcome *requirement.Outcome `json:"outcome,omitempty"`
	// Problem is trouble of the run itself: a failed preflight, a leak.
	Problem string `json:"problem,omitempty"`
	// Note is something worth a line in the report that changes nothing.
	Note string `json:"note,omitempty"`
	// Kept is the ID of a sandbox that was kept on purpose; its Note tells more.
	Kept string `json:"kept,omitempty"`
}

// Run is one open run directory.
type Run struct {
	Dir      string
	Manifest Manifest
}

// The names inside a run directory.
const (
	manifestFile  = "manifest.json"
	configFile    = "config.yaml"
	recordsDir    = "records"
	evidenceDir   = "evidence"
	outcomesFile  = "outcomes.json"
	verdictsFile  = "verdicts.json"
	reportFile    = "report.txt"
	artifactsDir  = "artifacts"
	latestLink    = "latest"
	maxRecordLine = 1 << 20
)

var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`) })

// Create makes the directory of a new run below root and writes its manifest
// and the effective configuration. A name that exists already is an error:
// records of two runs are never mixed.
func Create(root string, m Manifest, effectiveConfig []byte) (*Run, error) {
	if !validName().MatchString(m.Run) || m.Run == latestLink {
		return nil, fmt.Errorf("run name %q: use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit", m.Run)
	}
	dir := filepath.Join(root, m.Run)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for runs: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("run %s exists already in %s: give this run another name (-e2e.run=NAME), or remove that directory", m.Run, root)
		}
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	for _, sub := range []string{recordsDir, evidenceDir, artifactsDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make the run directory: %w", err)
		}
	}
	m.Version = manifestVersion
	run := &Run{Dir: dir, Manifest: m}
	if err := run.write(configFile, effectiveConfig); err != nil {
		return nil, err
	}
	if err := run.writeJSON(manifestFile, m); err != nil {
		return nil, err
	}
	if err := renameio.Symlink(m.Run, filepath.Join(root, latestLink)); err != nil {
		return nil, fmt.Errorf("point %s at the new run: %w", latestLink, err)
	}
	return run, nil
}

// Open opens an existing run directory.
func Open(dir string) (*Run, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no run directory: it has no %s; if a run was to write it, that run stopped before it began, "+
			"and its own output says why", dir, manifestFile)
	}
	if err != nil {
		return nil, fmt.Errorf("open the run: %w", err)
	}
	run := &Run{Dir: dir}
	if err := json.Unmarshal(data, &run.Manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, manifestFile), err)
	}
	if run.Manifest.Version != manifestVersion {
		return nil, fmt.Errorf("%s: format version %d, and this sandproof reads version %d", dir, run.Manifest.Version, manifestVersion)
	}
	return run, nil
}

// Lock waits until no other process of the run holds the lock of that name,
// looking again each poll, and takes it. It is let go of by release, and with
// the process in any case.
func (r *Run) Lock(ctx context.Context, name string, poll time.Duration) (release func(), err error) {
	lock := flock.New(filepath.Join(r.Dir, name+".lock"))
	if _, err := lock.TryLockContext(ctx, poll); err != nil {
		return nil, fmt.Errorf("wait for %s: %w", lock.Path(), err)
	}
	return func() { _ = lock.Unlock() }, nil
}

// Artifacts is the directory for raw files: logs, consoles.
func (r *Run) Artifacts() string { return filepath.Join(r.Dir, artifactsDir) }

// Recorder appends the records of one process.
type Recorder struct {
	file    *os.File
	process int
	redact  *redact.Redactor
}

// Recorder opens the record file of one suite process.
func (r *Run) Recorder(process int, redactor *redact.Redactor) (*Recorder, error) {
	name := filepath.Join(r.Dir, recordsDir, fmt.Sprintf("process-%d.ndjson", process))
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the records of process %d: %w", process, err)
	}
	return &Recorder{file: file, process: process, redact: redactor}, nil
}

// Record appends one line with a single write, so that a killed process
// leaves whole lines only.
func (w *Recorder) Record(record Record) error {
	record.At, record.Process = time.Now().UTC(), w.process
	line, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	line = append(w.redact.Bytes(line), '\n')
	if _, err := w.file.Write(line); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// Close closes the record file.
func (w *Recorder) Close() error { return w.file.Close() }

// WriteEvidence writes what was seen of a sandbox, replacing what was known
// before.
func (r *Run) WriteEvidence(s *evidence.Sandbox, redactor *redact.Redactor) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("evidence of %s: %w", s.Name(), err)
	}
	return r.write(filepath.Join(evidenceDir, slug(s.Name())+".json"), append(redactor.Bytes(data), '\n'))
}

// Evidence reads all evidence files, in the manifest's order of templates.
func (r *Run) Evidence() ([]*evidence.Sandbox, error) {
	var all []*evidence.Sandbox
	for _, sandbox := range r.Manifest.names() {
		name := filepath.Join(r.Dir, evidenceDir, slug(sandbox)+".json")
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("evidence of %s: %w", sandbox, err)
		}
		s := &evidence.Sandbox{}
		if err := json.Unmarshal(data, s); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if s.Version != evidence.Version {
			return nil, fmt.Errorf("%s: evidence version %d, and this sandproof reads version %d", name, s.Version, evidence.Version)
		}
		all = append(all, s)
	}
	return all, nil
}

// Merged is what all processes of a run recorded.
type Merged struct {
	// Outcomes by sandbox, in the order in which they were recorded.
	Outcomes map[string][]requirement.Outcome `json:"outcomes"`
	// Problems of the run, and Notes.
	Problems []string `json:"problems,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	// Kept are the IDs of sandboxes that were kept on purpose.
	Kept []string `json:"kept,omitempty"`
}

// Merge reads the records of all processes. A torn last line, as a full disk
// leaves it, is a problem of the run and loses nothing else.
func (r *Run) Merge() (Merged, error) {
	merged := Merged{Outcomes: map[string][]requirement.Outcome{}}
	names, err := filepath.Glob(filepath.Join(r.Dir, recordsDir, "process-*.ndjson"))
	if err != nil {
		return merged, fmt.Errorf("list the records: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := merged.read(name); err != nil {
			return merged, err
		}
	}
	if len(merged.Outcomes) == 0 {
		merged.Problems = append(merged.Problems, "no requirement was executed: a filter that matches nothing, or a run that ended before its first spec")
	}
	for sandbox := range merged.Outcomes {
		if !slices.Contains(r.Manifest.names(), sandbox) {
			merged.Problems = append(merged.Problems, fmt.Sprintf("outcomes were recorded for %q, which the manifest does not name", sandbox))
		}
	}
	return merged, nil
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

func (m *Merged) read(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the records: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxRecordLine)
	for n := 1; lines.Scan(); n++ {
		var record Record
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			m.Problems = append(m.Problems, fmt.Sprintf("%s:%d is no whole record: %v", filepath.Base(name), n, err))
			continue
		}
		if record.Kept != "" {
			m.Kept = append(m.Kept, record.Kept)
		}
		switch {
		case record.Outcome != nil:
			m.add(record.Sandbox, *record.Outcome)
		case record.Problem != "":
			m.Problems = append(m.Problems, record.Problem)
		case record.Note != "":
			m.Notes = append(m.Notes, record.Note)
		}
	}
	if err := lines.Err(); err != nil {
		m.Problems = append(m.Problems, fmt.Sprintf("%s: %v", filepath.Base(name), err))
	}
	return nil
}

// add keeps one outcome for a requirement. Two that differ are a flake, which
// is said, and the worse one counts.
func (m *Merged) add(sandbox string, o requirement.Outcome) {
	have := m.Outcomes[sandbox]
	i := slices.IndexFunc(have, func(other requirement.Outcome) bool { return other.Requirement == o.Requirement })
	if i < 0 {
		m.Outcomes[sandbox] = append(have, o)
		return
	}
	if have[i].Result != o.Result {
		m.Notes = append(m.Notes, fmt.Sprintf("%s of %s varied within the run: %s and %s", o.Requirement, sandbox, have[i].Result, o.Result))
	}
	if verdict.Worse(o.Result, have[i].Result) {
		have[i] = o
	}
}

// Verdicts judges the merged outcomes: one verdict for each template that the
// manifest expects, over all of its sandboxes, executed or not.
func (r *Run) Verdicts(merged Merged, inputs func(template, sandbox string) verdict.Input) []verdict.Verdict {
	verdicts := make([]verdict.Verdict, 0, len(r.Manifest.Templates))
	for _, template := range r.Manifest.Templates {
		var each []verdict.Verdict
		for _, sandbox := range r.Manifest.Sandboxes(template) {
			in := inputs(template, sandbox)
			in.Template, in.Target, in.Outcomes = template, r.Manifest.Target, merged.Outcomes[sandbox]
			each = append(each, verdict.Of(in))
		}
		verdicts = append(verdicts, verdict.Over(each))
	}
	return verdicts
}

// WriteResults writes the merged outcomes, the verdicts and the rendered
// report beside the records.
func (r *Run) WriteResults(merged Merged, verdicts []verdict.Verdict, report string) error {
	if err := r.writeJSON(outcomesFile, merged); err != nil {
		return err
	}
	if err := r.writeJSON(verdictsFile, verdicts); err != nil {
		return err
	}
	return r.write(reportFile, []byte(report))
}

func (r *Run) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return r.write(name, append(data, '\n'))
}

func (r *Run) write(name string, data []byte) error {
	// What a killed process had not renamed yet is removed with the run.
	path := filepath.Join(r.Dir, name)
	if err := renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write %s of run %s: %w", name, r.Manifest.Run, err)
	}
	return nil
}

// slug makes a file name of a sandbox's name, which may hold slashes and
// colons.
func slug(sandbox string) string {
	return strings.NewReplacer("/", "%2F", ":", "%3A", "%", "%25").Replace(sandbox)
}
