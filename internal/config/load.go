package config

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/caarlos0/env/v11"
	"github.com/goccy/go-yaml"
)

// FileName is the configuration file that is looked for.
const FileName = "ginkgo.yml"

// Flags are the settings of the command line; empty means not given.
type Flags struct {
	Config    string
	Target    string
	Profile   string
	Templates string
	Envd      string
}

// Register declares the flags, each with the prefix that keeps it apart from
// Ginkgo's own.
func (f *Flags) Register(set *flag.FlagSet) {
	set.StringVar(&f.Config, "e2e.config", "", "configuration `file`; default: ginkgo.yml of the module or repository")
	set.StringVar(&f.Target, "e2e.target", "", "where sandboxes come from: auto, live or lab")
	set.StringVar(&f.Profile, "e2e.profile", "", "what decides a verdict: core, gate or extended")
	set.StringVar(&f.Templates, "e2e.templates", "", "`names` of the templates to judge, comma-separated")
	set.StringVar(&f.Envd, "e2e.envd", "", "in the lab: \"stand-in VERSION\", or the `path` of an envd binary, for every template")
}

// Sources are where a configuration comes from besides its file.
type Sources struct {
	Flags Flags
	// Environ is the environment as os.Environ gives it.
	Environ []string
	// Dir is where the search for the file begins.
	Dir string
}

// Load resolves the effective configuration: flags over environment over file
// over defaults. It reports everything that is wrong at once.
func Load(s Sources) (Config, error) {
	c := defaults()
	if err := c.find(s); err != nil {
		return Config{}, err
	}
	if c.File != "" {
		if err := c.read(); err != nil {
			return Config{}, err
		}
	}
	environment := env.ToMap(s.Environ)
	if err := env.ParseWithOptions(&c.Live, env.Options{Environment: environment}); err != nil {
		return Config{}, fmt.Errorf("environment: %w", err)
	}
	if s.Flags.Target != "" {
		c.Target = TargetKind(s.Flags.Target)
	}
	if s.Flags.Profile != "" {
		c.Profile = Profile(s.Flags.Profile)
	}
	c.Lab.Envd = s.Flags.Envd
	var p problems
	c.resolveTarget(&p, isTrue(environment["CI"]))
	c.resolvePaths()
	c.selectTemplates(&p, s.Flags.Templates)
	c.check(&p)
	return c, p.err(c.File)
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
	return fmt.Errorf("%s do not give a usable configuration:\n  - %s", where, strings.Join(*p, "\n  - "))
}

// find looks for the file: the given one, else ginkgo.yml in the directory
// or one above it, up to the module's or repository's root and no further.
func (c *Config) find(s Sources) error {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return fmt.Errorf("find the configuration: %w", err)
	}
	c.Root = dir
	if s.Flags.Config != "" {
		if c.File, err = filepath.Abs(s.Flags.Config); err != nil {
			return fmt.Errorf("find the configuration: %w", err)
		}
		c.Root = filepath.Dir(c.File)
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		file := filepath.Join(at, FileName)
		switch _, err := os.Stat(file); {
		case err == nil:
			c.File, c.Root = file, at
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("find the configuration: %w", err)
		}
		if isRoot(at) {
			c.Root = at
			return nil
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func isRoot(dir string) bool {
	for _, mark := range []string{"go.mod", ".git"} {
		if _, err := os.Stat(filepath.Join(dir, mark)); err == nil {
			return true
		}
	}
	return false
}

// credential finds keys that look like credentials in the file, where they
// do not belong.
var credential = regexp.MustCompile(`(?mi)^\s*(api[-_]?key|access[-_]?token)\s*:`)

// read reads the file over the defaults. Unknown keys, keys that stand twice
// and wrong types are errors with their line and column.
func (c *Config) read() error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if at := credential.FindIndex(data); at != nil {
		line := 1 + bytes.Count(data[:at[1]], []byte("\n"))
		return fmt.Errorf("%s:%d: a credential does not belong into the file: set E2B_API_KEY in the environment", c.File, line)
	}
	recipes := c.Lab.Recipes
	c.Lab.Recipes = nil
	if len(bytes.TrimSpace(stripComments(data))) > 0 {
		if err := yaml.UnmarshalWithOptions(data, c, yaml.Strict(), yaml.CustomUnmarshaler(duration)); err != nil {
			return fmt.Errorf("%s: %s", c.File, strings.TrimSpace(yaml.FormatError(err, false, true)))
		}
	}
	if c.Lab.Recipes == nil {
		c.Lab.Recipes = recipes
	}
	return nil
}

// duration reads a wait, with an error that shows what a wait looks like.
func duration(d *time.Duration, data []byte) error {
	text := strings.Trim(strings.TrimSpace(string(data)), `"'`)
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration: want a number and a unit, such as 30s or 5m", text)
	}
	*d = parsed
	return nil
}

