// Package doctor looks whether a target can be used, one hop after the other,
// from the configuration to a command in a sandbox, and says of each what was
// tried, on which object, what came back, and what to do. What comes back is
// judged by pure functions.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/redact"
)

// State is what a hop came to.
type State string

// The states, the best first.
const (
	Fine State = "ok"
	// NotNeeded: this configuration does without it.
	NotNeeded State = "not needed"
	// Warning: it works, and something about it will be regretted.
	Warning State = "warning"
	// Unproven: it was left out, or could not be told.
	Unproven State = "not proven"
	// NotTried: an earlier hop that it needs is in trouble.
	NotTried State = "not tried"
	Trouble  State = "trouble"
)

// Finding is what one hop came to.
type Finding struct {
	// Hop is the stable name, such as api.health or template.base.
	Hop   string `json:"hop"`
	State State  `json:"state"`
	// Tried is what was done on which object, Came what came back.
	Tried string `json:"tried"`
	Came  string `json:"came,omitempty"`
	// Do is what to do about it, empty where there is nothing to do.
	Do string `json:"do,omitempty"`
	// TookMS is how long it took.
	TookMS int64 `json:"tookMS"`
}

// hop is one thing to try.
type hop struct {
	name  string
	tried string
	// needs are the hops without which this one makes no sense.
	needs []string
	wait  time.Duration
	// try does it. What later hops need of it goes into the facts, which it gets
	// and returns by value: a hop that is given up cannot disturb others.
	try func(ctx context.Context, f facts) (Finding, facts)
}

// grace is how long a hop whose time is over may take to say so.
const grace = time.Second

// run tries the hops in their order. Every hop comes to a finding in bounded
// time, also one that hangs in the kernel.
func run(ctx context.Context, hops []hop, f facts, each func(Finding)) ([]Finding, facts) {
	var all []Finding
	for _, h := range hops {
		var found Finding
		if reason := withheld(h, all, ctx.Err() != nil); reason != "" {
			found = Finding{State: NotTried, Came: reason}
		} else {
			began := time.Now()
			found, f = h.once(ctx, f)
			found.TookMS = time.Since(began).Milliseconds()
		}
		found.Hop = h.name
		if found.Tried == "" {
			found.Tried = h.tried
		}
		all = append(all, found)
		each(found)
	}
	return all, f
}

// withheld says why a hop is not tried, empty where it is.
func withheld(h hop, before []Finding, interrupted bool) string {
	if interrupted {
		return "interrupted"
	}
	for _, f := range before {
		if !slices.Contains(h.needs, f.Hop) {
			continue
		}
		switch f.State {
		case Trouble:
			return f.Hop + " is in trouble"
		case NotTried:
			return f.Hop + " was not tried"
		case Unproven:
			return f.Hop + " is not proven"
		case Fine, Warning, NotNeeded:
		}
	}
	return ""
}

func (h hop) once(ctx context.Context, f facts) (Finding, facts) {
	type result struct {
		found Finding
		facts facts
	}
	bounded, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		found, facts := h.try(bounded, f)
		done <- result{found, facts}
	}()
	select {
	case r := <-done:
		return r.found, r.facts
	case <-bounded.Done():
	}
	last := time.NewTimer(grace)
	defer last.Stop()
	select {
	case r := <-done:
		if ctx.Err() == nil && r.found.State != Fine && r.found.Do == "" {
			r.found.Do = fmt.Sprintf("it was given %s (intervals in ginkgo.yml)", h.wait)
		}
		return r.found, r.facts
	case <-last.C:
		return Finding{
			State: Trouble, Came: fmt.Sprintf("it hangs: no end within %s, and it cannot be interrupted", h.wait),
			Do: "look whether the file system or device behind it is stuck (a dead NFS server, a broken disk)",
		}, f
	}
}

// Report is everything that was found. Later versions may add fields; Version
// rises when one changes its meaning.
type Report struct {
	Version   int               `json:"version"`
	Harness   string            `json:"harness"`
	Target    config.TargetKind `json:"target,omitempty"`
	File      string            `json:"file,omitempty"`
	Variables []config.Variable `json:"variables"`
	Settings  config.Origins    `json:"settings"`
	Findings  []Finding         `json:"findings"`
	// FixFirst are the names of the hops to see to, in the order in which to do
	// it: what others rest on comes first.
	FixFirst []string `json:"fixFirst"`
	Exit     int      `json:"exit"`
}

// ReportVersion is the version of Report.
const ReportVersion = 1

// The exit codes: those of the gate, as far as they have a meaning here.
const (
	ExitFine     = 0
	ExitUnproven = 2
	ExitTrouble  = 3
)

// Conclude fills in what follows from the findings.
func (r *Report) Conclude() {
	r.FixFirst = []string{}
	r.Exit = ExitFine
	for _, state := range []State{Trouble, Warning, Unproven} {
		for _, f := range r.Findings {
			if f.State == state {
				r.FixFirst = append(r.FixFirst, f.Hop)
			}
		}
	}
	for _, f := range r.Findings {
		switch f.State {
		case Trouble:
			r.Exit = ExitTrouble
		case Warning, Unproven, NotTried:
			r.Exit = max(r.Exit, ExitUnproven)
		case Fine, NotNeeded:
		}
	}
}

// Redact takes secrets, and what a terminal obeys, out of a finding.
func (f Finding) Redact(r *redact.Redactor) Finding {
	for _, text := range []*string{&f.Tried, &f.Came, &f.Do} {
		*text = redact.Terminal(strings.TrimSpace(r.String(*text)))
	}
	return f
}

// Configuration are the findings about the configuration itself: whether it can
// be used, and whether the environment says what nobody reads.
func Configuration(file string, variables []config.Variable, wrong error) []Finding {
	found := Finding{Hop: "configuration", State: Fine, Tried: "resolve " + cmp.Or(file, "the built-in defaults") + ", the environment and the flags"}
	if wrong != nil {
		found.State, found.Came, found.Do = Trouble, wrong.Error(), "mend it: without it nothing else can be tried (docs/configuration.md)"
	}
	environment := Finding{Hop: "environment", State: Fine, Tried: "look for variables that are set and not read"}
	for _, v := range variables {
		if v.Suspect {
			environment.State, environment.Do = Warning, "set the variable that is read, or unset this one"
			environment.Came = strings.TrimPrefix(environment.Came+"; "+v.Name+": "+v.Use, "; ")
		}
	}
	return []Finding{found, environment}
}
