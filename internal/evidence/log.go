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
	// OwnRecords counts records that name this sandbox; First is the time of the
	// earliest of them, by the log's own clock.
	OwnRecords int       `json:"ownRecords"`
	First      time.Time `json:"first,omitzero"`
	// Settled is true when the log had been quiet long enough before the end
	// mark; false when the wait was cut by its cap.
	Settled bool `json:"settled"`
	// Canary is the probe's own line; nil where none was tried.
	Canary *Canary `json:"canary,omitempty"`
	// API is what the API's own log of the sandbox gave; nil where it was not
	// asked. Its silence proves nothing.
	API *APILog `json:"api,omitempty"`
	// TailLost counts lines that the exact read has and the live follower
	// missed. It never changes an outcome.
	TailLost int `json:"tailLost,omitempty"`
}

// APILog is the log that the API keeps of a sandbox. What envd says on its
// standard error never gets there (e2b-dev/infra packages/envd/internal/logs),
// so it adds findings and takes none away.
type APILog struct {
	Entries int    `json:"entries"`
	Error   string `json:"error,omitempty"`
}

// Coverage is one stretch of one file that was read exactly. Of a source that
// nothing came into, the ledger holds its latest file, as an empty stretch.
type Coverage struct {
	Source string `json:"source"` // path, or another locator
	From   int64  `json:"from"`   // first byte
	To     int64  `json:"to"`     // first byte after the stretch
	// Written is when a file of an empty stretch was last written to, where that
	// is known.
	Written time.Time `json:"written,omitzero"`
}

// FindingClass is what a log rule's match means.
type FindingClass string

// The classes of findings.
const (
	FindingFailure FindingClass = "failure" // envd said that its cgroups failed
	FindingControl FindingClass = "control" // a boot line: the channel is alive
	FindingBenign  FindingClass = "benign"  // speaks of cgroups, means no harm
	FindingUnknown FindingClass = "unknown" // speaks of cgroup trouble, no rule knows it
	FindingWaived  FindingClass = "waived"  // unknown trouble that the configuration excuses
)

// Confidence says how surely a finding belongs to this sandbox.
type Confidence string

// The confidences, surest first.
const (
	ByField  Confidence = "field"  // the record names the sandbox
	ByOrigin Confidence = "origin" // the orchestrator's text names the sandbox
	// ByExclusion: it names nobody and is not of an earlier time, and no record of
	// the window, which was read whole, names another sandbox.
	ByExclusion Confidence = "exclusion"
	ByWindow    Confidence = "window" // only its time fits
)

// Finding is one matched line.
type Finding struct {
	Rule       string       `json:"rule"`
	Class      FindingClass `json:"class"`
	Confidence Confidence   `json:"confidence"`
	// Says is what a failure means by the generation of the envd that prints it;
	// one that is not there never does.
	Says map[string]string `json:"says,omitempty"`
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
	// Waiver is the reason for which it is excused, where it is.
	Waiver string `json:"waiver,omitempty"`
}

// Canary is a line that the probe wrote to the console to which envd's standard
// error goes, so that it shows whether what is said there comes out of the log.
type Canary struct {
	Nonce  string `json:"nonce"`
	Device string `json:"device"`
	// Written is the harness's clock when it had been written.
	Written time.Time `json:"written,omitzero"`
	// Error is why it could not be written.
	Error string `json:"error,omitempty"`
}

// CanaryLine is the canary as it stands in the log.
func CanaryLine(nonce string) string { return CanarySign + nonce }

// CanarySign is what every canary begins with.
const CanarySign = "sandproof canary "
