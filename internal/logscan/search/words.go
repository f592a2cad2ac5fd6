package search

import (
	"bytes"
	"encoding/binary"
)

// The words of which every failure line of envd holds one. They are compared
// byte by byte: a line in which they are torn, or written in capitals, is not
// found. "failed to calculate host metrics" has neither, and is always followed
// by "falling back to no-op cgroup manager" (e2b-dev/infra
// packages/envd/main.go, createCgroupManager).
const (
	cgroup      = "cgroup"
	fallingBack = "falling back"
)

// Holds tells whether a text holds one of the words.
func Holds(text []byte) bool { return find(text, 0) < len(text) }

// isWord tells whether one of the words stands at a place: a "c" before a "g",
// or the "g" of "falling back", two bytes before its "b". These pairs are rare
// in any log, and one look finds them both.
func isWord(text []byte, at, from int) bool {
	const g = len("fallin")
	if text[at] == 'c' {
		return bytes.HasPrefix(text[at:], []byte(cgroup))
	}
	return at-g >= from && bytes.HasPrefix(text[at-g:], []byte(fallingBack))
}

// Eight bytes at once, in plain Go.
const (
	each   = 0x0101010101010101
	highs  = 0x8080808080808080
	wide   = 8
	stride = 4 * wide
)

// pairs has highest bits set where, of eight places, one has a "c" before a "g",
// or a "g" two before a "b": a byte that is zero borrows when one is taken from
// it. Bytes that are no ASCII may set them, too.
func pairs(first, second, third uint64) uint64 {
	cg, gb := (first^'c'*each)|(second^'g'*each), (first^'g'*each)|(third^'b'*each)
	return (cg - each) | (gb - each)
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// portable returns where the next word is in text, from a place on at which no
// word has begun, and len(text) where there is none.
func portable(text []byte, from int) int {
	i := from
	for ; i+stride+2 <= len(text); i += stride {
		t := (*[stride + 2]byte)(text[i:])
		marks := pairs(word(t[0:8]), word(t[1:9]), word(t[2:10])) |
			pairs(word(t[8:16]), word(t[9:17]), word(t[10:18])) |
			pairs(word(t[16:24]), word(t[17:25]), word(t[18:26])) |
			pairs(word(t[24:32]), word(t[25:33]), word(t[26:34]))
		if marks&highs == 0 {
			continue
		}
		for at := i; at < i+stride; at++ {
			if (text[at] == 'c' || text[at] == 'g') && isWord(text, at, from) {
				return at
			}
		}
	}
	return tail(text, i, from)
}

// tail looks at the last bytes one by one.
func tail(text []byte, i, from int) int {
	for ; i < len(text); i++ {
		if (text[i] == 'c' || text[i] == 'g') && isWord(text, i, from) {
			return i
		}
	}
	return len(text)
}
