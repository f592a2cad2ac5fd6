package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
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
		replaceIn(t, filepath.Join(dir, name), swap[0], swap[1])
	}
	_, said := command(t, "gate", dir)
	texts := map[string]string{"what is said": said}
	for _, name := range []string{"report.txt", "report.html", "report.md", "junit.xml", "report.json", "outcomes.json", "verdicts.json"} {
		texts[name] = filepath.Join(dir, name)
	}
	texts["the summary"] = summary
	for name, text := range texts {
		if name != "what is said" {
			text = readFile(t, text)
		}
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "redacted") {
			t.Errorf("%s: %.3000s", name, text)
		}
	}
}

// A secret of the environment, in files that were carried here, is in no report,
// whole or in pieces: a report escapes what it shows, wraps it, and cuts it.
func TestReportsHoldNoPieceOfASecret(t *testing.T) {
	var pieces []string
	for i := range 40 {
		pieces = append(pieces, fmt.Sprintf("k%dQ%xz.", i*7919, i*104729))
	}
	long := strings.Join(pieces, "")
	t.Setenv("GITHUB_ACTIONS", "true")
	healthy := recordedRun(t, "before", requirement.Pass)
	for _, test := range []struct {
		name, secret string
		// before is how much text stands before it in one sentence, in bytes.
		before []int
	}{
		{"Markdown escapes it", "super_secret_admin_token_0123456789", []int{0, 90}},
		{"Markdown takes an address for a call", "p@ssw0rd#1$value*with~more", []int{0}},
		{"longer than a line", long, []int{0, 60}},
		{"of words", "correct horse battery staple phrase", []int{0, 80}},
		{"across a bound", long[:71], []int{260, 960, 1960, 4056}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("E2B_ADMIN_TOKEN", test.secret)
			for _, before := range test.before {
				dir := recordedRun(t, "r", requirement.Fail)
				said := strings.Repeat("z", before) + " " + test.secret + " failed"
				replaceIn(t, filepath.Join(dir, "records", "process-1.ndjson"), "as promised", said)
				replaceIn(t, filepath.Join(dir, "evidence", "base.json"), `"envdVersion": ""`, `"envdVersion": "`+said+`"`)
				summary := filepath.Join(t.TempDir(), "summary.md")
				t.Setenv("GITHUB_STEP_SUMMARY", summary)
				texts := map[string]string{}
				for _, args := range [][]string{
					{"gate", dir},
					{"report", dir},
					{"report", "--format=html", dir},
					{"report", "--format=markdown", dir},
					{"report", "--format=junit", dir},
					{"report", "--format=json", dir},
					{"diff", healthy, dir},
					{"diff", "--format=html", healthy, dir},
					{"diff", "--format=markdown", healthy, dir},
					{"diff", "--format=json", healthy, dir},
				} {
					var out, errs bytes.Buffer
					run(t.Context(), args, &out, &errs)
					texts[strings.Join(args[:len(args)-1], " ")] = out.String() + errs.String()
				}
				for _, name := range []string{"report.txt", "report.html", "report.md", "junit.xml", "report.json", "outcomes.json", "verdicts.json"} {
					texts[name] = readFile(t, filepath.Join(dir, name))
				}
				texts["the summary"] = readFile(t, summary)
				for name, text := range texts {
					if piece := pieceOf(text, test.secret); piece != "" || !strings.Contains(text, "redact") && before < 100 {
						t.Errorf("%s, after %d bytes: %q of the secret in %.3000s", name, before, piece, text)
					}
				}
			}
		})
	}
}

