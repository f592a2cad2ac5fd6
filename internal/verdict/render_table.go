package verdict

import (
	"fmt"
	"math"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"sandproof/internal/redact"
	"sandproof/internal/requirement"
)

// Terminal is what a text is rendered for; the zero value is a file.
type Terminal struct {
	// Width is in columns; 0 is not bounded.
	Width int
	Color bool
}

// marks are the matrix's words; the worst result of a stage's core
// requirements is shown.
var marks = map[requirement.Result]string{
	requirement.Pass: "ok", requirement.Fail: "FAIL", requirement.Unproven: "?",
	requirement.Inert: "inert", requirement.NotApplicable: "-", requirement.Infra: "infra",
}

// shortMarks are those of a narrow matrix, whose stages have two letters.
var shortMarks = map[requirement.Result]string{
	requirement.Pass: "ok", requirement.Fail: "NO", requirement.Unproven: "??",
	requirement.Inert: "in", requirement.NotApplicable: "-", requirement.Infra: "!!",
}

// colors are the results' and the exit codes' colours.
var (
	resultColors = map[requirement.Result]text.Color{
		requirement.Pass: text.FgGreen, requirement.Fail: text.FgRed, requirement.Unproven: text.FgYellow,
		requirement.Inert: text.FgHiBlack, requirement.NotApplicable: text.FgHiBlack, requirement.Infra: text.FgMagenta,
	}
	exitColors = map[int]text.Color{
		ExitIsolated: text.FgGreen, ExitNotIsolated: text.FgRed, ExitUnproven: text.FgYellow, ExitInfra: text.FgMagenta,
	}
)

// reasonWidth is how wide sentences under the table run at most, in columns, and
// leastWidth what is taken for the narrowest terminal.
const (
	reasonWidth = 100
	leastWidth  = 40
)

// Table renders a report for a file, without colours and as wide as it is.
func Table(r Report) string { return r.Text(Terminal{}) }

// Text renders a report for a terminal: the matrix of templates and stages, then
// a paragraph for each template that is not isolated. A matrix that is too wide
// is written with short words, and where that is too wide as well, as a list.
func (r *Report) Text(t Terminal) string {
	width := reasonWidth
	if t.Width > 0 {
		width = max(min(reasonWidth, t.Width), leastWidth)
	}
	var b strings.Builder
	head := width
	if t.Width == 0 {
		head = math.MaxInt // a file's first line is one line
	}
	sentence(&b, head, fmt.Sprintf("run %s, target %s, profile %s%s", showWord(r.Run), showWord(r.Target), showWord(r.Profile), standInText(r.Verdicts)))
	if len(r.Verdicts) > 0 {
		b.WriteString(t.matrix(r.Verdicts, width))
	}
	for _, v := range r.Verdicts {
		if v.Word != Isolated {
			b.WriteString("\n")
			sentence(&b, width, headOf(v))
			paragraph(&b, width, "why ", v.Reason)
			paragraph(&b, width, "next", v.Next)
		}
		for _, note := range v.Notes {
			paragraph(&b, width, "note", v.Template+": "+note)
		}
	}
	for _, problem := range r.Problems {
		paragraph(&b, width, "PROBLEM OF THE RUN", problem)
	}
	for _, note := range r.Notes {
		paragraph(&b, width, "note", note)
	}
	b.WriteString("\n")
	sentence(&b, width, r.Conclusion())
	return b.String()
}

// headOf begins what is said of a template: its verdict, and where it broke.
func headOf(v Verdict) string {
	head := fmt.Sprintf("%s: %s", show(v.Template), v.Label())
	if v.Stage == "" {
		return head
	}
	what := "first broken stage"
	if v.Word == Unproven {
		what = "first unproven stage"
	}
	head += fmt.Sprintf(", %s: %s", what, v.Stage)
	if v.Requirement != "" {
		head += fmt.Sprintf(" (%s)", v.Requirement)
	}
	return head
}

// matrix renders the widest form that fits.
func (t Terminal) matrix(verdicts []Verdict, width int) string {
	stages := shownStages(verdicts)
	full := t.wide(verdicts, stages)
	if t.Width == 0 || text.LongestLineLen(full) <= t.Width {
		return full
	}
	short := t.short(verdicts, stages)
	if text.LongestLineLen(short) <= t.Width {
		var b strings.Builder
		b.WriteString(short)
		sentence(&b, width, legend(stages))
		return b.String()
	}
	return t.list(verdicts, stages, width)
}

