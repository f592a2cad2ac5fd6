package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Where the delegation is put: "HERE" marks the line before which it must
// stand, and is not in the script.
func TestDelegate(t *testing.T) {
	for _, test := range []struct{ name, script string }{
		{"the users' init", "#!/bin/sh\nexec >/dev/ttyS0 2>&1\nmount -t cgroup2 none /sys/fs/cgroup\nHERE/usr/bin/envd &\nwhile :; do wait; done\n"},
		{"no newline at the end", "#!/bin/sh\nHEREexec /usr/bin/envd"},
		{"set -e", "#!/bin/sh\nset -eu\nmount -t proc proc /proc\nHERE/usr/local/bin/envd -isnotfc &\nsleep 1\n"},
		{"in a branch", "if [ -x /usr/bin/envd ]; then\n\techo go\nHERE\t/usr/bin/envd &\nelse\n\techo none\nfi\n"},
		{"by a function", "mounts() {\n\tmount -t cgroup2 c /sys/fs/cgroup\n}\nstart_envd() {\n\techo starting\nHERE\t/usr/bin/envd >/dev/ttyS0 2>&1 &\n}\nmounts\nstart_envd\n"},
		{"again and again", "mount -t proc proc /proc\nHEREwhile true; do\n\t/usr/bin/envd\n\tsleep 1\ndone &\nwait\n"},
		{"in a loop in a function", "run() {\nHERE  while :; do /usr/bin/envd || sleep 1; done\n}\nrun &\n"},
		{"in a pipe", "HERE/usr/bin/envd 2>&1 | tee /dev/ttyS0 &\nwait\n"},
		{"after &&", "HERE[ -x /usr/bin/envd ] && exec /usr/bin/envd\n"},
		{"by a variable", "ENVD=/usr/bin/envd\nHERE\"$ENVD\" -port 49983 &\n"},
		{"by a variable with a default", "HEREsetsid ${ENVD_BIN:-/usr/bin/envd} &\n"},
		{"by another shell", "HERE/bin/bash -l -c \"/usr/bin/envd\" &\n"},
		{"by nice", "HEREnice -n -20 ionice -c 1 /usr/bin/envd &\n"},
		{"on one line", "mount -t cgroup2 none /sys/fs/cgroup; HERE/usr/bin/envd &\n"},
		{"in both branches", "HEREif true; then\n\t/usr/bin/envd -a &\nelse\n\t/usr/bin/envd &\nfi\n"},
		{"in one file with here-documents", "cat >/etc/motd <<EOF\n/usr/bin/envd &\nEOF\nHERE/usr/bin/envd &\n"},
		{"a hand's fix that comes too late", "HERE/usr/bin/envd &\necho +cpu +memory > /sys/fs/cgroup/cgroup.subtree_control\n"},
		{"a hand's fix that lacks memory", "echo +cpu > /sys/fs/cgroup/cgroup.subtree_control\nHERE/usr/bin/envd &\n"},
		{"a hand's fix for another tree", "echo +cpu +memory > /mnt/cgroup.subtree_control\nHERE/usr/bin/envd &\n"},
		{"only cpu a level deeper", "echo +cpu > /sys/fs/cgroup/user/cgroup.subtree_control\nHERE/usr/bin/envd &\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := strings.Replace(test.script, "HERE", "", 1)
			change, err := Delegate(script)
			if err != nil {
				t.Fatal(err)
			}
			before, after, _ := strings.Cut(test.script, "HERE")
			rest, began := strings.CutPrefix(change.Text, before)
			block, rest, ended := strings.Cut(rest, "# <<< sandproof delegation 1 <<<\n")
			if !began || !ended || rest != after || !strings.HasPrefix(strings.TrimLeft(block, " \t\n"), "# >>> sandproof delegation 1 >>>\n") {
				t.Errorf("it became\n%s", change.Text)
			}
			if line := strings.Split(change.Text, "\n")[change.Line-1]; !strings.Contains(line, "# >>> sandproof") {
				t.Errorf("line %d is %q", change.Line, line)
			}
			again, err := Delegate(change.Text)
			if err != nil || again.Text != change.Text || again.Line != change.Line || !strings.Contains(again.Why, "already") {
				t.Errorf("a second time: %v, %q\n%s", err, again.Why, again.Text)
			}
			older := strings.ReplaceAll(strings.ReplaceAll(change.Text, "delegation 1 ", "delegation 0 "), "io pids", "io")
			newer, err := Delegate(older)
			if err != nil || newer.Text != change.Text || !strings.Contains(newer.Why, "replaced") {
				t.Errorf("an older one: %v, %q\n%s", err, newer.Why, newer.Text)
			}
		})
	}
}

