package requirement

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"sandproof/internal/evidence"
)

// The requirements of stage boot.
const (
	BootEnvdAnswers ID = "boot.envd-answers"
	BootIdentity    ID = "boot.identity"
	BootEnvdKnown   ID = "boot.envd-known"
)

func bootRequirements() []Requirement {
	return []Requirement{
		{
			ID: BootEnvdAnswers, Title: "envd answers", Stage: StageBoot, Level: LevelCore,
			Why:       "A guest whose envd does not answer cannot be used, and nothing else about it can be seen.",
			Next:      "read the guest's console in the run's artifacts; boot the image by itself and watch /sbin/init",
			Reference: "e2b-dev/infra packages/envd/spec/envd.yaml, GET /health",
			Needs:     []evidence.Piece{evidence.PieceAPI, evidence.PieceHealth},
			Inputs:    []string{"health/status"},
			judge:     judgeEnvdAnswers,
		},
		{
			ID: BootIdentity, Title: "this boot and its init are identified", Stage: StageBoot, Level: LevelExtended,
			Why: "Whether a patch can be in force depends on whether this guest booted for this sandbox or was resumed, " +
				"and on which init its PID 1 runs; both are compared between nodes and runs.",
			Next:      "look at the snapshot's errors for what the probe could not read",
			Reference: "proc_uptime(5), proc_stat(5) btime, Linux Documentation/admin-guide/sysctl/kernel.rst boot_id",
			Needs:     []evidence.Piece{evidence.PieceAPI, evidence.PieceSnapshot},
			Inputs: []string{
				"snapshot/boot/id", "snapshot/boot/uptimeSeconds", "snapshot/boot/bootTime", "snapshot/received", "api/requested",
				"snapshot/initProgram", "snapshot/initProgram/sha256",
			},
			judge: judgeIdentity,
		},
		{
			ID: BootEnvdKnown, Title: "the running envd is of a known generation", Stage: StageBoot, Level: LevelCore,
			Why:       "What is right depends on the envd that runs, which the API's record does not tell.",
			Next:      "use a newer sandproof, or add what was read as a row to its table of generations",
			Reference: "e2b-dev/infra packages/envd/main.go, pkg/version.go",
			Needs:     []evidence.Piece{evidence.PieceSnapshot},
			Inputs:    []string{"snapshot/envd", "snapshot/envd/version"},
			judge:     judgeEnvdKnown,
		},
	}
}

func judgeEnvdAnswers(c *subject) Outcome {
	read, wanted := fmt.Sprintf("GET /health: %d", c.Health.Status), "GET /health: 204"
	if c.Health.Status != http.StatusNoContent {
		return fail(read, wanted, "envd answers its health route with %d", c.Health.Status)
	}
	return pass(read, wanted, "envd answered %.1f s after the sandbox was created", float64(c.Health.AfterMS)/1000)
}

// bootSign is what a guest that does not come up says on its console, and what
// that means.
type bootSign struct{ text, reason, next string }

const readConsole = "read the last lines of the guest's console: what the init says there, or does not say any more, is where it stopped"

// bootSigns are in the order in which they explain: what the lab's initramfs
// says before the image's own init runs, the kernel's panics with the exit
// status of PID 1 (wait(2), in hexadecimal), and an envd that never came.
var bootSigns = []bootSign{
	{
		"sandproof-initramfs: cannot mount the root file system", "the kernel cannot mount the image as ext4",
		"look at the image with e2fsck -fn, and at the console for the feature or the error that the kernel names",
	},
	{
		"sandproof-initramfs: the image has no executable /sbin/init", "the image has no executable /sbin/init",
		"give the image a /sbin/init that belongs to root and has mode 0755",
	},
	{
		"switch_root: can't execute '/sbin/init'", "the image's /sbin/init cannot be executed: its link leads nowhere, or the interpreter in its first line is missing",
		"give the image a /sbin/init that belongs to root, has mode 0755, and whose interpreter is in the image",
	},
	{
		"Attempted to kill init! exitcode=0x00007f00", "the image's init ended with status 127: it executed a program that is not in the image",
		"let the init go on when a program is missing, and end in a loop; " + readConsole,
	},
	{
		"Attempted to kill init! exitcode=", "the image's init ended, and a kernel without PID 1 panics",
		"an init must never end: under set -e the first command that fails ends it, such as one write to cgroup.subtree_control with a controller that the kernel does not offer; " + readConsole,
	},
	{"Kernel panic - ", "the kernel panicked", readConsole},
	{
		"envd did not answer within", "nothing in the guest answers on envd's port",
		"see that the init reaches the line that starts envd, and that this program is in the image and can be executed; " + readConsole +
			"; systemd says more with the kernel argument systemd.journald.forward_to_console=1; where the host was too busy for a boot within that time, run it again alone",
	},
	{"initialise envd: ", "the guest's envd answers its health route, and refuses to be initialised", "see that the program is the envd that it should be; " + readConsole},
}

