package verdict

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"sandproof/internal/requirement"
)

// The worst of a template's sandboxes is the template's verdict; that they
// differ is said, and so is each node.
func TestOver(t *testing.T) {
	one := func(word Word, stage requirement.Stage, node string) Verdict {
		result := requirement.Pass
		if stage != "" {
			result = requirement.Fail
		}
		return Verdict{
			Template: "base", Word: word, Stage: stage, Reason: "because", Node: node,
			Stages: map[requirement.Stage]requirement.Result{requirement.StageEnable: result},
		}
	}
	infra := one(Unproven, requirement.StageBoot, "")
	infra.Infra = true
	inert := one(Isolated, "", "")
	inert.Stages[requirement.StageEnable] = requirement.Inert
	for _, test := range []struct {
		name   string
		each   []Verdict
		word   Word
		reason string
		nodes  map[string]Word
		notes  []string
		infra  bool
	}{
		{"one", []Verdict{one(Isolated, "", "n1")}, Isolated, "because", nil, nil, false},
		{"all the same", []Verdict{one(Isolated, "", ""), one(Isolated, "", "")}, Isolated, "because", nil, []string{"all of 2 sandboxes are isolated"}, false},
		{
			"a race",
			[]Verdict{one(Isolated, "", "n1"), one(NotIsolated, requirement.StageEnable, "n1"), one(Isolated, "", "n1")},
			NotIsolated, "varies: of 3 sandboxes 2 are isolated, 1 is not-isolated at enable; the worst: because",
			map[string]Word{"n1": NotIsolated},
			[]string{"the sandboxes differ at enable", "on node n1: not-isolated"},
			false,
		},
		{
			"one node of two",
			[]Verdict{one(Isolated, "", "n1"), one(NotIsolated, requirement.StageEnable, "n2")},
			NotIsolated, "varies: of 2 sandboxes",
			map[string]Word{"n1": Isolated, "n2": NotIsolated},
			[]string{"the sandboxes differ at enable", "on node n1: isolated", "on node n2: not-isolated"},
			false,
		},
		{"the same word by other results", []Verdict{one(Isolated, "", ""), inert}, Isolated, "because", nil, []string{"all of 2 sandboxes are isolated", "the sandboxes differ at enable"}, false},
		{"another stage", []Verdict{one(Partial, requirement.StageValue, ""), one(Partial, requirement.StageKeep, "")}, Partial, "1 is partial at keep, 1 is partial at value", nil, nil, false},
		{"one is open", []Verdict{one(Isolated, "", ""), one(Unproven, requirement.StageLog, "")}, Unproven, "varies", nil, []string{"the sandboxes differ at enable"}, false},
		{"one is the world's", []Verdict{one(Isolated, "", ""), infra}, Unproven, "varies", nil, []string{"the sandboxes differ at enable"}, true},
		{"one is open, one the world's", []Verdict{infra, one(Unproven, requirement.StageLog, "")}, Unproven, "varies", nil, nil, true}, // as the gate has it
		{"one is open, one has no limits at all", []Verdict{one(NotApplicable, requirement.StageCreate, ""), one(Unproven, requirement.StageLog, "")}, NotApplicable, "varies", nil, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Over(test.each)
			if got.Word != test.word || !strings.Contains(got.Reason, test.reason) || !maps.Equal(got.Nodes, test.nodes) || !slices.Equal(got.Notes, test.notes) || got.Infra != test.infra {
				t.Errorf("got %+v", got)
			}
			if len(test.each) > 1 && len(got.Sandboxes) != len(test.each) {
				t.Errorf("of %d sandboxes %v are told", len(test.each), got.Sandboxes)
			}
			red := slices.ContainsFunc(test.each, func(v Verdict) bool { return v.Stage != "" })
			if want := got.Stages[requirement.StageEnable] == requirement.Fail; want != red {
				t.Errorf("the stages of the worst: %v", got.Stages)
			}
		})
	}
}
