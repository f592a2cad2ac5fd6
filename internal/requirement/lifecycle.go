package requirement

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sandproof/internal/evidence"
)

// The requirements of stage lifecycle: what a pause leaves of it all.
const (
	LifecycleThawed    ID = "lifecycle.thawed"
	LifecycleValues    ID = "lifecycle.values"
	LifecyclePlacement ID = "lifecycle.placement"
	LifecycleSurvivor  ID = "lifecycle.survivor"
)

func lifecycleRequirements() []Requirement {
	needs := []evidence.Piece{evidence.PieceSnapshot, evidence.PieceLifecycle}
	paused := []string{"snapshot/envd/version", "snapshot/root/fsMagic", "lifecycle/resumed"}
	return []Requirement{
		{
			ID: LifecycleThawed, Title: "envd's cgroups are thawed after a pause", Stage: StageLifecycle, Level: LevelCore,
			Why: "Before a pause the orchestrator may have envd freeze its cgroups. One that stays frozen stops everything in it, " +
				"and the first command that is started there hangs envd as a whole.",
			Next: "look in the orchestrator's log for \"envd freeze failed\" and for a thaw watchdog; " +
				"envd 0.6.0 to 0.6.2 froze socats as well (e2b-dev/infra 8b6f2b97e)",
			Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze; e2b-dev/infra eceb7419f, f06e9bc1e",
			Needs:     needs,
			Inputs:    slices.Concat(paused, []string{"lifecycle/snapshot", "lifecycle/snapshot/groups/user/files/cgroup.freeze", "lifecycle/snapshot/groups/user/files/cgroup.events"}),
			judge:     judgeThawedAfterPause,
		},
		{
			ID: LifecycleValues, Title: "the values are what they were, after a pause", Stage: StageLifecycle, Level: LevelCore,
			Why: "Limits are the kernel's state: they come back with the memory, and envd does not set them again. " +
				"Where a sandbox comes back by a boot, everything depends on the init of that boot.",
			Next:      "see whether the guest was booted anew (lifecycle.survivor says so), and whether that boot's init enables the controllers",
			Reference: "e2b-dev/infra packages/envd/main.go, createCgroupManager runs once; packages/orchestrator/pkg/sandbox/reboot.go",
			Needs:     needs,
			Inputs:    slices.Concat(paused, []string{"snapshot/groups/user", "lifecycle/snapshot", "lifecycle/snapshot/root/fsMagic", "lifecycle/snapshot/mounts", "lifecycle/snapshot/groups/user"}),
			judge:     judgeValuesAfterPause,
		},
		{
			ID: LifecyclePlacement, Title: "new processes are in their cgroups, after a pause", Stage: StageLifecycle, Level: LevelCore,
			Why:       "A sandbox lives on by being connected to; what is started then is limited like everything before, or not at all.",
			Next:      "compare envd before and after the pause: its PID, its command line, the descriptors that it holds",
			Reference: "e2b-dev/infra c7180fe2c, packages/envd/internal/services/process/handler; cgroups(7) /proc/PID/cgroup",
			Needs:     needs,
			Inputs: slices.Concat(paused, []string{
				"snapshot/mounts", "lifecycle/placement", "lifecycle/placement/command", "lifecycle/placement/command/process/cgroup",
				"lifecycle/placement/pty", "lifecycle/placement/pty/process/cgroup",
			}),
			judge: judgePlacementAfterPause,
		},
		{
			ID: LifecycleSurvivor, Title: "a process that lived before a pause is where it was", Stage: StageLifecycle, Level: LevelCore,
			Why:       "What runs on over a pause must run on under its limits.",
			Next:      "look at what moved or ended it: the pause itself touches no process",
			Reference: "cgroups(7) /proc/PID/cgroup; proc_pid_stat(5) starttime",
			Needs:     needs,
			Inputs: slices.Concat(paused, []string{
				"snapshot/mounts", "snapshot/boot/id", "lifecycle/snapshot", "lifecycle/snapshot/boot/id",
				"lifecycle/before", "lifecycle/before/pid", "lifecycle/before/startTicks", "lifecycle/before/cgroup",
				"lifecycle/survivor", "lifecycle/survivor/process", "lifecycle/survivor/process/pid", "lifecycle/survivor/process/startTicks", "lifecycle/survivor/process/cgroup",
			}),
			judge: judgeSurvivor,
		},
	}
}

// afterPause ends the judgement where there was no pause, or nothing to look at
// after it.
func (c *subject) afterPause() (Outcome, bool) {
	if o, decided := c.triable(); decided {
		return o, true
	}
	l := c.Lifecycle
	switch {
	case l.NotOffered != "":
		return notApplicable("this API does not pause sandboxes: %s", l.NotOffered), true
	case l.Resumed.IsZero():
		return unproven("there is no record of the sandbox's return from the pause"), true
	case l.Snapshot == nil:
		return c.notReported(evidence.PieceLifecycle, "the guest was not seen after the pause"), true
	}
	return Outcome{}, false
}

