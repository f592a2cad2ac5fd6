package requirement

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"sandproof/internal/evidence"
)

// Generation is what envd writes into its cgroups from one commit on, until
// the next generation begins.
type Generation struct {
	Name  string
	Since Since
	// Properties are the promises, none where envd has no cgroup code.
	Properties []Property
	// Fails says what becomes of the rest when one property cannot be set, and
	// Messages begin what envd says of it on its standard error.
	Fails    string
	Messages []string
}

// Since is the point in the history of e2b-dev/infra from which something
// holds.
type Since struct {
	// Version is what envd calls itself at Commit.
	Version, Commit string
	// Shared is true where builds before Commit call themselves the same, so
	// that the version alone does not tell. Before and After are commits of
	// that version without and with it, beside Commit itself.
	Shared        bool
	Before, After []string
}

// presence is an answer that may be open.
type presence int

const (
	absent presence = iota
	open
	there
)

// in tells whether a build has what begins here. The commit is as the binary
// prints it, empty where it does not tell; a build at a commit that is not
// listed leaves a shared version open.
func (s Since) in(version, commit string) presence {
	later := compareVersions(version, s.Version)
	switch {
	case later < 0:
		return absent
	case later > 0 || !s.Shared:
		return there
	case sameCommit(commit, s.Commit) || slices.ContainsFunc(s.After, func(c string) bool { return sameCommit(commit, c) }):
		return there
	case slices.ContainsFunc(s.Before, func(c string) bool { return sameCommit(commit, c) }):
		return absent
	}
	return open
}