// bootProblem is why a guest did not come up, or went down before its envd was
// seen; nil where nobody who knows said so.
func bootProblem(s *evidence.Sandbox) *evidence.Problem {
	for _, piece := range []evidence.Piece{evidence.PieceAPI, evidence.PieceHealth} {
		if p := s.ProblemOf(piece); p != nil && p.Kind == evidence.ProblemBoot {
			return p
		}
	}
	return nil
}

// judgeBoot judges a guest that did not come up, by what its server and its
// console said.
func judgeBoot(p *evidence.Problem) Outcome {
	first, _, _ := strings.Cut(p.Error, "\n")
	sign := bootSign{reason: first, next: readConsole}
	for _, s := range bootSigns {
		if strings.Contains(p.Error, s.text) {
			sign = s
			break
		}
	}
	o := fail(p.Error, "GET /health: 204", "the template's guest does not come up: %s", sign.reason)
	if line := lineWith(p.Error, "Kernel panic - "); line != "" {
		o.Reason += fmt.Sprintf(" (%s)", line)
	}
	o.Next = sign.next
	return o
}

// lineWith returns the last line of a text from where a part of it begins.
func lineWith(text, part string) string {
	at := strings.LastIndex(text, part)
	if at < 0 {
		return ""
	}
	line, _, _ := strings.Cut(text[at:], "\n")
	return strings.TrimSpace(line)
}

func judgeIdentity(c *subject) Outcome {
	boot, init := c.Snapshot.Boot, c.Snapshot.InitProgram
	switch {
	case boot.ID == "" || boot.BootTime.IsZero():
		return unproven("the guest's boot ID or boot time was not read: %s", c.Snapshot.Errors["boot"])
	case init == nil || init.SHA256 == "":
		return unproven("the program of PID 1 was not read: %s", c.Snapshot.Errors["init program"])
	}
	resumed, why, err := c.Sandbox.ResumedBefore()
	if err != nil {
		return unproven("%v", err)
	}
	how := fmt.Sprintf("a cold boot, up for %.1f s when it was looked at", boot.UptimeSeconds)
	if resumed {
		how = "resumed from a snapshot: " + why
	}
	read := fmt.Sprintf("boot %s at %s; %s with SHA-256 %s", boot.ID, boot.BootTime.Format(time.RFC3339), init.Path, init.SHA256)
	if c.API.NodeID != "" {
		read += "; node " + c.API.NodeID
	}
	return pass(read, "boot ID, boot time, uptime and init program", "%s", how)
}

func judgeEnvdKnown(c *subject) Outcome {
	if c.promise.unknown != "" {
		o := unproven("%s", c.promise.unknown)
		if c.Snapshot.Envd != nil {
			o.Read = learn(c.Snapshot)
		}
		return o
	}
	envd := c.Snapshot.Envd
	read := "envd " + envd.Version
	if envd.Commit != "" {
		read += ", commit " + envd.Commit
	}
	wanted := "a version that the generation table knows"
	if c.promise.none() {
		return notApplicable("envd %s has no cgroup code: no version before 0.4.3 sets any limit", envd.Version)
	}
	o := pass(read, wanted, "envd %s is generation %s", envd.Version, c.promise.name())
	if len(c.promise.generations) > 1 {
		o.Reason = fmt.Sprintf("envd %s may be generation %s: its version string did not change with its behaviour, "+
			"and its commit is not in the table, so both are accepted", envd.Version, c.promise.name())
	}
	if c.API != nil && c.API.EnvdVersion != "" && strings.TrimPrefix(c.API.EnvdVersion, "v") != strings.TrimPrefix(envd.Version, "v") {
		o = o.advise("the API says envd %s and the guest runs envd %s; what runs was judged", c.API.EnvdVersion, envd.Version)
	}
	return o
}
