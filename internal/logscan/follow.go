package logscan

import (
	"context"
	"fmt"
	"io"
	"os"
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
	// stopped is true once it follows no more.
	stopped bool
}

// followPoll is how often a tail looks at its file. With inotify the library
// can miss the last line until the next write; polling cannot.
const followPoll = 50 * time.Millisecond

// setPoll sets the library's package-wide pause once, before its first use.
var setPoll = sync.OnceFunc(func() { watch.POLL_DURATION = followPoll })

// followGrace is how long the tails may take to hand out what lies before the
// end mark: some looks at the file.
const followGrace = 5 * followPoll

// follow starts a tail of a file that is held open, at an offset, and hands each
// line to see, which must not wait; nil when the file could not be followed,
// which costs the live view and nothing else.
//
// The tail is given the held file by its descriptor and not by its name: the
// library ends the whole process (util.Fatal) when a name can no longer be
// looked at for another reason than its absence, and it would give up a file
// that is removed before its last lines were read.
func follow(file *os.File, from int64, see func(line string)) *follower {
	setPoll()
	t, err := tail.TailFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), tail.Config{
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
				see(l.Text)
			}
		}
	}()
	return f
}

// await returns how many whole lines have come, when it is as many as were
// expected or the time is over.
func (f *follower) await(ctx context.Context, expected int, deadline time.Time) int {
	if f == nil {
		return 0
	}
	tick := time.NewTicker(followPoll / 10)
	defer tick.Stop()
	for int(f.count.Load()) < expected && !f.stopped && ctx.Err() == nil && time.Now().Before(deadline) {
		<-tick.C
	}
	return int(f.count.Load())
}

func (f *follower) stop() {
	if f == nil {
		return
	}
	f.stopped = true
	_ = f.tail.Stop()
	<-f.done
}
