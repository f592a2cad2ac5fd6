package rundir

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
)

// wholeRun is a run of two processes, each with a sandbox that is of the template
// that was asked for, recorded and seen.
func wholeRun(t *testing.T, started time.Time) *Run {
	t.Helper()
	m := manifest("nightly", "a", "b")
	m.Started, m.Processes = started, 2
	run, err := Create(t.TempDir(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, template := range m.Templates {
		record(t, run, i+1, Record{Sandbox: template, Outcome: outcome(requirement.ImageTemplate, requirement.Pass)})
		see(t, run, template, nil)
	}
	return run
}

// see writes the evidence of a sandbox.
func see(t *testing.T, run *Run, sandbox string, change func(*evidence.Sandbox)) {
	t.Helper()
	template, number, _ := strings.Cut(sandbox, "@")
	s := &evidence.Sandbox{Version: evidence.Version, Template: template, Target: "lab", StandIn: true, API: &evidence.API{TemplateID: template, BuildID: "b1"}}
	s.Number, _ = strconv.Atoi(number)
	if change != nil {
		change(s)
	}
	if err := run.WriteEvidence(s, redact.New()); err != nil {
		t.Fatal(err)
	}
}

// swap replaces text in a file of a run.
func swap(t *testing.T, run *Run, name, from, to string) {
	t.Helper()
	name = filepath.Join(run.Dir, name)
	data, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(data, []byte(from)) {
		t.Fatalf("%s has no %q: %v", name, from, err)
	}
	if err := os.WriteFile(name, bytes.ReplaceAll(data, []byte(from), []byte(to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// put copies a file of one run into another.
func put(t *testing.T, from, to *Run, name string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(filepath.Join(to.Dir, name)), copyFile(filepath.Join(from.Dir, name), filepath.Join(to.Dir, name))); err != nil {
		t.Fatal(err)
	}
}

// What is of another run, process, target or template never makes a run green,
// though the names are the same each night.
func TestMixedRuns(t *testing.T) {
	tonight := time.Date(2026, 11, 28, 2, 0, 0, 5, time.UTC)
	for _, test := range []struct {
		name     string
		mix      func(run, older *Run)
		says     []string
		outcomes int
		seen     int
	}{
		{"not mixed", func(_, _ *Run) {}, nil, 2, 2},
		{"another run's manifest", func(run, older *Run) { put(t, older, run, manifestFile) }, []string{
			"process-1.ndjson: 2 records are of run", "process-2.ndjson: 2 records are of run", "evidence of a is of run", "evidence of b is of run", "no requirement was executed",
		}, 0, 0},
		{"an older run's records of one process", func(run, older *Run) { put(t, older, run, "records/process-2.ndjson") }, []string{
			`process-2.ndjson: 2 records are of run "nightly" of 2026-11-27T02:00:00Z, and not of run "nightly" of 2026-11-28T02:00:00Z`,
		}, 1, 2},
		{"an older run's evidence", func(run, older *Run) { put(t, older, run, "evidence/b.json") }, []string{
			`evidence of b is of run "nightly" of 2026-11-27T02:00:00Z, and not of run "nightly" of 2026-11-28T02:00:00Z`,
		}, 2, 1},
		{"records of another process", func(run, _ *Run) { swap(t, run, "records/process-1.ndjson", `"process":1`, `"process":7`) }, []string{"process-1.ndjson: 2 records are of process 7"}, 2, 2},
		{"one process's records for another's", func(run, _ *Run) {
			if err := errors.Join(os.Remove(run.recordsOf(2)), copyFile(run.recordsOf(1), run.recordsOf(2))); err != nil {
				t.Fatal(err)
			}
		}, []string{"process-2.ndjson: 2 records are of process 1"}, 1, 2},
		{"evidence of another template", func(run, _ *Run) {
			see(t, run, "a", func(s *evidence.Sandbox) { s.API.TemplateID, s.API.Alias = "id-x", "x" })
		}, []string{"image.template of a is recorded as pass, and by the evidence it is infra"}, 2, 2},
		{"evidence without the API's word", func(run, _ *Run) { see(t, run, "a", func(s *evidence.Sandbox) { s.API = nil }) }, []string{"image.template of a is recorded as pass, and by the evidence it is unproven"}, 2, 2},
		{"no evidence", func(run, _ *Run) {
			if err := os.Remove(filepath.Join(run.Dir, "evidence", "b.json")); err != nil {
				t.Fatal(err)
			}
		}, []string{"the evidence of b is not there: what its outcomes rest on cannot be looked at"}, 2, 1},
		{"evidence of another target", func(run, _ *Run) { see(t, run, "a", func(s *evidence.Sandbox) { s.Target = "live" }) }, []string{`evidence of a is of target "live"`}, 2, 2},
		{"records of an older sandproof", func(run, _ *Run) {
			swap(t, run, "records/process-1.ndjson", `"run":"nightly","runStarted":"2026-11-28T02:00:00.000000005Z",`, "")
		}, []string{"process-1.ndjson: 2 records do not name their run"}, 2, 2},
		{"evidence of an older sandproof", func(run, _ *Run) {
			swap(t, run, "evidence/a.json", `"runStarted": "2026-11-28T02:00:00.000000005Z",`, "")
		}, []string{"evidence of a does not tell when its run began"}, 2, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := wholeRun(t, tonight)
			test.mix(run, wholeRun(t, tonight.AddDate(0, 0, -1)))
			m := merge(t, run)
			if len(m.Problems) != len(test.says) || len(m.Outcomes) != test.outcomes {
				t.Fatalf("outcomes of %d sandboxes, problems %q", len(m.Outcomes), m.Problems)
			}
			for i, says := range test.says {
				if !strings.Contains(m.Problems[i], says) {
					t.Errorf("problem %q, want %q", m.Problems[i], says)
				}
			}
			opened, err := Open(run.Dir, redact.New())
			if err != nil {
				t.Fatal(err)
			}
			if all, err := opened.Evidence(); err != nil || len(all) != test.seen {
				t.Errorf("evidence of %d sandboxes, %v; want %d", len(all), err, test.seen)
			}
		})
	}
}

// In a merged run what each shard wrote is of that shard's run.
func TestMixedShards(t *testing.T) {
	one, two := shardRun(t, 1, nil), shardRun(t, 2, nil)
	into := filepath.Join(t.TempDir(), "nightly")
	run, err := MergeRuns(t.Context(), into, dirs(one, two), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if problems := merge(t, run).Problems; len(problems) != 0 {
		t.Fatalf("got %q", problems)
	}
	older := shardRun(t, 2, func(m *Manifest) { m.Started = one.Manifest.Started.AddDate(0, 0, -1) })
	for _, file := range []struct{ from, to string }{{"records/process-1.ndjson", "records/process-shard-2-1.ndjson"}, {"evidence/b.json", "evidence/b.json"}} {
		to := filepath.Join(run.Dir, file.to)
		if err := errors.Join(os.Remove(to), copyFile(filepath.Join(older.Dir, file.from), to)); err != nil {
			t.Fatal(err)
		}
	}
	problems := merge(t, run).Problems
	if len(problems) != 2 || !strings.Contains(problems[0], "process-shard-2-1.ndjson: 2 records are of run") || !strings.Contains(problems[1], "evidence of b is of run") {
		t.Errorf("got %q", problems)
	}
	// A shard that was mixed before it was merged is told of too, and once.
	put(t, older, two, "evidence/b.json")
	if run, err = MergeRuns(t.Context(), into+"-2", dirs(one, two), redact.New()); err != nil {
		t.Fatal(err)
	}
	if problems := merge(t, run).Problems; len(problems) != 1 || !strings.Contains(problems[0], "evidence of b is of run") {
		t.Errorf("got %q", problems)
	}
}
