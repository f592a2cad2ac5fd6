package search

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// naive is the search as one would write it without a thought for speed.
func naive(text string) []string {
	var found []string
	for l := range strings.SplitSeq(text, "\n") {
		if strings.Contains(l, cgroup) || strings.Contains(l, fallingBack) {
			found = append(found, l[:min(len(l), MaxLine)])
		}
	}
	return found
}

func scan(t *testing.T, r io.Reader) (found []string) {
	t.Helper()
	if _, err := New().Scan(r, 0, func(l Line) { found = append(found, string(l.Data)) }); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFindsTheLinesOfANaiveSearch(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":             "",
		"no end":              "a\nfalling back",
		"several in a line":   "cgroup falling back\na cgroup of a cgroup\n\nno end: cgroup",
		"NUL, CR and escapes": "x\x00cgroup\x00\r\n\x1b[31mfalling back\x1b[0m\r\nnone\r\n",
		"across a block":      strings.Repeat("x", block-3) + "cgroup\n" + strings.Repeat("y\n", block) + "cgroup\n",
		"a long line":         strings.Repeat("x", 3*MaxLine) + "cgroup\nnext cgroup\n",
		"across the bound":    strings.Repeat("x", MaxLine-2) + "cgroup" + strings.Repeat("x", block) + "\nno\n",
		"long without":        strings.Repeat("x", 3*MaxLine) + "cgrou\np",
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := scan(t, strings.NewReader(text)), naive(text); !slices.Equal(got, want) {
				t.Errorf("found %d lines, want %d", len(got), len(want))
			}
		})
	}
}

func TestKnowsWhereALineBegan(t *testing.T) {
	long := "cgroup" + strings.Repeat("x", 2*MaxLine)
	text := "no\ncgroup\n" + long + "\nno\ncgroup"
	var got []Line
	n, err := New().Scan(strings.NewReader(text), 100, func(l Line) {
		got = append(got, Line{Offset: l.Offset, Cut: l.Cut, Partial: l.Partial})
	})
	if err != nil || n != int64(len(text)) {
		t.Errorf("read %d bytes, %v; want %d", n, err, len(text))
	}
	want := []Line{{Offset: 103}, {Offset: 110, Cut: true}, {Offset: 110 + int64(len(long)) + 4, Partial: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// checkRanges: a text that is cut between lines anywhere gives the same lines,
// once and in order, as a naive search of the whole.
func checkRanges(t *testing.T, text []byte, cuts ...int64) {
	t.Helper()
	var found []string
	s := New()
	r, size, from := bytes.NewReader(text), int64(len(text)), int64(0)
	for _, cut := range append(cuts, size) {
		to, err := LineEnd(r, cut, size)
		if err != nil {
			t.Fatal(err)
		}
		if to = max(from, to); to == from {
			continue
		}
		if _, err := s.Scan(iotest.HalfReader(io.NewSectionReader(r, from, to-from)), from, func(l Line) { found = append(found, string(l.Data)) }); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	if from != size {
		t.Fatalf("the ranges end at %d of %d", from, size)
	}
	if want := naive(string(text)); !slices.Equal(found, want) {
		t.Errorf("found %d lines, want %d, of %d bytes cut at %v", len(found), len(want), size, cuts)
	}
}

func TestRanges(t *testing.T) {
	text := []byte("a cgroup\n\nb\nfalling back\n" + strings.Repeat("x", 100) + "cgroup\nlast cgroup")
	for one := range len(text) + 1 {
		for two := one; two <= len(text); two++ {
			checkRanges(t, text, int64(one), int64(two))
		}
	}
}

func FuzzEqualsANaiveSearch(f *testing.F) {
	f.Add([]byte("a cgroup\nb\x00\r\nfalling back"), uint(5), uint(9), uint(0))
	f.Add([]byte("host metrics\ncgrou\np"), uint(11), uint(12), uint(1<<18-4))
	f.Fuzz(func(t *testing.T, text []byte, one, two, padding uint) {
		text = append(bytes.Repeat([]byte("x"), int(padding%(2*MaxLine))), text...)
		size := uint(len(text) + 1)
		checkRanges(t, text, int64(min(one%size, two%size)), int64(max(one%size, two%size)))
	})
}
