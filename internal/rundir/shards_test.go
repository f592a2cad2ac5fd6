package rundir

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

var expected = []string{"a", "b", "c", "d"}

// shardRun is a run of one of three shards of four templates, with an outcome,
// evidence and an artifact for each of its templates.
func shardRun(t *testing.T, number int, change func(*Manifest)) *Run {
	t.Helper()
	m := Manifest{
		Run: "shard", Target: "lab", Profile: "core", Harness: "1", ConfigHash: "abc", Repeat: map[string]int{"b": 2},
		Requirements: []requirement.ID{"boot.envd-answers"}, Templates: config.Cut(expected, number, 3),
		Shard: &Shard{Number: number, Of: 3, Expected: expected},
	}
	if change != nil {
		change(&m)
	}
	m.Processes = len(m.Templates)
	run, err := Create(t.TempDir(), m, []byte("# effective\ntarget: lab\nshard: 1/3\nrepeat: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for i, template := range m.Templates {
		record(t, run, i+1, Record{Sandbox: template, Outcome: outcome("boot.envd-answers", requirement.Pass)})
		s := &evidence.Sandbox{Version: evidence.Version, Template: template, Target: m.Target, API: &evidence.API{TemplateID: "id-" + template, BuildID: "first"}}
		if err := run.WriteEvidence(s, redact.New()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(run.Artifacts(), template+".log"), []byte(template), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return run
}

func dirs(runs ...*Run) []string {
	var all []string
	for _, r := range runs {
		all = append(all, r.Dir)
	}
	return all
}

func TestMergeRuns(t *testing.T) {
	into := filepath.Join(t.TempDir(), "runs", "nightly")
	// In any order.
	run, err := MergeRuns(t.Context(), into, dirs(shardRun(t, 3, nil), shardRun(t, 1, nil), shardRun(t, 2, nil)), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	m := run.Manifest
	if m.Run != "nightly" || !slices.Equal(m.Templates, expected) || m.Shard != nil || m.Repeat["b"] != 2 || len(m.Shards) != 3 || m.Shards[1].Missing {
		t.Errorf("the manifest is %+v", m)
	}
	merged := merge(t, run)
	if len(merged.Outcomes) != 4 || len(merged.Problems) != 0 || len(merged.Notes) != 0 {
		t.Errorf("got %+v", merged)
	}
	if all, err := run.Evidence(); err != nil || len(all) != 4 {
		t.Errorf("evidence %v, %v", all, err)
	}
	for _, name := range []string{"artifacts/shard-1/a.log", "artifacts/shard-1/d.log", "artifacts/shard-2/manifest.json", "artifacts/shard-3/config.yaml"} {
		if _, err := os.Stat(filepath.Join(run.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(run.Dir, "config.yaml")); err != nil || string(text) != "# effective\ntarget: lab\nrepeat: 1\n" {
		t.Errorf("the configuration is %q, %v", text, err)
	}
}

// A shard that is missing is told, and its templates are unproven.
func TestMergeWithoutAShard(t *testing.T) {
	run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(shardRun(t, 1, nil), shardRun(t, 3, nil)), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	merged := merge(t, run)
	if len(merged.Problems) != 0 || len(merged.Notes) != 1 || !strings.Contains(merged.Notes[0], "shard 2/3 is not there: nothing is known of b") {
		t.Errorf("got %+v", merged)
	}
	verdicts := run.Verdicts(merged, func(string, string) verdict.Input { return verdict.Input{Profile: config.ProfileCore} })
	if len(verdicts) != 4 || verdicts[1].Template != "b" || verdicts[1].Word != verdict.Unproven {
		t.Errorf("got %+v", verdicts)
	}
	if !run.Manifest.Shards[1].Missing {
		t.Errorf("got %+v", run.Manifest.Shards)
	}
}

// A shard on which no template falls is not missed.
func TestMergeOfMoreShardsThanTemplates(t *testing.T) {
	one := shardRun(t, 1, func(m *Manifest) {
		m.Templates, m.Shard = []string{"a"}, &Shard{Number: 1, Of: 3, Expected: []string{"a"}}
	})
	run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(one), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if merged := merge(t, run); len(merged.Notes) != 0 || len(run.Manifest.Shards) != 1 {
		t.Errorf("got %+v of %+v", merged, run.Manifest.Shards)
	}
}

func TestMergeRefusesWhatDoesNotBelongTogether(t *testing.T) {
	waived := func(m *Manifest) {
		m.Waivers = []verdict.Waiver{{Template: "a", Requirement: requirement.EnableIO, Reason: "known", Expires: "2099-01-01"}}
	}
	for _, test := range []struct {
		name   string
		change func(*Manifest)
		want   string
	}{
		{"another target", func(m *Manifest) { m.Target = "live" }, "the target of the one is lab, of the other live"},
		{"another profile", func(m *Manifest) { m.Profile = "gate" }, "the profile of the one is core, of the other gate"},
		{"another harness", func(m *Manifest) { m.Harness = "2" }, "the harness of the one is 1, of the other 2"},
		{"another configuration", func(m *Manifest) { m.ConfigHash = "def" }, "the configuration of the one is abc, of the other def"},
		{"no configuration", func(m *Manifest) { m.ConfigHash = "" }, "does not tell its configuration"},
		{"other waivers", func(m *Manifest) {
			m.Waivers = []verdict.Waiver{{Template: "b", Requirement: requirement.EnableCPU, Reason: "known", Expires: "2099-01-01"}}
		}, "they were given different waivers"},
		{"waivers of another template", func(m *Manifest) {
			m.Waivers = []verdict.Waiver{{Template: "b", Requirement: requirement.EnableIO, Reason: "known", Expires: "2099-01-01"}}
		}, "they were given different waivers"},
		{"another repeat", func(m *Manifest) { m.Repeat = nil }, "number of sandboxes"},
		{"another catalogue", func(m *Manifest) { m.Requirements = nil }, "catalogue of requirements"},
		{"another list", func(m *Manifest) {
			m.Shard = &Shard{Number: 2, Of: 3, Expected: []string{"a", "b", "x"}}
		}, "list of templates"},
		{"another number of shards", func(m *Manifest) {
			m.Shard, m.Templates = &Shard{Number: 2, Of: 2, Expected: expected}, []string{"b", "d"}
		}, "number of shards"},
		{"the same shard twice", func(m *Manifest) {
			m.Shard, m.Templates = &Shard{Number: 1, Of: 3, Expected: expected}, []string{"a", "d"}
		}, "are both shard 1/3"},
		{"no shard", func(m *Manifest) { m.Shard = nil }, "is no shard: it was run without -e2e.shard"},
		{"templates that are not the shard's", func(m *Manifest) { m.Templates = []string{"c"} }, "are not shard 2/3 of its list"},
		{"a shard of a million", func(m *Manifest) { m.Shard = &Shard{Number: 2, Of: 1_000_000, Expected: expected} }, "are not shard 2/1000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			_, err := MergeRuns(t.Context(), filepath.Join(root, "nightly"), dirs(shardRun(t, 1, waived), shardRun(t, 2, func(m *Manifest) {
				waived(m)
				test.change(m)
			})), redact.New())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want one that says %q", err, test.want)
			}
			empty(t, root)
		})
	}
}

