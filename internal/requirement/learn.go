package requirement

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sandproof/internal/evidence"
)

// settable are the interface files that some envd may set, with the kernel's
// default (Linux Documentation/admin-guide/cgroup-v2.rst).
var settable = []struct{ file, fallback string }{
	{"cpu.weight", "100"},
	{"cpu.max", "max 100000"},
	{"memory.min", "0"},
	{"memory.low", "0"},
	{"memory.high", "max"},
	{"memory.max", "max"},
	{"memory.swap.max", "max"},
	{"memory.oom.group", "0"},
	{"io.weight", "default 100"},
	{"pids.max", "max"},
}

// learn shows what an unknown envd did, in the form of a row of the generation
// table: each group, each file that is not at the kernel's default, with the
// memory limit's formula where it fits.
func learn(s *evidence.Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "envd %s, commit %s, made in %s (MemTotal %d, page %d):", s.Envd.Version, s.Envd.Commit, s.Root.Path, s.MemTotal, s.PageSize)
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		group := s.Groups[name]
		if !group.Exists {
			fmt.Fprintf(&b, "\n// no cgroup %s", name)
			continue
		}
		for _, f := range settable {
			text, err := textOf(group, f.file)
			if err == nil && text != f.fallback {
				fmt.Fprintf(&b, "\n{%q, %q, %s},", name, f.file, formulaOf(f.file, text, s))
			}
		}
	}
	return b.String()
}

// formulaOf writes a value as the generation table would.
func formulaOf(file, text string, s *evidence.Snapshot) string {
	v, _, err := parseValue(file, text)
	switch {
	case err != nil || v.Max:
		return fmt.Sprintf("%q", text)
	case s.MemTotal > 0 && v.Number == limit.Value(s.MemTotal, s.PageSize):
		return "limit"
	case strings.HasPrefix(file, "memory.") && v.Number > 0 && v.Number%(1<<20) == 0:
		return fmt.Sprintf("mebi(%d)", v.Number>>20)
	}
	return fmt.Sprintf("weight(%d)", v.Number)
}
