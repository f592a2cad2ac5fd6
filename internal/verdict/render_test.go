package verdict

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// reportOf is a report of one sandbox for each map of results, in which every
// text that comes from a guest, a log or an API says the given one.
func reportOf(said string, waivers []Waiver, problems []string, each ...map[requirement.ID]requirement.Result) Report {
	r := Report{Run: "r1", Target: "lab", Profile: string(config.ProfileCore), Harness: "1", Started: runDay, Problems: problems}
	for i, results := range each {
		template := fmt.Sprintf("template-%d", i)
		all := outcomes(results)
		for n := range all {
			if said != "" {
				all[n].Reason, all[n].Read, all[n].Wanted, all[n].Next, all[n].Advice = said, said, said, said, said
			}
		}
		r.Verdicts = append(r.Verdicts, Of(Input{
			Template: template, Target: r.Target, Profile: config.ProfileCore, Outcomes: all, Envd: "0.6.13" + said, Generation: "C", Node: said,
			Waivers: waivers, At: runDay,
		}))
		r.Sandboxes = append(r.Sandboxes, Sandbox{
			Name: template, Template: template, Outcomes: all,
			Attempts: map[requirement.ID][]requirement.Result{requirement.EnableCPU: {requirement.Fail, requirement.Pass}},
		})
	}
	if said != "" {
		r.Problems, r.Notes = append(r.Problems, said), []string{said}
	}
	r.Waivers = Uses(waivers, r.Verdicts, runDay)
	r.Exit = Exit(r.Verdicts, r.Problems)
	return r
}

type resultsOf = map[requirement.ID]requirement.Result

// worlds are results that matter to renderers.
var worlds = map[string]resultsOf{
	"isolated":               nil,
	"a failure":              {requirement.EnableCPU: requirement.Fail},
	"a failure elsewhere":    {requirement.PlaceCommand: requirement.Fail, requirement.ValueUserCPUWeight: requirement.Fail},
	"unproven":               {requirement.PlacePTY: requirement.Unproven},
	"trouble":                {requirement.PlacePTY: requirement.Infra},
	"another template":       {requirement.ImageTemplate: requirement.Infra, requirement.PlaceCommand: requirement.Fail},
	"inert and extended":     {requirement.ValueUserIOWeight: requirement.Fail, requirement.EnableIO: requirement.Inert},
	"no cgroup support":      {requirement.BootEnvdKnown: requirement.NotApplicable},
	"no support and failing": {requirement.BootEnvdKnown: requirement.NotApplicable, requirement.PlaceCommand: requirement.Fail},
}

// suite is a JUnit report as the common schema has it (junit-10.xsd of
// Jenkins's xunit plugin); decoding is strict about the rest.
var junitElements = map[string]struct{ attributes, children []string }{
	"testsuites": {[]string{"name", "time", "tests", "failures", "errors"}, []string{"testsuite"}},
	"testsuite": {
		[]string{"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
		[]string{"properties", "testcase", "system-out", "system-err"},
	},
	"properties": {nil, []string{"property"}},
	"property":   {[]string{"name", "value"}, nil},
	"testcase":   {[]string{"name", "time", "classname", "group"}, []string{"skipped", "error", "failure", "system-out", "system-err"}},
	"skipped":    {[]string{"type", "message"}, nil},
	"error":      {[]string{"type", "message"}, nil},
	"failure":    {[]string{"type", "message"}, nil},
	"system-out": {nil, nil},
}

// checkJUnit parses a JUnit report, holds it to the schema, and returns how many
// elements of each kind there are.
func checkJUnit(t *testing.T, doc string) map[string]int {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(doc))
	var open []string
	counts, declared := map[string]int{}, map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the JUnit report is no XML: %v\n%s", err, doc)
		}
		switch e := token.(type) {
		case xml.StartElement:
			name := e.Name.Local
			allowed, known := junitElements[name]
			if !known || len(open) > 0 && !slices.Contains(junitElements[open[len(open)-1]].children, name) {
				t.Fatalf("the element %s in %v is not of the schema", name, open)
			}
			for _, a := range e.Attr {
				if !slices.Contains(allowed.attributes, a.Name.Local) {
					t.Errorf("%s has an attribute %s, which is not of the schema", name, a.Name.Local)
				}
				if n, err := strconv.Atoi(a.Value); err == nil && name == "testsuites" {
					declared[a.Name.Local] = n
				}
			}
			open = append(open, name)
			counts[name]++
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	for attribute, element := range map[string]string{"tests": "testcase", "failures": "failure", "errors": "error"} {
		if declared[attribute] != counts[element] {
			t.Errorf("%d %s are declared, and there are %d", declared[attribute], attribute, counts[element])
		}
	}
	return counts
}

