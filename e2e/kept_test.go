package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"sandproof/internal/collect"
	"sandproof/internal/rundir"
	"sandproof/internal/sandboxapi"
)

// endOrKeep ends a sandbox, or keeps it where that was asked for and something
// about it is red. One that cannot be kept is ended.
func endOrKeep(ctx context.Context, r *running) error {
	if !flags.keep || !r.red {
		return r.session.Close(ctx)
	}
	kept, err := r.session.Keep(ctx)
	if err != nil {
		record(rundir.Record{Note: fmt.Sprintf("the sandbox of %s could not be kept: %v", r.name, err)})
		return r.session.Close(ctx)
	}
	record(rundir.Record{Kept: kept.SandboxID, Note: fmt.Sprintf("kept: sandbox %s of template %s, until %s; %s",
		kept.SandboxID, kept.Template, kept.Ends.UTC().Format(time.RFC3339), wayIn(kept))})
	progressf("%s: sandbox %s is kept until %s", r.name, kept.SandboxID, kept.Ends.UTC().Format(time.RFC3339))
	return nil
}

// wayIn says how to look at a kept sandbox.
func wayIn(kept collect.Kept) string {
	if suite.target.settings.Lab != nil {
		return fmt.Sprintf("while the run waits: (. %s && bin/sandproof shell %s)", keptEnv(), kept.SandboxID)
	}
	return fmt.Sprintf("bin/sandproof shell %[1]s, or e2b sandbox connect %[1]s; to end it sooner: e2b sandbox kill %[1]s", kept.SandboxID)
}

// keptEnv is the file with the lab's address and key, there while the run waits.
func keptEnv() string { return filepath.Join(suite.run.Dir, "lab.env") }

// keptSandboxes are the IDs of those that any process has kept.
func keptSandboxes() []string {
	merged, err := suite.run.Merge()
	if err != nil {
		problemf("the records could not be searched for sandboxes that were kept: %v", err)
	}
	return merged.Kept
}

// awaitLooks keeps the lab up for as long as kept sandboxes are there, or until
// the run is interrupted.
func awaitLooks(ctx context.Context, kept []string) {
	if len(kept) == 0 {
		return
	}
	lab := suite.target.settings.Lab
	defer endKept(context.WithoutCancel(ctx), kept)
	text := fmt.Sprintf("export E2B_API_URL=%s E2B_SANDBOX_URL=%s E2B_API_KEY=%s\n", lab.APIURL, lab.SandboxURL, lab.APIKey)
	if err := os.WriteFile(keptEnv(), []byte(text), 0o600); err != nil {
		problemf("the way to the kept sandboxes could not be written: %v", err)
		return
	}
	defer os.Remove(keptEnv())
	progressf("the lab stays up for %d kept sandbox(es), until they expire, are ended, or Ctrl-C is pressed; in another terminal:", len(kept))
	for _, id := range kept {
		tellf("      (. %s && bin/sandproof shell %s)\n", keptEnv(), id)
	}
	tick := time.NewTicker(keptPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-interruptions:
			return
		case <-tick.C:
		}
		there, err := suite.target.client.List(ctx, map[string]string{collect.MetadataRun: suite.run.Manifest.Run})
		if err != nil && ctx.Err() == nil {
			problemf("the lab does not tell any more which sandboxes are kept: %v", err)
			return
		}
		left := slices.DeleteFunc(there, func(s sandboxapi.ListedSandbox) bool { return !slices.Contains(kept, s.SandboxID) })
		if err == nil && len(left) == 0 {
			return
		}
	}
}

// keptPoll is the pause between two looks whether kept sandboxes are there.
const keptPoll = time.Second

// interruptions tell that the run was interrupted, before or while it waits:
// then nobody waits any more. Ginkgo hears them, too.
var interruptions = make(chan os.Signal, 1)

// listenForInterruptions must be called before the first spec.
func listenForInterruptions() { signal.Notify(interruptions, os.Interrupt, syscall.SIGTERM) }

// endKept ends the kept sandboxes when nobody waits for them any more.
func endKept(ctx context.Context, kept []string) {
	for _, id := range kept {
		if _, err := suite.target.client.Delete(ctx, id); err != nil {
			problemf("kept sandbox %s may be left behind: %v", id, err)
		}
	}
}
