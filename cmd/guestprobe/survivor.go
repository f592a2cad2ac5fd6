package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// modeSleep is the survivor's own part.
const modeSleep = "sleep"

// maxSurvivor is the longest that a survivor lives.
const maxSurvivor = 15 * time.Minute

// survivor starts a process that outlives this one, holds nothing of it open,
// and ends by itself.
func (g guest) survivor(life time.Duration) (evidence.Process, error) {
	if life <= 0 || life > maxSurvivor {
		return evidence.Process{}, fmt.Errorf("survivor needs -for between 0 and %s, got %s", maxSurvivor, life)
	}
	cmd := exec.Command("/proc/self/exe", modeSleep, life.String()) //nolint:noctx,gosec // it must outlive this process, and the argument is a duration
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return evidence.Process{}, fmt.Errorf("start the survivor: %w", err)
	}
	return g.process(cmd.Process.Pid), nil
}

func sleep(args []string) error {
	if len(args) != 1 {
		return errors.New("sleep needs a duration")
	}
	life, err := time.ParseDuration(args[0])
	if err != nil || life > maxSurvivor {
		return fmt.Errorf("sleep: %q is no duration up to %s", args[0], maxSurvivor)
	}
	<-time.After(life)
	return nil
}

// one looks at a process by its number.
func (g guest) one(args []string) (evidence.Process, error) {
	if len(args) != 1 {
		return evidence.Process{}, errors.New("process needs a PID")
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil || pid <= 0 {
		return evidence.Process{}, fmt.Errorf("%q is no PID", args[0])
	}
	return g.process(pid), nil
}

// realTime asks for a real-time policy as `chrt -f` does, gives it back, and
// says what the kernel answered: "granted", or the symbolic error. Under
// RT_GROUP_SCHED the answer depends on the group (sched(7)).
func realTime() string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fifo := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, fifo, 0); err != nil {
		return errnoName(err)
	}
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0); err != nil {
		return "granted, and not given back: " + errnoName(err)
	}
	return "granted"
}
