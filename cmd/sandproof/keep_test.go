package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/redact"
	"sandproof/internal/rundir"
	"sandproof/internal/sandboxapi"
)

// A run of the real suites that keeps its red sandbox, a shell in it through the
// way that the run tells, and the run's end once the sandbox is ended: with its
// verdict, and without a leak.
func TestKeepOnFailureInTheLab(t *testing.T) {
	if testing.Short() {
		t.Skip("it boots a guest")
	}
	dir := t.TempDir()
	suite := filepath.Join(dir, "e2e.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", suite, "./e2e")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, suite, "-ginkgo.label-filter=stage:value", "-e2e.runs="+dir, "-e2e.run=kept",
		"-e2e.target=lab", "-e2e.templates=base-unpatched", "-e2e.keep-on-failure")
	run.Dir = "../../e2e"
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) }
	run.WaitDelay = time.Minute
	var said bytes.Buffer
	run.Stdout, run.Stderr = &said, &said
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	way := filepath.Join(dir, "kept", "lab.env")
	live := awaitWay(t, way, ended, &said)

	client, err := sandboxapi.New(sandboxapi.Options{
		APIURL: live.APIURL, SandboxURL: live.SandboxURL, APIKey: live.APIKey, UserAgent: "test", CreateTimeout: time.Minute, RequestTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := client.List(ctx, nil)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d sandboxes are kept (%v)", len(all), err)
	}
	if left := time.Until(all[0].EndAt); left < 25*time.Minute || left > 30*time.Minute {
		t.Errorf("it ends in %s", left)
	}
	c := config.Config{Live: live, Intervals: config.Intervals{Create: time.Minute, Request: time.Minute}}
	var shown bytes.Buffer
	code, err := openShell(ctx, c, all[0].SandboxID, "root", strings.NewReader("echo $((6*7)) in $(cat /proc/self/cgroup)\nexit 5\n"), &shown, io.Discard)
	if err != nil || code != 5 || !strings.Contains(shown.String(), "42 in 0::/ptys") {
		t.Errorf("exit code %d, %v, shown:\n%s", code, err, &shown)
	}
	if _, err := client.Delete(ctx, all[0].SandboxID); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a red run ended green")
	}
	if _, err := os.Stat(way); !os.IsNotExist(err) {
		t.Errorf("the file with the lab's key is left: %v", err)
	}
	if strings.Contains(said.String(), live.APIKey) {
		t.Error("the run showed the lab's key")
	}
	recorded, err := rundir.Open(filepath.Join(dir, "kept"), redact.New())
	if err != nil {
		t.Fatal(err)
	}
	merged, err := recorded.Merge()
	if err != nil || len(merged.Problems) != 0 || len(merged.Kept) != 1 || merged.Kept[0] != all[0].SandboxID || !strings.Contains(strings.Join(merged.Notes, "\n"), "sandproof shell "+all[0].SandboxID) {
		t.Errorf("%v, problems %q, kept %q, notes %q", err, merged.Problems, merged.Kept, merged.Notes)
	}
}

var exported = regexp.MustCompile(`E2B_(API_URL|SANDBOX_URL|API_KEY)=(\S+)`)

// awaitWay waits for the file that says how the lab is reached, and reads it.
func awaitWay(t *testing.T, file string, ended <-chan error, said *bytes.Buffer) config.Live {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			t.Fatalf("the run ended without keeping anything (%v):\n%s", err, said)
		case <-tick.C:
		}
		info, err := os.Stat(file)
		if err != nil || info.Size() == 0 {
			continue
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the file with the lab's key has the mode %s", info.Mode())
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, match := range exported.FindAllStringSubmatch(string(data), -1) {
			found[match[1]] = match[2]
		}
		return config.Live{APIURL: found["API_URL"], SandboxURL: found["SANDBOX_URL"], APIKey: found["API_KEY"]}
	}
}
