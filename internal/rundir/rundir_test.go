package rundir

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

func newRun(t *testing.T, templates ...string) *Run {
	t.Helper()
	return runOf(t, 1, templates...)
}

// manifest is that of a run in the lab.
func manifest(run string, templates ...string) Manifest {
	return Manifest{Run: run, Target: "lab", Profile: "core", Harness: "1", Templates: templates}
}

// runOf is a run that a number of processes record.
func runOf(t *testing.T, processes int, templates ...string) *Run {
	t.Helper()
	m := manifest("r", templates...)
	m.Processes = processes
	run, err := Create(t.TempDir(), m, []byte("target: lab\n"))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// record writes records as one process does, and evidence of the sandboxes of
// which there is none yet.
func record(t *testing.T, run *Run, process int, records ...Record) {
	t.Helper()
	recorder, err := run.Recorder(process, redact.New("hunter2hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := recorder.Record(r); err != nil {
			t.Fatal(err)
		}
		if seen, err := run.evidenceOf(r.Sandbox, nil); err != nil || (seen == nil && r.Outcome != nil) {
			see(t, run, r.Sandbox, nil)
		}
	}
	if err := recorder.Close(); err != nil {
		t.Fatal(err)
	}
}

func outcome(id requirement.ID, result requirement.Result) *requirement.Outcome {
	return &requirement.Outcome{Requirement: id, Result: result, Reason: "token hunter2hunter2"}
}

func merge(t *testing.T, run *Run) Merged {
	t.Helper()
	opened, err := Open(run.Dir, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	merged, err := opened.Merge()
	if err != nil {
		t.Fatal(err)
	}
	return merged
}

func TestRecordsOfAllProcessesAreMerged(t *testing.T) {
	run := runOf(t, 2, "a", "b")
	record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("boot.envd-answers", requirement.Pass)})
	record(t, run, 2, Record{Sandbox: "b", Outcome: outcome("boot.envd-answers", requirement.Fail)}, Record{Problem: "leak"}, Record{Note: "n"})
	m := merge(t, run)
	if len(m.Outcomes["a"]) != 1 || len(m.Outcomes["b"]) != 1 || m.Outcomes["b"][0].Result != requirement.Fail {
		t.Errorf("outcomes %+v", m.Outcomes)
	}
	if len(m.Problems) != 1 || m.Problems[0] != "leak" || len(m.Notes) != 1 || m.AllGreen() {
		t.Errorf("problems %q, notes %q", m.Problems, m.Notes)
	}
	data, err := os.ReadFile(filepath.Join(run.Dir, "records", "process-1.ndjson"))
	if err != nil || strings.Contains(string(data), "hunter2") {
		t.Errorf("a secret reached the records: %s, %v", data, err)
	}
}

// A process that was killed in the middle of a write, or a full disk, costs
// that line and is told.
func TestTornRecordIsAProblemAndLosesNothingElse(t *testing.T) {
	run := newRun(t, "a")
	record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("boot.envd-answers", requirement.Pass)})
	name := filepath.Join(run.Dir, "records", "process-1.ndjson")
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"template":"a","outcome":{"requirem`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m := merge(t, run)
	if len(m.Outcomes["a"]) != 1 || len(m.Problems) != 2 || !strings.Contains(m.Problems[0], "process-1.ndjson:3") || !strings.Contains(m.Problems[1], "did not come to the end") {
		t.Errorf("got %+v", m)
	}
}

func TestNothingExecutedIsAProblem(t *testing.T) {
	m := merge(t, newRun(t, "a"))
	if len(m.Problems) != 2 || !strings.Contains(m.Problems[0], "process 1 of 1 recorded nothing") || !strings.Contains(m.Problems[1], "no requirement was executed") {
		t.Errorf("got %q", m.Problems)
	}
}

// A result that varies within a run is a flake: the worse one counts, and it
// is told.
func TestWorseOutcomeCounts(t *testing.T) {
	for _, order := range [][]requirement.Result{{requirement.Pass, requirement.Fail}, {requirement.Fail, requirement.Pass}, {requirement.Unproven, requirement.Fail}} {
		run := newRun(t, "a")
		for _, result := range order {
			record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("place.command", result)})
		}
		m := merge(t, run)
		if len(m.Outcomes["a"]) != 1 || m.Outcomes["a"][0].Result != requirement.Fail || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "FLAKY: place.command of a") {
			t.Errorf("%v gave %+v", order, m)
		}
		if got := m.Attempts["a"]["place.command"]; !slices.Equal(got, order) {
			t.Errorf("%v is told as %v", order, got)
		}
	}
}

