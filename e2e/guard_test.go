package e2e_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sandproof/internal/rundir"
)

// The waits of a suite process whose parent is gone.
const (
	parentPoll = 500 * time.Millisecond
	// orphanGrace is how long cleanup may take before the process ends the
	// hard way. The lab follows by its lifeline, a live sandbox by its TTL.
	orphanGrace = 3 * time.Second
)

// endWithParent ends this process when its parent is gone: a suite whose
// ginkgo CLI was killed would go on for nobody. Ginkgo is interrupted first,
// so that cleanups run.
func endWithParent() {
	parent := os.Getppid()
	go func() {
		for range time.Tick(parentPoll) {
			if os.Getppid() == parent {
				continue
			}
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
			<-time.After(orphanGrace)
			os.Exit(1) //nolint:forbidigo // nobody is left to return an error to
		}
	}()
}

// defeatTestCache keeps `go test ./e2e` from ever answering with an older
// run's result. Go does not cache a test that opened a file of its module
// which is too new to be trusted, so the suite opens one from the future.
func defeatTestCache(t *testing.T, run *rundir.Run) {
	t.Helper()
	name := filepath.Join(run.Dir, "uncached")
	future := time.Now().AddDate(1, 0, 0)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, future, future); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
}
