package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/goccy/go-yaml"
	"golang.org/x/mod/semver"
)

// Flags are the settings of the command line; empty means not given.
type Flags struct {
	Config    string
	Target    string
	Profile   string
	Templates string
	Envd      string
	Shard     string
}

// Register declares the flags, each with the prefix that keeps it apart from
// Ginkgo's own.
func (f *Flags) Register(set *flag.FlagSet) {
	declare := func(to *string, name, usage string) { set.Var((*given)(to), name, usage) }
	declare(&f.Config, "e2e.config", "configuration `file`; default: ginkgo.yml of the module or repository")
	declare(&f.Target, "e2e.target", "where sandboxes come from: auto, live or lab")
	declare(&f.Profile, "e2e.profile", "what decides a verdict: auto, core, gate or extended")
	declare(&f.Templates, "e2e.templates", "`names` of the templates to judge, comma-separated")
	declare(&f.Envd, "e2e.envd", "in the lab: \"stand-in VERSION\", or the `path` of an envd binary, for every template")
	declare(&f.Shard, "e2e.shard", "judge only this `part` of the templates, such as 2/3; sandproof merge makes one run of all")
}

// given is a flag's value that is never empty: a variable that is not set must
// not choose a default where somebody asked for more.
type given string

// Set refuses what says nothing.
func (g *given) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("it is empty: say what is wanted, or leave the flag out")
	}
	*g = given(text)
	return nil
}

func (g *given) String() string { return string(*g) }

// Sources are where a configuration comes from besides its file.
type Sources struct {
	Flags Flags
	// Environ is the environment as os.Environ gives it.
	Environ []string
	// Dir is where the search for the file begins.
	Dir string
	// Unnamed lets nobody have named a template: the API is asked for them.
	Unnamed bool
}

// Load resolves the effective configuration: flags over environment over file
// over defaults. It reports everything that is wrong at once.
func Load(s Sources) (Config, error) {
	c, _, err := Resolve(s)
	return c, err
}

// Resolve is Load, and says of every setting where it comes from, also beside an
// error as far as they were settled before it.
func Resolve(s Sources) (Config, Origins, error) {
	c := defaults()
	from := sources{over: map[string]Origin{}}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return Config{}, nil, fmt.Errorf("find the configuration: %w", err)
	}
	if err := c.find(dir, s.Flags.Config); err != nil {
		return Config{}, nil, err
	}
	if c.File != "" {
		lines, err := c.read()
		if err != nil {
			return Config{}, nil, err
		}
		from.file, from.lines = c.File, byName(lines, c.Templates)
	}
	if s.Flags.Target != "" {
		c.Target = TargetKind(s.Flags.Target)
	}
	if s.Flags.Profile != "" {
		c.Profile = Profile(s.Flags.Profile)
	}
	from.noteFlags(s.Flags)
	environment := env.ToMap(s.Environ)
	from.noteEnvironment(environment, c.Target)
	if shard := cmp.Or(s.Flags.Shard, environment[ShardVariable]); shard != "" {
		c.Shard = Shard(shard)
	}
	if err := c.readEnvironment(environment); err != nil {
		return Config{}, nil, err
	}
	asked := c
	var p problems
	c.resolveTarget(&p, isTrue(environment["CI"]))
	c.resolveProfile()
	c.resolvePaths()
	c.checkTemplates(&p, c.Templates)
	c.selectTemplates(s.Flags.Templates)
	c.checkTemplates(&p, c.Templates)
	// Whoever names templates and names none has not asked the API for them.
	unnamed := s.Unnamed && s.Flags.Templates == ""
	if len(c.Templates) == 0 && !unnamed && (c.Target == TargetLab || c.Target == TargetLive) {
		p.addf("no template is named: list them in ginkgo.yml, or say -e2e.templates=NAME (make e2e TEMPLATES=NAME)")
	}
	c.cutTemplates(&p)
	c.overrideEnvd(&p, s.Flags.Envd, dir)
	c.check(&p)
	from.derive(asked, c, s.Flags)
	return c, from.origins(c), p.err(c.File)
}

