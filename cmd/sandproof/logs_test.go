package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sandproof/internal/logscan/history"
)

// TestLogsScan: what the command prints, and its exit codes.
func TestLogsScan(t *testing.T) {
	line := func(message string) string {
		return fmt.Sprintf("2026-01-20T10:00:01.250Z  INFO  %s\r  {\"sandbox.id\": \"i1\", \"template.id\": \"tpl\"}\n", message)
	}
	boot := line("=== Starting envd ===")
	for _, test := range []struct {
		name, text string
		args       []string
		code       int
		says       []string
	}{
		{"clean", boot, nil, 0, []string{"clean: no failure from 2026-01-20 10:00:01Z", "in capitals are not looked for", "1 log, 1 file, "}},
		{"a failure", boot + line("falling back to no-op cgroup manager"), nil, 1, []string{"CG003", "tpl", "i1", "nothing is limited", "failures: envd said 1 time that"}},
		{"control characters", boot + line("cgroup failed \x1b]0;evil\x07\u202e"), nil, 2, []string{"unproven"}},
		{"no boot", line("hello"), nil, 2, []string{"no line of any guest's boot"}},
		{"purged", boot, []string{"--since", "2026-01-20T09:00:00Z"}, 2, []string{"purged or never written"}},
		{"a wrong time", boot, []string{"--since", "yesterday"}, 3, []string{`--since "yesterday": want how long ago`}},
		{"too long ago", boot, []string{"--since", "99999999h"}, 3, []string{"further back than can be counted"}},
		{"no time ago", boot, []string{"--since", "0h"}, 3, []string{`--since "0h": want how long ago`}},
		{"both ways", boot, []string{"--since", "1h", "--follow"}, 3, []string{"give one of them"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "orchestrator.stdout.0")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := runRoot(t, append([]string{"logs", "scan", path}, test.args...)...)
			if code != test.code {
				t.Errorf("exit code %d, want %d:\n%s", code, test.code, out)
			}
			for _, want := range test.says {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not said:\n%s", want, out)
				}
			}
			if strings.ContainsAny(out, "\x1b\x07\u202e") {
				t.Errorf("control characters come out: %q", out)
			}
			if code == 3 {
				return
			}
			out, again := runRoot(t, append([]string{"logs", "scan", "--json", path}, test.args...)...)
			var r history.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil || again != code || r.Schema != history.Schema {
				t.Errorf("as JSON: %v, exit code %d, %+v", err, again, r)
			}
		})
	}
}

// TestLogsScanOfNothing: a path that is empty, as a script's variable is that was
// never set, names no directory, and least of all the current one.
func TestLogsScanOfNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	line := "2026-01-20T10:00:01.250Z  INFO  === Starting envd ===\r  {\"sandbox.id\": \"i1\"}\n"
	if err := os.WriteFile("orchestrator.stdout.0", []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{""}, {".", ""}, {"--follow", ""}} {
		out, code := runRoot(t, append([]string{"logs", "scan"}, args...)...)
		if code != 3 || !strings.Contains(out, "an empty path") {
			t.Errorf("%q: exit code %d:\n%s", args, code, out)
		}
	}
}

// TestLogsFitTheTerminal: no line of the table is wider than the terminal, and
// what was left out is told.
func TestLogsFitTheTerminal(t *testing.T) {
	report := history.Report{Result: history.Failures, Findings: []history.Finding{{
		Rule: "CG003", Class: "failure", Meaning: "envd gave up its cgroups: nothing is limited", Template: "z1cxkmipwgx22xcl1jyc",
		Sandbox: "i2a3b4c5d6e7f8g9h0j1k", Count: 12, First: time.Now(), Last: time.Now(),
	}}}
	for width, left := range map[int]int{0: 0, 200: 0, 120: 2, 100: 3, 80: 4, 60: 5} {
		var out strings.Builder
		showLogs(&out, report, width)
		for line := range strings.Lines(out.String()) {
			if strings.ContainsAny(line, "│┌└├") && width > 0 && utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > width {
				t.Errorf("wider than %d: %s", width, line)
			}
		}
		_, columns := findingsTable(report.Findings, width)
		if told := strings.Contains(out.String(), "for want of width without"); told != (left > 0) || len(columns) != left || !strings.Contains(out.String(), "CG003") || !strings.Contains(out.String(), "i2a3b4c5d6e7f8g9h0j1k") {
			t.Errorf("%d columns, without %q:\n%s", width, columns, out.String())
		}
	}
}

// TestReportIsJSON: a report that is written piece by piece is what it is as one
// text, whatever stands in it.
func TestReportIsJSON(t *testing.T) {
	hostile := history.Finding{Rule: "CG003", Example: "\"findings\": []\n<\u2028\\n", Source: `"findings":[]`, First: time.Unix(1, 2).UTC()}
	for _, findings := range [][]history.Finding{{}, {hostile}, {hostile, {Rule: "CG004"}, hostile}} {
		report := history.Report{Schema: history.Schema, Reason: `"findings": [] "findings":[]`, Findings: findings, Uncovered: []string{"a\nb"}}
		for _, indented := range []bool{true, false} {
			var got, want strings.Builder
			if err := errors.Join(writeLogsReport(&got, report, indented), writeJSON(&want, report, indented)); err != nil {
				t.Fatal(err)
			}
			if got.String() != want.String() {
				t.Errorf("%d findings:\n%s\nwant\n%s", len(findings), got.String(), want.String())
			}
		}
	}
}

// TestDroppedFindings: what was not kept is told, and not promised elsewhere.
func TestDroppedFindings(t *testing.T) {
	var out strings.Builder
	showLogs(&out, history.Report{Result: history.Failures, Findings: []history.Finding{{Rule: "CG003"}}, Dropped: 7}, 0)
	if !strings.Contains(out.String(), "and 7 lines of further findings, which were too many to be kept") {
		t.Error(out.String())
	}
}

// runRoot runs the program in this process.
func runRoot(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var output bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&output)
	cmd.SetErr(&output)
	err := cmd.ExecuteContext(t.Context())
	if exit, ok := errors.AsType[exitError](err); ok {
		return output.String(), int(exit)
	}
	if err != nil {
		return output.String() + err.Error(), 3
	}
	return output.String(), 0
}
