package requirement

import (
	"fmt"
	"strings"

	"sandproof/internal/cgroup2"
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
	var acted, toothless []string
	for _, look := range []func(*subject) (shown string, acts, known bool){weightsAct, memoryActs} {
		switch shown, acts, known := look(c); {
		case !known:
		case acts:
			acted = append(acted, shown)
		default:
			toothless = append(toothless, shown)
		}
	}
	const wanted = "an effect of every value that is right"
	switch {
	case len(toothless) > 0:
		return fail(strings.Join(toothless, "; "), wanted, "the values are right and do not bite: %s", strings.Join(toothless, "; "))
	case len(acted) == 0:
		return notApplicable("no limit that is right was tried in this run")
	}
	return pass(strings.Join(acted, "; "), wanted, "what is set acts")
}

// weightsAct compares the shares of a command and a terminal with their
// weights. Between equal shares and those that the weights promise, the
// geometric mean divides: beyond it the shares follow the weights.
func weightsAct(c *subject) (shown string, acts, known bool) {
	user, _, sure := c.promise.wants("user", "cpu.weight")
	ptys, _, alsoSure := c.promise.wants("ptys", "cpu.weight")
	if c.CPU == nil || c.CPU.Command == nil || c.CPU.PTY == nil || !sure || !alsoSure ||
		judgeValue(c, "user", "cpu.weight").Result != Pass || judgeValue(c, "ptys", "cpu.weight").Result != Pass {
		return "", false, false
	}
	command, terminal := rate(c.CPU.Command), rate(c.CPU.PTY)
	if command <= 0 || terminal <= 0 {
		return "", false, false
	}
	ratio, promised := terminal/command, float64(ptys.Number)/float64(user.Number)
	return fmt.Sprintf("a terminal got %.2f times the CPU time of a command, the weights promise %.2f", ratio, promised), ratio*ratio > promised, true
}

// rate is the share of a CPU that a process got.
func rate(b *evidence.Burn) float64 {
	if b.To <= b.From {
		return 0
	}
	return b.CPUSeconds / (b.To - b.From)
}

// memoryActs looks whether the group's own events rose when more was allocated
// than its limit allows.
func memoryActs(c *subject) (shown string, acts, known bool) {
	if c.Memory == nil || c.Memory.Report == nil || judgeValue(c, "user", "memory.high").Result != Pass {
		return "", false, false
	}
	r := c.Memory.Report
	if r.Wanted <= limit.Value(c.Snapshot.MemTotal, c.Snapshot.PageSize) || r.Before.Errno != "" || r.After.Errno != "" {
		return "", false, false
	}
	before, err := cgroup2.ParseFlatKeyed(r.Before.Text)
	if err != nil {
		return "", false, false
	}
	after, err := cgroup2.ParseFlatKeyed(r.After.Text)
	if err != nil {
		return "", false, false
	}
	for _, event := range []string{"high", "max", "oom"} {
		if after[event] > before[event] {
			return fmt.Sprintf("the group's %s events rose from %d to %d", event, before[event], after[event]), true, true
		}
	}
	if r.Allocated < r.Wanted && r.Ended != "killed" {
		return "", false, false // the experiment was stopped before it told anything
	}
	return fmt.Sprintf("a process touched %d of %d bytes, more than its limit, and the group counted nothing", r.Allocated, r.Wanted), false, true
}
