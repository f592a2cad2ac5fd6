// Command gen writes the logs of make bench-log.
package main

import (
	"flag"
	"fmt"
	"os"

	"sandproof/internal/logscan/corpus"
)

func main() {
	dir := flag.String("dir", "", "write allocations below this `directory`")
	file := flag.String("file", "", "write one `file`")
	size := flag.Int64("size", 1<<30, "how much to write, in `bytes`")
	every := flag.Int("every", 20_000, "one line of so `many` speaks of cgroups")
	seed := flag.Uint64("seed", 1, "the same `seed` gives the same bytes")
	flag.Parse()
	c := corpus.New(*seed, *every)
	var err error
	switch {
	case *dir != "":
		err = c.WriteNomad(*dir, *size)
	case *file != "":
		err = c.WriteFile(*file, *size)
	default:
		flag.Usage()
		os.Exit(2) //nolint:forbidigo // nothing was asked for
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1) //nolint:forbidigo // a program's own end
	}
}
