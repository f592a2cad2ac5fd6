package logscan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/evidence"
)

// The waits of the tests; they run on a bubble's clock and cost nothing.
const (
	settle = 150 * time.Millisecond
	poll   = 100 * time.Millisecond
	quiet  = 600 * time.Millisecond
	limit  = 15 * time.Second
)

var settling = Settling{Quiet: quiet, Cap: limit, Poll: poll}

const (
	failure  = "failed to write cgroup property: open /sys/fs/cgroup/user/cpu.weight: permission denied"
	fallback = "falling back to no-op cgroup manager"
)

// boot is what a healthy guest with the mended init prints.
var boot = []string{
	"=== E2B Init Starting ===", "✓ Filesystems mounted (with cgroup delegation)", "✓ Network configured",
	"=== Starting envd ===", "=== Init complete, envd started ===",
}

// record is a guest's console line as it stands in the orchestrator's log.
func record(sandbox, message string) string {
	return fmt.Sprintf("2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  %s\r  {\"service\": \"orchestrator\", \"sandbox.id\": %q}\n", message, sandbox)
}

func records(sandbox string, messages ...string) string {
	var text strings.Builder
	for _, m := range messages {
		text.WriteString(record(sandbox, m))
	}
	return text.String()
}

// node is a directory of allocations, as Nomad has it.
type node struct {
	t    *testing.T
	root string
}

func newNode(t *testing.T) node {
	t.Helper()
	return node{t, t.TempDir()}
}

func (n node) path(alloc, file string) string {
	return filepath.Join(n.root, "alloc", alloc, "alloc", "logs", file)
}

// write appends to a log file and makes it, and its allocation, if need be.
func (n node) write(alloc, file, text string) {
	n.t.Helper()
	path := n.path(alloc, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		n.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		n.t.Fatal(err)
	}
}

func (n node) remove(path string) {
	n.t.Helper()
	if err := os.RemoveAll(path); err != nil {
		n.t.Fatal(err)
	}
}

func (n node) source() Files {
	return Files{Dirs: filepath.Join(n.root, "alloc", "*", "alloc", "logs"), Task: "orchestrator", Settle: settle, Poll: poll}
}

func (n node) open() *Window {
	n.t.Helper()
	w, err := Open(n.t.Context(), []Source{n.source()})
	if err != nil {
		n.t.Fatal(err)
	}
	return w
}

// held is what a window keeps open of the node's files.
func (n node) held(w *Window) map[string]*held {
	n.t.Helper()
	stretch, ok := w.stretches[0].(*fileStretch)
	if !ok {
		n.t.Fatalf("the window's source is a %T", w.stretches[0])
	}
	return stretch.files
}

func (n node) read(w *Window) *evidence.Log {
	n.t.Helper()
	w.Watch(n.t.Context(), "iours", settling)
	log, err := w.Read(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return log
}

// pass lets the bubble's time go by, and everything with it.
func pass(d time.Duration) { <-time.After(d) }

// letGo is how a test on a bubble's clock ends: the follower's library lets its
// goroutines go at their next look at the file. One that stays fails the test.
func letGo() { pass(2 * followPoll) }

// window opens a window on a node, lets something happen, reads the window and
// closes it, with nothing left behind.
func window(t *testing.T, before, during func(n node)) *evidence.Log {
	t.Helper()
	var log *evidence.Log
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		if before != nil {
			before(n)
		}
		w := n.open()
		pass(poll)
		during(n)
		log = n.read(w)
		w.Close()
		if open := n.descriptors(); len(open) > 0 {
			t.Errorf("descriptors left open after Close: %q", open)
		}
	})
	return log
}

// descriptors lists what this process holds open below the node.
func (n node) descriptors() []string {
	n.t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		n.t.Fatal(err)
	}
	var held []string
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.HasPrefix(target, n.root) {
			held = append(held, target)
		}
	}
	return held
}

// reading sums a log up as the requirement on it does: red for a failure that
// is surely ours, green for a silence that proves something.
func reading(log *evidence.Log) string {
	alive, doubtful := false, false
	for _, f := range log.Findings {
		sure := f.Confidence == evidence.ByField
		switch {
		case f.Class == evidence.FindingFailure && sure:
			return "red"
		case f.Class == evidence.FindingFailure, f.Class == evidence.FindingUnknown:
			doubtful = true
		case f.Class == evidence.FindingControl && sure:
			alive = true
		}
	}
	if alive && !doubtful && log.Settled && len(log.Coverage) > 0 && len(log.Holes) == 0 {
		return "green"
	}
	return "unproven"
}

