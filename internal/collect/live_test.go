package collect

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
)

// orchestratorSays appends what a sandbox's console says to a log file.
func orchestratorSays(t *testing.T, log, sandbox, message string) {
	t.Helper()
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "2026-01-20T10:00:01.250Z  INFO  %s\r  {\"sandbox.id\": %q}\n", message, sandbox); err != nil {
		t.Fatal(err)
	}
}

// The wait for envd ends where the log says that the guest has ended, and only
// where envd does not answer: whatever a line says, an answer is an answer.
func TestTheGuestsEndEndsTheWait(t *testing.T) {
	const panicked = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00"
	for _, test := range []struct {
		name, sandbox, line string
		// body is what the proxy says to whoever asks envd.
		body string
		// heals: envd answers after all, a moment after the line.
		heals bool
		kind  evidence.ProblemKind
		early bool
	}{
		{name: "a panic", sandbox: "i1", line: panicked, kind: evidence.ProblemBoot, early: true},
		{name: "the machine's end", sandbox: "i1", line: "error waiting for fc process", kind: evidence.ProblemInfra, early: true},
		{name: "the machine's end, which the proxy has not noticed", sandbox: "i1", line: "error waiting for fc process", body: portClosed, kind: evidence.ProblemInfra, early: true},
		{name: "a panic of another sandbox", sandbox: "i2", line: panicked, kind: evidence.ProblemInfra},
		{name: "a line that lies", sandbox: "i1", line: panicked, heals: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			log := filepath.Join(dir, "start.stdout.0")
			if err := os.WriteFile(log, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			w := healthyWorld()
			w.healthStatus, w.healthBody = http.StatusBadGateway, test.body
			s := newSession(t, w)
			s.options.Intervals.EnvdReady = sureOfEnd * 3 / 2
			s.options.Logs = []logscan.Source{logscan.Files{Dirs: dir, Task: "start", Settle: time.Millisecond, Poll: 10 * time.Millisecond}}
			var shown []string // by the window's goroutine, until Close
			s.options.Live = func(text string) { shown = append(shown, text) }
			s.Open(t.Context())
			orchestratorSays(t, log, "i1", "=== E2B Init Starting ===")
			orchestratorSays(t, log, test.sandbox, test.line)
			if test.heals {
				time.AfterFunc(sureOfEnd/2, func() {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.healthStatus = http.StatusNoContent
				})
			}
			s.Collect(t.Context(), evidence.PieceHealth)
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			p := s.Evidence().ProblemOf(evidence.PieceHealth)
			if test.heals {
				if p != nil || s.Evidence().Health == nil {
					t.Errorf("problem %+v, and envd answered", p)
				}
				return
			}
			if p == nil || p.Kind != test.kind || strings.HasSuffix(p.Error, "\n"+test.line) != test.early {
				t.Errorf("problem %+v", p)
			}
			if text := strings.Join(shown, "\n"); !strings.HasPrefix(text, "BT001 control: === E2B Init Starting ===") || strings.Contains(text, test.line) != test.early {
				t.Errorf("shown: %q", text)
			}
		})
	}
}

// What is shown is bounded.
func TestLiveIsBounded(t *testing.T) {
	var shown []string
	s := New(Options{Live: func(text string) { shown = append(shown, text) }})
	saw := s.saw()
	for range 10 * maxLiveLines {
		saw(logscan.Line{Rule: "CG003", Class: evidence.FindingFailure, Message: "falling back"})
	}
	if len(shown) != maxLiveLines+1 || !strings.Contains(shown[maxLiveLines], "not shown") {
		t.Errorf("%d lines, %q", len(shown), shown[len(shown)-1])
	}
	saw(logscan.Line{End: logscan.EndPanic})
	if !s.ended.already() {
		t.Error("the end is not seen where nothing is shown any more")
	}
}
