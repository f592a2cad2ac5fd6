package verdict

import (
	"cmp"
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

// CommentMost is how many bytes surely go into one comment: GitHub takes 65536
// characters, and refuses what has more ("Body is too long").
const CommentMost = 65536

// Markdown renders the difference for a comment of so many bytes, in a pull
// request or a ticket: the worst template comes first, each is named before any is
// told whole, and what has no room is counted.
func (d Diff) Markdown(budget int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## sandproof: %s → %s\n\n%s\n", markdown(sideText(d.Before)), markdown(sideText(d.After)), markdown(d.conclusion()))
	room, missing := budget-b.Len()-cutMost, 0
	take := func(block string) string {
		if len(block) > room {
			missing++
			return ""
		}
		room -= len(block)
		return block
	}
	for _, caveat := range d.Caveats {
		b.WriteString(take(fmt.Sprintf("\n> %s\n", markdown(caveat))))
	}
	for _, problem := range d.After.Problems {
		b.WriteString(take(fmt.Sprintf("\n**Problem of the run:** %s\n", markdown(problem))))
	}
	templates := slices.Clone(d.Templates)
	slices.SortStableFunc(templates, func(a, b TemplateDiff) int {
		return cmp.Compare(slices.Index(exitOrder, b.Exit), slices.Index(exitOrder, a.Exit))
	})
	heads := make([]string, len(templates))
	for i, t := range templates {
		heads[i] = take(markdownHead(t))
	}
	for i, t := range templates {
		if heads[i] == "" {
			continue
		}
		b.WriteString(heads[i])
		// What stands before the first row that has room.
		before := "\n| | requirement | level | before | after | |\n|---|---|---|---|---|---|\n"
		for _, group := range diffGroups(t) {
			for _, c := range group.changes {
				if row := take(before + markdownRow(group.name, c)); row != "" {
					b.WriteString(row)
					before = ""
				}
			}
		}
		before = "\n"
		for _, seen := range t.Seen {
			if line := take(fmt.Sprintf("%s- side effect: %s\n", before, markdown(seen))); line != "" {
				b.WriteString(line)
				before = ""
			}
		}
	}
	if missing > 0 {
		fmt.Fprintf(&b, "\n**Cut:** %d parts have no room in a comment of %d bytes; sandproof diff --format json has all.\n", missing, budget)
	}
	return b.String()
}

// markdownHead says what became of a template, and why it is not isolated.
func markdownHead(t TemplateDiff) string {
	head := fmt.Sprintf("\n### %s: %s\n", markdown(t.Template), markdown(headline(t)))
	if t.After != nil && t.After.Word != Isolated {
		head += fmt.Sprintf("\n%s\n", markdown(t.After.Reason))
	}
	return head
}

func markdownRow(group string, c Change) string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", group, markdown(string(c.Requirement)), levelText(c),
		markdown(resultText(c.Before)), markdown(resultText(c.After)), markdown(c.Reason))
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
