package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sameSettings compares two configurations but for where they come from, and
// for what is only in the file.
func sameSettings(t *testing.T, want, got Config) {
	t.Helper()
	want.File, want.Root, got.File, got.Root = "", "", "", ""
	want.Inventory, got.Inventory = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-) and got (+) differ:\n%s", diff)
	}
}

// keys lists the keys of a structure with their paths, such as
// lab.recipes.*.init, and the environment variables that stand for some.
func keys(of reflect.Type, prefix string) (paths, variables []string) {
	for field := range of.Fields() {
		if variable := field.Tag.Get("env"); variable != "" {
			variables = append(variables, variable)
		}
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		path, inner := prefix+name, field.Type
		if inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
			path, inner = path+".*", inner.Elem()
		}
		if inner.Kind() != reflect.Struct {
			paths = append(paths, strings.TrimSuffix(path, ".*"))
			continue
		}
		p, v := keys(inner, path+".")
		paths, variables = append(paths, p...), append(variables, v...)
	}
	return paths, variables
}

// baseline is a live file that has every key below which something can be
// changed.
const baseline = `
target: live
profile: core
templates: [{name: one}, {name: two}]
live: {api-url: "http://localhost:3000"}
`

func waiving(line, reason, expires string) string {
	return "waivers: [{line: " + line + ", reason: " + reason + ", expires: \"" + expires + "\"}]\n"
}

func excusing(template, requirements string) string {
	return "waivers: [{template: " + template + ", requirements: [" + requirements + "], reason: b, expires: 2026-12-31}]\n"
}