var reportSchema = func() *jsonschema.Schema {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(filepath.Join("..", "..", "docs", "report.schema.json"))
	if err != nil {
		panic(err)
	}
	return schema
}()

func checkJSON(t *testing.T, doc string) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := reportSchema.Validate(value); err != nil {
		t.Errorf("the report does not keep to its schema: %v", err)
	}
}

// checkMarkdown looks for everything that a guest could do to a summary.
func checkMarkdown(t *testing.T, doc string, budget int) {
	t.Helper()
	if len(doc) > budget {
		t.Errorf("%d bytes for a budget of %d", len(doc), budget)
	}
	if !utf8.ValidString(doc) || strings.ContainsAny(doc, "<>") || strings.Contains(doc, "://") {
		t.Errorf("HTML, a link or invalid text in %q", doc)
	}
	escaped := regexp.MustCompile(`\\.`).ReplaceAllString(doc, "")
	if strings.ContainsAny(escaped, "`[]$~_") {
		t.Errorf("code, a link, or mathematics in %q", doc)
	}
	for _, ping := range []string{"@", "www.", "GH-"} {
		if i := strings.Index(doc, ping); i >= 0 && !strings.HasPrefix(doc[i+len(ping):], "\u200b") && ping == "@" {
			t.Errorf("a call of a person in %q", doc[i:])
		}
	}
	if regexp.MustCompile(`www\.|GH-|[^&#\n]#\d`).MatchString(doc) {
		t.Errorf("a link in %q", doc)
	}
	columns := 0
	for line := range strings.SplitSeq(escaped, "\n") {
		if !strings.HasPrefix(line, "|") {
			if strings.Contains(line, "|") {
				t.Errorf("a pipe outside of the table: %q", line)
			}
			continue
		}
		if columns == 0 {
			columns = strings.Count(line, "|")
		}
		if strings.Count(line, "|") != columns {
			t.Errorf("a row of %d borders instead of %d: %q", strings.Count(line, "|"), columns, line)
		}
	}
}

// checkText looks for what a terminal would obey, and for lines that do not fit.
func checkText(t *testing.T, doc string, terminal Terminal) {
	t.Helper()
	if terminal.Color {
		doc = regexp.MustCompile("\x1b\\[\\d+m").ReplaceAllString(doc, "")
	}
	for _, r := range doc {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Cf, r) {
			t.Fatalf("%U in %q", r, doc)
		}
	}
	if !utf8.ValidString(doc) {
		t.Errorf("invalid text: %q", doc)
	}
	if wide := text.LongestLineLen(doc); terminal.Width > 0 && !strings.Contains(doc, "\t") && wide > max(terminal.Width, leastWidth) {
		t.Errorf("%d columns in a terminal of %d:\n%s", wide, terminal.Width, doc)
	}
}

// checkAnnotations looks that each is one command of one line.
func checkAnnotations(t *testing.T, all []string) {
	t.Helper()
	for _, line := range all {
		if !regexp.MustCompile(`^::(error|warning) title=[^:,\r\n]*::[^\r\n]*$`).MatchString(line) {
			t.Errorf("no command: %q", line)
		}
	}
}

// checkAll renders a report in every way, and holds each to its form.
func checkAll(t *testing.T, r Report) {
	t.Helper()
	for _, terminal := range []Terminal{{}, {Width: 200}, {Width: 80}, {Width: 60, Color: true}, {Width: 40}, {Width: 7}} {
		checkText(t, r.Text(terminal), terminal)
	}
	for _, budget := range []int{SummaryMost, 8 << 10} {
		checkMarkdown(t, r.Markdown(budget), budget)
	}
	checkAnnotations(t, r.Annotations())
	doc, err := r.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	if counts := checkJUnit(t, doc); (counts["failure"]+counts["error"] > 0) != (r.Exit != ExitIsolated) {
		t.Errorf("exit code %d, and JUnit has %d failures and %d errors", r.Exit, counts["failure"], counts["error"])
	}
	if doc, err = r.JSON(); err != nil {
		t.Fatal(err)
	}
	checkJSON(t, doc)
}

