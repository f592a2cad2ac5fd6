package rundir

import (
	"fmt"
	"strings"

	"sandproof/internal/config"
)

// mostProcesses is how many suite processes a manifest may tell of: what is
// expected of each is kept in memory.
const mostProcesses = 1000

// check tells why a manifest cannot be held to: by what it does not say, or says
// twice, something would count that nobody asked for.
func (m *Manifest) check() error {
	var wrong []string
	addf := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !validName().MatchString(m.Run) || m.Run == latestLink {
		addf("run %.100q is no name of a run", m.Run)
	}
	if m.Harness == "" {
		addf("no version of the sandproof that recorded it (harness)")
	}
	switch config.TargetKind(m.Target) {
	case config.TargetLive, config.TargetLab:
	case config.TargetAuto:
		fallthrough
	default:
		addf("target %.100q is neither live nor lab", m.Target)
	}
	switch config.Profile(m.Profile) {
	case config.ProfileCore, config.ProfileGate, config.ProfileExtended:
	case config.ProfileAuto:
		fallthrough
	default:
		addf("profile %.100q is none of core, gate and extended", m.Profile)
	}
	if m.Started.IsZero() {
		addf("no beginning (started), by which waivers expire")
	}
	if len(m.Requirements) == 0 {
		addf("no requirements")
	}
	if m.Processes < 0 || m.Processes > mostProcesses {
		addf("%d processes", m.Processes)
	}
	m.checkShards(addf)
	if m.checkRepeat(addf) {
		m.checkNames(addf)
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s cannot be held to (%s): it was edited, damaged, or is of another sandproof; run again", manifestFile, strings.Join(wrong, "; "))
}

func (m *Manifest) checkShards(addf func(string, ...any)) {
	for _, part := range m.Shards {
		if part.Processes < 0 || part.Processes > mostProcesses {
			addf("%d processes of shard %.100q", part.Processes, part.Shard)
		}
		if !part.Missing && part.Started.IsZero() {
			addf("no beginning (started) of shard %.100q", part.Shard)
		}
	}
}

// checkRepeat tells whether the sandboxes that are expected can be listed.
func (m *Manifest) checkRepeat(addf func(string, ...any)) bool {
	for template, n := range m.Repeat {
		if n < 1 || n > config.MostSandboxes {
			addf("%d sandboxes of template %.200q: want 1 to %d", n, template, config.MostSandboxes)
			return false
		}
	}
	return true
}

// checkNames looks that no sandbox is expected twice, under one template or two.
func (m *Manifest) checkNames(addf func(string, ...any)) {
	seen := map[string]bool{}
	for _, name := range m.names() {
		if name == "" {
			addf("a template without a name")
		}
		if seen[name] {
			addf("%.200q twice among the sandboxes", name)
			return
		}
		seen[name] = true
	}
}
