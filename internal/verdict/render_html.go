package verdict

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's template, style and script
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
)

var (
	//go:embed html/report.html.tmpl
	htmlTemplate string
	//go:embed html/report.css
	htmlStyle string
	//go:embed html/report.js
	htmlScript string

	htmlPages = sync.OnceValue(func() *template.Template { return template.Must(template.New("report").Parse(htmlTemplate)) })
)

// The bounds of the page, in bytes. A page that would be larger than htmlMost
// is cut where that is missed least: raw evidence first, then the details of
// templates that are isolated and unchanged, then those of others. The verdicts
// with their reasons, and every outcome that is not green, are never cut, so
// that a page of very many templates may be larger.
const (
	htmlMost    = 2_000_000
	htmlRawMost = 150_000 // of one sandbox, as it stands in the page
	shortText   = 300     // a name or a value
	longText    = 1000    // a sentence
)

// HTML renders a run as one self-contained page: it loads nothing, its script
// and style are the only ones that its policy lets through, and every text of a
// guest or a log in it is made harmless and bounded. With the run before a
// patch, cells are split and what is unchanged can be hidden.
func (r *Report) HTML(before *Report) ([]byte, error) {
	h := &htmlReport{Report: r, before: before}
	if before != nil {
		d := Compare(before.side(), r.side())
		h.diff = &d
	}
	head, err := renderHTML("head", h.head())
	if err != nil {
		return nil, err
	}
	tail, err := renderHTML("tail", h.catalogue())
	if err != nil {
		return nil, err
	}
	names := h.templates()
	sections := make([][]byte, len(names))
	size := len(head) + len(tail) + len(h.Sandboxes)*rawOverhead
	for i, name := range names {
		if sections[i], err = renderHTML("template", h.template(i, name, false)); err != nil {
			return nil, err
		}
		size += len(sections[i])
	}
	byNeed := h.byNeed(names)
	for _, i := range slices.Backward(byNeed) {
		if size <= htmlMost {
			break
		}
		size -= len(sections[i])
		if sections[i], err = renderHTML("template", h.template(i, names[i], true)); err != nil {
			return nil, err
		}
		size += len(sections[i])
	}
	raw, err := h.rawEvidence(byNeed, names, htmlMost-size)
	if err != nil {
		return nil, err
	}
	return slices.Concat(head, bytes.Join(sections, nil), raw, tail), nil
}

// renderHTML renders one part of the page.
func renderHTML(part string, view any) ([]byte, error) {
	var b bytes.Buffer
	if err := htmlPages().ExecuteTemplate(&b, part, view); err != nil {
		return nil, fmt.Errorf("render the part %s of the HTML report: %w", part, err)
	}
	return b.Bytes(), nil
}

// htmlReport is what the page is made from.
type htmlReport struct {
	*Report
	before *Report // nil without a run to compare with
	diff   *Diff
}

// side is what a comparison needs of a report.
func (r *Report) side() Side {
	s := Side{
		Run: r.Run, Target: r.Target, Profile: config.Profile(r.Profile), Harness: r.Harness,
		Verdicts: r.Verdicts, Problems: r.Problems, Sandboxes: map[string][][]requirement.Outcome{},
	}
	for _, one := range r.Sandboxes {
		s.Sandboxes[one.Template] = append(s.Sandboxes[one.Template], one.Outcomes)
		if one.Evidence != nil {
			s.Evidence = append(s.Evidence, one.Evidence)
		}
	}
	return s
}

// sandboxNamed finds one in a report, of which there may be none.
func sandboxNamed(r *Report, name string) *Sandbox {
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.Sandboxes, func(s Sandbox) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Sandboxes[i]
}

// verdictIn finds that of a template in a report, of which there may be none.
func verdictIn(r *Report, template string) *Verdict {
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.Verdicts, func(v Verdict) bool { return v.Template == template })
	if i < 0 {
		return nil
	}
	return &r.Verdicts[i]
}

// templates are those of the run, then those that only the run before has.
func (h *htmlReport) templates() []string {
	var names []string
	runs := [][]Verdict{h.Verdicts}
	if h.before != nil {
		runs = append(runs, h.before.Verdicts)
	}
	for _, verdicts := range runs {
		for _, v := range verdicts {
			if !slices.Contains(names, v.Template) {
				names = append(names, v.Template)
			}
		}
	}
	return names
}

