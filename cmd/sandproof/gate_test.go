package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

// command runs sandproof as main does, and returns its exit code and everything
// that it wrote.
func command(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := root()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit), out.String()
	}
	if err != nil {
		return verdict.ExitInfra, out.String() + err.Error()
	}
	return verdict.ExitIsolated, out.String()
}

func TestGateCommand(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	green, red := recordedRun(t, "green", requirement.Pass), recordedRun(t, "red", requirement.Fail)
	for _, test := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{green}, verdict.ExitIsolated, "exit code 0 (isolated): target lab, profile core: 1 isolated"},
		{[]string{red}, verdict.ExitNotIsolated, "first broken stage: enable (enable.cpu)"},
		{[]string{"--target=lab", green}, verdict.ExitIsolated, "1 isolated"},
		{[]string{"--target=live", green}, verdict.ExitUnproven, "target lab, and target live was asked for"},
		{[]string{"--target=live", red}, verdict.ExitUnproven, "that proves nothing about target live"},
		{[]string{"--target=auto", green}, verdict.ExitInfra, `--target "auto": want live or lab`},
		{[]string{"--target=cluster", green}, verdict.ExitInfra, "want live or lab"},
		{[]string{"--templates=base", green}, verdict.ExitIsolated, "1 isolated"},
		{[]string{"--templates=base,desktop", green}, verdict.ExitUnproven, "desktop: unproven"},
		{[]string{"--templates=desktop", red}, verdict.ExitNotIsolated, "desktop: unproven"},
		{[]string{"--templates= base , base", green}, verdict.ExitIsolated, "1 isolated"},
		{[]string{"--templates=base, desktop", green}, verdict.ExitUnproven, "desktop: unproven"},
		{[]string{"--templates=base\ndesktop", green}, verdict.ExitUnproven, "unproven"},
		{[]string{"--templates=base", "--templates=desktop", green}, verdict.ExitUnproven, "desktop: unproven"},
		{[]string{"--templates=base, ", green}, verdict.ExitInfra, "a name is empty"},
		{[]string{"--templates= ", green}, verdict.ExitInfra, "a name is empty"},
		{[]string{"--templates=,base", green}, verdict.ExitInfra, "a name is empty"},
		{[]string{"--profile=gate", green}, verdict.ExitIsolated, "profile gate: 1 isolated"},
		{[]string{"--profile=auto", green}, verdict.ExitInfra, "want core, gate or extended"},
		{[]string{"--ginkgo-exit=1", green}, verdict.ExitInfra, "ginkgo ended with 1"},
		{[]string{"--ginkgo-exit=137", green}, verdict.ExitInfra, "ginkgo ended with 137"},
		{[]string{green}, verdict.ExitInfra, "ginkgo ended with 137"},
		{[]string{"--templates=", red}, verdict.ExitInfra, "--templates is empty"},
		{[]string{"--target=", red}, verdict.ExitInfra, "--target is empty"},
		{[]string{"--ginkgo-exit=1", red}, verdict.ExitNotIsolated, "1 partial"},
	} {
		if code, said := command(t, append([]string{"gate"}, test.args...)...); code != test.exit || !strings.Contains(strings.Join(strings.Fields(said), " "), test.says) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", test.args, code, test.exit, test.says, said)
		}
	}
}

