package requirement

import (
	"fmt"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// MountCgroup2 is the requirement of stage mount.
const MountCgroup2 ID = "mount.cgroup2"

func mountRequirements() []Requirement {
	return []Requirement{{
		ID: MountCgroup2, Title: "cgroup2 is really mounted where envd looks", Stage: StageMount, Level: LevelCore,
		Why:       "On any other file system the files can be made and read back, and limit nothing.",
		Next:      "mount it in the template's init before envd starts: mount -t cgroup2 none /sys/fs/cgroup",
		Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, Mounting; statfs(2); e2b-dev/infra 452097909",
		Needs:     []evidence.Piece{evidence.PieceHealth},
		Helps:     []evidence.Piece{evidence.PieceSnapshot},
		Inputs:    []string{"snapshot/root/fsMagic", "snapshot/mounts"},
		judge:     judgeMount,
	}}
}

// magicNames are the file systems that stand where cgroup2 should, by their
// magic number in linux/magic.h.
var magicNames = map[uint64]string{
	evidence.CGroup2Magic: "cgroup2",
	0x27e0eb:              "cgroup (version 1)",
	0x01021994:            "tmpfs",
	0x62656572:            "sysfs",
	0xef53:                "ext4",
}

func judgeMount(c *subject) Outcome {
	if c.Snapshot == nil {
		// What envd says of a start that failed may be all there is.
		if cause, said := startCause(c.Sandbox); cause != nil && cause.stage == StageMount {
			return fail(said, "a process that starts", "%s", cause.reason)
		}
		return missing(c.Sandbox, evidence.PieceSnapshot)
	}
	if o, unknown := mountUntold(c); unknown {
		return o
	}
	root := c.Snapshot.Root
	if notThere(root) {
		return fail("no directory "+root.Path, "a cgroup2 mount, writable", "there is no such directory as %s, where envd makes its cgroups; %s", root.Path, whyNotMounted(c.Snapshot))
	}
	name, known := magicNames[root.FSMagic]
	if !known {
		name = "an unknown file system"
	}
	read := fmt.Sprintf("statfs %s: 0x%x (%s)", root.Path, root.FSMagic, name)
	wanted := fmt.Sprintf("0x%x (cgroup2), writable", uint64(evidence.CGroup2Magic))
	if !onCgroup2(c.Sandbox) {
		o := fail(read, wanted, "%s, where envd makes its cgroups, is %s and not cgroup2; %s", root.Path, name, whyNotMounted(c.Snapshot))
		if len(versionOne(c.Snapshot.Mounts)) > 0 {
			o.Next = "let the guest use the unified hierarchy alone: systemd.unified_cgroup_hierarchy=1 or cgroup_no_v1=all on its kernel command line"
		}
		return o
	}
	mount, err := cgroup2.MountAt(c.Snapshot.Mounts, root.Path)
	if err != nil {
		return unproven("%v", err)
	}
	if mount.ReadOnly() {
		return fail(read+", read-only", wanted, "the cgroup2 mount at %s is read-only, so envd can make nothing in it", root.Path)
	}
	o := pass(read, wanted, "%s is a writable cgroup2 mount", root.Path)
	if others := otherTrees(c.Snapshot.Mounts, root.Path); len(others) > 0 {
		o = o.advise("there is another cgroup2 mount at %s; what was judged is the tree that the running envd uses, %s", words(others), root.Path)
	}
	return o
}

// withoutMount ends a judgement that needs a cgroup2 mount where there is
// none, which is for stage mount to say.
func withoutMount(c *subject) (Outcome, bool) {
	if o, unknown := mountUntold(c); unknown {
		return o, true
	}
	if !onCgroup2(c.Sandbox) {
		return notApplicable("there is no cgroup2 mount at %s", c.Snapshot.Root.Path), true
	}
	return Outcome{}, false
}

// mountUntold ends a judgement that needs to know the file system of envd's cgroup
// root where that could not be told. A directory that is not there has none.
func mountUntold(c *subject) (Outcome, bool) {
	root := c.Snapshot.Root
	if root.FSMagic == 0 && !notThere(root) {
		return unproven("the file system at %s could not be told: %s", root.Path, root.Error), true
	}
	return Outcome{}, false
}

// notThere tells whether a directory was looked for and is not there.
func notThere(g evidence.Group) bool { return g.Path != "" && !g.Exists && g.Error == "" }

// whyNotMounted says what the guest shows of the reason.
func whyNotMounted(s *evidence.Snapshot) string {
	if v1 := versionOne(s.Mounts); len(v1) > 0 {
		return "the guest uses cgroup version 1, mounted at " + words(v1)
	}
	if s.InitProgram != nil && len(s.InitProgram.Steps) > 0 {
		for _, step := range s.InitProgram.Steps {
			if step.Kind == evidence.StepMount {
				return fmt.Sprintf("%s mounts it in line %d, and the mount failed, was never reached, or something was mounted over it",
					s.InitProgram.Path, step.Line)
			}
		}
		return s.InitProgram.Path + " never mounts it"
	}
	return "nothing mounted it there"
}

// versionOne lists where version 1 hierarchies are mounted.
func versionOne(lines []string) []string {
	return mountPoints(lines, func(m cgroup2.Mount) bool { return m.Type == "cgroup" })
}

// otherTrees lists the cgroup2 mounts that do not cover a path.
func otherTrees(lines []string, path string) []string {
	return mountPoints(lines, func(m cgroup2.Mount) bool { return m.Type == "cgroup2" && !m.Covers(path) })
}

func mountPoints(lines []string, pick func(cgroup2.Mount) bool) []string {
	var points []string
	for _, line := range lines {
		if m, err := cgroup2.ParseMount(line); err == nil && pick(m) {
			points = append(points, m.Point)
		}
	}
	return points
}

// mountedOver is where another mount lies over a path below envd's cgroup root,
// which hides the tree that its processes are in; empty where none does.
func mountedOver(s *evidence.Snapshot, below string) (string, error) {
	root, err := cgroup2.MountAt(s.Mounts, s.Root.Path)
	if err != nil {
		return "", err
	}
	seen, err := cgroup2.MountAt(s.Mounts, below)
	if err != nil || seen.Point == root.Point {
		return "", err
	}
	return seen.Point, nil
}