// change is what became of a template, nil without a comparison.
func (h *htmlReport) change(name string) *TemplateDiff {
	if h.diff == nil {
		return nil
	}
	i := slices.IndexFunc(h.diff.Templates, func(t TemplateDiff) bool { return t.Template == name })
	if i < 0 {
		return nil
	}
	return &h.diff.Templates[i]
}

// changed tells whether the comparison shows anything of a template.
func (h *htmlReport) changed(name string) bool {
	t := h.change(name)
	return t != nil && (t.Before == nil || t.After == nil || t.Before.Word != t.After.Word || !t.unchanged())
}

// needed tells whether a template's details must be shown whole.
func (h *htmlReport) needed(name string) bool {
	v := verdictIn(h.Report, name)
	return v != nil && v.Word != Isolated || h.changed(name)
}

// byNeed orders templates by how much their details are needed, the most first.
func (h *htmlReport) byNeed(names []string) []int {
	var needed, rest []int
	for i, name := range names {
		if h.needed(name) {
			needed = append(needed, i)
		} else {
			rest = append(rest, i)
		}
	}
	return slices.Concat(needed, rest)
}

// mark is a result as it is shown: never by its colour alone.
type mark struct{ Class, Glyph, Word string }

// htmlMarks are the matrix's cells. Their words are the results', so that what
// is read here is found in the other reports.
var htmlMarks = map[requirement.Result]mark{
	requirement.Pass:          {"pass", "✓", "pass"},
	requirement.Fail:          {"fail", "✗", "fail"},
	requirement.Unproven:      {"unproven", "?", "unproven"},
	requirement.Inert:         {"inert", "○", "inert"},
	requirement.NotApplicable: {"na", "–", "n/a"},
	requirement.Infra:         {"infra", "!", "infra"},
	"":                        {"none", "·", "not executed"},
}

func markOf(r requirement.Result) mark {
	m, known := htmlMarks[r]
	if !known {
		return mark{"none", "·", shown(string(r))}
	}
	return m
}

// wordMarks are the verdicts as they are shown.
var wordMarks = map[Word]mark{
	Isolated:      {"pass", "✓", "isolated"},
	Partial:       {"fail", "◐", "partial"},
	NotIsolated:   {"fail", "✗", "not isolated"},
	Unproven:      {"unproven", "?", "unproven"},
	NotApplicable: {"fail", "–", "not applicable"},
}

func wordMark(v *Verdict) mark {
	if v == nil {
		return mark{"none", "·", "not in this run"}
	}
	m, known := wordMarks[v.Word]
	if !known {
		return mark{"none", "·", shown(string(v.Word))}
	}
	if v.Infra {
		return mark{"infra", "!", "unproven (infra)"}
	}
	if v.Excused {
		m.Word += ", WAIVED"
	}
	return m
}

// headView is the page's head, and its matrix.
type headView struct {
	Title, Policy   string
	Style           template.CSS
	Run             runView
	Before          *runView
	Exit            mark
	ExitMeans       string
	StandIn         string
	Problems, Notes []string
	Caveats         []string
	Conclusion      string
	Counts          []countView
	Stages          []requirement.Stage
	Rows            []rowView
	Legend          []mark
	// Same is true where a comparison shows no change at all.
	Same bool
}

// runView names a run.
type runView struct{ Run, Target, Profile, Harness, Started string }

// countView is how many templates have a verdict.
type countView struct {
	N    int
	Mark mark
}

// rowView is a row of the matrix. Was is the verdict before, where there is a
// run to compare with.
type rowView struct {
	Link, Name, Envd string
	Now              mark
	Was              *mark
	Changed          bool
	Cells            []cellView
}

// cellView is a cell of the matrix.
type cellView struct {
	Link    string
	Stage   requirement.Stage
	Now     mark
	Was     *mark
	Changed bool
}

// exitMeans says what each of the gate's codes means.
var exitMeans = map[int]string{
	ExitIsolated:    "every template is isolated",
	ExitNotIsolated: "a template is not isolated, or only in part, or has no limits at all",
	ExitUnproven:    "a template is unproven: something that decides was not seen",
	ExitInfra:       "trouble of the infrastructure or of the harness",
}

