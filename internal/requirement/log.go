package requirement

import (
	"fmt"
	"slices"
	"strings"

	"sandproof/internal/evidence"
)

// The requirements of stage log.
const (
	LogNoFailure  ID = "log.no-failure"
	LogNoFallback ID = "log.no-fallback"
)

// FallbackRule is the log rule of the line with which envd gives up its
// cgroups; every other failure rule is a cause or a loss of single limits.
const FallbackRule = "CG003"

func logRequirements() []Requirement {
	needs := []evidence.Piece{evidence.PieceAPI}
	// The snapshot tells what silence means, and whether this boot could be in
	// the log at all; lines that are there speak for themselves.
	helps := []evidence.Piece{evidence.PieceSnapshot, evidence.PieceLog}
	const reference = "e2b-dev/infra packages/envd/main.go, createCgroupManager: raw lines on standard error, silent on success"
	return []Requirement{
		{
			ID: LogNoFailure, Title: "the log holds no cgroup failure", Stage: StageLog, Level: LevelCore,
			Why:       "envd says on its standard error what it could not set up, and nothing else tells it from outside the guest.",
			Next:      "read the findings with their file and offset in the evidence; see the first failing stage for the mend",
			Reference: reference, Needs: needs, Helps: helps,
			judge: func(c *subject) Outcome {
				return judgeLog(c, "a cgroup failure", func(f evidence.Finding) bool { return f.Rule != FallbackRule })
			},
		},
		{
			ID: LogNoFallback, Title: "the log holds no fallback to the no-op manager", Stage: StageLog, Level: LevelCore,
			Why:       "After this line envd starts every process without any limit.",
			Next:      "read the lines before it, which say why; see the first failing stage for the mend",
			Reference: reference, Needs: needs, Helps: helps,
			judge: func(c *subject) Outcome {
				return judgeLog(c, "the fallback to the no-op cgroup manager", func(f evidence.Finding) bool { return f.Rule == FallbackRule })
			},
		},
	}
}

// judgeLog looks for failures that are surely this sandbox's. Their absence
// counts only when the channel is shown to be alive from envd's standard
// error to the file: the boot lines came out, the read has no hole, and
// envd's descriptor 2 is the console whose lines were read.
func judgeLog(c *subject, what string, ours func(evidence.Finding) bool) Outcome {
	if c.Log == nil {
		if c.Snapshot != nil {
			if resumed, why := resumedBefore(c.Sandbox); resumed {
				return notApplicable("resumed: %s, so envd's start-up lines were printed before this sandbox was created", why)
			}
		}
		return missing(c.Sandbox, evidence.PieceLog)
	}
	var hits, doubtful, controls []evidence.Finding
	for _, f := range c.Log.Findings {
		sure := f.Confidence == evidence.ByField || f.Confidence == evidence.ByOrigin
		switch {
		case f.Class == evidence.FindingFailure && !ours(f):
		case f.Class == evidence.FindingFailure && sure:
			hits = append(hits, f)
		case f.Class == evidence.FindingFailure, f.Class == evidence.FindingUnknown:
			doubtful = append(doubtful, f)
		case f.Class == evidence.FindingControl && sure:
			controls = append(controls, f)
		}
	}
	if len(hits) > 0 {
		return fail(sample(hits), "no such line", "the orchestrator's log holds %s of this sandbox (%s)", what, count(len(hits), "line"))
	}
	if c.Snapshot == nil {
		return missing(c.Sandbox, evidence.PieceSnapshot)
	}
	if c.promise.none() {
		return notApplicable("envd %s has no cgroup code and says nothing about it", c.Snapshot.Envd.Version)
	}
	if resumed, why := resumedBefore(c.Sandbox); resumed {
		return notApplicable("resumed: %s, so envd's start-up lines were printed before this sandbox was created", why)
	}
	switch {
	case len(c.Log.Coverage) == 0:
		return unproven("no log file was read, so silence proves nothing")
	case len(c.Log.Holes) > 0:
		return unproven("the log window was not read whole: %s", strings.Join(c.Log.Holes, "; "))
	case len(doubtful) > 0:
		return unproven("a line speaks of cgroup trouble and cannot be placed: %s", sample(doubtful))
	case len(controls) == 0:
		return unproven("the log window holds no boot line of this sandbox, so its console may not reach this log at all")
	case !c.Log.Settled:
		return unproven("the log was not quiet before the wait for it ended, so the window may be short of its last lines")
	}
	stderr := c.Snapshot.Envd
	if stderr == nil {
		return unproven("the running envd was not found, so it is open whether its standard error reaches the log")
	}
	if target := stderr.Process.Stderr; target == "" {
		return unproven("where envd's standard error goes could not be read, so it is open whether it reaches the log")
	} else if !isConsole(target) || target != c.Snapshot.Init.Stderr {
		o := unproven("envd's standard error goes to %s and not to the console that carries the init's own lines into this log, "+
			"so it could not have complained here", target)
		o.Mute = true
		return o
	}
	return pass(fmt.Sprintf("%s of this sandbox, boot lines among them: %s", count(c.Log.OwnRecords, "record"), rules(controls)),
		"no such line, with the channel shown to be alive", "the log carried this boot and holds no trace of %s", what)
}

// resumedBefore tells whether the guest had booted before the sandbox was
// asked for: E2B resumes most sandboxes from a snapshot. It compares the
// guest's uptime with the time that passed on the harness's own clock, since
// the guest's clock may be set wrong.
func resumedBefore(s *evidence.Sandbox) (bool, string) {
	const slack = 2.0 // seconds; clocks of guest and host run apart a little
	elapsed := s.Snapshot.Received.Sub(s.API.Requested).Seconds()
	if s.Snapshot.Received.IsZero() || s.Snapshot.Boot.UptimeSeconds <= elapsed+slack {
		return false, ""
	}
	return true, fmt.Sprintf("the guest has been up for %.0f s and the sandbox was asked for %.0f s ago", s.Snapshot.Boot.UptimeSeconds, elapsed)
}

// isConsole tells whether a descriptor's target is a console device, whose
// lines reach the orchestrator's log when the boot lines do.
func isConsole(target string) bool {
	return slices.Contains([]string{"/dev/ttyS0", "/dev/console", "/dev/hvc0", "/dev/ttyAMA0"}, target)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sample shows the first finding whole, and how many there are.
func sample(findings []evidence.Finding) string {
	text := fmt.Sprintf("%s at %s:%d: %q", findings[0].Rule, findings[0].Source, findings[0].Offset, findings[0].Message)
	if len(findings) > 1 {
		text += fmt.Sprintf(" and %d more", len(findings)-1)
	}
	return text
}

// rules lists the distinct rules of findings.
func rules(findings []evidence.Finding) string {
	var ids []string
	for _, f := range findings {
		if !slices.Contains(ids, f.Rule) {
			ids = append(ids, f.Rule)
		}
	}
	return strings.Join(ids, ", ")
}