// found lists findings by rule, confidence and offset.
func found(log *evidence.Log) []string {
	list := make([]string, 0, len(log.Findings))
	for _, f := range log.Findings {
		list = append(list, fmt.Sprintf("%s %s %d", f.Rule, f.Confidence, f.Offset))
	}
	return list
}

// TestManualCheck: the deployment guide's check is `tail -100
// …/orchestrator.stdout.0 | grep -E "cgroup|falling back"`, where no output is
// read as health. These are the cases in which it was tried.
func TestManualCheck(t *testing.T) {
	noise := strings.Repeat(record("iother", "listening on 0.0.0.0:8080"), 150)
	for _, test := range []struct {
		name           string
		before, during func(n node)
		want           string
	}{
		{
			name: "failure within the last lines of index 0", want: "red",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", records("iours", append(boot, failure, fallback)...))
			},
		},
		{
			name: "the log rotated, the failure in index 3", want: "red",
			during: func(n node) {
				for i := range 3 {
					n.write("a", fmt.Sprintf("orchestrator.stdout.%d", i), noise)
				}
				n.write("a", "orchestrator.stdout.3", records("iours", append(boot, failure)...))
			},
		},
		{
			name: "index 0 purged, the failure in index 12", want: "red",
			during: func(n node) {
				for i := range 12 {
					n.write("a", fmt.Sprintf("orchestrator.stdout.%d", i), noise)
					pass(poll)
				}
				n.remove(n.path("a", "orchestrator.stdout.0"))
				n.remove(n.path("a", "orchestrator.stdout.1"))
				n.write("a", "orchestrator.stdout.12", records("iours", append(boot, failure)...))
			},
		},
		{
			name: "failure, then 150 more lines", want: "red",
			during: func(n node) { n.write("a", "orchestrator.stdout.0", records("iours", append(boot, fallback)...)+noise) },
		},
		{
			name: "the mended init's own banner says cgroup", want: "green",
			during: func(n node) { n.write("a", "orchestrator.stdout.0", records("iours", boot...)) },
		},
		{
			name: "the old allocation failed, the present one is clean", want: "green",
			before: func(n node) {
				n.write("old", "orchestrator.stdout.0", records("iold", append(boot, failure, fallback)...)+failure+"\n")
			},
			during: func(n node) { n.write("new", "orchestrator.stdout.0", records("iours", boot...)) },
		},
		{
			name: "the old allocation is clean, the present one failed", want: "red",
			before: func(n node) { n.write("old", "orchestrator.stdout.0", records("iold", boot...)) },
			during: func(n node) { n.write("new", "orchestrator.stdout.0", records("iours", append(boot, fallback)...)) },
		},
		{
			name: "another sandbox failed, ours is clean", want: "green",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", records("iours", boot...)+records("iother", failure, fallback))
			},
		},
		{
			name: "the console is not forwarded, or the guest was resumed", want: "unproven",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", records("iours", "creating sandbox", "-> [sandbox iours]: initialized new envd"))
			},
		},
		{
			name: "kernel lines cut into every line of envd", want: "unproven",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", records("iours", append(slices.Clone(boot),
					"failed to create cgr[    1.23] random: crng init done", "oup2 manager: failed to cr[    1.24] x: y", "falling back to no-op c[    1.25] z")...))
			},
		},
		{
			name: "the failure is still in the writer's buffer", want: "red",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", records("iours", boot...))
				go func() {
					pass(quiet - poll)
					n.write("a", "orchestrator.stdout.0", record("iours", fallback))
				}()
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := window(t, test.before, test.during)
			if got := reading(log); got != test.want {
				t.Errorf("read as %s, want %s: %+v", got, test.want, log)
			}
			if log.TailLost != 0 {
				t.Errorf("the follower is said to have lost %d lines", log.TailLost)
			}
		})
	}
}

// TestForeign: lines of another sandbox are counted and not shown; one that
// names nobody is ours by its time only.
func TestForeign(t *testing.T) {
	named := records("iours", boot[0], "hello") + records("iother", failure, fallback, "hello")
	log := window(t, nil, func(n node) { n.write("a", "orchestrator.stdout.0", named+"\x00"+fallback+"\r\n") })
	if diff := cmp.Diff([]string{"BT001 field 0", fmt.Sprintf("CG003 window %d", len(named))}, found(log)); diff != "" {
		t.Errorf("findings, -want +got:\n%s", diff)
	}
	if log.Foreign != 2 || log.OwnRecords != 2 {
		t.Errorf("%d foreign and %d own records, want 2 and 2", log.Foreign, log.OwnRecords)
	}
}

