package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secret stands for a credential that must not be seen anywhere.
const secret = "hunter2hunter2"

// A credential in the file is refused wherever and however it stands there,
// and no error shows it: neither the one that names it nor one about the
// lines around it.
func TestNoCredentialOfTheFileIsShown(t *testing.T) {
	const refused = "a credential does not belong into the file: set E2B_API_KEY"
	for _, test := range []struct{ name, file, wrong string }{
		{"block", "live:\n  api-key: " + secret + "\n", "ginkgo.yml:2:3: " + refused},
		{"flow", "live: {api-key: " + secret + "}\n", "ginkgo.yml:1:8: " + refused},
		{"quoted", "live:\n  \"api-key\": " + secret + "\n", refused},
		{"named as the variable", "E2B_API_KEY: " + secret + "\n", "ginkgo.yml:1:1: " + refused},
		{"access token", "live:\n  access_token: " + secret + "\n", refused},
		{"password", "templates: [{name: base, password: " + secret + "}]\n", refused},
		{"among the waits", "intervals: {token: " + secret + "}\n", refused},
		{"on the line of a syntax error", "live:\n  api-key: \"" + secret + "\n", "ginkgo.yml:2:12: "},
		{"beside an unknown key", "lab: {kernal: " + secret + "}\n", "ginkgo.yml:1:7: unknown field"},
		{"as a wait", "intervals: {create: " + secret + "}\n", "ginkgo.yml:1:21: this is no duration"},
		{"in the API's URL", "live: {api-url: \"http://user:" + secret + "@localhost\"}\n", "live.api-url (E2B_API_URL) has a user or password in it"},
		{"in the sandboxes' URL", "target: lab\nlive: {sandbox-url: \"http://" + secret + "@localhost\"}\n", "live.sandbox-url (E2B_SANDBOX_URL) has a user or password in it"},
		{"in the domain", "live: {domain: \"" + secret + "@e2b.example\"}\n", "live.domain (E2B_DOMAIN): want a bare domain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(Sources{Dir: tree(t, test.file)})
			wantError(t, err, test.wrong)
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the credential stands in the error: %v", err)
			}
		})
	}
}

func TestRecipeMayBeCalledToken(t *testing.T) {
	file := "lab: {templates: [token], recipes: {token: {flavour: busybox, init: delegated, envd: stand-in 0.6.13}}}\n"
	if _, err := Load(Sources{Dir: tree(t, file)}); err != nil {
		t.Error(err)
	}
}

func TestFileIsNoConfiguration(t *testing.T) {
	for _, test := range []struct{ name, file, wrong string }{
		{"a scalar", "lab\n", "ginkgo.yml:1:1: "},
		{"a list", "- target: lab\n", "ginkgo.yml:1:1: "},
		{"nothing, spelled out", "null\n", "ginkgo.yml:1:1: "},
		{"two documents", "target: lab\n---\nprofil: core\n", "want one YAML document, it has 2"},
		{"a tab", "\ttarget: lab\n", "ginkgo.yml:1:"},
		{"a recipe twice", "lab:\n  recipes:\n    base: {}\n    base: {}\n", "ginkgo.yml:4:5: mapping key \"base\" already defined"},
		{"a list for a word", "profile: [core]\n", "ginkgo.yml:1:10: "},
		{"a word for a list", "lab: {templates: base}\n", "ginkgo.yml:1:18: "},
		{"a word for a number", "lab: {max-guests: many}\n", "ginkgo.yml:1:19: "},
		{"part of a guest", "lab: {max-guests: 2.5}\n", "ginkgo.yml:1:19: want a whole number"},
		{"too great a number", "lab: {max-guests: 99999999999999999999}\n", "ginkgo.yml:1:19: "},
		{"a wait without a unit", "intervals:\n  create: 90\n", "ginkgo.yml:2:11: this is no duration"},
		{"a template's wait", "templates:\n  - name: base\n    intervals: {command: a minute}\n", "ginkgo.yml:3:26: this is no duration"},
		{"a list of waits", "intervals: {create: [90s]}\n", "ginkgo.yml:1:21: this is no duration"},
		{"a tag where the library panics", "templates: !x 0\n", "ginkgo.yml:1:12: no setting needs a YAML tag"},
		{"a tag of everything", "! \n", "ginkgo.yml:1:1: no setting needs a YAML tag"},
		{"a tag on a wait", "intervals: {create: !!str 90s}\n", "ginkgo.yml:1:21: "},
		{"an alias of itself", "lab: &a {recipes: *a}\n", "ginkgo.yml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(Sources{Dir: tree(t, test.file)})
			wantError(t, err, test.wrong)
		})
	}
}

func TestAllBadWaitsAtOnce(t *testing.T) {
	_, err := Load(Sources{Dir: tree(t, "intervals: {create: soon, poll: often}\ntemplates: [{name: base, intervals: {command: 5}}]\n")})
	wantError(t, err, "ginkgo.yml:1:21: ", "ginkgo.yml:1:33: ", "ginkgo.yml:2:47: ")
}