// Scripts that are left as they are, and those that nothing is done to.
func TestDelegateLeaves(t *testing.T) {
	for _, test := range []struct{ name, script, why string }{
		{"the users' fix", "echo \"+cpu +memory +io +pids\" > /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true\n/usr/bin/envd &\n", "line 1 enables the controllers already, before line 2 starts envd"},
		{"one by one", "for c in cpu memory io; do\n\techo +$c > /sys/fs/cgroup/cgroup.subtree_control || echo no $c\ndone\n/usr/bin/envd &\n", "line 2 enables"},
		{"through a variable", "CG=/sys/fs/cgroup\nCONTROLLERS=\"cpu memory\"\nfor c in $CONTROLLERS; do echo \"+$c\" >> ${CG}/cgroup.subtree_control; done\nenvd\n", "line 3 enables"},
		{"by tee", "echo '+cpu +memory' | tee /sys/fs/cgroup/cgroup.subtree_control\n/usr/bin/envd\n", "line 1 enables"},
		{"by a function", "enable() { echo +memory +cpu >/sys/fs/cgroup/cgroup.subtree_control; }\nenable\nexec /usr/bin/envd\n", "line 1 enables"},
	} {
		t.Run(test.name, func(t *testing.T) {
			change, err := Delegate(test.script)
			if err != nil || change.Text != test.script || change.Line != 0 || !strings.Contains(change.Why, test.why) {
				t.Errorf("%v, %+v", err, change)
			}
		})
	}
	for _, test := range []struct{ name, script, want string }{
		{"CR LF", "#!/bin/sh\r\n/usr/bin/envd &\r\n", "CR LF"},
		{"a binary", "\x7fELF\x00", "no script but a binary"},
		{"no envd", "#!/bin/sh\nmount -t proc proc /proc\nexec /lib/systemd/systemd\n", "does not start envd in a way that can be seen"},
		{"only in a comment", "# /usr/bin/envd &\n: '/usr/bin/envd &'\n", "does not start envd"},
		{"a level too deep", "mkdir /sys/fs/cgroup/user\necho +cpu +memory > /sys/fs/cgroup/user/cgroup.subtree_control\n/usr/bin/envd &\n", "line 2 enables controllers in /sys/fs/cgroup/user"},
		{"half of the marks", "# >>> sandproof delegation 1 >>>\n/usr/bin/envd &\n", "not one first and one last"},
		{"a here-document on its line", "cat <<EOF; /usr/bin/envd &\nx\nEOF\n", "no place before the start of envd"},
		{"broken", "if true; then\n/usr/bin/envd &\n", "the shell would not accept the script: 1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			change, err := Delegate(test.script)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, %+v", err, change)
			}
			if refusal, ok := errors.AsType[*RefusedError](err); ok && refusal.WayOut == "" {
				t.Error("no way out")
			}
		})
	}
}

