package config

import (
	"flag"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentOverFile(t *testing.T) {
	const file = "templates: [{name: base}]\nlive: {api-url: \"http://file:1\", sandbox-url: \"http://file:2\"}\n"
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		want    Live
	}{
		{"the file alone", file, nil, Live{APIURL: "http://file:1", SandboxURL: "http://file:2"}},
		{"the API", file, []string{"E2B_API_URL=http://env:1"}, Live{APIURL: "http://env:1", SandboxURL: "http://file:2"}},
		{"the sandboxes", file, []string{"E2B_SANDBOX_URL=http://env:2"}, Live{APIURL: "http://file:1", SandboxURL: "http://env:2"}},
		{"a domain is a whole deployment", file, []string{"E2B_DOMAIN=e2b.example"}, Live{Domain: "e2b.example"}},
		{
			"a domain with its own URLs", file,
			[]string{"E2B_DOMAIN=e2b.example", "E2B_API_URL=http://env:1", "E2B_SANDBOX_URL=http://env:2"},
			Live{Domain: "e2b.example", APIURL: "http://env:1", SandboxURL: "http://env:2"},
		},
		{"set to nothing is not set", file, []string{"E2B_API_URL=", "E2B_DOMAIN=", "E2B_SANDBOX_URL="}, Live{APIURL: "http://file:1", SandboxURL: "http://file:2"}},
		{"a domain over the file's", "templates: [{name: base}]\nlive: {domain: file.example}\n", []string{"E2B_DOMAIN=e2b.example:8443"}, Live{Domain: "e2b.example:8443"}},
		{"an access token is no key and no setting", file, []string{"E2B_ACCESS_TOKEN=" + secret}, Live{APIURL: "http://file:1", SandboxURL: "http://file:2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Load(Sources{Dir: tree(t, test.file), Environ: append(test.environ, key)})
			if err != nil {
				t.Fatal(err)
			}
			test.want.APIKey = "e2b_0123456789abcdef"
			if diff := cmp.Diff(test.want, c.Live); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAccessTokenIsNoKey(t *testing.T) {
	_, err := Load(Sources{Dir: tree(t, ""), Environ: []string{"E2B_ACCESS_TOKEN=" + secret, "E2B_DOMAIN=e2b.example"}, Flags: Flags{Templates: "base"}})
	wantError(t, err, "set E2B_API_KEY")
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the token stands in the error: %v", err)
	}
}

// The admin token comes from the environment alone, is optional, and is kept
// where the lab is chosen only to be redacted; it stands in no configuration.
func TestAdminToken(t *testing.T) {
	for _, target := range []string{"live", "lab"} {
		environ := []string{key, "E2B_DOMAIN=e2b.example", "E2B_ADMIN_TOKEN=" + secret}
		c, err := Load(Sources{Dir: tree(t, ""), Environ: environ, Flags: Flags{Target: target, Templates: "base"}})
		if err != nil {
			t.Fatal(err)
		}
		if c.Live.AdminToken != secret {
			t.Errorf("%s: the token is %q", target, c.Live.AdminToken)
		}
		if text := settingsOf(t, &c); strings.Contains(text, secret) {
			t.Errorf("%s: the token stands in the effective configuration:\n%s", target, text)
		}
	}
}

// Who chooses the lab by name need not clear the environment first.
func TestChosenLabIgnoresTheEnvironment(t *testing.T) {
	c, err := Load(Sources{
		Dir: tree(t, ""), Flags: Flags{Target: "lab"},
		Environ: []string{key, "E2B_API_URL=nonsense", "E2B_DOMAIN=" + secret + "@x", "E2B_SANDBOX_URL=http://" + secret + "@x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Live{APIKey: "e2b_0123456789abcdef"}, c.Live); diff != "" {
		t.Errorf("the key is kept, for the redactor, and nothing else:\n%s", diff)
	}
	if text := settingsOf(t, &c); strings.Contains(text, secret) || strings.Contains(text, "0123456789") {
		t.Errorf("a credential stands in the effective configuration:\n%s", text)
	}
}

func TestCI(t *testing.T) {
	for _, test := range []struct {
		value string
		isCI  bool
	}{{"true", true}, {"1", true}, {"yes", true}, {"false", false}, {"0", false}, {"", false}} {
		_, err := Load(Sources{Dir: tree(t, ""), Environ: []string{"CI=" + test.value}})
		if (err != nil) != test.isCI {
			t.Errorf("CI=%s: error %v", test.value, err)
		}
		if err != nil {
			wantError(t, err, "-e2e.target=live", "-e2e.target=lab", "make e2e TARGET=lab", "ginkgo.yml")
		}
	}
	_, err := Load(Sources{Dir: tree(t, "target: lab\n"), Environ: []string{"CI=true"}, Flags: Flags{Target: "auto"}})
	wantError(t, err, "no target is chosen")
}

func TestSelection(t *testing.T) {
	const live = "target: live\nlive: {domain: e2b.example}\ntemplates:\n" +
		"  - {name: late}\n  - {name: second, priority: 2}\n  - {name: first, priority: 1, build-id: 9ac9c8b9-9b8b-476c-9238-8266af308c32}\n  - {name: later}\n"
	for _, test := range []struct {
		name, file, flag string
		want             []string
	}{
		{"the inventory by priority", live, "", []string{"first", "second", "late", "later"}},
		{"those named, by priority", live, "later, second", []string{"second", "later"}},
		{"one that the inventory lacks", live, "team/other:v1,first", []string{"first", "team/other:v1"}},
		{"as written in the lab", "", "base-unpatched,base", []string{"base-unpatched", "base"}},
		{"the lab's own list", "lab: {templates: [base-unpatched]}\n", "", []string{"base-unpatched"}},
		{"the inventory is not the lab's", strings.Replace(live, "target: live", "target: lab", 1), "", []string{"base"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Load(Sources{Dir: tree(t, test.file), Environ: liveKey(test.file), Flags: Flags{Templates: test.flag}})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, template := range c.Templates {
				names = append(names, template.Name)
				if template.Name == "first" && template.BuildID == "" {
					t.Error("the inventory's entry was lost")
				}
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// liveKey is the environment of a live file.
func liveKey(file string) []string {
	if strings.Contains(file, "target: live") {
		return []string{key}
	}
	return nil
}

// What is wrong is reported whole, in a fixed order, also in parts that this
// run does not use, and each says what to do.
func TestProblems(t *testing.T) {
	const liveOf = "target: live\nlive: {domain: e2b.example}\n"
	for _, test := range []struct {
		name, file string
		flags      Flags
		want       []string // the whole list
	}{
		{"a template's all", liveOf + "templates: [{name: \"a b\", build-id: x, priority: -1}]\n", Flags{}, []string{
			`template "a b": want a name of letters, digits and _ . / : - that begins with a letter or digit`,
			`template a b: build-id "x" is no UUID: take it from the template's build`,
			`template a b: priority -1: want 1 or more, or none`,
		}},
		{"the inventory, in the lab", "target: lab\ntemplates: [{name: a, priority: -1}, {name: a}]\n", Flags{}, []string{
			"template a is named twice: leave one out", "template a: priority -1: want 1 or more, or none",
		}},
		{"the inventory that is not selected", liveOf + "templates: [{name: a, priority: -1}]\n", Flags{Templates: "b"}, []string{
			"template a: priority -1: want 1 or more, or none",
		}},
		{"a template without a name", liveOf + "templates: [{priority: 1}]\n", Flags{}, []string{
			`template "": want a name of letters, digits and _ . / : - that begins with a letter or digit`,
		}},
		{"a flag of commas", "", Flags{Templates: ", ,"}, []string{
			"no template is named: list them in ginkgo.yml, or say -e2e.templates=NAME (make e2e TEMPLATES=NAME)",
		}},
		{"a recipe that is not selected", "lab: {recipes: {base: {rootfs: r}, other: {rootfs: r, memory-mb: 95, cpus: -1}}}\n", Flags{}, []string{
			"lab.recipes.other: cpus -1: want 1 or more", "lab.recipes.other: memory-mb 95: a guest needs 96",
		}},
		{"each wait by name", "intervals: {poll: -1s, command: 0s}\n", Flags{}, []string{
			"intervals.command 0s: a wait must be positive, such as 30s", "intervals.poll -1s: a wait must be positive, such as 30s",
		}},
		{"a time to live of no length", "intervals: {sandbox-ttl: 900ms}\n", Flags{}, []string{
			"intervals.sandbox-ttl 900ms: want 15s to 24h0m0s, such as 5m",
		}},
		{"a time to live of a week", "intervals: {sandbox-ttl: 168h}\n", Flags{}, []string{
			"intervals.sandbox-ttl 168h0m0s: want 15s to 24h0m0s, such as 5m",
		}},
		{"a create call shorter than the server's", liveOf + "intervals: {create: 75s}\ntemplates: [{name: a}, {name: b}]\n", Flags{}, []string{
			"intervals.create 1m15s: the server itself takes up to 1m15s, so give it more, such as 90s",
		}},
		{"a template's create call", liveOf + "templates: [{name: a, intervals: {create: 1s}}]\n", Flags{}, []string{
			"template a: intervals.create 1s: the server itself takes up to 1m15s, so give it more, such as 90s",
		}},
		{"a cap below the quiet", "intervals: {log-cap: 600ms}\n", Flags{}, []string{
			"intervals.log-cap 600ms must exceed log-quiet 600ms",
		}},
		{"logs", "target: live\ntemplates: [{name: a}]\nlive: {domain: e2b.example, logs: [{dirs: /a}, {dirs: \"/[\", task: t}]}\n", Flags{}, []string{
			"live.logs[0]: want dirs (a glob of alloc/logs directories) and task (orchestrator, or start)",
			`live.logs[1]: dirs "/[" is no glob: want a pattern such as /opt/nomad/data/alloc/*/alloc/logs`,
		}},
		{"envd on a live target", liveOf + "templates: [{name: a}]\n", Flags{Envd: "stand-in 0.6.13"}, []string{
			"-e2e.envd is for the lab: on a live target the templates bring their own envd, so leave it out",
		}},
		{"envd for a whole image", "lab: {recipes: {base: {rootfs: r}}}\n", Flags{Envd: "stand-in 0.6.13"}, []string{
			"-e2e.envd does not act on template base: its rootfs is a whole image with its own envd, so leave one of them out",
		}},
		{"envd that is neither", "", Flags{Envd: "stand-in v1"}, []string{
			`-e2e.envd "stand-in v1": want "stand-in VERSION", such as "stand-in 0.6.13"`,
		}},
		{"a name for a path", "", Flags{Envd: "envd"}, []string{
			`-e2e.envd "envd": want "stand-in VERSION", such as "stand-in 0.6.13", or a path (with a slash)`,
		}},
		{"stderr thrown away by whom", "lab: {recipes: {base: {flavour: busybox, init: ./init, envd: stand-in 0.6.13, envd-stderr: discard}}}\n", Flags{}, []string{
			`lab.recipes.base: envd-stderr "discard": want discard, and one of the lab's own inits`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(Sources{Dir: tree(t, test.file), Environ: liveKey(test.file), Flags: test.flags})
			if err == nil {
				t.Fatal("no error")
			}
			_, list, _ := strings.Cut(err.Error(), "\n  - ")
			if diff := cmp.Diff(test.want, strings.Split(list, "\n  - ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestURLsAndDomains(t *testing.T) {
	for _, test := range []struct {
		variable, value string
		fine            bool
	}{
		{"E2B_API_URL", "http://localhost:3000", true},
		{"E2B_API_URL", "https://api.e2b.example/base", true},
		{"E2B_API_URL", "http://[::1]:3000", true},
		{"E2B_API_URL", "localhost:3000", false},
		{"E2B_API_URL", "ftp://localhost", false},
		{"E2B_API_URL", "http://", false},
		{"E2B_API_URL", "http://a b", false},
		{"E2B_DOMAIN", "e2b.example", true},
		{"E2B_DOMAIN", "localhost:8080", true},
		{"E2B_DOMAIN", "https://e2b.example", false},
		{"E2B_DOMAIN", "e2b.example/", false},
		{"E2B_DOMAIN", ".example", false},
	} {
		_, err := Load(Sources{Dir: tree(t, ""), Environ: []string{key, test.variable + "=" + test.value}, Flags: Flags{Templates: "base"}})
		if test.fine && err != nil {
			t.Errorf("%s=%s: %v", test.variable, test.value, err)
		}
		if !test.fine {
			wantError(t, err, test.variable)
		}
	}
}

func TestEveryPathOfTheFileCountsFromIt(t *testing.T) {
	dir := tree(t, `
target: lab
live:
  storage: builds
  caches: [cache, /abs]
  logs: [{dirs: alloc/*/logs, task: orchestrator}]
lab:
  templates: [image, script]
  recipes:
    image: {rootfs: rootfs.ext4, kernel: vmlinux}
    script: {flavour: busybox, init: ./init.sh, envd: bin/envd}
`)
	c, err := Load(Sources{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	under := func(path string) string { return filepath.Join(filepath.Dir(dir), path) }
	want := Live{Storage: under("builds"), Caches: []string{under("cache"), "/abs"}, Logs: []LogGlob{{Dirs: under("alloc/*/logs"), Task: "orchestrator"}}}
	if diff := cmp.Diff(want, c.Live); diff != "" {
		t.Error(diff)
	}
	recipes := map[string]Recipe{
		"image":  {RootFS: under("rootfs.ext4"), Kernel: under("vmlinux")},
		"script": {Flavour: "busybox", Init: under("init.sh"), Envd: under("bin/envd")},
	}
	if diff := cmp.Diff(recipes, c.Lab.Recipes); diff != "" {
		t.Error(diff)
	}
}

// A flag that is given and says nothing, as one of a variable that is not set, is
// an error: no default comes in the place of what somebody asked for.
func TestEmptyFlags(t *testing.T) {
	for _, name := range []string{"config", "target", "profile", "templates", "envd", "shard"} {
		for _, value := range []string{"", " "} {
			var flags Flags
			set := flag.NewFlagSet("suites", flag.ContinueOnError)
			set.SetOutput(io.Discard)
			flags.Register(set)
			wantError(t, set.Parse([]string{"-e2e." + name + "=" + value}), "-e2e."+name, "leave the flag out")
		}
	}
}
