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
