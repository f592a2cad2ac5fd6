package image

import (
	"os/exec"
	"strings"
	"testing"
)

// The shipped init is one that every shell accepts, that has the delegation
// before envd, and the boot lines of the lab's own.
func TestShippedInit(t *testing.T) {
	text := ShippedInit()
	change, err := Delegate(text)
	if err != nil || change.Text != text || !strings.Contains(change.Why, "already") {
		t.Errorf("%v, %+v", err, change.Why)
	}
	for _, line := range []string{"=== E2B Init Starting ===", "✓ Filesystems mounted (with cgroup delegation)", "✓ Network configured", "=== Starting envd ===", "=== Init complete, envd started ==="} {
		if !strings.Contains(text, `echo "`+line+`"`) {
			t.Errorf("it does not say %q", line)
		}
	}
	for _, shell := range [][]string{{"bash", "-n"}, {"dash", "-n"}, {"busybox", "sh", "-n"}} {
		if _, err := exec.LookPath(shell[0]); err != nil {
			t.Logf("%s is not installed", shell[0])
			continue
		}
		cmd := exec.CommandContext(t.Context(), shell[0], shell[1:]...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", shell[0], err, out)
		}
	}
}
