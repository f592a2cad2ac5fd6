package requirement

import (
	"strings"
	"testing"

	"sandproof/internal/evidence"
)

// A guest that does not come up is the template's failure at stage boot, with
// what its console said; nothing else is known, and nothing else is a pass, a
// failure or the world's trouble.
func TestGuestThatDoesNotComeUp(t *testing.T) {
	const died = "failed to create sandbox: the guest ended before its envd answered: the guest ended: exit status 0\n  last lines of its console:\n    "
	for _, test := range []struct{ name, said, reason, next string }{
		{"an init that ends", died + "[ 1.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n    CPU: 0", "the image's init ended, and a kernel without PID 1 panics " +
			"(Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100)", "under set -e"},
		{"an init without its program", died + "[ 1.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00", "a program that is not in the image", "end in a loop"},
		{"no init", died + "sandproof-initramfs: the image has no executable /sbin/init\n    [ 2.0] reboot: Power down", "no executable /sbin/init", "mode 0755"},
		{
			"an init that cannot be executed", died + "switch_root: can't execute '/sbin/init': No such file or directory\n    Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
			"its link leads nowhere, or the interpreter", "whose interpreter is in the image",
		},
		{"no file system", died + "EXT4-fs error\n    sandproof-initramfs: cannot mount the root file system", "cannot mount the image", "e2fsck -fn"},
		{"another panic", died + "Kernel panic - not syncing: Out of memory\n", "the kernel panicked (Kernel panic - not syncing: Out of memory)", "console"},
		{"nothing answers", "failed to create sandbox: envd did not answer within 1m0s (no answer); the last lines of the guest's console:\n    the init goes on", "nothing in the guest answers", "starts envd"},
		{"an envd that refuses", "failed to create sandbox: initialise envd: 401", "refuses to be initialised", "see that the program is"},
		{"a power-off", died + "bye", "does not come up: failed to create sandbox: the guest ended before its envd answered: the guest ended: exit status 0", "console"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, piece := range []evidence.Piece{evidence.PieceAPI, evidence.PieceHealth} {
				s := &evidence.Sandbox{Problems: []evidence.Problem{{Piece: piece, Kind: evidence.ProblemBoot, Call: "create the sandbox", Error: test.said}}}
				for _, r := range All() {
					o := r.Judge(s)
					if r.ID != BootEnvdAnswers {
						if o.Result != Unproven || strings.Contains(o.Reason, "\n") {
							t.Errorf("%s is %s: %s", r.ID, o.Result, o.Reason)
						}
						continue
					}
					if o.Result != Fail || !strings.Contains(o.Reason, test.reason) || !strings.Contains(o.Next, test.next) || o.Read != test.said {
						t.Errorf("got %+v, want %q and %q", o, test.reason, test.next)
					}
				}
			}
		})
	}
}