// changes says for every key a file in which it differs from one without.
var changes = map[string]struct{ without, with string }{
	"target":                         {baseline, strings.Replace(baseline, "target: live", "target: lab", 1)},
	"profile":                        {baseline, strings.Replace(baseline, "profile: core", "profile: gate", 1)},
	"experiments":                    {baseline, "experiments: off\n" + baseline},
	"repeat":                         {baseline, "repeat: 3\n" + baseline},
	"shard":                          {baseline, "shard: 1/2\n" + baseline},
	"templates.*.repeat":             {baseline, inTemplate("repeat: 3")},
	"templates.*.name":               {baseline, strings.Replace(baseline, "name: two", "name: three", 1)},
	"templates.*.build-id":           {baseline, inTemplate("build-id: 9ac9c8b9-9b8b-476c-9238-8266af308c32")},
	"templates.*.priority":           {baseline, inTemplate("priority: 1")},
	"live.api-url":                   {baseline, strings.Replace(baseline, ":3000", ":3001", 1)},
	"live.domain":                    {baseline, inLive("domain: e2b.example")},
	"live.sandbox-url":               {baseline, inLive("sandbox-url: \"http://localhost:3002\"")},
	"live.logs.*.dirs":               {inLive("logs: [{dirs: /a, task: x}]"), inLive("logs: [{dirs: /b, task: x}]")},
	"live.logs.*.task":               {inLive("logs: [{dirs: /a, task: x}]"), inLive("logs: [{dirs: /a, task: y}]")},
	"live.nomad.job":                 {inLive("nomad: {job: a, task: x}"), inLive("nomad: {job: b, task: x}")},
	"live.nomad.task":                {inLive("nomad: {job: a, task: x}"), inLive("nomad: {job: a, task: y}")},
	"live.loki.query":                {baseline, inLive("loki: {query: '{service=\"orchestrator\"}'}")},
	"waivers.*.line":                 {waiving("a", "b", "2026-12-31"), waiving("x", "b", "2026-12-31")},
	"waivers.*.reason":               {waiving("a", "b", "2026-12-31"), waiving("a", "x", "2026-12-31")},
	"waivers.*.expires":              {waiving("a", "b", "2026-12-31"), waiving("a", "b", "2027-12-31")},
	"waivers.*.template":             {excusing("a", "enable.io"), excusing("b", "enable.io")},
	"waivers.*.requirements":         {excusing("a", "enable.io"), excusing("a", "enable.io, enable.cpu")},
	"live.storage":                   {baseline, inLive("storage: /builds")},
	"live.caches":                    {baseline, inLive("caches: [/cache]")},
	"lab.templates":                  {"", "lab: {templates: [base-unpatched]}\n"},
	"lab.cache":                      {"", "lab: {cache: /cache}\n"},
	"lab.storage":                    {"", "lab: {storage: /builds}\n"},
	"lab.max-guests":                 {"", "lab: {max-guests: 2}\n"},
	"lab.log-format":                 {"", "lab: {log-format: json}\n"},
	"lab.recipes.*.rootfs":           {"", inLab("rootfs: /rootfs.ext4")},
	"lab.recipes.*.flavour":          {inLab("rootfs: /rootfs.ext4"), inLab("flavour: busybox, init: delegated, envd: /envd")},
	"lab.recipes.*.init":             {inLab("flavour: busybox, init: delegated, envd: /envd"), inLab("flavour: busybox, init: /init, envd: /envd")},
	"lab.recipes.*.envd":             {inLab("flavour: busybox, init: delegated, envd: /envd"), inLab("flavour: busybox, init: delegated, envd: stand-in 0.4.3")},
	"lab.recipes.*.envd-stderr":      {inLab("flavour: busybox, init: delegated, envd: /envd"), inLab("flavour: busybox, init: delegated, envd: /envd, envd-stderr: discard")},
	"lab.recipes.*.kernel":           {inLab("rootfs: /r"), inLab("rootfs: /r, kernel: /vmlinux")},
	"lab.recipes.*.kernel-args":      {inLab("rootfs: /r"), inLab("rootfs: /r, kernel-args: psi=1")},
	"lab.recipes.*.memory-mb":        {inLab("rootfs: /r"), inLab("rootfs: /r, memory-mb: 96")},
	"lab.recipes.*.cpus":             {inLab("rootfs: /r"), inLab("rootfs: /r, cpus: 2")},
	"lab.recipes.*.resume":           {inLab("rootfs: /r"), inLab("rootfs: /r, resume: true")},
	"intervals.sandbox-ttl":          {"", "intervals: {sandbox-ttl: 77s}\n"},
	"intervals.create":               {"", "intervals: {create: 77s}\n"},
	"intervals.envd-ready":           {"", "intervals: {envd-ready: 77s}\n"},
	"intervals.command":              {"", "intervals: {command: 77s}\n"},
	"intervals.forwarder":            {"", "intervals: {forwarder: 77s}\n"},
	"intervals.burn":                 {"", "intervals: {burn: 7s}\n"},
	"intervals.pressure":             {"", "intervals: {pressure: 7s}\n"},
	"intervals.settle":               {"", "intervals: {settle: 77s}\n"},
	"intervals.log-quiet":            {"", "intervals: {log-quiet: 7s}\n"},
	"intervals.log-cap":              {"", "intervals: {log-cap: 77s}\n"},
	"intervals.log-settle":           {"", "intervals: {log-settle: 77ms}\n"},
	"intervals.log-delay":            {"", "intervals: {log-delay: 77s}\n"},
	"intervals.request":              {"", "intervals: {request: 77s}\n"},
	"intervals.destroy":              {"", "intervals: {destroy: 77s}\n"},
	"intervals.hop":                  {"", "intervals: {hop: 77s}\n"},
	"intervals.keep":                 {"", "intervals: {keep: 77s}\n"},
	"intervals.poll":                 {"", "intervals: {poll: 77ms}\n"},
	"templates.*.intervals.*any of*": {baseline, inTemplate("intervals: {create: 80s}")},
}

func inTemplate(text string) string {
	return strings.Replace(baseline, "name: two", "name: two, "+text, 1)
}

