package requirement

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// The requirements of stage bite: the limits are tried, on processes that want
// more than they may have.
const (
	BiteCPU    ID = "bite.cpu"
	BiteMemory ID = "bite.memory"
	BiteEnvd   ID = "bite.envd"
)

func biteRequirements() []Requirement {
	snapshot := []string{"snapshot/envd/version", "snapshot/root/fsMagic", "snapshot/mounts"}
	return []Requirement{
		{
			ID: BiteCPU, Title: "a command gets the share of a CPU that its weight gives it", Stage: StageBite, Level: LevelCore,
			Why: "A weight that does not act lets one greedy command take half of the CPU from the terminal, " +
				"and nobody can log in to end it.",
			Next: "see the first failing stage; where all before it hold, look for another scheduler or for real-time processes in the guest",
			Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, Weights and cpu.weight; " +
				"e2b-dev/infra c7180fe2c, packages/envd/main.go (user 50, ptys 200)",
			Needs: []evidence.Piece{evidence.PieceSnapshot, evidence.PieceCPU},
			Inputs: slices.Concat(snapshot, []string{
				"cpu/command", "cpu/command/process/cgroup", "cpu/command/cpu", "cpu/command/from", "cpu/command/to", "cpu/command/cpuSeconds",
				"cpu/pty", "cpu/pty/process/cgroup", "cpu/pty/cpu", "cpu/pty/from", "cpu/pty/to", "cpu/pty/cpuSeconds",
				"cpu/control", "cpu/control/from", "cpu/control/to", "cpu/control/cpuSeconds",
			}),
			judge: judgeCPU,
		},
		{
			ID: BiteMemory, Title: "a command that takes too much memory is stopped inside its cgroup", Stage: StageBite, Level: LevelCore,
			Why: "Without a limit that acts the guest as a whole runs out of memory: the kernel picks a victim anywhere, " +
				"and envd stalls for seconds or ends.",
			Next: "see the first failing stage; where all before it hold, look for swap in the guest (memory.swap.max)",
			Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, memory.max, memory.high, memory.events; " +
				"e2b-dev/infra baeb9772d (memory.max), c7180fe2c (memory.high alone)",
			Needs: []evidence.Piece{evidence.PieceSnapshot, evidence.PieceMemory},
			Inputs: slices.Concat(snapshot, []string{
				"memory/report", "memory/report/hog", "memory/report/hog/cgroup", "memory/report/ended", "memory/report/before", "memory/report/after",
			}),
			judge: judgeMemory,
		},
		{
			ID: BiteEnvd, Title: "envd lives and answers while a command takes too much memory", Stage: StageBite, Level: LevelCore,
			Why:       "The limits are there to keep envd alive: without it a sandbox cannot be reached, and is lost.",
			Next:      "see whether the over-allocation was stopped inside its cgroup (bite.memory), and how envd is protected (stage protect)",
			Reference: "e2b-dev/infra baeb9772d, packages/envd/main.go: the limit leaves min(1/8, 128 MiB) of the memory to envd and the system",
			Needs:     []evidence.Piece{evidence.PieceSnapshot, evidence.PieceMemory},
			Inputs: []string{
				"snapshot/envd/version", "memory/report", "memory/report/ended", "memory/healthAnswered",
				"memory/report/envdBefore", "memory/report/envdBefore/pid", "memory/report/envdBefore/startTicks",
				"memory/report/envdAfter", "memory/report/envdAfter/pid", "memory/report/envdAfter/startTicks",
			},
			judge: judgeEnvdUnderPressure,
		},
	}
}

// cpuTolerance is the factor by which a ratio of CPU times may be off. The
// scheduler keeps the shares exact but for what runs at the two ends of the
// stretch: a time slice, 3 to 10 ms, and on an emulated CPU what its host holds
// it back for. Of the 100 ms that a command gets of 500, both together are less
// than a fifth, mostly; where they are not, it is tried again. Measured in emulated guests: 3.96 to 4.06 on an idle host, 3.89
// to 3.99 on one with twice as many busy processes as CPUs. Equal weights are a
// factor of 4 away, weights of 50 and 100 a factor of 2.
const cpuTolerance = 1.25