// A retry (ginkgo --flake-attempts) never makes a requirement green alone,
// whatever its first attempt recorded.
func TestRetriesAreTold(t *testing.T) {
	attempt := func(n int, result requirement.Result) Record {
		return Record{Sandbox: "a", Outcome: outcome("place.command", result), Attempt: n}
	}
	for _, test := range []struct {
		name    string
		records []Record
		want    requirement.Result
		note    string
	}{
		{"once", []Record{attempt(1, requirement.Pass)}, requirement.Pass, ""},
		{"failed first", []Record{attempt(1, requirement.Fail), attempt(2, requirement.Pass)}, requirement.Fail, "judged 2 times within the run: fail, pass; the worst counts"},
		{"the first was lost", []Record{attempt(2, requirement.Pass)}, requirement.Unproven, "unproven, pass"},
		{"two were lost, and it fails", []Record{attempt(3, requirement.Fail)}, requirement.Fail, "judged 3 times"},
		{"twice the same", []Record{attempt(1, requirement.Pass), attempt(2, requirement.Pass)}, requirement.Pass, "of a 1 requirements were judged more than once"},
	} {
		run := newRun(t, "a")
		record(t, run, 1, test.records...)
		m := merge(t, run)
		if got := m.Outcomes["a"]; len(got) != 1 || got[0].Result != test.want || len(m.Problems) != 0 {
			t.Errorf("%s: got %+v, problems %q", test.name, got, m.Problems)
		}
		if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, test.note) || (test.note == "") != (notes == "") {
			t.Errorf("%s: notes %q, want %q", test.name, notes, test.note)
		}
	}
}

// Of attempts with the same result the one that decides is kept, and what was not
// tried in one of them is not proven by another: whichever came first.
func TestOfEqualAttemptsTheOneThatDecidesCounts(t *testing.T) {
	cannotSpeak := requirement.Outcome{Requirement: requirement.LogNoFailure, Result: requirement.Unproven, Reason: "stderr goes elsewhere", Mute: true}
	trouble := requirement.Outcome{Requirement: requirement.LogNoFailure, Result: requirement.Unproven, Reason: "a line cannot be placed"}
	notTried := requirement.Outcome{Requirement: requirement.BiteCPU, Result: requirement.NotApplicable, Reason: "not tried", Untried: true}
	held := requirement.Outcome{Requirement: requirement.BiteCPU, Result: requirement.Pass, Reason: "it held"}
	notPromised := requirement.Outcome{Requirement: requirement.BiteCPU, Result: requirement.NotApplicable, Reason: "nothing is promised"}
	failed := requirement.Outcome{Requirement: requirement.BiteCPU, Result: requirement.Fail, Reason: "it failed"}
	for _, test := range []struct {
		decides, other requirement.Outcome
		told           []string
	}{
		{trouble, cannotSpeak, []string{"unproven", "unproven (the log cannot speak)"}},
		{notTried, held, []string{"not-applicable (not tried)", "pass"}},
		{notTried, notPromised, []string{"not-applicable (not tried)", "not-applicable"}},
		{failed, notTried, []string{"fail", "not-applicable (not tried)"}},
		{trouble, trouble, nil},
		{cannotSpeak, cannotSpeak, nil},
		{notTried, notTried, nil},
	} {
		for _, turned := range []bool{false, true} {
			order, told := []requirement.Outcome{test.decides, test.other}, slices.Clone(test.told)
			if turned {
				slices.Reverse(order)
				slices.Reverse(told)
			}
			run := newRun(t, "a")
			record(t, run, 1, Record{Sandbox: "a", Outcome: &order[0], Attempt: 1}, Record{Sandbox: "a", Outcome: &order[1], Attempt: 2})
			m := merge(t, run)
			if got := m.Outcomes["a"]; len(got) != 1 || got[0] != test.decides {
				t.Errorf("%q, then %q: kept %+v", order[0].Reason, order[1].Reason, got)
			}
			want := "each with the same result"
			if told != nil {
				want = "judged 2 times within the run: " + strings.Join(told, ", ") + "; the worst counts"
			}
			if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], want) {
				t.Errorf("%q, then %q: notes %q, want %q", order[0].Reason, order[1].Reason, m.Notes, want)
			}
		}
	}
}