// In a GitHub workflow what a guest says is no command in a text either, also
// where a line breaks before it; what a machine reads has nothing beside itself.
func TestTextsGiveNoCommands(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "true")
	t.Setenv("GITHUB_STEP_SUMMARY", "")
	green := recordedRun(t, "green", requirement.Pass)
	for _, command := range []string{"::error::pwned", "::stop-commands::pwned", "##[error]pwned"} {
		m := rundir.Manifest{Run: "r", Target: "lab", Profile: "core", Harness: version, Templates: []string{"base"}}
		red := runWith(t, m, requirement.Outcome{Requirement: requirement.EnableCPU, Result: requirement.Fail, Reason: strings.Repeat("y", 87) + " " + command + " by a guest"})
		for _, test := range []struct {
			args   []string
			begins string // of what a machine reads
		}{
			{[]string{"report", red}, ""},
			{[]string{"diff", green, red}, ""},
			{[]string{"report", "--format=markdown", red}, "## "},
			{[]string{"report", "--format=html", red}, "<!doctype"},
			{[]string{"report", "--format=junit", red}, "<?xml"},
			{[]string{"report", "--format=json", red}, "{"},
			{[]string{"diff", "--format=markdown", green, red}, "## "},
			{[]string{"diff", "--format=html", green, red}, "<!doctype"},
			{[]string{"diff", "--format=json", green, red}, "{"},
		} {
			var out, errs bytes.Buffer
			run(t.Context(), test.args, &out, &errs)
			if !strings.Contains(out.String(), "pwned") || !strings.HasPrefix(out.String(), test.begins) {
				t.Errorf("%v: %.1000s", test.args, &out)
			}
			if test.begins == "" {
				commandLess(t, unfenced(t, out.String()))
			}
			if fenced := strings.Contains(out.String(), "\n::stop-commands::") || strings.HasPrefix(out.String(), "::"); fenced != (test.begins == "") {
				t.Errorf("%v: fenced: %t", test.args, fenced)
			}
		}
		file := filepath.Join(t.TempDir(), "report.txt")
		run(t.Context(), []string{"report", "-o", file, red}, io.Discard, io.Discard)
		if text := readFile(t, file); !strings.HasPrefix(text, "run r,") {
			t.Errorf("a file: %.200s", text)
		}
	}
}

// unfenced is what GitHub's runner looks for commands in: what does not stand
// between a command that stops them and its end.
func unfenced(t *testing.T, text string) string {
	t.Helper()
	outside, end := "", ""
	for line := range strings.Lines(text) {
		token, begins := strings.CutPrefix(strings.TrimSpace(line), "::stop-commands::")
		switch {
		case end == "" && begins:
			end = "::" + token + "::"
		case end == "":
			outside += line
		case strings.TrimSpace(line) == end:
			end = ""
		}
	}
	if end != "" {
		t.Errorf("commands stay stopped: %s", text)
	}
	return outside
}

// A mask is longer than a short secret: a summary is counted as it is written.
func TestSummaryIsCountedWithoutSecrets(t *testing.T) {
	t.Setenv("E2B_ADMIN_TOKEN", "abcdef")
	t.Setenv("GITHUB_ACTIONS", "true")
	summary := filepath.Join(t.TempDir(), "summary.md")
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	const used = verdict.SummaryMost - 14000
	if err := os.WriteFile(summary, make([]byte, used), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := recordedRun(t, "r", requirement.Fail)
	replaceIn(t, filepath.Join(dir, "records", "process-1.ndjson"), "as promised", strings.Repeat("abcdef ", 300))
	_, said := command(t, "gate", dir)
	if text := readFile(t, summary); len(text) > verdict.SummaryMost || !strings.Contains(text[used:], "redacted") || strings.Contains(said, "no summary") {
		t.Errorf("the summary has %d bytes of %d:\n%.500s", len(text), verdict.SummaryMost, said)
	}
	// What the program itself says is cleaned last, and is counted then.
	var demanded []string
	for i := range 50 {
		demanded = append(demanded, fmt.Sprintf("abcdef%d", i))
	}
	args := []string{"gate", "--templates", strings.Join(demanded, ","), dir}
	for _, room := range []int{verdict.SummaryMost, 0} {
		if room == 0 {
			room = len(readFile(t, summary)) - 200
		}
		if err := os.WriteFile(summary, make([]byte, verdict.SummaryMost-room), 0o600); err != nil {
			t.Fatal(err)
		}
		_, said = command(t, args...)
		if text := readFile(t, summary); len(text) > verdict.SummaryMost || strings.Contains(text, "abcdef") || (len(text) == verdict.SummaryMost-room) != strings.Contains(said, "no summary of the step") {
			t.Errorf("the summary has %d bytes of %d:\n%.500s", len(text), verdict.SummaryMost, said)
		}
	}
}

// pieceOf is a piece of a secret that a text holds, whatever was put between its
// letters; empty where there is none.
func pieceOf(text, secret string) string {
	bare := strings.NewReplacer(" ", "", "\n", "", "\t", "", `\`, "", "\u200b", "")
	text, secret = bare.Replace(html.UnescapeString(text)), bare.Replace(secret)
	const least = 8
	for i := range len(secret) - least + 1 {
		if strings.Contains(text, secret[i:i+least]) {
			return secret[i : i+least]
		}
	}
	return ""
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// replaceIn replaces a text in a file, where it must be.
func replaceIn(t *testing.T, name, old, text string) {
	t.Helper()
	data := readFile(t, name)
	if !strings.Contains(data, old) {
		t.Fatalf("%s lacks %q: %s", name, old, data)
	}
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(data, old, text)), 0o600); err != nil {
		t.Fatal(err)
	}
}
