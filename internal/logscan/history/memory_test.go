package history

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"sandproof/internal/logscan/search"
	"sandproof/internal/redact"
)

// TestLinesAreLetGo: what is kept of long lines is not the lines.
func TestLinesAreLetGo(t *testing.T) {
	const lines, size, bound = 20, 100_000, 512 << 10
	pad := strings.Repeat("y", size)
	for name, line := range map[string]func(i int) string{
		"a long message":             func(i int) string { return record(1, fmt.Sprintf("i%d", i), "failed to create cgroup2 manager: "+pad) },
		"a sandbox with a long name": func(i int) string { return fmt.Sprintf(`{"message":%q,"sandbox.id":"%d%s"}`, fallback, i, pad) },
		"a template with a long name": func(i int) string {
			return fmt.Sprintf(`{"message":%q,"sandbox.id":"%d","template.id":%q}`, fallback, i, pad)
		},
		"a field that is of no use": func(i int) string { return fmt.Sprintf(`{"message":%q,"sandbox.id":"%d","pad":%q}`, fallback, i, pad) },
		"messages of one sandbox": func(i int) string {
			return fmt.Sprintf(`{"message":"cgroup %d: failed","sandbox.id":"i1","pad":%q}`, i, pad)
		},
		"messages that mean no trouble": func(i int) string { return fmt.Sprintf(`{"message":"cgroup %d","sandbox.id":"i1","pad":%q}`, i, pad) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorker(newScan(Options{Redactor: redact.New()}))
			w.log = &log{}
			before := live()
			for i := range lines {
				w.line(nil, search.Line{Data: []byte(strings.TrimSuffix(line(i), "\n"))}, "x.log", int64(i))
			}
			if kept := live() - before; kept > bound {
				t.Errorf("%d bytes are kept of %d lines", kept, lines)
			}
			runtime.KeepAlive(w)
		})
	}
}

// live is what lives on the heap, in bytes.
func live() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestLongNames: sandboxes with names that nobody would give are told apart, and
// no more is kept of their names than of a sum of them.
func TestLongNames(t *testing.T) {
	w := newWorker(newScan(Options{Redactor: redact.New()}))
	w.log = &log{}
	long := strings.Repeat("ü", 50_000)
	for i, name := range []string{"i1", long + "a", long + "b", long + "a", "i1"} {
		w.line(nil, search.Line{Data: []byte(fmt.Sprintf(`{"message":%q,"sandbox.id":%q}`, fallback, name))}, "x.log", int64(i))
	}
	names := map[string]int{}
	for _, f := range w.conclude().Findings {
		if names[f.Sandbox] = f.Count; len(f.Sandbox) > maxName || strings.ToValidUTF8(f.Sandbox, "") != f.Sandbox {
			t.Errorf("%d bytes: %q", len(f.Sandbox), f.Sandbox)
		}
	}
	if len(names) != 3 || names["i1"] != 2 {
		t.Errorf("%v; want three, of i1 two lines", names)
	}
}
