package logscan

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sandproof/internal/evidence"
)

// TestBrokenPipelines: what can go wrong between a guest's console and the log
// that is read, with a guest whose envd complains and with one that is healthy.
// A complaint is never read as health, and health never as a complaint.
func TestBrokenPipelines(t *testing.T) {
	complaint := append(slices.Clone(boot), failure, fallback)
	skewed := func(text string) string { return strings.ReplaceAll(text, "2026-01-20T10:", "2025-07-01T03:") }
	warningsOnly := func(string) string { return record("iours", "sandbox resumed") }
	for _, test := range []struct {
		row, name               string
		before                  func(n node)
		pipe                    func(text string) string // what comes out of the pipeline
		during                  func(n node, text string)
		wantBroken, wantHealthy string
	}{
		{row: "", name: "a whole pipeline", wantBroken: "red", wantHealthy: "green"},
		{row: "D1", name: "no console: nothing of the guest comes out", pipe: warningsOnly, wantBroken: "unproven", wantHealthy: "unproven"},
		{row: "D2", name: "the lines stay in the guest's journal", pipe: warningsOnly, wantBroken: "unproven", wantHealthy: "unproven"},
		{
			row: "D3", name: "only a stale allocation is found",
			before: func(n node) {
				n.write("old", "orchestrator.stdout.0", records("iold", complaint...)+records("iours2", boot...))
			},
			during: func(node, string) {}, wantBroken: "unproven", wantHealthy: "unproven",
		},
		{
			row: "D4", name: "cut in the middle of the run",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old and long enough to be cut\n") },
			during: func(n node, text string) {
				if err := os.Truncate(n.path("a", "orchestrator.stdout.0"), 3); err != nil {
					n.t.Fatal(err)
				}
				pass(2 * poll)
				n.write("a", "orchestrator.stdout.0", text)
			},
			// What was written after the cut may lie before the mark.
			wantBroken: "red", wantHealthy: "unproven",
		},
		{
			row: "D4", name: "rotated and removed in the middle of the run",
			during: func(n node, text string) {
				n.write("a", "orchestrator.stdout.0", text)
				pass(2 * poll)
				n.write("a", "orchestrator.stdout.1", record("iours", "hello"))
				n.remove(n.path("a", "orchestrator.stdout.0"))
			},
			wantBroken: "red", wantHealthy: "green",
		},
		{
			row: "D5", name: "another sandbox's failures between ours",
			pipe: func(text string) string {
				return records("iother", complaint...) + text + records("iother", failure, fallback)
			},
			wantBroken: "red", wantHealthy: "green",
		},
		{row: "D6", name: "resumed: the boot was logged at the build", pipe: warningsOnly, wantBroken: "unproven", wantHealthy: "unproven"},
		{
			row: "D9", name: "marked after the boot",
			before:     func(n node) { n.write("a", "orchestrator.stdout.0", records("iours", complaint...)) },
			during:     func(n node, _ string) { n.write("a", "orchestrator.stdout.0", record("iours", "hello")) },
			wantBroken: "unproven", wantHealthy: "unproven",
		},
		{row: "D11", name: "a level filter takes the guests' lines away", pipe: warningsOnly, wantBroken: "unproven", wantHealthy: "unproven"},
		{row: "D12", name: "clocks hours apart", pipe: skewed, wantBroken: "red", wantHealthy: "green"},
		{
			row: "D14", name: "another wording",
			pipe: func(text string) string {
				text = strings.ReplaceAll(text, failure, "cgroup limits of user could not be applied: permission denied")
				return strings.ReplaceAll(text, fallback, "no cgroup manager: continuing unconfined after an error")
			},
			wantBroken: "unproven", wantHealthy: "green",
		},
	} {
		for guest, lines := range map[string][]string{"broken": complaint, "healthy": boot} {
			t.Run(fmt.Sprintf("%s %s, %s", test.row, test.name, guest), func(t *testing.T) {
				text := records("iours", lines...)
				if test.pipe != nil {
					text = test.pipe(text)
				}
				log := window(t, test.before, func(n node) {
					if test.during != nil {
						test.during(n, text)
						return
					}
					n.write("a", "orchestrator.stdout.0", text)
				})
				want := test.wantHealthy
				if guest == "broken" {
					want = test.wantBroken
				}
				if got := reading(log); got != want {
					t.Errorf("read as %s, want %s: %+v", got, want, log)
				}
				if test.row == "D5" && guest == "healthy" && slices.ContainsFunc(log.Findings, func(f evidence.Finding) bool { return f.Class == evidence.FindingFailure }) {
					t.Errorf("another sandbox's failure is a finding: %+v", log.Findings)
				}
			})
		}
	}
}
