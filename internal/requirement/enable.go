package requirement

import (
	"sandproof/internal/evidence"
)

// The requirements of stage enable.
const (
	EnableCPU    ID = "enable.cpu"
	EnableMemory ID = "enable.memory"
	EnableIO     ID = "enable.io"
)

func enableRequirements() []Requirement {
	return []Requirement{
		enable(EnableCPU, "cpu", LevelCore),
		enable(EnableMemory, "memory", LevelCore),
		enable(EnableIO, "io", LevelExtended),
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
				return fail(read, controller, "the %s controller is not enabled, and the kernel does not offer it", controller)
			}
			return fail(read, controller,
				"the kernel offers the %[1]s controller but the template's init never enabled it, so the %[1]s.* files do not exist "+
					"in envd's cgroups and no %[1]s limit is in force; \"permission denied\" in envd's log means just this, "+
					"that the controller is not enabled, and not that a permission is missing", controller)
		},
	}
}
