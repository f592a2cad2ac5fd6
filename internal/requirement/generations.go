package requirement

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"

	"sandproof/internal/evidence"
)

// Generation is what one range of envd versions writes into its cgroups.
type Generation struct {
	Name string
	// Versions is the range of version strings, as a semver constraint.
	Versions *semver.Constraints
	// Properties are the promises, none where envd has no cgroup code.
	Properties []Property
	// Source is where the promise stands.
	Source string
}

// Property is one interface file with the value that envd gives it.
type Property struct {
	Group string
	File  string
	Want  Formula
}

// Formula yields a value: a fixed number, or the memory limit that envd
// computes from the guest's MemTotal.
type Formula struct {
	// Number is a weight, or bytes; used where Limit is false.
	Number uint64
	// Limit means MemTotal minus min(MemTotal/8, 128 MiB), rounded down to a
	// page as the kernel stores it.
	Limit bool
}

// reserveCap is the most that envd leaves to the rest of the guest, in bytes.
const reserveCap = 128 << 20

// Value applies the formula to a guest. memTotal and pageSize are in bytes.
func (f Formula) Value(memTotal, pageSize uint64) uint64 {
	if !f.Limit {
		return f.Number
	}
	limit := memTotal - min(memTotal/8, reserveCap)
	if pageSize == 0 {
		return limit
	}
	return limit / pageSize * pageSize
}

func weight(n uint64) Formula { return Formula{Number: n} }
func mebi(n uint64) Formula   { return Formula{Number: n << 20} }

var (
	limit = Formula{Limit: true}

	propertiesA = []Property{
		{"user", "cpu.weight", weight(50)},
		{"user", "memory.high", limit},
		{"ptys", "cpu.weight", weight(200)},
		{"socats", "cpu.weight", weight(150)},
		{"socats", "memory.min", mebi(5)},
		{"socats", "memory.low", mebi(8)},
	}
	propertiesB = append([]Property{
		{"user", "memory.max", limit},
		{"ptys", "memory.high", limit},
		{"ptys", "memory.max", limit},
	}, propertiesA...)
	propertiesC = append([]Property{
		{"user", "io.weight", weight(10)},
		{"ptys", "io.weight", weight(50)},
		{"socats", "io.weight", weight(50)},
	}, propertiesB...)
)

// generations is the one table of what each envd promises. 0.5.24 stands in
// two rows on purpose: the version string did not change when the behaviour
// did. The last row ends at the newest version that was read; what is newer
// is unknown and never guessed.
var generations = []Generation{
	{
		Name: "none", Versions: versions("< 0.4.3"),
		Source: "e2b-dev/infra before c7180fe2c has no cgroup code",
	},
	{
		Name: "A", Versions: versions(">= 0.4.3, < 0.5.6"), Properties: propertiesA,
		Source: "e2b-dev/infra c7180fe2c, packages/envd/main.go",
	},
	{
		Name: "B", Versions: versions(">= 0.5.6, < 0.5.10"), Properties: propertiesB,
		Source: "e2b-dev/infra baeb9772d (#2073)",
	},
	{
		Name: "B'", Versions: versions(">= 0.5.10, <= 0.5.24"), Properties: propertiesB,
		Source: "e2b-dev/infra 452097909 (#2263)",
	},
	{
		Name: "C", Versions: versions(">= 0.5.24, <= 0.6.13"), Properties: propertiesC,
		Source: "e2b-dev/infra f4bd1b24b (#2681)",
	},
}

func versions(constraint string) *semver.Constraints {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		panic(fmt.Sprintf("BUG: generation table: %v", err))
	}
	return c
}

// Generations returns the rows that a version may be, oldest first: one for
// most, two for an ambiguous version, none for one that the table does not
// know. Pre-release and build parts are ignored, since they satisfy no range.
func Generations(version string) ([]Generation, error) {
	v, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
	if err != nil {
		return nil, fmt.Errorf("envd version %q: %w", version, err)
	}
	plain := semver.New(v.Major(), v.Minor(), v.Patch(), "", "")
	var fits []Generation
	for _, g := range generations {
		if g.Versions.Check(plain) {
			fits = append(fits, g)
		}
	}
	if len(fits) == 0 {
		return nil, fmt.Errorf("envd version %s is newer than the newest known one (0.6.13)", version)
	}
	return fits, nil
}

// promise is what the running envd promises in this guest.
type promise struct {
	generations []Generation
	// unknown says why nothing can be expected, else it is empty.
	unknown string
}

// promiseOf derives the promise from the running binary's own version, never
// from the API's claim.
func promiseOf(s *evidence.Sandbox) promise {
	switch {
	case s.Snapshot == nil:
		return promise{unknown: "the guest was not seen"}
	case s.Snapshot.Envd == nil:
		return promise{unknown: "the running envd was not found in the guest"}
	case s.Snapshot.Envd.Version == "":
		return promise{unknown: "the running envd binary did not tell its version"}
	}
	fits, err := Generations(s.Snapshot.Envd.Version)
	if err != nil {
		return promise{unknown: err.Error()}
	}
	return promise{generations: fits}
}

// wants returns the formula of a property, whether any candidate generation
// promises it, and whether all do.
func (p promise) wants(group, file string) (want Formula, some, all bool) {
	all = true
	for _, g := range p.generations {
		found := false
		for _, property := range g.Properties {
			if property.Group == group && property.File == file {
				want, found, some = property.Want, true, true
			}
		}
		all = all && found
	}
	return want, some, some && all
}

// name joins the candidates for a sentence: "B' or C".
func (p promise) name() string {
	names := make([]string, len(p.generations))
	for i, g := range p.generations {
		names[i] = g.Name
	}
	return strings.Join(names, " or ")
}

// GenerationName says which generation a sandbox's running envd is, for
// people; empty where that is not known.
func GenerationName(s *evidence.Sandbox) string { return promiseOf(s).name() }

// controllers returns the controllers that the surely promised properties
// need, by what lies before the dot: cpu, memory, io.
func (p promise) controllers() map[string]bool {
	needed := map[string]bool{}
	for _, g := range p.generations {
		for _, property := range g.Properties {
			if _, _, all := p.wants(property.Group, property.File); all {
				controller, _, _ := strings.Cut(property.File, ".")
				needed[controller] = true
			}
		}
	}
	return needed
}

// none is true when this envd surely has no cgroup code.
func (p promise) none() bool {
	return len(p.generations) == 1 && len(p.generations[0].Properties) == 0
}
