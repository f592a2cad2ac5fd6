package evidence

import (
	"strings"
	"time"
)

// Experiments are the pieces that try the limits, or the sandbox itself, and
// cost the node something. They are collected only in a run that asks for
// them.
func Experiments() []Piece { return []Piece{PieceCPU, PieceMemory, PieceLifecycle} }

// CPUExperiment is a command and a terminal that compete for one CPU, and two
// commands that do the same as a control: equals get equal shares, or the host
// is too noisy to tell anything.
type CPUExperiment struct {
	// Command and PTY are the unequal pair, Control the equal one. One that did
	// not report is nil, and a Problem says why.
	Command *Burn   `json:"command,omitempty"`
	PTY     *Burn   `json:"pty,omitempty"`
	Control []*Burn `json:"control,omitempty"`
	// Earlier are rounds before this one that told nothing for certain; this one
	// alone is judged.
	Earlier []*CPUExperiment `json:"earlier,omitempty"`
}

// Burn is one process that used as much of a CPU as it got.
type Burn struct {
	Process Process `json:"process"`
	CPU     *int    `json:"cpu"` // the CPU it was bound to; nil where it does not say
	// From and To are the uptimes between which it burnt, in seconds, and
	// CPUSeconds is how much CPU time it got in between.
	From       float64 `json:"from"`
	To         float64 `json:"to"`
	CPUSeconds float64 `json:"cpuSeconds"`
	// Samples are the CPU time of the process's whole cgroup meanwhile, Group
	// its directory. They are there to be drawn, and nothing is judged by them.
	// NoSamples says why there are none, or why they end early; a probe that
	// never took any leaves all three empty.
	Group     string      `json:"group,omitempty"`
	Samples   []CPUSample `json:"samples,omitempty"`
	NoSamples string      `json:"noSamples,omitempty"`
}

// MostSamples is how many samples are kept of one experiment. Where it lasts
// longer, every other one is dropped, and they are taken half as often.
const MostSamples = 200

// CPUSample is usage_usec of a cgroup's cpu.stat at one moment.
type CPUSample struct {
	AtUS    int64  `json:"atUS"`    // since Burn.From, in microseconds
	UsageUS uint64 `json:"usageUS"` // CPU time on all CPUs since the group was made, in microseconds
}

// MemorySample is a cgroup's memory at one moment.
type MemorySample struct {
	AtUS    int64  `json:"atUS"`    // since the first sample, in microseconds
	Current uint64 `json:"current"` // memory.current, in bytes
	// Stalled is nil where memory.pressure could not be read.
	Stalled *Stalled `json:"stalled,omitempty"`
}

// Stalled is for how long, in total, tasks of a cgroup were stalled for lack of
// memory, in microseconds: SomeUS at least one of them, FullUS all that would
// run (Linux Documentation/accounting/psi.rst).
type Stalled struct {
	SomeUS uint64 `json:"someUS"`
	FullUS uint64 `json:"fullUS"`
}

// MemoryExperiment is a bounded over-allocation in the group of commands.
type MemoryExperiment struct {
	// Report is what the probe saw in the guest; nil where it did not come
	// back, and a Problem says why.
	Report *HogReport `json:"report,omitempty"`
	// HealthAnswered is how many of envd's answers to its health route came
	// meanwhile, seen from outside; HealthFailed how many did not come, or were
	// not of health, by envd's own doing; HealthLost how many were lost on the
	// way. HealthSlowestMS is the slowest answer, in milliseconds.
	HealthAnswered  int   `json:"healthAnswered"`
	HealthFailed    int   `json:"healthFailed,omitempty"`
	HealthLost      int   `json:"healthLost,omitempty"`
	HealthSlowestMS int64 `json:"healthSlowestMS"`
	// HealthError is the first failure.
	HealthError string `json:"healthError,omitempty"`
}

