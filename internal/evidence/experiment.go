package evidence

import "time"

// CPUExperiment is a command and a terminal that compete for one CPU, and two
// commands that do the same as a control: equals get equal shares, or the host
// is too noisy to tell anything.
type CPUExperiment struct {
	// Command and PTY are the unequal pair, Control the equal one.
	Command *Burn   `json:"command,omitempty"`
	PTY     *Burn   `json:"pty,omitempty"`
	Control []*Burn `json:"control,omitempty"`
}

// Burn is one process that used as much of a CPU as it got.
type Burn struct {
	Process Process `json:"process"`
	CPU     int     `json:"cpu"` // the CPU it was bound to
	// From and To are the uptimes between which it burnt, in seconds, and
	// CPUSeconds is how much CPU time it got in between.
	From       float64 `json:"from"`
	To         float64 `json:"to"`
	CPUSeconds float64 `json:"cpuSeconds"`
}

// MemoryExperiment is a bounded over-allocation in the group of commands.
type MemoryExperiment struct {
	// Report is what the probe saw in the guest; nil where it did not come
	// back.
	Report *HogReport `json:"report,omitempty"`
	// HealthSlowestMS is envd's slowest answer to its health route meanwhile,
	// in milliseconds, HealthFailed how many did not come.
	HealthSlowestMS int64 `json:"healthSlowestMS"`
	HealthFailed    int   `json:"healthFailed,omitempty"`
	// EnvdAfter is envd as a look after the experiment found it.
	EnvdAfter *Process `json:"envdAfter,omitempty"`
}

// HogReport is what the guest probe prints in its hog mode. Sizes are in
// bytes.
type HogReport struct {
	Hog Process `json:"hog"`
	// Allocated is how much the hog had touched when it ended, Wanted how much
	// it was to touch.
	Allocated uint64 `json:"allocated"`
	Wanted    uint64 `json:"wanted"`
	// Ended says how: "killed", "all allocated", or why it was stopped.
	Ended string `json:"ended"`
	// Before and After are the text of the group's memory.events.
	Before File `json:"before"`
	After  File `json:"after"`
	// KernelLog are the kernel's lines about out-of-memory kills meanwhile.
	KernelLog []string `json:"kernelLog,omitempty"`
}

// Lifecycle is the guest after it was paused and connected to again.
type Lifecycle struct {
	Paused    time.Time  `json:"paused"`
	Resumed   time.Time  `json:"resumed"`
	Snapshot  *Snapshot  `json:"snapshot,omitempty"`
	Placement *Placement `json:"placement,omitempty"`
	// Survivor is a process that was started before the pause and looked at
	// after it.
	Survivor *Placed `json:"survivor,omitempty"`
}
