// Package config is the harness's configuration: ginkgo.yml, the environment
// and the command line, resolved into one effective configuration that is
// validated before anything runs and is written into the run directory.
package config

import (
	"slices"
	"time"
)

// TargetKind says where sandboxes come from.
type TargetKind string

// The targets. Auto is live when an API URL or a domain is configured, else
// lab; under CI=true it is an error.
const (
	TargetAuto TargetKind = "auto"
	TargetLive TargetKind = "live"
	TargetLab  TargetKind = "lab"
)

// Profile says which requirement levels decide a verdict.
type Profile string

// The profiles: core (values, placement, log where it can speak), gate (core,
// bite and lifecycle), extended (all).
const (
	// ProfileAuto is gate in the lab, where nobody pays for it, unless
	// experiments are off; and core on a live target.
	ProfileAuto     Profile = "auto"
	ProfileCore     Profile = "core"
	ProfileGate     Profile = "gate"
	ProfileExtended Profile = "extended"
)

// Switch turns something on or off, or leaves it to the profile.
type Switch string

// The positions of a switch.
const (
	SwitchAuto Switch = "auto"
	SwitchOn   Switch = "on"
	SwitchOff  Switch = "off"
)

// Config is the effective configuration of one run.
type Config struct {
	// Target is never auto after Load.
	Target TargetKind `yaml:"target"`
	// Profile chooses the levels that decide the verdict; it is never auto after
	// Load.
	Profile Profile `yaml:"profile"`
	// Experiments says whether the limits are tried and the sandbox is paused;
	// auto means where the profile decides by it.
	Experiments Switch `yaml:"experiments"`
	// Repeat is how many sandboxes of each template are judged, one after the
	// other; what differs between them is a failure of its own.
	Repeat int `yaml:"repeat"`
	// Templates are the templates to judge, in the order in which they are
	// judged: by priority, then as written.
	Templates []Template `yaml:"templates,omitempty"`
	// Shard makes Templates one part of Whole.
	Shard Shard `yaml:"shard,omitempty"`
	// Whole are the templates of all shards, in the order in which they were
	// dealt out.
	Whole []Template `yaml:"-"`
	// Inventory are all templates of the file, whichever are judged and wherever.
	Inventory []Template `yaml:"-"`
	// Waivers excuse lines of the orchestrator's log, and known failures.
	Waivers   []Waiver  `yaml:"waivers,omitempty"`
	Live      Live      `yaml:"live"`
	Lab       Lab       `yaml:"lab"`
	Intervals Intervals `yaml:"intervals"`

	// File is the ginkgo.yml that was read, empty for the built-in defaults.
	File string `yaml:"-"`
	// Root is the directory from which relative paths count: the one of File,
	// else of the module, else the working directory.
	Root string `yaml:"-"`
}

// Template is one entry of the inventory.
type Template struct {
	// Name is what the API is asked for: alias or template ID.
	Name string `yaml:"name"`
	// BuildID is the build that the template is expected to resolve to;
	// optional.
	BuildID string `yaml:"build-id,omitempty"`
	// Priority orders patching and judging: 1 is first. 0 means last.
	Priority int `yaml:"priority,omitempty"`
	// Repeat overrides the run's, where it is not 0.
	Repeat int `yaml:"repeat,omitempty"`
	// Intervals override the run's intervals for this template; zero fields
	// do not override.
	Intervals Intervals `yaml:"intervals,omitempty"`
}

// Live is an E2B deployment. Credentials come from the environment only.
type Live struct {
	APIURL     string    `yaml:"api-url,omitempty"     env:"E2B_API_URL"`
	Domain     string    `yaml:"domain,omitempty"      env:"E2B_DOMAIN"`
	SandboxURL string    `yaml:"sandbox-url,omitempty" env:"E2B_SANDBOX_URL"`
	Logs       []LogGlob `yaml:"logs,omitempty"`
	// Nomad and Loki are where the orchestrator's log is read where its files
	// cannot be. Their addresses and credentials are those of their own command
	// lines (NOMAD_ADDR, LOKI_ADDR and so on), and come from the environment only.
	Nomad NomadLog `yaml:"nomad,omitempty"`
	Loki  LokiLog  `yaml:"loki,omitempty"`
	// Storage is the directory below which template builds lie, one directory
	// a build; used for patching.
	Storage string `yaml:"storage,omitempty"`
	// Caches are the directories that hold copies of builds; used for purging
	// after a patch.
	Caches []string `yaml:"caches,omitempty"`

	APIKey string `yaml:"-" env:"E2B_API_KEY"`
	// AdminToken is what the API server runs with as ADMIN_TOKEN; it opens the
	// calls about nodes. Optional.
	AdminToken string `yaml:"-" env:"E2B_ADMIN_TOKEN"`
}

