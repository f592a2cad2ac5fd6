package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// modeHogChild is the process that allocates; it is started by the probe alone.
const modeHogChild = "hog-child"

// The descriptors of the hog: on one it is told to go on, on the other it says
// that it has.
const (
	hogOrders  = 3
	hogReplies = 4
)

const (
	// hogStep is the least that is allocated at once, in bytes: between two
	// orders the probe looks whether to go on.
	hogStep = 4 << 20
	// hogMore is how much more than the limit is wanted, in bytes.
	hogMore = 16 << 20
	// hogFloor is what is planned to be left of MemAvailable where the limit comes,
	// in bytes: for envd and the kernel.
	hogFloor = 16 << 20
	// hogLeast is the least MemAvailable at which the next step is allowed, in
	// bytes. It lies below what was planned, of which the kernel's tables for the
	// hog take a part: where they took some of it just before the limit, nothing
	// would be told.
	hogLeast = hogFloor / 2
	// hogScore is the hog's oom_score_adj: the first to be killed anywhere.
	hogScore = "1000"
)

// hogFiles are the interface files that the experiment reads of its group.
var hogFiles = []string{"cgroup.procs", "memory.max", "memory.high", "memory.current", "memory.events", "memory.swap.current"}

// hogPlan is what a group's limits and the guest's memory allow.
type hogPlan struct {
	// limit is what the group may use, and wanted how much is to be taken.
	limit, wanted uint64
	// throttles is true where only memory.high is set: it slows down and never
	// stops, so that the first sign of it must be enough.
	throttles bool
	// end is set where the hog must not be let loose, with the reason.
	end    evidence.HogEnd
	detail string
}

// planHog decides from what was read a moment ago. A hog is let loose only in
// a real group with a limit, in which its parent is, and only where the limit
// comes before the guest's own memory ends. used and available are in bytes.
func planHog(group evidence.Group, self evidence.Process, used, available uint64) hogPlan {
	if group.FSMagic != evidence.CGroup2Magic {
		return hogPlan{end: evidence.HogNoLimit, detail: group.Path + " is no cgroup2 directory"}
	}
	if !slices.Contains(strings.Fields(group.Files["cgroup.procs"].Text), strconv.Itoa(self.PID)) {
		return hogPlan{end: evidence.HogNoLimit, detail: fmt.Sprintf("the command is not in %s, but in %s", group.Path, strings.TrimSpace(self.Cgroup))}
	}
	most, throttles := limitOf(group, "memory.max"), false
	if most == 0 {
		most, throttles = limitOf(group, "memory.high"), true
	}
	switch {
	case most == 0:
		return hogPlan{end: evidence.HogNoLimit, detail: fmt.Sprintf("neither memory.max nor memory.high of %s is set", group.Path)}
	case most > 1<<50:
		return hogPlan{end: evidence.HogNoLimit, detail: fmt.Sprintf("the limit of %s is %d bytes, which is none", group.Path, most)}
	case most > used && most-used+hogFloor > available:
		return hogPlan{end: evidence.HogImpossible, detail: fmt.Sprintf(
			"%s may use %d bytes more, and the guest has %d bytes to give, of which %d are kept: its own memory ends first",
			group.Path, most-used, available, hogFloor)}
	}
	return hogPlan{limit: most, wanted: (most + hogMore) / hogStep * hogStep, throttles: throttles}
}

// stepsAt is how many steps are taken at once where the group uses so much and
// the guest has so much left, in bytes: far from both ends a quarter of the way,
// near to one of them a single one.
func (p hogPlan) stepsAt(used, available uint64) byte {
	const mostAtOnce = 16
	if used >= p.limit || available <= hogFloor {
		return 1
	}
	return byte(min(max(min(p.limit-used, available-hogFloor)/4/hogStep, 1), mostAtOnce))
}

// limitOf reads a limit in bytes; 0 means that there is none.
func limitOf(group evidence.Group, name string) uint64 {
	f := group.Files[name]
	if f.Errno != "" {
		return 0
	}
	v, err := cgroup2.ParseValue(strings.TrimSpace(f.Text))
	if err != nil || v.Max {
		return 0
	}
	return v.Number
}