// A number of attempts that nobody made takes no memory, and proves nothing.
func TestAttemptsWithoutNumberAreAProblem(t *testing.T) {
	run := newRun(t, "a")
	record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("place.command", requirement.Pass), Attempt: 1_000_000_000}, Record{Note: "n"})
	if m := merge(t, run); len(m.Outcomes) != 0 || len(m.Notes) != 1 || !strings.Contains(m.Problems[0], "process-1.ndjson:1 is no whole record: attempt 1000000000 of place.command") {
		t.Errorf("got %d outcomes, problems %q", len(m.Outcomes), m.Problems)
	}
}

// Processes that are lost, were cut off, or belong to nothing are problems of
// the run; so is a run of which it is not known.
func TestEveryProcessMustComeToItsEnd(t *testing.T) {
	passed := Record{Sandbox: "a", Outcome: outcome("boot.envd-answers", requirement.Pass)}
	run := runOf(t, 4, "a")
	record(t, run, 1, passed)
	record(t, run, 3, passed)
	cut, err := run.Recorder(2, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cut.Record(passed), cut.file.Close()); err != nil {
		t.Fatal(err)
	}
	// What follows an end is not the end.
	again, err := run.Recorder(3, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(again.Record(passed), again.file.Close()); err != nil {
		t.Fatal(err)
	}
	record(t, run, 7, passed)
	want := []string{"process 4 of 4 recorded nothing", "processes 2, 3 of 4 did not come to the end", "process-7.ndjson is of no process"}
	if m := merge(t, run); len(m.Problems) != len(want) {
		t.Errorf("problems %q", m.Problems)
	} else {
		for i := range want {
			if !strings.Contains(m.Problems[i], want[i]) {
				t.Errorf("problem %q, want %q", m.Problems[i], want[i])
			}
		}
	}
	run = newRun(t, "a")
	record(t, run, 1, passed)
	run.Manifest.Processes = 0
	if m, err := run.Merge(); err != nil || len(m.Problems) != 1 || !strings.Contains(m.Problems[0], "older sandproof") {
		t.Errorf("problems %q, %v", m.Problems, err)
	}
}

// An outcome of any length comes back, and what follows it.
func TestLongRecordsComeBack(t *testing.T) {
	run := newRun(t, "a")
	long := outcome("enable.cpu", requirement.Fail)
	long.Read = strings.Repeat("x", 3<<20)
	line, err := json.Marshal(Record{Origin: run.origin(), Process: 1, Sandbox: "a", Outcome: long})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(run.recordsOf(1), append(line, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("enable.io", requirement.Fail)})
	if m := merge(t, run); len(m.Outcomes["a"]) != 2 || len(m.Problems) != 0 {
		t.Errorf("%d outcomes, problems %.200q", len(m.Outcomes["a"]), m.Problems)
	}
}

// A template whose process died before its first outcome is judged all the
// same.
func TestEveryExpectedTemplateHasAVerdict(t *testing.T) {
	run := newRun(t, "a", "b")
	record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("boot.envd-answers", requirement.Pass)})
	verdicts := run.Verdicts(merge(t, run), func(string, string) verdict.Input { return verdict.Input{Profile: config.ProfileCore} })
	if len(verdicts) != 2 || verdicts[1].Template != "b" || verdicts[1].Word != verdict.Unproven {
		t.Errorf("got %+v", verdicts)
	}
}

