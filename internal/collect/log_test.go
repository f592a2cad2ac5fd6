package collect

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
)

// TestAPILog: what the API's own log of a sandbox says of failures is heard; its
// silence, its boot lines and its absence change nothing.
func TestAPILog(t *testing.T) {
	line := func(message string) string {
		return `{"timestamp":"2026-11-23T12:00:01Z","level":"info","fields":{},"message":"` + message + `"}`
	}
	for _, test := range []struct {
		name, logs string
		want       []string // rules of findings
		entries    int
		error      string
	}{
		{"silent", `{"logs":[]}`, nil, 0, ""},
		{"a failure", `{"logs":[` + line("hello") + "," + line("falling back to no-op cgroup manager") + `]}`, []string{"CG003"}, 2, ""},
		{"boot lines and a canary", `{"logs":[` + line("=== Starting envd ===") + "," + line("sandproof canary X") + `]}`, nil, 2, ""},
		{"another server's answer", "{}", nil, 0, "list of lines"},
		{"no such log", "", nil, 0, "404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "alloc", "logs")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "orchestrator.stdout.0"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			w := healthyWorld()
			w.logs = test.logs
			s := newSession(t, w)
			s.options.Logs = []logscan.Source{logscan.Files{Dirs: dir, Task: "orchestrator", Settle: time.Millisecond, Poll: 10 * time.Millisecond}}
			s.Open(t.Context())
			s.Collect(t.Context(), evidence.PieceLog)
			log := s.Evidence().Log
			if log == nil || log.API == nil {
				t.Fatalf("log %+v, problems %+v", log, s.Evidence().Problems)
			}
			var rules []string
			for _, f := range log.Findings {
				rules = append(rules, f.Rule)
			}
			if !slices.Equal(rules, test.want) || log.API.Entries != test.entries {
				t.Errorf("findings %q of %d entries, want %q of %d", rules, log.API.Entries, test.want, test.entries)
			}
			if !strings.Contains(log.API.Error, test.error) || test.error == "" && log.API.Error != "" {
				t.Errorf("error %q, want %q", log.API.Error, test.error)
			}
			read := func(c evidence.Coverage) bool { return c.To > c.From }
			if slices.ContainsFunc(log.Coverage, read) || log.OwnRecords != 0 {
				t.Errorf("the API's log is said to have covered something: %+v", log)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
