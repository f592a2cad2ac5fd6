package verdict

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// diffGroups are the parts of a template's difference, in the order in which
// they are shown.
func diffGroups(t TemplateDiff) []diffGroup {
	return []diffGroup{
		{"fixed", t.Fixed},
		{"WORSE", t.Worse},
		{"side effect", t.SideEffects},
		{"newly untested", t.Untested},
		{"newly proven", t.Proven},
		{"changed", t.Other},
	}
}

type diffGroup struct {
	name    string
	changes []Change
}

// Text renders the difference for a terminal.
func (d Diff) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s\n", sideText(d.Before), sideText(d.After))
	for _, caveat := range d.Caveats {
		paragraph(&b, reasonWidth, "note", caveat)
	}
	for _, t := range d.Templates {
		fmt.Fprintf(&b, "\n%s: %s\n", show(t.Template), headline(t))
		if t.After != nil && t.After.Word != Isolated {
			paragraph(&b, reasonWidth, "why ", t.After.Reason)
			paragraph(&b, reasonWidth, "next", t.After.Next)
		}
		for _, group := range diffGroups(t) {
			for _, c := range group.changes {
				sentence := fmt.Sprintf("%s (%s): %s -> %s", c.Requirement, levelText(c), resultText(c.Before), resultText(c.After))
				if c.Reason != "" {
					sentence += ": " + c.Reason
				}
				paragraph(&b, reasonWidth, group.name, sentence)
			}
		}
		for _, seen := range t.Seen {
			paragraph(&b, reasonWidth, "side effect", seen)
		}
	}
	for _, problem := range d.After.Problems {
		paragraph(&b, reasonWidth, "PROBLEM OF THE RUN", problem)
	}
	fmt.Fprintf(&b, "\n%s\n", d.conclusion())
	return b.String()
}

// Markdown renders the difference for a pull request or a ticket.
func (d Diff) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## sandproof: %s → %s\n\n%s\n", markdown(sideText(d.Before)), markdown(sideText(d.After)), markdown(d.conclusion()))
	for _, caveat := range d.Caveats {
		fmt.Fprintf(&b, "\n> %s\n", markdown(caveat))
	}
	for _, t := range d.Templates {
		fmt.Fprintf(&b, "\n### %s: %s\n", markdown(t.Template), markdown(headline(t)))
		if t.After != nil && t.After.Word != Isolated {
			fmt.Fprintf(&b, "\n%s\n", markdown(t.After.Reason))
		}
		header := "\n| | requirement | level | before | after | |\n|---|---|---|---|---|---|\n"
		for _, group := range diffGroups(t) {
			for _, c := range group.changes {
				fmt.Fprintf(&b, "%s| %s | %s | %s | %s | %s | %s |\n", header, group.name, markdown(string(c.Requirement)), levelText(c),
					resultText(c.Before), resultText(c.After), markdown(c.Reason))
				header = ""
			}
		}
		for i, seen := range t.Seen {
			if i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "- side effect: %s\n", markdown(seen))
		}
	}
	for _, problem := range d.After.Problems {
		fmt.Fprintf(&b, "\n**Problem of the run:** %s\n", markdown(problem))
	}
	return b.String()
}

// JSON renders the difference whole, for programs.
func (d Diff) JSON() (string, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write the difference: %w", err)
	}
	return string(data) + "\n", nil
}

func sideText(s Side) string {
	return fmt.Sprintf("%s (%s, %s)", show(s.Run), show(s.Target), show(string(s.Profile)))
}

// headline says what became of a template in one line.
func headline(t TemplateDiff) string {
	switch {
	case t.After == nil:
		return fmt.Sprintf("%s before, not in the run after: whether it is as it was, nobody looked", t.Before.Word)
	case t.Before == nil:
		return fmt.Sprintf("not in the run before, %s now", t.After.Label())
	case t.Before.Label() != t.After.Label():
		return fmt.Sprintf("%s -> %s", t.Before.Label(), strings.ToUpper(t.After.Label()))
	case t.unchanged():
		return t.After.Label() + " as before, nothing changed"
	}
	return t.After.Label() + " as before"
}

func (t *TemplateDiff) unchanged() bool {
	for _, group := range diffGroups(*t) {
		if len(group.changes) > 0 {
			return false
		}
	}
	return len(t.Seen) == 0
}

// conclusion is the exit code in a sentence.
func (d Diff) conclusion() string {
	fixed := 0
	for _, t := range d.Templates {
		if t.Before != nil && t.After != nil && t.Before.Word != Isolated && t.After.Word == Isolated {
			fixed++
		}
	}
	switch d.Exit {
	case ExitIsolated:
		is := "isolated"
		if slices.ContainsFunc(d.After.Verdicts, func(v Verdict) bool { return v.Excused }) {
			is = "isolated or waived"
		}
		return fmt.Sprintf("fixed: %d of %d templates; nothing got worse, and every template is %s", fixed, len(d.Templates), is)
	case ExitNotIsolated:
		return fmt.Sprintf("fixed: %d of %d templates; something got worse, or is not fixed", fixed, len(d.Templates))
	case ExitUnproven:
		return fmt.Sprintf("fixed: %d of %d templates; something was not tested, so that it may have got worse", fixed, len(d.Templates))
	}
	return fmt.Sprintf("fixed: %d of %d templates; trouble of the run after stands in the way of a comparison", fixed, len(d.Templates))
}

func levelText(c Change) string {
	if c.Level == "" {
		return "unknown"
	}
	return string(c.Level)
}

func resultText[T ~string](result T) string {
	if result == "" {
		return "not executed"
	}
	return show(string(result))
}