// TestIdle: where nothing came, the ledger names the file that was written to
// last, and when, so that a stale allocation is seen to be one.
func TestIdle(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 10, 0, 0, 0, time.UTC) }
	log := window(t, func(n node) {
		for alloc, at := range map[string]time.Time{"older": day(3), "stale": day(5)} {
			n.write(alloc, "orchestrator.stdout.0", records("iold", boot...))
			n.write(alloc, "orchestrator.stderr.0", "")
			if err := os.Chtimes(n.path(alloc, "orchestrator.stdout.0"), at, at); err != nil {
				n.t.Fatal(err)
			}
		}
	}, func(node) {})
	if len(log.Coverage) != 1 || !strings.HasSuffix(log.Coverage[0].Source, "/stale/alloc/logs/orchestrator.stdout.0") ||
		log.Coverage[0].From != log.Coverage[0].To || !log.Coverage[0].Written.Equal(day(5)) {
		t.Errorf("the ledger is %+v", log.Coverage)
	}
}

// TestEvidence: a finding can be looked up in the file, and the ledger says
// which bytes were read.
func TestEvidence(t *testing.T) {
	old := records("iold", boot...)
	lines := records("iours", "hello", fallback)
	log := window(t,
		func(n node) { n.write("a", "orchestrator.stdout.0", old) },
		func(n node) { n.write("a", "orchestrator.stdout.0", lines) })
	if len(log.Findings) != 1 || len(log.Coverage) != 1 {
		t.Fatalf("%d findings and %d stretches, want one each: %+v", len(log.Findings), len(log.Coverage), log)
	}
	f, c := log.Findings[0], log.Coverage[0]
	at := int64(len(old) + len(record("iours", "hello")))
	if f.Offset != at || !strings.HasSuffix(f.Source, "/a/alloc/logs/orchestrator.stdout.0") || f.Message != fallback {
		t.Errorf("finding %q at %s:%d, want %q at %d", f.Message, f.Source, f.Offset, fallback, at)
	}
	if f.Raw != strings.TrimSuffix(record("iours", fallback), "\n") {
		t.Errorf("raw bytes %q", f.Raw)
	}
	if want := time.Date(2026, 1, 20, 10, 0, 1, 250e6, time.UTC); !f.Time.Equal(want) {
		t.Errorf("time %s, want %s", f.Time, want)
	}
	if !log.First.Equal(f.Time) {
		t.Errorf("the sandbox's first record is of %s, want %s", log.First, f.Time)
	}
	if c.From != int64(len(old)) || c.To != int64(len(old)+len(lines)) || c.Source != f.Source {
		t.Errorf("covered %+v, want %d to %d", c, len(old), len(old)+len(lines))
	}
	if !log.Start.Before(log.End) {
		t.Errorf("the window goes from %s to %s", log.Start, log.End)
	}
}

