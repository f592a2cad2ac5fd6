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

// The sums below have highest bits set where a byte is zero, which borrows when
// one is taken from it: where what is looked for stands. Bytes that are no ASCII
// may set them, too.

// may looks, at eight places, for a "g" and two after it an "o" or a "b", which
// share the bits that are looked at, and half a dozen others. It is the cheapest
// sum that few places pass.
func may(first, third uint64) uint64 {
	const shared, both = 0xff ^ 'o' ^ 'b', 'o' & 'b'
	return ((first ^ 'g'*each) | (third&(shared*each) ^ both*each)) - each
}

// pairs looks, at eight places, for a "g" before an "r", or two before a "b".
func pairs(first, second, third uint64) uint64 {
	g := first ^ 'g'*each
	return ((g | (second ^ 'r'*each)) - each) | ((g | (third ^ 'b'*each)) - each)
}

// anyPair tells whether pairs finds any in a stride.
func anyPair(t *[stride + 2]byte) bool {
	marks := uint64(0)
	for i := 0; i < stride; i += wide {
		marks |= pairs(word(t[i:]), word(t[i+1:]), word(t[i+2:]))
	}
	return marks&highs != 0
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// portable returns where the next word is in text, from a place on at which no
// word has begun, and len(text) where there is none.
func portable(text []byte, from int) int {
	i := from
	for ; i+stride+2 <= len(text); i += stride {
		t := (*[stride + 2]byte)(text[i:])
		marks := may(word(t[0:8]), word(t[2:10])) |
			may(word(t[8:16]), word(t[10:18])) |
			may(word(t[16:24]), word(t[18:26])) |
			may(word(t[24:32]), word(t[26:34])) |
			may(word(t[32:40]), word(t[34:42])) |
			may(word(t[40:48]), word(t[42:50])) |
			may(word(t[48:56]), word(t[50:58])) |
			may(word(t[56:64]), word(t[58:66]))
		if marks&highs == 0 || !anyPair(t) {
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
