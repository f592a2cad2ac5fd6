package requirement

import (
	"fmt"
	"path"
	"strings"

	"sandproof/internal/evidence"
)

// The requirements of stage keep: what was right once stays right.
const (
	KeepGroups      ID = "keep.groups"
	KeepControllers ID = "keep.controllers"
	KeepValues      ID = "keep.values"
)

func keepRequirements() []Requirement {
	needs := []evidence.Piece{evidence.PieceSnapshot, evidence.PieceLater}
	return []Requirement{
		{
			ID: KeepGroups, Title: "envd's cgroups are still the same", Stage: StageKeep, Level: LevelCore,
			Why: "envd holds the directories open that it made. Where one is removed and made again, envd's starts fail, " +
				"and the new one has none of its values.",
			Next:      "find what removes or freezes cgroups in the guest: a cleaner of empty groups, a container runtime, an interrupted pause",
			Reference: "clone3(2) CLONE_INTO_CGROUP; Linux Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze",
			Needs:     needs,
			Inputs:    append([]string{"snapshot/envd/version", "snapshot/boot/id", "later/boot/id"}, keptGroups()...),
			judge:     judgeKeepGroups,
		},
		{
			ID: KeepControllers, Title: "the controllers stay enabled", Stage: StageKeep, Level: LevelCore,
			Why: "Disabling a controller deletes its files in every cgroup, and enabling it again brings the kernel's defaults: " +
				"a first look passes, and the limits are gone after a service manager has set its own house in order.",
			Next:      "find what rewrites the root's cgroup.subtree_control: systemd does where no unit asks for the controller (Delegate=yes, CPUAccounting=yes)",
			Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, Enabling and Disabling",
			Needs:     needs,
			Inputs: []string{
				"snapshot/boot/id", "later/boot/id", "snapshot/root/files/cgroup.subtree_control", "later/root/files/cgroup.subtree_control",
			},
			judge: judgeKeepControllers,
		},
		{
			ID: KeepValues, Title: "the values stay what envd has set", Stage: StageKeep, Level: LevelCore,
			Why:       "envd writes its values once, when it starts. What resets them later takes the limits away for good.",
			Next:      "find what wrote the file between the two looks: a service manager's reload, a package's installation, a script in the background",
			Reference: "e2b-dev/infra packages/envd/main.go, createCgroupManager runs once",
			Needs:     needs,
			Inputs:    []string{"snapshot/envd/version", "snapshot/boot/id", "later/boot/id", "snapshot/groups/user", "later/groups/user", "later/root/fsMagic", "later/mounts"},
			judge:     judgeKeepValues,
		},
	}
}

// keptGroups are the inputs of each group at both looks. One that is not there at
// first is not looked for later.
func keptGroups() []string {
	var paths []string
	for _, name := range groupNames() {
		for _, group := range []string{"snapshot/groups/" + name, "later/groups/" + name} {
			paths = append(paths, group, group+"/inode", group+"/files/cgroup.type", group+"/files/cgroup.freeze")
		}
		paths = append(paths, "later/groups/"+name+"/exists")
	}
	return paths
}

// later is the subject with the second look in the place of the first, and
// with the promise of the first: the envd that made the groups decides.
func (c *subject) later() *subject {
	sandbox := *c.Sandbox
	sandbox.Snapshot = c.Later
	return &subject{Sandbox: &sandbox, promise: c.promise}
}

// sameBoot ends the judgement where the two looks cannot be compared.
func (c *subject) sameBoot() (Outcome, bool) {
	switch {
	case c.promise.unknown != "":
		return unproven("what this envd promises is not known: %s", c.promise.unknown), true
	case c.promise.none():
		return notApplicable("envd %s makes no cgroups", c.Snapshot.Envd.Version), true
	case c.Snapshot.Boot.ID == "" || c.Later.Boot.ID == "":
		return unproven("the boot ID was not read, so it is open whether both looks saw the same boot"), true
	case c.Snapshot.Boot.ID != c.Later.Boot.ID:
		return fail("boot "+c.Later.Boot.ID, "boot "+c.Snapshot.Boot.ID, "the guest was booted again between the two looks, %.0f s into the new boot",
			c.Later.Boot.UptimeSeconds), true
	}
	return withoutMount(c)
}

// between names the two looks.
func (c *subject) between() string {
	return fmt.Sprintf("between %.0f s and %.0f s after boot", c.Snapshot.Boot.UptimeSeconds, c.Later.Boot.UptimeSeconds)
}

