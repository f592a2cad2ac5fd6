package requirement

import (
	"fmt"
	"path"
	"strings"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// The requirements of stage place.
const (
	PlaceCommand    ID = "place.command"
	PlaceChild      ID = "place.child"
	PlaceGrandchild ID = "place.grandchild"
	PlacePTY        ID = "place.pty"
	PlaceForwarder  ID = "place.forwarder"
)

func placeRequirements() []Requirement {
	return []Requirement{
		place(PlaceCommand, LevelCore, "a command", "user", "command", func(p *evidence.Placement) *evidence.Placed { return p.Command }),
		place(PlaceChild, LevelCore, "a command's child", "user", "child", func(p *evidence.Placement) *evidence.Placed { return p.Child }),
		// What daemonises may be taken over by a service manager, which moves it
		// out; the limits bind what envd starts.
		place(PlaceGrandchild, LevelExtended, "a daemonised grandchild", "user", "grandchild", func(p *evidence.Placement) *evidence.Placed { return p.Grandchild }),
		place(PlacePTY, LevelCore, "a terminal", "ptys", "pty", func(p *evidence.Placement) *evidence.Placed { return p.PTY }),
		place(PlaceForwarder, LevelCore, "the port forwarder", "socats", "forwarder", func(p *evidence.Placement) *evidence.Placed { return p.Forwarder }),
	}
}

func place(id ID, level Level, what, group, field string, pick func(*evidence.Placement) *evidence.Placed) Requirement {
	return Requirement{
		ID: id, Title: what + " runs in the cgroup " + group, Stage: StagePlace, Level: level,
		Why:  "Limits on a cgroup bind only the processes in it; right files with the processes elsewhere limit nobody.",
		Next: "see the first failing stage; where all before it hold, compare envd's log and its command line for why it starts processes elsewhere",
		Reference: "e2b-dev/infra c7180fe2c, packages/envd/internal/services/process/handler and internal/port; " +
			"clone3(2) CLONE_INTO_CGROUP; cgroups(7) /proc/PID/cgroup",
		Needs: []evidence.Piece{evidence.PieceSnapshot, evidence.PiecePlacement},
		Inputs: []string{
			"snapshot/envd/version", "snapshot/root/fsMagic", "snapshot/mounts",
			"placement/" + field, "placement/" + field + "/process", "placement/" + field + "/process/cgroup",
		},
		judge: func(c *subject) Outcome { return judgePlace(c, what, group, pick(c.Placement)) },
	}
}

func judgePlace(c *subject, what, group string, placed *evidence.Placed) Outcome {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	if c.promise.none() {
		return notApplicable("envd %s places nothing", c.Snapshot.Envd.Version)
	}
	switch {
	case placed == nil:
		return unproven("%s was not tried", what)
	case placed.Infra:
		return infra("%s could not be started: %s", what, placed.Error)
	case placed.Process == nil:
		return unproven("%s was not seen: %s", what, placed.Error)
	}
	where, err := whereIs(*placed.Process)
	if err != nil {
		return unproven("%v", err)
	}
	read := fmt.Sprintf("/proc/%d/cgroup: 0::%s", placed.Process.PID, where)
	want, err := groupPath(c.Snapshot, group)
	if err != nil {
		return unproven("%v", err)
	}
	wanted := "0::" + want
	if where != want {
		return fail(read, wanted, "%s runs in %s and not in %s, so the limits there do not bind it%s", what, where, want, whyElsewhere(c, group, where))
	}
	if o, unknown := mountUntold(c); unknown {
		return o
	}
	if !onCgroup2(c.Sandbox) {
		return fail(read, wanted, "%s claims %s, and %s is no cgroup2 mount", what, where, c.Snapshot.Root.Path)
	}
	return pass(read, wanted, "%s runs in %s", what, where)
}

// whyElsewhere explains a process in another group than envd's: right files
// with the processes elsewhere are only for show.
func whyElsewhere(c *subject, group, where string) string {
	envd := c.Snapshot.Envd
	own, err := whereIs(envd.Process)
	switch {
	case err != nil || where != own:
		return ""
	case len(envd.Process.CgroupFDs) > 0:
		return fmt.Sprintf("; it is envd's own group, although envd holds %s open", words(envd.Process.CgroupFDs))
	}
	right, promised := 0, 0
	for _, p := range c.promise.sure() {
		if p.Group != group || strings.HasPrefix(p.File, "io.") {
			continue // of another group, or extended
		}
		promised++
		if judgeValue(c, p.Group, p.File).Result.Green() {
			right++
		}
	}
	text := "; it is envd's own group: envd gave its cgroups up when it started, and holds none of them open"
	if promised > 0 && right == promised {
		text = "; right files, processes elsewhere: the values in " + group + " are as promised, and envd, which holds no cgroup open, did not put them there"
	}
	return text
}

// groupPath is a group's path within the v2 hierarchy: the directory that is
// mounted, envd's cgroup root without the mount point above it, and the group's
// name.
func groupPath(s *evidence.Snapshot, group string) (string, error) {
	mount, err := cgroup2.MountAt(s.Mounts, s.Root.Path)
	if err != nil {
		return "", err
	}
	return path.Join("/", mount.Root, strings.TrimPrefix(s.Root.Path, mount.Point), group), nil
}
