package verdict

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// GitHub shows ten errors and ten warnings of one step, and drops the others.
const mostAnnotations = 10

// annotationMost is how much one annotation says, in columns.
const annotationMost = 1000

// Annotations are GitHub's workflow commands for a report: one error for each
// template that fails and for the run's problems, one warning for each that is
// waived. What has no room is counted in the last.
func (r *Report) Annotations() []string {
	var errors, warnings []string
	for _, v := range r.worstFirst() {
		switch {
		case v.Excused:
			warnings = append(warnings, annotation("warning", v.Template+": "+v.Label(), lines(append([]string{v.Reason}, v.Notes...)...)))
		case v.Exit() != ExitIsolated:
			errors = append(errors, annotation("error", v.Template+": "+v.Label(), lines(v.Reason, "next: "+v.Next)))
		}
	}
	if len(r.Problems) > 0 {
		// First, since GitHub drops the last.
		errors = append([]string{annotation("error", "problem of the run", lines(r.Problems...))}, errors...)
	}
	return append(atMost(errors, "error"), atMost(warnings, "warning")...)
}

// atMost keeps as many annotations as are shown, of which the last counts those
// that are not.
func atMost(all []string, command string) []string {
	if len(all) <= mostAnnotations {
		return all
	}
	rest := len(all) - mostAnnotations + 1
	return append(all[:mostAnnotations-1:mostAnnotations-1], annotation(command, fmt.Sprintf("%d more templates", rest), "see the summary of this step, or the run's reports"))
}

// What a workflow command escapes (github.com/actions/toolkit,
// packages/core/src/command.ts): in its text, and in its properties.
var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func annotation(command, title, message string) string {
	return fmt.Sprintf("::%s title=%s::%s", command, propertyEscapes.Replace(show(title)), dataEscapes.Replace(show(text.Trim(message, annotationMost))))
}
