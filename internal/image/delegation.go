package image

import (
	_ "embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// delegation is what a script is given: it mounts cgroup2 where nobody has, and
// enables each controller on its own. It is written for busybox, dash and bash,
// under -e, -u and -C too.
//
//go:embed delegation.sh
var delegation string

// delegationVersion is the version in the marks of delegation.sh; it grows with
// each change of what stands between them.
const delegationVersion = 1

var (
	markFirst = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^[ \t]*# >>> sandproof delegation ([0-9]+) >>>\n`)
	})
	markLast = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^[ \t]*# <<< sandproof delegation ([0-9]+) <<<\n?`)
	})
)

// RefusedError is why something is not done to an image, and the way out.
type RefusedError struct{ Reason, WayOut string }

// Error implements error.
func (r *RefusedError) Error() string { return r.Reason + "; " + r.WayOut }

func refuse(wayOut, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: fmt.Sprintf(format, args...), WayOut: wayOut}
}

// The ways out of what a script does not allow.
const (
	ownInit  = "give a whole init with --init"
	mendInit = "mend the script by hand, or give a whole init with --init"
)

// Change is what becomes of an init script.
type Change struct {
	// Text is the script afterwards, which is the same where nothing is to be
	// done; Line is where the delegation begins in it, 0 where it has none.
	Text string
	Line int
	// Why says in a sentence why it is so.
	Why string
}

// Delegate puts the delegation into a script: before envd is started, after
// everything that leads there. A script that has it already, or that enables
// the controllers in its own way, stays as it is. The error is a *RefusedError, or
// says why the script cannot be read.
func Delegate(text string) (Change, error) {
	switch {
	case strings.Contains(text, "\r\n"):
		return Change{}, refuse(mendInit, "the script has lines that end in CR LF: the kernel looks for an interpreter whose name ends in CR, and does not start it")
	case strings.ContainsRune(text, 0):
		return Change{}, refuse(ownInit, "the init is no script but a binary")
	}
	own, err := withoutDelegation(text)
	if err != nil {
		return Change{}, err
	}
	script, err := ReadScript(own)
	if err != nil {
		return Change{}, err
	}
	if isCurrent(text) {
		// Wherever somebody put it, as long as it comes before envd.
		if script, err := ReadScript(text); err == nil {
			if _, ok := script.delegates(); ok {
				line := strings.Count(text[:markFirst().FindStringIndex(text)[0]], "\n") + 1
				return Change{Text: text, Line: line, Why: fmt.Sprintf("the delegation %d is in it already", delegationVersion)}, nil
			}
		}
	}
	if own == text {
		if why, ok := script.delegates(); ok {
			return Change{Text: text, Why: why}, nil
		}
	}
	at, err := script.before()
	if err != nil {
		return Change{}, err
	}
	change := insert(own, at)
	switch {
	case change.Text == text:
		change.Why = fmt.Sprintf("the delegation %d is in it already", delegationVersion)
	case own != text:
		change.Why = fmt.Sprintf("the delegation in it is replaced by version %d", delegationVersion)
	default:
		change.Why = fmt.Sprintf("the delegation %d is put before envd is started", delegationVersion)
	}
	return change, nil
}

// withoutDelegation takes a delegation out that was put in before.
func withoutDelegation(text string) (string, error) {
	first, last := markFirst().FindAllStringIndex(text, -1), markLast().FindAllStringIndex(text, -1)
	switch {
	case len(first) == 0 && len(last) == 0:
		return text, nil
	case len(first) != 1 || len(last) != 1 || first[0][0] > last[0][0]:
		return "", refuse("take them out by hand, with what is between them", "the marks of the delegation are in the script, but not one first and one last")
	}
	return text[:first[0][0]] + text[last[0][1]:], nil
}

// isCurrent tells whether a script has the delegation as it is now, however it
// is indented.
func isCurrent(text string) bool {
	first, last := markFirst().FindStringIndex(text), markLast().FindStringIndex(text)
	if first == nil || last == nil {
		return false
	}
	var b strings.Builder
	indent := text[first[0]:strings.Index(text, "# >>> sandproof")]
	for line := range strings.Lines(text[first[0]:last[1]]) {
		b.WriteString(strings.TrimPrefix(line, indent))
	}
	return strings.TrimSuffix(b.String(), "\n")+"\n" == delegation
}