// stripComments drops comment lines, to see whether a file says anything.
func stripComments(data []byte) []byte {
	return regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAll(data, nil)
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

// resolvePaths makes the recipes' relative paths relative to the file.
func (c *Config) resolvePaths() {
	resolve := func(path string) string {
		if path == "" || !IsPath(path) || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(c.Root, path)
	}
	for name, r := range c.Lab.Recipes {
		r.RootFS, r.Init, r.Kernel = resolve(r.RootFS), resolve(r.Init), resolve(r.Kernel)
		if _, standIn := StandInVersion(r.Envd); !standIn {
			r.Envd = resolve(r.Envd)
		}
		c.Lab.Recipes[name] = r
	}
	if c.Lab.Cache != "" && !filepath.IsAbs(c.Lab.Cache) {
		c.Lab.Cache = filepath.Join(c.Root, c.Lab.Cache)
	}
	if IsPath(c.Lab.Envd) {
		// A path on the command line counts from where the command was given.
		if abs, err := filepath.Abs(c.Lab.Envd); err == nil {
			c.Lab.Envd = abs
		}
	}
}

// selectTemplates settles which templates are judged, in which order. On a
// live target a name that the inventory lacks is asked of the API; in the lab
// each needs a recipe.
func (c *Config) selectTemplates(p *problems, flag string) {
	inventory := c.Templates
	c.Templates = nil
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
	for _, name := range names {
		if i := slices.IndexFunc(inventory, func(t Template) bool { return t.Name == name }); i >= 0 && c.Target == TargetLive {
			c.Templates = append(c.Templates, inventory[i])
			continue
		}
		c.Templates = append(c.Templates, Template{Name: name})
	}
	if len(c.Templates) == 0 && (c.Target == TargetLab || c.Target == TargetLive) {
		p.addf("no template is named: list them in ginkgo.yml, or say -e2e.templates=NAME (make e2e TEMPLATES=NAME)")
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
	templateName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./:-]{0,199}$`)
	buildID      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// serverBound is how long E2B's API may take to answer a create
// (e2b-dev/infra packages/api/main.go).
const serverBound = 75 * time.Second

// leastMemory is what a busybox guest needs, in MiB.
const leastMemory = 96

func (c *Config) check(p *problems) {
	if !slices.Contains([]Profile{ProfileCore, ProfileGate, ProfileExtended}, c.Profile) {
		p.addf("profile %q: want core, gate or extended", c.Profile)
	}
	for name, text := range map[string]string{"live.api-url (E2B_API_URL)": c.Live.APIURL, "live.sandbox-url (E2B_SANDBOX_URL)": c.Live.SandboxURL} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			p.addf("%s %q: want http(s)://host[:port]", name, text)
		}
	}
	seen := map[string]bool{}
	for _, t := range c.Templates {
		switch {
		case !templateName.MatchString(t.Name):
			p.addf("template %q: a name has letters, digits and _ . / : -", t.Name)
		case seen[t.Name]:
			p.addf("template %s is named twice", t.Name)
		case t.BuildID != "" && !buildID.MatchString(t.BuildID):
			p.addf("template %s: build-id %q is no UUID", t.Name, t.BuildID)
		case t.Priority < 0:
			p.addf("template %s: priority %d: want 1 or more, or none", t.Name, t.Priority)
		}
		seen[t.Name] = true
		c.checkIntervals(p, "template "+t.Name+": ", c.IntervalsFor(t))
	}
	if len(c.Templates) == 0 {
		c.checkIntervals(p, "", c.Intervals)
	}
	for i, l := range c.Live.Logs {
		if l.Dirs == "" || l.Task == "" {
			p.addf("live.logs[%d]: want dirs (a glob of alloc/logs directories) and task (orchestrator, or start)", i)
		}
	}
	if c.Target == TargetLab {
		c.checkLab(p)
	}
}

func (c *Config) checkIntervals(p *problems, of string, i Intervals) {
	for _, d := range i.all() {
		if *d <= 0 {
			p.addf("%sintervals: every wait must be positive, such as 30s", of)
			return
		}
	}
	if c.Target == TargetLive && i.Create <= serverBound {
		p.addf("%sintervals.create %s: the server itself takes up to %s, so give it more, such as 90s", of, i.Create, serverBound)
	}
	if i.LogCap <= i.LogQuiet {
		p.addf("%sintervals.log-cap %s must exceed log-quiet %s", of, i.LogCap, i.LogQuiet)
	}
}

func (c *Config) checkLab(p *problems) {
	if c.Lab.MaxGuests < 1 {
		p.addf("lab.max-guests %d: want 1 or more", c.Lab.MaxGuests)
	}
	if c.Lab.Envd != "" {
		checkEnvd(p, "-e2e.envd", c.Lab.Envd)
	}
	for _, t := range c.Templates {
		r, known := c.Lab.Recipes[t.Name]
		if !known {
			p.addf("template %q has no recipe in the lab; it has %s", t.Name, strings.Join(recipeNames(c.Lab.Recipes), ", "))
			continue
		}
		of := "lab.recipes." + t.Name
		if r.RootFS != "" && (r.Flavour != "" || r.Init != "" || r.Envd != "") {
			p.addf("%s: rootfs is a whole image, so flavour, init and envd must not be given with it", of)
		}
		if r.RootFS == "" {
			if r.Flavour != "busybox" {
				p.addf("%s: flavour %q: want busybox", of, r.Flavour)
			}
			if !IsPath(r.Init) && r.Init != "delegated" && r.Init != "unpatched" {
				p.addf("%s: init %q: want delegated, unpatched, or a path (with a slash)", of, r.Init)
			}
			checkEnvd(p, of+": envd", r.Envd)
		}
		if r.EnvdStderr != "" && (r.EnvdStderr != "discard" || IsPath(r.Init) || r.RootFS != "") {
			p.addf("%s: envd-stderr %q: want discard, and one of the lab's own inits", of, r.EnvdStderr)
		}
		if r.MemoryMB != 0 && r.MemoryMB < leastMemory {
			p.addf("%s: memory-mb %d: a guest needs %d", of, r.MemoryMB, leastMemory)
		}
		if r.CPUs < 0 {
			p.addf("%s: cpus %d: want 1 or more", of, r.CPUs)
		}
	}
}

func checkEnvd(p *problems, of, envd string) {
	if version, standIn := StandInVersion(envd); standIn {
		if _, err := semver.StrictNewVersion(version); err != nil {
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
	data, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write the effective configuration: %w", err)
	}
	from := "the built-in defaults"
	if c.File != "" {
		from = c.File
	}
	return append([]byte("# The effective configuration: "+from+", with the environment and the flags over it.\n"), data...), nil
}