// TestLines: lines that the marks or the files' ends cut.
func TestLines(t *testing.T) {
	ours := record("iours", fallback)
	half := len(ours) / 2
	big := record("iother", strings.Repeat("x", 100<<10))
	for _, test := range []struct {
		name           string
		before, during func(n node)
		want           []string // rule and offset of each finding
	}{
		{
			name:   "begun before the mark, ended after it",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n"+ours[:half]) },
			during: func(n node) { n.write("a", "orchestrator.stdout.0", ours[half:]) },
			want:   []string{"CG003 field 4"},
		},
		{
			name: "torn off in an old allocation, and never ended",
			before: func(n node) {
				n.write("old", "orchestrator.stdout.0", "x\n"+fallback)
				n.write("a", "orchestrator.stdout.0", "x\n")
			},
			during: func(n node) { n.write("a", "orchestrator.stdout.0", record("iours", "hello")) },
		},
		{
			name: "torn off in an old index, where the next has begun a line of its own",
			before: func(n node) {
				n.write("a", "orchestrator.stdout.0", "x\n"+fallback)
				n.write("a", "orchestrator.stdout.1", " and so on\n")
			},
			during: func(n node) { n.write("a", "orchestrator.stdout.1", record("iours", boot[0])) },
			want:   []string{"BT001 field 11"},
		},
		{
			name:   "no end at the end mark",
			during: func(n node) { n.write("a", "orchestrator.stdout.0", "x\n"+strings.TrimSuffix(ours, "\n")) },
			want:   []string{"CG003 field 2"},
		},
		{
			name:   "torn at the end mark, so that it names nobody",
			during: func(n node) { n.write("a", "orchestrator.stdout.0", ours[:strings.Index(ours, "  {")+10]) },
			want:   []string{"CG003 window 0"},
		},
		{
			name: "split over two files",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", "x\n"+ours[:half])
				n.write("a", "orchestrator.stdout.1", ours[half:]+record("iours", boot[0]))
			},
			want: []string{"CG003 field 2", fmt.Sprintf("BT001 field %d", len(ours)-half)},
		},
		{
			name:   "split over three files, the first part before the mark",
			before: func(n node) { n.write("a", "orchestrator.stdout.7", "x\n"+ours[:10]) },
			during: func(n node) {
				n.write("a", "orchestrator.stdout.8", ours[10:half])
				n.write("a", "orchestrator.stdout.9", ours[half:])
			},
			want: []string{"CG003 field 2"},
		},
		{
			name: "the other stream's torn line is not its beginning",
			during: func(n node) {
				n.write("a", "orchestrator.stderr.0", ours[:half])
				n.write("a", "orchestrator.stdout.0", ours)
			},
			want: []string{"CG003 field 0", "CG0F0 window 0"},
		},
		{
			name: "numeric order of indices",
			before: func(n node) {
				n.write("a", "orchestrator.stdout.9", "x\n")
			},
			during: func(n node) {
				n.write("a", "orchestrator.stdout.9", ours[:half])
				n.write("a", "orchestrator.stdout.10", ours[half:])
			},
			want: []string{"CG003 field 2"},
		},
		{
			name:   "a big line of another sandbox is theirs",
			during: func(n node) { n.write("a", "orchestrator.stdout.0", big+ours) },
			want:   []string{fmt.Sprintf("CG003 field %d", len(big))},
		},
		{
			name:   "a line beyond all bounds is said, and the next is read",
			during: func(n node) { n.write("a", "orchestrator.stdout.0", strings.Repeat("x", 3*maxLine)+"\n"+ours) },
			want:   []string{"CG0L0 exclusion 0", fmt.Sprintf("CG003 field %d", 3*maxLine+1)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := window(t, test.before, test.during)
			if diff := cmp.Diff(append([]string{}, test.want...), found(log)); diff != "" {
				t.Errorf("findings, -want +got:\n%s", diff)
			}
			if len(log.Holes) > 0 {
				t.Errorf("holes %q", log.Holes)
			}
		})
	}
}

