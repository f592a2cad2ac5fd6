package verdict

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// recorded is what the harness saw of a real guest once, under another name.
func recorded(tb testing.TB, file, template string) *evidence.Sandbox {
	tb.Helper()
	return readEvidence(tb, filepath.Join("..", "requirement", "testdata", file+".json"), template)
}

func readEvidence(tb testing.TB, file, template string) *evidence.Sandbox {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	s := &evidence.Sandbox{}
	if err := json.Unmarshal(data, s); err != nil {
		tb.Fatal(err)
	}
	s.Template = template
	if s.API != nil {
		s.API.Alias = template
	}
	return s
}

// ofRun judges sandboxes as a run does, under the profile core, for which the
// recordings are whole.
func ofRun(name string, all ...*evidence.Sandbox) Side {
	side := Side{Run: name, Target: "lab", Profile: config.ProfileCore, Harness: "1", Evidence: all, Sandboxes: map[string][][]requirement.Outcome{}}
	var names []string
	for _, s := range all {
		var outcomes []requirement.Outcome
		for _, r := range requirement.All() {
			outcomes = append(outcomes, r.Judge(s))
		}
		if side.Sandboxes[s.Template] == nil {
			names = append(names, s.Template)
		}
		side.Sandboxes[s.Template] = append(side.Sandboxes[s.Template], outcomes)
	}
	for _, name := range names {
		side.judge(name)
	}
	return side
}

// judge gives the template's verdict anew.
func (s *Side) judge(template string) {
	var each []Verdict
	for _, outcomes := range s.Sandboxes[template] {
		each = append(each, Of(Input{Template: template, Target: s.Target, Profile: s.Profile, Outcomes: outcomes, Envd: "0.6.13", Generation: "C"}))
	}
	s.Verdicts = slices.DeleteFunc(s.Verdicts, func(v Verdict) bool { return v.Template == template })
	s.Verdicts = append(s.Verdicts, Over(each))
}

// with sets the result of one requirement in every sandbox of base; an
// empty one takes its outcome away.
func with(s Side, id requirement.ID, result requirement.Result) Side {
	const template = "base"
	for i, outcomes := range s.Sandboxes[template] {
		outcomes = slices.DeleteFunc(slices.Clone(outcomes), func(o requirement.Outcome) bool { return o.Requirement == id })
		if result != "" {
			outcomes = append(outcomes, requirement.Outcome{Requirement: id, Result: result, Reason: "made so"})
		}
		s.Sandboxes[template][i] = outcomes
	}
	s.judge(template)
	return s
}

func ids(changes []Change) []requirement.ID {
	var all []requirement.ID
	for _, c := range changes {
		all = append(all, c.Requirement)
	}
	return all
}

// The recordings of the unpatched and the patched guest, compared.
func TestDiffOfAFix(t *testing.T) {
	d := Compare(ofRun("before", recorded(t, "base-unpatched", "base")), ofRun("after", recorded(t, "base", "base")))
	one := d.Templates[0]
	if d.Exit != ExitIsolated || len(d.Templates) != 1 || one.Before.Word != NotIsolated || one.After.Word != Isolated {
		t.Fatalf("exit %d, got %+v", d.Exit, one)
	}
	for _, id := range []requirement.ID{requirement.EnableCPU, requirement.EnableMemory, requirement.ValueUserMemoryMax, requirement.LogNoFailure} {
		if !slices.Contains(ids(one.Fixed), id) {
			t.Errorf("%s is not among what was fixed: %v", id, ids(one.Fixed))
		}
	}
	if len(one.Worse)+len(one.Untested) > 0 || len(d.Caveats) > 0 {
		t.Errorf("worse %v, untested %v, caveats %q", one.Worse, one.Untested, d.Caveats)
	}
	if slices.Contains(ids(one.Fixed), requirement.MountCgroup2) {
		t.Error("what held before and after is told as a change")
	}
	text := d.Text()
	fixed, rest := strings.Index(text, "  fixed: enable.cpu"), strings.Index(text, "side effect")
	if fixed < 0 || rest >= 0 && rest < fixed || !strings.Contains(text, "not-isolated -> ISOLATED") {
		t.Errorf("what was fixed does not come first:\n%s", text)
	}
}

