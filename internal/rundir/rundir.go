// Package rundir is a run on disk: one directory with the effective
// configuration, append-only records per process, evidence per sandbox, and
// what was made of them. A process that is killed loses nothing that it had
// recorded.
package rundir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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
	// Waivers are those of failed requirements that the run was given; an expired
	// one too, so that it can be told.
	Waivers []verdict.Waiver `json:"waivers,omitempty"`
	// Processes is how many suite processes record, each of which is expected to
	// record its end. 0 was written by sandproofs that knew no end.
	Processes int `json:"processes"`
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

// Latest is when the run began, the last of its shards where it has some:
// waivers expire by it.
func (m *Manifest) Latest() time.Time {
	latest := m.Started
	for _, part := range m.Shards {
		if part.Started.After(latest) {
			latest = part.Started
		}
	}
	return latest
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
// Problem, Note and End is set.
type Record struct {
	// The run that it was recorded in; the recorder tells it.
	Origin
	At      time.Time            `json:"at"`
	Process int                  `json:"process"`
	Sandbox string               `json:"sandbox,omitempty"` // its name within the run
	Outcome *requirement.Outcome `json:"outcome,omitempty"`
	// Attempt counts the attempts of a spec from 1 (ginkgo --flake-attempts), so
	// that one which recorded nothing can be told.
	Attempt int `json:"attempt,omitempty"`
	// Problem is trouble of the run itself: a failed preflight, a leak.
	Problem string `json:"problem,omitempty"`
	// Note is something worth a line in the report that changes nothing.
	Note string `json:"note,omitempty"`
	// Kept is the ID of a sandbox that was kept on purpose; its Note tells more.
	Kept string `json:"kept,omitempty"`
	// End is true in the last record of a process that came to its end.
	End bool `json:"end,omitempty"`
}

// Run is one open run directory.
type Run struct {
	Dir      string
	Manifest Manifest
	// ginkgo is the code that the ginkgo command ended with, as far as known.
	ginkgo int
	redact *redact.Redactor
}

// The names inside a run directory.
const (
	manifestFile = "manifest.json"
	configFile   = "config.yaml"
	recordsDir   = "records"
	evidenceDir  = "evidence"
	ginkgoFile   = "ginkgo-exit"
	outcomesFile = "outcomes.json"
	verdictsFile = "verdicts.json"
	artifactsDir = "artifacts"
	latestLink   = "latest"
)

var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`) })

// Create makes the directory of a new run below root and writes its manifest
// and the effective configuration. A name that exists already is an error:
// records of two runs are never mixed. A manifest without a number of processes
// is that of one, without a beginning of one that begins now, and without
// requirements of one that is held to the whole catalogue.
func Create(root string, m Manifest, effectiveConfig []byte) (*Run, error) {
	if !validName().MatchString(m.Run) || m.Run == latestLink {
		return nil, fmt.Errorf("run name %q: use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit", m.Run)
	}
	m.Version, m.Processes = manifestVersion, max(m.Processes, 1)
	if m.Started.IsZero() {
		m.Started = time.Now().UTC()
	}
	if len(m.Requirements) == 0 {
		for _, r := range requirement.All() {
			m.Requirements = append(m.Requirements, r.ID)
		}
	}
	if err := m.check(); err != nil {
		return nil, err
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
	// What its processes record is cleaned by their recorders.
	run := &Run{Dir: dir, Manifest: m, redact: redact.New()}
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

// Open opens an existing run directory. The redactor takes secrets out of all
// that is read of it, since files may have been carried here, and once a text is
// escaped, wrapped or cut, no secret is found in it any more.
func Open(dir string, redactor *redact.Redactor) (*Run, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no run directory: it has no %s; if a run was to write it, that run stopped before it began, "+
			"and its own output says why", dir, manifestFile)
	}
	if err != nil {
		return nil, fmt.Errorf("open the run: %w", err)
	}
	run := &Run{Dir: dir, redact: redactor}
	if run.Manifest, err = read[Manifest](data, redactor); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, manifestFile), err)
	}
	if run.Manifest.Version != manifestVersion {
		return nil, fmt.Errorf("%s: format version %d, and this sandproof reads version %d", dir, run.Manifest.Version, manifestVersion)
	}
	if err := run.Manifest.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
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

// WriteEvidence writes what was seen of a sandbox in this run, replacing what was
// known before.
func (r *Run) WriteEvidence(s *evidence.Sandbox, redactor *redact.Redactor) error {
	ours := *s
	ours.Run, ours.RunStarted = r.Manifest.Run, r.Manifest.Started
	data, err := json.MarshalIndent(&ours, "", "  ")
	if err != nil {
		return fmt.Errorf("evidence of %s: %w", s.Name(), err)
	}
	return r.write(filepath.Join(evidenceDir, slug(s.Name())+".json"), append(redactor.Bytes(data), '\n'))
}

// Evidence reads all evidence files, in the manifest's order of templates. What
// is of another run is passed over: Merge tells of it. Secrets are taken out.
func (r *Run) Evidence() ([]*evidence.Sandbox, error) {
	var all []*evidence.Sandbox
	for _, sandbox := range r.Manifest.names() {
		s, err := r.evidenceOf(sandbox, r.redact)
		if err != nil {
			return nil, err
		}
		if s != nil && r.wrote(s) {
			all = append(all, s)
		}
	}
	return all, nil
}

// evidenceOf reads what was seen of one sandbox, as it was written where there is
// no redactor; nil where there is no file.
func (r *Run) evidenceOf(sandbox string, redactor *redact.Redactor) (*evidence.Sandbox, error) {
	name := filepath.Join(r.Dir, evidenceDir, slug(sandbox)+".json")
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("evidence of %s: %w", sandbox, err)
	}
	s, err := read[evidence.Sandbox](data, redactor)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Version != evidence.Version {
		return nil, fmt.Errorf("%s: evidence version %d, and this sandproof reads version %d", name, s.Version, evidence.Version)
	}
	if s.Name() != sandbox {
		return nil, fmt.Errorf("%s: it holds what was seen of %s, and its name says %s", name, s.Name(), sandbox)
	}
	return &s, nil
}

// read reads JSON, and takes the secrets out of what it says where there is a
// redactor: whoever wrote the file may have escaped them otherwise than is looked
// for.
func read[T any](data []byte, redactor *redact.Redactor) (v T, err error) {
	if err = json.Unmarshal(data, &v); err != nil || redactor == nil {
		return v, err
	}
	return redact.Value(redactor, v)
}

// SetGinkgoExit keeps the code that the ginkgo command ended with beside the
// records: nothing in them tells it.
func (r *Run) SetGinkgoExit(code int) error {
	r.ginkgo = code
	return r.write(ginkgoFile, []byte(strconv.Itoa(code)+"\n"))
}

// ginkgoExit is the code that was kept, 0 where none was.
func (r *Run) ginkgoExit() (int, error) {
	data, err := os.ReadFile(filepath.Join(r.Dir, ginkgoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r.ginkgo, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read ginkgo's exit code: %w", err)
	}
	code, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(r.Dir, ginkgoFile), err)
	}
	return code, nil
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
			in.Waivers, in.At = r.Manifest.Waivers, r.Manifest.Latest()
			each = append(each, verdict.Of(in))
		}
		verdicts = append(verdicts, verdict.Over(each))
	}
	return verdicts
}

// WriteResults writes the merged outcomes and the verdicts beside the records. The
// verdicts of an earlier gate do not outlive one whose own could not be written.
func (r *Run) WriteResults(merged Merged, verdicts []verdict.Verdict) error {
	err := r.writeJSON(outcomesFile, merged)
	if err == nil {
		err = r.writeJSON(verdictsFile, verdicts)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(r.Dir, verdictsFile)))
	}
	return nil
}

// WriteReport writes one rendered report of the run, under its file name.
func (r *Run) WriteReport(name, text string) error {
	return r.write(name, []byte(text))
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