// leastCPU is the share of the CPU that a pair must have got together, for its
// ratio to say anything.
const leastCPU = 0.5

// agree tells whether two ratios are the same within the tolerance.
func agree(a, b float64) bool { return math.Abs(math.Log(a/b)) <= math.Log(cpuTolerance) }

// ratioOf is how many times the CPU time of the second a first process got, or
// why that cannot be said.
func ratioOf(first, second *evidence.Burn) (float64, error) {
	a, b := rate(first), rate(second)
	switch {
	case first.CPU == nil || second.CPU == nil:
		return 0, errors.New("they did not tell on which CPU")
	case *first.CPU != *second.CPU:
		return 0, fmt.Errorf("they burnt on different CPUs, %d and %d", *first.CPU, *second.CPU)
	case first.From <= 0 || first.From != second.From || first.To != second.To:
		return 0, fmt.Errorf("they did not burn at the same time, but from %.2f to %.2f and from %.2f to %.2f s of uptime",
			first.From, first.To, second.From, second.To)
	case a <= 0 || b <= 0 || a+b < leastCPU || a+b > cpuTolerance:
		return 0, fmt.Errorf("they got %.3f and %.3f of the CPU, which is not what two that compete get of one", a, b)
	}
	return a / b, nil
}

func judgeCPU(c *subject) Outcome {
	if o, decided := c.triable(); decided {
		return o
	}
	user, _, sure := c.promise.wants("user", "cpu.weight")
	ptys, _, alsoSure := c.promise.wants("ptys", "cpu.weight")
	if !sure || !alsoSure {
		return notApplicable("envd %s promises no weights", c.Snapshot.Envd.Version)
	}
	e := c.CPU
	if e.Command == nil || e.PTY == nil {
		return c.notReported(evidence.PieceCPU, "a command or a terminal that was to compete did not report")
	}
	ratio, err := ratioOf(e.PTY, e.Command)
	if err != nil {
		return unproven("a terminal and a command competed, and %v", err)
	}
	promised := float64(ptys.Number) / float64(user.Number)
	read := fmt.Sprintf("a terminal got %.2f times the CPU time of a command (%.0f and %.0f ms)", ratio, e.PTY.CPUSeconds*1000, e.Command.CPUSeconds*1000)
	wanted := fmt.Sprintf("%.2f times, as %d to %d, within a factor of %.2f", promised, ptys.Number, user.Number, cpuTolerance)
	control, err := controlOf(e)
	if err != nil {
		return unproven("two equal commands, the control, %v, so this says nothing: %s", err, read)
	}
	if !agree(control, 1) {
		return unproven("too noisy to tell: of two equal commands one got %.2f times the CPU time of the other; %s", control, read)
	}
	if o, elsewhere := c.competedElsewhere(read, wanted); elsewhere {
		return o
	}
	switch {
	case agree(ratio, promised):
		return pass(read, wanted, "%s, as the weights promise; two equal commands differed by a factor of %.2f", read, control)
	case c.weightsRight() && ratio*ratio > promised:
		// Beyond the middle between equal shares and those promised, the weights
		// act, and something disturbed the measurement that the control did not
		// see.
		return unproven("too noisy to tell: %s, which is neither what the weights promise nor what none would give", read)
	case c.weightsRight():
		return fail(read, wanted, "the weights are right and do not bite: %s", read)
	}
	return fail(read, wanted, "%s: the weights that envd promises are not in force", read)
}

// CPUAgain tells whether the CPU experiment should be made once more: it told
// nothing for certain, or something that the values say cannot be. A template
// whose weights are not in force needs no second look.
func CPUAgain(s *evidence.Sandbox) bool {
	r, _ := Lookup(BiteCPU)
	switch r.Judge(s).Result { //nolint:exhaustive // nothing else can change
	case Unproven, Infra:
		return true
	case Fail:
		return (&subject{Sandbox: s, promise: promiseOf(s)}).weightsRight()
	}
	return false
}

