package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// startLead is how long after the two have met they begin to burn, so that
// both are asleep then and neither has a start over the other.
const startLead = 50 * time.Millisecond

// maxBurn is the longest that a process may burn: it keeps a CPU of somebody's
// node busy.
const maxBurn = 30 * time.Second

// burn meets the other process of its name, and both use as much of one CPU as
// they get, over the same stretch of the guest's uptime. It waits at most for
// wait until the other is there.
func (g guest) burn(ctx context.Context, name string, wait, long time.Duration) (*evidence.Burn, error) {
	if name == "" || long <= 0 || long > maxBurn {
		return nil, fmt.Errorf("burn needs -meet=NAME and -for between 0 and %s, got %q and %s", maxBurn, name, long)
	}
	cpu, err := bindToLastCPU()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	from, err := meet(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("meet the other process that is to burn: %w", err)
	}
	b := &evidence.Burn{Process: g.process(os.Getpid()), CPU: &cpu, From: from.Seconds(), To: (from + long).Seconds()}
	now, err := clock(unix.CLOCK_BOOTTIME)
	if err != nil {
		return nil, err
	}
	group, watch := g.watchCPU(b.Process)
	<-time.After(from - now)
	used, err := spin(from, from+long, watch)
	b.CPUSeconds = used.Seconds()
	b.Group = group
	b.Samples, b.NoSamples = watch.samples()
	return b, err
}

// bindToLastCPU binds every thread of the process to the last CPU that it may
// use: the first serves most interrupts. Threads that are made later are bound
// as those that make them.
func bindToLastCPU() (int, error) {
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, fmt.Errorf("sched_getaffinity: %w", err)
	}
	last := 0
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			last = cpu
		}
	}
	one.Set(last)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("list the threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return 0, fmt.Errorf("list the threads: %w", err)
		}
		// One that has ended meanwhile needs no CPU.
		if err := unix.SchedSetaffinity(id, &one); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("sched_setaffinity: %w", err)
		}
	}
	return last, nil
}

// meet finds the other process by a socket of the abstract namespace, which
// leaves no file behind, and agrees with it on the uptime at which both begin.
// Whoever comes first listens; the other is told.
func meet(ctx context.Context, name string) (time.Duration, error) {
	address := "@sandproof-burn-" + name
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", address)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return join(ctx, address)
		}
		return 0, err
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	conn, err := listener.Accept()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it did not come: %w", ctx.Err())
		}
		return 0, err
	}
	defer conn.Close()
	now, err := clock(unix.CLOCK_BOOTTIME)
	if err != nil {
		return 0, err
	}
	from := now + startLead
	_, err = fmt.Fprintf(conn, "%d\n", from)
	return from, err
}

// join asks the process that came first. Between its bind and its listen it
// refuses, for a moment.
func join(ctx context.Context, address string) (time.Duration, error) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", address)
		if err == nil {
			return told(ctx, conn)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return 0, err
		}
		select {
		case <-time.After(lookEvery / 10):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// told reads the uptime at which to begin.
func told(ctx context.Context, conn net.Conn) (time.Duration, error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	text, err := io.ReadAll(io.LimitReader(conn, 32))
	if err != nil {
		return 0, err
	}
	from, err := parseStart(string(text))
	if err != nil {
		return 0, err
	}
	now, err := clock(unix.CLOCK_BOOTTIME)
	if err == nil && (from < now-time.Second || from > now+time.Second) {
		err = fmt.Errorf("it says to begin at uptime %s, and it is %s", from, now)
	}
	return from, err
}

// parseStart reads an uptime in nanoseconds and a line end.
func parseStart(text string) (time.Duration, error) {
	number, whole := strings.CutSuffix(text, "\n")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !whole || n < 0 {
		return 0, fmt.Errorf("%q is no uptime to begin at", text)
	}
	return time.Duration(n), nil
}

// spin burns until an uptime, and returns the CPU time that the process got,
// with all that Go's runtime does beside. The loop calls the kernel for
// nothing, not even for the time: around each system call the runtime may move
// work between threads, and would compete with the loop. The samples that are
// taken meanwhile are read without the runtime's knowledge, by both who compete
// alike. from is the uptime from which their times are counted.
func spin(from, until time.Duration, watch *cpuWatch) (time.Duration, error) {
	now, err := clock(unix.CLOCK_BOOTTIME)
	if err != nil {
		return 0, err
	}
	before, err := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	at := func() time.Duration { return now - from + time.Since(began) }
	for at() < until-from {
		watch.look(at(), false)
		sum := uint64(0)
		for i := range uint64(1000) {
			sum += i
		}
		runtime.KeepAlive(sum) // or nothing would be computed
	}
	watch.look(at(), true)
	after, err := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	return after - before, err
}

// clock reads one of the kernel's clocks. CLOCK_BOOTTIME is the uptime of
// /proc/uptime.
func clock(id int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