// LogGlob names the log files of one Nomad task over all its allocations.
type LogGlob struct {
	// Dirs is a glob of alloc/logs directories, such as
	// /opt/nomad/data/alloc/*/alloc/logs.
	Dirs string `yaml:"dirs"`
	// Task is the Nomad task: orchestrator, or start upstream.
	Task string `yaml:"task"`
}

// NomadLog names one Nomad task, whose log is read through Nomad's API.
type NomadLog struct {
	// Job is the ID of the job; empty: this source is not used.
	Job string `yaml:"job,omitempty"`
	// Task is the Nomad task: orchestrator, or start upstream.
	Task string `yaml:"task,omitempty"`
}

// LokiLog names a log that was shipped to Loki.
type LokiLog struct {
	// Query selects the stream in LogQL, such as {service="orchestrator"};
	// empty: this source is not used.
	Query string `yaml:"query,omitempty"`
}

// Waiver excuses either a line of the log that speaks of cgroup trouble and that
// no rule knows, or the known failure of requirements in one template. What envd
// says of its own failures, and what was not seen, cannot be excused.
type Waiver struct {
	// Line is a regular expression on the line's text, without its prefixes.
	Line string `yaml:"line,omitempty"`
	// Template is the template as it is judged, and Requirements the IDs of those
	// whose failure is known there.
	Template     string   `yaml:"template,omitempty"`
	Requirements []string `yaml:"requirements,omitempty"`
	// Reason is for whoever reads the report.
	Reason string `yaml:"reason"`
	// Expires is the last day on which it counts, such as 2026-12-31.
	Expires string `yaml:"expires"`
}

// End is when the waiver ends to count, in UTC.
func (w Waiver) End() (time.Time, error) {
	day, err := time.Parse(time.DateOnly, w.Expires)
	return day.AddDate(0, 0, 1), err
}

// Lab is the embedded target.
type Lab struct {
	// Templates are the recipes that are judged when no template is named.
	Templates []string `yaml:"templates,omitempty"`
	// Cache is where kernels and images are kept; empty means sandproof below
	// the user's cache directory.
	Cache string `yaml:"cache,omitempty"`
	// Storage, when set, is where the lab keeps template builds and copies of
	// them as a cluster does (see Builds); else it boots the images of its cache.
	Storage string `yaml:"storage,omitempty"`
	// Envd, when set, is used instead of every recipe's own; it comes from the
	// command line only.
	Envd string `yaml:"-"`
	// MaxGuests is how many guests may run side by side.
	MaxGuests int `yaml:"max-guests,omitempty"`
	// LogFormat is how the lab's orchestrator writes its log: console or json.
	LogFormat string `yaml:"log-format,omitempty"`
	// Recipes are the lab's templates by name.
	Recipes map[string]Recipe `yaml:"recipes"`
}

// The encodings of the orchestrator's log (e2b-dev/infra
// packages/shared/pkg/logger): zap's console encoding, and JSON.
const (
	LogConsole = "console"
	LogJSON    = "json"
)