// exitMark is how a code looks.
func exitMark(code int) mark {
	word := fmt.Sprintf("exit code %d", code)
	switch code {
	case ExitIsolated:
		return mark{"pass", "✓", word}
	case ExitNotIsolated:
		return mark{"fail", "✗", word}
	case ExitUnproven:
		return mark{"unproven", "?", word}
	}
	return mark{"infra", "!", word}
}

func (h *htmlReport) head() headView {
	v := headView{
		Title: "sandproof: " + shown(h.Run), Policy: contentPolicy(), Style: template.CSS(htmlStyle), //nolint:gosec // the embedded style
		Run: viewOfRun(h.Report), Exit: exitMark(h.Exit), ExitMeans: exitMeans[h.Exit], StandIn: strings.Trim(standInText(h.Verdicts), " ()"),
		Problems: someOf(h.Problems), Notes: someOf(h.Notes), Counts: countWords(h.Verdicts),
	}
	verdicts := h.Verdicts
	if h.before != nil {
		before := viewOfRun(h.before)
		v.Before, v.Caveats, v.Conclusion = &before, someOf(h.diff.Caveats), h.diff.conclusion()
		verdicts = slices.Concat(verdicts, h.before.Verdicts)
	}
	v.Stages = shownStages(verdicts)
	for i, name := range h.templates() {
		v.Rows = append(v.Rows, h.row(i, name, v.Stages))
	}
	v.Same = !slices.ContainsFunc(v.Rows, func(r rowView) bool { return r.Changed })
	for _, r := range slices.Backward(severity) {
		v.Legend = append(v.Legend, markOf(r))
	}
	v.Legend = append(v.Legend, markOf(""))
	return v
}

func viewOfRun(r *Report) runView {
	v := runView{Run: shown(r.Run), Target: shown(r.Target), Profile: shown(r.Profile), Harness: shown(r.Harness)}
	if !r.Started.IsZero() {
		v.Started = r.Started.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return v
}

// countWords counts verdicts, the worst first.
func countWords(verdicts []Verdict) []countView {
	var counts []countView
	for _, word := range slices.Backward(worstLast) {
		n := 0
		for _, v := range verdicts {
			if v.Word == word {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, countView{n, wordMarks[word]})
		}
	}
	return counts
}

func (h *htmlReport) row(i int, name string, stages []requirement.Stage) rowView {
	now := verdictIn(h.Report, name)
	row := rowView{Link: templateID(i), Name: shown(name), Now: wordMark(now), Changed: h.changed(name)}
	if now != nil {
		row.Envd = shown(envdText(*now))
	}
	was := verdictIn(h.before, name)
	if h.before != nil {
		m := wordMark(was)
		row.Was = &m
	}
	for _, stage := range stages {
		cell := cellView{Link: stageID(i, stage), Stage: stage, Now: stageMark(now, stage)}
		if h.before != nil {
			m := stageMark(was, stage)
			cell.Was, cell.Changed = &m, m != cell.Now
		}
		row.Cells = append(row.Cells, cell)
	}
	return row
}

// stageMark is a verdict's worst result in a stage.
func stageMark(v *Verdict, stage requirement.Stage) mark {
	if v == nil {
		return markOf("")
	}
	return markOf(v.Stages[stage])
}

// The page's anchors are made of numbers and stages, never of a name that
// somebody gave.
func templateID(i int) string                       { return fmt.Sprintf("t%d", i+1) }
func stageID(i int, stage requirement.Stage) string { return fmt.Sprintf("t%d-%s", i+1, stage) }
func sandboxID(i, number int) string                { return fmt.Sprintf("t%d-s%d", i+1, number+1) }
func requirementID(id requirement.ID) string        { return "r-" + shown(string(id)) }

// contentPolicy lets through this page's own style and script by their hashes,
// and nothing else.
func contentPolicy() string {
	return fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", hashOf(htmlStyle), hashOf(htmlScript))
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// shown makes a short text of anybody harmless.
func shown(text string) string { return redact.Shown(text, shortText) }

// told makes a sentence of anybody harmless.
func told(text string) string { return redact.Shown(text, longText) }

// mostNotes is how many notes and problems are listed in one place.
const mostNotes = 50

// someOf makes notes harmless, and bounds them.
func someOf(notes []string) []string {
	var all []string
	for i, note := range notes {
		if i == mostNotes {
			return append(all, fmt.Sprintf("… and %d more", len(notes)-i))
		}
		all = append(all, told(note))
	}
	return all
}

// rawView is the raw evidence of one sandbox.
type rawView struct {
	ID, Name, JSON string
	// Cut says how much of it is shown.
	Cut string
}

// rawEvidence renders the evidence of those sandboxes that need it most, as
// far as there is room, in bytes, and says what was left out.
func (h *htmlReport) rawEvidence(byNeed []int, names []string, room int) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(htmlRawBegin)
	for _, i := range byNeed {
		for number, s := range h.sandboxesOf(names[i]) {
			view := rawView{ID: rawID(i, number), Name: shown(s.Name)}
			whole, err := rawText(s.Evidence)
			if err != nil {
				return nil, err
			}
			fits := whole[:fitting(whole, min(room, htmlRawMost))]
			view.JSON, view.Cut = fits, cutNote(s, whole, fits)
			part, err := renderHTML("raw", view)
			if err != nil {
				return nil, err
			}
			room -= max(0, len(part)-rawOverhead)
			b.Write(part)
		}
	}
	b.WriteString(htmlRawEnd)
	return b.Bytes(), nil
}

const (
	htmlRawBegin = `<section id="raw"><h2>Raw evidence</h2>`
	htmlRawEnd   = "</section>\n"
)

func rawID(i, number int) string { return sandboxID(i, number) + "-raw" }

// rawText is evidence as JSON, harmless; empty where there is none.
func rawText(s *evidence.Sandbox) (string, error) {
	if s == nil {
		return "", nil
	}
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return "", fmt.Errorf("write the evidence of %s: %w", s.Name(), err)
	}
	return redact.Shown(string(data), htmlMost), nil
}

