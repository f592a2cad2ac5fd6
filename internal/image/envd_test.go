package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is in a binary tells the generation, or that nothing can be told.
func TestGenerationOf(t *testing.T) {
	a, b, tmpfs, c := generations[1].Mark, generations[2].Mark, generations[3].Mark, generations[4].Mark
	for _, test := range []struct {
		name   string
		has    []string
		isEnvd bool
		want   string
	}{
		{"none", nil, true, "none"},
		{"A", []string{a}, true, "A"},
		{"B", []string{a, b}, true, "B"},
		{"B'", []string{a, b, tmpfs}, true, "B'"},
		{"C", []string{a, b, tmpfs, c, weightMark}, true, "C"},
		{"C by another module", []string{a, b, tmpfs, c, weightMark}, false, "C"},
		{"C without its weight", []string{a, b, tmpfs, c}, true, ""},
		{"B with C's weight", []string{a, b, weightMark}, true, ""},
		{"a gap", []string{a, tmpfs}, true, ""},
		{"properties alone", []string{b}, true, ""},
		{"any Go program", nil, false, ""},
	} {
		has := map[string]bool{}
		for _, text := range test.has {
			has[text] = true
		}
		got, unknown := generationOf(has, test.isEnvd)
		if got != test.want || (unknown == "") != (got != "") {
			t.Errorf("%s: %q, %q", test.name, got, unknown)
		}
	}
}

// A text is found across the border of what is read at once.
func TestContains(t *testing.T) {
	const block = 1 << 20
	data := strings.Repeat("x", block-4) + "falling back" + strings.Repeat("y", block)
	has, err := contains(strings.NewReader(data), []string{"falling back", "falling front"})
	if err != nil || !has["falling back"] || has["falling front"] {
		t.Errorf("%v, %v", has, err)
	}
	if has, err := contains(strings.NewReader(""), []string{"x"}); err != nil || has["x"] {
		t.Errorf("of nothing: %v, %v", has, err)
	}
}

// Versions and generations that can go together.
func TestClaims(t *testing.T) {
	for _, test := range []struct {
		version, generation string
		want                bool
	}{
		{"0.4.2", "none", true},
		{"0.4.3", "none", false},
		{"v0.4.3", "A", true},
		{"0.5", "A", true},
		{"0.5.6", "A", false},
		{"0.5.24", "B'", true},
		{"0.5.24", "C", true},
		{"0.9.0", "C", true},
		{"0.2.0", "C", false},
		{"who knows", "C", true},
		{"0.2.0", "", true},
	} {
		if got := claims(test.version, test.generation); got != test.want {
			t.Errorf("%s and %s: %t", test.version, test.generation, got)
		}
	}
}

// A Go binary tells who it is, stripped or not, and none is run.
func TestIdentify(t *testing.T) {
	dir := t.TempDir()
	source := "package main\nimport \"os\"\nvar version, commitSHA string\nfunc main() { os.Exit(len(version) + len(commitSHA) + len(os.Args[1:])) }\nfunc init() { if len(os.Args) > 9 { println(" +
		`"falling back to no-op cgroup manager", "memory.max", "exec /usr/bin/nice -n"` + ") } }\n"
	for name, text := range map[string]string{"go.mod": "module example.com/packages/envd\n", "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := func(name string, args ...string) string {
		out := filepath.Join(dir, name)
		cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-buildvcs=false", "-o", out}, args...), ".")...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		return out
	}
	for _, test := range []struct{ name, file, version, commit, generation, unknown string }{
		{"with what the linker set", build("whole", "-ldflags", "-s -w -X main.version=0.5.7 -X=main.commitSHA=baeb9772d"), "0.5.7", "baeb9772d", "B", ""},
		{"trimmed", build("trimmed", "-trimpath", "-ldflags", "-X main.version=0.5.7"), "", "", "B", ""},
		{"a script", filepath.Join(dir, "main.go"), "", "", "", "no Go program"},
	} {
		f, err := os.Open(test.file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var e Envd
		if err := e.identify(f); err != nil {
			t.Fatal(err)
		}
		if e.Version != test.version || e.Commit != test.commit || e.Generation != test.generation || !strings.Contains(e.Unknown, test.unknown) || (e.Unknown == "") != (test.unknown == "") {
			t.Errorf("%s: %+v", test.name, e)
		}
		if want := test.generation != ""; slices.Equal(e.Helpers, helperPaths[:1]) != want {
			t.Errorf("%s needs %v", test.name, e.Helpers)
		}
	}
}