// controllersOfEnvd are those that envd's limits need (e2b-dev/infra
// c7180fe2c); io, which newer ones use for a weight, never failed a template.
var controllersOfEnvd = []string{"cpu", "memory"}

// delegates tells whether a script enables what envd needs in its own way, and
// where.
func (s *Script) delegates() (why string, ok bool) {
	var enabled []string
	line := 0
	for _, step := range s.Steps {
		switch {
		case step.Kind == StepEnable && path.Clean(path.Dir(step.Target)) == CgroupRoot:
			enabled = append(enabled, step.Controllers...)
			line = step.Line
		case step.Kind == StepEnvd:
			if !slices.ContainsFunc(controllersOfEnvd, func(c string) bool { return !slices.Contains(enabled, c) }) {
				return fmt.Sprintf("line %d enables the controllers already, before line %d starts envd; it is left as it is", line, step.Line), true
			}
		}
	}
	return "", false
}

// before is the offset in the script's text before which the delegation
// belongs.
func (s *Script) before() (int, error) {
	var common []place
	found := false
	for _, step := range s.Steps {
		switch {
		case step.Kind == StepEnable && isTooDeep(step):
			return 0, refuse(fmt.Sprintf("take line %d out", step.Line),
				"line %d enables controllers in %s: in such a cgroup no process can be started, so that envd can start nothing", step.Line, path.Dir(step.Target))
		case step.Kind == StepEnvd && !found:
			common, found = step.within, true
		case step.Kind == StepEnvd:
			n := 0
			for n < len(common) && n < len(step.within) && common[n].stmt == step.within[n].stmt {
				n++
			}
			if n == 0 {
				// They have nothing in common: the first one counts, to which
				// the others come later.
				continue
			}
			common = common[:n]
		}
	}
	if !found {
		return 0, refuse(ownInit, "the script does not start envd in a way that can be seen, so it is not known before what the controllers must be enabled")
	}
	for i, p := range common {
		if p.looped {
			common = common[:i]
			break
		}
	}
	for _, p := range slices.Backward(common) {
		if p.listed && s.canSplit(p) {
			return int(p.stmt.Pos().Offset()), nil
		}
	}
	return 0, refuse(mendInit, "there is no place before the start of envd at which another command can stand")
}

// isTooDeep tells whether a step enables domain controllers in a cgroup that
// envd puts processes into (Linux, cgroup-v2.rst, No Internal Process
// Constraint).
func isTooDeep(step Step) bool {
	dir := path.Clean(path.Dir(step.Target))
	return slices.Contains([]string{"user", "ptys", "socats"}, path.Base(dir)) && path.Dir(dir) == CgroupRoot &&
		slices.ContainsFunc(step.Controllers, func(c string) bool { return c == "memory" || c == "io" })
}

// canSplit tells whether a line can be begun before a statement: none can
// where a here-document of the same line begins before.
func (s *Script) canSplit(p place) bool {
	at := int(p.stmt.Pos().Offset())
	line := s.text[strings.LastIndexByte(s.text[:at], '\n')+1 : at]
	return !strings.Contains(line, "<<")
}

// insert puts the delegation before an offset, on lines of its own, and
// indents it as the line there.
func insert(text string, at int) Change {
	start := strings.LastIndexByte(text[:at], '\n') + 1
	block := delegation
	if indent := text[start:at]; strings.TrimLeft(indent, " \t") == "" {
		at = start
		block = indented(indent)
	} else {
		block = "\n" + block // what stood on the line before it stays there
	}
	change := Change{Text: text[:at] + block + text[at:]}
	change.Line = strings.Count(change.Text[:markFirst().FindStringIndex(change.Text)[0]], "\n") + 1
	return change
}

// indented is the delegation with each line indented.
func indented(indent string) string {
	var b strings.Builder
	for line := range strings.Lines(delegation) {
		b.WriteString(indent)
		b.WriteString(line)
	}
	return b.String()
}
