package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/requirement"
)

// The command shows run directories in each format, and says what it cannot
// show.
func TestReportCommand(t *testing.T) {
	red, green := recordedRun(t, "red", requirement.Fail), recordedRun(t, "green", requirement.Pass)
	file := filepath.Join(t.TempDir(), "report.html")
	for _, test := range []struct {
		args []string
		says string
		err  string
	}{
		{[]string{red}, "PARTIAL", ""},
		{[]string{"--format", "html", red}, `<td class="cell"><a href="#t1-enable" aria-label="base, enable: fail">`, ""},
		{[]string{"--format=html", "--before", red, green}, `aria-label="base, enable: fail before, pass"`, ""},
		{[]string{"--format=html", "-o", file, green}, "", ""},
		{[]string{"--before", red, green}, "", "--format text: this format shows one run"},
		{[]string{"--format=pdf", red}, "", `--format "pdf": want text, html, markdown, junit or json`},
		{[]string{"--format=html", "-o", filepath.Join(file, "none"), red}, "", "write the report to " + filepath.Join(file, "none")},
		{[]string{filepath.Join(red, "none")}, "", "is no run directory"},
	} {
		cmd := root()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"report"}, test.args...))
		err := cmd.ExecuteContext(t.Context())
		said := ""
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(out.String(), test.says) || (test.err == "") != (err == nil) || !strings.Contains(said, test.err) {
			t.Errorf("%v: error %q, want %q; want %q in:\n%.2000s", test.args, said, test.err, test.says, &out)
		}
	}
	page, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(page, []byte("<!doctype html>")) || !bytes.HasSuffix(page, []byte("</html>\n")) {
		t.Errorf("the file holds no whole page: %v, %.100q", err, page)
	}
}

// What has the shape of a secret, in files that were carried here, is in no
// report: the recorder that took it out may not have written them.
func TestReportsOfCarriedFilesHoldNoSecret(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "true")
	summary := filepath.Join(t.TempDir(), "summary.md")
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	dir := recordedRun(t, "r", requirement.Fail)
	for name, swap := range map[string][2]string{
		"records/process-1.ndjson": {"as promised", "Authorization: Bearer hunter2hunter2"},
		"evidence/base.json":       {`"envdVersion": ""`, `"envdVersion": "x-api-key: hunter2hunter2"`},
	} {
		name = filepath.Join(dir, name)
		data, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(data, []byte(swap[0])) {
			t.Fatalf("%s: %v, %s", name, err, data)
		}
		if err := os.WriteFile(name, bytes.ReplaceAll(data, []byte(swap[0]), []byte(swap[1])), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, said := command(t, "gate", dir)
	texts := map[string]string{"what is said": said}
	for _, name := range []string{"report.txt", "report.html", "report.md", "junit.xml", "report.json", "outcomes.json", "verdicts.json"} {
		texts[name] = filepath.Join(dir, name)
	}
	texts["the summary"] = summary
	for name, text := range texts {
		if name != "what is said" {
			data, err := os.ReadFile(text)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "redacted") {
			t.Errorf("%s: %.3000s", name, text)
		}
	}
}
