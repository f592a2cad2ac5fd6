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

// whereIs returns the v2 path of a process, "/user".
func whereIs(p evidence.Process) (string, error) {
	where, err := cgroup2.ParseProcCgroup(p.Cgroup)
	if err != nil {
		return "", fmt.Errorf("/proc/%d/cgroup: %w", p.PID, err)
	}
	return where, nil
}

func has(list []string, name string) bool { return slices.Contains(list, name) }
