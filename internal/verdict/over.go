package verdict

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// worstLast orders verdicts; of those of one template the worst is the
// template's.
var worstLast = []Word{Isolated, NotApplicable, Unproven, Partial, NotIsolated}

func weight(v Verdict) int {
	w := 2 * slices.Index(worstLast, v.Word)
	if v.Infra {
		w-- // trouble of the world says less than what the template leaves open
	}
	return w
}

// Over gives one verdict for the sandboxes of one template, of which there is
// at least one: the worst. A template whose sandboxes differ fails now and then
// in use as well, so that the reason tells how they differ, and of each node
// the worst is kept too.
func Over(each []Verdict) Verdict {
	worst := slices.MaxFunc(each, func(a, b Verdict) int { return weight(a) - weight(b) })
	if len(each) == 1 {
		return worst
	}
	worst.Node, worst.Nodes = "", byNode(each)
	counts := map[string]int{}
	for _, v := range each {
		worst.Sandboxes = append(worst.Sandboxes, v.Word)
		for stage, result := range v.Stages {
			if have, seen := worst.Stages[stage]; !seen || Worse(result, have) {
				worst.Stages[stage] = result
			}
		}
		counts[kindOf(v)]++
	}
	if len(counts) > 1 {
		worst.Reason = fmt.Sprintf("varies: of %d sandboxes %s; the worst: %s", len(each), tally(counts), worst.Reason)
	} else {
		worst.Notes = append(worst.Notes, fmt.Sprintf("all of %d sandboxes are %s", len(each), worst.Word))
	}
	for _, node := range slices.Sorted(maps.Keys(worst.Nodes)) {
		worst.Notes = append(worst.Notes, fmt.Sprintf("on node %s: %s", node, worst.Nodes[node]))
	}
	return worst
}

// kindOf is what is compared between sandboxes: the word, and where it broke.
func kindOf(v Verdict) string {
	if v.Stage == "" {
		return string(v.Word)
	}
	return fmt.Sprintf("%s at %s", v.Word, v.Stage)
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

// byNode is the worst verdict of each node that is known; nil where none is.
func byNode(each []Verdict) map[string]Word {
	var nodes map[string]Word
	for _, v := range each {
		if v.Node == "" {
			continue
		}
		if nodes == nil {
			nodes = map[string]Word{}
		}
		if have, seen := nodes[v.Node]; !seen || slices.Index(worstLast, v.Word) > slices.Index(worstLast, have) {
			nodes[v.Node] = v.Word
		}
	}
	return nodes
}