// Every report of the run lies beside its records. One that cannot be written is
// trouble, and hides no verdict.
func TestReportsAreKept(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	for _, test := range []struct {
		result      requirement.Result
		exit, spoil int
	}{{requirement.Pass, verdict.ExitIsolated, verdict.ExitInfra}, {requirement.Fail, verdict.ExitNotIsolated, verdict.ExitNotIsolated}} {
		dir := recordedRun(t, "r", test.result)
		code, said := command(t, "gate", dir)
		for _, report := range reportFormats() {
			data, err := os.ReadFile(filepath.Join(dir, report.file))
			if err != nil || !strings.Contains(string(data), "base") {
				t.Errorf("%s: %v, %s", report.file, err, data)
			}
		}
		if data, err := os.ReadFile(filepath.Join(dir, "report.txt")); code != test.exit || err != nil || string(data) != said {
			t.Errorf("exit code %d; %v; report.txt is not what was shown: %s", code, err, data)
		}
		spoiled := filepath.Join(dir, "report.json")
		if err := errors.Join(os.Remove(spoiled), os.MkdirAll(filepath.Join(spoiled, "x"), 0o755)); err != nil {
			t.Fatal(err)
		}
		if code, said := command(t, "gate", dir); code != test.spoil || !strings.Contains(said, "the run's reports were not kept: write report.json") {
			t.Errorf("with a report that cannot be written: exit code %d\n%s", code, said)
		}
	}
}

// A waiver of the run's manifest lets the gate pass, and is told; offline, and
// whenever it is asked.
func TestGateWithWaivers(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	began := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		expires string
		exit    int
		says    string
	}{
		{"2026-11-28", verdict.ExitIsolated, "1 not-isolated, WAIVED"},
		{"2026-11-27", verdict.ExitNotIsolated, "the waiver of place.command for template base has expired on 2026-11-27"},
	} {
		waivers := []verdict.Waiver{
			{Template: "base", Requirement: requirement.PlaceCommand, Reason: "TICKET-1", Expires: test.expires},
			{Template: "base", Requirement: requirement.EnableIO, Reason: "TICKET-2", Expires: "2099-01-01"},
		}
		dir := runWith(t, rundir.Manifest{Run: "r", Target: "lab", Profile: "core", Harness: version, Templates: []string{"base"}, Started: began, Waivers: waivers}, hostile(requirement.PlaceCommand))
		for range 2 {
			code, said := command(t, "gate", dir)
			said = strings.Join(strings.Fields(said), " ")
			if code != test.exit || !strings.Contains(said, test.says) || !strings.Contains(said, "the waiver of enable.io for template base excused nothing") {
				t.Errorf("until %s: exit code %d\n%s", test.expires, code, said)
			}
		}
	}
}

// hostile is a failure with what a guest might say to be taken for a command.
func hostile(id requirement.ID) requirement.Outcome {
	return requirement.Outcome{Requirement: id, Result: requirement.Fail, Reason: "::error::a guest | said <b>this</b>\n::set-env name=x::y"}
}

