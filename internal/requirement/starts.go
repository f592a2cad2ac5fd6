package requirement

import (
	"fmt"
	"strings"

	"sandproof/internal/evidence"
)

// exit127 is how a shell ends that cannot find a program.
const exit127 = "(exit code 127)"

// cause is why envd cannot start any process.
type cause struct {
	// text is a part of what came back.
	text string
	// stage is where the cause lies.
	stage        Stage
	reason, next string
}

// causes are what the kernel and the shell say, and what that means
// (clone3(2); e2b-dev/infra packages/envd/internal/services/process/handler).
var causes = []cause{
	{
		"bad file descriptor", StageMount,
		"every start fails with \"bad file descriptor\": envd clones into directories that are no cgroups, so what lies at its cgroup root is not cgroup2",
		"mount it in the template's init before envd starts: mount -t cgroup2 none /sys/fs/cgroup",
	},
	{
		"device or resource busy", StageCreate,
		"every start fails with \"device or resource busy\": a domain controller is enabled in the cgroup's own cgroup.subtree_control, one level too deep, " +
			"and such a cgroup takes no process",
		"remove the lines that write cgroup.subtree_control of user, ptys or socats; only the root's is needed",
	},
	{
		"operation not supported", StageCreate,
		"every start fails with \"operation not supported\": the cgroup is an invalid domain, since a parent or a sibling was made threaded",
		"find what wrote cgroup.type, or enabled a controller on a populated parent of these cgroups",
	},
	{
		exit127, StageCreate,
		"every command ends with exit code 127: envd starts commands through /bin/sh with /usr/bin/nice, and since f4bd1b24b with /usr/bin/ionice, " +
			"and the image lacks one of them",
		"install coreutils and util-linux (nice and ionice) into the image, or use an envd that leaves them out where they are missing (1abece199, surely 0.6.13)",
	},
	{
		"no such file or directory", StageCreate,
		"every start fails with \"no such file or directory\": the cgroup that envd had opened was removed, or /bin/sh is not in the image",
		"find what removes empty cgroups, and see that the image has /bin/sh",
	},
}

// startCause finds in the failed starts why there are none: in the problems of
// what runs in the guest, which are the guest's own and not the way's. It
// returns nil where no start failed, or none says why.
func startCause(s *evidence.Sandbox) (found *cause, said string) {
	for _, said := range failedStarts(s) {
		for i := range causes {
			if strings.Contains(said, causes[i].text) {
				return &causes[i], said
			}
		}
	}
	return nil, ""
}

// failedStarts are what came back where an ordinary command was to be started;
// an upload starts nothing.
func failedStarts(s *evidence.Sandbox) []string {
	var texts []string
	for _, p := range s.Problems {
		if p.Kind == evidence.ProblemGuest && (p.Piece == evidence.PieceSnapshot || p.Piece == evidence.PiecePlacement) &&
			!strings.HasPrefix(p.Call, "upload ") {
			texts = append(texts, fmt.Sprintf("%s: %s", p.Call, p.Error))
		}
	}
	if s.Placement != nil && s.Placement.Command != nil && s.Placement.Command.Process == nil && !s.Placement.Command.Infra {
		texts = append(texts, s.Placement.Command.Error)
	}
	return texts
}

func judgeStarts(c *subject) Outcome {
	if c.Placement != nil && c.Placement.Command != nil && c.Placement.Command.Process != nil {
		p := c.Placement.Command.Process
		return pass(fmt.Sprintf("PID %d", p.PID), "a process that starts", "a command was started and reported itself")
	}
	if cause, said := startCause(c.Sandbox); cause != nil {
		if cause.text == exit127 && (c.promise.has(changeWrapper) == absent || c.promise.has(changeLookPath) == there) {
			return fail(said, "a process that starts", "every command ends with exit code 127, and envd %s needs neither nice nor ionice: "+
				"the image has no /bin/sh, or the probe could not be executed where it was put", c.promise.version)
		}
		o := fail(said, "a process that starts", "%s", cause.reason)
		o.Next = cause.next
		return o
	}
	if c.Placement == nil {
		return missing(c.Sandbox, evidence.PiecePlacement)
	}
	if c.Placement.Command != nil && c.Placement.Command.Infra {
		return infra("a command could not be started: %s", c.Placement.Command.Error)
	}
	if c.Placement.Command == nil {
		return unproven("no command was started")
	}
	return unproven("a command was started and did not report itself: %s", c.Placement.Command.Error)
}
