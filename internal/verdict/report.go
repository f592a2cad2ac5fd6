package verdict

import (
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// Report is what is shown of one run: every renderer reads it, and nothing
// else.
type Report struct {
	Run     string
	Target  string
	Profile string
	// Harness is the version of the sandproof that recorded the run, Started
	// when that began; empty and zero where nothing was recorded.
	Harness  string
	Started  time.Time
	Verdicts []Verdict
	// Sandboxes are all that were expected, in the order of the templates, also
	// those of which nothing was recorded.
	Sandboxes []Sandbox
	Problems  []string
	Notes     []string
	// Exit is the gate's code.
	Exit int
}

// Sandbox is what is known of one sandbox of a run.
type Sandbox struct {
	// Name is the sandbox's name within the run, Template what it was made of.
	Name     string
	Template string
	Outcomes []requirement.Outcome
	// Evidence is nil where none was recorded.
	Evidence *evidence.Sandbox
}