// TestLedger: what was not read is said, and what was read is not called a
// hole.
func TestLedger(t *testing.T) {
	ours := records("iours", boot...)
	for _, test := range []struct {
		name           string
		before, during func(n node)
		hole           string // a part of the hole's text; empty: no hole
		findings       int
	}{
		{
			name:   "a held file is removed",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") },
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", ours)
				n.remove(n.path("a", "orchestrator.stdout.0"))
				n.write("a", "orchestrator.stdout.1", record("iours", "hello"))
			},
			findings: len(boot),
		},
		{
			name: "a file comes and is removed",
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", ours)
				pass(2 * poll)
				n.remove(n.path("a", "orchestrator.stdout.0"))
			},
			hole: "the newest of its allocation, was removed", findings: len(boot),
		},
		{
			name:   "an allocation that ended before the window is collected",
			before: func(n node) { n.write("old", "orchestrator.stdout.0", "old\n") },
			during: func(n node) {
				n.write("new", "orchestrator.stdout.0", ours)
				n.remove(filepath.Join(n.root, "alloc", "old"))
			},
			findings: len(boot),
		},
		{
			name:   "an allocation that still wrote is collected",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") },
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", ours)
				n.remove(filepath.Join(n.root, "alloc", "a"))
				n.write("b", "orchestrator.stdout.0", record("iours", "hello"))
			},
			hole: "the newest of its allocation, was removed", findings: len(boot),
		},
		{
			name:   "an index came and went unseen",
			before: func(n node) { n.write("a", "orchestrator.stdout.4", "old\n") },
			during: func(n node) { n.write("a", "orchestrator.stdout.6", ours) },
			hole:   "orchestrator.stdout.6 begins at index 6, where 5 was expected", findings: len(boot),
		},
		{
			name:   "a new allocation of which the first files are gone",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") },
			during: func(n node) { n.write("b", "orchestrator.stdout.2", ours) },
			hole:   "orchestrator.stdout.2 begins at index 2, where 0 was expected", findings: len(boot),
		},
		{
			name: "a gap that is older than the window, before an empty file",
			before: func(n node) {
				n.write("a", "orchestrator.stdout.1", "old\n")
				n.write("a", "orchestrator.stdout.4", "")
			},
			during:   func(n node) { n.write("a", "orchestrator.stdout.4", ours) },
			findings: len(boot),
		},
		{
			name:     "the other stream begins",
			before:   func(n node) { n.write("a", "orchestrator.stdout.5", "old\n") },
			during:   func(n node) { n.write("a", "orchestrator.stderr.0", ours) },
			findings: len(boot),
		},
		{
			name:   "a file is cut below the mark",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old and long\n") },
			during: func(n node) {
				if err := os.Truncate(n.path("a", "orchestrator.stdout.0"), 3); err != nil {
					n.t.Fatal(err)
				}
			},
			hole: "was cut from 13 to 3 bytes",
		},
		{
			name:   "a file is cut while the log is awaited",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") },
			during: func(n node) {
				n.write("a", "orchestrator.stdout.0", ours)
				go func() {
					pass(quiet - poll/2)
					if err := os.Truncate(n.path("a", "orchestrator.stdout.0"), 10); err != nil {
						n.t.Error(err)
					}
				}()
			},
			hole: "was cut from",
		},
		{
			name:   "a file is replaced under its name",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") },
			during: func(n node) {
				n.remove(n.path("a", "orchestrator.stdout.0"))
				n.write("a", "orchestrator.stdout.0", ours)
			},
			hole: "was replaced by another file of its name",
		},
		{
			name:   "no file at all",
			during: func(node) {},
			hole:   "there is no log file",
		},
		{
			name:   "files of other tasks, links and directories are no log of this task",
			before: func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") },
			during: func(n node) {
				for _, name := range []string{"api.stdout.0", "xorchestrator.stdout.0", "orchestrator.stdout.0.gz", "orchestrator.stdout.", "orchestrator.stdout.x"} {
					n.write("a", name, record("iours", fallback))
				}
				if err := os.Symlink("api.stdout.0", n.path("a", "orchestrator.stdout.1")); err != nil {
					n.t.Fatal(err)
				}
				if err := os.Mkdir(n.path("a", "orchestrator.stdout.2"), 0o755); err != nil {
					n.t.Fatal(err)
				}
				n.write("a", "orchestrator.stdout.0", ours)
			},
			findings: len(boot),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := window(t, test.before, test.during)
			holes := strings.Join(log.Holes, "; ")
			if test.hole == "" && holes != "" || !strings.Contains(holes, test.hole) {
				t.Errorf("holes %q, want %q", holes, test.hole)
			}
			if len(log.Findings) != test.findings {
				t.Errorf("%d findings, want %d: %+v", len(log.Findings), test.findings, log.Findings)
			}
		})
	}
}

// TestStaleLines: what the writer holds back when the window is opened was
// logged before it.
func TestStaleLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		go func() {
			pass(settle - 10*time.Millisecond)
			n.write("a", "orchestrator.stdout.0", fallback+"\n")
		}()
		w := n.open()
		defer w.Close()
		n.write("a", "orchestrator.stdout.0", records("iours", boot...))
		if log := n.read(w); reading(log) != "green" {
			t.Errorf("read as %s: %+v", reading(log), log)
		}
	})
}

