package logscan

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// Line is one line of a sandbox as it came, for the live view. No outcome rests
// on it.
type Line struct {
	// Rule and Class are those of the rule that knows it; empty where it tells
	// the guest's end alone.
	Rule    string
	Class   evidence.FindingClass
	Message string // normalised, and untrusted
	// End is set where the line says that nothing in the guest runs any more.
	End End
}

// End is how a guest ended, by the word of a line.
type End string

// The ends.
const (
	// EndPanic: the guest's kernel stopped.
	EndPanic End = "panic"
	// EndExit: the orchestrator's virtual machine did.
	EndExit End = "exit"
)

// endings are what lines begin with that say that a guest has ended: the
// kernel's (Linux kernel/panic.c) and the orchestrator's (e2b-dev/infra
// packages/orchestrator, fc/process.go, where cmd.Wait fails).
var endings = []struct {
	text string
	end  End
}{
	{"Kernel panic - not syncing", EndPanic},
	{"error waiting for fc process", EndExit},
}

// The bounds of what waits to be looked at: lines, and bytes of them all and of
// one. Where more comes, the oldest go: the live view may miss lines, and a
// follower never waits.
const (
	maxQueued      = 1000
	maxQueuedBytes = 512 << 10
	maxQueuedLine  = 16 << 10
)

// queue keeps the last lines that the followers saw and that may be worth
// showing: those before a sandbox's name is known, too.
type queue struct {
	mu    sync.Mutex
	lines []string
	size  int
}

// put takes a line and never waits for who looks at it.
func (q *queue) put(line string) {
	if len(line) > maxQueuedLine || !worthShowing(line) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines, q.size = append(q.lines, line), q.size+len(line)
	for len(q.lines) > maxQueued || q.size > maxQueuedBytes {
		q.size -= len(q.lines[0])
		q.lines = q.lines[1:]
	}
}

// take returns what has come since it was last asked.
func (q *queue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.lines
	q.lines, q.size = nil, 0
	return lines
}

// shownSigns are what a line holds that may be worth showing. They are looked
// for as they are printed, since every line of a busy node's log is looked at.
var shownSigns = func() []string {
	signs := []string{"cgroup", "falling back", "host metrics", "===", "--- [GUEST]", "✓"}
	for _, e := range endings {
		signs = append(signs, e.text)
	}
	return signs
}()

// worthShowing holds back what no rule knows and what ends no guest, as nearly
// every line of a log does. A line that it misses is not shown, and no more.
func worthShowing(line string) bool {
	return slices.ContainsFunc(shownSigns, func(sign string) bool { return strings.Contains(line, sign) })
}

// follows is a stretch whose lines are followed as they come.
type follows interface{ live() *queue }

// view shows one sandbox's lines.
type view struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// newView shows lines beyond the context that it is begun in, until its end.
func newView(ctx context.Context, stretches []Stretch, sandbox string, secrets *redact.Redactor, show func(Line)) *view {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	v := &view{cancel: cancel}
	v.done.Go(func() {
		tick := time.NewTicker(followPoll)
		defer tick.Stop()
		for {
			for _, stretch := range stretches {
				if s, ok := stretch.(follows); ok {
					for _, line := range s.live().take() {
						showLine(line, sandbox, secrets, show)
					}
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return v
}

// end stops showing; it may be called any number of times.
func (v *view) end() {
	v.cancel()
	v.done.Wait()
}

// showLine hands out what a line says of the sandbox, where its fields name it.
// A message that goes on over several lines has its fields in the last one, and
// what stands before is not shown.
func showLine(line, sandbox string, secrets *redact.Redactor, show func(Line)) {
	for _, record := range Records([]byte(line)) {
		if record.SandboxID != sandbox || record.ByText || record.Structured {
			continue
		}
		l := Line{Message: Bounded(record.Message, secrets)}
		for _, e := range endings {
			if strings.HasPrefix(record.Message, e.text) {
				l.End = e.end
			}
		}
		if rule := Classify(record); rule != nil && rule.Class != evidence.FindingBenign && rule.ID != CanaryRule {
			l.Rule, l.Class = rule.ID, rule.Class
		}
		if l.End != "" || l.Rule != "" {
			show(l)
		}
	}
}
