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
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
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
	root := c.Snapshot.Root
	if root.FSMagic == 0 {
		return unproven("the file system at %s could not be told: %s", root.Path, root.Error)
	}
	name, known := magicNames[root.FSMagic]
	if !known {
		name = "an unknown file system"
	}
	read := fmt.Sprintf("statfs %s: 0x%x (%s)", root.Path, root.FSMagic, name)
	wanted := fmt.Sprintf("0x%x (cgroup2), writable", uint64(evidence.CGroup2Magic))
	if !onCgroup2(c.Sandbox) {
		return fail(read, wanted, "%s, where envd makes its cgroups, is %s and not cgroup2", root.Path, name)
	}
	mount, err := mountAt(c.Snapshot.Mounts, root.Path)
	if err != nil {
		return unproven("%v", err)
	}
	if mount.ReadOnly() {
		return fail(read+", read-only", wanted, "the cgroup2 mount at %s is read-only, so envd can make nothing in it", root.Path)
	}
	return pass(read, wanted, "%s is a writable cgroup2 mount", root.Path)
}

// mountAt finds the mount that is seen at a path: the last one whose mount
// point is the path or the nearest directory above it.
func mountAt(lines []string, path string) (cgroup2.Mount, error) {
	var found cgroup2.Mount
	for _, line := range lines {
		mount, err := cgroup2.ParseMount(line)
		if err != nil {
			return cgroup2.Mount{}, fmt.Errorf("/proc/self/mountinfo: %w", err)
		}
		if mount.Covers(path) && len(mount.Point) >= len(found.Point) {
			found = mount
		}
	}
	if found.Point == "" {
		return cgroup2.Mount{}, fmt.Errorf("no mount covers %s in the guest's mountinfo", path)
	}
	return found, nil
}