// rate is the share of a CPU that a process got.
func rate(b *evidence.Burn) float64 {
	if b.To <= b.From {
		return 0
	}
	return b.CPUSeconds / (b.To - b.From)
}

// controlOf is the ratio of the two equal processes, the greater to the lesser.
func controlOf(e *evidence.CPUExperiment) (float64, error) {
	const pair = 2
	if len(e.Control) != pair || e.Control[0] == nil || e.Control[1] == nil {
		return 0, errors.New("did not both report")
	}
	ratio, err := ratioOf(e.Control[0], e.Control[1])
	return max(ratio, 1/ratio), err
}

// competedElsewhere ends the judgement where the two were not in the groups
// whose weights are tried.
func (c *subject) competedElsewhere(read, wanted string) (Outcome, bool) {
	for _, one := range []struct {
		what, group string
		burn        *evidence.Burn
	}{{"the command", "user", c.CPU.Command}, {"the terminal", "ptys", c.CPU.PTY}} {
		where, err := whereIs(one.burn.Process)
		if err != nil {
			return unproven("%s that competed: %v", one.what, err), true
		}
		want, err := groupPath(c.Snapshot, one.group)
		if err != nil {
			return unproven("%v", err), true
		}
		if where != want {
			return fail(read, wanted, "%s ran in %s and not in %s, so the weights do not bind it: %s", one.what, where, want, read), true
		}
	}
	return Outcome{}, false
}

// weightsRight tells whether the two weights read as promised.
func (c *subject) weightsRight() bool {
	return judgeValue(c, "user", "cpu.weight").Result == Pass && judgeValue(c, "ptys", "cpu.weight").Result == Pass
}

// triable ends the judgement where there is nothing to try.
func (c *subject) triable() (Outcome, bool) {
	switch {
	case c.promise.unknown != "":
		return unproven("what this envd promises is not known: %s", c.promise.unknown), true
	case c.promise.none():
		return notApplicable("envd %s limits nothing", c.Snapshot.Envd.Version), true
	}
	return withoutMount(c)
}

// notReported says why a process of an experiment did not report.
func (c *subject) notReported(piece evidence.Piece, what string) Outcome {
	if p := c.ProblemOf(piece); p != nil {
		o := ofProblem(p, true)
		o.Reason = what + ": " + o.Reason
		return o
	}
	return unproven("%s, and there is no record of why", what)
}

func judgeMemory(c *subject) Outcome {
	if o, decided := c.triable(); decided {
		return o
	}
	r := c.Memory.Report
	if r == nil {
		return c.notReported(evidence.PieceMemory, "what became of the over-allocation is not known")
	}
	_, _, stops := c.promise.wants("user", "memory.max")
	read := hogText(r)
	wanted := "stopped inside " + c.Snapshot.Groups["user"].Path
	if !stops {
		wanted = "throttled inside " + c.Snapshot.Groups["user"].Path
	}
	switch r.Ended {
	case evidence.HogNoLimit:
		return fail(read, wanted, "not tried: there is no limit to try: %s", r.Detail)
	case evidence.HogImpossible:
		return Outcome{Result: Inert, Read: read, Wanted: wanted, Reason: "the limit is set, and cannot act in a guest of so little memory: " + r.Detail}
	case evidence.HogGaveUp, evidence.HogFailed:
		return unproven("the over-allocation came to no end of its own: %s", read)
	case evidence.HogAll, evidence.HogThrottled, evidence.HogKilled:
	default:
		return unproven("the over-allocation ended in an unknown way: %s", read)
	}
	if o, elsewhere := c.hogElsewhere(r, read, wanted); elsewhere {
		return o
	}
	acted, err := risen(r)
	if err != nil {
		return unproven("the over-allocation was tried, and %v", err)
	}
	return judgeHog(r, acted, stops, read, wanted)
}

