package requirement

import (
	"fmt"
	"slices"
	"strings"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// The requirements of stage create.
const (
	CreateGroups ID = "create.groups"
	CreateDomain ID = "create.domain"
	CreateThawed ID = "create.thawed"
	CreateLeaf   ID = "create.leaf"
	CreateStarts ID = "create.starts"
)

func createRequirements() []Requirement {
	// inputs are those of every group, with the files that a judge reads.
	inputs := func(files ...string) []string {
		paths := []string{"snapshot/envd/version"}
		for _, name := range groupNames() {
			paths = append(paths, "snapshot/groups/"+name, "snapshot/groups/"+name+"/exists")
			for _, f := range files {
				paths = append(paths, "snapshot/groups/"+name+"/"+f)
			}
		}
		return paths
	}
	const reference = "Linux Documentation/admin-guide/cgroup-v2.rst; e2b-dev/infra c7180fe2c, packages/envd/internal/services/cgroups"
	return []Requirement{
		{
			ID: CreateGroups, Title: "the cgroups user, ptys and socats exist", Stage: StageCreate, Level: LevelCore,
			Why:       "They are where envd puts commands, terminals and forwarders; without them nothing is kept apart.",
			Next:      "see whether envd logged why it made no cgroups, and whether it was started with --no-cgroups",
			Reference: reference, Needs: []evidence.Piece{evidence.PieceSnapshot},
			Inputs: slices.Concat(inputs("fsMagic"), []string{"snapshot/mounts"}),
			judge: judgeGroups(eachGroup("a directory on cgroup2", func(g evidence.Group) (string, bool, error) {
				switch {
				case !g.Exists && g.Error != "":
					return "", false, fmt.Errorf("%s: %s", g.Path, g.Error)
				case !g.Exists:
					return "does not exist", false, nil
				case g.FSMagic == 0:
					return "", false, fmt.Errorf("the file system at %s could not be told: %s", g.Path, g.Error)
				case g.FSMagic != evidence.CGroup2Magic:
					return fmt.Sprintf("exists on file system 0x%x", g.FSMagic), false, nil
				}
				return "exists on cgroup2", true, nil
			})),
		},
		{
			ID: CreateDomain, Title: "the cgroups are domain cgroups", Stage: StageCreate, Level: LevelCore,
			Why:       "A threaded cgroup cannot hold memory limits, and an invalid domain takes no process.",
			Next:      "find what wrote cgroup.type, or enabled a controller on a populated parent of these cgroups",
			Reference: reference, Needs: []evidence.Piece{evidence.PieceSnapshot}, Inputs: inputs("files/cgroup.type"),
			judge: eachGroup("cgroup.type domain, or domain threaded", func(g evidence.Group) (string, bool, error) {
				text, err := textOf(g, "cgroup.type")
				return "cgroup.type " + text, isDomain(text), err
			}),
		},
		{
			ID: CreateThawed, Title: "the cgroups are not frozen", Stage: StageCreate, Level: LevelCore,
			Why:       "Whatever envd starts in a frozen cgroup hangs, and envd with it.",
			Next:      "write 0 into cgroup.freeze of the cgroup and find who froze it; an interrupted pause can",
			Reference: reference, Needs: []evidence.Piece{evidence.PieceSnapshot}, Inputs: inputs("files/cgroup.freeze", "files/cgroup.events"),
			judge: eachGroup("cgroup.freeze 0, frozen 0", func(g evidence.Group) (string, bool, error) {
				freeze, err := textOf(g, "cgroup.freeze")
				if err != nil {
					return "", false, err
				}
				text, err := textOf(g, "cgroup.events")
				if err != nil {
					return "", false, err
				}
				events, err := cgroup2.ParseFlatKeyed(text)
				if err != nil {
					return "", false, fmt.Errorf("%s/cgroup.events: %w", g.Path, err)
				}
				frozen, known := events["frozen"]
				if !known {
					return "", false, fmt.Errorf("%s/cgroup.events does not tell whether it is frozen", g.Path)
				}
				return fmt.Sprintf("cgroup.freeze %s, frozen %d", freeze, frozen), freeze == "0" && frozen == 0, nil
			}),
		},
		{
			ID: CreateLeaf, Title: "the cgroups enable no domain controller below themselves", Stage: StageCreate, Level: LevelCore,
			Why: "A cgroup that enables a domain controller for its children takes no process: every command would fail " +
				"with \"device or resource busy\".",
			Next:      "remove the lines that write cgroup.subtree_control of user, ptys or socats; only the root's is needed",
			Reference: reference + "; No Internal Process Constraint", Needs: []evidence.Piece{evidence.PieceSnapshot},
			Inputs: inputs("files/cgroup.subtree_control"),
			judge: asTooDeep(eachGroup("no domain controller in cgroup.subtree_control", func(g evidence.Group) (string, bool, error) {
				list, err := controllerList(g, "cgroup.subtree_control")
				return "cgroup.subtree_control " + quoted(list), !enablesDomain(list), err
			})),
		},
		{
			ID: CreateStarts, Title: "envd can start a process in its cgroups", Stage: StageCreate, Level: LevelCore,
			Why: "envd starts a process right inside its cgroup and has no other way: where the kernel refuses that, no command and no " +
				"terminal works, while envd's health route goes on answering.",
			Next:      "see what envd answered to a start, and the log",
			Reference: "clone3(2) CLONE_INTO_CGROUP; e2b-dev/infra packages/envd/internal/services/process/handler",
			Needs:     []evidence.Piece{evidence.PieceHealth},
			Helps:     []evidence.Piece{evidence.PiecePlacement},
			Inputs:    []string{"placement/command", "placement/command/process"},
			judge:     judgeStarts,
		},
	}
}

// isDomain tells whether a cgroup of a type holds limits and takes processes. One
// that enables threaded controllers for its children is "domain threaded" while a
// process is in it (Linux kernel/cgroup/cgroup.c, cgroup_is_thread_root).
func isDomain(text string) bool { return text == "domain" || text == "domain threaded" }

// enablesDomain tells whether a domain controller is among those that a group
// enables for its children: all are, but for the threaded ones (Linux
// Documentation/admin-guide/cgroup-v2.rst, Threads), beside which it takes
// processes all the same.
func enablesDomain(list []string) bool {
	return slices.ContainsFunc(list, func(name string) bool { return !has([]string{"cpu", "cpuset", "perf_event", "pids"}, name) })
}

// asTooDeep says what is wrong with controllers that a group enables below
// itself. A group that does not exist enables none.
func asTooDeep(judge func(*subject) Outcome) func(*subject) Outcome {
	return func(c *subject) Outcome {
		o := judge(c)
		found := slices.ContainsFunc(groupNames(), func(name string) bool {
			list, err := controllerList(c.Snapshot.Groups[name], "cgroup.subtree_control")
			return err == nil && enablesDomain(list)
		})
		if o.Result == Fail && found {
			o.Reason = "controllers are enabled one level too deep: a cgroup that enables memory or io for its children takes no process, so that envd can start nothing in it: " + o.Reason
		}
		return o
	}
}

// judgeGroups explains missing groups where envd was told to make none, and looks
// at what lies over those that exist.
func judgeGroups(judge func(*subject) Outcome) func(*subject) Outcome {
	return func(c *subject) Outcome {
		o := judge(c)
		if envd := c.Snapshot.Envd; o.Result == Fail && envd != nil && switchedOff(envd.Process.Cmdline) {
			o.Reason = "cgroups were switched off on purpose: envd was started with --no-cgroups; " + o.Reason
			o.Next = "start envd without --no-cgroups, or waive this template if that is meant"
		}
		if o.Result != Pass {
			return o
		}
		for _, name := range groupNames() {
			group := c.Snapshot.Groups[name].Path
			over, err := mountedOver(c.Snapshot, group)
			switch {
			case err != nil:
				return unproven("%v", err)
			case over != "":
				bad := fail("a mount at "+over, o.Wanted, "another mount lies over %s: what is read there is not of the cgroup that envd's processes are in", group)
				bad.Next = "find what mounts something at " + over + ", such as another line of the init, and take it out"
				return bad
			}
		}
		return o
	}
}

// switchedOff tells whether envd's command line has --no-cgroups, in the forms
// that Go's flags take (e2b-dev/infra e10814cec).
func switchedOff(cmdline []string) bool {
	off := false
	for _, arg := range cmdline {
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && name == "no-cgroups" {
			off = !given || value == "true" || value == "1"
		}
	}
	return off
}

// eachGroup makes a judge out of a look at one group: what it shows, whether
// that is right, or why it cannot be told. All three groups must be right; a
// group that does not exist has nothing right about it.
func eachGroup(wanted string, look func(evidence.Group) (shown string, right bool, err error)) func(*subject) Outcome {
	return func(c *subject) Outcome {
		if c.promise.unknown != "" {
			return unproven("what this envd promises is not known: %s", c.promise.unknown)
		}
		if c.promise.none() {
			return notApplicable("envd %s makes no cgroups", c.Snapshot.Envd.Version)
		}
		var read, wrong []string
		for _, name := range groupNames() {
			group, seen := c.Snapshot.Groups[name]
			if !seen {
				return unproven("the snapshot does not hold the cgroup %s", name)
			}
			if !group.Exists && group.Error == "" {
				read = append(read, name+": does not exist")
				wrong = append(wrong, name+": does not exist")
				continue
			}
			shown, right, err := look(group)
			if err != nil {
				return unproven("%v", err)
			}
			read = append(read, name+": "+shown)
			if !right {
				wrong = append(wrong, name+": "+shown)
			}
		}
		if len(wrong) > 0 {
			return fail(strings.Join(read, "; "), "each: "+wanted, "%s; each should have %s", strings.Join(wrong, "; "), wanted)
		}
		return pass(strings.Join(read, "; "), "each: "+wanted, "right in user, ptys and socats: %s", wanted)
	}
}

// textOf returns an interface file's trimmed text, or why there is none.
func textOf(g evidence.Group, name string) (string, error) {
	f, where := file(g, name)
	if f.Errno != "" {
		return "", fmt.Errorf("%s could not be read (%s)", where, f.Errno)
	}
	return strings.TrimSpace(f.Text), nil
}