func TestDiff(t *testing.T) {
	healthy := func() Side { return ofRun("a", recorded(t, "base", "base")) }
	broken := func() Side { return ofRun("b", recorded(t, "base-unpatched", "base")) }
	two := func(first, second string) Side {
		return ofRun("two", recorded(t, first, "base"), recorded(t, second, "desktop"))
	}
	changed := func(change func(*Side)) Side {
		s := healthy()
		change(&s)
		return s
	}
	for _, test := range []struct {
		name          string
		before, after Side
		exit          int
		// says is a part of the text each.
		says []string
	}{
		{"nothing changed", healthy(), healthy(), ExitIsolated, []string{"isolated as before, nothing changed", "nothing got worse"}},
		{"not fixed", broken(), broken(), ExitNotIsolated, []string{"not-isolated as before", "not fixed"}},
		{"undone", healthy(), broken(), ExitNotIsolated, []string{"isolated -> NOT-ISOLATED", "WORSE: enable.cpu (core): pass -> fail"}},
		{"one of two is fixed", two("base-unpatched", "base-unpatched"), two("base", "base-unpatched"), ExitNotIsolated, []string{"base: not-isolated -> ISOLATED", "desktop: not-isolated as before", "fixed: 1 of 2"}},
		{"both are fixed", two("base-unpatched", "base-unpatched"), two("base", "base"), ExitIsolated, []string{"fixed: 2 of 2"}},
		{"an advisory one got worse", with(healthy(), requirement.ProtectOOMScore, requirement.Pass), with(healthy(), requirement.ProtectOOMScore, requirement.Fail), ExitNotIsolated, []string{"pass -> fail"}},
		{"a core one was filtered out", healthy(), with(healthy(), requirement.PlacePTY, ""), ExitUnproven, []string{"newly untested: place.pty (core): pass -> not executed"}},
		{"an extended one was filtered out", with(healthy(), requirement.ValueUserIOWeight, requirement.Pass), with(healthy(), requirement.ValueUserIOWeight, ""), ExitUnproven, []string{"newly untested: value.user.io-weight"}},
		{"a failure is not fixed by looking away", with(broken(), requirement.ProtectOOMScore, requirement.Fail), with(healthy(), requirement.ProtectOOMScore, requirement.Unproven), ExitUnproven, []string{"newly untested: " + string(requirement.ProtectOOMScore)}},
		{"nor by trouble", healthy(), with(healthy(), requirement.PlacePTY, requirement.Infra), ExitInfra, []string{"newly untested: place.pty (core): pass -> infra"}},
		{"what was open holds now", with(healthy(), requirement.PlacePTY, requirement.Unproven), healthy(), ExitIsolated, []string{"newly proven: place.pty (core): unproven -> pass"}},
		{"what was open fails now", with(healthy(), requirement.PlacePTY, requirement.Unproven), with(healthy(), requirement.PlacePTY, requirement.Fail), ExitNotIsolated, []string{"WORSE: place.pty"}},
		{"a limit bites no more", with(healthy(), requirement.ValueUserIOWeight, requirement.Pass), with(healthy(), requirement.ValueUserIOWeight, requirement.Inert), ExitIsolated, []string{"side effect: value.user.io-weight (extended): pass -> inert"}},
		{"a template is gone", two("base", "base"), healthy(), ExitUnproven, []string{"desktop: isolated before, not in the run after"}},
		{"a template is new", healthy(), two("base", "base"), ExitIsolated, []string{"desktop: not in the run before, isolated now"}},
		{"a template is new and broken", healthy(), two("base", "base-unpatched"), ExitNotIsolated, []string{"desktop: not in the run before, not-isolated now"}},
		{"trouble of the run", healthy(), changed(func(s *Side) { s.Problems = []string{"leak"} }), ExitInfra, []string{"PROBLEM OF THE RUN: leak"}},
		{"trouble of the run before", changed(func(s *Side) { s.Problems = []string{"leak"} }), healthy(), ExitIsolated, []string{"the run before had a problem of its own: leak"}},
		{"no template at all", Side{}, Side{}, ExitInfra, nil},
		{"another world", healthy(), changed(func(s *Side) {
			s.Target, s.Profile, s.Harness, s.Verdicts[0].Envd, s.Verdicts[0].Generation = "live", config.ProfileGate, "2", "0.4.3", "A"
		}), ExitIsolated, []string{
			"another target: lab before, live after", "another profile: core before, gate after", "another sandproof: 1 before, 2 after",
			"another envd in base: 0.6.13 (C) before, 0.4.3 (A) after",
		}},
		{"one sandbox of two differs", ofRun("x", recorded(t, "base", "base"), recorded(t, "base", "base")), ofRun("y", recorded(t, "base", "base"), recorded(t, "base-unpatched", "base")), ExitNotIsolated, []string{"WORSE: enable.cpu"}},
		{"fewer sandboxes", ofRun("x", recorded(t, "base", "base"), recorded(t, "base", "base")), healthy(), ExitIsolated, []string{"base: 2 sandboxes before, 1 after"}},
		{"slower, and no real-time policy", changed(func(s *Side) { s.Evidence[0].Placement.RealTime = granted }), changed(func(s *Side) {
			s.Evidence[0].Placement.RealTime = "EPERM"
			s.Evidence[0].Snapshot.Envd.Process.StartTicks += 500
		}), ExitIsolated, []string{"side effect: boot time: envd starts ", "side effect: chrt: a command that asks for a real-time policy is answered EPERM"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Compare(test.before, test.after)
			text := d.Text()
			if d.Exit != test.exit {
				t.Errorf("exit %d, want %d:\n%s", d.Exit, test.exit, text)
			}
			flat := strings.Join(strings.Fields(text), " ")
			for _, said := range test.says {
				if !strings.Contains(flat, said) {
					t.Errorf("the text lacks %q:\n%s", said, text)
				}
			}
			var again Diff
			if data, err := d.JSON(); err != nil || json.Unmarshal([]byte(data), &again) != nil || again.Exit != d.Exit || len(again.Templates) != len(d.Templates) {
				t.Errorf("the JSON is not the difference: %v", err)
			}
		})
	}
}

