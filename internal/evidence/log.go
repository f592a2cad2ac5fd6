package evidence

import "time"

// Log is the closed log window of one sandbox: what lay between the mark that
// was taken before the create call and the end mark, judged by nobody yet.
type Log struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Coverage is the ledger of the exact read. An empty ledger, a hole or a
	// read error means that absence proves nothing.
	Coverage []Coverage `json:"coverage"`
	Holes    []string   `json:"holes,omitempty"`
	// Findings are the lines that a rule matched, of this sandbox or of
	// unknown origin; lines of other sandboxes are counted in Foreign.
	Findings []Finding `json:"findings,omitempty"`
	Foreign  int       `json:"foreign,omitempty"`
	// OwnRecords counts records that name this sandbox.
	OwnRecords int `json:"ownRecords"`
	// Settled is true when the log had been quiet long enough before the end
	// mark; false when the wait was cut by its cap.
	Settled bool `json:"settled"`
	// TailLost counts lines that the exact read has and the live follower
	// missed. It never changes an outcome.
	TailLost int `json:"tailLost,omitempty"`
}

// Coverage is one stretch of one file that was read exactly.
type Coverage struct {
	Source string `json:"source"` // path, or another locator
	From   int64  `json:"from"`   // first byte
	To     int64  `json:"to"`     // first byte after the stretch
}

// FindingClass is what a log rule's match means.
type FindingClass string

// The classes of findings.
const (
	FindingFailure FindingClass = "failure" // envd said that its cgroups failed
	FindingControl FindingClass = "control" // a boot line: the channel is alive
	FindingBenign  FindingClass = "benign"  // speaks of cgroups, means no harm
	FindingUnknown FindingClass = "unknown" // speaks of cgroup trouble, no rule knows it
)

// Confidence says how surely a finding belongs to this sandbox.
type Confidence string

// The confidences, surest first.
const (
	ByField  Confidence = "field"  // the record names the sandbox
	ByOrigin Confidence = "origin" // the record's file belongs to this sandbox alone
	ByWindow Confidence = "window" // only its time fits
)

// Finding is one matched line.
type Finding struct {
	Rule       string       `json:"rule"`
	Class      FindingClass `json:"class"`
	Confidence Confidence   `json:"confidence"`
	// Message is the normalised text; Raw the bytes as they stood in the
	// file, bounded.
	Message string    `json:"message"`
	Raw     string    `json:"raw"`
	Time    time.Time `json:"time"`
	Source  string    `json:"source"`
	Offset  int64     `json:"offset"`
	// Group, Property and Errno are filled where the line tells them.
	Group    string `json:"group,omitempty"`
	Property string `json:"property,omitempty"`
	Errno    string `json:"errno,omitempty"`
}