// In a GitHub workflow a failing template is one annotation, and the step has a
// summary; what a guest says is never a command.
func TestGateInAWorkflow(t *testing.T) {
	summary := filepath.Join(t.TempDir(), "summary.md")
	if err := os.WriteFile(summary, []byte("# another tool's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GITHUB_ACTIONS", "true")
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	dir := runWith(t, rundir.Manifest{Run: "r", Target: "lab", Profile: "core", Harness: version, Templates: []string{"base"}}, hostile(requirement.EnableCPU))
	code, said := command(t, "gate", dir)
	stopped := regexp.MustCompile(`(?s)^::stop-commands::([0-9A-Z]{20,})\n(.*)\n::([0-9A-Z]+)::\n(.*)$`).FindStringSubmatch(said)
	if code != verdict.ExitNotIsolated || stopped == nil || stopped[1] != stopped[3] {
		t.Fatalf("exit code %d\n%s", code, said)
	}
	if want := "::error title=base%3A partial::::error::a guest | said <b>this</b>%0A::set-env name=x::y%0Anext: "; !strings.HasPrefix(stopped[4], want) || strings.Count(stopped[4], "\n") != 1 {
		t.Errorf("annotations %q, want %q", stopped[4], want)
	}
	data, err := os.ReadFile(summary)
	if err != nil || !strings.HasPrefix(string(data), "# another tool's\n## sandproof: exit code 1") || !strings.Contains(string(data), `a guest \| said &lt;b&gt;`) {
		t.Errorf("summary %v: %s", err, data)
	}
	// A summary that is nearly full is left as it is: GitHub would show nothing.
	if err := os.WriteFile(summary, make([]byte, verdict.SummaryMost-10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said := command(t, "gate", dir); !strings.Contains(said, "no summary of the step") {
		t.Errorf("with a full summary: %s", said)
	}
	if info, err := os.Stat(summary); err != nil || info.Size() != verdict.SummaryMost-10 {
		t.Errorf("%v, %v", info, err)
	}
}

// A result that is none is told, and every report keeps its form.
func TestReportsOfAResultThatIsNone(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	green := recordedRun(t, "green", requirement.Pass)
	dir := recordedRun(t, "r", "a|b <img src=x> @octocat")
	code, said := command(t, "gate", dir)
	if code != verdict.ExitInfra || !strings.Contains(strings.Join(strings.Fields(said), " "), `the record has the result "a|b <img src=x> @octocat", which is none`) {
		t.Errorf("exit code %d: %s", code, said)
	}
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "docs", "report.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(readFile(t, filepath.Join(dir, "report.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("the report does not keep to its schema: %v", err)
	}
	if code, said := command(t, "diff", green, dir); code != verdict.ExitInfra || !strings.Contains(said, "newly untested: enable.cpu (core): pass -> unproven") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// Colours are for terminals, unless the environment says otherwise.
func TestTerminalOf(t *testing.T) {
	terminal, other, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(terminal.Close(), other.Close()) }()
	if err := pty.Setsize(other, &pty.Winsize{Rows: 24, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, test := range []struct {
		env            map[string]string
		onTerminal, to bool
	}{
		{nil, true, false},
		{map[string]string{"NO_COLOR": "1"}, false, false},
		{map[string]string{"CLICOLOR_FORCE": "1"}, true, true},
		{map[string]string{"CLICOLOR_FORCE": "0"}, true, false},
		{map[string]string{"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, false, false},
		{map[string]string{"CLICOLOR": "0"}, false, false},
		{map[string]string{"TERM": "dumb"}, false, false},
	} {
		for _, name := range []string{"NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"} {
			t.Setenv(name, test.env[name])
		}
		t.Setenv("TERM", "xterm")
		if test.env["TERM"] != "" {
			t.Setenv("TERM", test.env["TERM"])
		}
		if got := terminalOf(other); got.Color != test.onTerminal || got.Width != 77 {
			t.Errorf("%v: on a terminal %+v", test.env, got)
		}
		for _, out := range []any{file, &bytes.Buffer{}} {
			w, _ := out.(interface{ Write([]byte) (int, error) })
			if got := terminalOf(w); got.Color != test.to || got.Width != 0 {
				t.Errorf("%v: into a file %+v", test.env, got)
			}
		}
	}
}

// Whatever a command says, on either channel, the credentials of its
// environment are not in it.
func TestCommandsSayNoSecret(t *testing.T) {
	const secret = "hunter2-hunter2"
	for _, name := range []string{"E2B_API_KEY", "E2B_ADMIN_TOKEN", "E2B_ACCESS_TOKEN", "NOMAD_TOKEN", "LOKI_PASSWORD", "LOKI_BEARER_TOKEN"} {
		t.Setenv(name, secret)
		for _, args := range [][]string{{"gate", secret}, {"gate", "--target=" + secret, "x"}, {secret}, {"diff", "--format", secret, "a", "b"}, {"logs", "scan", secret}} {
			var out, errs bytes.Buffer
			if code := run(t.Context(), args, &out, &errs); code == verdict.ExitIsolated || errs.Len() == 0 {
				t.Errorf("%v: exit code %d, %q", args, code, &errs)
			}
			if said := out.String() + errs.String(); strings.Contains(said, secret) || !strings.Contains(said, "[redacted]") && args[0] != "diff" {
				t.Errorf("%s: %v: %s", name, args, said)
			}
		}
		t.Setenv(name, "")
	}
}