// rawOverhead is what each sandbox takes in the page beside its evidence, in
// bytes.
const rawOverhead = 400

// leastRaw is how much of a sandbox's evidence is worth showing, in bytes.
const leastRaw = 4000

// fitting is how many bytes of a text fit into so much of a page, by whole
// lines: a quote takes five there.
func fitting(text string, room int) int {
	if room < leastRaw {
		return 0
	}
	end := 0
	for line := range strings.Lines(text) {
		room -= len(template.HTMLEscapeString(line))
		if room < 0 {
			return end
		}
		end += len(line)
	}
	return end
}

func cutNote(s Sandbox, whole, fits string) string {
	switch {
	case s.Evidence == nil:
		return "no evidence of this sandbox was recorded"
	case len(fits) == len(whole):
		return "whole"
	case fits == "":
		return fmt.Sprintf("left out to keep this page small: %d bytes; they stand in the run's directory evidence/", len(whole))
	}
	return fmt.Sprintf("cut to keep this page small: %d of %d bytes are shown; all stand in the run's directory evidence/", len(fits), len(whole))
}

// sandboxesOf are those of a template in this run.
func (h *htmlReport) sandboxesOf(template string) []Sandbox {
	return slices.DeleteFunc(slices.Clone(h.Sandboxes), func(s Sandbox) bool { return s.Template != template })
}

// tailView is the catalogue that all details refer to.
type tailView struct {
	Stages []catalogueStage
	Script template.JS
}

type catalogueStage struct {
	Stage        requirement.Stage
	Requirements []catalogueRow
}

type catalogueRow struct {
	Anchor, ID, Title, Level, Why, Next, Reference string
}

func (h *htmlReport) catalogue() tailView {
	v := tailView{Script: template.JS(htmlScript)} //nolint:gosec // the embedded script
	for _, stage := range requirement.Stages() {
		rows := catalogueStage{Stage: stage}
		for _, r := range requirement.All() {
			if r.Stage == stage {
				rows.Requirements = append(rows.Requirements, catalogueRow{
					requirementID(r.ID), string(r.ID), r.Title, string(r.Level), r.Why, r.Next, r.Reference,
				})
			}
		}
		v.Stages = append(v.Stages, rows)
	}
	return v
}
