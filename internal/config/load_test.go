package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// tree makes a module with a configuration and returns its e2e directory.
func tree(t *testing.T, file string) string {
	t.Helper()
	root := t.TempDir()
	e2e := filepath.Join(root, "e2e")
	if err := os.Mkdir(e2e, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "go.mod"), "module x\n")
	if file != "" {
		write(t, filepath.Join(root, FileName), file)
	}
	return e2e
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const key = "E2B_API_KEY=e2b_0123456789abcdef"

func TestTarget(t *testing.T) {
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		flags   Flags
		want    TargetKind
		wrong   string // part of the error
	}{
		{name: "nothing configured is the lab", want: TargetLab},
		{name: "a URL and a key are live", environ: []string{key, "E2B_API_URL=http://localhost:3000"}, flags: Flags{Templates: "base"}, want: TargetLive},
		{name: "a domain and a key are live", environ: []string{key, "E2B_DOMAIN=e2b.example"}, flags: Flags{Templates: "base"}, want: TargetLive},
		{name: "a URL in the file is live", file: "live: {api-url: http://localhost:3000}\n", environ: []string{key}, flags: Flags{Templates: "base"}, want: TargetLive},
		{name: "a key alone", environ: []string{key}, wrong: "set E2B_API_URL or E2B_DOMAIN"},
		{name: "a URL without a key", environ: []string{"E2B_API_URL=http://localhost:3000"}, flags: Flags{Templates: "base"}, wrong: "set E2B_API_KEY"},
		{name: "CI without a target", environ: []string{"CI=true"}, wrong: "no target is chosen"},
		{name: "CI with a URL and a key", environ: []string{"CI=true", key, "E2B_API_URL=http://localhost:3000"}, wrong: "no target is chosen"},
		{name: "CI with a target", environ: []string{"CI=true"}, flags: Flags{Target: "lab"}, want: TargetLab},
		{name: "CI with a target in the file", file: "target: lab\n", environ: []string{"CI=true"}, want: TargetLab},
		{name: "the flag wins over the file", file: "target: live\n", flags: Flags{Target: "lab"}, want: TargetLab},
		{name: "live without a place", flags: Flags{Target: "live", Templates: "base"}, environ: []string{key}, wrong: "needs a place"},
		{name: "no such target", flags: Flags{Target: "cluster"}, wrong: "want auto, live or lab"},
		{name: "a URL that is none", environ: []string{key, "E2B_API_URL=localhost:3000"}, flags: Flags{Templates: "base"}, wrong: "want http(s)://"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Load(Sources{Dir: tree(t, test.file), Environ: test.environ, Flags: test.flags})
			switch {
			case test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
				t.Errorf("the error is %v, want one that says %q", err, test.wrong)
			case test.wrong == "" && (err != nil || c.Target != test.want):
				t.Errorf("target %q, error %v, want %q", c.Target, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "0123456789") {
				t.Errorf("the key stands in the error: %v", err)
			}
		})
	}
}