// HogReport is what the guest probe prints in its hog mode. Sizes are in
// bytes.
type HogReport struct {
	// Hog is the process that allocates, as it began; nil where it was never
	// started.
	Hog *Process `json:"hog,omitempty"`
	// Group is the directory of the cgroup in which the hog runs, and the probe
	// itself. Limit and Throttle are its memory.max and memory.high right before.
	Group    string `json:"group"`
	Limit    File   `json:"limit"`
	Throttle File   `json:"throttle"`
	// Allocated is how much the hog had touched when it ended, Wanted how much
	// it was to touch: more than the limit.
	Allocated uint64 `json:"allocated"`
	Wanted    uint64 `json:"wanted"`
	// Used is what the group had used before. Available is the guest's
	// MemAvailable before, AvailableLeast the least of it that was seen, and
	// Floor the least at which the experiment goes on.
	Used           uint64 `json:"used"`
	Available      uint64 `json:"available"`
	AvailableLeast uint64 `json:"availableLeast"`
	Floor          uint64 `json:"floor"`
	// Ended says how; Detail adds to it.
	Ended  HogEnd `json:"ended"`
	Detail string `json:"detail,omitempty"`
	// Before and After are the group's memory.events, Swap its
	// memory.swap.current afterwards.
	Before File `json:"before"`
	After  File `json:"after"`
	Swap   File `json:"swap"`
	// KernelLog are the kernel's lines about out-of-memory kills meanwhile.
	KernelLog []string `json:"kernelLog,omitempty"`
	// EnvdBefore and EnvdAfter are envd, before the hog began and after it had
	// ended; nil where no process above the probe is envd.
	EnvdBefore *Process `json:"envdBefore,omitempty"`
	EnvdAfter  *Process `json:"envdAfter,omitempty"`
	// Samples are the group's memory from right before the hog was started until
	// right after it had ended. They are there to be drawn, and nothing is judged
	// by them. NoSamples says why there are none, or why they end early;
	// NoPressure why memory.pressure is not among them: ENOENT or EOPNOTSUPP
	// where the kernel counts no stalls (no CONFIG_PSI, psi=0, cgroup.pressure
	// 0).
	Samples    []MemorySample `json:"samples,omitempty"`
	NoSamples  string         `json:"noSamples,omitempty"`
	NoPressure string         `json:"noPressure,omitempty"`
}

// HogEnd is how an over-allocation ended.
type HogEnd string

// The ends of an over-allocation.
const (
	HogKilled     HogEnd = "killed"        // by a signal that the probe did not send
	HogThrottled  HogEnd = "throttled"     // stopped by the probe at the first sign of memory.high, where there is no memory.max
	HogAll        HogEnd = "all allocated" // nothing stopped it
	HogNoLimit    HogEnd = "no limit"      // never begun: there is no limit to try
	HogImpossible HogEnd = "impossible"    // never begun: the guest's memory ends before the limit
	HogGaveUp     HogEnd = "gave up"       // stopped by the probe: the guest's memory came to its end, or the time did
	HogFailed     HogEnd = "failed"        // the probe could not begin it, or lost it
)

// Lifecycle is the guest after it was paused and connected to again.
type Lifecycle struct {
	// NotOffered is what the API answered to the pause where it has no such
	// call; then nothing else is set.
	NotOffered string    `json:"notOffered,omitempty"`
	Paused     time.Time `json:"paused,omitzero"`  // when the API had answered the pause
	Resumed    time.Time `json:"resumed,omitzero"` // when envd answered again
	// Aside is true where the first look after the pause was taken by a process
	// outside of envd's cgroups, which a frozen one cannot hang. An envd that
	// has no such processes has no call to freeze either.
	Aside bool `json:"aside,omitempty"`
	// Snapshot is that look; nothing else was executed where it shows a frozen
	// group.
	Snapshot  *Snapshot  `json:"snapshot,omitempty"`
	Placement *Placement `json:"placement,omitempty"`
	// Before is a process that was started before the pause, Survivor the same
	// one after it.
	Before   *Process `json:"before,omitempty"`
	Survivor *Placed  `json:"survivor,omitempty"`
}

// Frozen names those of the snapshot's cgroups that are frozen, or about to
// be, with what says so. In such a group nothing must be started: envd would
// wait for the new process for ever (clone3(2) into a frozen cgroup returns
// when it is thawed).
func (s *Snapshot) Frozen() map[string]string {
	frozen := map[string]string{}
	for name, g := range s.Groups {
		freeze, events := g.Files["cgroup.freeze"], g.Files["cgroup.events"]
		switch {
		case strings.TrimSpace(freeze.Text) == "1":
			frozen[name] = g.Path + "/cgroup.freeze reads 1"
		case strings.Contains("\n"+events.Text, "\nfrozen 1"):
			frozen[name] = g.Path + "/cgroup.events has frozen 1"
		}
	}
	return frozen
}
