package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

// recordedRun is a run directory in which every requirement but one has passed.
func recordedRun(t *testing.T, name string, result requirement.Result) string {
	t.Helper()
	m := rundir.Manifest{Run: name, Target: "lab", Profile: "core", Harness: version, Templates: []string{"base"}}
	return runWith(t, m, requirement.Outcome{Requirement: requirement.EnableCPU, Result: result, Reason: "as promised"})
}

// runWith records a run of the template base in which every requirement but one
// has passed.
func runWith(t *testing.T, m rundir.Manifest, differs requirement.Outcome) string {
	t.Helper()
	run, err := rundir.Create(t.TempDir(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := run.Recorder(1, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	recordAll(t, recorder, "base", differs)
	writeEvidence(t, run, "base")
	if err := recorder.Close(); err != nil {
		t.Fatal(err)
	}
	return run.Dir
}

// recordAll records a pass for every requirement of a sandbox but one.
func recordAll(t *testing.T, recorder *rundir.Recorder, sandbox string, differs requirement.Outcome) {
	t.Helper()
	for _, r := range requirement.All() {
		o := requirement.Outcome{Requirement: r.ID, Result: requirement.Pass, Reason: "as promised"}
		if r.ID == differs.Requirement {
			o = differs
		}
		if err := recorder.Record(rundir.Record{Sandbox: sandbox, Outcome: &o}); err != nil {
			t.Fatal(err)
		}
	}
}

// writeEvidence writes the evidence of a sandbox of which nothing was asked but
// what it is of.
func writeEvidence(t *testing.T, run *rundir.Run, template string) {
	t.Helper()
	s := &evidence.Sandbox{Version: evidence.Version, Template: template, Target: run.Manifest.Target, API: &evidence.API{TemplateID: template}}
	if err := run.WriteEvidence(s, redact.New()); err != nil {
		t.Fatal(err)
	}
}

// The command reads two run directories, and its exit code is the comparison's.
func TestDiffCommand(t *testing.T) {
	red, green := recordedRun(t, "red", requirement.Fail), recordedRun(t, "green", requirement.Pass)
	for _, test := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{red, green}, verdict.ExitIsolated, "fixed: enable.cpu (core): fail -> pass"},
		{[]string{green, red}, verdict.ExitNotIsolated, "WORSE: enable.cpu (core): pass -> fail"},
		{[]string{green, green}, verdict.ExitIsolated, "nothing changed"},
		{[]string{"--format", "markdown", red, green}, verdict.ExitIsolated, "| fixed | enable.cpu | core | fail | pass |"},
		{[]string{"--format=json", red, green}, verdict.ExitIsolated, `"requirement": "enable.cpu"`},
		{[]string{"--format=html", red, green}, verdict.ExitIsolated, `aria-label="base, enable: fail before, pass"`},
		{[]string{"--format=yaml", red, green}, verdict.ExitInfra, `--format "yaml": want text, markdown, json or html`},
		{[]string{red, filepath.Join(red, "none")}, verdict.ExitInfra, "is no run directory"},
	} {
		cmd := root()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"diff"}, test.args...))
		err := cmd.ExecuteContext(t.Context())
		code := verdict.ExitIsolated
		if exit, ok := err.(exitError); ok { //nolint:errorlint // as main has it, and nothing wraps it
			code = int(exit)
		} else if err != nil {
			code = verdict.ExitInfra
			out.WriteString(err.Error())
		}
		if code != test.exit || !strings.Contains(out.String(), test.says) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", test.args, code, test.exit, test.says, &out)
		}
	}
}