// TestNoLog: who named the wrong place, or the wrong task, is told what is there.
func TestNoLog(t *testing.T) {
	n := newNode(t)
	n.write("a", "api.stdout.0", "x\n")
	n.write("a", "start.stderr.3", "x\n")
	for _, test := range []struct {
		name string
		harm func(*Files)
		says string
	}{
		{"the right one", func(f *Files) { f.Task = "start" }, ""},
		{"another task", func(*Files) {}, "logs of other tasks, api, start"},
		{"a directory that is not there", func(f *Files) { f.Dirs = filepath.Join(n.root, "allocs", "*", "logs") }, "no directory is called"},
		{"a directory above", func(f *Files) { f.Dirs = filepath.Join(n.root, "alloc") }, "holds no file that is called as Nomad calls logs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := n.source()
			source.Settle = time.Millisecond
			test.harm(&source)
			w, err := Open(t.Context(), []Source{source})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			switch err := w.Missing(); {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}

// TestFIFOsAreNeverOpened: logmon's FIFOs stand beside the log files; a reader
// of them would take the task's output away.
func TestFIFOsAreNeverOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		fifos := []string{n.path("a", ".orchestrator.stdout.fifo"), n.path("a", "orchestrator.stdout.1"), n.path("a", "orchestrator.stdout.2")}
		for _, fifo := range fifos[:2] {
			if err := syscall.Mkfifo(fifo, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		w := n.open()
		defer w.Close()
		if err := syscall.Mkfifo(fifos[2], 0o644); err != nil {
			t.Fatal(err)
		}
		n.write("a", "orchestrator.stdout.0", records("iours", boot...))
		pass(3 * poll)
		for _, fifo := range fifos {
			f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if !errors.Is(err, syscall.ENXIO) {
				t.Errorf("%s has a reader (open: %v)", fifo, err)
				_ = f.Close()
			}
		}
		if log := n.read(w); reading(log) != "green" {
			t.Errorf("read as %s: %+v", reading(log), log)
		}
	})
}

// TestRotation: planted lines come out once each and in order, over indices
// that rise and are purged while they are read, with lines split over files.
func TestRotation(t *testing.T) {
	const lines, perFile, keep = 400, 8 << 10, 3
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		w := n.open()
		defer w.Close()
		var text strings.Builder
		for i := range lines {
			text.WriteString(record("iother", strings.Repeat("noise ", i%90)))
			text.WriteString(record("iours", fmt.Sprintf(`cgroup property "p%d" unavailable at "/sys/fs/cgroup/user", skipping`, i)))
		}
		index, rest := 0, text.String()
		for len(rest) > 0 {
			piece := rest[:min(len(rest), perFile)]
			rest = rest[len(piece):]
			index++
			n.write("a", fmt.Sprintf("orchestrator.stdout.%d", index), piece)
			pass(poll)
			if index >= keep {
				n.remove(n.path("a", fmt.Sprintf("orchestrator.stdout.%d", index-keep)))
			}
		}
		log := n.read(w)
		if len(log.Holes) > 0 || log.TailLost > 0 {
			t.Errorf("holes %q, %d lines lost by the followers", log.Holes, log.TailLost)
		}
		if log.OwnRecords != lines || len(log.Findings) != lines {
			t.Fatalf("%d own records and %d findings, want %d", log.OwnRecords, len(log.Findings), lines)
		}
		for i, f := range log.Findings {
			if want := fmt.Sprintf("p%d", i); f.Property != want {
				t.Fatalf("finding %d is of %s, want %s", i, f.Property, want)
			}
		}
	})
}

// TestFollowerLoses: what the live follower misses is counted and changes
// nothing.
func TestFollowerLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		w := n.open()
		defer w.Close()
		for _, h := range n.held(w) {
			h.follow.stop()
		}
		n.write("a", "orchestrator.stdout.0", records("iours", append(slices.Clone(boot), fallback)...))
		log := n.read(w)
		if got := reading(log); got != "red" || log.TailLost != len(boot)+1 {
			t.Errorf("read as %s with %d lines lost, want red with %d", got, log.TailLost, len(boot)+1)
		}
	})
}

// TestFollowerKeepsUp: a log that others fill until the very end mark is no
// loss of the follower's.
func TestFollowerKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		w := n.open()
		defer w.Close()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(7 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				n.write("a", "orchestrator.stdout.0", record("iother", "hello"))
				<-tick.C
			}
		}()
		pass(followPoll / 2) // the end mark is to lie between two looks
		log := n.read(w)
		stop()
		<-ended
		if log.TailLost != 0 || len(log.Holes) > 0 || !log.Settled {
			t.Errorf("%d lines lost, holes %q, settled %t", log.TailLost, log.Holes, log.Settled)
		}
	})
}

// TestFollowsOnlyWhatGrows: a file is final once the next index exists, so
// history costs no followers.
func TestFollowsOnlyWhatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		for i := range 10 {
			n.write("a", fmt.Sprintf("orchestrator.stdout.%d", i), "old\n")
		}
		n.write("a", "orchestrator.stderr.0", "")
		w := n.open()
		defer w.Close()
		var followed []string
		for path, h := range n.held(w) {
			if h.follow != nil {
				followed = append(followed, filepath.Base(path))
			}
		}
		slices.Sort(followed)
		if diff := cmp.Diff([]string{"orchestrator.stderr.0", "orchestrator.stdout.9"}, followed); diff != "" {
			t.Errorf("followed, -want +got:\n%s", diff)
		}
	})
}

// TestHoldsOnlyWhatMayGoOn: of a node's history only those files are held whose
// last line may go on in what is written next.
func TestHoldsOnlyWhatMayGoOn(t *testing.T) {
	for _, test := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"whole lines", []string{"a\n", "b\n", "c\n"}, []string{"2"}},
		{"a line over three files", []string{"a\n", "b\nfalling back", " to no-op", " cgroup"}, []string{"1", "2", "3"}},
		{"the next file was just begun", []string{"a\n", "b\nfalling back", ""}, []string{"1", "2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer letGo()
				n := newNode(t)
				for i, text := range test.files {
					n.write("a", fmt.Sprintf("orchestrator.stdout.%d", i), text)
				}
				w := n.open()
				defer w.Close()
				var got []string
				for path := range n.held(w) {
					got = append(got, strings.TrimPrefix(filepath.Ext(path), "."))
				}
				slices.Sort(got)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("held, -want +got:\n%s", diff)
				}
			})
		})
	}
}

