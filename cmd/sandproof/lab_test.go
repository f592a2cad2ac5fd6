package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sandproof/internal/verdict"
)

// Flags of the suites mean here what they mean there, and what is none of them
// is an error: a misspelt one would choose less than was asked for.
func TestSuiteFlags(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, name := range []string{"E2B_API_URL", "E2B_DOMAIN", "E2B_API_KEY", "SANDPROOF_SHARD", "CI"} {
		t.Setenv(name, "")
	}
	for _, test := range []struct {
		args string
		exit int
		says string
	}{
		{"-e2e.profile=extended --e2e.templates=base-unpatched", verdict.ExitIsolated, "profile: extended"},
		{"-e2e.profile extended", verdict.ExitIsolated, "profile: extended"},
		{"-e2e.run=r -e2e.runs=/tmp/runs -e2e.probe=/p -e2e.keep-on-failure -ginkgo.v --ginkgo.label-filter=x -test.v -e2e.profile=core", verdict.ExitIsolated, "profile: core"},
		{"-e2e.profil=gate", verdict.ExitInfra, "-e2e.profil"},
		{"-e2e.template=desktop", verdict.ExitInfra, "-e2e.template"},
		{"-profile=gate", verdict.ExitInfra, "-profile"},
		{"-e2e.profile=", verdict.ExitInfra, "it is empty"},
		{"-e2e.target=lab desktop -e2e.profile=gate", verdict.ExitInfra, `"desktop" is none`},
		{"ginkgo.v", verdict.ExitInfra, `"ginkgo.v" is none`},
		{"-- -e2e.profile=gate", verdict.ExitInfra, `"-e2e.profile=gate" is none`},
	} {
		exit, said := command(t, append([]string{"config", "--"}, strings.Fields(test.args)...)...)
		if exit != test.exit || !strings.Contains(said, test.says) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s", test.args, exit, test.exit, test.says, said)
		}
	}
	for _, args := range [][]string{{"config", "desktop"}, {"templates", "base", "desktopp", "--format=names"}, {"doctor", "desktop"}, {"lab", "prepare", "base"}} {
		if exit, said := command(t, args...); exit != verdict.ExitInfra || !strings.Contains(said, "is none: want those such as") {
			t.Errorf("%q: exit %d:\n%s", args, exit, said)
		}
	}
}

// A flag that the suites get is known here too.
func TestAllSuiteFlagsAreKnown(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "e2e", "suite_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`flag\.(\w+)Var\(&flags\.\w+, "(e2e\.[a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(declared) < 4 {
		t.Fatalf("only %q were found", declared)
	}
	for _, d := range declared {
		arg := "-" + d[2]
		if d[1] != "Bool" {
			arg += "=x"
		}
		if _, err := sources([]string{arg}); err != nil {
			t.Error(err)
		}
	}
}
