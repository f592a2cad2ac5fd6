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

// holds tells whether a text holds one of the words.
func holds(text []byte) bool { return find(text, 0) < len(text) }

// isWord tells whether one of the words stands around a "g". Both have one, and
// an "r" after it or a "b" two after it is rare in any log, so one look finds
// them both.
func isWord(text []byte, g, from int) bool {
	const inCgroup, inFallingBack = len("c"), len("fallin")
	return g-inCgroup >= from && bytes.HasPrefix(text[g-inCgroup:], []byte(cgroup)) ||
		g-inFallingBack >= from && bytes.HasPrefix(text[g-inFallingBack:], []byte(fallingBack))
}

// Eight bytes at once, in plain Go.
const (
	each   = 0x0101010101010101
	highs  = 0x8080808080808080
	wide   = 8
	stride = 8 * wide
)

// pairs has highest bits set where, of eight places, one has a "g" before an
// "r", or two before a "b": a byte that is zero borrows when one is taken from
// it. Both conditions are one, since it costs less: a byte that is neither, but
// differs from the two in other bits, sets them too, and so may bytes that are
// no ASCII.
func pairs(first, second, third uint64) uint64 {
	return ((first ^ 'g'*each) | (second^'r'*each)&(third^'b'*each)) - each
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
			pairs(word(t[24:32]), word(t[25:33]), word(t[26:34])) |
			pairs(word(t[32:40]), word(t[33:41]), word(t[34:42])) |
			pairs(word(t[40:48]), word(t[41:49]), word(t[42:50])) |
			pairs(word(t[48:56]), word(t[49:57]), word(t[50:58])) |
			pairs(word(t[56:64]), word(t[57:65]), word(t[58:66]))
		if marks&highs == 0 {
			continue
		}
		if at := among(text, i, i+stride, from); at >= 0 {
			return at
		}
	}
	if at := among(text, i, len(text), from); at >= 0 {
		return at
	}
	return len(text)
}

// among looks at the places of a part of text one by one; -1 where there is no
// word.
func among(text []byte, begin, end, from int) int {
	for begin < end {
		g := bytes.IndexByte(text[begin:end], 'g')
		if g < 0 {
			return -1
		}
		if isWord(text, begin+g, from) {
			return begin + g
		}
		begin += g + 1
	}
	return -1
}
