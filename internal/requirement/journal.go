package requirement

import (
	"fmt"
	"regexp"
	"strings"

	"sandproof/internal/evidence"
)

// skipLine is envd's line about a limit that it leaves out (f4bd1b24b).
var skipLine = regexp.MustCompile(`^cgroup property "([^"]+)" unavailable at "`)

// journalLosses splits envd's own lines about cgroups in those about IO
// weights alone and all others. Every line that envd prints about cgroups is a
// complaint: on success it says nothing.
func journalLosses(lines []string) (io, others []string) {
	for _, line := range lines {
		if m := skipLine.FindStringSubmatch(line); m != nil && strings.HasPrefix(m[1], "io.") {
			io = append(io, line)
			continue
		}
		others = append(others, line)
	}
	return io, others
}

// liveJournal returns the journal where it is shown to keep what envd says.
func liveJournal(s *evidence.Sandbox) *evidence.Journal {
	if s.Snapshot == nil || s.Snapshot.Envd == nil || s.Snapshot.Envd.Journal == nil {
		return nil
	}
	if j := s.Snapshot.Envd.Journal; j.Error == "" && j.Control != "" {
		return j
	}
	return nil
}

func judgeJournal(c *subject) Outcome {
	envd := c.Snapshot.Envd
	switch {
	case c.promise.unknown != "":
		return unproven("what this envd says when its cgroups fail is not known: %s", c.promise.unknown)
	case c.promise.none():
		return notApplicable("envd %s has no cgroup code and says nothing about it", envd.Version)
	case envd.Journal == nil:
		return notApplicable("envd's standard error goes to %q and not to a journal", envd.Process.Stderr)
	}
	j := envd.Journal
	_, others := journalLosses(j.Lines)
	if len(others) > 0 {
		return fail(fmt.Sprintf("%q", others[0]), "no such line", "the guest's journal holds what envd said of its cgroups (%s)", count(len(others), "line"))
	}
	switch {
	case j.Error != "":
		o := unproven("the guest's journal, to which envd's standard error goes, could not be read: %s", j.Error)
		o.Mute = true
		return o
	case j.Control == "":
		o := unproven("the guest's journal holds not even systemd's own line about envd in this boot, so it keeps nothing of the kind")
		o.Mute = true
		return o
	}
	return pass(fmt.Sprintf("%q, and nothing about cgroups", j.Control), "no such line, with the journal shown to be alive",
		"the guest's journal keeps this boot, and envd said nothing of cgroups")
}
