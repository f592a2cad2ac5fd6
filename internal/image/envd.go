package image

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/mod/semver"
)

// generation is what one range of envd versions writes into its cgroups, and
// how it is known by what is in the binary.
type generation struct {
	Name string
	// First and Last are the versions of the range, both included; Last is
	// empty where the range is open.
	First, Last string
	// Mark is a text that is in the binaries of this range and of all later
	// ones, and in none before.
	Mark string
}

// generations are envd's, oldest first (e2b-dev/infra, packages/envd: c7180fe2c,
// baeb9772d, 452097909, f4bd1b24b, whose version is the one before it too).
var generations = []generation{
	{"none", "0.0.0", "0.4.2", ""},
	{"A", "0.4.3", "0.5.5", "falling back to no-op cgroup manager"},
	{"B", "0.5.6", "0.5.9", "memory.max"},
	{"B'", "0.5.10", "0.5.24", "is not a cgroup2 filesystem"},
	{"C", "0.5.24", "", "unavailable at %q, skipping"},
}

// generationNone is the one that has no cgroups.
const generationNone = "none"

// helperPaths are the programs that envds from 0.5.4 on start every command
// with, by these paths, until 1abece199 looked for them on the PATH.
var helperPaths = []string{"/usr/bin/nice", "/usr/bin/ionice"}

// standInModule is the main package of the lab's stand-in.
const standInModule = "sandproof/internal/fixtures/standin"

var (
	// linked is a value that the linker set, in the build settings.
	linked = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`-X[= ]['"]?([A-Za-z0-9_./-]+)=([A-Za-z0-9_.+-]+)`) })
	// pseudo is a module version that holds a commit.
	pseudo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[.-][0-9]{14}-([0-9a-f]{12})$`) })
)

// identify reads an envd binary, without running it. What it cannot tell is
// said in Unknown; the error is one of the host's.
func (e *Envd) identify(f *os.File) error {
	info, err := buildinfo.Read(f)
	if err != nil {
		e.Unknown = "it is no Go program: " + clip(err.Error(), 200)
		return nil
	}
	e.Module, e.Go = clip(info.Path, 200), clip(info.GoVersion, 100)
	if found := pseudo().FindStringSubmatch(info.Main.Version); found != nil {
		e.Commit = found[1]
	} else if semver.IsValid(info.Main.Version) {
		e.Version = clip(strings.TrimPrefix(info.Main.Version, "v"), 64)
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			e.Commit = clip(setting.Value, 64)
		case "-ldflags":
			for _, set := range linked().FindAllStringSubmatch(setting.Value, 32) {
				switch name := strings.ToLower(set[1][strings.LastIndexByte(set[1], '.')+1:]); {
				case name == "version":
					e.Version = clip(set[2], 64)
				case strings.HasPrefix(name, "commit") && e.Commit == "":
					e.Commit = clip(set[2], 64)
				}
			}
		}
	}
	if e.Module == standInModule {
		e.StandIn = true
		e.Unknown = "it is the lab's stand-in, which can play every generation"
		return nil
	}
	texts := append([]string{weightMark}, helperPaths...)
	for _, g := range generations[1:] {
		texts = append(texts, g.Mark)
	}
	has, err := contains(f, texts)
	if err != nil {
		return err
	}
	for _, helper := range helperPaths {
		if has[helper] {
			e.Helpers = append(e.Helpers, helper)
		}
	}
	e.Generation, e.Unknown = generationOf(has, path.Base(e.Module) == "envd")
	return nil
}

// weightMark is a property that came with generation C.
const weightMark = "io.weight"

// generationOf tells the generation by the texts in a binary, or why they do
// not tell it.
func generationOf(has map[string]bool, isEnvd bool) (name, unknown string) {
	newest, gap := 0, ""
	for n, g := range generations[1:] {
		switch {
		case has[g.Mark] && gap != "":
			return "", fmt.Sprintf("it has the text %q but not the older %q, which no known envd has", g.Mark, gap)
		case has[g.Mark]:
			newest = n + 1
		case gap == "":
			gap = g.Mark
		}
	}
	switch g := generations[newest]; {
	case has[weightMark] != (newest == len(generations)-1):
		return "", fmt.Sprintf("it speaks of cgroups as generation %s does, but of io.weight as none of that does", g.Name)
	case newest == 0 && !isEnvd:
		return "", "it is a Go program, but nothing in it says that it is envd"
	default:
		return g.Name, ""
	}
}

// contains looks for texts in a file.
func contains(f io.ReaderAt, texts []string) (map[string]bool, error) {
	longest := 0
	for _, text := range texts {
		longest = max(longest, len(text))
	}
	has := map[string]bool{}
	buffer := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := f.ReadAt(buffer, at)
		for _, text := range texts {
			has[text] = has[text] || bytes.Contains(buffer[:n], []byte(text))
		}
		if errors.Is(err, io.EOF) {
			return has, nil
		}
		if err != nil {
			return nil, err
		}
		at += int64(n - longest + 1) // a text may lie across the border
	}
}

// claims tells whether a version can be that of a generation; it can where one
// of them is not known.
func claims(version, name string) bool {
	v := versionOf(version)
	if v == "" {
		return true
	}
	for _, g := range generations {
		if g.Name == name {
			return semver.Compare(v, versionOf(g.First)) >= 0 && (g.Last == "" || semver.Compare(v, versionOf(g.Last)) <= 0)
		}
	}
	return true
}

// versionOf is a version in the form in which package semver compares it, which
// begins with "v"; empty where the text is none.
func versionOf(text string) string { return semver.Canonical("v" + strings.TrimPrefix(text, "v")) }
