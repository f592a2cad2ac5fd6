//go:build !goexperiment.simd || !amd64

package search

func find(text []byte, from int) int { return portable(text, from) }
