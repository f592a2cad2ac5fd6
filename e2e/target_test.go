package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"sandproof/internal/collect"
	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/image"
	"sandproof/internal/logscan"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/sandboxapi"
)

// version names this harness in metadata, User-Agent and manifests.
const version = "0.1.0"

// targetSettings is everything that a process needs to use the target; suites
// cannot tell live from lab by it.
type targetSettings struct {
	Live config.Live
	// APIKey and AdminToken travel by themselves: the configuration never
	// writes them.
	APIKey     string
	AdminToken string
	Probe      string
	StandIn    map[string]bool
	// Lab is set when the lab is the target.
	Lab *lab.Endpoints
}

// target is the target as one process uses it.
type target struct {
	settings targetSettings
	client   *sandboxapi.Client
	logs     []logscan.Source
	waivers  []logscan.Waiver
	probe    []byte
	lifeline io.Closer
}

// labProcess is the lab, in process 1, and labWords what it says.
var (
	labProcess *lab.Process
	labWords   *redact.Writer
)

// openTarget makes the target ready, in process 1, and looks that everything
// that the specs rely on is there.
func openTarget(ctx context.Context) (targetSettings, error) {
	probe, err := findProbe(ctx)
	if err != nil {
		return targetSettings{}, err
	}
	settings := targetSettings{
		Live: suite.config.Live, APIKey: suite.config.Live.APIKey, AdminToken: suite.config.Live.AdminToken, Probe: probe, StandIn: map[string]bool{},
	}
	if suite.config.Target == config.TargetLab {
		if err := startLab(ctx, &settings); err != nil {
			return targetSettings{}, err
		}
	}
	if err := preflight(ctx, settings); err != nil {
		return targetSettings{}, err
	}
	return settings, announceExperiments(ctx, settings)
}

// startLab starts the embedded target and points the settings at it.
func startLab(ctx context.Context, settings *targetSettings) error {
	specs, standIn, err := labTemplates(ctx)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	labWords = redact.NewWriter(os.Stderr, suite.redactor)
	labProcess, err = lab.Start(ctx, self, nil, []string{labEnv + "=1"}, lab.Spec{
		Templates: specs, CacheDir: suite.config.Lab.Cache, StorageDir: suite.config.Lab.Storage, LogDir: filepath.Join(suite.run.Artifacts(), "lab"),
		MaxGuests: suite.config.Lab.MaxGuests, JSONLog: suite.config.Lab.LogFormat == config.LogJSON,
	}, labWords)
	if err != nil {
		return errors.Join(err, labWords.Flush())
	}
	endpoints := labProcess.Endpoints
	settings.Lab, settings.APIKey, settings.AdminToken, settings.StandIn = &endpoints, endpoints.APIKey, endpoints.AdminToken, standIn
	settings.Live = config.Live{
		APIURL: endpoints.APIURL, SandboxURL: endpoints.SandboxURL,
		Logs: []config.LogGlob{{Dirs: endpoints.LogDirs, Task: endpoints.LogTask}},
	}
	return nil
}

// labEnv tells a re-executed suite that it is the lab.
const labEnv = "SANDPROOF_LAB"

// labTemplates are the lab's templates with their envd binaries, and which of
// them the stand-in serves.
func labTemplates(ctx context.Context) ([]lab.TemplateSpec, map[string]bool, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, nil, err
	}
	return lab.Templates(ctx, suite.config, root, filepath.Join(suite.run.Dir, "bin"))
}

// moduleRoot is the directory of this module's source, empty where there is
// none: a precompiled suite runs anywhere.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module sandproof\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", nil
		}
	}
}