func TestFile(t *testing.T) {
	for _, test := range []struct {
		name, file, flags string
		wrong             string
	}{
		{name: "an unknown key", file: "target: lab\nprofil: core\n", wrong: "ginkgo.yml:2:1: "},
		{name: "an unknown key below", file: "lab:\n  max-gests: 3\n", wrong: "ginkgo.yml:2:3: "},
		{name: "a key twice", file: "target: lab\ntarget: live\n", wrong: "ginkgo.yml:2:1: "},
		{name: "a duration that is none", file: "intervals:\n  create: soon\n", wrong: "ginkgo.yml:2:11: this is no duration: want a number and a unit"},
		{name: "a wait of nothing", file: "intervals:\n  create: 0s\n", wrong: "must be positive"},
		{name: "a credential", file: "live:\n  api-key: hunter2hunter2\n", wrong: "ginkgo.yml:2:3: a credential"},
		{name: "a profile that is none", file: "profile: strict\n", wrong: "want auto, core, gate or extended"},
		{name: "a switch that is none", file: "experiments: maybe\n", wrong: "experiments \"maybe\": want auto (as the profile has it), on or off"},
		{name: "burning for longer than a command lives", file: "experiments: on\nintervals: {burn: 16s}\n", wrong: "intervals.burn 16s: want 30s at most, and less than half of command 30s"},
		{name: "pressure for longer than a command lives", file: "profile: gate\nintervals: {pressure: 30s}\n", wrong: "intervals.pressure 30s must be less than command 30s"},
		{name: "a template without a recipe", flags: "nonsense", wrong: "has no recipe in the lab; it has base, base-unpatched"},
		{name: "a template twice", flags: "base,base", wrong: "named twice"},
		{name: "no template", file: "lab: {templates: []}\n", wrong: "no template is named"},
		{name: "an image and an init", file: "lab: {recipes: {base: {rootfs: ./x, init: delegated}}}\n", wrong: "rootfs is a whole image"},
		{name: "no such flavour", file: "lab: {recipes: {base: {flavour: alpine, init: delegated, envd: stand-in 0.6.13}}}\n", wrong: "want busybox or debian"},
		{name: "systemd without systemd", file: "lab: {recipes: {base: {flavour: busybox, init: systemd-bare, envd: stand-in 0.6.13}}}\n", wrong: "lab.recipes.base: init \"systemd-bare\": the flavour busybox has no systemd: take the flavour debian, or the init delegated or unpatched"},
		{name: "no such init of systemd", file: "lab: {recipes: {base: {flavour: debian, init: systemd-none, envd: stand-in 0.6.13}}}\n", wrong: "want delegated, unpatched, systemd, systemd-delegate, systemd-bare, or a path"},
		{name: "too little memory for systemd", file: "lab: {recipes: {base: {flavour: debian, init: systemd, envd: stand-in 0.6.13, memory-mb: 127}}}\n", wrong: "memory-mb 127: a guest needs 128"},
		{name: "no such init", file: "lab: {recipes: {base: {flavour: busybox, init: patched, envd: stand-in 0.6.13}}}\n", wrong: "want delegated"},
		{name: "an envd that is neither", file: "lab: {recipes: {base: {flavour: busybox, init: delegated, envd: 0.6.13}}}\n", wrong: "want \"stand-in VERSION\""},
		{name: "too little memory", file: "lab: {recipes: {base: {flavour: busybox, init: delegated, envd: stand-in 0.6.13, memory-mb: 64}}}\n", wrong: "a guest needs 96"},
		{name: "no guests", file: "lab: {max-guests: 0}\n", wrong: "want 1 or more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(Sources{Dir: tree(t, test.file), Flags: Flags{Templates: test.flags}})
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("the error is %v, want one that says %q", err, test.wrong)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the credential stands in the error: %v", err)
			}
		})
	}
}