// hog lets a child allocate more than a group may use, in steps, and says how
// that ended. The probe must be in the group itself. The child ends with the
// probe: by its pipe, and by the signal that it gets when its parent dies.
func (g guest) hog(ctx context.Context, self int, path string, deadline time.Duration) evidence.HogReport {
	// The signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	me, group := g.process(self), g.group(path, hogFiles)
	report := evidence.HogReport{
		Group: group.Path, Limit: group.Files["memory.max"], Throttle: group.Files["memory.high"], Before: group.Files["memory.events"],
		Floor: hogLeast, Used: limitOf(group, "memory.current"), EnvdBefore: g.nearestEnvd(me),
	}
	available, err := g.memory("MemAvailable")
	if err != nil {
		report.Ended, report.Detail = evidence.HogFailed, err.Error()
		return report
	}
	report.Available, report.AvailableLeast = available, available
	plan := planHog(group, me, report.Used, available)
	report.Wanted, report.Ended, report.Detail = plan.wanted, plan.end, plan.detail
	if plan.end == "" {
		kernel := openKernelLog()
		watch := g.watchMemory(group.Path)
		g.letLoose(ctx, plan, &report)
		watch.stop(&report)
		report.KernelLog = kernel.outOfMemory()
	}
	report.EnvdAfter = g.nearestEnvd(me)
	after := g.group(path, hogFiles)
	report.After, report.Swap = after.Files["memory.events"], after.Files["memory.swap.current"]
	return report
}

// letLoose drives the child step by step.
func (g guest) letLoose(ctx context.Context, plan hogPlan, report *evidence.HogReport) {
	child, err := startHog()
	if err != nil {
		report.Ended, report.Detail = evidence.HogFailed, err.Error()
		return
	}
	defer child.close()
	// Whatever the child is doing, at the deadline it ends, and with it the
	// wait for its reply.
	stop := context.AfterFunc(ctx, child.kill)
	defer stop()
	if err := child.reply(); err != nil { // it has made itself the first to be killed
		report.Ended, report.Detail = evidence.HogFailed, "the hog did not begin: "+child.end()
		return
	}
	p := g.process(child.cmd.Process.Pid)
	report.Hog = &p
	for report.Allocated < plan.wanted {
		available, end, detail := g.mayGoOn(ctx, plan, report)
		if end != "" {
			child.kill()
			report.Ended, report.Detail = end, detail
			return
		}
		steps := plan.stepsAt(report.Used+report.Allocated, available)
		if child.step(steps) != nil {
			break
		}
		report.Allocated += uint64(steps) * hogStep
	}
	if report.Allocated >= plan.wanted {
		child.kill()
		report.Ended = evidence.HogAll
		return
	}
	how := child.end()
	switch {
	case ctx.Err() != nil:
		report.Ended, report.Detail = evidence.HogGaveUp, "its time was over"
	case child.signalled():
		report.Ended, report.Detail = evidence.HogKilled, how
	default:
		report.Ended, report.Detail = evidence.HogFailed, "the hog ended by itself: "+how
	}
}

// mayGoOn looks before each order; an end is the reason to stop. available is
// the guest's MemAvailable, in bytes.
func (g guest) mayGoOn(ctx context.Context, plan hogPlan, report *evidence.HogReport) (available uint64, end evidence.HogEnd, detail string) {
	if ctx.Err() != nil {
		return 0, evidence.HogGaveUp, "its time was over"
	}
	available, err := g.memory("MemAvailable")
	if err != nil {
		return 0, evidence.HogGaveUp, err.Error()
	}
	report.AvailableLeast = min(report.AvailableLeast, available)
	if available < hogLeast {
		return 0, evidence.HogGaveUp, fmt.Sprintf("the guest had %d bytes left, less than the %d that it is to keep", available, hogLeast)
	}
	if plan.throttles {
		now := g.group(report.Group, []string{"memory.events"}).Files["memory.events"]
		if counted(now, "high") > counted(report.Before, "high") {
			return 0, evidence.HogThrottled, "memory.high acts"
		}
	}
	return available, "", ""
}

// counted reads one key of a memory.events.
func counted(f evidence.File, key string) uint64 {
	values, err := cgroup2.ParseFlatKeyed(f.Text)
	if err != nil {
		return 0
	}
	return values[key]
}

// nearestEnvd is the envd above the probe, without what is asked of its
// binary; nil where there is none.
func (g guest) nearestEnvd(self evidence.Process) *evidence.Process {
	pid := self.PPID
	for range maxGenerations {
		if pid < 1 {
			break
		}
		p := g.process(pid)
		if p.Error != "" {
			return nil
		}
		if isEnvd(p) {
			return &p
		}
		pid = p.PPID
	}
	return nil
}

// hogChild is the hog as the probe holds it.
type hogChild struct {
	cmd     *exec.Cmd
	orders  *os.File // the probe's end: one byte a step
	replies *os.File
	ended   bool
}

