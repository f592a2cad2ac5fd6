package logscan

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// split cuts a text into lines, given in chunks of one file.
func split(chunks ...[]byte) []string {
	var got []string
	s := &splitter{emit: func(l line) {
		got = append(got, fmt.Sprintf("%d %q oversize=%t partial=%t", l.offset, l.data, l.oversize, l.partial))
	}}
	offset := int64(0)
	for _, c := range chunks {
		s.feed("file", offset, c)
		offset += int64(len(c))
	}
	s.finish()
	return got
}

func TestSplitter(t *testing.T) {
	for _, test := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"one line", []string{"a\n"}, []string{`0 "a" oversize=false partial=false`}},
		{"no end", []string{"a\nb"}, []string{`0 "a" oversize=false partial=false`, `2 "b" oversize=false partial=true`}},
		{"empty lines", []string{"\n\n"}, []string{`0 "" oversize=false partial=false`, `1 "" oversize=false partial=false`}},
		{"cut before the line feed", []string{"ab", "\nc\n"}, []string{`0 "ab" oversize=false partial=false`, `3 "c" oversize=false partial=false`}},
		{"empty chunks", []string{"a", "", "b\n"}, []string{`0 "ab" oversize=false partial=false`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var chunks [][]byte
			for _, c := range test.chunks {
				chunks = append(chunks, []byte(c))
			}
			if diff := cmp.Diff(test.want, split(chunks...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestSplitterLongLines: a line is kept up to the bound and marked beyond it,
// and the next line is whole again.
func TestSplitterLongLines(t *testing.T) {
	for _, test := range []struct {
		length   int
		oversize bool
	}{{maxLine, false}, {maxLine + 1, true}, {5 * maxLine, true}} {
		var got []line
		s := &splitter{emit: func(l line) { got = append(got, l) }}
		text := strings.Repeat("x", test.length) + "\nnext\n"
		for offset := 0; offset < len(text); offset += 1000 {
			s.feed("file", int64(offset), []byte(text[offset:min(offset+1000, len(text))]))
		}
		s.finish()
		if len(got) != 2 || got[0].oversize != test.oversize || len(got[0].data) != min(test.length, maxLine) || string(got[1].data) != "next" {
			t.Errorf("a line of %d bytes: %d lines, oversize %t, %d bytes kept", test.length, len(got), got[0].oversize, len(got[0].data))
		}
		if got[1].offset != int64(test.length+1) {
			t.Errorf("the next line is at %d, want %d", got[1].offset, test.length+1)
		}
	}
}

// TestSplitterMemory: a line without end cannot grow memory.
func TestSplitterMemory(t *testing.T) {
	s := &splitter{emit: func(line) {}}
	chunk := bytes.Repeat([]byte("x"), chunkSize)
	for i := range 64 {
		s.feed("file", int64(i*len(chunk)), chunk)
	}
	if kept := cap(s.open.data); kept > 2*maxLine {
		t.Errorf("%d bytes are kept of a line without end, the bound is %d", kept, maxLine)
	}
}

// FuzzChunks: however the bytes of a log are cut, the same is found.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("a\nfalling back to no-op cgroup manager\r\nb"), uint16(5), uint16(3))
	f.Add([]byte("2026-01-20T10:00:01.250Z  INFO  === Starting envd ===\r  "+fields+"\n"), uint16(40), uint16(30))
	f.Add([]byte(`{"message":"failed to create cgroup2 manager: x","sandbox.id":"iours"}`+"\n\n\x00"), uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, first, second uint16) {
		a := min(int(first), len(data))
		b := min(a+int(second), len(data))
		if diff := cmp.Diff(split(data), split(data[:a], data[a:b], data[b:])); diff != "" {
			t.Errorf("cut at %d and %d, other lines, -whole +cut:\n%s", a, b, diff)
		}
		if diff := cmp.Diff(scanAll(string(data)), scanAll(string(data[:a]), string(data[a:b]), string(data[b:]))); diff != "" {
			t.Errorf("cut at %d and %d, other findings, -whole +cut:\n%s", a, b, diff)
		}
	})
}
