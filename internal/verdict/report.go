package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// Report is what is shown of one run: every renderer reads it, and nothing
// else.
type Report struct {
	Run     string `json:"run"`
	Target  string `json:"target"`
	Profile string `json:"profile"`
	// Harness is the version of the sandproof that recorded the run, Started
	// when that began; empty and zero where nothing was recorded.
	Harness string    `json:"harness,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Demand is what the gate was asked for.
	Demand   Demand    `json:"demand"`
	Verdicts []Verdict `json:"verdicts"`
	// Waivers are those of the run, and what became of them.
	Waivers []WaiverUse `json:"waivers,omitempty"`
	// Sandboxes are all that were expected, in the order of the templates, also
	// those of which nothing was recorded.
	Sandboxes []Sandbox `json:"sandboxes,omitempty"`
	Problems  []string  `json:"problems,omitempty"`
	Notes     []string  `json:"notes,omitempty"`
	// Exit is the gate's code.
	Exit int `json:"exit"`
}

// Sandbox is what is known of one sandbox of a run.
type Sandbox struct {
	// Name is the sandbox's name within the run, Template what it was made of.
	Name     string                `json:"name"`
	Template string                `json:"template"`
	Outcomes []requirement.Outcome `json:"outcomes"`
	// Attempts are the results of what was judged more than once.
	Attempts map[requirement.ID][]requirement.Result `json:"attempts,omitempty"`
	// Evidence is nil where none was recorded.
	Evidence *evidence.Sandbox `json:"-"`
}

// Demand is what a gate is asked to hold a run to, beside that every template is
// isolated.
type Demand struct {
	// Target is where the sandboxes must have come from; empty: anywhere, and the
	// verdicts are of the target that they name.
	Target string `json:"target,omitempty"`
	// Templates must have been judged.
	Templates []string `json:"templates,omitempty"`
}

// Require holds a report to a demand. A run of another target proves nothing
// about the one that is asked for, whatever it found; a template that was not
// judged is unproven.
func (r *Report) Require(d Demand) {
	r.Demand = d
	for _, template := range d.Templates {
		if slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return v.Template == template }) {
			continue
		}
		r.Verdicts = append(r.Verdicts, Verdict{
			Template: template, Target: r.Target, Word: Unproven,
			Reason: "it was to be judged, and this run was not made to judge it",
			Next:   fmt.Sprintf("make e2e TARGET=%s TEMPLATES=%s", r.Target, template),
			Stages: map[requirement.Stage]requirement.Result{},
		})
	}
	for i, v := range r.Verdicts {
		where := ""
		switch {
		case d.Target == "":
		case d.Target != r.Target:
			where = "was made on target " + r.Target
		case !v.Proves(d.Target):
			where = "was made with the lab's stand-in in envd's place"
		}
		if where == "" {
			continue
		}
		r.Verdicts[i] = Verdict{
			Template: v.Template, Target: d.Target, Word: Unproven, StandIn: v.StandIn, Envd: v.Envd, Generation: v.Generation, Stages: v.Stages,
			Reason: fmt.Sprintf("this run %s, where the template was %s: that proves nothing about target %s", where, v.Label(), d.Target),
			Next:   fmt.Sprintf("make e2e TARGET=%s TEMPLATES=%s", d.Target, v.Template),
		}
	}
	r.Exit = Exit(r.Verdicts, r.Problems)
	if d.Target != "" && d.Target != r.Target {
		r.Exit = ExitUnproven
	}
}

// Proves tells whether what was judged on a target says anything of it. The lab's
// API can be used as a cluster's, and what its stand-in does in envd's place says
// nothing of a cluster.
func (v Verdict) Proves(target string) bool {
	return target != string(config.TargetLive) || !v.StandIn
}

// Conclusion is the exit code in a sentence, with what was judged. What a manifest
// says is made harmless.
func (r *Report) Conclusion() string {
	var counted []string
	for _, kind := range r.kinds() {
		counted = append(counted, fmt.Sprintf("%d %s", kind.count, kind.label))
	}
	switch n := len(r.Problems); {
	case n == 1:
		counted = append(counted, "1 problem of the run")
	case n > 1:
		counted = append(counted, fmt.Sprintf("%d problems of the run", n))
	}
	if len(counted) == 0 {
		counted = []string{"nothing was judged"}
	}
	asked := ""
	if r.Demand.Target != "" && r.Demand.Target != r.Target {
		asked = fmt.Sprintf(", and target %s was asked for", showWord(r.Demand.Target))
	}
	return fmt.Sprintf("exit code %d (%s): target %s%s, profile %s: %s", r.Exit, exitWords[r.Exit], showWord(r.Target), asked, showWord(r.Profile), strings.Join(counted, ", "))
}

// exitWords say what the gate's codes mean.
var exitWords = map[int]string{
	ExitIsolated: "isolated", ExitNotIsolated: "not isolated", ExitUnproven: "unproven", ExitInfra: "infrastructure or harness",
}

type kind struct {
	label string
	count int
}

// kinds counts the verdicts by label, the worst first.
func (r *Report) kinds() []kind {
	var kinds []kind
	for _, v := range r.worstFirst() {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.label == v.Label() })
		if i < 0 {
			kinds = append(kinds, kind{label: v.Label()})
			i = len(kinds) - 1
		}
		kinds[i].count++
	}
	return kinds
}

// worstFirst are the verdicts, those first that matter most.
func (r *Report) worstFirst() []Verdict {
	sorted := slices.Clone(r.Verdicts)
	slices.SortStableFunc(sorted, func(a, b Verdict) int { return byBadness(b, a) })
	return sorted
}