func inLive(text string) string {
	return strings.Replace(baseline, "live: {", "live: {"+text+", ", 1)
}

func inLab(recipe string) string { return "lab: {recipes: {base: {" + recipe + "}}}\n" }

// A key that can be written has an effect, and it shows in the run's record.
func TestEveryKeyChangesTheEffectiveConfiguration(t *testing.T) {
	paths, _ := keys(reflect.TypeFor[Config](), "")
	effective := func(file string) string {
		c, err := Load(Sources{Dir: tree(t, file), Environ: []string{key}, Flags: targetFlag(file)})
		if err != nil {
			t.Fatalf("%v, in:\n%s", err, file)
		}
		return settingsOf(t, &c)
	}
	for _, path := range paths {
		// The waits of a template are those of the run: one stands for all, and
		// TestIntervalsOfATemplate has each.
		if strings.HasPrefix(path, "templates.*.intervals.") {
			path = "templates.*.intervals.*any of*"
		}
		change, known := changes[path]
		if !known {
			t.Errorf("no test shows that %s has an effect", path)
			continue
		}
		if effective(change.without) == effective(change.with) {
			t.Errorf("%s has no effect on the effective configuration", path)
		}
	}
}

// targetFlag chooses the lab for files that say no target, since a key alone
// is an error.
func targetFlag(file string) Flags {
	if strings.Contains(file, "target:") {
		return Flags{}
	}
	return Flags{Target: "lab"}
}

// settingsOf is the effective configuration without its first line, which
// names the file.
func settingsOf(t *testing.T, c *Config) string {
	t.Helper()
	data, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	_, settings, _ := strings.Cut(string(data), "\n")
	return settings
}

func TestEveryFlagChangesTheConfiguration(t *testing.T) {
	dir := tree(t, "")
	write(t, filepath.Join(dir, "other.yml"), "profile: core\n")
	values := map[string]string{
		"e2e.config": "other.yml", "e2e.target": "live", "e2e.profile": "extended",
		"e2e.templates": "base-unpatched", "e2e.envd": "stand-in 0.4.3",
		"e2e.shard": "1/1",
	}
	plain, err := Load(Sources{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var declared Flags
	set := flag.NewFlagSet("", flag.ContinueOnError)
	declared.Register(set)
	count := 0
	set.VisitAll(func(f *flag.Flag) {
		count++
		var flags Flags
		one := flag.NewFlagSet("", flag.ContinueOnError)
		flags.Register(one)
		if err := one.Parse([]string{"-" + f.Name + "=" + values[f.Name]}); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Sources{Dir: dir, Flags: flags})
		// A live target without a place is an error, and that is its effect.
		if err == nil && settingsOf(t, &c) == settingsOf(t, &plain) {
			t.Errorf("-%s has no effect", f.Name)
		}
	})
	if count != len(values) || count != reflect.TypeFor[Flags]().NumField() {
		t.Errorf("%d flags are declared, %d are tested", count, len(values))
	}
}

// docs/configuration.md has every key, every variable and every flag, and
// every default as it is.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	paths, variables := keys(reflect.TypeFor[Config](), "")
	for _, path := range paths {
		if name := path[strings.LastIndex(path, ".")+1:]; !strings.Contains(text, "`"+name+"`") {
			t.Errorf("the key %s (%s) is not documented", name, path)
		}
	}
	for _, variable := range append(variables, "E2B_ACCESS_TOKEN", "CI") {
		if !strings.Contains(text, "| `"+variable+"` |") {
			t.Errorf("the variable %s is not documented", variable)
		}
	}
	var flags Flags
	set := flag.NewFlagSet("", flag.ContinueOnError)
	flags.Register(set)
	set.VisitAll(func(f *flag.Flag) {
		if !strings.Contains(text, "| `-"+f.Name+"=") {
			t.Errorf("the flag -%s is not documented", f.Name)
		}
	})
	usual := defaults()
	for i, name := range intervalNames {
		row := "| `" + name + "` | `"
		_, rest, found := strings.Cut(text, row)
		value, _, _ := strings.Cut(rest, "`")
		documented, err := time.ParseDuration(value)
		if !found || err != nil || documented != *usual.Intervals.all()[i] {
			t.Errorf("the default of %s is documented as %q, it is %s", name, value, *usual.Intervals.all()[i])
		}
	}
}