func judgeKeepGroups(c *subject) Outcome {
	if o, decided := c.sameBoot(); decided {
		return o
	}
	var made []string
	for _, name := range groupNames() {
		before, seen := c.Snapshot.Groups[name]
		after, seenLater := c.Later.Groups[name]
		switch {
		case !seen || !seenLater:
			return unproven("one of the two looks does not hold the cgroup %s", name)
		case !before.Exists:
			continue
		case !after.Exists && after.Error != "":
			return unproven("%s: %s", after.Path, after.Error)
		case !after.Exists:
			return fail("no cgroup "+after.Path, "as before", "the cgroup %s was removed %s", name, c.between())
		case before.Inode == 0 || after.Inode == 0:
			return unproven("the inode of %s was not read at each look, so it is open whether it is the same cgroup", after.Path)
		case before.Inode != after.Inode:
			if over, err := mountedOver(c.Later, after.Path); err == nil && over != "" {
				return fail("another mount at "+over, "as before", "another mount was laid over %s %s", after.Path, c.between())
			}
			return fail(fmt.Sprintf("inode %d", after.Inode), fmt.Sprintf("inode %d", before.Inode),
				"the cgroup %s was removed and made again %s, so envd holds one that is gone", name, c.between())
		}
		for _, f := range []string{"cgroup.type", "cgroup.freeze"} {
			was, err := textOf(before, f)
			if err != nil {
				return unproven("%v", err)
			}
			is, err := textOf(after, f)
			if err != nil {
				return unproven("%v", err)
			}
			// A domain's kind follows from whether a process is in it.
			if was != is && (f != "cgroup.type" || !isDomain(was) || !isDomain(is)) {
				return fail(path.Join(after.Path, f)+": "+is, was, "%s of %s changed from %s to %s %s", f, name, was, is, c.between())
			}
		}
		made = append(made, name)
	}
	if len(made) == 0 {
		return notApplicable("none of the cgroups existed, so there was nothing to keep")
	}
	return pass(words(made)+" as before", "as before", "the cgroups are the same, of the same type and not frozen, %s", c.between())
}

func judgeKeepControllers(c *subject) Outcome {
	if o, decided := c.sameBoot(); decided {
		return o
	}
	before, err := enabled(c.Sandbox)
	if err != nil {
		return unproven("%v", err)
	}
	after, err := enabled(c.later().Sandbox)
	if err != nil {
		return unproven("at the second look %v", err)
	}
	var kept, lost []string
	for _, controller := range []string{"cpu", "memory"} {
		switch {
		case !has(before, controller) || !c.promise.controllers()[controller]:
		case has(after, controller):
			kept = append(kept, controller)
		default:
			lost = append(lost, controller)
		}
	}
	read, wanted := "cgroup.subtree_control: "+quoted(after), quoted(before)
	switch {
	case len(lost) > 0:
		return fail(read, wanted, "reset later: %s was enabled at first and no longer is, %s", words(lost), c.between())
	case len(kept) == 0:
		return notApplicable("no promised controller was enabled, so there was nothing to keep")
	}
	return pass(read, wanted, "%s stayed enabled, %s", words(kept), c.between())
}

func judgeKeepValues(c *subject) Outcome {
	if o, decided := c.sameBoot(); decided {
		return o
	}
	return c.stillRight(c.later(), "reset later", c.between())
}

// stillRight compares the values that were right at first with a later look:
// lost names what became of one that is wrong, and when the time between.
func (c *subject) stillRight(later *subject, lost, when string) Outcome {
	kept := 0
	for _, p := range c.promise.sure() {
		if strings.HasPrefix(p.File, "io.") {
			continue // extended
		}
		first := judgeValue(c, p.Group, p.File)
		if first.Result == Unproven {
			return first
		}
		if first.Result != Pass {
			continue // of stage value
		}
		switch o := judgeValue(later, p.Group, p.File); o.Result {
		case Pass:
			kept++
		case Fail:
			o.Reason = fmt.Sprintf("%s: %s/%s was right at first, and then %s, %s", lost, p.Group, p.File, o.Reason, when)
			before, _ := file(c.Snapshot.Groups[p.Group], p.File)
			if after, _ := file(later.Snapshot.Groups[p.Group], p.File); after.Inode > before.Inode {
				o.Reason += "; the file is a new one, so its controller was disabled and enabled again"
			}
			return o
		case Unproven, Inert, NotApplicable, Infra:
			return unproven("%s/%s was right at first; at the second look %s", p.Group, p.File, o.Reason)
		}
	}
	if kept == 0 {
		return notApplicable("no promised value was in force at first, so there was nothing to keep")
	}
	return pass(count(kept, "value")+" as before", "as before", "every value that was right at first still is, %s", when)
}
