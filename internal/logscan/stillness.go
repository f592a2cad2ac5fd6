package logscan

import (
	"context"
	"sync"
	"time"
)

// stillness knows since when a log has been quiet about a sandbox, and whether
// the canary has come out of it.
type stillness struct {
	sandbox   string
	stretches []Stretch
	settling  Settling
	cancel    context.CancelFunc
	done      sync.WaitGroup

	mu     sync.Mutex
	grown  time.Time // when the last line of the sandbox was seen to come
	canary string    // the text that is waited for, empty where none is
	came   bool      // the canary did
	mute   bool      // no stretch can tell before it is read
}

// newStillness looks at the stretches from now on, beyond the context that it is
// begun in, until its end.
func newStillness(ctx context.Context, stretches []Stretch, sandbox string, settling Settling) *stillness {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &stillness{sandbox: sandbox, stretches: stretches, settling: settling, cancel: cancel, grown: time.Now()}
	w.done.Go(func() {
		tick := time.NewTicker(settling.Poll)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			w.look()
		}
	})
	return w
}

// expect makes settled wait for a text.
func (w *stillness) expect(canary string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.canary = canary
}

func (w *stillness) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = true
	for _, stretch := range w.stretches {
		came := stretch.Came([]byte(w.sandbox), []byte(w.canary))
		if came == nil {
			continue
		}
		w.mute = false
		if came[0] {
			w.grown = time.Now()
		}
		w.came = w.came || came[1]
	}
}

// settled waits until the log has been quiet for long enough, and tells whether
// it was before the cap.
func (w *stillness) settled(ctx context.Context) bool {
	deadline := time.Now().Add(w.settling.Cap)
	tick := time.NewTicker(w.settling.Poll)
	defer tick.Stop()
	for {
		w.look() // what came a moment ago counts
		w.mu.Lock()
		quiet := time.Since(w.grown) >= w.settling.Quiet
		came := w.canary == "" || w.came || w.mute
		w.mu.Unlock()
		switch {
		case quiet && came:
			return true
		case time.Now().After(deadline):
			return false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// end stops looking; it may be called any number of times.
func (w *stillness) end() {
	w.cancel()
	w.done.Wait()
}
