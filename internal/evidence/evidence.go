// Package evidence is the data model of what was seen about one sandbox. It
// is plain data, versioned JSON: the guest probe prints a part of it, collect
// gathers the rest, requirement judges it, and an evidence file can be judged
// again offline.
//
// An absent observation is a nil pointer (or a missing key) together with a
// Problem that says why; it is never a zero value that could be mistaken for
// a reading.
package evidence

import (
	"fmt"
	"slices"
	"time"
)

// Version is the format of the evidence file. It rises when a field changes
// its meaning; new fields do not raise it.
const Version = 1

// Piece names one part of the evidence. A requirement lists the pieces it
// needs, and collect gathers exactly those.
type Piece string

// The pieces, in the order in which they can be collected.
const (
	PieceAPI       Piece = "api"       // the sandbox was created through the API
	PieceHealth    Piece = "health"    // envd answered
	PieceSnapshot  Piece = "snapshot"  // the probe's first snapshot of the guest
	PiecePlacement Piece = "placement" // where started processes live
	PieceCPU       Piece = "cpu"       // a command and a terminal compete for a CPU
	PieceMemory    Piece = "memory"    // a bounded over-allocation
	PieceLater     Piece = "later"     // a second snapshot, after all of the above
	PieceLog       Piece = "log"       // the closed log window
	PieceLifecycle Piece = "lifecycle" // the guest after pause and connect; last, since a failed pause may end the sandbox
	PieceDisk      Piece = "disk"      // what the storage holds of the sandbox's build; read without the sandbox
)

// Pieces lists every piece in collection order.
func Pieces() []Piece {
	return []Piece{
		PieceAPI, PieceHealth, PieceSnapshot, PiecePlacement, PieceCPU, PieceMemory, PieceLater, PieceLog, PieceLifecycle, PieceDisk,
	}
}

// Sandbox is everything that was observed about one sandbox.
type Sandbox struct {
	Version int    `json:"version"`
	Run     string `json:"run"`
	// RunStarted is when that run began: runs of one name are told apart by it.
	RunStarted time.Time `json:"runStarted,omitzero"`
	Target     string    `json:"target"`   // "live" or "lab"
	Template   string    `json:"template"` // as it was asked for
	// Number counts the sandboxes of one template in a run, from 1; 0 means 1.
	Number int `json:"number,omitempty"`
	// StandIn is true when the lab's stand-in played envd. Such evidence says
	// nothing about a cluster.
	StandIn bool `json:"standIn,omitempty"`
	API     *API `json:"api,omitempty"`
	// Disk is nil where no storage is configured.
	Disk      *Disk             `json:"disk,omitempty"`
	Health    *Health           `json:"health,omitempty"`
	Snapshot  *Snapshot         `json:"snapshot,omitempty"`
	Placement *Placement        `json:"placement,omitempty"`
	CPU       *CPUExperiment    `json:"cpu,omitempty"`
	Memory    *MemoryExperiment `json:"memory,omitempty"`
	// Later is the guest once more, after a settle time and the experiments.
	Later     *Snapshot  `json:"later,omitempty"`
	Log       *Log       `json:"log,omitempty"`
	Lifecycle *Lifecycle `json:"lifecycle,omitempty"`
	// NotAsked are the experiments that this run did not ask for. They are
	// absent on purpose, and so nothing is proven by them.
	NotAsked []Piece   `json:"notAsked,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Name is the sandbox's name within its run.
func (s *Sandbox) Name() string { return NameOf(s.Template, s.Number) }

// NameOf names one of a template's sandboxes: the first by the template alone.
// A template's name holds no "@".
func NameOf(template string, number int) string {
	if number <= 1 {
		return template
	}
	return fmt.Sprintf("%s@%d", template, number)
}

// Problem says why a piece of evidence is absent or incomplete.
type Problem struct {
	Piece Piece       `json:"piece"`
	Kind  ProblemKind `json:"kind"`
	// Call is what was tried, on which object.
	Call string `json:"call"`
	// Error is what came back, secrets removed.
	Error string `json:"error"`
	// Meaning says what the error means and what to do, where that is known.
	Meaning string    `json:"meaning,omitempty"`
	At      time.Time `json:"at"`
}

// ProblemKind tells trouble of the world around the sandbox from trouble
// inside the guest.
type ProblemKind string

const (
	// ProblemInfra is trouble of the API, the network, capacity or the
	// harness: it says nothing about the template.
	ProblemInfra ProblemKind = "infra"
	// ProblemGuest is the guest's own behaviour: a command that cannot start,
	// an envd that never answers in a guest that runs.
	ProblemGuest ProblemKind = "guest"
	// ProblemBoot is a guest that did not come up, by the word of who knows: its
	// kernel stopped, or nothing in it became envd. The lab knows, and so does the
	// guest's own kernel on its console; a cluster's server does not tell it from
	// trouble of its own.
	ProblemBoot ProblemKind = "boot"
)

// ProblemOf returns the first problem recorded for a piece, or nil.
func (s *Sandbox) ProblemOf(piece Piece) *Problem {
	i := slices.IndexFunc(s.Problems, func(p Problem) bool { return p.Piece == piece })
	if i < 0 {
		return nil
	}
	return &s.Problems[i]
}

// API is what the E2B API said about the sandbox.
type API struct {
	SandboxID  string `json:"sandboxID"`
	TemplateID string `json:"templateID"`
	Alias      string `json:"alias,omitempty"`
	// EnvdVersion is the API's claim: the version recorded when the build was
	// made, not what runs in the guest.
	EnvdVersion string `json:"envdVersion"`
	// Requested is the harness's clock before the create call, Answered after
	// it. StartedAt and EndAt are the server's.
	Requested time.Time  `json:"requested"`
	Answered  time.Time  `json:"answered"`
	StartedAt *time.Time `json:"startedAt,omitempty"`
	EndAt     *time.Time `json:"endAt,omitempty"`
	CPUCount  int        `json:"cpuCount,omitempty"`
	MemoryMB  int        `json:"memoryMB,omitempty"`
	// BuildID is known where the API tells it; BuildWanted where the
	// configuration names the build that was asked for.
	BuildID     string `json:"buildID,omitempty"`
	BuildWanted string `json:"buildWanted,omitempty"`
	NodeID      string `json:"nodeID,omitempty"`
}

// Health is how envd answered its health route and its metrics.
type Health struct {
	Status int       `json:"status"` // HTTP status of GET /health; 204 is healthy
	At     time.Time `json:"at"`
	// AfterMS is the time from the API's answer to the first healthy answer,
	// in milliseconds.
	AfterMS int64 `json:"afterMS"`
	// MemTotal is mem_total of GET /metrics in bytes, 0 where the route does
	// not tell. It is the very input of envd's own formula.
	MemTotal uint64 `json:"memTotal,omitempty"`
}
