package logscan

import (
	"testing"

	"sandproof/internal/evidence"
)

// TestSignsOfControls: a search by the signs finds every line of the boot that a
// rule knows.
func TestSignsOfControls(t *testing.T) {
	for _, rule := range rules {
		for _, sample := range rule.Samples {
			if rule.Class == evidence.FindingControl && !Holds([]byte(sample), ControlSigns) {
				t.Errorf("%s: %q holds none of the signs", rule.ID, sample)
			}
		}
	}
}
