// Command guestprobe runs inside the guest and prints what it sees there as
// JSON. It is one static binary that needs nothing of the guest: no shell, no
// tools. It reads and reports; judging is done elsewhere.
//
//	guestprobe snapshot             the guest's kernel, mounts, cgroups and envd
//	guestprobe placement [-forwarder-wait 6s]
//	                                where this process, a child, a daemonised
//	                                grandchild and the port forwarder live
//	guestprobe self                 this process alone (for terminals)
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

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
	switch mode {
	case "snapshot":
		return emit(stdout, host.snapshot(os.Getpid()))
	case "self":
		return emit(stdout, host.process(os.Getpid()))
	case "placement":
		flags := flag.NewFlagSet("placement", flag.ContinueOnError)
		wait := flags.Duration("forwarder-wait", 6*time.Second, "how long to wait for the port forwarder; 0 skips it")
		if err := flags.Parse(args); err != nil {
			return err
		}
		return emit(stdout, host.placement(context.Background(), *wait)) //nolint:forbidigo // a process's own root context
	case modeGrandparent:
		return startGrandchild()
	case modeReport:
		return host.reportOnPipe(args)
	case "-version", "version":
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	return fmt.Errorf("unknown mode %q: snapshot, placement or self", mode)
}

func emit(w io.Writer, v any) error {
	frame, err := evidence.FrameProbe(v)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}
