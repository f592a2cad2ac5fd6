package verdict

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"sandproof/internal/redact"
	"sandproof/internal/requirement"
)

// marks are the matrix's words; the worst result of a stage's core
// requirements is shown.
var marks = map[requirement.Result]string{
	requirement.Pass: "ok", requirement.Fail: "FAIL", requirement.Unproven: "?",
	requirement.Inert: "inert", requirement.NotApplicable: "-", requirement.Infra: "infra",
}

// reasonWidth is how wide sentences under the table run, in columns.
const reasonWidth = 100

// Table renders verdicts for a terminal: the matrix of templates and stages,
// then a paragraph for each template that is not isolated.
func Table(r Report) string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options.SeparateRows = false
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)

	stages := shownStages(r.Verdicts)
	header := append(make(table.Row, 0, 3+len(stages)), "template", "verdict", "envd")
	for _, s := range stages {
		header = append(header, string(s))
	}
	t.AppendHeader(header)
	for _, v := range r.Verdicts {
		row := table.Row{show(v.Template), strings.ToUpper(string(v.Word)), show(envdText(v))}
		for _, s := range stages {
			result, seen := v.Stages[s]
			if !seen {
				row = append(row, "")
				continue
			}
			row = append(row, marks[result])
		}
		t.AppendRow(row)
	}

	var b strings.Builder
	fmt.Fprintf(&b, "run %s, target %s, profile %s%s\n", show(r.Run), r.Target, r.Profile, standInText(r.Verdicts))
	if len(r.Verdicts) > 0 {
		b.WriteString(t.Render() + "\n")
	}
	for _, v := range r.Verdicts {
		if v.Word != Isolated {
			where := string(v.Stage)
			if v.Requirement != "" {
				where += " (" + string(v.Requirement) + ")"
			}
			what := "first broken stage"
			if v.Word == Unproven {
				what = "first unproven stage"
			}
			fmt.Fprintf(&b, "\n%s: %s, %s: %s\n", show(v.Template), v.Word, what, where)
			paragraph(&b, "why ", v.Reason)
			paragraph(&b, "next", v.Next)
		}
		for _, note := range v.Notes {
			paragraph(&b, "note", v.Template+": "+note)
		}
	}
	for _, problem := range r.Problems {
		paragraph(&b, "PROBLEM OF THE RUN", problem)
	}
	for _, note := range r.Notes {
		paragraph(&b, "note", note)
	}
	return b.String()
}

func shownStages(verdicts []Verdict) []requirement.Stage {
	var shown []requirement.Stage
	for _, s := range requirement.Stages() {
		for _, v := range verdicts {
			if _, seen := v.Stages[s]; seen {
				shown = append(shown, s)
				break
			}
		}
	}
	return shown
}

func envdText(v Verdict) string {
	switch {
	case v.Envd == "":
		return "not seen"
	case v.Generation == "":
		return v.Envd
	}
	return v.Envd + " (" + v.Generation + ")"
}

func standInText(verdicts []Verdict) string {
	for _, v := range verdicts {
		if v.StandIn {
			return " (the lab's stand-in plays envd: this proves the harness and the template's init, not a cluster)"
		}
	}
	return ""
}

// paragraph writes a labelled, wrapped sentence.
func paragraph(b *strings.Builder, label, sentence string) {
	if sentence == "" {
		return
	}
	indent := strings.Repeat(" ", len(label)+4)
	var lines []string
	for line := range strings.SplitSeq(show(sentence), "\n") {
		wrapped := text.WrapSoft(line, reasonWidth-len(indent))
		for part := range strings.SplitSeq(wrapped, "\n") {
			lines = append(lines, strings.TrimRight(part, " "))
		}
	}
	fmt.Fprintf(b, "  %s: %s\n", label, strings.Join(lines, "\n"+indent))
}

// show makes text that may come from a guest harmless for a terminal.
func show(s string) string { return redact.Terminal(s) }