// Recipe says how the lab makes one template.
type Recipe struct {
	// RootFS is the path of an ext4 image; where it is set, Flavour, Init and
	// Envd must not be.
	RootFS string `yaml:"rootfs,omitempty"`
	// Flavour is the base root filesystem: busybox or debian.
	Flavour string `yaml:"flavour,omitempty"`
	// Init is the init script: "delegated" or "unpatched" for the lab's own
	// ones, else a path (with a slash). The flavour debian also has "systemd",
	// "systemd-delegate" and "systemd-bare".
	Init string `yaml:"init,omitempty"`
	// Envd is "stand-in VERSION" for the lab's stand-in, else the path of an
	// envd binary (with a slash).
	Envd string `yaml:"envd,omitempty"`
	// EnvdStderr "discard" throws envd's stderr away in the lab's own init
	// scripts, as broken wrappers do.
	EnvdStderr string `yaml:"envd-stderr,omitempty"`
	// Kernel is the path of a kernel image; empty means the distribution's.
	Kernel string `yaml:"kernel,omitempty"`
	// KernelArgs are appended to the lab's own arguments.
	KernelArgs string `yaml:"kernel-args,omitempty"`
	MemoryMB   int    `yaml:"memory-mb,omitempty"` // MiB, default 512
	CPUs       int    `yaml:"cpus,omitempty"`      // default 1
	// Resume boots the template once, saves the running guest, and resumes
	// every sandbox from it, as E2B does; else every sandbox boots.
	Resume bool `yaml:"resume,omitempty"`
}

// Intervals are the named waits. Each is a Go duration in ginkgo.yml.
type Intervals struct {
	// SandboxTTL is how long the server keeps a sandbox that nobody renews.
	SandboxTTL time.Duration `yaml:"sandbox-ttl,omitempty"`
	// Create bounds the create call; it must exceed the server's own 75 s on
	// a live target.
	Create time.Duration `yaml:"create,omitempty"`
	// EnvdReady is how long envd may take to answer after the create call.
	EnvdReady time.Duration `yaml:"envd-ready,omitempty"`
	// Command bounds one command or probe run in the guest.
	Command time.Duration `yaml:"command,omitempty"`
	// Forwarder is how long the port forwarder may take to appear.
	Forwarder time.Duration `yaml:"forwarder,omitempty"`
	// Burn is how long each of the two pairs of processes competes for a CPU.
	Burn time.Duration `yaml:"burn,omitempty"`
	// Pressure bounds the time in which a guest's memory is filled.
	Pressure time.Duration `yaml:"pressure,omitempty"`
	// Settle is how long after everything else the guest is looked at once
	// more, to see whether what was right stays right.
	Settle time.Duration `yaml:"settle,omitempty"`
	// LogQuiet is how long the log must be quiet before its window is closed,
	// LogCap the longest wait for that.
	LogQuiet time.Duration `yaml:"log-quiet,omitempty"`
	LogCap   time.Duration `yaml:"log-cap,omitempty"`
	// LogSettle is how long the log's writer may hold bytes back: Nomad's logmon
	// 100 ms. A mark is taken twice, with this pause between.
	LogSettle time.Duration `yaml:"log-settle,omitempty"`
	// LogDelay is how long a line may be on its way to Loki.
	LogDelay time.Duration `yaml:"log-delay,omitempty"`
	// Request bounds one API call other than create.
	Request time.Duration `yaml:"request,omitempty"`
	// Destroy bounds the destruction of one sandbox.
	Destroy time.Duration `yaml:"destroy,omitempty"`
	// Hop bounds each thing that doctor tries, but for those that have a wait
	// of their own.
	Hop time.Duration `yaml:"hop,omitempty"`
	// Keep is how long a sandbox lives on that is kept for a person to look at.
	Keep time.Duration `yaml:"keep,omitempty"`
	// Poll is the pause between two looks at something awaited.
	Poll time.Duration `yaml:"poll,omitempty"`
}

// Sandboxes is how many sandboxes of a template are judged.
func (c *Config) Sandboxes(t Template) int {
	if t.Repeat != 0 {
		return t.Repeat
	}
	return c.Repeat
}

// WantsExperiments tells whether this run tries the limits and pauses
// sandboxes: where the profile decides by it, unless the configuration says
// otherwise.
func (c *Config) WantsExperiments() bool {
	if c.Experiments == SwitchAuto {
		return c.Profile != ProfileCore
	}
	return c.Experiments == SwitchOn
}

// Covers tells whether whatever decides by the other profile decides by this
// one too.
func (p Profile) Covers(other Profile) bool {
	byStrictness := []Profile{ProfileCore, ProfileGate, ProfileExtended}
	return slices.Index(byStrictness, p) >= slices.Index(byStrictness, other)
}
