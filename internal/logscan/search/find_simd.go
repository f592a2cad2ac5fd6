//go:build goexperiment.simd && amd64

package search

import (
	"math/bits"
	"simd/archsimd"
)

// vector is how many bytes are compared at once.
const vector = 32

var hasAVX2 = archsimd.X86.AVX2()

// find is portable with vectors, where the processor has them.
func find(text []byte, from int) int {
	if !hasAVX2 {
		return portable(text, from)
	}
	g, r, b := archsimd.BroadcastUint8x32('g'), archsimd.BroadcastUint8x32('r'), archsimd.BroadcastUint8x32('b')
	i := from
	for ; i+vector+2 <= len(text); i += vector {
		window := text[i : i+vector+2 : i+vector+2]
		first, second, third := archsimd.LoadUint8x32Slice(window), archsimd.LoadUint8x32Slice(window[1:]), archsimd.LoadUint8x32Slice(window[2:])
		marks := first.Equal(g).And(second.Equal(r).Or(third.Equal(b))).ToBits()
		for ; marks != 0; marks &= marks - 1 {
			at := i + bits.TrailingZeros32(marks)
			if isWord(text, at, from) {
				return at
			}
		}
	}
	if at := among(text, i, len(text), from); at >= 0 {
		return at
	}
	return len(text)
}
