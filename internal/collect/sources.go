package collect

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
)

// Sources are the orchestrator's logs that a configuration names.
func Sources(live config.Live, i config.Intervals) []logscan.Source {
	sources := make([]logscan.Source, 0, len(live.Logs)+2)
	for _, l := range live.Logs {
		sources = append(sources, logscan.Files{Dirs: l.Dirs, Task: l.Task, Settle: i.LogSettle, Poll: i.Poll})
	}
	if live.Nomad.Job != "" {
		sources = append(sources, logscan.Nomad{Job: live.Nomad.Job, Task: live.Nomad.Task, Settle: i.LogSettle, Poll: i.Poll, Timeout: i.Request})
	}
	if live.Loki.Query != "" {
		sources = append(sources, logscan.Loki{Query: live.Loki.Query, Delay: i.LogDelay, Timeout: i.Request})
	}
	return sources
}

// Waivers are those of a configuration, which was checked, that excuse lines of
// the log.
func Waivers(all []config.Waiver) ([]logscan.Waiver, error) {
	waivers := make([]logscan.Waiver, 0, len(all))
	for _, w := range all {
		if w.Line == "" {
			continue
		}
		match, err := regexp.Compile(w.Line)
		if err != nil {
			return nil, err
		}
		end, err := w.End()
		if err != nil {
			return nil, err
		}
		waivers = append(waivers, logscan.Waiver{Match: match, Reason: w.Reason, Expires: end})
	}
	return waivers, nil
}

// DeadWaivers says of each waiver of lines that has expired, or that excused
// nothing in what was collected, what to do with it.
func DeadWaivers(waivers []config.Waiver, all []*evidence.Sandbox, now time.Time) []string {
	var dead []string
	for _, w := range waivers {
		if w.Line == "" {
			continue
		}
		end, err := w.End()
		match, wrong := regexp.Compile(w.Line)
		if err != nil || wrong != nil {
			continue // it was refused before anything ran
		}
		switch {
		case !now.Before(end):
			dead = append(dead, fmt.Sprintf("the waiver of %q has expired on %s: take it out, or renew it with a reason", w.Line, w.Expires))
		case !slices.ContainsFunc(all, func(s *evidence.Sandbox) bool { return waived(s, match) }):
			dead = append(dead, fmt.Sprintf("the waiver of %q excused nothing in this run: take it out if that stays so", w.Line))
		}
	}
	return dead
}

func waived(s *evidence.Sandbox, match *regexp.Regexp) bool {
	return s.Log != nil && slices.ContainsFunc(s.Log.Findings, func(f evidence.Finding) bool {
		return f.Class == evidence.FindingWaived && match.MatchString(f.Message)
	})
}
