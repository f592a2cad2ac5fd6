package requirement

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"sandproof/internal/evidence"
)

// skipLine is envd's line about a limit that it leaves out (f4bd1b24b).
var skipLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^cgroup property "([^"]+)" unavailable at "`) })

// journalLosses splits envd's own lines about cgroups in those about IO
// weights alone and all others. Every line that envd prints about cgroups is a
// complaint: on success it says nothing.
func journalLosses(lines []string) (io, others []string) {
	for _, line := range lines {
		if m := skipLine().FindStringSubmatch(line); m != nil && strings.HasPrefix(m[1], "io.") {
			io = append(io, line)
			continue
		}
		others = append(others, line)
	}
	return io, others
}

// kept is what the guest itself keeps of what envd says: systemd's journal, or
// a file to which envd's standard error goes.
type kept struct {
	name string
	// lines are the running envd's about cgroups, doubtful those that may be
	// another one's.
	lines, doubtful []string
	// control is what shows that such lines are kept.
	control string
	// mute is why silence proves nothing here; empty where it does.
	mute string
}

// live tells whether it is shown to keep what envd says.
func (k *kept) live() bool { return k != nil && k.mute == "" }

// speaks tells whether it says anything of the running envd: by a line, or by
// a silence that counts.
func (k *kept) speaks() bool { return k.live() || k != nil && len(k.lines) > 0 }

// keptOf returns what the guest keeps; nil where that is nothing.
func keptOf(s *evidence.Sandbox) *kept {
	if s.Snapshot == nil || s.Snapshot.Envd == nil {
		return nil
	}
	if j := s.Snapshot.Envd.Journal; j != nil {
		return keptInJournal(j)
	}
	if l := s.Snapshot.Envd.LogFile; l != nil {
		return keptInFile(l)
	}
	return nil
}

func keptInJournal(j *evidence.Journal) *kept {
	k := &kept{name: "the guest's journal", lines: j.Lines, control: fmt.Sprintf("%q", j.Control)}
	switch {
	case j.Error != "":
		k.mute = "the guest's journal, to which envd's standard error goes, could not be read: " + j.Error
	case j.Control == "":
		k.mute = "the guest's journal holds not even systemd's own line about envd in this boot, so it keeps nothing of the kind"
	}
	return k
}

// keptInFile knows that a file's silence counts only where the part that this
// envd wrote is known: it wrote nothing at all, or everything before its
// position went through one descriptor.
func keptInFile(l *evidence.LogFile) *kept {
	k := &kept{name: fmt.Sprintf("the guest's file %q", l.Path), lines: l.Lines, doubtful: l.Doubtful}
	switch {
	case l.Error != "":
		k.mute = fmt.Sprintf("%s, to which envd's standard error goes, could not be read as it must be: %s", k.name, l.Error)
		return k
	case l.Control == "":
		k.mute = fmt.Sprintf("whether %s, to which envd's standard error goes, takes any line was not shown", k.name)
		return k
	case l.Position == nil || l.Mode == "":
		k.mute = fmt.Sprintf("how far envd has written in %s was not read, so that its lines cannot be told from an older envd's", k.name)
		return k
	}
	k.control = fmt.Sprintf("%q, and envd's descriptor at byte %d (%s)", l.Control, *l.Position, l.Mode)
	switch {
	case *l.Position == 0:
		// Nothing was ever written through this descriptor.
		k.doubtful = nil
	case len(l.Doubtful) > 0:
		k.mute = fmt.Sprintf("%s holds what an envd said of its cgroups, and %s: %q", k.name, whose(l), l.Doubtful[len(l.Doubtful)-1])
	case l.Mode == evidence.LogFileAppended:
		k.mute = fmt.Sprintf("in %s %s", k.name, whose(l))
	}
	return k
}

// whose says why a file's lines cannot be given to the running envd.
func whose(l *evidence.LogFile) string {
	if len(l.Holders) > 0 {
		return fmt.Sprintf("process %d above envd has the file open, too, so that it may be an earlier envd's", l.Holders[0])
	}
	return "envd appends to what stood there before, so that nothing tells where its own lines begin"
}

func judgeKept(c *subject) Outcome {
	envd := c.Snapshot.Envd
	switch {
	case c.promise.unknown != "":
		return unproven("what this envd says when its cgroups fail is not known: %s", c.promise.unknown)
	case c.promise.none():
		return notApplicable("envd %s has no cgroup code and says nothing about it", envd.Version)
	}
	k := keptOf(c.Sandbox)
	if k == nil {
		return notApplicable("envd's standard error goes to %q, and neither to a journal nor to a file", envd.Process.Stderr)
	}
	_, others := journalLosses(k.lines)
	switch {
	case len(others) > 0:
		return fail(fmt.Sprintf("%q", others[0]), "no such line", "%s holds what envd said of its cgroups (%s)", k.name, count(len(others), "line"))
	case !k.live():
		o := unproven("%s", k.mute)
		o.Mute = true
		return o
	}
	return pass(k.control+", and nothing about cgroups", "no such line, where it is shown that such lines are kept",
		"%s keeps what envd says, and it said nothing of cgroups", k.name)
}
