package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func loadText(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Sources{Flags: Flags{Config: file, Target: "lab"}, Dir: t.TempDir()})
}

// Each mistake in a waiver is told with the place of its key.
func TestWaiversAreChecked(t *testing.T) {
	for _, test := range []struct{ entry, want string }{
		{"{line: a, template: b, requirements: [c.d], reason: r, expires: 2026-12-31}", ":2:12: waivers[0]: want a line, or a template with requirements"},
		{"{reason: r, expires: 2026-12-31}", ":2:6: waivers[0]: want a line (a regular expression), or a template"},
		{"{line: '(', reason: r, expires: 2026-12-31}", ":2:12: waivers[0]: this is no regular expression"},
		{"{template: a b, requirements: [c.d], reason: r, expires: 2026-12-31}", ":2:16: waivers[0]: want the name of one template"},
		{"{template: '*', requirements: [c.d], reason: r, expires: 2026-12-31}", "want the name of one template"},
		{"{requirements: [c.d], reason: r, expires: 2026-12-31}", "want the name of one template"},
		{"{template: a, reason: r, expires: 2026-12-31}", "want the IDs of the requirements"},
		{"{template: a, requirements: [C], reason: r, expires: 2026-12-31}", "this is no requirement's ID"},
		{"{template: a, requirements: ['*'], reason: r, expires: 2026-12-31}", "is no requirement's ID"},
		{"{template: a, requirements: [c.d, c.d], reason: r, expires: 2026-12-31}", "a requirement of this template is waived twice"},
		{"{template: a, requirements: [c.d], expires: 2026-12-31}", "want a reason"},
		{"{template: a, requirements: [c.d], reason: ' ', expires: 2026-12-31}", ":2:48: waivers[0]: want a reason"},
		{"{template: a, requirements: [c.d], reason: r}", "want the last day on which it counts"},
		{"{template: a, requirements: [c.d], reason: r, expires: never}", "want the last day on which it counts"},
		{"{template: a, requirements: [c.d], reason: r, expires: 2026-02-30}", "want the last day on which it counts"},
		{"{template: a, requirement: c.d, reason: r, expires: 2026-12-31}", ":2:19: unknown field"},
	} {
		_, err := loadText(t, "waivers:\n  - "+test.entry+"\n")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.entry, err, test.want)
		}
	}
	_, err := loadText(t, "waivers:\n  - {line: a, reason: r, expires: 2026-12-31}\n  - {line: '[', expires: x}\n")
	for _, want := range []string{":3:12: waivers[1]: this is no regular expression", "waivers[1]: want a reason", "waivers[1]: want the last day"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("all at once: %v, want %q", err, want)
		}
	}
}

// Aliases do not hide a mistake, and what is right is kept.
func TestWaiversByAlias(t *testing.T) {
	if _, err := loadText(t, "waivers:\n  - &w {line: '[', reason: r, expires: 2026-12-31}\n  - *w\n"); err == nil || strings.Count(err.Error(), "no regular expression") != 2 {
		t.Errorf("got %v", err)
	}
	c, err := loadText(t, "waivers:\n  - {template: 'ns/base:v2', requirements: [enable.io, bite.memory], reason: r, expires: 2026-12-31}\n  - {line: a, reason: r, expires: 2026-12-31}\n")
	if err != nil || len(c.Waivers) != 2 || c.Waivers[0].Template != "ns/base:v2" || len(c.Waivers[0].Requirements) != 2 {
		t.Errorf("got %+v, %v", c.Waivers, err)
	}
}