// readEnvironment reads the E2B variables over the file's deployment. Empty
// ones count as not set, as they do for E2B's SDK.
func (c *Config) readEnvironment(environment map[string]string) error {
	ofFile := c.Live
	if environment["E2B_DOMAIN"] != "" {
		// A domain is a whole deployment: the environment's must not be mixed
		// with the URLs of the file's.
		c.Live.APIURL, c.Live.SandboxURL = "", ""
	}
	if err := env.ParseWithOptions(&c.Live, env.Options{Environment: environment}); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	if c.Target == TargetLab {
		// Where the lab is chosen the environment's deployment is ignored; its
		// credentials are known all the same, to be kept out of what is
		// written.
		ofFile.APIKey, ofFile.AdminToken = c.Live.APIKey, c.Live.AdminToken
		c.Live = ofFile
	}
	return nil
}

func isTrue(text string) bool { return text != "" && text != "false" && text != "0" }

// problems collects everything that is wrong, so that it can be mended in
// one go.
type problems []string

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) err(file string) error {
	if len(*p) == 0 {
		return nil
	}
	where := "the built-in defaults, the environment and the flags"
	if file != "" {
		where = file + ", the environment and the flags"
	}
	slices.Sort(*p)
	return fmt.Errorf("%s do not give a usable configuration:\n  - %s", where, strings.Join(slices.Compact(*p), "\n  - "))
}

// resolveTarget settles auto, and says what is missing for a live target.
func (c *Config) resolveTarget(p *problems, ci bool) {
	place := c.Live.APIURL != "" || c.Live.Domain != ""
	switch c.Target {
	case TargetAuto:
		switch {
		case ci:
			p.addf("CI is set and no target is chosen: say -e2e.target=live or -e2e.target=lab (make e2e TARGET=lab), or set target in ginkgo.yml")
		case place:
			c.Target = TargetLive
		case c.Live.APIKey != "":
			p.addf("E2B_API_KEY is set without a place to use it: set E2B_API_URL or E2B_DOMAIN too, or say -e2e.target=lab")
		default:
			c.Target = TargetLab
		}
	case TargetLive:
		if !place {
			p.addf("target live needs a place: set E2B_API_URL or E2B_DOMAIN, or live.api-url or live.domain in ginkgo.yml")
		}
	case TargetLab:
	default:
		p.addf("target %q: want auto, live or lab", c.Target)
	}
	if c.Target == TargetLive && place && c.Live.APIKey == "" {
		p.addf("target live needs a key: set E2B_API_KEY")
	}
}

// resolveProfile settles auto, once the target is known: whoever wants no
// experiments wants no verdict by them.
func (c *Config) resolveProfile() {
	if c.Profile != ProfileAuto {
		return
	}
	c.Profile = ProfileCore
	if c.Target == TargetLab && c.Experiments != SwitchOff {
		c.Profile = ProfileGate
	}
}

// resolvePaths makes the file's relative paths relative to its directory.
func (c *Config) resolvePaths() {
	resolve := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(c.Root, path)
	}
	for name, r := range c.Lab.Recipes {
		r.RootFS, r.Kernel = resolve(r.RootFS), resolve(r.Kernel)
		if IsPath(r.Init) {
			r.Init = resolve(r.Init)
		}
		if _, standIn := StandInVersion(r.Envd); !standIn && IsPath(r.Envd) {
			r.Envd = resolve(r.Envd)
		}
		c.Lab.Recipes[name] = r
	}
	c.Lab.Cache, c.Lab.Storage, c.Live.Storage = resolve(c.Lab.Cache), resolve(c.Lab.Storage), resolve(c.Live.Storage)
	for i := range c.Live.Caches {
		c.Live.Caches[i] = resolve(c.Live.Caches[i])
	}
	for i := range c.Live.Logs {
		c.Live.Logs[i].Dirs = resolve(c.Live.Logs[i].Dirs)
	}
}

// overrideEnvd puts the command line's envd in the place of every recipe's
// own. Where it could not act it is an error, so that nobody believes to have
// tested it.
func (c *Config) overrideEnvd(p *problems, envd, dir string) {
	if envd == "" {
		return
	}
	if c.Target == TargetLive {
		p.addf("-e2e.envd is for the lab: on a live target the templates bring their own envd, so leave it out")
		return
	}
	if _, standIn := StandInVersion(envd); !standIn && IsPath(envd) {
		envd = onCommandLine(envd, dir)
	}
	checkEnvd(p, "-e2e.envd", envd)
	c.Lab.Envd = envd
	for name, r := range c.Lab.Recipes {
		if r.RootFS == "" {
			r.Envd = envd
			c.Lab.Recipes[name] = r
		}
	}
	for _, t := range c.Templates {
		if c.Lab.Recipes[t.Name].RootFS != "" {
			p.addf("-e2e.envd does not act on template %s: its rootfs is a whole image with its own envd, so leave one of them out", t.Name)
		}
	}
}