// findProbe returns the guest probe: the given one, else one that is built
// from this module's source.
func findProbe(ctx context.Context) (string, error) {
	if flags.probe != "" {
		if _, err := os.Stat(flags.probe); err != nil {
			return "", fmt.Errorf("the guest probe of -e2e.probe: %w", err)
		}
		return filepath.Abs(flags.probe)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if root == "" {
		return "", errors.New("no guest probe: this suite runs outside of its source, so say where the probe is with -e2e.probe=PATH")
	}
	out := filepath.Join(suite.run.Dir, "bin", "guestprobe")
	return out, lab.BuildStatic(ctx, root, "./cmd/guestprobe", "-X main.version="+version, out)
}

// client makes a client of the target's API for one process.
func (s targetSettings) client() (*sandboxapi.Client, error) {
	return sandboxapi.New(sandboxapi.Options{
		APIURL: s.Live.APIURL, Domain: s.Live.Domain, SandboxURL: s.Live.SandboxURL, APIKey: s.APIKey, AdminToken: s.AdminToken,
		UserAgent:     "sandproof/" + version + " (run " + suite.run.Manifest.Run + ")",
		CreateTimeout: suite.config.Intervals.Create, RequestTimeout: suite.config.Intervals.Request,
	})
}

// preflight looks at everything once, before any spec: each sentence says what
// was tried.
func preflight(ctx context.Context, settings targetSettings) error {
	client, err := settings.client()
	if err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	if err := client.Health(ctx); err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	if err := sweep(ctx, client); err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	if err := templatesExist(ctx, client); err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	// Each source is marked once, as it is before every sandbox.
	window, err := logscan.Open(ctx, collect.Sources(settings.Live, suite.config.Intervals))
	if err != nil {
		return fmt.Errorf("preflight: %w; run sandproof as a user who may read it", err)
	}
	defer window.Close()
	if err := window.Missing(); err != nil {
		return fmt.Errorf("preflight: %w; see live.logs and live.nomad in ginkgo.yml", err)
	}
	return nil
}

// templatesExist looks each template up: by alias, else in the team's list.
func templatesExist(ctx context.Context, client *sandboxapi.Client) error {
	own, err := client.ListTemplates(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range own {
		names = append(names, t.TemplateID)
		names = append(names, t.Aliases...)
		names = append(names, t.Names...)
	}
	var missing []string
	for _, t := range suite.config.Templates {
		plain := plainName(t.Name)
		if err := expectedBuild(own, t.Name, plain, t.BuildID); err != nil {
			return err
		}
		if slices.Contains(names, plain) {
			continue
		}
		// A public template of another team resolves by its alias only.
		switch _, err := client.ResolveAlias(ctx, plain); sandboxapi.KindOf(err) {
		case sandboxapi.NotFound:
			missing = append(missing, t.Name)
		case "", sandboxapi.Unauthorised, sandboxapi.Protocol:
			// It is there, or this server does not tell.
		case sandboxapi.Transient, sandboxapi.Capacity, sandboxapi.RateLimited, sandboxapi.Validation:
			return err
		}
	}
	if len(missing) > 0 {
		slices.Sort(names)
		return fmt.Errorf("the API knows no template %s; it lists %s", strings.Join(missing, ", "), strings.Join(slices.Compact(names), ", "))
	}
	return nil
}

// announceExperiments says what the experiments cost before they are made.
func announceExperiments(ctx context.Context, settings targetSettings) error {
	if !suite.config.WantsExperiments() {
		return nil
	}
	client, err := settings.client()
	if err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	own, err := client.ListTemplates(ctx)
	if err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	most := 0
	for _, t := range own {
		if slices.ContainsFunc(suite.config.Templates, func(c config.Template) bool { return named(t, plainName(c.Name)) }) {
			most = max(most, t.MemoryMB)
		}
	}
	size := "all that it may use"
	if most > 0 {
		size = fmt.Sprintf("up to %d MiB", most)
	}
	burn := 2 * suite.config.Intervals.Burn
	progressf("experiments: each sandbox keeps one CPU of its node busy for %s (up to %s where the node is too busy to tell anything), "+
		"fills its memory (%s, held until the sandbox ends; one sandbox at a time), and is paused once", burn, collect.MostRounds*burn, size)
	return nil
}

// plainName is a template's name without its tag.
func plainName(name string) string {
	plain, _, _ := strings.Cut(name, ":")
	return plain
}

// named tells whether a template goes by a name.
func named(t sandboxapi.Template, name string) bool {
	return t.TemplateID == name || slices.Contains(t.Aliases, name) || slices.Contains(t.Names, name)
}

// expectedBuild compares the build that the API lists for a template with the
// one that ginkgo.yml expects: whoever patched one build must not be shown
// another.
func expectedBuild(own []sandboxapi.Template, name, plain, want string) error {
	if want == "" {
		return nil
	}
	i := slices.IndexFunc(own, func(t sandboxapi.Template) bool { return named(t, plain) })
	switch {
	case i < 0:
		return fmt.Errorf("ginkgo.yml expects build %s of template %s, and the API does not list that template's builds for this team; leave build-id out to judge it all the same", want, name)
	case !strings.EqualFold(own[i].BuildID, want):
		return fmt.Errorf("template %s is build %s, and ginkgo.yml expects build %s: not the build you patched, or the entry is old", name, own[i].BuildID, want)
	}
	return nil
}

// sweep ends sandboxes that an earlier run left behind: only those that carry
// the harness's metadata and are past their own expiry.
func sweep(ctx context.Context, client *sandboxapi.Client) error {
	all, err := client.List(ctx, nil)
	if err != nil {
		return err
	}
	for _, s := range all {
		expires, err := strconv.ParseInt(s.Metadata[collect.MetadataExpires], 10, 64)
		if err != nil || s.Metadata[collect.MetadataRun] == "" || s.Metadata[collect.MetadataVersion] == "" || time.Now().Unix() < expires {
			continue
		}
		if _, err := client.Delete(ctx, s.SandboxID); err != nil {
			return fmt.Errorf("end a sandbox that run %s left behind: %w", s.Metadata[collect.MetadataRun], err)
		}
		GinkgoWriter.Print(redact.Terminal(suite.redactor.String(fmt.Sprintf("ended sandbox %s, which run %s had left behind", s.SandboxID, s.Metadata[collect.MetadataRun]))) + "\n")
	}
	return nil
}

// joinTarget makes the target usable in one process.
func joinTarget(ctx context.Context, settings targetSettings) (*target, error) {
	client, err := settings.client()
	if err != nil {
		return nil, err
	}
	probe, err := os.ReadFile(settings.Probe)
	if err != nil {
		return nil, fmt.Errorf("the guest probe: %w", err)
	}
	waivers, err := collect.Waivers(suite.config.Waivers)
	if err != nil {
		return nil, fmt.Errorf("waivers: %w", err)
	}
	t := &target{waivers: waivers, settings: settings, client: client, logs: collect.Sources(settings.Live, suite.config.Intervals), probe: probe}
	// Sandboxes that may be kept must outlive their process; they end with the lab.
	if settings.Lab != nil && !flags.keep {
		if t.lifeline, err = lab.Lifeline(ctx, *settings.Lab, collect.MetadataProcess, processName()); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *target) leave() error {
	if t.lifeline != nil {
		return t.lifeline.Close()
	}
	return nil
}

// processName tells the processes of all runs apart.
func processName() string {
	return fmt.Sprintf("%s.%d", suite.run.Manifest.Run, GinkgoParallelProcess())
}

// collectOptions is what collecting one template's evidence takes.
func (t *target) collectOptions(template config.Template, number int) collect.Options {
	return collect.Options{
		Run: suite.run.Manifest.Run, Process: processName(), Version: version,
		Target: string(suite.config.Target), StandIn: t.settings.StandIn[template.Name],
		Template: template, Number: number, Intervals: suite.config.IntervalsFor(template),
		Client: t.client, Logs: t.logs, Waivers: t.waivers, Probe: t.probe,
		Live: func(text string) {
			GinkgoWriter.Printf("%s: log: %s\n", evidence.NameOf(template.Name, number), redact.Terminal(suite.redactor.String(text)))
		},
		Redactor:    suite.redactor,
		Disk:        diskReader(suite.config.Builds()),
		MayKeep:     flags.keep,
		Experiments: suite.config.WantsExperiments(), Again: requirement.CPUAgain,
		Alone: func(ctx context.Context) (func(), error) {
			return suite.run.Lock(ctx, "memory", suite.config.Intervals.Poll)
		},
	}
}

// diskReader reads what the target's storage holds of a build; nil where none
// is configured.
func diskReader(b config.Builds) func(context.Context, string) (*evidence.Disk, error) {
	if b.Storage == "" {
		return nil
	}
	return image.Storage{Dir: b.Storage, Caches: b.Caches, Templates: b.Templates}.Disk
}

// leftovers lists what of this run is still there, but for what was kept.
func (t *target) leftovers(ctx context.Context, run string, kept []string) ([]string, error) {
	all, err := t.client.List(ctx, map[string]string{collect.MetadataRun: run})
	if err != nil {
		return nil, err
	}
	var left []string
	for _, s := range all {
		if slices.Contains(kept, s.SandboxID) {
			continue
		}
		left = append(left, fmt.Sprintf("sandbox %s of template %s, made by %s, is still %s", s.SandboxID, s.TemplateID, s.Metadata[collect.MetadataProcess], s.State))
	}
	return left, nil
}

// stopLab ends the lab, where there is one.
func stopLab(ctx context.Context) error {
	if labProcess == nil {
		return nil
	}
	// The lab's log was read as it was written; what stays of it is for people.
	return errors.Join(labProcess.Stop(ctx), labWords.Flush(), suite.run.RedactArtifacts(suite.redactor))
}