// A template that is judged by several sandboxes is judged by each that is
// expected, whether it was seen or not.
func TestEverySandboxCounts(t *testing.T) {
	run := newRun(t, "a", "b")
	run.Manifest.Repeat = map[string]int{"a": 3}
	failed := outcome("enable.cpu", requirement.Fail)
	record(t, run, 1, Record{Sandbox: "a", Outcome: outcome("boot.envd-answers", requirement.Pass)}, Record{Sandbox: "a@2", Outcome: failed})
	merged, err := run.Merge()
	if err != nil || len(merged.Problems) != 0 {
		t.Errorf("problems %q, %v", merged.Problems, err)
	}
	verdicts := run.Verdicts(merged, func(string, string) verdict.Input { return verdict.Input{Profile: config.ProfileCore} })
	if len(verdicts) != 2 || verdicts[0].Word != verdict.NotIsolated || len(verdicts[0].Sandboxes) != 3 || !strings.Contains(verdicts[0].Reason, "varies: of 3 sandboxes") {
		t.Errorf("got %+v", verdicts)
	}
	record(t, run, 1, Record{Sandbox: "a@4", Outcome: failed})
	if m, err := run.Merge(); err != nil || len(m.Problems) != 1 || !strings.Contains(m.Problems[0], `"a@4"`) {
		t.Errorf("problems %q, %v", m.Problems, err)
	}
	for n := range 3 {
		if err := run.WriteEvidence(&evidence.Sandbox{Version: evidence.Version, Template: "a", Number: n + 1}, redact.New()); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := run.Evidence(); err != nil || len(all) != 3 || all[2].Name() != "a@3" {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestOutcomesOfAnUnexpectedTemplateAreAProblem(t *testing.T) {
	run := newRun(t, "a")
	record(t, run, 1, Record{Sandbox: "c", Outcome: outcome("boot.envd-answers", requirement.Pass)})
	if m := merge(t, run); len(m.Problems) != 1 || !strings.Contains(m.Problems[0], `"c"`) {
		t.Errorf("got %q", m.Problems)
	}
}

// An outcome is not lost to what it says: whatever a guest wrote into it, records
// and evidence stay JSON when secrets are taken out of them.
func TestHostileTextLosesNoOutcome(t *testing.T) {
	for _, text := range []string{">2b_0123456789", "\x1e2b_0123456789", "\x0e2b_01234567", "e2b_0123456789", "apiKey:\\", "Authorization: Digest a=\""} {
		run := newRun(t, "a")
		see(t, run, "a", func(s *evidence.Sandbox) { s.API.Alias = text })
		o := outcome(requirement.EnableCPU, requirement.Fail)
		o.Reason = text
		record(t, run, 1, Record{Sandbox: "a", Outcome: o})
		if m := merge(t, run); len(m.Problems) > 0 || len(m.Outcomes["a"]) != 1 || m.Outcomes["a"][0].Result != requirement.Fail {
			t.Errorf("%q: outcomes %+v, problems %q", text, m.Outcomes, m.Problems)
		}
		if all, err := run.Evidence(); err != nil || len(all) != 1 || all[0].API == nil {
			t.Errorf("%q: evidence %+v, %v", text, all, err)
		}
	}
}

func TestEvidenceComesBack(t *testing.T) {
	run := newRun(t, "ns/base:default", "ns%2Fbase%3Adefault")
	for _, template := range run.Manifest.Templates {
		s := &evidence.Sandbox{Version: evidence.Version, Template: template, API: &evidence.API{SandboxID: "i1"}}
		if err := run.WriteEvidence(s, redact.New()); err != nil {
			t.Fatal(err)
		}
	}
	all, err := run.Evidence()
	if err != nil || len(all) != 2 || all[0].Template != "ns/base:default" || all[1].Template != "ns%2Fbase%3Adefault" {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestNamesAndDirectories(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"", "..", "a/b", "-x", "latest", strings.Repeat("x", 101)} {
		if _, err := Create(root, manifest(name), nil); err == nil {
			t.Errorf("a run was named %q", name)
		}
	}
	if _, err := Create(root, manifest("r"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(root, manifest("r"), nil); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("got %v", err)
	}
	if run, err := Open(filepath.Join(root, "latest"), redact.New()); err != nil || run.Manifest.Run != "r" {
		t.Errorf("latest is %+v, %v", run, err)
	}
	if _, err := Open(root, redact.New()); err == nil || !strings.Contains(err.Error(), "is no run directory") {
		t.Errorf("got %v", err)
	}
}

// Whoever holds a lock of the run keeps all others from it, until it lets go;
// and who waits can give up.
func TestLock(t *testing.T) {
	run := newRun(t, "a")
	release, err := run.Lock(t.Context(), "memory", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	other, err := run.Lock(t.Context(), "another", time.Millisecond)
	if err != nil {
		t.Fatalf("a lock of another name: %v", err)
	}
	other()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := run.Lock(ctx, "memory", time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "memory.lock") {
		t.Errorf("while it is held: %v", err)
	}
	release()
	again, err := run.Lock(t.Context(), "memory", time.Millisecond)
	if err != nil {
		t.Fatalf("after it was let go of: %v", err)
	}
	again()
}

func TestKeptSandboxesAreRecorded(t *testing.T) {
	run := runOf(t, 2, "base")
	record(t, run, 1, Record{Sandbox: "base", Outcome: outcome("value.user.cpu-weight", requirement.Fail)}, Record{Kept: "i1", Note: "kept: sandbox i1"})
	record(t, run, 2, Record{Kept: "i2", Note: "kept: sandbox i2"})
	merged := merge(t, run)
	if strings.Join(merged.Kept, " ") != "i1 i2" || len(merged.Notes) != 2 || len(merged.Problems) != 0 {
		t.Errorf("got %+v", merged)
	}
}

// What this sandproof cannot judge is never passed over.
func TestUnknownRecordsAreProblems(t *testing.T) {
	for name, test := range map[string]struct {
		record Record
		says   string
	}{
		"a result that is none":       {Record{Sandbox: "base", Outcome: outcome("value.user.memory-max", "FAIL")}, `has the result "FAIL", which is none`},
		"a requirement of the future": {Record{Sandbox: "base", Outcome: outcome("new.thing", requirement.Fail)}, "does not know (new.thing)"},
		"nothing at all":              {Record{Sandbox: "base"}, "records nothing"},
	} {
		run := newRun(t, "base")
		record(t, run, 1, Record{Sandbox: "base", Outcome: outcome("value.user.cpu-weight", requirement.Pass)}, test.record)
		if problems := merge(t, run).Problems; len(problems) != 1 || !strings.Contains(problems[0], test.says) {
			t.Errorf("%s: got %q", name, problems)
		}
	}
}

// A result that is none is a problem in whichever attempt it stands, and counts
// as the worst: as unproven, whatever else the record says.
func TestUnknownResultOfOneAttemptIsAProblem(t *testing.T) {
	for _, order := range [][]requirement.Result{{"failed", requirement.Pass}, {requirement.Pass, "failed"}, {"failed", requirement.Fail}, {"", requirement.Pass}} {
		run := newRun(t, "a")
		for _, result := range order {
			for _, id := range []requirement.ID{requirement.PlaceCommand, requirement.LogNoFailure} {
				o := outcome(id, result)
				o.Mute, o.Untried = true, true
				record(t, run, 1, Record{Sandbox: "a", Outcome: o})
			}
		}
		m := merge(t, run)
		if len(m.Problems) != 2 || !strings.Contains(m.Problems[0], "place.command of a has the result") {
			t.Errorf("%q gave problems %q", order, m.Problems)
		}
		for i, o := range m.Outcomes["a"] {
			if i > 1 || o.Result != requirement.Unproven || !strings.HasPrefix(o.Reason, "the record has the result ") || o.Muted() || o.Untried {
				t.Errorf("%q gave %+v", order, o)
			}
			for _, result := range m.Attempts["a"][o.Requirement] {
				if !result.Known() {
					t.Errorf("%q gave an attempt of %q", order, result)
				}
			}
		}
	}
}

// A manifest that does not say what is expected, or says it twice, is held to by
// nobody.
func TestManifestsThatCannotBeHeldTo(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(m map[string]any)
		says string
	}{
		{"no beginning", func(m map[string]any) { delete(m, "started") }, "no beginning (started)"},
		{"no run", func(m map[string]any) { delete(m, "run") }, `run "" is no name of a run`},
		{"a run that is a path", func(m map[string]any) { m["run"] = "../r" }, "is no name of a run"},
		{"no harness", func(m map[string]any) { delete(m, "harness") }, "no version of the sandproof"},
		{"no target", func(m map[string]any) { delete(m, "target") }, `target "" is neither live nor lab`},
		{"an open target", func(m map[string]any) { m["target"] = "auto" }, `target "auto"`},
		{"no profile", func(m map[string]any) { delete(m, "profile") }, `profile "" is none of`},
		{"a profile that is none", func(m map[string]any) { m["profile"] = "coore\x1b[2J" }, `profile "coore\x1b[2J"`},
		{"no requirements", func(m map[string]any) { m["requirements"] = []string{} }, "no requirements"},
		{"fewer processes than none", func(m map[string]any) { m["processes"] = -1 }, "-1 processes"},
		{"processes without number", func(m map[string]any) { m["processes"] = 2_000_000_000 }, "2000000000 processes"},
		{"a template twice", func(m map[string]any) { m["templates"] = []string{"a", "b", "a"} }, `"a" twice`},
		{"a sandbox of two templates", func(m map[string]any) { m["templates"], m["repeat"] = []string{"a", "a@2"}, map[string]int{"a": 2} }, `"a@2" twice`},
		{"a template without a name", func(m map[string]any) { m["templates"] = []string{""} }, "a template without a name"},
		{"fewer sandboxes than none", func(m map[string]any) { m["repeat"] = map[string]int{"a": -1} }, `-1 sandboxes of template "a"`},
		{"sandboxes without number", func(m map[string]any) { m["repeat"] = map[string]int{"a": 2_000_000_000} }, `2000000000 sandboxes of template "a": want 1 to 100`},
		{"a shard of processes without number", func(m map[string]any) {
			m["shards"] = []Part{{Shard: "1/2", Started: time.Now(), Processes: 2_000_000_000}}
		}, "2000000000 processes of shard"},
		{"a shard without a beginning", func(m map[string]any) { m["shards"] = []Part{{Shard: "1/2", Processes: 1}} }, `no beginning (started) of shard "1/2"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := newRun(t, "a", "b")
			name := filepath.Join(run.Dir, manifestFile)
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(run.Dir, redact.New()); err != nil {
				t.Fatalf("before it was edited: %v", err)
			}
			var m map[string]any
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			test.edit(m)
			if data, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(run.Dir, redact.New()); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("got %v, want one that says %q", err, test.says)
			}
		})
	}
}

// The code that ginkgo ended with is kept: whoever gates the run again is told.
// A failed spec explains 1 and nothing else.
func TestGinkgoExit(t *testing.T) {
	for _, test := range []struct {
		code     int
		result   requirement.Result
		problems int
	}{{0, requirement.Pass, 0}, {1, requirement.Pass, 1}, {1, requirement.Fail, 0}, {197, requirement.Fail, 1}, {-1, requirement.Pass, 1}} {
		run := newRun(t, "base")
		record(t, run, 1, Record{Sandbox: "base", Outcome: outcome("value.user.cpu-weight", test.result)})
		if err := run.SetGinkgoExit(test.code); err != nil {
			t.Fatal(err)
		}
		if problems := merge(t, run).Problems; len(problems) != test.problems {
			t.Errorf("%+v: got %q", test, problems)
		}
	}
}

// What is read of a run that was carried here holds no secret that the redactor
// knows, however it was escaped: not the manifest, the outcomes, the evidence,
// nor what is told of a contradiction between them.
func TestNothingThatIsReadHoldsASecret(t *testing.T) {
	const secret = "super_secret_ü_0123456789"
	escaped := `\u0073uper_secret_\u00fc_0123456789`
	m := manifest("r", "base")
	m.Processes, m.Waivers = 1, []verdict.Waiver{{Template: "base", Requirement: requirement.EnableIO, Reason: "HERE", Expires: "2099-01-01"}}
	run, err := Create(t.TempDir(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	see(t, run, "base", func(s *evidence.Sandbox) {
		s.Target, s.API = strings.Repeat("x", 90)+"HERE", &evidence.API{TemplateID: "base", Alias: "HERE"}
	})
	o := outcome(requirement.EnableCPU, requirement.Fail)
	o.Reason = "HERE"
	record(t, run, 1, Record{Sandbox: "base", Outcome: o}, Record{Problem: "HERE"}, Record{Note: "HERE"})
	for _, name := range []string{"manifest.json", "records/process-1.ndjson", "evidence/base.json"} {
		swap(t, run, name, "HERE", escaped)
	}
	opened, err := Open(run.Dir, redact.New(secret))
	if err != nil {
		t.Fatal(err)
	}
	merged, err := opened.Merge()
	if err != nil {
		t.Fatal(err)
	}
	seen, err := opened.Evidence()
	if err != nil || len(seen) != 1 {
		t.Fatalf("%v, %d", err, len(seen))
	}
	if len(merged.Problems) != 2 || !strings.Contains(merged.Problems[1], "is of target") {
		t.Errorf("problems %q", merged.Problems)
	}
	if err := opened.WriteResults(merged, opened.Verdicts(merged, func(string, string) verdict.Input { return verdict.Input{Profile: config.ProfileCore} })); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range []string{outcomesFile, verdictsFile} {
		data, err := os.ReadFile(filepath.Join(run.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	// What was gated by an older sandproof may hold some.
	swap(t, run, verdictsFile, "[redacted]", escaped)
	last, err := LastVerdicts(filepath.Dir(run.Dir), redact.New(secret))
	if err != nil || len(last) != 1 {
		t.Fatalf("%v, %v", err, last)
	}
	for name, v := range map[string]any{"the manifest": opened.Manifest, "the outcomes": merged, "the evidence": seen, "the last verdicts": last} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	for name, text := range texts {
		if strings.Contains(text, "secret") || !strings.Contains(text, "[redacted]") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
