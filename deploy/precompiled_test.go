package deploy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The precompiled suites judge a real guest, in a directory of its own and
// without Go and source, as the container runs them: one process, no ginkgo
// command, and the gate's code. The lab's stand-in is given as a binary, since
// there is nothing to build it from.
func TestPrecompiled(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the suites and boots a guest")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	bin, work := t.TempDir(), t.TempDir()
	standIn := filepath.Join(bin, "envd")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-X main.version=0.6.13", "-o", standIn, "sandproof/internal/fixtures/standin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{build, exec.CommandContext(ctx, "../scripts/precompile.sh", bin), exec.CommandContext(ctx, "cp", "container/run.sh", bin)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	run := exec.CommandContext(ctx, filepath.Join(bin, "run.sh"), "-e2e.envd="+standIn)
	run.Dir = work
	run.Env = append(os.Environ(), "CI=true", "TARGET=lab", "PROFILE=core", "TEMPLATES=base-unpatched", "RUN=r")
	out, err := run.CombinedOutput()
	// An unpatched template is the one whose code tells that it was judged.
	if code := exitCode(t, err); code != 1 || !strings.Contains(string(out), "base-unpatched: not-isolated, first broken stage: enable (enable.cpu)") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	for _, name := range []string{"manifest.json", "verdicts.json", "evidence/base-unpatched.json"} {
		if _, err := os.Stat(filepath.Join(work, "runs", "r", name)); err != nil {
			t.Error(err)
		}
	}
}