// empty looks that nothing was left.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// One template that two shards know by two names was rebuilt between them.
func TestMergeRefusesTwoBuildsOfATemplate(t *testing.T) {
	one, two := shardRun(t, 1, nil), shardRun(t, 2, nil)
	s := &evidence.Sandbox{Version: evidence.Version, Template: "b", Target: "lab", API: &evidence.API{TemplateID: "id-a", BuildID: "other"}}
	if err := two.WriteEvidence(s, redact.New()); err != nil {
		t.Fatal(err)
	}
	_, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(one, two), redact.New())
	if err == nil || !strings.Contains(err.Error(), "template id-a was build first for shard 1/3 (template a) and build other for shard 2/3 (template b)") {
		t.Errorf("got %v", err)
	}
}

// What only a shard's own gate saw is not lost, nor that a shard recorded
// nothing at all.
func TestMergeKeepsTheProblemsOfShards(t *testing.T) {
	one, two := shardRun(t, 1, nil), shardRun(t, 2, nil)
	if err := one.SetGinkgoExit(1); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(two.Dir, "records")); err != nil {
		t.Fatal(err)
	}
	run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(one, two, shardRun(t, 3, nil)), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	problems := merge(t, run).Problems
	if len(problems) != 3 || !strings.HasPrefix(problems[0], "shard 1/3: ginkgo ended with 1, and nothing that was recorded explains it") ||
		!strings.HasPrefix(problems[1], "shard 2/3: no requirement was executed") ||
		!strings.HasPrefix(problems[2], "process 1 of shard 2/3 of 5 recorded nothing") {
		t.Errorf("got %q", problems)
	}
}