func TestWaysToWriteAFile(t *testing.T) {
	for _, test := range []struct{ name, file string }{
		{"only comments", "# nothing\n  # to say\n"},
		{"blank", " \n\n"},
		{"an empty document", "---\n# nothing\n"},
		{"a document mark", "---\ntarget: auto\n"},
		{"the end is marked", "target: auto\n---\n# nothing\n"},
		{"keys without a value", "target:\nprofile:\nlive:\nlab:\nintervals:\ntemplates:\n"},
		{"waits without a value", "intervals: {create: , poll: null}\n"},
		{"lines of Windows", "target: auto\r\nprofile: auto\r\n"},
		{"an anchor and its alias", "intervals: {create: &long 90s, destroy: *long}\n"},
		{"waits in quotes", "intervals: {create: \"90s\", poll: '100ms'}\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want, err := Load(Sources{Dir: tree(t, "")})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Load(Sources{Dir: tree(t, test.file)})
			if err != nil {
				t.Fatal(err)
			}
			if got.File == "" {
				t.Error("the file was not found")
			}
			sameSettings(t, want, got)
		})
	}
}

func TestFileIsNotGuessed(t *testing.T) {
	t.Run("a directory of that name", func(t *testing.T) {
		dir := tree(t, "")
		if err := os.Mkdir(filepath.Join(dir, FileName), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := Load(Sources{Dir: dir})
		wantError(t, err, "read the configuration", "is a directory")
	})
	t.Run("a given file that is not there", func(t *testing.T) {
		_, err := Load(Sources{Dir: tree(t, "target: lab\n"), Flags: Flags{Config: "mine.yml"}})
		wantError(t, err, "read the configuration", "mine.yml")
	})
	t.Run("no root: only the directory itself", func(t *testing.T) {
		outer := t.TempDir()
		inner := filepath.Join(outer, "inner")
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(outer, FileName), "profile: gate\n")
		c, err := Load(Sources{Dir: inner})
		if err != nil || c.File != "" || c.Root != inner {
			t.Errorf("got file %q, root %q, error %v: a file above is anybody's", c.File, c.Root, err)
		}
		c, err = Load(Sources{Dir: outer})
		if err != nil || c.File != filepath.Join(outer, FileName) || c.Root != outer {
			t.Errorf("got file %q, root %q, error %v", c.File, c.Root, err)
		}
	})
	t.Run("a repository is a root", func(t *testing.T) {
		dir := tree(t, "")
		root := filepath.Dir(dir)
		if err := os.Rename(filepath.Join(root, "go.mod"), filepath.Join(root, ".git")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, FileName), "profile: gate\n")
		if c, err := Load(Sources{Dir: dir}); err != nil || c.Profile != ProfileGate {
			t.Errorf("got %q, %v", c.Profile, err)
		}
	})
	t.Run("the nearest file wins", func(t *testing.T) {
		dir := tree(t, "profile: gate\n")
		write(t, filepath.Join(dir, FileName), "profile: extended\n")
		if c, err := Load(Sources{Dir: dir}); err != nil || c.Profile != ProfileExtended || c.Root != dir {
			t.Errorf("got %q, root %q, %v", c.Profile, c.Root, err)
		}
	})
}

// Ginkgo runs a suite inside e2e/, wherever its command line was typed: a path
// on it means the file that the user sees, from there or from the root.
func TestPathsOfTheCommandLine(t *testing.T) {
	dir := tree(t, "")
	root := filepath.Dir(dir)
	write(t, filepath.Join(root, "mine.yml"), "profile: gate\n")
	write(t, filepath.Join(root, "envd"), "")
	for _, test := range []struct{ name, from, config, envd string }{
		{"from the root", root, "mine.yml", "./envd"},
		{"typed at the root, run in e2e", dir, "mine.yml", "./envd"},
		{"from e2e", dir, "../mine.yml", "../envd"},
		{"absolute", dir, filepath.Join(root, "mine.yml"), filepath.Join(root, "envd")},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Load(Sources{Dir: test.from, Flags: Flags{Config: test.config, Envd: test.envd}})
			if err != nil {
				t.Fatal(err)
			}
			if c.File != filepath.Join(root, "mine.yml") || c.Lab.Envd != filepath.Join(root, "envd") {
				t.Errorf("got file %q, envd %q", c.File, c.Lab.Envd)
			}
		})
	}
	// What is in neither place is named where the user is.
	c, err := Load(Sources{Dir: dir, Flags: Flags{Envd: "bin/none"}})
	if err != nil || c.Lab.Envd != filepath.Join(dir, "bin/none") {
		t.Errorf("got envd %q, error %v", c.Lab.Envd, err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %v, want one that says %q", err, part)
		}
	}
}
