// Package history reads logs that were written before anybody looked: whole
// directories of Nomad allocations, and single files.
package history

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
	"sandproof/internal/logscan/search"
	"sandproof/internal/redact"
)

// Schema is the version of Report's JSON; it rises when a field changes its
// meaning.
const Schema = 1

// Report is what logs were found to hold.
type Report struct {
	Schema int `json:"schema"`
	// Result is the word for all of it, Reason says why.
	Result Result `json:"result"`
	Reason string `json:"reason"`
	// Oldest and Newest are the times of the first and of the last record of
	// any log, zero where none has one; of Follow, when it began and ended.
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`
	Logs   int       `json:"logs"` // all files of one index sequence are one
	Files  int       `json:"files"`
	Bytes  int64     `json:"bytes"` // of text, unpacked
	// Lines are those that hold a word of envd's failures, harmless or not.
	Lines int `json:"lines"`
	// Findings are failures and unknown trouble, one per rule and sandbox.
	Findings []Finding `json:"findings"`
	// Dropped counts the lines of findings that were too many to be kept.
	Dropped int `json:"dropped,omitempty"`
	// Benign counts lines that speak of cgroups and mean no harm.
	Benign int `json:"benign"`
	// Control is a line of a guest's boot, which shows that consoles come out in
	// one of these logs; empty where none was found.
	Control string `json:"control,omitempty"`
	// Silent are the logs that name sandboxes and hold no line of a guest's boot.
	// It is not looked for where there are failures.
	Silent []string `json:"silent,omitempty"`
	// Uncovered says what was asked for and could not be read: with any of it,
	// silence is not health.
	Uncovered []string `json:"uncovered,omitempty"`
}

// Result is what is made of a report.
type Result string

// The results: failures were found; there is no failure, and the logs were read
// whole and would have told of one; or neither can be said.
const (
	Failures Result = "failures"
	Clean    Result = "clean"
	Unproven Result = "unproven"
)

// Finding is one rule's lines about one sandbox.
type Finding struct {
	Rule     string                `json:"rule"`
	Class    evidence.FindingClass `json:"class"`
	Meaning  string                `json:"meaning"`
	Template string                `json:"template,omitempty"` // empty: the lines name none
	Sandbox  string                `json:"sandbox,omitempty"`
	Count    int                   `json:"count"`
	First    time.Time             `json:"first,omitzero"` // zero: no line has a time
	Last     time.Time             `json:"last,omitzero"`
	Example  string                `json:"example"`
	Source   string                `json:"source"` // of the example
	Offset   int64                 `json:"offset"` // of the example in its source, unpacked, in bytes

	named place // where the template is named
}

// place is where a line stands: in which source, and how many bytes after its
// beginning.
type place struct {
	source string
	offset int64
}

func (p place) before(q place) bool {
	return cmp.Or(cmp.Compare(p.source, q.source), cmp.Compare(p.offset, q.offset)) < 0
}

type key struct{ rule, sandbox string }

// Options say what to look for.
type Options struct {
	// Since is from when on records count; zero means all that is there.
	Since time.Time
	// Redactor takes secrets out of what is shown.
	Redactor *redact.Redactor
	// Seen is called with each finding when it is first made; nil is fine.
	Seen func(Finding)
}

// scan is a Report in the making.
type scan struct {
	Options

	mu       sync.Mutex
	report   Report
	memory   *memory
	findings map[key]*Finding
	noted    map[string]bool // what is in report.Uncovered
	failed   map[string]bool // the files of which the reading failed, which is in report.Uncovered
	long     map[string]bool // the sources of which a line was too long
	logs     map[string]*log
	dropped  map[evidence.FindingClass]int // the lines in report.Dropped
	control  place                         // where the report's control stands
}

// The bounds of a report, since a guest may print what it likes: how many
// findings and gaps are kept, and how much of each name, in bytes.
const (
	maxFindings  = 10_000
	maxUncovered = 1000
	maxName      = 128
)

// short is a text of the report.
func (s *scan) short(text string) string { return logscan.Bounded(text, s.Redactor) }

// name is what is shown of a sandbox's or a template's name, by which findings
// are told apart as well: of one that nobody would give, its beginning and a sum
// of all of it.
func (s *scan) name(text string) string {
	shown := s.short(text)
	if len(shown) <= maxName {
		return shown
	}
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%s…%x", strings.ToValidUTF8(shown[:maxName/2], ""), sum[:8])
}

func newScan(options Options) *scan {
	return &scan{
		Options: options, memory: newMemory(), findings: map[key]*Finding{}, noted: map[string]bool{}, long: map[string]bool{}, failed: map[string]bool{}, dropped: map[evidence.FindingClass]int{}, logs: map[string]*log{},
		report: Report{Schema: Schema, Findings: []Finding{}},
	}
}

// Scan reads every log under paths. An error means that nothing could be said;
// what could not be read is in the report.
func Scan(ctx context.Context, paths []string, options Options) (Report, error) {
	files, troubles, err := find(ctx, paths)
	if err != nil {
		return Report{}, err
	}
	if len(files) == 0 && len(troubles) == 0 {
		return Report{}, noLogs(paths)
	}
	s := newScan(options)
	for _, trouble := range troubles {
		s.note(trouble)
	}
	units := make(chan unit)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			w := newWorker(s)
			for u := range units {
				w.unit(ctx, u)
			}
		})
	}
	for stream := range byStream(files) {
		s.stream(ctx, stream, units)
	}
	close(units)
	workers.Wait()
	if ctx.Err() != nil {
		return Report{}, fmt.Errorf("scan the logs: %w", context.Cause(ctx))
	}
	if !s.found(evidence.FindingFailure) {
		s.lookForControls(ctx, files)
	}
	if ctx.Err() != nil {
		return Report{}, fmt.Errorf("scan the logs: %w", context.Cause(ctx))
	}
	return s.conclude(), nil
}

func noLogs(paths []string) error {
	return fmt.Errorf("look for logs at %q: there is none; logs are called TASK.stdout.N, TASK.stderr.N or *.log, with or without .gz, and any file may be named itself", paths)
}

// byStream hands out the files of each stream; they are sorted by it.
func byStream(files []logFile) func(func([]logFile) bool) {
	return func(yield func([]logFile) bool) {
		for len(files) > 0 {
			n := 1
			for n < len(files) && files[n].stream == files[0].stream {
				n++
			}
			if !yield(files[:n]) {
				return
			}
			files = files[n:]
		}
	}
}

// unit is a part of a text that one worker reads: whole lines.
type unit struct {
	text     *text
	from, to int64
	packed   string // the path of a packed file, which is read from its beginning
	next     string // the path of the file after a packed one, empty where there is none
	log      *log
	done     func()
}

// unitSize is how much one worker reads at a time, in bytes.
const unitSize = 4 << 20

// stream hands out a log in units. Consecutive files are one text.
func (s *scan) stream(ctx context.Context, files []logFile, units chan<- unit) {
	l := s.of(files[0])
	s.gaps(files)
	for len(files) > 0 && ctx.Err() == nil {
		if files[0].packed {
			units <- unit{packed: files[0].path, next: nextOf(files[0], files[1:]), log: l, done: func() {}}
			files = files[1:]
			continue
		}
		t := &text{}
		n := 0
		for n < len(files) && !files[n].packed && (n == 0 || files[n].index == files[n-1].index+1) {
			file, size, err := open(files[n].path)
			if err != nil {
				s.unread(files[n].path, err)
				break
			}
			t.add(files[n].path, file, size)
			n++
		}
		if n > 0 && n < len(files) && files[n].packed { // one that could not be opened was told
			s.tornOff(t, nextOf(files[n-1], files[n:]))
		}
		files = files[max(n, 1):]
		s.times(l, t)
		s.cut(ctx, l, t, units)
	}
}

// nextOf is the path of the file in which a file's last line would go on; empty
// where there is none.
func nextOf(f logFile, rest []logFile) string {
	if len(rest) > 0 && f.rotated && rest[0].index == f.index+1 {
		return rest[0].path
	}
	return ""
}

// tornOff notes that a text's last line may go on in a packed file, which is a
// text of its own.
func (s *scan) tornOff(t *text, next string) {
	end := make([]byte, 1)
	if next == "" || t.size == 0 {
		return
	}
	if _, err := t.ReadAt(end, t.size-1); err == nil && end[0] != '\n' { // its reading proper tells of errors
		s.torn(t.parts[len(t.parts)-1].path, next)
	}
}

// torn notes that a line over two files was read as two, and a word that stands
// on both sides was not found.
func (s *scan) torn(path, next string) {
	s.uncoveredf("the last line of %s may go on in %s, and what is packed is not joined: unpack it", path, next)
}

// cut hands out a text in units, and closes it when all are read.
func (s *scan) cut(ctx context.Context, l *log, t *text, units chan<- unit) {
	var open sync.WaitGroup
	for from := int64(0); from < t.size && ctx.Err() == nil; {
		to, err := search.LineEnd(t, from+unitSize, t.size)
		if err != nil {
			s.uncoveredf("read the log: %v", err)
			break
		}
		open.Add(1)
		units <- unit{text: t, from: from, to: to, log: l, done: open.Done}
		from = to
	}
	go func() {
		open.Wait()
		t.close()
	}()
	s.mu.Lock()
	s.report.Files += len(t.parts)
	s.mu.Unlock()
}

// gaps notes what is missing of a log.
func (s *scan) gaps(files []logFile) {
	for i, f := range files[1:] {
		switch before := files[i]; f.index {
		case before.index + 1:
		case before.index:
			s.uncoveredf("%s is there twice, packed and unpacked: its lines count twice", f.path)
		default:
			s.uncoveredf("%s: the files %d to %d are missing", f.stream, before.index+1, f.index-1)
		}
	}
	first := files[0]
	if !first.rotated || first.index == 0 {
		return
	}
	oldest := s.firstTime(first)
	before := first.stream + "." + strconv.Itoa(first.index-1)
	_, plain := os.Lstat(before)
	_, zipped := os.Lstat(before + ".gz")
	switch there := plain == nil || zipped == nil; {
	case there && (s.Since.IsZero() || oldest.IsZero() || oldest.After(s.Since)):
		s.uncoveredf("%s: the files before %s are there, and were not named", first.stream, filepath.Base(first.path))
	case s.Since.IsZero():
		s.uncoveredf("%s: purged before %s", first.stream, clock(oldest))
	case oldest.IsZero() || oldest.After(s.Since):
		s.uncoveredf("%s: purged before %s, and %s was asked for", first.stream, clock(oldest), clock(s.Since))
	}
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// unread notes that a file could not be read, or no more of it.
func (s *scan) unread(path string, err error) {
	s.uncoveredf("read the log: %v", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[path] = true
}

func (s *scan) uncoveredf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(fmt.Sprintf(format, args...))
}

// note adds what could not be read, once. The caller holds the lock, or is alone.
func (s *scan) note(text string) {
	if text = s.short(text); s.noted[text] || len(s.noted) > maxUncovered {
		return
	}
	if len(s.noted) == maxUncovered {
		text = fmt.Sprintf("more than %d gaps: the rest was not kept", maxUncovered)
	}
	s.noted[text] = true
	s.report.Uncovered = append(s.report.Uncovered, text)
}

// worker reads units, one after the other.
type worker struct {
	*scan

	log     *log // of what is read just now
	scanner *search.Scanner
	scratch []byte // what was read around a line
}

func newWorker(s *scan) *worker {
	return &worker{scan: s, scanner: search.New(), scratch: make([]byte, logscan.MaxRecordBytes)}
}

// unit reads one unit.
func (w *worker) unit(ctx context.Context, u unit) {
	defer u.done()
	w.log = u.log
	var n int64
	var err error
	if u.packed != "" {
		n, err = w.unpack(ctx, u.packed, u.next)
	} else {
		n, err = w.scanner.Scan(until{ctx, io.NewSectionReader(u.text, u.from, u.to-u.from)}, u.from, func(l search.Line) {
			path, offset := u.text.at(l.Offset)
			w.line(u.text, l, path, offset)
		})
	}
	if err != nil && ctx.Err() == nil {
		path := u.packed
		if path == "" {
			path, _ = u.text.at(min(u.from+n, u.to-1))
		}
		w.unread(path, err)
	}
	w.mu.Lock()
	w.report.Bytes += n
	w.mu.Unlock()
}

// unpack reads a packed file, as a text of its own; next is the file after it.
func (w *worker) unpack(ctx context.Context, path, next string) (int64, error) {
	file, _, err := open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	w.mu.Lock()
	w.report.Files++
	w.mu.Unlock()
	unpacked, err := gzip.NewReader(file)
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty, which no packed file is")
	}
	if err != nil {
		return 0, fmt.Errorf("unpack %s: %w", path, err)
	}
	t := &window{r: until{ctx, unpacked}}
	head := make([]byte, near)
	got, _ := t.ReadAt(head, 0) // its reading proper tells of errors
	w.mind(w.log, head[:got])
	switch markOf(head[:got]) {
	case markPlain:
	case markWide:
		return 0, fmt.Errorf("%s holds UTF-16, which is not read here: unpack and convert it (iconv -f UTF-16 -t UTF-8)", path)
	case markPacked:
		return 0, fmt.Errorf("%s holds what is packed once more: unpack it", path)
	}
	n, err := w.scanner.Scan(t, 0, func(l search.Line) { w.line(t, l, path, l.Offset) })
	w.mind(w.log, t.kept[max(0, len(t.kept)-near):])
	if last := len(t.kept) - 1; next != "" && err == nil && last >= 0 && t.kept[last] != '\n' {
		w.torn(path, next)
	}
	first := w.firstTime(logFile{path: path, packed: true})
	w.span(w.log, first, first)
	if err != nil {
		err = fmt.Errorf("unpack %s: %w", path, err)
	}
	return n, err
}

// until ends a read where its context does.
type until struct {
	ctx context.Context //nolint:containedctx // it lives as long as one read
	io.Reader
}

// Read implements io.Reader.
func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// line judges one line that speaks of cgroups: of a text, and at an offset of
// its source.
func (w *worker) line(from around, l search.Line, source string, offset int64) {
	var whole logscan.Record
	records, at, known := w.memory.recall(l.Data)
	if !known {
		var text []byte
		whole, text = w.enclose(from, l.Offset, l.Data)
		records, at = w.memory.records(text)
	}
	if at.IsZero() {
		at = whole.Time
	}
	if !at.IsZero() && at.Before(w.Since) {
		return
	}
	for i, r := range records {
		record, rule := r.Record, r.rule
		record.Time = at
		if whole.SandboxID != "" {
			record.SandboxID, record.TemplateID, record.ByText = whole.SandboxID, whole.TemplateID, false
		}
		w.mu.Lock()
		w.log.sandbox = w.log.sandbox || record.SandboxID != ""
		if i == 0 {
			w.report.Lines++
		}
		harmless := rule == nil || rule.Class == evidence.FindingBenign || rule.Class == evidence.FindingControl
		switch {
		case l.Cut && harmless:
			w.uncut(source, offset)
		case rule == nil, rule.Class == evidence.FindingBenign:
			w.report.Benign++
		case rule.Class == evidence.FindingControl:
			w.log.control = true
			w.booted(record, place{source, offset})
		default:
			w.add(rule, record, source, offset)
		}
		w.mu.Unlock()
	}
}

// uncut notes the first line of a source that is too long to be read to its end.
func (s *scan) uncut(source string, offset int64) {
	if !s.long[source] {
		s.long[source] = true
		s.note(fmt.Sprintf("the line at %d of %s, and perhaps others of it, is longer than %d bytes, and was not read to its end", offset, source, search.MaxLine))
	}
}

func (s *scan) add(rule *logscan.Rule, record logscan.Record, source string, offset int64) {
	k := key{rule.ID, record.SandboxID}
	if len(k.sandbox) > maxName {
		k.sandbox = s.name(k.sandbox)
	}
	f := s.findings[k]
	if f == nil {
		if len(s.findings) == maxFindings {
			s.note(fmt.Sprintf("more than %d kinds of findings: the rest was not kept", maxFindings))
			s.dropped[rule.Class]++
			s.report.Dropped++
			return
		}
		f = &Finding{
			Rule: rule.ID, Class: rule.Class, Meaning: rule.Meaning, Template: s.name(record.TemplateID), Sandbox: s.name(record.SandboxID),
			First: record.Time, Last: record.Time, Example: s.short(record.Message), Source: source, Offset: offset, named: place{source, offset},
		}
		k.sandbox = strings.Clone(k.sandbox)
		s.findings[k] = f
		if s.Seen != nil {
			defer func() { s.Seen(*f) }() // when its line is counted
		}
	}
	f.Count++
	// Whichever worker comes first, two scans of the same logs tell the same.
	at := place{source, offset}
	if at.before(place{f.Source, f.Offset}) {
		f.Example, f.Source, f.Offset = s.short(record.Message), source, offset
	}
	if record.TemplateID != "" && (f.Template == "" || at.before(f.named)) {
		f.Template, f.named = s.name(record.TemplateID), at
	}
	if record.Time.IsZero() {
		return
	}
	if f.First.IsZero() || record.Time.Before(f.First) {
		f.First = record.Time
	}
	if record.Time.After(f.Last) {
		f.Last = record.Time
	}
}

func (s *scan) found(class evidence.FindingClass) bool {
	if s.dropped[class] > 0 {
		return true
	}
	for _, f := range s.findings {
		if f.Class == class {
			return true
		}
	}
	return false
}

// edge bounds how far from a text's ends records with a time are looked for, in
// bytes: guests print stretches without any.
const edge = 256 << 10

// times notes from when to when a text goes, and whether it is journald's.
func (s *scan) times(l *log, t *text) {
	head := make([]byte, min(near, t.size))
	n, _ := t.ReadAt(head, 0) // its reading proper tells of errors
	s.mind(l, head[:n])
	first := timeIn(io.NewSectionReader(t, 0, min(edge, t.size)))
	var last time.Time
	// Nearly every text's last lines have one.
	for _, reach := range []int64{near, edge} {
		end := make([]byte, min(reach, t.size))
		if _, err := t.ReadAt(end, t.size-int64(len(end))); err != nil {
			return // its reading proper tells
		}
		if t.size > reach {
			_, end, _ = bytes.Cut(end, feed) // it begins within a line
		}
		s.mind(l, end)
		if last = lastTime(end); !last.IsZero() {
			break
		}
	}
	s.span(l, first, last)
}

// span notes that a log goes from a time to a time, zero where it is not known.
func (s *scan) span(l *log, first, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !first.IsZero() && (l.oldest.IsZero() || first.Before(l.oldest)) {
		l.oldest = first
	}
	if !first.IsZero() && (s.report.Oldest.IsZero() || first.Before(s.report.Oldest)) {
		s.report.Oldest = first
	}
	if last.After(s.report.Newest) {
		s.report.Newest = last
	}
}

// timeIn is the time of the first record with one.
func timeIn(r io.Reader) (found time.Time) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, edge+1)
	for found.IsZero() && lines.Scan() {
		found = logscan.TimeOf(lines.Bytes())
	}
	return found
}

// firstTime is the time of a file's first record; zero where it has none, or
// where the file cannot be read, which its reading proper tells.
func (s *scan) firstTime(f logFile) time.Time {
	file, _, err := open(f.path)
	if err != nil {
		return time.Time{}
	}
	defer func() { _ = file.Close() }()
	var r io.Reader = file
	if f.packed {
		if r, err = gzip.NewReader(file); err != nil {
			return time.Time{}
		}
	}
	return timeIn(io.LimitReader(r, edge))
}

// conclude makes the report.
func (s *scan) conclude() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	r.Findings = make([]Finding, 0, len(s.findings))
	for _, k := range slices.SortedFunc(maps.Keys(s.findings), func(a, b key) int {
		one, two := s.findings[a], s.findings[b]
		return cmp.Or(cmp.Compare(one.Class, two.Class), cmp.Compare(one.Template, two.Template), cmp.Compare(one.Sandbox, two.Sandbox), cmp.Compare(one.Rule, two.Rule))
	}) {
		r.Findings = append(r.Findings, *s.findings[k])
	}
	r.Logs = len(s.logs)
	s.young()
	r.Uncovered = slices.Sorted(slices.Values(s.report.Uncovered))
	for _, name := range slices.Sorted(maps.Keys(s.logs)) {
		if l := s.logs[name]; l.sandbox && !l.control && !s.found(evidence.FindingFailure) {
			r.Silent = append(r.Silent, name)
		}
	}
	r.Result, r.Reason = s.judge(r)
	return r
}

// young notes the tasks that carry sandboxes, and whose oldest record of all
// allocations is younger than what was asked for. Another task's log says
// nothing about them.
func (s *scan) young() {
	if s.Since.IsZero() {
		return
	}
	carries, oldest := map[string]bool{}, map[string]time.Time{}
	for _, l := range s.logs {
		carries[l.task] = carries[l.task] || l.sandbox || l.control
		if at := oldest[l.task]; at.IsZero() || !l.oldest.IsZero() && l.oldest.Before(at) {
			oldest[l.task] = l.oldest
		}
	}
	for _, task := range slices.Sorted(maps.Keys(oldest)) {
		if at := oldest[task]; carries[task] && (at.IsZero() || at.After(s.Since)) {
			s.note(fmt.Sprintf("the oldest record of %s is of %s, and %s was asked for: what came before was purged or never written", task, clock(at), clock(s.Since)))
		}
	}
}

func (s *scan) judge(r Report) (Result, string) {
	failures, unknown := s.dropped[evidence.FindingFailure], 0
	for class, lines := range s.dropped {
		if class != evidence.FindingFailure {
			unknown += lines
		}
	}
	for _, f := range r.Findings {
		if f.Class == evidence.FindingFailure {
			failures += f.Count
		} else {
			unknown += f.Count
		}
	}
	switch {
	case failures > 0:
		return Failures, fmt.Sprintf("envd said %s that its cgroups failed", counted(failures, "time", "times"))
	case unknown > 0:
		return Unproven, counted(unknown, "line speaks of cgroup trouble, and no rule knows it", "lines speak of cgroup trouble, and no rule knows them")
	case len(r.Uncovered) > 0:
		return Unproven, "no failure was found, and not everything was read: " + r.Uncovered[0]
	case r.Bytes == 0:
		return Unproven, "nothing was there to read"
	case r.Control == "":
		return Unproven, "no failure was found, and no line of any guest's boot either: these logs may not carry guests' consoles, and then they are silent whatever happens"
	case len(r.Silent) > 0:
		return Unproven, fmt.Sprintf("no failure was found, and %s no line of any guest's boot, such as %s: silence says nothing there; where that is another program's log, name the orchestrator's alone",
			counted(len(r.Silent), "log that names sandboxes holds", "logs that name sandboxes hold"), r.Silent[0])
	}
	return Clean, fmt.Sprintf("no failure%s, in logs that carry guests' boots; words that were torn or stand in capitals are not looked for", s.stretch(r))
}

// stretch says of which time a report speaks, as far as that is known.
func (s *scan) stretch(r Report) string {
	said, from := "", r.Oldest
	if s.Since.After(from) {
		from = s.Since // what is older was read and does not count
	}
	if !from.IsZero() {
		said = " from " + clock(from)
	}
	if !r.Newest.Before(from) && !r.Newest.IsZero() {
		said += " to " + clock(r.Newest)
	}
	return said
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
