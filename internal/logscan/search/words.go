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
	each  = 0x0101010101010101
	highs = 0x8080808080808080
	wide  = 8
	part  = 8 * wide
	// stride is what is looked at between two questions whether to go on; they
	// and the loop's own work weigh the less the longer it is.
	stride = 3 * part
	// behind is how much of a word that begins in a part is looked at behind it.
	behind = 4
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

// words looks, at eight places, for a "gro", or for a "g" that has a "b" and a
// "c" where "g back" has them.
func words(first, second, third, fifth uint64) uint64 {
	g := first ^ 'g'*each
	return ((g | (second ^ 'r'*each) | (third ^ 'o'*each)) - each) | ((g | (third ^ 'b'*each) | (fifth ^ 'c'*each)) - each)
}

// anyWord tells whether words finds any in a part.
func anyWord(t *[part + behind]byte) bool {
	le := binary.LittleEndian
	marks := uint64(0)
	for i := 0; i < part; i += wide {
		marks |= words(le.Uint64(t[i:]), le.Uint64(t[i+1:]), le.Uint64(t[i+2:]), le.Uint64(t[i+4:]))
	}
	return marks&highs != 0
}

// portable returns where the next word is in text, from a place on at which no
// word has begun, and len(text) where there is none.
func portable(text []byte, from int) int {
	le := binary.LittleEndian
	i := from &^ (wide - 1) // words in their places are loaded faster
	for ; i+stride+behind <= len(text); i += stride {
		t := (*[stride + behind]byte)(text[i:])
		// Written out, as the compiler unrolls no loop.
		one := may(le.Uint64(t[0:8]), le.Uint64(t[2:10])) |
			may(le.Uint64(t[8:16]), le.Uint64(t[10:18])) |
			may(le.Uint64(t[16:24]), le.Uint64(t[18:26])) |
			may(le.Uint64(t[24:32]), le.Uint64(t[26:34])) |
			may(le.Uint64(t[32:40]), le.Uint64(t[34:42])) |
			may(le.Uint64(t[40:48]), le.Uint64(t[42:50])) |
			may(le.Uint64(t[48:56]), le.Uint64(t[50:58])) |
			may(le.Uint64(t[56:64]), le.Uint64(t[58:66]))
		two := may(le.Uint64(t[64:72]), le.Uint64(t[66:74])) |
			may(le.Uint64(t[72:80]), le.Uint64(t[74:82])) |
			may(le.Uint64(t[80:88]), le.Uint64(t[82:90])) |
			may(le.Uint64(t[88:96]), le.Uint64(t[90:98])) |
			may(le.Uint64(t[96:104]), le.Uint64(t[98:106])) |
			may(le.Uint64(t[104:112]), le.Uint64(t[106:114])) |
			may(le.Uint64(t[112:120]), le.Uint64(t[114:122])) |
			may(le.Uint64(t[120:128]), le.Uint64(t[122:130]))
		three := may(le.Uint64(t[128:136]), le.Uint64(t[130:138])) |
			may(le.Uint64(t[136:144]), le.Uint64(t[138:146])) |
			may(le.Uint64(t[144:152]), le.Uint64(t[146:154])) |
			may(le.Uint64(t[152:160]), le.Uint64(t[154:162])) |
			may(le.Uint64(t[160:168]), le.Uint64(t[162:170])) |
			may(le.Uint64(t[168:176]), le.Uint64(t[170:178])) |
			may(le.Uint64(t[176:184]), le.Uint64(t[178:186])) |
			may(le.Uint64(t[184:192]), le.Uint64(t[186:194]))
		if (one|two|three)&highs == 0 {
			continue
		}
		for n, marks := range [...]uint64{one, two, three} {
			begin := i + n*part
			if marks&highs == 0 || !anyWord((*[part + behind]byte)(text[begin:])) {
				continue
			}
			if at := among(text, begin, begin+part, from); at >= 0 {
				return at
			}
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
