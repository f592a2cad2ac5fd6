package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sandproof/internal/requirement"
)

// worstLast orders the words that the gate treats alike.
var worstLast = []Word{Isolated, Unproven, NotApplicable, Partial, NotIsolated}

// byBadness orders verdicts as the gate does, and then by their words.
func byBadness(a, b Verdict) int {
	return cmp.Or(
		cmp.Compare(slices.Index(exitOrder, a.Exit()), slices.Index(exitOrder, b.Exit())),
		cmp.Compare(slices.Index(worstLast, a.Word), slices.Index(worstLast, b.Word)),
	)
}

// Over gives one verdict for the sandboxes of one template, of which there is
// at least one: the worst. A template whose sandboxes differ fails now and then
// in use as well, so that the reason tells how they differ, and of each node
// the worst is kept too.
func Over(each []Verdict) Verdict {
	worst := slices.MaxFunc(each, byBadness)
	if len(each) == 1 {
		return worst
	}
	differing := differingStages(each)
	worst.Notes, worst.Waived = slices.Clone(worst.Notes), slices.Clone(worst.Waived)
	worst.Node, worst.Nodes, worst.Stages = "", byNode(each), maps.Clone(worst.Stages)
	counts := map[string]int{}
	for _, v := range each {
		worst.Sandboxes = append(worst.Sandboxes, v.Word)
		for stage, result := range v.Stages {
			if have, seen := worst.Stages[stage]; !seen || Worse(result, have) {
				worst.Stages[stage] = result
			}
		}
		// One that proves nothing of the target is enough.
		worst.StandIn = worst.StandIn || v.StandIn
		counts[kindOf(v)]++
		for _, w := range v.Waived {
			if !slices.Contains(worst.Waived, w) {
				worst.Waived = append(worst.Waived, w)
				worst.Notes = append(worst.Notes, "WAIVED: "+w.String())
			}
		}
	}
	if len(counts) > 1 {
		worst.Reason = fmt.Sprintf("varies: of %d sandboxes %s; the worst: %s", len(each), tally(counts), worst.Reason)
	} else {
		worst.Notes = append(worst.Notes, fmt.Sprintf("all of %d sandboxes are %s", len(each), worst.Word))
	}
	if len(differing) > 0 {
		worst.Notes = append(worst.Notes, "the sandboxes differ at "+strings.Join(differing, ", "))
	}
	for _, node := range slices.Sorted(maps.Keys(worst.Nodes)) {
		worst.Notes = append(worst.Notes, fmt.Sprintf("on node %s: %s", node, worst.Nodes[node]))
	}
	return worst
}

// differingStages names the stages whose results are not the same in all
// sandboxes.
func differingStages(each []Verdict) []string {
	var differing []string
	for _, stage := range requirement.Stages() {
		if slices.ContainsFunc(each, func(v Verdict) bool { return v.Stages[stage] != each[0].Stages[stage] }) {
			differing = append(differing, string(stage))
		}
	}
	return differing
}

// kindOf is what is compared between sandboxes: the word, and where it broke.
func kindOf(v Verdict) string {
	if v.Stage == "" {
		return v.Label()
	}
	return fmt.Sprintf("%s at %s", v.Label(), v.Stage)
}

// tally counts in words: "3 are isolated, 2 are not-isolated at enable".
func tally(counts map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		is := "are"
		if counts[kind] == 1 {
			is = "is"
		}
		parts = append(parts, fmt.Sprintf("%d %s %s", counts[kind], is, kind))
	}
	return strings.Join(parts, ", ")
}

// byNode is the word of the worst verdict of each node that is known; nil where
// none is.
func byNode(each []Verdict) map[string]Word {
	of := map[string][]Verdict{}
	for _, v := range each {
		if v.Node != "" {
			of[v.Node] = append(of[v.Node], v)
		}
	}
	if len(of) == 0 {
		return nil
	}
	nodes := map[string]Word{}
	for node, verdicts := range of {
		nodes[node] = slices.MaxFunc(verdicts, byBadness).Word
	}
	return nodes
}
