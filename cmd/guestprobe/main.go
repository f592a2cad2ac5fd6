// Command guestprobe runs inside the guest and prints what it sees there as
// JSON. It is one static binary that needs nothing of the guest: no shell, no
// tools. It reads, tries and reports; judging is done elsewhere.
//
//	guestprobe snapshot             the guest's kernel, mounts, cgroups and envd
//	guestprobe placement [-forwarder-wait 6s]
//	                                where this process, a child, a daemonised
//	                                grandchild and the port forwarder live
//	guestprobe self                 this process alone (for terminals)
//	guestprobe process PID          another process
//	guestprobe burn -meet NAME [-for 1s] [-wait 10s]
//	                                meets the other burn of that name; both use
//	                                one CPU, as much of it as they get
//	guestprobe hog [-group /sys/fs/cgroup/user] [-deadline 10s]
//	                                a child takes more memory than the group may
//	                                use, where that has a limit
//	guestprobe survivor [-for 5m]   leaves a process behind, for so long
//	guestprobe canary DEVICE NONCE  writes one line to a console
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "guestprobe:", err)
		os.Exit(1) //nolint:forbidigo // the exit code is all that a failed probe can tell
	}
}

func run(args []string, stdout io.Writer) error {
	mode := ""
	if len(args) > 0 {
		mode, args = args[0], args[1:]
	}
	host := guest{proc: "/proc", sys: "/sys", answer: 5 * time.Second, journalctl: "/usr/bin/journalctl"}
	ctx := context.Background() //nolint:forbidigo // a process's own root context
	flags := flag.NewFlagSet(mode, flag.ContinueOnError)
	switch mode {
	case "snapshot":
		return emit(stdout, host.snapshot(os.Getpid()))
	case "self":
		return emit(stdout, host.process(os.Getpid()))
	case "process":
		return report(stdout)(host.one(args))
	case "placement":
		wait := flags.Duration("forwarder-wait", 6*time.Second, "how long to wait for the port forwarder; 0 skips it")
		if err := flags.Parse(args); err != nil {
			return err
		}
		return emit(stdout, host.placement(ctx, *wait))
	case "burn":
		name := flags.String("meet", "", "what both processes are told, and no other")
		long := flags.Duration("for", time.Second, "how long to burn")
		wait := flags.Duration("wait", 10*time.Second, "how long to wait for the other process")
		if err := flags.Parse(args); err != nil {
			return err
		}
		return report(stdout)(host.burn(ctx, *name, *wait, *long))
	case "hog":
		group := flags.String("group", defaultCgroupRoot+"/user", "the group's directory; the probe must be in it")
		deadline := flags.Duration("deadline", 10*time.Second, "when to give up")
		if err := flags.Parse(args); err != nil {
			return err
		}
		return emit(stdout, host.hog(ctx, os.Getpid(), *group, *deadline))
	case "survivor":
		life := flags.Duration("for", 5*time.Minute, "how long it lives")
		if err := flags.Parse(args); err != nil {
			return err
		}
		return report(stdout)(host.survivor(*life))
	case "canary":
		return canary(args)
	case modeGrandparent:
		return startGrandchild()
	case modeReport:
		return host.reportOnPipe(args)
	case modeHogChild:
		return playHog()
	case modeSleep:
		return sleep(args)
	case "-version", "version":
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	return fmt.Errorf("unknown mode %q: snapshot, placement, self, process, burn, hog, survivor or canary", mode)
}

// canary writes a line of its own to a console. It does not wait for one that
// takes nothing.
func canary(args []string) error {
	if len(args) != 2 {
		return errors.New("canary: want a device and a nonce")
	}
	console, err := os.OpenFile(args[0], os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	// What stands on the console without an end, such as a prompt, is ended.
	_, err = io.WriteString(console, "\n"+evidence.CanaryLine(args[1])+"\n")
	return errors.Join(err, console.Close())
}

func emit(w io.Writer, v any) error {
	frame, err := evidence.FrameProbe(v)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

// report prints what a mode found, or passes on why it found nothing.
func report(w io.Writer) func(v any, err error) error {
	return func(v any, err error) error {
		if err != nil {
			return err
		}
		return emit(w, v)
	}
}
