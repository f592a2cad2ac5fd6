// Package logscan reads the orchestrator's log: sources are marked before a
// sandbox is created and read exactly between two marks; lines become
// records, and rules make findings of those that speak of cgroups or show
// that the log is alive.
package logscan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// Window is the stretch of the log in which one sandbox lives.
type Window struct {
	start     time.Time
	waivers   []Waiver
	stretches []Stretch
	secrets   *redact.Redactor
	watched   *stillness
	view      *view
}

// Open marks every source. It must be called before the sandbox is created.
func Open(ctx context.Context, sources []Source) (*Window, error) {
	w := &Window{secrets: redact.New()}
	for _, source := range sources {
		stretch, err := source.Open(ctx)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("mark the log %s: %w", source.Name(), err)
		}
		w.stretches = append(w.stretches, stretch)
	}
	w.start = time.Now().UTC()
	return w, nil
}

// Missing is an error where a source of files holds no log at all. An orchestrator that
// runs has one: its log is elsewhere, or its task is called otherwise.
func (w *Window) Missing() error {
	var missing []error
	for _, stretch := range w.stretches {
		if files, ok := stretch.(*fileStretch); ok {
			missing = append(missing, files.empty())
		}
	}
	return errors.Join(missing...)
}

// Excuse names the unknown lines that are no trouble.
func (w *Window) Excuse(waivers []Waiver) { w.waivers = waivers }

// Hide names the redactor that takes secrets out of what the window tells.
func (w *Window) Hide(secrets *redact.Redactor) { w.secrets = secrets }

// Settling says when a log counts as quiet.
type Settling struct {
	// Quiet is how long no line of the sandbox may come, Cap the longest wait
	// for that, Poll the pause between two looks.
	Quiet, Cap, Poll time.Duration
}

// Watch looks out for lines of a sandbox from now on, so that Read need not
// wait where there were none for long.
func (w *Window) Watch(ctx context.Context, sandbox string, settling Settling) {
	w.watched = newStillness(ctx, w.stretches, sandbox, settling)
}

// Show hands the lines of the sandbox that is watched to show, as they come and
// from the mark on, until the window is closed. It informs: what Read gives
// does not rest on it.
func (w *Window) Show(ctx context.Context, show func(Line)) {
	w.view = newView(ctx, w.stretches, w.watched.sandbox, w.secrets, show)
}

// Expect makes Read wait for a canary, which is about to be written to the
// console of the sandbox that is watched; an empty nonce takes that back.
func (w *Window) Expect(nonce string) {
	canary := ""
	if nonce != "" {
		canary = evidence.CanaryLine(nonce)
	}
	w.watched.expect(canary)
}

// Read waits until the log is quiet about the sandbox that is watched and the
// canary has come, sets the end mark and reads the window whole.
func (w *Window) Read(ctx context.Context) (*evidence.Log, error) {
	if w.watched == nil {
		return nil, errors.New("BUG: the window is read, and no sandbox was watched in it")
	}
	settled := w.watched.settled(ctx)
	w.watched.end()
	log := &evidence.Log{Start: w.start, Coverage: []evidence.Coverage{}, Settled: settled}
	for _, stretch := range w.stretches {
		if err := stretch.Seal(ctx, w.watched.sandbox); err != nil {
			return nil, fmt.Errorf("set the log's end mark: %w", err)
		}
	}
	log.End = time.Now().UTC()
	stranger, witnessed, torn := false, false, map[int]bool{}
	var late []string
	for _, stretch := range w.stretches {
		scan := newScan(w.watched.sandbox, w.watched.canary, w.waivers, w.secrets, log)
		coverage, holes := stretch.Read(ctx, scan.feed)
		scan.finish()
		log.Coverage = append(log.Coverage, coverage...)
		log.Holes = append(log.Holes, holes...)
		log.TailLost += stretch.TailLost()
		stranger = stranger || scan.stranger
		maps.Copy(torn, scan.torn)
		switch reason := stretch.Late(); {
		case scan.sung, scan.alive && reason == "":
			witnessed = true
		case reason != "":
			late = append(late, reason)
		}
	}
	// Boot lines alone do not show that what was said after them has come. Where
	// another source has the boot, a late one takes nothing away from it.
	if !witnessed {
		log.Holes = append(log.Holes, late...)
	}
	claim(log, stranger, torn)
	return log, nil
}

// Close lets go of everything; it may be called any number of times.
func (w *Window) Close() {
	if w.watched != nil {
		w.watched.end()
	}
	if w.view != nil {
		w.view.end()
	}
	for _, stretch := range w.stretches {
		stretch.Close()
	}
	w.stretches = nil
}