func judgeThawedAfterPause(c *subject) Outcome {
	if o, decided := c.afterPause(); decided {
		return o
	}
	var looked []string
	for _, name := range groupNames() {
		group, seen := c.Lifecycle.Snapshot.Groups[name]
		if !seen {
			return unproven("the look after the pause does not hold the cgroup %s", name)
		}
		if !group.Exists {
			continue
		}
		for _, f := range []string{"cgroup.freeze", "cgroup.events"} {
			if text, err := textOf(group, f); err != nil || text == "" {
				return unproven("%s was not read after the pause, so it is open whether it is frozen", path.Join(group.Path, f))
			}
		}
		looked = append(looked, name)
	}
	frozen := c.Lifecycle.Snapshot.Frozen()
	if len(frozen) > 0 {
		read := strings.Join(slices.Sorted(maps.Values(frozen)), ", ")
		return fail(read, "cgroup.freeze 0, frozen 0", "frozen after the pause: %s; nothing was executed there, since that would hang envd", read)
	}
	if len(looked) == 0 {
		return notApplicable("none of envd's cgroups exists after the pause")
	}
	return pass(words(looked)+" thawed", "cgroup.freeze 0, frozen 0", "thawed after the pause")
}

func judgeValuesAfterPause(c *subject) Outcome {
	if o, decided := c.afterPause(); decided {
		return o
	}
	after := *c.Sandbox
	after.Snapshot = c.Lifecycle.Snapshot
	return c.stillRight(&subject{Sandbox: &after, promise: c.promise}, "lost in the pause", "over the pause")
}

func judgePlacementAfterPause(c *subject) Outcome {
	if o, decided := c.afterPause(); decided {
		return o
	}
	placement := c.Lifecycle.Placement
	if placement == nil {
		return c.notReported(evidence.PieceLifecycle, "no process was started after the pause"+c.becauseFrozen())
	}
	var read []string
	for _, kind := range []struct {
		what, group string
		placed      *evidence.Placed
	}{{"a new command", "user", placement.Command}, {"a new terminal", "ptys", placement.PTY}} {
		o := judgePlace(c, kind.what, kind.group, kind.placed)
		if o.Result != Pass {
			o.Reason = "after the pause " + o.Reason
			return o
		}
		read = append(read, o.Read)
	}
	return pass(strings.Join(read, "; "), "0::…/user and 0::…/ptys", "after the pause a new command runs in user and a new terminal in ptys")
}

// becauseFrozen says why nothing was started, where that is why.
func (c *subject) becauseFrozen() string {
	if frozen := c.Lifecycle.Snapshot.Frozen(); len(frozen) > 0 {
		return ", since " + words(slices.Sorted(maps.Keys(frozen))) + " stayed frozen"
	}
	return ""
}

func judgeSurvivor(c *subject) Outcome {
	if o, decided := c.afterPause(); decided {
		return o
	}
	l := c.Lifecycle
	switch {
	case l.Snapshot.Boot.ID == "" || c.Snapshot.Boot.ID == "":
		return unproven("the boot ID was not read, so it is open whether the guest was booted anew")
	case l.Snapshot.Boot.ID != c.Snapshot.Boot.ID:
		return notApplicable("the guest was booted anew after the pause, so no process could survive it")
	case l.Before == nil || l.Before.PID == 0 || l.Before.StartTicks == 0:
		return unproven("no process is known that was started before the pause")
	case l.Survivor == nil:
		return unproven("the process from before the pause was not looked for%s", c.becauseFrozen())
	case l.Survivor.Infra:
		return infra("the process from before the pause could not be looked for: %s", l.Survivor.Error)
	case l.Survivor.Process == nil:
		return unproven("the process from before the pause could not be looked for: %s", l.Survivor.Error)
	}
	was, err := whereIs(*l.Before)
	if err != nil {
		return unproven("before the pause, %v", err)
	}
	p := l.Survivor.Process
	wanted := fmt.Sprintf("PID %d, started at tick %d, in %s", l.Before.PID, l.Before.StartTicks, was)
	if p.StartTicks == 0 && p.Error == "" || p.PID == 0 {
		return unproven("the start time of the process from before the pause was not read")
	}
	if p.PID != l.Before.PID || p.StartTicks != l.Before.StartTicks {
		return fail("another process, or none", wanted, "the process that was started before the pause is gone: it ended, although the guest was not booted anew")
	}
	is, err := whereIs(*p)
	if err != nil {
		return unproven("after the pause, %v", err)
	}
	read := fmt.Sprintf("PID %d, started at tick %d, in %s", p.PID, p.StartTicks, is)
	want, err := groupPath(c.Snapshot, "user")
	switch {
	case err != nil:
		return unproven("%v", err)
	case is != was:
		return fail(read, wanted, "a process that was in %s before the pause is in %s after it", was, is)
	case is != want:
		return fail(read, wanted, "the process that lived over the pause runs in %s and not in %s, as before it", is, want)
	}
	return pass(read, wanted, "the process that was started before the pause runs on, in %s", is)
}