// Every report says what the gate says, whatever was found, waived or asked for.
func TestReports(t *testing.T) {
	for name, results := range worlds {
		t.Run(name, func(t *testing.T) {
			all := []Waiver{
				waiver("template-0", requirement.EnableCPU, "2099-01-01"), waiver("template-0", requirement.BootEnvdKnown, "2099-01-01"),
				waiver("template-0", requirement.EnableMemory, "2026-11-01"),
			}
			for _, waivers := range [][]Waiver{nil, all} {
				for _, demand := range []Demand{{}, {Target: "lab"}, {Target: "live"}, {Templates: []string{"template-0", "gone"}}} {
					r := reportOf("", waivers, nil, results)
					r.Require(demand)
					checkAll(t, r)
				}
				checkAll(t, reportOf("", waivers, []string{"leak: sandbox i1"}, results, nil))
			}
		})
	}
	checkAll(t, reportOf("", nil, nil))
	untold := reportOf("", nil, nil, nil)
	untold.Sandboxes[0].Outcomes = nil
	untold.Verdicts = []Verdict{Of(Input{Template: "template-0", Profile: config.ProfileCore})}
	untold.Exit = Exit(untold.Verdicts, nil)
	checkAll(t, untold)
}

// A run of another target proves nothing, whatever it found; a template that
// was not judged is unproven.
func TestDemands(t *testing.T) {
	failed := resultsOf{requirement.EnableCPU: requirement.Fail}
	byStandIn := reportOf("", nil, nil, nil)
	byStandIn.Target, byStandIn.Verdicts[0].StandIn = "live", true
	for _, test := range []struct {
		name   string
		report Report
		demand Demand
		exit   int
		says   string
	}{
		{"nothing asked", reportOf("", nil, nil, nil), Demand{}, ExitIsolated, "target lab, profile core: 1 isolated"},
		{"its target", reportOf("", nil, nil, nil), Demand{Target: "lab"}, ExitIsolated, "1 isolated"},
		{"another target", reportOf("", nil, nil, nil), Demand{Target: "live"}, ExitUnproven, "that proves nothing about target live"},
		{"another target, failed", reportOf("", nil, nil, failed), Demand{Target: "live"}, ExitUnproven, "where the template was partial"},
		{"another target, trouble", reportOf("", nil, []string{"leak"}, nil), Demand{Target: "live"}, ExitUnproven, "leak"},
		{"the lab's API used as a cluster's", byStandIn, Demand{}, ExitIsolated, "1 isolated"},
		{"the lab's API used as a cluster's, and a cluster asked for", byStandIn, Demand{Target: "live"}, ExitUnproven, "with the lab's stand-in in envd's place"},
		{"judged", reportOf("", nil, nil, nil), Demand{Templates: []string{"template-0"}}, ExitIsolated, "1 isolated"},
		{"not judged", reportOf("", nil, nil, nil), Demand{Templates: []string{"gone"}}, ExitUnproven, "this run was not made to judge it"},
		{"not judged beside a failure", reportOf("", nil, nil, failed), Demand{Templates: []string{"gone"}}, ExitNotIsolated, "gone: unproven"},
	} {
		test.report.Require(test.demand)
		said := strings.Join(strings.Fields(Table(test.report)), " ")
		if test.report.Exit != test.exit || !strings.Contains(said, test.says) {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s", test.name, test.report.Exit, test.exit, test.says, said)
		}
	}
}

// A waiver is told wherever the verdict is.
func TestWaivedIsToldEverywhere(t *testing.T) {
	r := reportOf("", []Waiver{waiver("template-0", requirement.EnableCPU, "2099-01-01")}, nil, resultsOf{requirement.EnableCPU: requirement.Fail})
	junitReport, err := r.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	jsonReport, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, said := range map[string]string{
		"text": Table(r), "narrow text": r.Text(Terminal{Width: 40}), "Markdown": r.Markdown(SummaryMost), "JUnit": junitReport, "JSON": jsonReport,
		"annotations": strings.Join(r.Annotations(), "\n"),
	} {
		if !strings.Contains(said, "WAIVED") || !strings.Contains(said, "TICKET-1") || r.Exit != ExitIsolated {
			t.Errorf("%s: exit code %d: %s", name, r.Exit, said)
		}
	}
}

