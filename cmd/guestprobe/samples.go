package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// sampleEvery is the time between two samples, at first. A sample is one read of
// a file of the kernel's, of some tens of microseconds, so that they cost less
// than a hundredth of a CPU even where that is emulated.
const sampleEvery = 50 * time.Millisecond

// series says when to take the next sample, and keeps their number bounded.
type series[T any] struct {
	all   []T
	every time.Duration
	next  time.Duration
}

func newSeries[T any]() *series[T] {
	return &series[T]{all: make([]T, 0, evidence.MostSamples), every: sampleEvery}
}

// due tells whether a sample should be taken so long after the beginning.
func (s *series[T]) due(at time.Duration) bool { return at >= s.next }

// add keeps a sample. One that comes late moves the next, since several at once
// tell nothing. At the bound every other one is dropped, but never the first.
func (s *series[T]) add(at time.Duration, one T) {
	if len(s.all) == cap(s.all) {
		for i := range len(s.all) / 2 {
			s.all[i] = s.all[2*i]
		}
		s.all = s.all[:len(s.all)/2]
		s.every *= 2
	}
	s.all = append(s.all, one)
	s.next = at + s.every
}

// meter is an interface file that is read again and again. It is opened once,
// and what is read lies in memory that was there before: a group at its limit
// may have no more to give.
type meter struct {
	fd   int
	text [maxFile]byte
}

// openMeter opens an interface file. The error is the symbolic errno, where it
// is one.
func openMeter(name string) (*meter, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.New(errnoName(err))
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return &meter{fd: fd}, nil
}

func (m *meter) close() { unix.Close(m.fd) }

// read returns the file's text as it is now.
func (m *meter) read() (string, error) {
	n, err := unix.Pread(m.fd, m.text[:], 0)
	if err != nil {
		return "", errors.New(errnoName(err))
	}
	return string(m.text[:n]), nil
}

// readUntold does the same without Go's runtime being told of the system call,
// for which see spin. It is for what the kernel computes at once.
func (m *meter) readUntold() (string, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(m.fd), uintptr(unsafe.Pointer(&m.text[0])), uintptr(len(m.text)), 0, 0, 0) //nolint:gosec // the array is the meter's own, and outlives the call
	if errno != 0 {
		return "", errors.New(errnoName(errno))
	}
	return string(m.text[:n]), nil
}

// cpuWatch samples the CPU time of a cgroup from within a loop that burns.
type cpuWatch struct {
	stat   *meter
	series *series[cpuReading]
	late   int // how many were thrown away since the last that was kept
	err    error
}

// cpuReading is a cpu.stat, taken so long after the beginning.
type cpuReading struct {
	at   time.Duration
	text string
}

// watchCPU opens cpu.stat of the cgroup in which a process is.
func (g guest) watchCPU(self evidence.Process) (dir string, w *cpuWatch) {
	w = &cpuWatch{series: newSeries[cpuReading]()}
	path, err := cgroup2.ParseProcCgroup(self.Cgroup)
	if err != nil {
		w.err = err
		return "", w
	}
	dir = filepath.Join(defaultCgroupRoot, path)
	if w.stat, err = openMeter(filepath.Join(g.inSys(dir), "cpu.stat")); err != nil {
		w.err = fmt.Errorf("open cpu.stat of %s: %w", dir, err)
	}
	return dir, w
}

// look takes a sample where one is due. The last is taken sooner, but not right
// after another: the kernel counts a running group's CPU time at its own ticks,
// which are some milliseconds apart, and over so few a share says nothing. One
// during which the process had to wait for its CPU is of no certain time: it is taken
// again soon, but not forever, since a guest that needs so long for each read would
// do nothing else.
func (w *cpuWatch) look(at time.Duration, last bool) {
	const mostLate, soon, mostAgain = sampleEvery / 10, sampleEvery / 10, 20
	early := time.Duration(0)
	if last {
		early = w.series.every / 2
	}
	if w.err != nil || !w.series.due(at+early) {
		return
	}
	began := time.Now()
	text, err := w.stat.readUntold()
	if err != nil {
		w.err = fmt.Errorf("read cpu.stat after %s: %w", at, err)
		return
	}
	if took := time.Since(began); took > mostLate {
		w.series.next = at + took + soon
		if w.late++; w.late == mostAgain {
			w.err = fmt.Errorf("each of %d reads of cpu.stat took more than %s", mostAgain, mostLate)
		}
		return
	}
	w.late = 0
	w.series.add(at, cpuReading{at, text})
}

