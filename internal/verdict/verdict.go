// Package verdict turns outcomes into one honest verdict per template and one
// exit code per run, and renders them.
package verdict

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// Word is the verdict in one word.
type Word string

// The verdicts.
const (
	Isolated      Word = "isolated"
	Partial       Word = "partial"
	NotIsolated   Word = "not-isolated"
	Unproven      Word = "unproven"
	NotApplicable Word = "not-applicable"
)

// Verdict is the judgement of one template.
type Verdict struct {
	Template string `json:"template"`
	Target   string `json:"target"`
	Word     Word   `json:"verdict"`
	// Stage is the first stage that broke, empty where none did.
	Stage requirement.Stage `json:"stage,omitempty"`
	// Requirement is the one whose outcome decided.
	Requirement requirement.ID `json:"requirement,omitempty"`
	// Reason is one sentence, Next what to do.
	Reason string `json:"reason"`
	Next   string `json:"next,omitempty"`
	// Infra is true when an unproven verdict is the world's fault and not the
	// template's.
	Infra bool `json:"infra,omitempty"`
	// StandIn is true when the lab's stand-in played envd.
	StandIn bool `json:"standIn,omitempty"`
	// Envd is the running envd's version, Generation its generation; empty
	// where they were not seen.
	Envd       string `json:"envd,omitempty"`
	Generation string `json:"generation,omitempty"`
	// Node is where the sandbox ran, empty where that is not known.
	Node string `json:"node,omitempty"`
	// Sandboxes are the verdicts of each sandbox, and Nodes those of each node
	// that is known, where a template was judged by more than one.
	Sandboxes []Word          `json:"sandboxes,omitempty"`
	Nodes     map[string]Word `json:"nodes,omitempty"`
	// Waived are the waivers of its failures, and Excused is true where nothing
	// but such a failure keeps it from being isolated: the gate lets it pass.
	Waived  []Waiver `json:"waived,omitempty"`
	Excused bool     `json:"excused,omitempty"`
	// Notes are failed requirements that do not decide, and advice.
	Notes []string `json:"notes,omitempty"`
	// Stages holds the worst result of each stage that has outcomes.
	Stages map[requirement.Stage]requirement.Result `json:"stages"`
}

// Input is what a verdict is made from.
type Input struct {
	Template string
	Target   string
	Profile  config.Profile
	// Outcomes are those that were recorded, at most one for a requirement.
	Outcomes []requirement.Outcome
	// Reproduce is the command that looks at this template again.
	Reproduce  string
	StandIn    bool
	Envd       string
	Generation string
	Node       string
	// Waivers are the run's, and At when it began: an expired one excuses nothing.
	Waivers []Waiver
	At      time.Time
}

// Of gives the verdict, by the first rule that matches: another template than
// the one asked for, no cgroup support at all, a failed core requirement, one
// that is unproven or was not executed, else isolated. A failure that a waiver
// excuses is set aside, and decides only where nothing else does.
func Of(in Input) Verdict {
	v := Verdict{
		Template: in.Template, Target: in.Target, StandIn: in.StandIn, Envd: in.Envd, Generation: in.Generation, Node: in.Node,
		Stages: worstByStage(in.Profile, in.Outcomes),
	}
	byID := map[requirement.ID]requirement.Outcome{}
	for _, o := range in.Outcomes {
		byID[o.Requirement] = o
	}
	// What another template's sandbox shows, says nothing about this one.
	if asked, seen := byID[requirement.ImageTemplate]; seen && asked.Result == requirement.Infra {
		v.Infra = true
		return v.because(Unproven, requirement.StageImage, asked, in.Reproduce)
	}
	if known, seen := byID[requirement.BootEnvdKnown]; seen && known.Result == requirement.NotApplicable {
		known.Next = "give the template an envd of 0.4.3 or newer, by building it anew"
		// Where something else decides as well, a waiver of this alone excuses nothing.
		v.Excused = !decidedBesides(in, known.Requirement) && waive(&v, in, known.Requirement)
		return v.because(NotApplicable, requirement.StageCreate, known, in.Reproduce)
	}

	if len(in.Outcomes) == 0 {
		return v.because(Unproven, requirement.StageImage, requirement.Outcome{
			Requirement: requirement.ImageTemplate,
			Reason:      "nothing was recorded of this template: it was filtered out, or the run ended before it",
		}, in.Reproduce)
	}

	var failed, open, excused *requirement.Outcome
	stageOf := map[requirement.ID]requirement.Stage{}
	for _, c := range count(in.Profile, in.Outcomes) {
		stageOf[c.ID], v.Notes = c.Stage, append(v.Notes, c.notes()...)
		if !c.decides {
			continue
		}
		o := c.outcome
		switch o.Result {
		case requirement.Fail:
			switch waived := waive(&v, in, c.ID); {
			case waived && excused == nil:
				excused = &o
			case !waived && failed == nil:
				failed = &o
			}
		case requirement.Infra:
			// Trouble of the world explains an unproven verdict better than
			// what was unproven for the lack of it.
			if open == nil || open.Result != requirement.Infra {
				open = &o
			}
		case requirement.Unproven:
			if open == nil && !o.Muted() {
				open = &o
			}
		case requirement.Pass, requirement.Inert, requirement.NotApplicable:
		default:
			// What is no result proves nothing.
			if open == nil {
				open = &o
			}
		}
	}
	if failed == nil && open == nil && excused != nil {
		failed, v.Excused = excused, true
	}
	switch {
	// What a guest shows that is not of the image asked for, or in which that
	// image is not in force, is no part of what was asked for.
	case failed != nil && stageOf[failed.Requirement] != requirement.StageImage && bindsSomething(byID):
		return v.because(Partial, stageOf[failed.Requirement], *failed, in.Reproduce)
	case failed != nil:
		return v.because(NotIsolated, stageOf[failed.Requirement], *failed, in.Reproduce)
	case open != nil:
		v.Infra = open.Result == requirement.Infra
		return v.because(Unproven, stageOf[open.Requirement], *open, in.Reproduce)
	}
	v.Word = Isolated
	v.Reason = "every promised limit is in force and every process is in its cgroup"
	return v
}

