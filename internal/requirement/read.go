package requirement

import (
	"fmt"
	"path"
	"slices"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// groupNames are the three cgroups that envd makes, in the order of its code.
func groupNames() []string { return []string{"user", "ptys", "socats"} }

// onCgroup2 tells whether the directory that this envd uses is a cgroup2
// mount. Its magic number decides: on any other file system the right numbers
// prove nothing.
func onCgroup2(s *evidence.Sandbox) bool {
	return s.Snapshot.Root.FSMagic == evidence.CGroup2Magic
}

// file returns an interface file of a group and how to name it for people.
func file(g evidence.Group, name string) (evidence.File, string) {
	f, ok := g.Files[name]
	if !ok {
		f = evidence.File{Errno: "not looked at"}
	}
	return f, path.Join(g.Path, name)
}

// enabled returns the controllers in the root's cgroup.subtree_control.
func enabled(s *evidence.Sandbox) ([]string, error) {
	return controllerList(s.Snapshot.Root, "cgroup.subtree_control")
}

// offered returns the controllers in the root's cgroup.controllers.
func offered(s *evidence.Sandbox) ([]string, error) {
	return controllerList(s.Snapshot.Root, "cgroup.controllers")
}

func controllerList(g evidence.Group, name string) ([]string, error) {
	f, where := file(g, name)
	if f.Errno != "" {
		return nil, fmt.Errorf("%s could not be read (%s)", where, f.Errno)
	}
	list, err := cgroup2.ParseControllers(f.Text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return list, nil
}

// weakest finds the group above another that protects the least memory, in
// bytes, and shows it; it is empty where all of them protect as much as is
// wanted. A group directly below the root of the hierarchy has none above it.
func weakest(s *evidence.Snapshot, group evidence.Group, property string, want uint64) (read string, err error) {
	mount, err := cgroup2.MountAt(s.Mounts, group.Path)
	if err != nil {
		return "", err
	}
	if mount.Root != "/" {
		return "", fmt.Errorf("only the part %q of the hierarchy is mounted at %q", mount.Root, mount.Point)
	}
	least := want
	for dir := path.Dir(group.Path); len(dir) > len(mount.Point); dir = path.Dir(dir) {
		n := slices.IndexFunc(group.Above, func(a evidence.Ancestor) bool { return a.Path == dir })
		if n < 0 {
			return "", fmt.Errorf("%s was not read", path.Join(dir, property))
		}
		text, err := textOf(evidence.Group{Path: dir, Files: group.Above[n].Files}, property)
		if err != nil {
			return "", err
		}
		v, err := cgroup2.ParseValue(text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path.Join(dir, property), err)
		}
		if !v.Max && v.Number < least {
			least, read = v.Number, fmt.Sprintf("%s reads %d", path.Join(dir, property), v.Number)
		}
	}
	return read, nil
}

// judgeReach ends the judgement of a protection that a group has: one that
// those above it do not have as well is set, and does not act.
func judgeReach(s *evidence.Snapshot, group evidence.Group, property string, want uint64, good Outcome) Outcome {
	above, err := weakest(s, group, property, want)
	switch {
	case err != nil:
		return unproven("%v, so it is open whether the %s of %s acts: no group is protected further than those above it", err, property, group.Path)
	case above != "":
		return Outcome{
			Result: Inert, Read: good.Read + "; " + above, Wanted: good.Wanted,
			Reason: "the value is set, and " + above + ": no group is protected further than those above it",
		}
	}
	return good
}

// whereIs returns the v2 path of a process, "/user".
func whereIs(p evidence.Process) (string, error) {
	where, err := cgroup2.ParseProcCgroup(p.Cgroup)
	if err != nil {
		return "", fmt.Errorf("/proc/%d/cgroup: %w", p.PID, err)
	}
	return where, nil
}

func has(list []string, name string) bool { return slices.Contains(list, name) }
