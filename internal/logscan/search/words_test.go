package search

import (
	"bytes"
	"strings"
	"testing"
)

// next is where a word is, found as one would without a thought for speed: the
// place by which find knows it.
func next(text []byte, from int) int {
	at := len(text)
	if i := bytes.Index(text[from:], []byte(cgroup)); i >= 0 {
		at = from + i + len("c")
	}
	if i := bytes.Index(text[from:], []byte(fallingBack)); i >= 0 {
		at = min(at, from+i+len("fallin"))
	}
	return at
}

func checkFind(t *testing.T, text []byte, from int) {
	t.Helper()
	want := next(text, from)
	if got := find(text, from); got != want {
		t.Errorf("find is at %d, want %d, in %q from %d", got, want, text, from)
	}
	if got := portable(text, from); got != want {
		t.Errorf("portable is at %d, want %d, in %q from %d", got, want, text, from)
	}
}

func TestFind(t *testing.T) {
	for _, word := range []string{cgroup, fallingBack, "cg", "g b", "ccgroup", "falling  back", "Cgroup", "fallingback", "gcgroup"} {
		for before := range 80 {
			for after := range 40 {
				text := []byte(strings.Repeat("g", before) + word + strings.Repeat("b", after))
				checkFind(t, text, 0)
				checkFind(t, text, min(before, 3))
				checkFind(t, text, min(before+1, len(text)))
			}
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add([]byte("a cgroup, falling back"), uint(0))
	f.Add(bytes.Repeat([]byte("cg bfalling b"), 20), uint(7))
	f.Fuzz(func(t *testing.T, text []byte, from uint) { checkFind(t, text, int(from%uint(len(text)+1))) })
}

func BenchmarkFind(b *testing.B) {
	line := `2026-01-20T10:00:01.250Z  INFO  handled request 17 in 12.5 ms with the usual logging words around it  {"service": "orchestrator", "sandbox.id": "i17"}` + "\n"
	text := bytes.Repeat([]byte(line), 256<<10/len(line))
	for name, f := range map[string]func([]byte, int) int{"built in": find, "portable": portable, "bytes.Index": func(text []byte, from int) int {
		return min(bytes.Index(text[from:], []byte(cgroup)), bytes.Index(text[from:], []byte(fallingBack)))
	}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				f(text, 0)
			}
		})
	}
}
