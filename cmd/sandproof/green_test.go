package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

// Nothing is green of a run whose gate saw trouble, or that is not any more what
// its gate saw; and whoever compares runs, gates them or keeps what is green,
// sees the same trouble.
func TestGreenOfARunWithTrouble(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	good := gatedRun(t, "lab", "core", judged{"base", "id-base", firstBuild, requirement.Pass, made})
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string) error
		gate  bool // once more, after it was spoiled
		green string
		diff  int
	}{
		{"none", func(*testing.T, string) error { return nil }, true, "1 builds are green on target lab", verdict.ExitIsolated},
		{"no evidence", func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "evidence", "base.json")) }, true, "0 builds are green", verdict.ExitInfra},
		{"no end, after it was gated", func(t *testing.T, dir string) error {
			t.Helper()
			name := filepath.Join(dir, "records", "process-1.ndjson")
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			lines := bytes.SplitAfter(bytes.TrimSpace(data), []byte("\n"))
			return os.WriteFile(name, bytes.Join(lines[:len(lines)-1], nil), 0o600)
		}, false, "0 builds are green", verdict.ExitInfra},
		{"a report that cannot be kept", func(_ *testing.T, dir string) error {
			name := filepath.Join(dir, "report.json")
			return errors.Join(os.Remove(name), os.MkdirAll(filepath.Join(name, "x"), 0o755))
		}, true, "0 builds are green", verdict.ExitIsolated},
		{"results that cannot be kept", func(_ *testing.T, dir string) error {
			name := filepath.Join(dir, "outcomes.json")
			return errors.Join(os.Remove(name), os.MkdirAll(filepath.Join(name, "x"), 0o755))
		}, true, "was not gated", verdict.ExitIsolated},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := gatedRun(t, "lab", "core", judged{"base", "id-base", firstBuild, requirement.Pass, made})
			if err := test.spoil(t, dir); err != nil {
				t.Fatal(err)
			}
			if test.gate {
				code, said := command(t, "gate", dir)
				if (code == verdict.ExitIsolated) != (test.name == "none") {
					t.Fatalf("gate: exit code %d\n%s", code, said)
				}
			}
			if _, said := command(t, "green", "--state", filepath.Join(t.TempDir(), "green.json"), dir); !strings.Contains(said, test.green) {
				t.Errorf("green: %s, want %q", said, test.green)
			}
			if code, said := command(t, "diff", good, dir); code != test.diff {
				t.Errorf("diff: exit code %d, want %d\n%s", code, test.diff, said)
			}
		})
	}
}