// decidedBesides tells whether a verdict would not be isolated, whatever became
// of one requirement.
func decidedBesides(in Input, id requirement.ID) bool {
	return slices.ContainsFunc(count(in.Profile, in.Outcomes), func(c counted) bool {
		return c.decides && c.ID != id && !c.outcome.Result.Green() && !c.outcome.Muted()
	})
}

// counted is the outcome of one requirement as a verdict counts it.
type counted struct {
	requirement.Requirement
	outcome requirement.Outcome
	// decides is true where the verdict depends on it.
	decides bool
}

// count goes through the catalogue: what was not executed, or not tried although
// the profile decides by it, is unproven.
func count(profile config.Profile, outcomes []requirement.Outcome) []counted {
	byID := map[requirement.ID]requirement.Outcome{}
	for _, o := range outcomes {
		byID[o.Requirement] = o
	}
	all := requirement.All()
	counts := make([]counted, 0, len(all))
	for _, r := range all {
		o, seen := byID[r.ID]
		c := counted{Requirement: r, outcome: o, decides: r.Decides(profile)}
		if !seen {
			c.outcome = requirement.Outcome{
				Requirement: r.ID, Result: requirement.Unproven,
				Reason: fmt.Sprintf("%s was not executed: it was filtered out, or the run ended before it", r.ID),
			}
		}
		if o.Untried && c.decides {
			c.outcome.Result = requirement.Unproven
			c.outcome.Reason = fmt.Sprintf("%s was not tried, and the profile %s decides by it", r.ID, profile)
			c.outcome.Next = "leave experiments at auto in ginkgo.yml, or use the profile core"
		}
		counts = append(counts, c)
	}
	return counts
}

// notes are what is worth telling of an outcome that does not decide.
func (c counted) notes() []string {
	var notes []string
	if c.outcome.Advice != "" {
		notes = append(notes, c.outcome.Advice)
	}
	switch {
	case !c.decides && c.outcome.Result == requirement.Fail:
		notes = append(notes, fmt.Sprintf("%s: %s", c.ID, c.outcome.Reason))
	case c.decides && c.outcome.Muted():
		notes = append(notes, fmt.Sprintf("%s: unproven: %s", c.ID, c.outcome.Reason))
	}
	return notes
}

// waive tells whether a waiver excuses a failed requirement, and keeps and notes
// that it does.
func waive(v *Verdict, in Input, id requirement.ID) bool {
	w, found := in.waiverFor(id)
	if found {
		v.Waived = append(v.Waived, w)
		v.Notes = append(v.Notes, "WAIVED: "+w.String())
	}
	return found
}

// Label is the verdict's word, with WAIVED where the gate lets it pass all the
// same.
func (v Verdict) Label() string {
	if v.Excused {
		return string(v.Word) + ", WAIVED"
	}
	return string(v.Word)
}