// samples ends the watch and parses what was read.
func (w *cpuWatch) samples() (all []evidence.CPUSample, why string) {
	if w.stat != nil {
		w.stat.close()
	}
	for _, one := range w.series.all {
		values, err := cgroup2.ParseFlatKeyed(one.text)
		used, told := values["usage_usec"]
		if err == nil && !told {
			err = errors.New("there is no usage_usec")
		}
		if err != nil {
			return all, fmt.Sprintf("cpu.stat: %v", err)
		}
		all = append(all, evidence.CPUSample{AtUS: one.at.Microseconds(), UsageUS: used})
	}
	if w.err != nil {
		return all, w.err.Error()
	}
	return all, ""
}

// memoryWatch samples a cgroup's memory beside the hog, which may keep the
// probe waiting for as long as the kernel lets it.
type memoryWatch struct {
	began             time.Time
	current, pressure *meter
	series            *series[evidence.MemorySample]
	noSamples         string
	noPressure        string
	done              chan struct{}
	watching          sync.WaitGroup
}

// watchMemory opens the files of a cgroup's directory and takes the first
// sample.
func (g guest) watchMemory(dir string) *memoryWatch {
	w := &memoryWatch{began: time.Now(), series: newSeries[evidence.MemorySample](), done: make(chan struct{})}
	var err error
	if w.current, err = openMeter(filepath.Join(g.inSys(dir), "memory.current")); err != nil {
		w.noSamples = "open memory.current: " + err.Error()
		return w
	}
	if w.pressure, err = openMeter(filepath.Join(g.inSys(dir), "memory.pressure")); err != nil {
		w.noPressure = err.Error()
	}
	w.look()
	w.watching.Go(func() {
		for {
			select {
			case <-time.After(w.series.every):
				w.look()
			case <-w.done:
				w.look()
				return
			}
		}
	})
	return w
}

// look takes a sample. What cannot be read once is not asked for again.
func (w *memoryWatch) look() {
	if w.noSamples != "" {
		return
	}
	at := time.Since(w.began)
	text, err := w.current.read()
	value, errOfText := cgroup2.ParseValue(text)
	if value.Max {
		errOfText = errors.New(`"max" is no size`)
	}
	if err = cmp.Or(err, errOfText); err != nil {
		w.noSamples = fmt.Sprintf("read memory.current after %s: %v", at, err)
		return
	}
	w.series.add(at, evidence.MemorySample{AtUS: at.Microseconds(), Current: value.Number, Stalled: w.stalled()})
}

// stalled is nil where the kernel does not tell.
func (w *memoryWatch) stalled() *evidence.Stalled {
	if w.noPressure != "" {
		return nil
	}
	text, err := w.pressure.read()
	p, errOfText := cgroup2.ParsePressure(text)
	if err = cmp.Or(err, errOfText); err != nil {
		w.noPressure = err.Error()
		return nil
	}
	return &evidence.Stalled{SomeUS: p.Some, FullUS: p.Full}
}

// stop takes the last sample and ends the watch.
func (w *memoryWatch) stop(report *evidence.HogReport) {
	close(w.done)
	w.watching.Wait()
	for _, m := range []*meter{w.current, w.pressure} {
		if m != nil {
			m.close()
		}
	}
	report.Samples, report.NoSamples, report.NoPressure = w.series.all, w.noSamples, w.noPressure
}
