package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// Waiver excuses the known failure of one requirement in one template, and
// nothing else: neither what was not seen, nor another failure beside it.
type Waiver struct {
	Template    string         `json:"template"`
	Requirement requirement.ID `json:"requirement"`
	Reason      string         `json:"reason"`
	// Expires is the last day on which it counts, in UTC, such as 2026-12-31.
	Expires string `json:"expires"`
}

// Waivers are those of a configuration that excuse failures, one for each
// requirement. A requirement that the catalogue does not have is an error, and so
// is one that no waiver excuses.
func Waivers(all []config.Waiver) ([]Waiver, error) {
	var waivers []Waiver
	var unknown, refused []string
	for _, w := range all {
		for _, id := range w.Requirements {
			switch _, known := requirement.Lookup(requirement.ID(id)); {
			case !known:
				unknown = append(unknown, id)
			case !waivable(requirement.ID(id)):
				refused = append(refused, id)
			}
			waivers = append(waivers, Waiver{Template: w.Template, Requirement: requirement.ID(id), Reason: w.Reason, Expires: w.Expires})
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("waivers: there is no requirement %s: docs/requirements.md has them all", strings.Join(unknown, ", "))
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("waivers: %s cannot be waived: where it fails, what was looked at is not what was asked for, so that nothing is known of that; take it out",
			strings.Join(refused, ", "))
	}
	return waivers, nil
}

// waivable tells whether a failure can be excused. One of stage image cannot: what
// was looked at is then not the image that was asked for, and what was not seen is
// never excused.
func waivable(id requirement.ID) bool {
	r, known := requirement.Lookup(id)
	return known && r.Stage != requirement.StageImage
}

// Holds tells whether the waiver counts at a time. One whose date cannot be read
// never does, nor does any at a time that is not known.
func (w Waiver) Holds(at time.Time) bool {
	end, err := config.Waiver{Expires: w.Expires}.End()
	return err == nil && !at.IsZero() && at.Before(end)
}

func (w Waiver) String() string {
	return fmt.Sprintf("%s (until %s): %s", w.Requirement, w.Expires, w.Reason)
}

// waiverFor is the one that excuses a failed requirement, if any.
func (in *Input) waiverFor(id requirement.ID) (Waiver, bool) {
	i := slices.IndexFunc(in.Waivers, func(w Waiver) bool {
		return w.Template == in.Template && w.Requirement == id && waivable(id) && w.Holds(in.At)
	})
	if i < 0 {
		return Waiver{}, false
	}
	return in.Waivers[i], true
}

// WaiverState says what became of a waiver in a run.
type WaiverState string

// The states of a waiver.
const (
	WaiverUsed    WaiverState = "used"
	WaiverUnused  WaiverState = "unused"
	WaiverExpired WaiverState = "expired"
)

// WaiverUse is a waiver and what became of it.
type WaiverUse struct {
	Waiver
	State WaiverState `json:"state"`
}

// Uses tells what became of each waiver in a run that began at a time.
func Uses(waivers []Waiver, verdicts []Verdict, at time.Time) []WaiverUse {
	uses := make([]WaiverUse, 0, len(waivers))
	for _, w := range waivers {
		use := WaiverUse{Waiver: w, State: WaiverUnused}
		switch {
		case !w.Holds(at):
			use.State = WaiverExpired
		case slices.ContainsFunc(verdicts, func(v Verdict) bool { return slices.Contains(v.Waived, w) }):
			use.State = WaiverUsed
		}
		uses = append(uses, use)
	}
	return uses
}

// Note is what is told of a waiver that is not used; empty for one that is,
// which its verdict tells.
func (u WaiverUse) Note() string {
	switch u.State {
	case WaiverExpired:
		return fmt.Sprintf("the waiver of %s for template %s has expired on %s and excuses nothing: take it out, or renew it with a reason", u.Requirement, u.Template, u.Expires)
	case WaiverUnused:
		return fmt.Sprintf("the waiver of %s for template %s excused nothing in this run: take it out if that stays so", u.Requirement, u.Template)
	case WaiverUsed:
	}
	return ""
}