// hogElsewhere ends the judgement where the hog was not in the group of
// commands.
func (c *subject) hogElsewhere(r *evidence.HogReport, read, wanted string) (Outcome, bool) {
	if r.Hog == nil {
		return unproven("the process that took too much memory was not seen"), true
	}
	where, err := whereIs(*r.Hog)
	if err != nil {
		return unproven("%v", err), true
	}
	want, err := groupPath(c.Snapshot, "user")
	if err != nil {
		return unproven("%v", err), true
	}
	if where != want {
		return fail(read, wanted, "the command that took too much memory ran in %s and not in %s", where, want), true
	}
	return Outcome{}, false
}

// risen names those of the group's events that rose: it throttled, it was at
// its limit, it ran out of memory.
func risen(r *evidence.HogReport) ([]string, error) {
	var counts [2]map[string]uint64
	for i, f := range []evidence.File{r.Before, r.After} {
		if f.Errno != "" {
			return nil, fmt.Errorf("memory.events of %s could not be read (%s)", r.Group, f.Errno)
		}
		var err error
		if counts[i], err = cgroup2.ParseFlatKeyed(f.Text); err != nil {
			return nil, fmt.Errorf("memory.events of %s: %w", r.Group, err)
		}
		if len(counts[i]) == 0 {
			return nil, fmt.Errorf("memory.events of %s is empty", r.Group)
		}
	}
	return slices.DeleteFunc([]string{"high", "max", "oom"}, func(event string) bool { return counts[1][event] <= counts[0][event] }), nil
}

// judgeHog decides by the kernel's word about this very process, and where there
// is none by what the group itself counted: a process that was killed may have
// been killed by a guest that had run out of memory as a whole.
func judgeHog(r *evidence.HogReport, acted []string, stops bool, read, wanted string) Outcome {
	itsLimit, other := killedFor(r)
	stopped := itsLimit || has(acted, "max") || has(acted, "oom")
	switch {
	case r.Ended == evidence.HogKilled && other != "":
		return fail(read, wanted, "the command was killed, and not by its cgroup's limit: the kernel says that %s", other)
	case r.Ended == evidence.HogKilled && stopped:
		return pass(read, wanted, "%s: the limit stopped it inside its cgroup", read)
	case r.Ended == evidence.HogKilled:
		return fail(read, wanted, "the command was killed, and not by its cgroup's limit: memory.events counts neither max nor oom, and the kernel names no such kill")
	case r.Ended == evidence.HogThrottled && !stops && has(acted, "high"):
		return pass(read, wanted, "memory.high throttles it; this envd sets no memory.max, so it is slowed down and never stopped")
	case r.Ended == evidence.HogThrottled:
		return fail(read, wanted, "memory.high throttles it, and there is no memory.max to stop it")
	case strings.TrimSpace(r.Swap.Text) != "" && strings.TrimSpace(r.Swap.Text) != "0":
		return fail(read, wanted, "the limit does not bite: nothing stopped the command, and its cgroup has %s bytes in swap", strings.TrimSpace(r.Swap.Text))
	}
	return fail(read, wanted, "the limit does not bite: nothing stopped the command")
}

// hogText shows how the over-allocation went.
func hogText(r *evidence.HogReport) string {
	text := fmt.Sprintf("%d of %d bytes in %s, %s", r.Allocated, r.Wanted, r.Group, r.Ended)
	if r.Detail != "" {
		text += " (" + r.Detail + ")"
	}
	if rise, err := risen(r); err == nil && len(rise) > 0 {
		text += ", memory.events rose in " + words(rise)
	}
	return text
}