// TestDirectoryBecomesFile: the follower's library ends the process when it
// cannot look at a name; nothing that happens to a log may end a run.
func TestDirectoryBecomesFile(t *testing.T) {
	log := window(t, func(n node) { n.write("a", "orchestrator.stdout.0", "old\n") }, func(n node) {
		n.write("a", "orchestrator.stdout.0", records("iours", boot...))
		logs := filepath.Dir(n.path("a", "x"))
		n.remove(logs)
		if err := os.WriteFile(logs, nil, 0o600); err != nil {
			n.t.Fatal(err)
		}
		pass(10 * followPoll)
	})
	if len(log.Findings) != len(boot) {
		t.Errorf("%d findings, want %d", len(log.Findings), len(boot))
	}
}

// TestSettling: the end mark waits for this sandbox's lines, and not for
// those of others.
func TestSettling(t *testing.T) {
	for _, test := range []struct {
		name    string
		sandbox string
		lines   int // one each half of quiet
		settled bool
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"silence", "iours", 0, true, quiet, quiet + 2*poll + settle},
		{"lines of ours", "iours", 6, true, 7 * quiet / 2, 5*quiet + settle},
		{"lines of others", "iother", 6, true, quiet, quiet + 2*poll + settle},
		{"ours never ends", "iours", 1000, false, limit, limit + 2*poll + settle},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer letGo()
				n := newNode(t)
				n.write("a", "orchestrator.stdout.0", "old\n")
				w := n.open()
				ctx, stop := context.WithCancel(t.Context())
				go func() {
					for range test.lines {
						select {
						case <-time.After(quiet / 2):
							n.write("a", "orchestrator.stdout.0", record(test.sandbox, "hello"))
						case <-ctx.Done():
							return
						}
					}
				}()
				started := time.Now()
				log := n.read(w)
				took := time.Since(started)
				stop()
				w.Close()
				if log.Settled != test.settled || took < test.atLeast || took > test.atMost {
					t.Errorf("settled %t after %s, want %t after %s to %s", log.Settled, took, test.settled, test.atLeast, test.atMost)
				}
			})
		})
	}
}

// TestQuietBefore: a log that was quiet before it is read need not be waited
// for, and a line that came a moment ago is never overlooked.
func TestQuietBefore(t *testing.T) {
	for name, line := range map[string]bool{"quiet": false, "a line a moment ago": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer letGo()
				n := newNode(t)
				n.write("a", "orchestrator.stdout.0", "old\n")
				w := n.open()
				defer w.Close()
				w.Watch(t.Context(), "iours", settling)
				<-time.After(2 * quiet)
				if line {
					n.write("a", "orchestrator.stdout.0", record("iours", "hello"))
				}
				started := time.Now()
				log, err := w.Read(t.Context())
				waited := time.Since(started) >= quiet
				if err != nil || !log.Settled || waited != line {
					t.Errorf("%v, %+v after %s", err, log, time.Since(started))
				}
			})
		})
	}
}

// TestGrownSeesCutNames: the sandbox's name counts wherever the looks at the
// file cut it, and once.
func TestGrownSeesCutNames(t *testing.T) {
	text := record("iours", "hello")
	name := strings.Index(text, "iours")
	for cut := name - 1; cut <= name+len("iours")+1; cut++ {
		synctest.Test(t, func(t *testing.T) {
			defer letGo()
			n := newNode(t)
			n.write("a", "orchestrator.stdout.0", "old\n")
			w := n.open()
			defer w.Close()
			s := w.stretches[0]
			seen := 0
			for _, piece := range []string{text[:cut], text[cut:], "more\n"} {
				n.write("a", "orchestrator.stdout.0", piece)
				if s.Came([]byte("iours"))[0] {
					seen++
				}
			}
			if seen != 1 {
				t.Errorf("cut at %d: seen %d times, want once", cut, seen)
			}
		})
	}
}

