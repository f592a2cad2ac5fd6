package logscan

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nxadm/tail"
	"github.com/nxadm/tail/watch"
)

// follower is the live view of one file: one tail for each file, from the
// mark on. It informs; outcomes rest on the exact read alone, since a tail
// may lose lines when files are removed under it.
type follower struct {
	tail  *tail.Tail
	count atomic.Int64
	done  chan struct{}
}

// followPoll is how often a tail looks at its file. With inotify the library
// can miss the last line until the next write; polling cannot.
const followPoll = 50 * time.Millisecond

// setPoll sets the library's package-wide pause once, before its first use.
var setPoll = sync.OnceFunc(func() { watch.POLL_DURATION = followPoll })

// follow starts a tail at an offset; nil when the file could not be followed,
// which costs the live view and nothing else.
func follow(path string, from int64) *follower {
	setPoll()
	t, err := tail.TailFile(path, tail.Config{
		Location: &tail.SeekInfo{Offset: from, Whence: io.SeekStart},
		Follow:   true, MustExist: true, Poll: true,
		// Without it a half line at the end of the file is handed out and its
		// rest is lost.
		CompleteLines: true,
		Logger:        tail.DiscardingLogger,
	})
	if err != nil {
		return nil
	}
	f := &follower{tail: t, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		for l := range t.Lines {
			if l.Err == nil {
				f.count.Add(1)
			}
		}
	}()
	return f
}

// lines is how many whole lines have come.
func (f *follower) lines() int {
	if f == nil {
		return 0
	}
	return int(f.count.Load())
}

func (f *follower) stop() {
	if f == nil {
		return
	}
	_ = f.tail.Stop()
	<-f.done
}