func (t Terminal) wide(verdicts []Verdict, stages []requirement.Stage) string {
	w := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	w.SetStyle(style)
	header := append(make(table.Row, 0, 3+len(stages)), "template", "verdict", "envd")
	for _, s := range stages {
		header = append(header, string(s))
	}
	w.AppendHeader(header)
	for _, v := range verdicts {
		w.AppendRow(append(table.Row{show(v.Template), t.word(v), show(envdText(v))}, t.cells(v, stages, marks)...))
	}
	return w.Render() + "\n"
}

// shortTemplate is how wide a template's name runs in a narrow matrix, in
// columns, before it is broken.
const shortTemplate = 24

func (t Terminal) short(verdicts []Verdict, stages []requirement.Stage) string {
	w := table.NewWriter()
	style := table.StyleDefault
	style.Format.Header = text.FormatDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	w.SetStyle(style)
	w.SetColumnConfigs([]table.ColumnConfig{{Number: 1, WidthMax: shortTemplate}})
	header := append(make(table.Row, 0, 2+len(stages)), "template", "verdict")
	for _, s := range stages {
		header = append(header, string(s)[:2])
	}
	w.AppendHeader(header)
	for _, v := range verdicts {
		w.AppendRow(append(table.Row{show(v.Template), t.word(v)}, t.cells(v, stages, shortMarks)...))
	}
	return w.Render() + "\n"
}

// legend explains a narrow matrix.
func legend(stages []requirement.Stage) string {
	names := make([]string, 0, len(stages))
	for _, s := range stages {
		names = append(names, string(s)[:2]+" "+string(s))
	}
	return strings.Join(names, ", ") + "; NO fail, ?? unproven, !! infra, in inert, - not applicable"
}

func (t Terminal) cells(v Verdict, stages []requirement.Stage, marks map[requirement.Result]string) table.Row {
	row := make(table.Row, 0, len(stages))
	for _, s := range stages {
		cell := ""
		if result, seen := v.Stages[s]; seen {
			cell = t.paint(resultColors[result], marks[result])
		}
		row = append(row, cell)
	}
	return row
}

// list renders what a matrix holds where there is no room for one: for each
// template the stages by their results, the worst first.
func (t Terminal) list(verdicts []Verdict, stages []requirement.Stage, width int) string {
	var b strings.Builder
	for _, v := range verdicts {
		sentence(&b, width, fmt.Sprintf("%s: %s, envd %s", show(v.Template), strings.ToUpper(v.Label()), show(envdText(v))))
		for i := range severity {
			result := severity[len(severity)-1-i]
			var of []string
			for _, s := range stages {
				if got, seen := v.Stages[s]; seen && got == result {
					of = append(of, string(s))
				}
			}
			paragraph(&b, width, string(result), strings.Join(of, ", "))
		}
	}
	return b.String()
}

// word is the verdict's cell.
func (t Terminal) word(v Verdict) string {
	color := exitColors[v.Exit()]
	if v.Excused {
		color = text.FgYellow
	}
	return t.paint(color, strings.ToUpper(v.Label()))
}

// paint colours a text of our own, where colours are wanted.
func (t Terminal) paint(color text.Color, s string) string {
	if !t.Color || s == "" {
		return s
	}
	return color.EscapeSeq() + s + text.Reset.EscapeSeq()
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

// sentence writes a wrapped text of which the parts that are not ours were made
// harmless.
func sentence(b *strings.Builder, width int, s string) {
	for part := range strings.SplitSeq(text.WrapSoft(strings.Join(strings.Fields(s), " "), width), "\n") {
		b.WriteString(strings.TrimRight(part, " ") + "\n")
	}
}

// paragraph writes a labelled, wrapped sentence.
func paragraph(b *strings.Builder, width int, label, sentence string) {
	if sentence == "" {
		return
	}
	indent := strings.Repeat(" ", len(label)+4)
	if len(indent) > width/2 {
		indent = "    "
	}
	var lines []string
	for line := range strings.SplitSeq(show(sentence), "\n") {
		wrapped := text.WrapSoft(line, width-len(label)-4)
		for part := range strings.SplitSeq(wrapped, "\n") {
			lines = append(lines, strings.TrimRight(part, " "))
		}
	}
	fmt.Fprintf(b, "  %s: %s\n", label, strings.Join(lines, "\n"+indent))
}

// show makes text that may come from a guest harmless for a terminal.
func show(s string) string { return redact.Terminal(s) }

// showWord is show for what stands within a line.
func showWord(s string) string { return strings.ReplaceAll(show(s), "\n", `\n`) }