// TestTwoWindows: two sandboxes at once, each with its own window on the same
// files.
func TestTwoWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		first, second := n.open(), n.open()
		defer first.Close()
		n.write("a", "orchestrator.stdout.0", records("iours", boot...)+records("iother", append(slices.Clone(boot), fallback)...))
		if log := n.read(first); reading(log) != "green" || log.Foreign != len(boot)+1 {
			t.Errorf("ours read as %s with %d foreign lines", reading(log), log.Foreign)
		}
		second.Watch(t.Context(), "iother", settling)
		log, err := second.Read(t.Context())
		second.Close()
		if err != nil || reading(log) != "red" {
			t.Errorf("the other read as %s, %v", reading(log), err)
		}
	})
}

// TestTwoSources: each source has its own ledger in one log.
func TestTwoSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		one, two := newNode(t), newNode(t)
		one.write("a", "orchestrator.stdout.0", "old\n")
		w, err := Open(t.Context(), []Source{one.source(), two.source()})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		one.write("a", "orchestrator.stdout.0", records("iours", boot...))
		log := one.read(w)
		if len(log.Findings) != len(boot) || len(log.Holes) != 1 || !strings.Contains(log.Holes[0], two.root) {
			t.Errorf("%d findings, holes %q; want %d, and one hole that names %s", len(log.Findings), log.Holes, len(boot), two.root)
		}
	})
}

// TestGivenUp: a window that is cut short says so and leaves nothing behind.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := Open(ended, []Source{n.source()}); !errors.Is(err, context.Canceled) {
			t.Errorf("Open with an ended context: %v", err)
		}

		// Two sources, of which the second cannot be marked.
		looping := n.source()
		looping.Dirs = filepath.Join(n.root, "loop", "*")
		if err := os.Symlink("loop", filepath.Join(n.root, "loop")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), []Source{n.source(), looping}); !errors.Is(err, syscall.ELOOP) || !strings.Contains(err.Error(), "loop") {
			t.Errorf("Open of a directory that cannot be listed: %v", err)
		}

		w := n.open()
		w.Watch(ended, "iours", settling)
		if _, err := w.Read(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Read with an ended context: %v", err)
		}
		w.Close()
		w.Close()

		w = n.open()
		w.Close() // without Read

		if open := n.descriptors(); len(open) > 0 {
			t.Errorf("descriptors left open: %q", open)
		}
	})
}

// TestUnreadable: an allocation that may not be looked into is an error, and
// never silence.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		// A link to itself cannot be followed by anyone, root included.
		if err := os.Symlink("b", filepath.Join(n.root, "alloc", "b")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), []Source{n.source()}); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("Open: %v, want the allocation's error", err)
		}
		n.remove(filepath.Join(n.root, "alloc", "b"))

		w := n.open()
		defer w.Close()
		if err := os.Symlink("b", filepath.Join(n.root, "alloc", "b")); err != nil {
			t.Fatal(err)
		}
		n.write("a", "orchestrator.stdout.0", records("iours", append(slices.Clone(boot), fallback)...))
		log := n.read(w)
		if len(log.Holes) != 1 || reading(log) != "red" {
			t.Errorf("holes %q, read as %s; want one hole, and the failure nevertheless", log.Holes, reading(log))
		}
	})
}

// TestManyWindows: nothing grows with the number of windows.
func TestManyWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		for range 100 {
			w := n.open()
			n.write("a", "orchestrator.stdout.0", record("iours", boot[0]))
			if log := n.read(w); len(log.Findings) != 1 {
				t.Fatalf("%d findings, want 1", len(log.Findings))
			}
			w.Close()
		}
		if open := n.descriptors(); len(open) > 0 {
			t.Errorf("descriptors left open: %q", open)
		}
	})
}

func TestExpand(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"alloc/a/alloc/logs", "alloc/b/alloc/logs", "alloc/c/other", "allocs/a/alloc/logs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "alloc", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		pattern string
		want    []string
		wrong   bool
	}{
		{pattern: "alloc/*/alloc/logs", want: []string{"alloc/a/alloc/logs", "alloc/b/alloc/logs"}},
		{pattern: "alloc*/a/alloc/logs/", want: []string{"alloc/a/alloc/logs", "allocs/a/alloc/logs"}},
		{pattern: "alloc/[bc]/*", want: []string{"alloc/b/alloc", "alloc/c/other"}},
		{pattern: "alloc/a/alloc/logs", want: []string{"alloc/a/alloc/logs"}},
		{pattern: "alloc/file"},
		{pattern: "nothing/*/logs"},
		{pattern: "alloc/[/logs", wrong: true},
	} {
		got, err := expand(filepath.Join(root, test.pattern))
		for i := range got {
			got[i], _ = filepath.Rel(root, got[i])
		}
		if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != test.wrong {
			t.Errorf("expand(%q): %v, -want +got:\n%s", test.pattern, err, diff)
		}
	}
}