// The delegation runs in every shell that templates have, under options that
// make shells strict, and says what it did. The kernel's directory is a plain
// one here.
func TestDelegationRuns(t *testing.T) {
	for _, shell := range [][]string{{"bash"}, {"dash"}, {"busybox", "sh"}} {
		program, err := exec.LookPath(shell[0])
		if err != nil {
			t.Logf("%s is not installed", shell[0])
			continue
		}
		for _, test := range []struct {
			name, controllers string
			mode              os.FileMode
			written, said     []string
		}{
			{
				"all offered", "cpuset cpu io memory pids\n", 0o600,
				[]string{"+pids"},
				[]string{"cpu enabled", "memory enabled", "io enabled", "pids enabled"},
			},
			{
				"some offered", "cpu memory", 0o600,
				[]string{"+memory"},
				[]string{"cpu enabled", "memory enabled", "io is not offered by this kernel", "pids is not offered by this kernel"},
			},
			{"none offered", "", 0o600, nil, []string{"cpu is not offered", "memory is not offered", "io is not offered", "pids is not offered"}},
		} {
			t.Run(shell[0]+", "+test.name, func(t *testing.T) {
				root := t.TempDir()
				control := filepath.Join(root, "cgroup.subtree_control")
				for name, text := range map[string]string{"cgroup.controllers": test.controllers, "cgroup.subtree_control": ""} {
					if err := os.WriteFile(filepath.Join(root, name), []byte(text), test.mode); err != nil {
						t.Fatal(err)
					}
				}
				script := "set -euC\nIFS=,\n" + strings.ReplaceAll(delegation, CgroupRoot, root) + "echo went on\n"
				out, err := exec.CommandContext(t.Context(), program, append(slices.Clone(shell[1:]), "-c", script)...).CombinedOutput()
				if err != nil || !strings.HasSuffix(string(out), "went on\n") {
					t.Fatalf("%v: %s", err, out)
				}
				for _, said := range test.said {
					if !strings.Contains(string(out), "sandproof: delegation: "+said) {
						t.Errorf("it did not say %q:\n%s", said, out)
					}
				}
				got, err := os.ReadFile(control)
				if err != nil || !slices.Equal(strings.Fields(string(got)), test.written) {
					t.Errorf("written: %q, %v", got, err)
				}
			})
		}
		t.Run(shell[0]+", refused", func(t *testing.T) {
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			// A directory in the place of the file refuses each write.
			if err := os.Mkdir(filepath.Join(root, "cgroup.subtree_control"), 0o700); err != nil {
				t.Fatal(err)
			}
			script := "set -eu\n" + strings.ReplaceAll(delegation, CgroupRoot, root) + "echo went on\n"
			out, err := exec.CommandContext(t.Context(), program, append(slices.Clone(shell[1:]), "-c", script)...).CombinedOutput()
			if err != nil || !strings.HasSuffix(string(out), "went on\n") || !strings.Contains(string(out), "memory could not be enabled") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// Whatever a script holds, it is put in whole or not at all, and a second time
// changes nothing.
func FuzzDelegate(f *testing.F) {
	for _, s := range []string{
		"#!/bin/sh\n/usr/bin/envd &\n", "a() { /usr/bin/envd; }; a; a\n", "for i in 1 2; do envd; done", "cat <<E; envd\nE\n", "x=$(envd)\n", "${a:?} && envd",
		"echo {1..9}{1..9}; envd", "a() { a; }; a; envd", "(envd) & envd", "case $1 in a) envd;; esac", "$((2**3**9)) ; envd",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		change, err := Delegate(text)
		if err != nil {
			return
		}
		if strings.ReplaceAll(strings.ReplaceAll(change.Text, delegation, ""), "\n", "") != strings.ReplaceAll(text, "\n", "") && change.Text != text && !strings.Contains(text, "sandproof delegation") &&
			!strings.Contains(change.Text, "\t# >>>") && !strings.Contains(change.Text, " # >>>") {
			t.Errorf("more than the delegation was changed: %q", change.Text)
		}
		again, err := Delegate(change.Text)
		if err != nil || again.Text != change.Text {
			t.Errorf("a second time: %v\n%q\n%q", err, change.Text, again.Text)
		}
	})
}
