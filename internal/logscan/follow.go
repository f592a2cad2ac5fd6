package logscan

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nxadm/tail"
	"github.com/nxadm/tail/watch"
	"golang.org/x/sys/unix"
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
	// file is the held one, and own the descriptor by which the library reads it;
	// -1 where that is not known. Where the file is cut, the library opens it anew,
	// maybe by another number, and is not starved then.
	file *os.File
	own  int
}

// opening is held while the library opens a file, so that what came with it is
// its own.
var opening sync.Mutex

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
	opening.Lock()
	before := readers(file)
	t, err := tail.TailFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), tail.Config{
		Location: &tail.SeekInfo{Offset: from, Whence: io.SeekStart},
		Follow:   true, MustExist: true, Poll: true,
		// Without it a half line at the end of the file is handed out and its
		// rest is lost.
		CompleteLines: true,
		Logger:        tail.DiscardingLogger,
	})
	own := slices.DeleteFunc(readers(file), func(fd int) bool { return slices.Contains(before, fd) })
	opening.Unlock()
	if err != nil {
		return nil
	}
	f := &follower{tail: t, done: make(chan struct{}), file: file, own: -1}
	if len(own) == 1 { // else somebody else has opened the file at the same moment
		f.own = own[0]
	}
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
	if !f.stopped {
		f.starve()
	}
	f.stopped = true
	f.tail.Kill(nil)
	<-f.tail.Dead()
	<-f.done
}

// starve lets the tail find the end of its file. It looks whether it was stopped
// at a line's end or at the file's only, and in an endless line that grows
// faster than it reads it would come to neither before all of it is in memory.
//
// It comes before the tail is told to stop: from then on the tail closes its
// descriptor, and the number may mean another file of this process at any moment.
func (f *follower) starve() {
	select {
	case <-f.tail.Dying():
		return
	default:
	}
	if !slices.Contains(readers(f.file), f.own) {
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return
	}
	defer null.Close()
	_ = unix.Dup3(int(null.Fd()), f.own, unix.O_CLOEXEC)
}

// readers are this process's descriptors by which a file is read, but for those
// that would not block, as those by which files are held.
func readers(file *os.File) []int {
	var wanted, other unix.Stat_t
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || unix.Fstat(int(file.Fd()), &wanted) != nil {
		return nil
	}
	var all []int
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || unix.Fstat(fd, &other) != nil || other.Dev != wanted.Dev || other.Ino != wanted.Ino {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY && flags&unix.O_NONBLOCK == 0 {
			all = append(all, fd)
		}
	}
	return all
}
