package image

import (
	"context"
	"errors"
	"os"
)

// State is what became of a build's image, in words.
type State string

// The states. A patched image has the delegation's version in Status.Version,
// where it has one.
const (
	StateOriginal    State = "original"
	StateIsPatched   State = "patched"
	StateChanged     State = "patched, and changed since"
	StateIsUndone    State = "undone"
	StateInterrupted State = "interrupted"
	StateNotFound    State = "not found"
	StateForeign     State = "fixed in another way"
	StateUnknown     State = "unknown"
)

// Status is one build's.
type Status struct {
	Build
	State State `json:"state"`
	// Version is that of the delegation in the image, 0 for none.
	Version int `json:"version,omitempty"`
	// Detail is a sentence about it, empty where there is nothing to say.
	Detail string `json:"detail,omitempty"`
}

// StatusOf tells what became of a build's image, by the manifest beside it and
// by its init. Nothing is modified.
func StatusOf(ctx context.Context, b Build) Status {
	s := Status{Build: b}
	info, err := os.Stat(b.RootFS)
	if err != nil {
		s.State, s.Detail = StateNotFound, err.Error()
		return s
	}
	m, err := readManifest(b.RootFS)
	if err != nil {
		s.State, s.Detail = StateUnknown, err.Error()
		return s
	}
	switch where(m, b.RootFS, info) {
	case begun, renamed, restored, astray:
		s.State, s.Detail = StateInterrupted, "a patch or an undo did not come to its end; the next one completes it, or takes it back"
		return s
	case atRest:
	}
	if m != nil && m.State == StatePatched {
		s.State, s.Version = StateIsPatched, m.Delegation
		switch same, err := m.Patched.is(ctx, b.RootFS, nil); {
		case err != nil:
			s.State, s.Detail = StateUnknown, err.Error()
		case !same:
			s.State, s.Detail = StateChanged, "what is in it now the manifest does not tell"
		case m.Delegation == 0:
			s.Detail = "a whole init was installed"
		}
		if !m.PurgeDone {
			s.Detail = "the caches are not purged: patch it again"
		}
		return s
	}
	s.byInit(ctx)
	if m != nil && s.State == StateOriginal {
		s.State = StateIsUndone
	}
	return s
}

// byInit tells the state by what the image's init does.
func (s *Status) byInit(ctx context.Context) {
	s.State = StateOriginal
	if err := refusedByFiles(s.Build); err != nil {
		s.Detail = err.Error()
		if s.Header != "" {
			return // nothing in it can be read
		}
	}
	f, err := os.Open(s.RootFS)
	if err != nil {
		s.State, s.Detail = StateUnknown, err.Error()
		return
	}
	defer f.Close()
	if err := Check(s.RootFS); err != nil {
		s.State, s.Detail = StateUnknown, err.Error()
		return
	}
	c, err := Options{}.change(ctx, editor{f})
	refusal, refused := errors.AsType[*RefusedError](err)
	switch {
	case refused:
		s.Detail = refusal.Error()
	case err != nil:
		s.State, s.Detail = StateUnknown, err.Error()
	case !c.nothing:
	case hasMarks(c):
		s.State, s.Version = StateIsPatched, delegationVersion
		s.Detail = "no manifest beside it: it was patched elsewhere, and cannot be undone here; " + c.why
	default:
		s.State, s.Detail = StateForeign, c.why
	}
}

// hasMarks tells whether what is there already is sandproof's.
func hasMarks(c *change) bool {
	return c.path == dropInPath && c.before != nil || markFirst().Match(c.before)
}