// startHog starts the child; it allocates nothing yet.
func startHog() (*hogChild, error) {
	takes, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer takes.Close()
	replies, gives, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close())
	}
	defer gives.Close()
	c := &hogChild{cmd: exec.Command("/proc/self/exe", modeHogChild), orders: orders, replies: replies} //nolint:noctx // kill and close end it, at the deadline too
	c.cmd.ExtraFiles = []*os.File{takes, gives}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the hog: %w", err), orders.Close(), replies.Close())
	}
	return c, nil
}

// step lets the child allocate so many steps at once, and waits until it has.
func (c *hogChild) step(n byte) error {
	if _, err := c.orders.Write([]byte{n}); err != nil {
		return err
	}
	return c.reply()
}

func (c *hogChild) reply() error {
	_, err := io.ReadFull(c.replies, make([]byte, 1))
	return err
}

func (c *hogChild) kill() { _ = c.cmd.Process.Kill() }

// end waits for the child's end and says how it was.
func (c *hogChild) end() string {
	c.ended = true
	if err := c.cmd.Wait(); err != nil {
		return err.Error()
	}
	return c.cmd.ProcessState.String()
}

// signalled tells whether a signal ended the child.
func (c *hogChild) signalled() bool {
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// close leaves nothing of the child, whatever happened.
func (c *hogChild) close() {
	c.orders.Close()
	c.replies.Close()
	if !c.ended {
		c.kill()
		c.end()
	}
}

// playHog is the child's part: it allocates as many steps as each byte that it
// is sent says, and ends with the pipe.
func playHog() error {
	orders, replies := os.NewFile(hogOrders, "orders"), os.NewFile(hogReplies, "replies")
	if orders == nil || replies == nil {
		return errors.New("a hog is started by the probe alone")
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(hogScore), 0); err != nil {
		return err
	}
	order := make([]byte, 1)
	for {
		if _, err := replies.Write(order); err != nil {
			return err
		}
		switch _, err := orders.Read(order); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := allocate(int(order[0]) * hogStep); err != nil {
			return err
		}
	}
}

// allocate takes memory and writes to every page of it; it is never given
// back. That the kernel was asked to populate it saves time and proves nothing:
// mmap(2) succeeds where it could not.
func allocate(size int) error {
	taken, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	for i := 0; i < size; i += os.Getpagesize() {
		taken[i] = 1
	}
	return nil
}

// memory reads one line of /proc/meminfo, in bytes.
func (g guest) memory(name string) (uint64, error) {
	text, err := read(filepath.Join(g.proc, "meminfo"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name+":" && fields[2] == "kB" {
			kb, err := strconv.ParseUint(fields[1], 10, 54) // as bytes it fits 64 bits
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			return kb * 1024, nil
		}
	}
	return 0, fmt.Errorf("no %s in meminfo", name)
}

// kernelLog reads what the kernel says from a moment on. Where it may not be
// read there are no lines: the group's own events are the other witness.
type kernelLog struct{ fd int }

const noKernelLog = -1

func openKernelLog() kernelLog {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernelLog{noKernelLog}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return kernelLog{noKernelLog}
	}
	return kernelLog{fd}
}

// The bounds of what is reported of the kernel's log.
const (
	maxKernelLines = 20
	maxKernelLine  = 500
	maxRecords     = 10_000
)

// outOfMemory returns the lines about out-of-memory kills since the log was
// opened, and closes it. Each read gives one record; one that fails with EPIPE
// goes on at the oldest that is left (Documentation/ABI/testing/dev-kmsg).
func (k kernelLog) outOfMemory() []string {
	if k.fd == noKernelLog {
		return nil
	}
	defer unix.Close(k.fd)
	var lines []string
	record := make([]byte, 8<<10)
	for range maxRecords {
		n, err := unix.Read(k.fd, record)
		if errors.Is(err, unix.EPIPE) {
			continue
		}
		if err != nil || n == 0 || len(lines) == maxKernelLines {
			break
		}
		if text, ok := outOfMemoryLine(string(record[:n])); ok {
			lines = append(lines, text)
		}
	}
	return lines
}

// outOfMemoryLine takes the text of a record that speaks of an out-of-memory
// kill: what follows the first semicolon, up to the line's end.
func outOfMemoryLine(record string) (string, bool) {
	_, text, ok := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	speaks := strings.HasPrefix(text, "oom-kill:") || strings.Contains(text, "ut of memory:") || strings.Contains(text, "invoked oom-killer:")
	if !ok || !speaks {
		return "", false
	}
	return text[:min(len(text), maxKernelLine)], true
}