// A sandbox that lacks an outcome which another of its template has, was not
// judged.
func TestDiffOfALostSandbox(t *testing.T) {
	both := func() Side { return ofRun("x", recorded(t, "base", "base"), recorded(t, "base", "base")) }
	after := both()
	after.Sandboxes["base"][1] = nil
	after.judge("base")
	d := Compare(both(), after)
	if d.Exit != ExitUnproven || !slices.Contains(ids(d.Templates[0].Untested), requirement.PlaceCommand) {
		t.Errorf("exit %d:\n%s", d.Exit, d.Text())
	}
}

// What was not tried in one of a template's sandboxes was not judged, whatever
// another of them did.
func TestDiffOfAnUntriedSandbox(t *testing.T) {
	both := func() Side { return ofRun("x", recorded(t, "base", "base"), recorded(t, "base", "base")) }
	for i := range 2 {
		after := both()
		for j, o := range after.Sandboxes["base"][i] {
			if o.Requirement == requirement.PlaceCommand {
				after.Sandboxes["base"][i][j] = requirement.Outcome{Requirement: o.Requirement, Result: requirement.NotApplicable, Untried: true}
			}
		}
		after.judge("base")
		if d := Compare(both(), after); d.Exit != ExitUnproven || !slices.Contains(ids(d.Templates[0].Untested), requirement.PlaceCommand) {
			t.Errorf("untried in sandbox %d: exit %d:\n%s", i, d.Exit, d.Text())
		}
	}
}