// A merging that ends early leaves nothing; one that was killed leaves nothing
// that the next one does not remove.
func TestMergeIsWholeOrNothing(t *testing.T) {
	root := t.TempDir()
	into := filepath.Join(root, "nightly")
	one := shardRun(t, 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MergeRuns(ctx, into, dirs(one), redact.New()); err == nil {
		t.Error("a merging that was ended went on")
	}
	empty(t, root)

	killed := filepath.Join(root, ".nightly.merging", "records")
	if err := os.MkdirAll(killed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(killed, "process-1.ndjson"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	run, err := MergeRuns(t.Context(), into, dirs(one), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if problems := merge(t, run).Problems; len(problems) != 0 {
		t.Errorf("got %q", problems)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := MergeRuns(t.Context(), into, dirs(one), redact.New()); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("over an existing run: %v", err)
	}
	if _, err := MergeRuns(t.Context(), filepath.Join(root, "none"), nil, redact.New()); err == nil || !strings.Contains(err.Error(), "not one shard left any") {
		t.Errorf("of nothing: %v", err)
	}
}

// A link in what was carried here leads nowhere.
func TestMergeFollowsNoLinks(t *testing.T) {
	one := shardRun(t, 1, nil)
	if err := os.Symlink("/etc/passwd", filepath.Join(one.Artifacts(), "link")); err != nil {
		t.Fatal(err)
	}
	run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(one), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(run.Artifacts(), "shard-1", "link")); !os.IsNotExist(err) {
		t.Errorf("the link was taken over: %v", err)
	}
}

// Waivers expire by the last shard's beginning: an older shard brings no expired
// waiver back.
func TestWaiversOfAMergedRun(t *testing.T) {
	day := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	shard := func(number int, started time.Time) *Run {
		return shardRun(t, number, func(m *Manifest) {
			m.Started = started
			m.Waivers = []verdict.Waiver{{Template: "a", Requirement: requirement.EnableCPU, Reason: "known", Expires: "2026-11-25"}}
		})
	}
	run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(shard(1, day), shard(2, day.AddDate(0, 0, -8)), shard(3, day)), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if m := run.Manifest; !m.Latest().Equal(day) || m.Waivers[0].Holds(m.Latest()) {
		t.Errorf("the run counts as begun on %s", m.Latest())
	}
}

// Shards that began more than a day apart, and a shard that is judged alone, are
// told.
func TestShardsThatDoNotSayAll(t *testing.T) {
	day := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		began time.Time
		notes []string
	}{
		{day.Add(24 * time.Hour), nil},
		{day.Add(25 * time.Hour), []string{"shard 1/3 began on 2026-11-28, and shard 2/3 on 2026-11-29"}},
		{day.AddDate(0, 0, -58), []string{"shard 2/3 began on 2026-10-01, and shard 1/3 on 2026-11-28"}},
	} {
		at := func(started time.Time) func(*Manifest) { return func(m *Manifest) { m.Started = started } }
		run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(shardRun(t, 1, at(day)), shardRun(t, 2, at(test.began)), shardRun(t, 3, at(day))), redact.New())
		if err != nil {
			t.Fatal(err)
		}
		notes := merge(t, run).Notes
		if len(notes) != len(test.notes) || (len(notes) == 1 && !strings.Contains(notes[0], test.notes[0])) {
			t.Errorf("begun on %s: notes %q", test.began, notes)
		}
	}
	if notes := merge(t, shardRun(t, 1, nil)).Notes; len(notes) != 1 || !strings.Contains(notes[0], "this is shard 1/3 alone: nothing is said of b, c, which other shards judge") {
		t.Errorf("of one shard: %q", notes)
	}
	// What a shard tells of itself is not true of the merged run.
	run, err := MergeRuns(t.Context(), filepath.Join(t.TempDir(), "nightly"), dirs(shardRun(t, 1, nil)), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if notes := merge(t, run).Notes; len(notes) != 2 || strings.Contains(strings.Join(notes, " "), "alone") {
		t.Errorf("merged without the others: %q", notes)
	}
}

// A path is a path, whatever stands in it.
func TestMergeInADirectoryWithBrackets(t *testing.T) {
	root := filepath.Join(t.TempDir(), "ws[1]")
	var all []string
	for n := 1; n <= 3; n++ {
		to := filepath.Join(root, strconv.Itoa(n))
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(shardRun(t, n, nil).Dir, to); err != nil {
			t.Fatal(err)
		}
		all = append(all, to)
	}
	run, err := MergeRuns(t.Context(), filepath.Join(root, "nightly"), all, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if merged := merge(t, run); len(merged.Problems) != 0 || len(merged.Outcomes) != 4 {
		t.Errorf("got %+v", merged)
	}
}
