//go:build !goexperiment.simd || !amd64

package search

// Implementation says which search was built in.
const Implementation = "portable"

func find(text []byte, from int) int { return portable(text, from) }