// oomKill matches what the kernel says of a process that it kills for memory
// (mm/oom_kill.c, dump_oom_summary): the constraint, the group whose limit it was,
// if any, and the PID, behind a name that may look like one.
var oomKill = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^oom-kill:constraint=([A-Z_]{1,40}),nodemask=.*,(?:global_oom|oom_memcg=(.*)),task_memcg=.*,task=.*,pid=([0-9]+),uid=[0-9]+$`)
})

// killedFor is the kernel's own word about the kill of the hog: whether it was
// because of its cgroup's limit, or else, as text, because of what. Both are empty
// where the kernel says nothing of this very process.
func killedFor(r *evidence.HogReport) (itsLimit bool, other string) {
	if r.Hog == nil {
		return false, ""
	}
	where, err := whereIs(*r.Hog)
	if err != nil {
		return false, ""
	}
	for _, line := range r.KernelLog {
		found := oomKill().FindStringSubmatch(line)
		if found == nil || found[3] != strconv.Itoa(r.Hog.PID) {
			continue
		}
		switch constraint, group := found[1], found[2]; {
		case constraint != "CONSTRAINT_MEMCG":
			return false, "the guest as a whole ran out of memory (" + constraint + ")"
		case !strings.HasSuffix(group, where):
			// A cgroup namespace shows a process the end of its path alone.
			return false, "the cgroup " + group + " was at its limit"
		}
		itsLimit = true
	}
	return itsLimit, ""
}

func judgeEnvdUnderPressure(c *subject) Outcome {
	if o, decided := c.triable(); decided {
		return o
	}
	m := c.Memory
	if m.Report == nil {
		return c.envdGone()
	}
	before, after := m.Report.EnvdBefore, m.Report.EnvdAfter
	switch m.Report.Ended {
	case evidence.HogNoLimit, evidence.HogImpossible:
		return notApplicable("no memory was taken: %s", m.Report.Detail)
	case evidence.HogFailed:
		return unproven("no memory was taken: %s", m.Report.Detail)
	case evidence.HogAll, evidence.HogThrottled, evidence.HogKilled, evidence.HogGaveUp:
	default:
		return unproven("the over-allocation ended in an unknown way: %q", m.Report.Ended)
	}
	if before == nil || after == nil || before.PID == 0 || after.PID == 0 || before.StartTicks == 0 || after.StartTicks == 0 {
		return unproven("envd's PID or start time was not read before and after")
	}
	read := fmt.Sprintf("PID %d, started at tick %d; %d answers, the slowest after %d ms", after.PID, after.StartTicks, m.HealthAnswered, m.HealthSlowestMS)
	wanted := fmt.Sprintf("PID %d, started at tick %d; healthy each time", before.PID, before.StartTicks)
	switch {
	case before.PID != after.PID || before.StartTicks != after.StartTicks:
		return fail(read, wanted, "envd ended while a command took too much memory: it was PID %d and is PID %d", before.PID, after.PID)
	case m.HealthFailed > 0:
		return fail(read, wanted, "envd did not answer %s while a command took too much memory: %s", count(m.HealthFailed, "time"), m.HealthError)
	case m.HealthLost > 0:
		return infra("%s of envd's were lost on the way: %s", count(m.HealthLost, "answer"), m.HealthError)
	case m.HealthAnswered == 0:
		return unproven("envd was not asked for its health meanwhile")
	}
	return pass(read, wanted, "envd is still PID %d and answered each of %d times, the slowest after %d ms", after.PID, m.HealthAnswered, m.HealthSlowestMS)
}

// envdGone looks at the second snapshot where the experiment's own report did
// not come back: whether that is because envd ended with it.
func (c *subject) envdGone() Outcome {
	if p := c.ProblemOf(evidence.PieceLater); c.Later == nil && p != nil && p.Kind == evidence.ProblemGuest {
		return fail("no envd", "envd as before", "envd does not answer any more since a command took too much memory: %s: %s", p.Call, p.Error)
	}
	if c.Later != nil && c.Later.Envd != nil && c.Snapshot.Envd != nil && c.Later.Boot.ID == c.Snapshot.Boot.ID {
		before, after := c.Snapshot.Envd.Process, c.Later.Envd.Process
		if before.PID != after.PID || before.StartTicks != after.StartTicks {
			return fail(fmt.Sprintf("PID %d", after.PID), fmt.Sprintf("PID %d", before.PID), "envd ended while a command took too much memory")
		}
	}
	return c.notReported(evidence.PieceMemory, "what became of the over-allocation is not known")
}
