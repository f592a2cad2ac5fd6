package requirement

import (
	"strings"

	"sandproof/internal/evidence"
)

// BiteAgrees compares the values with what the limits were seen to do. It is
// of stage bite and tries nothing itself.
const BiteAgrees ID = "bite.agrees"

func agreeRequirements() []Requirement {
	return []Requirement{{
		ID: BiteAgrees, Title: "what is set also acts", Stage: StageBite, Level: LevelExtended,
		Why: "A value can be right and toothless: a weight does nothing without a sibling that competes, and a limit on memory nothing " +
			"for a process that is elsewhere or may swap.",
		Next: "look at the kernel: swap in the guest (memory.swap.max), another scheduler, real-time processes; " +
			"and at where the processes of the experiment ran",
		Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, Weights, memory.max, memory.swap.max",
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
		judge:     judgeBiteAgrees,
	}}
}

// judgeBiteAgrees looks for right values without an effect, in whatever
// experiments there are.
func judgeBiteAgrees(c *subject) Outcome {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	var tried []Outcome
	if c.CPU != nil && c.weightsRight() {
		tried = append(tried, judgeCPU(c))
	}
	if c.Memory != nil && judgeValue(c, "user", "memory.high").Result == Pass {
		tried = append(tried, judgeMemory(c))
	}
	var acted, toothless []string
	for _, o := range tried {
		switch o.Result { //nolint:exhaustive // what was not told by an experiment agrees and disagrees with nothing
		case Pass:
			acted = append(acted, o.Read)
		case Fail:
			toothless = append(toothless, o.Reason)
		}
	}
	const wanted = "an effect of every value that is right"
	switch {
	case len(toothless) > 0:
		return fail(strings.Join(toothless, "; "), wanted, "the values are right, and yet: %s", strings.Join(toothless, "; "))
	case len(acted) == 0:
		return notApplicable("no limit that is right was tried in this run")
	}
	return pass(strings.Join(acted, "; "), wanted, "what is set acts")
}