// Every init is accepted with the flavours that have it.
func TestInits(t *testing.T) {
	inits := map[string][]string{
		"busybox": {"delegated", "unpatched", "./init.sh"},
		"debian":  {"delegated", "unpatched", "systemd", "systemd-delegate", "systemd-bare", "./init.sh"},
	}
	for flavour, names := range inits {
		for _, name := range names {
			t.Run(flavour+" "+name, func(t *testing.T) {
				file := "lab: {recipes: {base: {flavour: " + flavour + ", init: " + name + ", envd: stand-in 0.6.13}}}\n"
				if _, err := Load(Sources{Dir: tree(t, file)}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load(Sources{Dir: tree(t, "profile: strict\nlab: {max-guests: 0}\n"), Flags: Flags{Templates: "nonsense"}})
	if err == nil || strings.Count(err.Error(), "\n  - ") != 3 {
		t.Errorf("want three problems, got %v", err)
	}
}

func TestFileIsFoundUpToTheRootOnly(t *testing.T) {
	outer := t.TempDir()
	write(t, filepath.Join(outer, FileName), "profile: extended\n")
	module := filepath.Join(outer, "module", "e2e")
	if err := os.MkdirAll(module, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(outer, "module", "go.mod"), "module x\n")
	c, err := Load(Sources{Dir: module})
	if err != nil || c.File != "" || c.Profile != ProfileGate {
		t.Errorf("got %q, %q, %v: the file above the module is not ours", c.File, c.Profile, err)
	}
	write(t, filepath.Join(outer, "module", FileName), "profile: gate\n")
	c, err = Load(Sources{Dir: module})
	if err != nil || c.File != filepath.Join(outer, "module", FileName) || c.Profile != ProfileGate {
		t.Errorf("got %q, %q, %v", c.File, c.Profile, err)
	}
	c, err = Load(Sources{Dir: module, Flags: Flags{Config: filepath.Join(outer, FileName), Profile: "core"}})
	if err != nil || c.Profile != ProfileCore || c.File != filepath.Join(outer, FileName) {
		t.Errorf("got %q, %q, %v", c.File, c.Profile, err)
	}
}

// The file that ships says what the built-in defaults say.
func TestShippedFileIsTheDefaults(t *testing.T) {
	shipped, err := Load(Sources{Dir: "."})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Load(Sources{Dir: tree(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(shipped.File) != FileName {
		t.Fatalf("the shipped file was not found: %q", shipped.File)
	}
	shipped.File, shipped.Root, plain.Root = "", "", ""
	if diff := cmp.Diff(plain, shipped); diff != "" {
		t.Errorf("defaults (-) and shipped file (+) differ:\n%s", diff)
	}
}

// The commented live example of the shipped file loads as it stands.
func TestShippedLiveExample(t *testing.T) {
	data, err := os.ReadFile("../../" + FileName)
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(data), "Uncomment and adapt:\n#\n")
	if !found {
		t.Fatal("the shipped file has no live example")
	}
	example = strings.ReplaceAll("\n"+example, "\n# ", "\n")
	example = strings.ReplaceAll(example, "\n#\n", "\n")
	c, err := Load(Sources{Dir: tree(t, "target: live\n"+example), Environ: []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(c.Templates))
	for _, template := range c.Templates {
		names = append(names, template.Name)
	}
	if diff := cmp.Diff([]string{"base", "desktop-template-000-0000-0000-000000000001", "desktop-vnc"}, names); diff != "" {
		t.Error(diff)
	}
	if got := c.IntervalsFor(c.Templates[2]); got.EnvdReady != 90*time.Second || got.Command != 60*time.Second || got.Create != 90*time.Second {
		t.Errorf("desktop-vnc waits %+v", got)
	}
	if len(c.Live.Logs) != 1 || c.Live.Logs[0].Task != "orchestrator" || len(c.Live.Caches) != 2 || c.Live.Storage == "" {
		t.Errorf("got %+v", c.Live)
	}
}

func TestPriorityOrders(t *testing.T) {
	c, err := Load(Sources{
		Dir:     tree(t, "live: {api-url: http://localhost:3000}\ntemplates: [{name: c}, {name: b, priority: 2}, {name: a, priority: 1}]\n"),
		Environ: []string{key},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Templates[0].Name != "a" || c.Templates[1].Name != "b" || c.Templates[2].Name != "c" {
		t.Errorf("got %+v", c.Templates)
	}
}

func TestRelativePathsCountFromTheFile(t *testing.T) {
	dir := tree(t, "lab: {cache: .cache, recipes: {base: {flavour: busybox, init: ./init.sh, envd: bin/envd}}}\n")
	c, err := Load(Sources{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(dir)
	if r := c.Lab.Recipes["base"]; r.Init != filepath.Join(root, "init.sh") || r.Envd != filepath.Join(root, "bin/envd") || c.Lab.Cache != filepath.Join(root, ".cache") {
		t.Errorf("got %+v, cache %s", r, c.Lab.Cache)
	}
}

func TestEffectiveHoldsNoSecret(t *testing.T) {
	c, err := Load(Sources{Dir: tree(t, ""), Environ: []string{key, "E2B_DOMAIN=e2b.example"}, Flags: Flags{Templates: "base"}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); strings.Contains(text, "0123456789") || !strings.Contains(text, "domain: e2b.example") || !strings.Contains(text, "target: live") {
		t.Errorf("got:\n%s", text)
	}
}

// Whatever the file says, the answer is an error that names the file, or a
// configuration with which a run can start and that can be recorded and read
// again.
func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../" + FileName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped))
	f.Add(strings.ReplaceAll(string(shipped), "\n# ", "\n"))
	for _, change := range changes {
		f.Add(change.with)
	}
	f.Add("intervals: {create: &a 1h, poll: *a, request: !!str 5s, <<: {command: 5}}\n\x00")
	f.Add("lab: {cache: \"a\\tb\"}\n")
	f.Add("waivers: [{line: x, reason: '? a', expires: 2099-01-01}]\n")
	f.Add("lab: &a {recipes: {b: *a}, ? [x] : y}\n---\n- |\n  z\n")
	// One directory for all: each process has its own and runs one at a time.
	dir := f.TempDir()
	load := func(file string) (Config, error) {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(file), 0o600); err != nil {
			f.Fatal(err)
		}
		return Load(Sources{Dir: dir, Environ: []string{key}, Flags: targetFlag(file)})
	}
	f.Fuzz(func(t *testing.T, file string) {
		c, err := load(file)
		if err != nil {
			if !strings.HasPrefix(err.Error(), dir) {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		if len(c.Templates) == 0 || (c.Target != TargetLab && c.Target != TargetLive) {
			t.Errorf("an unusable configuration without an error: %+v", c)
		}
		data, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		again, err := load(string(data))
		c.Inventory, again.Inventory = nil, nil // it is the file's, and no setting
		if err != nil || !cmp.Equal(c, again, cmpopts.EquateEmpty()) {
			t.Errorf("read again: %v\n%s\n%s", err, cmp.Diff(c, again), data)
		}
	})
}

// Which profile auto is, follows from the target and the experiments.
func TestAutoProfile(t *testing.T) {
	for file, want := range map[string]Profile{
		"": ProfileGate, "experiments: on\n": ProfileGate, "experiments: off\n": ProfileCore, "experiments: off\nprofile: gate\n": ProfileGate,
	} {
		if c, err := Load(Sources{Dir: tree(t, file)}); err != nil || c.Profile != want {
			t.Errorf("%q: profile %s, error %v, want %s", file, c.Profile, err, want)
		}
	}
}

// Experiments follow the profile unless the file says otherwise, on every
// target; waits that only they use are theirs alone.
func TestExperiments(t *testing.T) {
	const onLive = "target: live\ntemplates: [{name: base}]\nlive: {api-url: \"http://localhost:3000\"}\n"
	for _, test := range []struct {
		file string
		want bool
	}{
		{"", true}, // in the lab
		{"profile: core\n", false},
		{onLive, false},
		{onLive + "profile: gate\n", true},
		{"profile: gate\n", true},
		{"profile: extended\n", true},
		{"experiments: on\n", true},
		{"profile: gate\nexperiments: off\n", false},
		{"profile: core\nexperiments: auto\nintervals: {command: 5s}\n", false},
	} {
		sources := Sources{Dir: tree(t, test.file)}
		if strings.HasPrefix(test.file, onLive) {
			sources.Environ = []string{"E2B_API_KEY=e2b_0123456789abcdef"}
		}
		c, err := Load(sources)
		if err != nil || c.WantsExperiments() != test.want {
			t.Errorf("%q: experiments %v, error %v, want %v", test.file, c.WantsExperiments(), err, test.want)
		}
	}
}