// The names of the waits are the keys of the file, in the order of the fields.
func TestIntervalNames(t *testing.T) {
	names, _ := keys(reflect.TypeFor[Intervals](), "")
	if diff := cmp.Diff(names, intervalNames); diff != "" {
		t.Error(diff)
	}
	var i Intervals
	for n, d := range i.all() {
		*d = time.Duration(n + 1)
	}
	value := reflect.ValueOf(i)
	for n := range value.NumField() {
		if value.Field(n).Int() != int64(n+1) {
			t.Errorf("all()[%d] is not the field of %s", n, intervalNames[n])
		}
	}
}

func TestIntervalsOfATemplate(t *testing.T) {
	c := defaults()
	for n, name := range intervalNames {
		var own Intervals
		*own.all()[n] = 42 * time.Second
		want := c.Intervals
		*want.all()[n] = 42 * time.Second
		if diff := cmp.Diff(want, c.IntervalsFor(Template{Intervals: own})); diff != "" {
			t.Errorf("%s of a template:\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(defaults().Intervals, c.Intervals); diff != "" {
		t.Errorf("the run's own waits changed:\n%s", diff)
	}
}

// What a run records is a configuration again: with it, a run is repeated.
func TestEffectiveConfigurationLoads(t *testing.T) {
	for name, change := range changes {
		if name == "target" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			first, err := Load(Sources{Dir: tree(t, change.with), Environ: []string{key}, Flags: targetFlag(change.with)})
			if err != nil {
				t.Fatal(err)
			}
			data, err := first.Effective()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Load(Sources{Dir: tree(t, string(data)), Environ: []string{key}})
			if err != nil {
				t.Fatalf("%v, in:\n%s", err, data)
			}
			sameSettings(t, first, again)
		})
	}
	t.Run("texts that are something else without quotes", func(t *testing.T) {
		for _, text := range []string{
			"a\tb", "\ta\nb", "a\r\nb", "a\rb", "a\nb\n\n", " a\n  b", "? a", "?", ".nan", ".NaN", ".Inf", "-.inf", "+.INF", "nan", "<a> & 'b' \"c\" \\t\tü",
			"null", "~", "true", "0x1f", "1e3", "- a", "a: b", "a #b", "--- a", "...", "=", "<<", "%a", "@a", "\u2028a", "\ufeffa",
		} {
			c, err := Load(Sources{Dir: tree(t, "waivers: [{line: x, reason: y, expires: 2099-01-01}]\n"), Flags: targetFlag("")})
			if err != nil {
				t.Fatal(err)
			}
			c.Waivers[0].Reason, c.Waivers[0].Line = text, "x"+text
			data, err := c.Effective()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Load(Sources{Dir: tree(t, string(data))})
			if err != nil || !cmp.Equal(c.Waivers, again.Waivers) {
				t.Errorf("%q: %v, got %+v", text, err, again.Waivers)
			}
		}
	})
	t.Run("templates and envd of the command line", func(t *testing.T) {
		c, err := Load(Sources{Dir: tree(t, ""), Flags: Flags{Templates: "base-unpatched", Envd: "stand-in 0.4.3"}})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(Sources{Dir: tree(t, settingsOf(t, &c))})
		if err != nil {
			t.Fatal(err)
		}
		if again.Templates[0].Name != "base-unpatched" || again.Lab.Recipes["base-unpatched"].Envd != "stand-in 0.4.3" {
			t.Errorf("got %+v", again)
		}
	})
}
