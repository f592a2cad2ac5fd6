package collect

import (
	"fmt"
	"sync"
	"time"

	"sandproof/internal/logscan"
)

// maxLiveLines bounds what is shown of a sandbox's log while it comes.
const maxLiveLines = 200

// sureOfEnd is for how long envd is asked once more where the log says that its
// guest has ended, or a call looks like it: whoever answers has not, whatever a
// line says.
const sureOfEnd = 2 * time.Second

// ending is the first line that says that the guest has ended.
type ending struct {
	once sync.Once
	line logscan.Line
	came chan struct{} // closed once it did
}

// already tells whether the line has come; a nil ending never has.
func (e *ending) already() bool {
	if e == nil {
		return false
	}
	select {
	case <-e.came:
		return true
	default:
		return false
	}
}

// saw returns what takes the log's lines as they come.
func (s *Session) saw() func(logscan.Line) {
	shown := 0
	return func(l logscan.Line) {
		if l.End != "" {
			s.ended.once.Do(func() {
				s.ended.line = l
				close(s.ended.came)
			})
		}
		if s.options.Live == nil || shown > maxLiveLines {
			return
		}
		if shown++; shown > maxLiveLines {
			s.options.Live(fmt.Sprintf("more than %d lines: the rest is not shown", maxLiveLines))
			return
		}
		s.options.Live(liveText(l))
	}
}

// liveText is a line for a person: what it is, and what it says, as the log has
// it.
func liveText(l logscan.Line) string {
	what := l.Rule + " " + string(l.Class)
	if l.End != "" {
		what = "the guest's end"
	}
	return what + ": " + l.Message
}

// endedError is an envd that is awaited no longer, since its guest has ended.
type endedError struct {
	line logscan.Line
	last error
}

// Error says why in its first line, and what the log says in its last one.
func (e *endedError) Error() string {
	return fmt.Sprintf("the orchestrator's log says that the sandbox's guest has ended, and envd did not answer for %s after that (%v)\n%s",
		sureOfEnd, e.last, e.line.Message)
}

// Unwrap returns what the last ask came to.
func (e *endedError) Unwrap() error { return e.last }