func (v Verdict) because(word Word, stage requirement.Stage, o requirement.Outcome, reproduce string) Verdict {
	v.Word, v.Stage, v.Requirement, v.Reason = word, stage, o.Requirement, o.Reason
	v.Next = o.Next
	if reproduce != "" {
		if v.Next != "" {
			v.Next += "; then "
		}
		v.Next += runAgain + reproduce
	}
	return v
}

// runAgain stands before the command that looks at a template again.
const runAgain = "run: "

// bindsSomething tells partial from not-isolated: a command really runs in
// /user, and at least one promised CPU or memory limit is in force there.
func bindsSomething(byID map[requirement.ID]requirement.Outcome) bool {
	if byID[requirement.PlaceCommand].Result != requirement.Pass {
		return false
	}
	inForce := []requirement.ID{requirement.ValueUserCPUWeight, requirement.ValueUserMemoryHigh, requirement.ValueUserMemoryMax}
	return slices.ContainsFunc(inForce, func(id requirement.ID) bool { return byID[id].Result == requirement.Pass })
}

// severity orders results for the matrix, worst last.
var severity = []requirement.Result{
	requirement.NotApplicable, requirement.Pass, requirement.Inert, requirement.Unproven, requirement.Infra, requirement.Fail,
}

// Worse tells whether a result weighs more than another. What is no result
// weighs more than all that are: it hides behind none.
func Worse(a, b requirement.Result) bool {
	return weight(a) > weight(b)
}

// Outweighs tells whether an outcome counts in the place of another of its
// requirement: the worse one does, and of two that are equal the one that decides.
func Outweighs(o, have requirement.Outcome) bool {
	a, b := countsAs(o), countsAs(have)
	return Worse(a, b) || a == b && have.Muted() && !o.Muted()
}

// countsAs is the result by which an outcome weighs: what was not tried proves as
// little as what is unproven, where the verdict depends on it. What is no result
// stays none.
func countsAs(o requirement.Outcome) requirement.Result {
	if o.Untried && o.Result.Known() {
		return requirement.Unproven
	}
	return o.Result
}

func weight(r requirement.Result) int {
	if i := slices.Index(severity, r); i >= 0 {
		return i
	}
	return len(severity)
}

// worstByStage is the worst result of each stage that has outcomes, of its core
// requirements and of those that decide. One that was not executed, beside others
// that were, is unproven there too.
func worstByStage(profile config.Profile, outcomes []requirement.Outcome) map[requirement.Stage]requirement.Result {
	results := map[requirement.ID]requirement.Result{}
	for _, o := range outcomes {
		results[o.Requirement] = o.Result
	}
	worst := map[requirement.Stage]requirement.Result{}
	judged := map[requirement.Stage]bool{}
	for _, r := range requirement.All() {
		if r.Level != requirement.LevelCore && !r.Decides(profile) {
			continue
		}
		result, seen := results[r.ID]
		if seen {
			judged[r.Stage] = true
		} else {
			result = requirement.Unproven
		}
		if have, known := worst[r.Stage]; !known || Worse(result, have) {
			worst[r.Stage] = result
		}
	}
	maps.DeleteFunc(worst, func(stage requirement.Stage, _ requirement.Result) bool { return !judged[stage] })
	return worst
}

// The gate's exit codes.
const (
	ExitIsolated    = 0
	ExitNotIsolated = 1
	ExitUnproven    = 2
	ExitInfra       = 3
)

// Exit is the gate's exit code: the worst over all verdicts and the run's own
// problems, in the order 1, 3, 2, 0. No verdict at all is a harness error.
func Exit(verdicts []Verdict, problems []string) int {
	worst := ExitIsolated
	if len(problems) > 0 || len(verdicts) == 0 {
		worst = ExitInfra
	}
	for _, v := range verdicts {
		if code := v.Exit(); slices.Index(exitOrder, code) > slices.Index(exitOrder, worst) {
			worst = code
		}
	}
	return worst
}

// exitOrder are the gate's exit codes, the worst last.
var exitOrder = []int{ExitIsolated, ExitUnproven, ExitInfra, ExitNotIsolated}

// Exit is the gate's exit code of one verdict.
func (v Verdict) Exit() int {
	if v.Excused {
		return ExitIsolated
	}
	switch v.Word {
	case Isolated:
		return ExitIsolated
	case Partial, NotIsolated, NotApplicable:
		return ExitNotIsolated
	case Unproven:
		if v.Infra {
			return ExitInfra
		}
		return ExitUnproven
	}
	return ExitInfra
}
