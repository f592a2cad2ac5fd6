package verdict

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// SummaryMost is how much GitHub takes as the summary of one step, in bytes; of
// one that is longer it shows nothing.
const SummaryMost = 1 << 20

// Markdown renders a report for a summary of so many bytes, for a pull request
// or a ticket: what fails comes first, and what has no room is counted.
func (r *Report) Markdown(budget int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## sandproof: %s\n\n%s\n", markdown(r.Conclusion()), markdown(fmt.Sprintf("Run %s%s", r.Run, standInText(r.Verdicts))))
	left := budget - b.Len() - cutMost
	add := func(block string) bool {
		if len(block) > left {
			return false
		}
		left -= len(block)
		b.WriteString(block)
		return true
	}
	missing := 0
	for _, problem := range r.Problems {
		if !add(fmt.Sprintf("\n**Problem of the run:** %s\n", markdown(problem))) {
			missing++
		}
	}
	sorted := r.worstFirst()
	stages := shownStages(sorted)
	columns := []string{"template", "verdict", "envd"}
	for _, s := range stages {
		columns = append(columns, string(s))
	}
	header := "\n| " + strings.Join(columns, " | ") + " |\n" + strings.Repeat("|---", len(columns)) + "|\n"
	rows := len(sorted) > 0 && add(header)
	for _, v := range sorted {
		cells := []string{markdown(v.Template), strings.ToUpper(v.Label()), markdown(envdText(v))}
		for _, s := range stages {
			cells = append(cells, marks[v.Stages[s]])
		}
		row := "| " + strings.Join(cells, " | ") + " |\n"
		if rows = rows && add(row); !rows {
			missing++
		}
	}
	for _, v := range sorted {
		if v.Word == Isolated && len(v.Notes) == 0 {
			continue
		}
		var block strings.Builder
		fmt.Fprintf(&block, "\n### %s\n", markdown(headOf(v)))
		if v.Word != Isolated {
			fmt.Fprintf(&block, "\n**Why:** %s\n", markdown(v.Reason))
			if v.Next != "" {
				fmt.Fprintf(&block, "\n**Next:** %s\n", markdown(v.Next))
			}
		}
		for i, note := range v.Notes {
			if i == 0 {
				block.WriteString("\n")
			}
			fmt.Fprintf(&block, "- %s\n", markdown(note))
		}
		if !add(block.String()) {
			missing++
		}
	}
	for i, note := range r.Notes {
		if i == 0 {
			note = "\n- " + markdown(note) + "\n"
		} else {
			note = "- " + markdown(note) + "\n"
		}
		if !add(note) {
			missing++
		}
	}
	if missing > 0 {
		fmt.Fprintf(&b, "\n**Cut:** %d parts have no room in a summary of %d bytes; the run's own reports are whole.\n", missing, budget)
	}
	return b.String()
}

// cutMost is what the sentence about a cut takes, in bytes.
const cutMost = 160

// markdownEscapes keeps what a guest says from being a table's border, a link,
// an image, HTML, or a call of a person or an issue. GitHub makes links of bare
// addresses as well; a space of no width, which no guest's text holds any more,
// takes that from them.
var markdownEscapes = strings.NewReplacer(
	`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "\n", " ", "\t", " ",
	"~", `\~`, "$", "&#36;",
	"@", "@\u200b", "#", "#\u200b", "://", ":\u200b//", "www.", "www\u200b.", "WWW.", "WWW\u200b.", "GH-", "GH\u200b-", "gh-", "gh\u200b-",
)

func markdown(s string) string { return markdownEscapes.Replace(show(text.Trim(s, markdownMost))) }

// markdownMost is how much of one text is shown, in columns: a guest may say
// any amount.
const markdownMost = 2000
