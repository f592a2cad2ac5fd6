package verdict

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// JUnit renders a report for CI systems: a suite for each template, in it a case
// for the verdict and one for each requirement of each sandbox, whose class is
// the stage. It is red if and only if the gate is: what does not decide, or is
// waived, is skipped with its reason.
func (r *Report) JUnit() (string, error) {
	suites := junit.Testsuites{Name: "sandproof"}
	for _, v := range r.Verdicts {
		suites.AddSuite(r.suiteOf(v))
	}
	if run := r.suiteOfRun(); run.Tests > 0 {
		suites.AddSuite(run)
	}
	for i := range suites.Suites {
		suites.Suites[i].ID = i
	}
	// The common schema has this number for a suite, and not for all of them.
	suites.Skipped = 0
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	if err := suites.WriteXML(&b); err != nil {
		return "", fmt.Errorf("write the JUnit report: %w", err)
	}
	return b.String(), nil
}

func (r *Report) newSuite(name string) junit.Testsuite {
	suite := junit.Testsuite{Name: show(name), Time: "0"}
	if !r.Started.IsZero() {
		suite.SetTimestamp(r.Started)
	}
	return suite
}

// suiteOfRun has what is no template's: the run's problems.
func (r *Report) suiteOfRun() junit.Testsuite {
	suite := r.newSuite("the run")
	for i, problem := range r.Problems {
		suite.AddTestcase(junit.Testcase{
			Name: fmt.Sprintf("problem %d", i+1), Classname: "run",
			Error: &junit.Result{Message: show(problem), Type: string(requirement.Infra)},
		})
	}
	if len(r.Verdicts) == 0 {
		suite.AddTestcase(junit.Testcase{Name: "templates", Classname: "run", Error: &junit.Result{Message: "nothing was judged", Type: string(requirement.Infra)}})
	}
	return suite
}

func (r *Report) suiteOf(v Verdict) junit.Testsuite {
	suite := r.newSuite(v.Template)
	for _, p := range []junit.Property{
		{Name: "run", Value: r.Run},
		{Name: "target", Value: v.Target},
		{Name: "profile", Value: r.Profile},
		{Name: "verdict", Value: v.Label()},
		{Name: "envd", Value: envdText(v)},
		{Name: "harness", Value: r.Harness},
	} {
		suite.AddProperty(p.Name, show(p.Value))
	}
	suite.AddTestcase(caseOfVerdict(v))
	var of []Sandbox
	for _, s := range r.Sandboxes {
		if s.Template == v.Template {
			of = append(of, s)
		}
	}
	for _, s := range of {
		suffix := ""
		if len(of) > 1 {
			suffix = " (" + s.Name + ")"
		}
		for _, c := range count(config.Profile(r.Profile), s.Outcomes) {
			suite.AddTestcase(caseOf(v, c, s.Attempts[c.ID], suffix))
		}
	}
	return suite
}

func caseOfVerdict(v Verdict) junit.Testcase {
	c := junit.Testcase{Name: "verdict", Classname: "verdict"}
	said := lines(append([]string{headOf(v), v.Reason, "next: " + v.Next}, v.Notes...)...)
	result := &junit.Result{Message: show(v.Label() + ": " + v.Reason), Type: string(v.Word), Data: said}
	switch v.Exit() {
	case ExitIsolated:
		c.SystemOut = &junit.Output{Data: said}
	case ExitNotIsolated:
		c.Failure = result
	default:
		c.Error = result
	}
	return c
}

func caseOf(v Verdict, c counted, attempts []requirement.Result, suffix string) junit.Testcase {
	o := c.outcome
	testcase := junit.Testcase{Name: show(string(c.ID) + " " + c.Title + suffix), Classname: string(c.Stage)}
	said := []string{"result: " + string(o.Result), "reason: " + o.Reason, "read: " + o.Read, "wanted: " + o.Wanted, "next: " + o.Next}
	if len(attempts) > 1 {
		said = append(said, "FLAKY: judged more than once: "+joined(attempts))
	}
	testcase.SystemOut = &junit.Output{Data: lines(said...)}
	result := &junit.Result{Message: show(string(o.Result) + ": " + o.Reason), Type: string(o.Result)}
	waived := slices.IndexFunc(v.Waived, func(w Waiver) bool { return w.Requirement == c.ID })
	switch {
	case o.Result == requirement.Pass:
	case o.Result == requirement.Fail && waived >= 0:
		result.Message = show("WAIVED: " + v.Waived[waived].String())
		testcase.Skipped = result
	case o.Result.Green() || o.Muted() || !c.decides || v.Exit() == ExitIsolated:
		testcase.Skipped = result
	case o.Result == requirement.Fail:
		result.Data = lines(said[1:]...)
		testcase.Failure = result
	default:
		result.Data = lines(said[1:]...)
		testcase.Error = result
	}
	return testcase
}

// lines joins texts that may come from a guest, without those that say nothing.
func lines(texts ...string) string {
	var kept []string
	for _, s := range texts {
		if label, text, _ := strings.Cut(s, ": "); strings.TrimSpace(text) != "" || label == s {
			kept = append(kept, show(s))
		}
	}
	return strings.Join(kept, "\n")
}

func joined(results []requirement.Result) string {
	words := make([]string, len(results))
	for i, result := range results {
		words[i] = string(result)
	}
	return strings.Join(words, ", ")
}
