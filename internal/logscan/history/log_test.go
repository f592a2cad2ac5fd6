package history

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sandproof/internal/redact"
)

// TestSilence: every log that names sandboxes must show a boot itself, and reach
// back itself to what was asked for; a log that names none need not.
func TestSilence(t *testing.T) {
	boot, hello := record(10, "i1", booted), record(11, "i7", "hello")
	plain := "2026-01-20T10:00:00.000Z  INFO  hello\n"
	const a, b = "alloc/a/alloc/logs/", "alloc/b/alloc/logs/"
	for _, test := range []struct {
		name  string
		files map[string]string
		since time.Time
		want  Result
		says  string
	}{
		{"another allocation carries no console", map[string]string{a + "orchestrator.stdout.0": boot, b + "orchestrator.stdout.0": hello}, time.Time{}, Unproven, "alloc/b/alloc/logs/orchestrator.stdout"},
		{"another allocation's JSON carries no console", map[string]string{a + "start.stdout.0": boot, b + "start.stdout.0": `{"message":"hello","instanceID":"i7"}` + "\n"}, time.Time{}, Unproven, "alloc/b/alloc/logs/start.stdout"},
		{"each carries one", map[string]string{a + "orchestrator.stdout.0": boot, b + "orchestrator.stdout.0": hello, b + "orchestrator.stdout.1": boot}, time.Time{}, Clean, ""},
		{"others name no sandbox", map[string]string{a + "orchestrator.stdout.0": boot, a + "orchestrator.stderr.0": "oh\n", a + "api.stdout.0": plain, b + "orchestrator.stdout.0": plain}, time.Time{}, Clean, ""},
		{"its boot lies in a file that logrotate renamed", map[string]string{"x.log": hello, "x.log.1": boot, "x.log.2.gz": pack(t, hello)}, time.Time{}, Clean, ""},
		{"a boot before what was asked for", map[string]string{a + "orchestrator.stdout.0": boot + record(30, "i1", "hello"), b + "orchestrator.stdout.0": record(0, "i1", "hello") + record(25, "i1", booted)}, at(20), Unproven, "alloc/a/alloc/logs/orchestrator.stdout"},
		{"an allocation that ended before what was asked for", map[string]string{a + "orchestrator.stdout.0": hello, b + "orchestrator.stdout.0": record(25, "i1", booted)}, at(20), Clean, ""},
		{"it begins after what was asked for, and another task's before", map[string]string{a + "api.stdout.0": plain, b + "orchestrator.stdout.0": boot}, at(5), Unproven, "the oldest record of orchestrator.stdout is of 2026-01-20 10:10:00Z"},
		{"another allocation of its task reaches back", map[string]string{a + "orchestrator.stdout.0": record(0, "i1", "hello") + boot, b + "orchestrator.stdout.0": boot}, at(5), Clean, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				write(t, filepath.Join(dir, file), text)
			}
			r, err := Scan(t.Context(), []string{dir}, Options{Since: test.since, Redactor: redact.New()})
			if err != nil {
				t.Fatal(err)
			}
			if r.Result != test.want || !strings.Contains(r.Reason, test.says) {
				t.Errorf("%s: %s; want %s, %q", r.Result, r.Reason, test.want, test.says)
			}
		})
	}
}

// TestEveryControlCounts: each line of the boot shows that consoles come out,
// wherever it stands.
func TestEveryControlCounts(t *testing.T) {
	for _, line := range []string{
		"=== E2B Init Starting ===", "✓ Network configured", "✓ Filesystems mounted", "✓ Filesystems mounted (with cgroup delegation)",
		"--- [GUEST] Starting envd daemon ---", "sandproof canary ABC",
	} {
		for name, text := range map[string]string{
			"alone":             record(1, "i1", line),
			"behind many":       strings.Repeat(record(1, "i1", "a === b, ✓ done"), 5000) + record(1, "i1", line) + record(1, "i1", "hello"),
			"raw, without end":  record(1, "i1", "hello") + line,
			"after a long line": strings.Repeat("=", 3*edge) + "\n" + record(1, "i1", line),
		} {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "x.log"), text)
			if r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()}); err != nil || r.Result != Clean {
				t.Errorf("%q, %s: %v, %s", line, name, err, r.Reason)
			}
		}
	}
}
