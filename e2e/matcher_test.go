package e2e_test

import (
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega/types"

	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
)

// required holds the requirements that the spec tree claims; the suite
// compares it with the catalogue before anything runs.
var required []requirement.ID

// Requires marks the spec of one requirement, with labels to filter by.
func Requires(id requirement.ID) Labels {
	required = append(required, id)
	r, known := requirement.Lookup(id)
	if !known {
		return Label("requirement:" + string(id))
	}
	return Label("requirement:"+string(id), "stage:"+string(r.Stage), "level:"+string(r.Level))
}

// compareWithCatalogue says which requirements have no spec in a sandbox's
// container, more than one, or are unknown.
func compareWithCatalogue(claimed []requirement.ID, containers int) error {
	var trouble []string
	for _, r := range requirement.All() {
		n := 0
		for _, id := range claimed {
			if id == r.ID {
				n++
			}
		}
		if n != containers {
			trouble = append(trouble, fmt.Sprintf("%s has %d specs for %d sandboxes", r.ID, n, containers))
		}
	}
	for _, id := range claimed {
		if _, known := requirement.Lookup(id); !known {
			trouble = append(trouble, fmt.Sprintf("a spec requires %s, which the catalogue does not have", id))
		}
	}
	if len(trouble) > 0 {
		return fmt.Errorf("BUG: the suite and the catalogue differ: %s", strings.Join(slices.Compact(trouble), "; "))
	}
	return nil
}

// judged is what sandbox(ctx) hands to Hold: it collects what a requirement
// needs, within the spec's context, and judges it.
type judged func(id requirement.ID) requirement.Outcome

// sandbox returns the sandbox of the current spec.
func sandbox(ctx SpecContext) judged {
	GinkgoHelper()
	current := currentSandbox()
	return func(id requirement.ID) requirement.Outcome {
		r, known := requirement.Lookup(id)
		if !known {
			return requirement.Outcome{Requirement: id, Result: requirement.Unproven, Reason: "BUG: the catalogue does not have it"}
		}
		pieces := slices.Concat(r.Needs, r.Helps)
		for _, piece := range current.session.Lacks(pieces...) {
			progressf("%s: collecting %s", current.name, piece)
		}
		current.session.Collect(ctx, pieces...)
		outcome := r.Judge(current.session.Evidence())
		// An envd without any limits is nothing to fail a spec for, and no isolation.
		none := id == requirement.BootEnvdKnown && outcome.Result == requirement.NotApplicable
		if (none || !outcome.Result.Green()) && ctx.Err() == nil {
			current.red = true
		}
		return outcome
	}
}

// Hold succeeds when the requirement's outcome is green. The outcome is
// recorded at once, so that a process that dies later loses nothing, and
// becomes a report entry for passes too.
func Hold(id requirement.ID) types.GomegaMatcher { return &holdMatcher{id: id} }

type holdMatcher struct {
	id      requirement.ID
	sandbox string
	outcome requirement.Outcome
}

// Match implements types.GomegaMatcher.
func (m *holdMatcher) Match(actual any) (bool, error) {
	judge, ok := actual.(judged)
	if !ok {
		return false, fmt.Errorf("BUG: Hold judges sandbox(ctx), not %T", actual)
	}
	m.sandbox = currentSandbox().name
	var err error
	if m.outcome, err = redact.Value(suite.redactor, judge(m.id)); err != nil {
		return false, fmt.Errorf("infra: the outcome of %s was judged and could not be written: %w", m.id, err)
	}
	if err := suite.recorder.Record(rundir.Record{Sandbox: m.sandbox, Outcome: &m.outcome, Attempt: CurrentSpecReport().NumAttempts}); err != nil {
		return false, fmt.Errorf("infra: the outcome of %s was judged and could not be recorded: %w", m.id, err)
	}
	AddReportEntry("outcome", m.outcome, ReportEntryVisibilityNever)
	return m.outcome.Result.Green(), nil
}

// FailureMessage begins with the outcome's word and says what was read, what
// was wanted, why it matters, and what to do next.
func (m *holdMatcher) FailureMessage(any) string {
	r, _ := requirement.Lookup(m.id)
	o := m.outcome
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (%s)\n", o.Result, m.id, m.sandbox)
	for _, line := range []struct{ label, text string }{
		{"reason", o.Reason},
		{"read", o.Read},
		{"wanted", o.Wanted},
		{"matters", r.Why},
		{"next", o.Next},
		{"see", r.Reference},
	} {
		if line.text != "" {
			text := strings.ReplaceAll(redact.Terminal(line.text), "\n", "\n           ")
			fmt.Fprintf(&b, "  %-8s %s\n", line.label+":", text)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// NegatedFailureMessage implements types.GomegaMatcher; no spec wants a
// requirement not to hold.
func (m *holdMatcher) NegatedFailureMessage(any) string {
	return fmt.Sprintf("BUG: a spec wants %s not to hold", m.id)
}
