package requirement

import (
	"fmt"
	"path"
	"strings"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// The requirements of stage enable.
const (
	EnableCPU    ID = "enable.cpu"
	EnableMemory ID = "enable.memory"
	EnableIO     ID = "enable.io"
	EnableOrder  ID = "enable.order"
)

func enableRequirements() []Requirement {
	return []Requirement{
		enable(EnableCPU, "cpu", LevelCore),
		enable(EnableMemory, "memory", LevelCore),
		enable(EnableIO, "io", LevelExtended),
		{
			ID: EnableOrder, Title: "the controllers were enabled before envd made its cgroups", Stage: StageEnable, Level: LevelCore,
			Why: "envd sets its limits once, when it starts. A controller that comes later brings files with the kernel's defaults, " +
				"which look complete and limit nothing.",
			Next: "in the template's init, move the lines that write cgroup.subtree_control before the line that starts envd, " +
				"and wait for nothing in the background there; a controller must not be disabled and enabled again later either",
			Reference: "e2b-dev/infra packages/envd/main.go, createCgroupManager runs once; Linux fs/kernfs/dir.c, inode numbers rise",
			Needs:     []evidence.Piece{evidence.PieceSnapshot},
			Inputs: []string{
				"snapshot/envd/version", "snapshot/root/fsMagic", "snapshot/root/files/cgroup.subtree_control",
				"snapshot/groups/user", "snapshot/groups/user/inode", "snapshot/groups/user/files/cpu.weight/inode",
			},
			judge: judgeOrder,
		},
	}
}

func enable(id ID, controller string, level Level) Requirement {
	return Requirement{
		ID: id, Title: "the " + controller + " controller is enabled for envd's cgroups", Stage: StageEnable, Level: level,
		Why: "A controller's files exist in a cgroup only when its parent enables it; without them envd cannot set a limit, " +
			"and logs the missing file as \"permission denied\".",
		Next: "in the template's init, after the cgroup2 mount and before envd starts, write each controller by itself: " +
			"for c in cpu memory io; do echo +$c > /sys/fs/cgroup/cgroup.subtree_control; done",
		Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, Enabling and Disabling",
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
		Inputs:    []string{"snapshot/envd/version", "snapshot/root/fsMagic", "snapshot/root/files/cgroup.subtree_control"},
		judge: func(c *subject) Outcome {
			if o, decided := needsController(c, controller); decided {
				return o
			}
			on, err := enabled(c.Sandbox)
			if err != nil {
				return unproven("%v", err)
			}
			read := "cgroup.subtree_control: " + quoted(on)
			if has(on, controller) {
				return pass(read, controller, "%s is enabled in the root's cgroup.subtree_control", controller)
			}
			available, err := offered(c.Sandbox)
			if err != nil {
				return unproven("%v", err)
			}
			if !has(available, controller) {
				return fail(read, controller, "the %s controller is not enabled, and the kernel does not offer it: %s",
					controller, whyNotOffered(c.Snapshot, controller))
			}
			o := fail(read, controller,
				"the kernel offers the %[1]s controller but %[2]s, so the %[1]s.* files do not exist "+
					"in envd's cgroups and no %[1]s limit is in force; \"permission denied\" in envd's log means just this, "+
					"that the controller is not enabled, and not that a permission is missing", controller, whyNotEnabled(c.Snapshot, controller, available))
			if c.Snapshot.Envd.Unit != nil {
				o.Next = nextUnderSystemd
			}
			return o
		},
	}
}

// nextUnderSystemd is what enables controllers where systemd rules the root
// cgroup: it takes back what nobody asked it for.
const nextUnderSystemd = "give envd.service the lines Delegate=yes, CPUAccounting=yes and IOAccounting=yes in its section Service, as E2B's own unit has them, " +
	"and rebuild the template; what an init or a script writes into cgroup.subtree_control itself, systemd may take back"

// whyNotEnabled says what the guest's own init shows of the reason. It
// explains only: what a script says is never proof of what happened.
func whyNotEnabled(s *evidence.Snapshot, controller string, available []string) string {
	if tasks := realTimeTasks(s); controller == "cpu" && len(tasks) > 0 {
		return "it cannot be enabled while real-time processes live outside of the root cgroup on a kernel with RT_GROUP_SCHED: " + words(tasks)
	}
	init := s.InitProgram
	if init == nil {
		return "the template's init never enabled it"
	}
	steps := enablingSteps(init)
	if len(steps) == 0 {
		return whyNoLine(s)
	}
	for _, step := range steps {
		if !enables([]evidence.Step{step}, controller) {
			continue
		}
		at := fmt.Sprintf("%s enables it in line %d", init.Path, step.Line)
		if bad := refused(step.Words, available); len(bad) > 0 {
			return fmt.Sprintf("%s in one write with %s, which the kernel does not offer: one such word makes the whole write fail", at, words(bad))
		}
		if mount := mountAfter(init.Steps, step.Line); mount > 0 {
			return fmt.Sprintf("%s, before it mounts cgroup2 in line %d, so the write went nowhere", at, mount)
		}
		return at + ", and the write failed, was never reached, or was undone"
	}
	return fmt.Sprintf("%s enables only %s, in line %d", init.Path, strings.Join(steps[0].Words, " "), steps[0].Line)
}

// whyNoLine explains an init without a line that enables controllers for
// envd's cgroups.
func whyNoLine(s *evidence.Snapshot) string {
	for _, step := range s.InitProgram.Steps {
		if tooDeep(step) {
			return fmt.Sprintf("%s enables it only below %s (line %d), one level too deep", s.InitProgram.Path, path.Dir(step.Target), step.Line)
		}
	}
	if len(s.Bystanders) > 0 {
		var names []string
		for _, b := range s.Bystanders {
			names = append(names, b.Path)
		}
		return fmt.Sprintf("the line that enables controllers stands in %s and never took effect: PID 1 runs %s", words(names), s.InitProgram.Path)
	}
	if s.Envd != nil && s.Envd.Unit != nil && s.Envd.Unit.Settings["Delegate"] == "" {
		return fmt.Sprintf("nothing asked systemd for it: the unit %s (%s) has no Delegate=yes", s.Envd.Unit.Name, strings.Join(s.Envd.Unit.Files, ", "))
	}
	return "the template's init never enabled it"
}

// refused are the words of a write that name a controller which the kernel
// does not offer; a variable may be any.
func refused(written, available []string) []string {
	var bad []string
	for _, word := range written {
		name := strings.TrimPrefix(word, "+")
		if !strings.Contains(name, "$") && !has(available, name) {
			bad = append(bad, name)
		}
	}
	return bad
}

// mountAfter returns the line of the first cgroup2 mount where that comes after
// a line, else 0.
func mountAfter(steps []evidence.Step, line int) int {
	for _, s := range steps {
		if s.Kind == evidence.StepMount {
			if s.Line > line {
				return s.Line
			}
			return 0
		}
	}
	return 0
}

// realTimeTasks names the processes that keep the cpu controller off. A kernel
// that does not show its configuration may have the option.
func realTimeTasks(s *evidence.Snapshot) []string {
	if s.Kernel.Config != nil && s.Kernel.Config["CONFIG_RT_GROUP_SCHED"] != "y" {
		return nil
	}
	var names []string
	for _, p := range s.RealTime {
		where, err := cgroup2.ParseProcCgroup(p.Cgroup)
		if err != nil {
			continue
		}
		names = append(names, fmt.Sprintf("%s (PID %d) in %s", p.Comm, p.PID, where))
	}
	return names
}

// judgeOrder looks for interface files that were made after the last of
// envd's cgroups: mkdir makes a group's directory and its files together, so
// such a file came with a controller that was enabled later. That harms where
// envd's value is not in it; an envd that was started again has set it since.
func judgeOrder(c *subject) Outcome {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	if c.promise.none() {
		return notApplicable("envd %s makes no cgroups", c.Snapshot.Envd.Version)
	}
	if o, decided := withoutMount(c); decided {
		return o
	}
	on, err := enabled(c.Sandbox)
	if err != nil {
		return unproven("%v", err)
	}
	var newest uint64
	for _, name := range groupNames() {
		group, seen := c.Snapshot.Groups[name]
		switch {
		case !seen:
			return unproven("the snapshot does not hold the cgroup %s", name)
		case !group.Exists:
			return notApplicable("the cgroup %s does not exist, so nothing can have come before or after it", name)
		case group.Inode == 0:
			return unproven("the inode of %s was not read", group.Path)
		}
		newest = max(newest, group.Inode)
	}
	var late, harmed []string
	var open *Outcome
	looked := 0
	for _, property := range c.promise.sure() {
		controller, _, _ := strings.Cut(property.File, ".")
		f, where := file(c.Snapshot.Groups[property.Group], property.File)
		if controller == "io" || !has(on, controller) || f.Errno != "" {
			continue
		}
		if f.Inode == 0 {
			return unproven("the inode of %s was not read", where)
		}
		looked++
		if f.Inode < newest || c.Snapshot.Groups[property.Group].Inode == newest {
			continue
		}
		late = append(late, where)
		switch o := judgeValue(c, property.Group, property.File); {
		case o.Result == Unproven:
			open = &o
		case !o.Result.Green():
			harmed = append(harmed, where)
		}
	}
	wanted := "interface files no newer than envd's cgroups"
	switch {
	case looked == 0:
		return notApplicable("none of the promised files exists: no controller that they need is enabled")
	case len(late) == 0:
		return pass("the files of "+words(on)+" came with the cgroups", wanted, "what is enabled was enabled before envd made its cgroups")
	case len(harmed) == 0 && open != nil:
		return unproven("%s came after the cgroups, and it is open whether envd has set its values since: %s", words(late), open.Reason)
	case len(harmed) == 0:
		return pass("newer than the cgroups: "+words(late), wanted,
			"the controllers were enabled after the cgroups were made, and envd has set its values since: it was started again")
	}
	return fail("newer than the cgroups: "+words(late), wanted,
		"the controllers were enabled after envd had made its cgroups, or were disabled and enabled again since: their files are newer than the "+
			"cgroups and hold not what envd sets (%s)%s", words(harmed), envdBefore(c.Snapshot.InitProgram))
}

// envdBefore names the lines of an init that starts envd first.
func envdBefore(init *evidence.Program) string {
	if init == nil {
		return ""
	}
	for _, s := range init.Steps {
		if s.Kind != evidence.StepEnvd {
			continue
		}
		for _, e := range enablingSteps(init) {
			if e.Line > s.Line {
				return fmt.Sprintf("; %s starts envd in line %d and enables controllers in line %d", init.Path, s.Line, e.Line)
			}
		}
		return ""
	}
	return ""
}