// selectTemplates settles which templates are judged, in which order. On a
// live target a name that the inventory lacks is asked of the API; in the lab
// each needs a recipe.
func (c *Config) selectTemplates(flag string) {
	inventory := c.Templates
	c.Inventory, c.Templates = slices.Clone(inventory), nil
	slices.SortStableFunc(c.Inventory, func(a, b Template) int { return cmp.Compare(rank(a), rank(b)) })
	names := splitNames(flag)
	if flag == "" {
		if c.Target == TargetLab {
			names = c.Lab.Templates
		} else {
			for _, t := range inventory {
				names = append(names, t.Name)
			}
		}
	}
	if c.Target == TargetLab {
		c.Lab.Templates = names
	}
	for _, name := range names {
		if i := slices.IndexFunc(inventory, func(t Template) bool { return t.Name == name }); i >= 0 && c.Target == TargetLive {
			c.Templates = append(c.Templates, inventory[i])
			continue
		}
		c.Templates = append(c.Templates, Template{Name: name})
	}
	slices.SortStableFunc(c.Templates, func(a, b Template) int { return cmp.Compare(rank(a), rank(b)) })
}

// rank puts templates without a priority last.
func rank(t Template) int {
	if t.Priority == 0 {
		return int(^uint(0) >> 1)
	}
	return t.Priority
}

