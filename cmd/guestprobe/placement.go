package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sandproof/internal/evidence"
)

// The probe plays its own child and grandchild by running itself anew in
// these modes.
const (
	modeReport      = "report"
	modeGrandparent = "grandparent"
)

// reportPipe is the descriptor on which a descendant reports: the first
// inherited one.
const reportPipe = 3

// How long the descendants may take, and how often things are looked at.
const (
	familyWait = 5 * time.Second
	lookEvery  = 100 * time.Millisecond
)

// placement provokes each kind of process and says where it landed.
func (g guest) placement(ctx context.Context, forwarderWait time.Duration) evidence.PlacementReport {
	report := evidence.PlacementReport{
		Self:       g.process(os.Getpid()),
		Child:      family(ctx, modeReport),
		Grandchild: family(ctx, modeGrandparent),
		RealTime:   realTime(),
	}
	if forwarderWait > 0 {
		report.Forwarder = g.forwarder(ctx, forwarderWait)
	}
	return report
}

// family starts a descendant and reads its own report from a pipe.
func family(ctx context.Context, mode string) *evidence.Placed {
	ctx, cancel := context.WithTimeout(ctx, familyWait)
	defer cancel()
	reader, writer, err := os.Pipe()
	if err != nil {
		return &evidence.Placed{Error: "pipe: " + err.Error()}
	}
	defer reader.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", mode)
	cmd.ExtraFiles = []*os.File{writer}
	err = cmd.Run()
	writer.Close()
	if err != nil {
		return &evidence.Placed{Error: fmt.Sprintf("start %s: %v", mode, err)}
	}
	deadline, _ := ctx.Deadline()
	if err := reader.SetReadDeadline(deadline); err != nil {
		return &evidence.Placed{Error: "pipe: " + err.Error()}
	}
	var p evidence.Process
	if err := json.NewDecoder(reader).Decode(&p); err != nil {
		return &evidence.Placed{Error: "no report came: " + err.Error()}
	}
	return &evidence.Placed{Process: &p}
}

// startGrandchild is the child that daemonises: it starts the grandchild in a
// session of its own and ends, so that the grandchild loses its parent. It
// tells its own PID, since it may be gone before the grandchild can ask.
func startGrandchild() error {
	cmd := exec.Command("/proc/self/exe", modeReport, strconv.Itoa(os.Getpid())) //nolint:noctx // it must outlive this process
	cmd.ExtraFiles = []*os.File{os.NewFile(reportPipe, "report")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// reportOnPipe is the descendant's part: it reports itself, with the PID of
// its parent only once that is gone.
func (g guest) reportOnPipe(args []string) error {
	pipe := os.NewFile(reportPipe, "report")
	if pipe == nil {
		return errors.New("no pipe to report on")
	}
	defer pipe.Close()
	if len(args) > 0 {
		if err := awaitOrphaned(args[0], familyWait); err != nil {
			return err
		}
	}
	return json.NewEncoder(pipe).Encode(g.process(os.Getpid()))
}

// awaitOrphaned waits until this process has another parent than the given
// one. Who adopts it differs: PID 1, or the nearest subreaper.
func awaitOrphaned(parent string, wait time.Duration) error {
	pid, err := strconv.Atoi(parent)
	if err != nil {
		return fmt.Errorf("the parent's PID: %w", err)
	}
	for end := time.Now().Add(wait); os.Getppid() == pid; <-time.After(lookEvery / 10) {
		if time.Now().After(end) {
			return fmt.Errorf("the parent %d still lives after %s", pid, wait)
		}
	}
	return nil
}

// forwarder listens on loopback and waits for the socat that envd's port
// scanner starts for it. Each probe run is a process of its own, since envd
// never retries a forward for the same process and port.
func (g guest) forwarder(ctx context.Context, wait time.Duration) *evidence.Placed {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return &evidence.Placed{Error: "listen on loopback: " + err.Error()}
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port //nolint:errcheck // a TCP listener has a TCP address
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if p, found := g.findForwarder(port); found {
			return &evidence.Placed{Process: &p}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &evidence.Placed{Error: fmt.Sprintf(
				"no forwarder for 127.0.0.1:%d within %s: envd scans once a second and starts socat; is socat installed?", port, wait)}
		}
	}
}

// forwardAddress is the guest's eth0 address, to which envd binds forwarders
// (e2b-dev/infra packages/envd/internal/port/forward.go).
const forwardAddress = "169.254.0.21"

func (g guest) findForwarder(port int) (evidence.Process, bool) {
	want := []string{"TCP4-LISTEN:" + strconv.Itoa(port), "bind=" + forwardAddress}
	names, err := filepath.Glob(filepath.Join(g.proc, "[0-9]*", "cmdline"))
	if err != nil {
		return evidence.Process{}, false
	}
	for _, name := range names {
		text, err := read(name)
		if err != nil || !strings.Contains(text, forwardAddress) {
			continue
		}
		argv := strings.Split(text, "\x00")
		if filepath.Base(argv[0]) != "socat" || !slices.ContainsFunc(argv, func(arg string) bool {
			parts := strings.Split(arg, ",")
			return len(parts) >= 2 && slices.Equal(parts[:2], want)
		}) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		// One that ended in the meantime shows nothing; the next may.
		if p := g.process(pid); p.Error == "" {
			return p, true
		}
	}
	return evidence.Process{}, false
}
