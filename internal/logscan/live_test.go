package logscan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"sandproof/internal/evidence"
)

const panicked = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00"

// The live view shows what is the sandbox's by its fields, from the mark on and
// however early it came, and knows which lines say that its guest has ended.
func TestShow(t *testing.T) {
	control, failure, unknown := evidence.FindingControl, evidence.FindingFailure, evidence.FindingUnknown
	for _, test := range []struct {
		name, line string
		want       []Line
	}{
		{"a boot line", record("iours", "=== E2B Init Starting ==="), []Line{{Rule: "BT001", Class: control, Message: "=== E2B Init Starting ==="}}},
		{"a failure", record("iours", "falling back to no-op cgroup manager"), []Line{{Rule: "CG003", Class: failure, Message: "falling back to no-op cgroup manager"}}},
		{"unknown trouble", record("iours", "cgroup v9: operation not permitted"), []Line{{Rule: "CG0U0", Class: unknown, Message: "cgroup v9: operation not permitted"}}},
		{"a panic", record("iours", "[    3.141592] "+panicked), []Line{{Message: panicked, End: EndPanic}}},
		{"a panic in JSON", `{"message":"` + panicked + `","sandbox.id":"iours"}` + "\n", []Line{{Message: panicked, End: EndPanic}}},
		{"the machine's end", record("iours", "error waiting for fc process"), []Line{{Message: "error waiting for fc process", End: EndExit}}},
		{"a panic of another sandbox", record("iother", panicked), nil},
		{"a panic of nobody's", panicked + "\n", nil},
		{"a panic that is named by the text alone", "-> [sandbox iours] " + panicked + "\n", nil},
		{"a panic within a line", record("iours", "watch for "+panicked), nil},
		{"a panic that a user's command quotes", record("iours", `{"message":"`+panicked+`"}`), nil},
		{"the end of a panic", record("iours", "---[ end "+panicked+" ]---"), nil},
		{"a canary", record("iours", evidence.CanaryLine("ABC")), nil},
		{"no harm", record("iours", "cgroup: Disabling memory control group subsystem"), nil},
		{"another line", record("iours", "hello"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, early := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					defer letGo()
					n := newNode(t)
					n.write("a", "orchestrator.stdout.0", record("iours", "falling back to no-op cgroup manager")) // before the mark
					w := n.open()
					if early {
						n.write("a", "orchestrator.stdout.0", test.line)
						pass(3 * followPoll)
					}
					w.Watch(t.Context(), "iours", settling)
					var shown []Line
					w.Show(t.Context(), func(l Line) { shown = append(shown, l) })
					if !early {
						n.write("b", "orchestrator.stdout.0", test.line) // a new allocation
					}
					pass(5*followPoll + 2*poll)
					w.Close()
					if !slices.Equal(shown, test.want) {
						t.Errorf("early %v: shown %+v, want %+v", early, shown, test.want)
					}
				})
			}
		})
	}
}

// Who shows the lines may be slow: the follower never waits, the exact read
// misses nothing, and what is kept meanwhile is bounded.
func TestShowNeverHoldsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "")
		w := n.open()
		w.Watch(t.Context(), "iours", settling)
		hold, shown := make(chan struct{}), 0
		w.Show(t.Context(), func(Line) {
			<-hold
			shown++
		})
		var lines strings.Builder
		for i := range 3 * maxQueued {
			lines.WriteString(record("iours", fmt.Sprintf("cgroup v9: denied %d", i)))
		}
		for range 2 {
			n.write("a", "orchestrator.stdout.0", lines.String())
			pass(5 * followPoll)
		}
		log, err := w.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if log.OwnRecords != 6*maxQueued || log.TailLost != 0 {
			t.Errorf("%d records and %d lost by the follower, with nobody taking what it saw", log.OwnRecords, log.TailLost)
		}
		close(hold)
		pass(3 * followPoll)
		w.Close()
		if shown == 0 || shown > 2*maxQueued {
			t.Errorf("%d lines were shown of what may wait", shown)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	q := &queue{}
	q.put("cgroup " + strings.Repeat("x", maxQueuedLine))
	q.put("of no interest")
	if got := q.take(); len(got) > 0 {
		t.Errorf("%.50q is kept", got)
	}
	long := "cgroup " + strings.Repeat("x", maxQueuedLine-100)
	for i := range 200 {
		q.put(fmt.Sprintf("%s %d", long, i))
	}
	size := 0
	got := q.take()
	for _, line := range got {
		size += len(line)
	}
	if size > maxQueuedBytes || !strings.HasSuffix(got[len(got)-1], " 199") || q.size != 0 {
		t.Errorf("%d bytes are kept, the last of them %.20q", size, got[len(got)-1])
	}
}
