package verdict

import (
	"fmt"
	"slices"
	"strings"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// Side is one of the two runs that are compared.
type Side struct {
	Run     string         `json:"run"`
	Target  string         `json:"target"`
	Profile config.Profile `json:"profile"`
	// Harness is the version of the sandproof that recorded the run.
	Harness string `json:"harness"`
	// Verdicts has one for each template, and Sandboxes the outcomes of each of
	// its sandboxes, also of one that has none.
	Verdicts  []Verdict                          `json:"-"`
	Sandboxes map[string][][]requirement.Outcome `json:"-"`
	// Evidence is what was seen; what no requirement judges is compared by it.
	Evidence []*evidence.Sandbox `json:"-"`
	// Problems are those of the run itself.
	Problems []string `json:"problems,omitempty"`
}

// Diff is what changed from one run to another, and nothing else.
type Diff struct {
	Before Side `json:"before"`
	After  Side `json:"after"`
	// Caveats say in what the runs themselves differ, so that nobody takes the
	// effect of that for an effect of a patch.
	Caveats   []string       `json:"caveats,omitempty"`
	Templates []TemplateDiff `json:"templates"`
	// Exit is the gate's code of the comparison.
	Exit int `json:"exit"`
}

// TemplateDiff is what changed in one template. A verdict that is nil was not
// asked for in that run.
type TemplateDiff struct {
	Template string   `json:"template"`
	Before   *Verdict `json:"before,omitempty"`
	After    *Verdict `json:"after,omitempty"`
	// Fixed failed before and holds now; Worse held, or was not known, and fails
	// now. Those in Worse decide the verdict, those in SideEffects do not.
	Fixed       []Change `json:"fixed,omitempty"`
	Worse       []Change `json:"worse,omitempty"`
	SideEffects []Change `json:"sideEffects,omitempty"`
	// Untested was judged before and was not judged now.
	Untested []Change `json:"untested,omitempty"`
	// Proven was not judged before and holds now; Other are results of equal
	// colour, such as pass and inert, and failures that apply no more.
	Proven []Change `json:"proven,omitempty"`
	Other  []Change `json:"other,omitempty"`
	// Seen is what changed and no requirement judges: how long the boot takes,
	// whether a command may still have a real-time policy.
	Seen []string `json:"seen,omitempty"`
	Exit int      `json:"exit"`
}

// Change is one requirement whose outcome is another now. A result that is
// empty was never recorded.
type Change struct {
	Requirement requirement.ID     `json:"requirement"`
	Title       string             `json:"title,omitempty"`
	Level       requirement.Level  `json:"level,omitempty"`
	Before      requirement.Result `json:"before,omitempty"`
	After       requirement.Result `json:"after,omitempty"`
	// Reason is the newer outcome's.
	Reason string `json:"reason,omitempty"`
}

// Compare tells what changed from one run to another. Templates come in the
// order of the first run, then those that only the second has.
func Compare(before, after Side) Diff {
	d := Diff{Before: before, After: after, Caveats: caveats(before, after)}
	var names []string
	for _, v := range slices.Concat(before.Verdicts, after.Verdicts) {
		if !slices.Contains(names, v.Template) {
			names = append(names, v.Template)
		}
	}
	worst := ExitIsolated
	if len(after.Problems) > 0 || len(names) == 0 {
		worst = ExitInfra
	}
	for _, name := range names {
		t := compareTemplate(name, before, after)
		d.Templates = append(d.Templates, t)
		worst = WorseExit(worst, t.Exit)
	}
	d.Exit = worst
	return d
}

// caveats name what makes two runs differ although nothing was patched.
func caveats(before, after Side) []string {
	var said []string
	differ := func(what, b, a string) {
		if b != a {
			said = append(said, fmt.Sprintf("another %s: %s before, %s after", what, orNone(b), orNone(a)))
		}
	}
	differ("target", before.Target, after.Target)
	differ("profile", string(before.Profile), string(after.Profile))
	differ("sandproof", before.Harness, after.Harness)
	for _, v := range before.Verdicts {
		now := verdictOf(after, v.Template)
		if now == nil {
			continue
		}
		if b, a := len(before.Sandboxes[v.Template]), len(after.Sandboxes[v.Template]); b != a {
			said = append(said, fmt.Sprintf("%s: %d sandboxes before, %d after", v.Template, b, a))
		}
		if v.Envd != "" && now.Envd != "" {
			differ("envd in "+v.Template, envdText(v), envdText(*now))
			differ("envd in "+v.Template, whoPlays(v), whoPlays(*now))
		}
	}
	for _, v := range after.Verdicts {
		if !v.Proves(after.Target) {
			said = append(said, fmt.Sprintf("%s: the lab's stand-in plays envd after, which proves nothing about target %s", v.Template, after.Target))
		}
	}
	for _, problem := range before.Problems {
		said = append(said, "the run before had a problem of its own: "+problem)
	}
	return said
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func whoPlays(v Verdict) string {
	if v.StandIn {
		return "the lab's stand-in"
	}
	return "a real one"
}

func verdictOf(s Side, template string) *Verdict {
	i := slices.IndexFunc(s.Verdicts, func(v Verdict) bool { return v.Template == template })
	if i < 0 {
		return nil
	}
	return &s.Verdicts[i]
}

func compareTemplate(name string, before, after Side) TemplateDiff {
	t := TemplateDiff{Template: name, Before: verdictOf(before, name), After: verdictOf(after, name)}
	switch {
	case t.After == nil:
		t.Exit = ExitUnproven
		return t
	case t.Before == nil:
		t.Exit = t.After.Exit()
		return t
	}
	was, is := worstOutcomes(before.Sandboxes[name]), worstOutcomes(after.Sandboxes[name])
	for _, id := range requirementIDs(was, is) {
		t.add(id, was[id], is[id], before.Profile, after.Profile)
	}
	t.Seen = seenChanges(of(before.Evidence, name), of(after.Evidence, name))
	t.Exit = t.After.Exit()
	if len(t.Untested) > 0 {
		t.Exit = WorseExit(t.Exit, ExitUnproven)
	}
	failed := func(c Change) bool { return c.After == requirement.Fail }
	if len(t.Worse) > 0 || slices.ContainsFunc(t.SideEffects, failed) {
		t.Exit = ExitNotIsolated
	}
	return t
}

// add sorts one requirement's change into where it belongs. What is as it was
// goes nowhere.
func (t *TemplateDiff) add(id requirement.ID, was, is requirement.Outcome, before, after config.Profile) {
	r, known := requirement.Lookup(id)
	c := Change{Requirement: id, Title: r.Title, Level: r.Level, Before: was.Result, After: is.Result, Reason: is.Reason}
	decides := known && (r.Decides(before) || r.Decides(after))
	switch {
	case judged(was) && !judged(is):
		if is.Result == "" {
			c.Reason = "it was not executed: it was filtered out, or the run ended before it"
			if !known {
				c.Reason = "this sandproof has no such requirement any more"
			}
		}
		t.Untested = append(t.Untested, c)
	case !judged(is) || was.Result == is.Result && judged(was):
	case is.Result == requirement.Fail && decides:
		t.Worse = append(t.Worse, c)
	case is.Result == requirement.Fail:
		t.SideEffects = append(t.SideEffects, c)
	case was.Result == requirement.Fail && is.Result != requirement.NotApplicable:
		t.Fixed = append(t.Fixed, c)
	case was.Result == requirement.Pass: // what held bites no more, or is promised no more
		t.SideEffects = append(t.SideEffects, c)
	case !judged(was) && is.Result != requirement.NotApplicable:
		t.Proven = append(t.Proven, c)
	default:
		t.Other = append(t.Other, c)
	}
}

// judged tells whether an outcome says something about the template.
func judged(o requirement.Outcome) bool {
	return !o.Untried && (o.Result == requirement.Fail || o.Result.Green())
}

// worstOutcomes are those of a template's sandboxes, the worst of each
// requirement. One that any of the sandboxes lacks was not judged, unless it
// failed in another.
func worstOutcomes(sandboxes [][]requirement.Outcome) map[requirement.ID]requirement.Outcome {
	worst := map[requirement.ID]requirement.Outcome{}
	times := map[requirement.ID]int{}
	for _, outcomes := range sandboxes {
		for _, o := range outcomes {
			times[o.Requirement]++
			if have, seen := worst[o.Requirement]; !seen || Outweighs(o, have) {
				worst[o.Requirement] = o
			}
		}
	}
	for id, o := range worst {
		if times[id] < len(sandboxes) && o.Result != requirement.Fail {
			worst[id] = requirement.Outcome{
				Requirement: id, Result: requirement.Unproven,
				Reason: fmt.Sprintf("it was executed in %d of %d sandboxes", times[id], len(sandboxes)),
			}
		}
	}
	return worst
}

// requirementIDs are those of the catalogue in its order, then those that only
// a run of another sandproof has.
func requirementIDs(runs ...map[requirement.ID]requirement.Outcome) []requirement.ID {
	var ids, gone []requirement.ID
	for _, r := range requirement.All() {
		ids = append(ids, r.ID)
	}
	for _, run := range runs {
		for id := range run {
			if !slices.Contains(ids, id) && !slices.Contains(gone, id) {
				gone = append(gone, id)
			}
		}
	}
	slices.Sort(gone)
	return slices.Concat(ids, gone)
}

func of(all []*evidence.Sandbox, template string) []*evidence.Sandbox {
	return slices.DeleteFunc(slices.Clone(all), func(s *evidence.Sandbox) bool { return s.Template != template })
}

// slower is how much longer a boot must take to be told, in seconds; less is
// the machine's mood.
const slower = 1.0

// seenChanges tells what no requirement judges and users ask for after a
// patch.
func seenChanges(before, after []*evidence.Sandbox) []string {
	var seen []string
	was, beforeSeen := slowestStart(before)
	is, afterSeen := slowestStart(after)
	if beforeSeen && afterSeen && (is-was > slower || was-is > slower) {
		seen = append(seen, fmt.Sprintf("boot time: envd starts %.1f s after the kernel, before it was %.1f s", is, was))
	}
	if b, a := realTime(before), realTime(after); b != a && b != "" && a != "" {
		text := fmt.Sprintf("chrt: a command that asks for a real-time policy is answered %s, before it was %s", a, b)
		if b == granted {
			text += "; under RT_GROUP_SCHED the kernel refuses it in every group once the cpu controller is enabled (sched(7))"
		}
		seen = append(seen, text)
	}
	return seen
}

// ticksPerSecond is USER_HZ, in which /proc/PID/stat counts (proc(5)).
const ticksPerSecond = 100

// slowestStart is how long after its kernel the latest envd started, in
// seconds.
func slowestStart(all []*evidence.Sandbox) (seconds float64, seen bool) {
	for _, s := range all {
		if s.Snapshot == nil || s.Snapshot.Envd == nil || s.Snapshot.Envd.Process.StartTicks == 0 {
			continue
		}
		seconds, seen = max(seconds, float64(s.Snapshot.Envd.Process.StartTicks)/ticksPerSecond), true
	}
	return seconds, seen
}

// granted is what the probe says of a real-time policy that a command got.
const granted = "granted"

// realTime is what the commands of a template were answered, empty where none
// asked.
func realTime(all []*evidence.Sandbox) string {
	var answers []string
	for _, s := range all {
		if s.Placement != nil && s.Placement.RealTime != "" && !slices.Contains(answers, s.Placement.RealTime) {
			answers = append(answers, s.Placement.RealTime)
		}
	}
	slices.Sort(answers)
	return strings.Join(answers, " and ")
}

// WorseExit is the worse of two of the gate's codes.
func WorseExit(a, b int) int {
	if slices.Index(exitOrder, a) > slices.Index(exitOrder, b) {
		return a
	}
	return b
}