func splitNames(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

var (
	templateName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./:-]{0,199}$`) })
	domain       = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
	})
	buildID = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	})
)

// serverBound is how long E2B's API may take to answer a create
// (e2b-dev/infra packages/api/main.go).
const serverBound = 75 * time.Second

// leastTTL is the API's own default for a sandbox's time to live, mostTTL the
// longest that E2B offers (e2b.dev/docs/sandbox).
const (
	leastTTL = 15 * time.Second
	mostTTL  = 24 * time.Hour
)

// MostBurn is the longest that the guest probe burns.
const MostBurn = 30 * time.Second

// leastMemory is what a busybox guest needs, in MiB, and leastMemorySystemd
// what systemd does.
const (
	leastMemory        = 96
	leastMemorySystemd = 128
)

// scriptInits are the lab's init scripts, and systemdInits its units for
// systemd, which the flavour debian has.
var (
	scriptInits  = []string{"delegated", "unpatched"}
	systemdInits = []string{"systemd", "systemd-delegate", "systemd-bare"}
)

func (c *Config) check(p *problems) {
	if !slices.Contains([]Profile{ProfileCore, ProfileGate, ProfileExtended}, c.Profile) {
		p.addf("profile %q: want auto, core, gate or extended", c.Profile)
	}
	if !slices.Contains([]Switch{SwitchAuto, SwitchOn, SwitchOff}, c.Experiments) {
		p.addf("experiments %q: want auto (as the profile has it), on or off", c.Experiments)
	}
	c.checkRepeat(p)
	c.checkIntervals(p, "", c.Intervals)
	c.checkLive(p)
	if c.Target == TargetLab {
		c.checkLab(p)
	}
}

// checkTemplates checks the inventory, also what of it is not judged, or what
// was selected.
func (c *Config) checkTemplates(p *problems, templates []Template) {
	seen := map[string]bool{}
	for _, t := range templates {
		if !templateName().MatchString(t.Name) {
			p.addf("template %q: want a name of letters, digits and _ . / : - that begins with a letter or digit", t.Name)
		}
		if seen[t.Name] {
			p.addf("template %s is named twice: leave one out", t.Name)
		}
		if t.BuildID != "" && !buildID().MatchString(t.BuildID) {
			p.addf("template %s: build-id %q is no UUID: take it from the template's build", t.Name, t.BuildID)
		}
		if t.Priority < 0 {
			p.addf("template %s: priority %d: want 1 or more, or none", t.Name, t.Priority)
		}
		seen[t.Name] = true
		if t.Intervals != (Intervals{}) {
			c.checkIntervals(p, "template "+t.Name+": ", c.IntervalsFor(t))
		}
	}
}

func (c *Config) checkLive(p *problems) {
	checkURL(p, "live.api-url (E2B_API_URL)", c.Live.APIURL)
	checkURL(p, "live.sandbox-url (E2B_SANDBOX_URL)", c.Live.SandboxURL)
	if c.Live.Domain != "" && !domain().MatchString(c.Live.Domain) {
		p.addf("live.domain (E2B_DOMAIN): want a bare domain, such as e2b.example, without scheme and path")
	}
	for i, l := range c.Live.Logs {
		if l.Dirs == "" || l.Task == "" {
			p.addf("live.logs[%d]: want dirs (a glob of alloc/logs directories) and task (orchestrator, or start)", i)
		}
		if _, err := filepath.Match(l.Dirs, ""); err != nil {
			p.addf("live.logs[%d]: dirs %q is no glob: want a pattern such as /opt/nomad/data/alloc/*/alloc/logs", i, l.Dirs)
		}
	}
	if (c.Live.Nomad.Job == "") != (c.Live.Nomad.Task == "") {
		p.addf("live.nomad: want both job (the orchestrator's job ID) and task (orchestrator, or start)")
	}
}

// checkURL never shows a URL with a user in it: that is a credential.
func checkURL(p *problems, name, text string) {
	if text == "" {
		return
	}
	if strings.Contains(text, "@") {
		p.addf("%s has a user or password in it: leave them out, the credential is E2B_API_KEY", name)
		return
	}
	if u, err := url.Parse(text); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		p.addf("%s %q: want http(s)://host[:port]", name, text)
	}
}

func (c *Config) checkIntervals(p *problems, of string, i Intervals) {
	for n, d := range i.all() {
		if *d <= 0 {
			p.addf("%sintervals.%s %s: a wait must be positive, such as 30s", of, intervalNames[n], *d)
		}
	}
	if i.SandboxTTL < leastTTL || i.SandboxTTL > mostTTL {
		p.addf("%sintervals.sandbox-ttl %s: want %s to %s, such as 5m", of, i.SandboxTTL, leastTTL, mostTTL)
	}
	if c.Target == TargetLive && i.Create <= serverBound {
		p.addf("%sintervals.create %s: the server itself takes up to %s, so give it more, such as 90s", of, i.Create, serverBound)
	}
	if i.Keep < leastTTL || i.Keep > mostTTL {
		p.addf("%sintervals.keep %s: want %s to %s, such as 30m", of, i.Keep, leastTTL, mostTTL)
	}
	if i.LogCap <= i.LogQuiet {
		p.addf("%sintervals.log-cap %s must exceed log-quiet %s", of, i.LogCap, i.LogQuiet)
	}
	c.checkExperiments(p, of, i)
}

// MostSandboxes is how many sandboxes of one template a run may ask for.
const MostSandboxes = 100

func (c *Config) checkRepeat(p *problems) {
	if c.Repeat < 1 || c.Repeat > MostSandboxes {
		p.addf("repeat %d: want 1 to %d sandboxes of each template", c.Repeat, MostSandboxes)
	}
	for _, t := range c.Templates {
		if t.Repeat < 0 || t.Repeat > MostSandboxes {
			p.addf("template %s: repeat %d: want 1 to %d sandboxes, or leave it out", t.Name, t.Repeat, MostSandboxes)
		}
	}
}

// checkExperiments checks the waits of experiments that are to be made.
func (c *Config) checkExperiments(p *problems, of string, i Intervals) {
	if !c.WantsExperiments() || i.Command <= 0 {
		return
	}
	if i.Burn > MostBurn || i.Burn >= i.Command/2 {
		p.addf("%sintervals.burn %s: want %s at most, and less than half of command %s, which ends it", of, i.Burn, MostBurn, i.Command)
	}
	if i.Pressure >= i.Command {
		p.addf("%sintervals.pressure %s must be less than command %s, which ends it", of, i.Pressure, i.Command)
	}
}

func (c *Config) checkLab(p *problems) {
	if !slices.Contains([]string{LogConsole, LogJSON}, c.Lab.LogFormat) {
		p.addf("lab.log-format %q: want console or json", c.Lab.LogFormat)
	}
	if c.Lab.MaxGuests < 1 {
		p.addf("lab.max-guests %d: want 1 or more", c.Lab.MaxGuests)
	}
	for _, t := range c.Templates {
		if _, known := c.Lab.Recipes[t.Name]; !known {
			p.addf("template %q has no recipe in the lab; it has %s", t.Name, strings.Join(recipeNames(c.Lab.Recipes), ", "))
		}
	}
	for name, r := range c.Lab.Recipes {
		of := "lab.recipes." + name
		if r.RootFS != "" && (r.Flavour != "" || r.Init != "" || r.Envd != "") {
			p.addf("%s: rootfs is a whole image, so flavour, init and envd must not be given with it", of)
		}
		if r.RootFS == "" {
			checkInit(p, of, r)
			if c.Lab.Envd == "" {
				checkEnvd(p, of+": envd", r.Envd)
			}
		}
		if r.EnvdStderr != "" && (r.EnvdStderr != "discard" || IsPath(r.Init) || r.RootFS != "") {
			p.addf("%s: envd-stderr %q: want discard, and one of the lab's own inits", of, r.EnvdStderr)
		}
		least := leastMemory
		if slices.Contains(systemdInits, r.Init) {
			least = leastMemorySystemd
		}
		if r.MemoryMB != 0 && r.MemoryMB < least {
			p.addf("%s: memory-mb %d: a guest needs %d", of, r.MemoryMB, least)
		}
		if r.CPUs < 0 {
			p.addf("%s: cpus %d: want 1 or more", of, r.CPUs)
		}
	}
}

func checkInit(p *problems, of string, r Recipe) {
	inits := scriptInits
	switch r.Flavour {
	case "busybox":
		if slices.Contains(systemdInits, r.Init) {
			p.addf("%s: init %q: the flavour busybox has no systemd: take the flavour debian, or the init %s", of, r.Init, strings.Join(scriptInits, " or "))
			return
		}
	case "debian":
		inits = slices.Concat(scriptInits, systemdInits)
	default:
		p.addf("%s: flavour %q: want busybox or debian", of, r.Flavour)
		return
	}
	if !IsPath(r.Init) && !slices.Contains(inits, r.Init) {
		p.addf("%s: init %q: want %s, or a path (with a slash)", of, r.Init, strings.Join(inits, ", "))
	}
}

func checkEnvd(p *problems, of, envd string) {
	if version, standIn := StandInVersion(envd); standIn {
		if v := "v" + version; semver.Canonical(v)+semver.Build(v) != v { // a whole version has all three numbers
			p.addf("%s %q: want \"stand-in VERSION\", such as %q", of, envd, StandIn+"0.6.13")
		}
		return
	}
	if !IsPath(envd) {
		p.addf("%s %q: want \"stand-in VERSION\", such as %q, or a path (with a slash)", of, envd, StandIn+"0.6.13")
	}
}

func recipeNames(recipes map[string]Recipe) []string {
	names := make([]string, 0, len(recipes))
	for name := range recipes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Effective is the configuration as it was resolved, for the run directory.
// Credentials are no part of it.
func (c *Config) Effective() ([]byte, error) {
	data, err := yaml.MarshalWithOptions(c.whole(), yaml.CustomMarshaler[string](quoted))
	if err != nil {
		return nil, fmt.Errorf("write the effective configuration: %w", err)
	}
	from := "the built-in defaults"
	if c.File != "" {
		from = c.File
	}
	return append([]byte("# The effective configuration: "+from+", with the environment and the flags over it.\n"), data...), nil
}

// plain is a text of which goccy/go-yaml knows whether it needs quotes. Of others
// it writes some without (1.19.2: one with a tab or a carriage return, "? a", .nan),
// and reads something else, or nothing.
var plain = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9/][^\pC\p{Zl}\p{Zp}]*$`) })

// quoted writes a text so that it is read as it is. The quotes of JSON are quotes
// of YAML, too.
func quoted(text string) ([]byte, error) {
	if plain().MatchString(text) {
		return yaml.Marshal(text)
	}
	return json.Marshal(text)
}