// Where the lab's API was used as a cluster's, a comparison says so.
func TestDiffOfTheStandIn(t *testing.T) {
	for target, want := range map[string]int{"live": 1, "lab": 0} {
		side := Side{Target: target, Verdicts: []Verdict{{Template: "a", Target: target, Word: Isolated, StandIn: true}}}
		if d := Compare(side, side); len(d.Caveats) != want || want > 0 && !strings.Contains(d.Text(), "proves nothing about target live") {
			t.Errorf("target %s: caveats %q in:\n%s", target, d.Caveats, d.Text())
		}
	}
}

// What a guest says is no part of the page's own form.
func TestDiffOfHostileText(t *testing.T) {
	after := ofRun("after", recorded(t, "base-unpatched", "base"))
	hostile := "\x1b[2Jwiped | x\n# big <img src=x> @team [a](http://x) `code`"
	for i := range after.Sandboxes["base"][0] {
		after.Sandboxes["base"][0][i].Reason = hostile
	}
	for i, o := range after.Sandboxes["base"][0] {
		if o.Requirement == requirement.EnableCPU {
			after.Sandboxes["base"][0][i].Result = requirement.Result(hostile)
		}
	}
	after.judge("base")
	d := Compare(ofRun("before", recorded(t, "base", "base")), after)
	page := d.Markdown(CommentMost)
	checkMarkdown(t, page, CommentMost)
	if !strings.Contains(page, "| newly untested | enable.cpu | core | pass | ") {
		t.Errorf("the result that is none is not told:\n%s", page)
	}
	for _, bad := range []string{"\x1b", "\n# big", "<img", "@team", "[a](", " | x"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q:\n%s", bad, page)
		}
	}
	if strings.Contains(d.Text(), "\x1b") {
		t.Errorf("the text has a control character:\n%q", d.Text())
	}
	for line := range strings.SplitSeq(page, "\n") {
		if strings.HasPrefix(line, "| ") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 7 {
			t.Errorf("a row has not six cells: %s", line)
		}
	}
}

// A comment of very many templates, or of very long texts, is bounded: what got
// worse comes first, and what has no room is counted.
func TestMarkdownOfADiffIsCut(t *testing.T) {
	const many = 400
	var was, is []*evidence.Sandbox
	healthy, broken := recorded(t, "base", "base"), recorded(t, "base-unpatched", "base")
	for i := range many {
		name := fmt.Sprintf("template-%d", i)
		before, after := *broken, *healthy
		if i == many-1 {
			before, after = *healthy, *broken
		}
		for _, seen := range []*evidence.Sandbox{&before, &after} {
			api := *seen.API
			api.Alias, seen.Template, seen.API = name, name, &api
		}
		was, is = append(was, &before), append(is, &after)
	}
	d := Compare(ofRun("before", was...), ofRun("after", is...))
	for _, budget := range []int{4 << 10, CommentMost} {
		page := d.Markdown(budget)
		checkMarkdown(t, page, budget)
		first := strings.Index(page, "### template-399: isolated ")
		if first < 0 || first > strings.Index(page, "### template-0: ") || !strings.Contains(page, "**Cut:** ") {
			t.Errorf("%d bytes: %.1000s", budget, page)
		}
	}
	if page := d.Markdown(8 << 20); strings.Contains(page, "Cut") || strings.Count(page, "### ") != many {
		t.Errorf("cut without need: %.1000s", page)
	}
	after := ofRun("after", broken)
	for i := range after.Sandboxes["base"][0] {
		after.Sandboxes["base"][0][i].Reason = strings.Repeat("long & ", 5000)
	}
	after.judge("base")
	page := Compare(ofRun("before", healthy), after).Markdown(CommentMost)
	checkMarkdown(t, page, CommentMost)
	if strings.Count(page, "| WORSE |") < 5 || !strings.Contains(page, "**Cut:** ") {
		t.Errorf("one template of long texts: %.1000s", page)
	}
}