// A matrix is folded to the terminal: with short words, then as a list.
func TestMatrixFolds(t *testing.T) {
	r := reportOf("", nil, nil, nil, resultsOf{requirement.EnableCPU: requirement.Fail})
	for _, test := range []struct {
		width int
		want  string
	}{{0, "│ lifecycle │"}, {160, "│ lifecycle │"}, {100, "NO fail"}, {80, "NO fail"}, {60, "NO fail"}, {50, "  fail: enable\n"}, {40, "  fail: enable\n"}} {
		if said := r.Text(Terminal{Width: test.width}); !strings.Contains(said, test.want) || strings.Contains(said, "\x1b") {
			t.Errorf("%d columns lack %q:\n%s", test.width, test.want, said)
		}
	}
	short := map[string]bool{}
	for _, s := range requirement.Stages() {
		short[string(s)[:2]] = true
	}
	if len(short) != len(requirement.Stages()) {
		t.Errorf("two stages have one short name: %v", short)
	}
	if said := r.Text(Terminal{Width: 160, Color: true}); !strings.Contains(said, "\x1b[31mFAIL\x1b[0m") || !strings.Contains(said, "\x1b[32mISOLATED\x1b[0m") {
		t.Errorf("no colours in %q", said)
	}
}

// A summary that is too long is cut with a word, and what fails stays.
func TestMarkdownIsCut(t *testing.T) {
	each := make([]resultsOf, 40)
	each[25] = resultsOf{requirement.EnableCPU: requirement.Fail}
	r := reportOf(strings.Repeat("long ", 100), nil, nil, each...)
	for _, budget := range []int{8 << 10, 256 << 10} {
		doc := r.Markdown(budget)
		checkMarkdown(t, doc, budget)
		if !strings.Contains(doc, "**Cut:**") || strings.Index(doc, "template-25") > strings.Index(doc, "template-0") && strings.Contains(doc, "template-0 ") {
			t.Errorf("%d bytes: %.300s", budget, doc)
		}
	}
	whole := reportOf("", nil, nil, nil)
	if doc := whole.Markdown(SummaryMost); strings.Contains(doc, "Cut") {
		t.Errorf("cut without need: %s", doc)
	}
}

// GitHub shows ten annotations of a step: the rest is counted.
func TestAnnotationsAreFew(t *testing.T) {
	each := make([]resultsOf, 30)
	for i := range each {
		each[i] = resultsOf{requirement.EnableCPU: requirement.Fail}
	}
	all := annotationsOf(reportOf("", nil, []string{"leak: a%b"}, each...))
	if len(all) != mostAnnotations || !strings.Contains(all[0], "leak%3A a%25b") && !strings.Contains(all[0], "leak: a%25b") || !strings.Contains(all[9], "22 more templates") {
		t.Errorf("got %q", all)
	}
	if all := annotationsOf(reportOf("", nil, nil, nil)); len(all) != 0 {
		t.Errorf("of an isolated template: %q", all)
	}
}

func annotationsOf(r Report) []string { return r.Annotations() }

// hostileTexts are what a guest would say to whoever reads.
var hostileTexts = []string{
	"", "\x1b[2J\x1b]0;title\x07", "::error::x\n::stop-commands::y", "##[error]x", "a | b `c` <script>alert(1)</script> ![x](http://evil) @octocat #12 GH-3",
	"]]>\x00\x01\ufffe\uffff\U0001ffff<!-- & -->", "\u202e\u2028www.evil.example $x$ ~~y~~ mailto:a@b.c", "\r\n\r\n# heading\n\n---\n| a |\n", "\xff\xfe", "\\|\\`\\<",
	strings.Repeat("wide \u754c", 200), strings.Repeat("\x1b[31m", 200), "a\tb", "%0A::error::x", "title=a,b:c",
}

// Whatever a guest says, every report keeps its form.
func FuzzReports(f *testing.F) {
	for _, text := range hostileTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, said string) {
		checkAll(t, reportOf(said, []Waiver{waiver("template-0", requirement.EnableCPU, "2099-01-01")}, nil, resultsOf{requirement.EnableCPU: requirement.Fail, requirement.PlacePTY: requirement.Infra}))
	})
}

// The JSON report comes back as it was.
func TestJSONReport(t *testing.T) {
	r := reportOf("", nil, []string{"leak"}, resultsOf{requirement.EnableCPU: requirement.Fail})
	doc, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var got document
	if err := json.Unmarshal([]byte(doc), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != ReportVersion || got.Exit != ExitNotIsolated || got.Verdicts[0].Word != Partial || len(got.Sandboxes[0].Outcomes) != len(requirement.All()) || len(got.Requirements) != len(requirement.All()) {
		t.Errorf("got %s", doc)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(doc, `"exit": 1`, `"exit": 7`, 1)))
	if err != nil || reportSchema.Validate(value) == nil {
		t.Errorf("the schema takes an exit code of 7: %v", err)
	}
}