// sameCommit compares two commits of which either may be shortened, to no less
// than seven digits.
func sameCommit(a, b string) bool {
	const least = 7
	n := min(len(a), len(b))
	return n >= least && strings.EqualFold(a[:n], b[:n])
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

// The lines with which envd tells of failed cgroups, by their beginnings.
const (
	messageManager  = "failed to create cgroup2 manager: "
	messageFallback = "falling back to no-op cgroup manager"
	messageSkip     = "cgroup property \"FILE\" unavailable at \"DIRECTORY\", skipping"
)

// generations is the one table of what each envd promises, oldest first. It
// ends with newestVersion: what is newer is unknown and never guessed.
var generations = []Generation{
	{
		Name: "none", Since: Since{Version: "0.0.0"},
		Fails: "it has no cgroup code",
	},
	{
		Name: "A", Since: Since{Version: "0.4.3", Commit: "c7180fe2c"}, Properties: propertiesA,
		Fails:    "all or nothing: one property that cannot be set, and envd starts every process in its own cgroup; on a file system other than cgroup2 it notices nothing, and every start fails",
		Messages: []string{messageManager, messageFallback},
	},
	{
		Name: "B", Since: Since{Version: "0.5.6", Commit: "baeb9772d"}, Properties: propertiesB,
		Fails:    "as A",
		Messages: []string{messageManager, messageFallback},
	},
	{
		Name: "B'", Since: Since{Version: "0.5.10", Commit: "452097909"}, Properties: propertiesB,
		Fails:    "as A, but a file system other than cgroup2 is noticed, and envd starts every process in its own cgroup",
		Messages: []string{messageManager, messageFallback},
	},
	{
		Name: "C", Since: Since{Version: "0.5.24", Commit: "f4bd1b24b", Shared: true}, Properties: propertiesC,
		Fails:    "a property whose file does not exist is skipped, and the others are set; any other error is as for B'",
		Messages: []string{messageSkip, messageManager, messageFallback},
	},
}

// newestVersion is the last version of envd that was read for the table, at
// e2b-dev/infra 54693ff35.
const newestVersion = "0.6.13"

// Change is a behaviour of envd beside its limits that explains what is seen.
type Change struct {
	What  string
	Since Since
}

// The changes that explain an outcome.
var (
	changeWrapper = Change{
		"commands are started through /bin/sh and /usr/bin/nice",
		Since{Version: "0.5.4", Commit: "017de2016"},
	}
	changeIONice = Change{
		"commands are started through /usr/bin/ionice too",
		Since{Version: "0.5.24", Commit: "f4bd1b24b", Shared: true},
	}
	changeSystemTag = Change{
		"a process with the tag _system is started in envd's own cgroup; POST /freeze stops user, ptys and socats",
		Since{Version: "0.6.0", Commit: "eceb7419f"},
	}
	changeNoCgroups = Change{
		"--no-cgroups leaves the cgroups alone",
		Since{Version: "0.6.1", Commit: "e10814cec", Shared: true, Before: []string{"90cc12e13"}},
	}
	changeFreeze = Change{
		"POST /freeze stops user and ptys, no longer socats",
		Since{Version: "0.6.3", Commit: "8b6f2b97e", Shared: true},
	}
	changeLookPath = Change{
		"nice and ionice are left out where the image has none",
		Since{Version: "0.6.12", Commit: "1abece199", Shared: true, Before: []string{"47a7cc8f3"}},
	}
	changeFreezeWaits = Change{
		"POST /freeze waits until all stands still, and tells how far that went",
		Since{Version: "0.6.13", Commit: "b4dd80f08", Shared: true, Before: []string{"6400d78c0"}, After: []string{"f06e9bc1e", "54693ff35"}},
	}
)

// changes lists them, oldest first.
func changes() []Change {
	return []Change{changeWrapper, changeIONice, changeSystemTag, changeNoCgroups, changeFreeze, changeLookPath, changeFreezeWaits}
}

// parseVersion reads what envd prints for -version. Pre-release and build
// parts are left out: they belong to the same source.
func parseVersion(text string) (string, error) {
	v := "v" + strings.TrimPrefix(text, "v")
	whole := semver.Canonical(v)
	if whole+semver.Build(v) != v { // whole has all three numbers, where v may have fewer
		return "", fmt.Errorf("envd version %q is not MAJOR.MINOR.PATCH", text)
	}
	return strings.TrimSuffix(whole, semver.Prerelease(v))[len("v"):], nil
}

// compareVersions compares two versions, each as parseVersion returns it.
func compareVersions(a, b string) int { return semver.Compare("v"+a, "v"+b) }

// Generations returns the rows that a build may be, oldest first: one for
// most, two for a version that the behaviour changed under where the commit
// does not tell, none for a version that the table does not know.
func Generations(version, commit string) ([]Generation, error) {
	v, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	if compareVersions(v, newestVersion) > 0 {
		return nil, fmt.Errorf("envd version %s is newer than the newest known one (%s)", version, newestVersion)
	}
	var fits []Generation
	for _, g := range generations {
		switch g.Since.in(v, commit) {
		case there:
			fits = []Generation{g}
		case open:
			fits = append(fits, g)
		case absent:
		}
	}
	return fits, nil
}

// promise is what the running envd promises in this guest.
type promise struct {
	generations []Generation
	// version is as parseVersion returns it, empty where it is not known.
	version string
	commit  string
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
	commit := strings.TrimPrefix(s.Snapshot.Envd.Commit, standInMark)
	fits, err := Generations(s.Snapshot.Envd.Version, commit)
	if err != nil {
		return promise{unknown: err.Error()}
	}
	version, err := parseVersion(s.Snapshot.Envd.Version)
	if err != nil {
		return promise{unknown: err.Error()}
	}
	return promise{generations: fits, version: version, commit: commit}
}

// standInMark stands before the commit that the lab's stand-in was written
// from.
const standInMark = "stand-in "

// has tells whether the running envd has a change.
func (p promise) has(c Change) presence {
	if p.version == "" {
		return open
	}
	return c.Since.in(p.version, p.commit)
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

// sure returns the properties that every candidate generation promises, in the
// order of the table.
func (p promise) sure() []Property {
	var all []Property
	for _, g := range p.generations[:min(1, len(p.generations))] {
		for _, property := range g.Properties {
			if _, _, sure := p.wants(property.Group, property.File); sure {
				all = append(all, property)
			}
		}
	}
	return all
}

// Expectation is one interface file with what the running envd gives it in this
// guest.
type Expectation struct {
	Group, File string
	// Requirement judges it.
	Requirement ID
	// Wanted is the value as the file shows it; empty where it is computed from
	// the guest's memory and that was not read.
	Wanted string
	// Sure is false where this envd may be of several generations, of which some
	// do not set it.
	Sure bool
}

// Expectations are what the running envd promises, by group in the order of its
// code; none where it has no cgroup code. The error says why nothing can be
// expected.
func Expectations(s *evidence.Sandbox) ([]Expectation, error) {
	p := promiseOf(s)
	if p.unknown != "" {
		return nil, errors.New(p.unknown)
	}
	var all []Expectation
	for _, group := range groupNames() {
		for _, file := range setFiles() {
			want, some, sure := p.wants(group, file)
			if !some {
				continue
			}
			e := Expectation{Group: group, File: file, Sure: sure}
			e.Requirement = ID("value." + group + "." + strings.ReplaceAll(file, ".", "-"))
			if !want.Limit || (s.Snapshot.MemTotal > 0 && s.Snapshot.PageSize > 0) {
				e.Wanted = strconv.FormatUint(want.Value(s.Snapshot.MemTotal, s.Snapshot.PageSize), 10)
				if file == "io.weight" {
					e.Wanted = "default " + e.Wanted
				}
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// setFiles are the interface files that some generation sets, in the order in
// which they are shown.
func setFiles() []string {
	return []string{"cpu.weight", "memory.high", "memory.max", "memory.min", "memory.low", "io.weight"}
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
	for _, property := range p.sure() {
		controller, _, _ := strings.Cut(property.File, ".")
		needed[controller] = true
	}
	return needed
}

// none is true when this envd surely has no cgroup code.
func (p promise) none() bool {
	return len(p.generations) == 1 && len(p.generations[0].Properties) == 0
}
