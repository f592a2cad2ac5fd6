package requirement

import (
	"fmt"
	"strings"

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
		Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, cgroup.controllers",
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
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
				return fail(read, controller, "the guest's kernel does not offer the %s controller in cgroup v2", controller)
			}
			return pass(read, controller, "the kernel offers %s", controller)
		},
	}
}

// needsController ends the judgement of a controller where this envd promises
// nothing that needs it, where the promise is unknown, or where there is no
// cgroup2 mount to speak of.
func needsController(c *subject, controller string) (Outcome, bool) {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown), true
	}
	if !c.promise.controllers()[controller] {
		return notApplicable("envd %s (generation %s) sets nothing that needs the %s controller",
			c.Snapshot.Envd.Version, c.promise.name(), controller), true
	}
	if !onCgroup2(c.Sandbox) {
		root := c.Snapshot.Root
		return fail(fmt.Sprintf("statfs %s: 0x%x", root.Path, root.FSMagic), "a cgroup2 mount that offers "+controller,
			"%s is no cgroup2 mount, so it has no controllers", root.Path), true
	}
	return Outcome{}, false
}

// quoted shows a list of words so that an empty one can be seen.
func quoted(list []string) string { return fmt.Sprintf("%q", strings.Join(list, " ")) }
