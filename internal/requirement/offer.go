package requirement

import (
	"fmt"
	"strings"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// The requirements of stage offer.
const (
	OfferCPU    ID = "offer.cpu"
	OfferMemory ID = "offer.memory"
	OfferIO     ID = "offer.io"
)

func offerRequirements() []Requirement {
	return []Requirement{
		offer(OfferCPU, "cpu", LevelCore),
		offer(OfferMemory, "memory", LevelCore),
		offer(OfferIO, "io", LevelExtended),
	}
}

func offer(id ID, controller string, level Level) Requirement {
	return Requirement{
		ID: id, Title: "the kernel offers the " + controller + " controller", Stage: StageOffer, Level: level,
		Why: "A controller that the kernel does not offer in cgroup v2 cannot be enabled by any init, " +
			"and one unavailable controller makes a single-line enabling write fail as a whole.",
		Next: "look for cgroup_disable= or a cgroup v1 mount of " + controller + " in the guest, else use a kernel with it; " +
			"enable the other controllers one write each",
		Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, cgroup.controllers; kernel-parameters.txt, cgroup_disable= and cgroup_no_v1=",
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
		Inputs:    []string{"snapshot/envd/version", "snapshot/root/fsMagic", "snapshot/root/files/cgroup.controllers"},
		judge: func(c *subject) Outcome {
			if o, decided := needsController(c, controller); decided {
				return o
			}
			list, err := offered(c.Sandbox)
			if err != nil {
				return unproven("%v", err)
			}
			read := "cgroup.controllers: " + quoted(list)
			if !has(list, controller) {
				return fail(read, controller, "the guest's kernel does not offer the %s controller in cgroup v2: %s",
					controller, whyNotOffered(c.Snapshot, controller))
			}
			return pass(read, controller, "the kernel offers %s", controller)
		},
	}
}

// controllerOptions are the kernel options without which there is no such
// controller (Linux init/Kconfig).
var controllerOptions = map[string]string{"cpu": "CONFIG_CGROUP_SCHED", "memory": "CONFIG_MEMCG", "io": "CONFIG_BLK_CGROUP"}

// whyNotOffered says what the guest shows of the reason: it is the kernel's,
// or its command line's, and not the init's.
func whyNotOffered(s *evidence.Snapshot, controller string) string {
	for word := range strings.FieldsSeq(s.Kernel.Cmdline) {
		list, ok := strings.CutPrefix(word, "cgroup_disable=")
		if ok && has(strings.Split(list, ","), controller) {
			return "its command line has " + word
		}
	}
	bound := mountPoints(s.Mounts, func(m cgroup2.Mount) bool { return m.Type == "cgroup" && has(m.SuperOptions, controller) })
	if len(bound) > 0 {
		return "cgroup version 1 has it, mounted at " + words(bound)
	}
	option := controllerOptions[controller]
	switch {
	case s.Kernel.Config == nil:
		return fmt.Sprintf("kernel %s may be built without %s, which cannot be seen since it has no /proc/config.gz", s.Kernel.Release, option)
	case s.Kernel.Config[option] != "y":
		return fmt.Sprintf("kernel %s is built without %s", s.Kernel.Release, option)
	}
	return fmt.Sprintf("kernel %s is built with %s, so something in the guest took it", s.Kernel.Release, option)
}

// needsController ends the judgement of a controller where this envd promises
// nothing that needs it, where the promise is unknown, or where there is no
// cgroup2 mount to speak of or nobody knows whether there is.
func needsController(c *subject, controller string) (Outcome, bool) {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown), true
	}
	if !c.promise.controllers()[controller] {
		return notApplicable("envd %s (generation %s) sets nothing that needs the %s controller",
			c.Snapshot.Envd.Version, c.promise.name(), controller), true
	}
	if o, unknown := mountUntold(c); unknown {
		return o, true
	}
	if !onCgroup2(c.Sandbox) {
		root := c.Snapshot.Root
		read := fmt.Sprintf("statfs %s: 0x%x", root.Path, root.FSMagic)
		if notThere(root) {
			read = "no directory " + root.Path
		}
		return fail(read, "a cgroup2 mount that offers "+controller,
			"%s is no cgroup2 mount, so it has no controllers", root.Path), true
	}
	return Outcome{}, false
}

// quoted shows a list of words so that an empty one can be seen.
func quoted(list []string) string { return fmt.Sprintf("%q", strings.Join(list, " ")) }
