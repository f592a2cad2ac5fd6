package logscan

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"sandproof/internal/evidence"
)

// Waiver excuses lines that speak of cgroup trouble and that no rule knows, such
// as those of the node's own software. What envd says of its failures cannot be
// excused here.
type Waiver struct {
	// Match is tried on the normalised message.
	Match *regexp.Regexp
	// Reason is for whoever reads the evidence.
	Reason string
	// Expires is when it ends to count.
	Expires time.Time
}

// waive excuses a finding that a waiver fits, of a message of which it may keep
// the beginning alone. An unknown line alone can be, and none that holds words of
// envd's failures, wherever they stand in it: a fragment, or a line too long to be
// seen whole, may be a failure's.
func waive(f *evidence.Finding, message string, waivers []Waiver, now time.Time) {
	if len(waivers) == 0 || f.Class != evidence.FindingUnknown || f.Rule != unknownRule || holdsPart(strings.ToLower(message)) {
		return
	}
	for _, w := range waivers {
		if now.Before(w.Expires) && w.Match.MatchString(f.Message) {
			f.Class, f.Waiver = evidence.FindingWaived, fmt.Sprintf("%s (until %s)", w.Reason, w.Expires.Format(time.DateOnly))
			return
		}
	}
}
