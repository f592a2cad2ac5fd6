package image

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What steps tell of themselves: kind, line, target, controllers, and whether
// their errors are hidden (q), end the script (f), or only a run knows (o).
func TestReadScriptTells(t *testing.T) {
	const file = "/sys/fs/cgroup/cgroup.subtree_control"
	for _, test := range []struct{ name, script, want string }{
		{"one write", "echo '+cpu +memory' >" + file, "enable 1 cpu,memory 2"},
		{"a loop", "for c in cpu io; do echo +$c >" + file + "; done", "enable 1 cpu,io 1"},
		{"what is offered", "for c in $(cat x); do echo +$c >" + file + "; done", "enable 1  0 o"},
		{"a format", "printf '+%s ' cpu io >" + file, "enable 1  0 o"},
		{"another program", "sed 's/ / +/g' x >" + file, "enable 1  0 o"},
		{"a program and tee", "sed 's/^/+/' x | tee " + file + " >/dev/null", "enable 1  0 o"},
		{"a copy", "cat x | { tee " + file + "; }", ""},
		{"hidden", "echo +cpu >" + file + " 2>/dev/null", "enable 1 cpu 1 q"},
		{"hidden by a block", "{\necho +cpu >" + file + "\n} >/dev/null 2>&1", "enable 2 cpu 1 q"},
		{"hidden by an exec", "exec >/dev/null 2>&1\necho +cpu >" + file, "enable 2 cpu 1 q"},
		{"shown again", "exec >/dev/null 2>&1\nexec 2>/dev/console\necho +cpu >" + file, "enable 3 cpu 1"},
		{"errors before the output goes", "mount -t cgroup2 c /sys/fs/cgroup 2>&1 >/dev/null", "mount 1  0"},
		{"closed", "mount -t cgroup2 c /sys/fs/cgroup 2>&-", "mount 1  0 q"},
		{"all at once", "mount -t cgroup2 c /sys/fs/cgroup &>/dev/null", "mount 1  0 q"},
		{"in another shell", "sh -c 'mount -t cgroup2 c /sys/fs/cgroup' >/dev/null 2>&1", "mount 1  0 q"},
		{"set -e", "set -e\nmount -t cgroup2 c /sys/fs/cgroup\nset +e\nmount -t cgroup2 c /mnt", "mount 2  0 f\nmount 4  0"},
		{"set -o errexit", "set -o errexit\nmount -t cgroup2 c /sys/fs/cgroup\nset +o errexit\nmount -t cgroup2 c /mnt", "mount 2  0 f\nmount 4  0"},
		{"set of something else", "set -- -e\nset -u -x\nmount -t cgroup2 c /sys/fs/cgroup", "mount 3  0"},
		{"#! -e", "#!/bin/sh -e\nmount -t cgroup2 c /sys/fs/cgroup", "mount 2  0 f"},
		{"guarded", "set -e\nif mount -t cgroup2 c /sys/fs/cgroup; then :; fi\n! mount -t cgroup2 c /a\nmount -t cgroup2 c /b || :\nmount -t cgroup2 c /c &", "mount 2  0\nmount 3  0\nmount 4  0\nmount 5  0"},
		{"guarded by the caller", "set -e\nf() { mount -t cgroup2 c /sys/fs/cgroup; }\nf || echo no", "mount 2  0"},
		{"the last of a list", "set -e\ntrue && mount -t cgroup2 c /sys/fs/cgroup", "mount 2  0 f"},
		{"fstab", "mount -a", "mount-all 1  0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			script, err := ReadScript(test.script)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range script.Steps {
				marks := ""
				switch {
				case s.Quiet:
					marks = " q"
				case s.Fatal:
					marks = " f"
				case s.Open:
					marks = " o"
				}
				got = append(got, fmt.Sprintf("%s %d %s %d%s", s.Kind, s.Line, strings.Join(s.Controllers, ","), s.AtOnce, marks))
			}
			if want := slices.DeleteFunc(strings.Split(test.want, "\n"), func(s string) bool { return s == "" }); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// Where envd's errors go.
func TestReadScriptFollowsErrors(t *testing.T) {
	for script, want := range map[string]string{
		"envd":                              "",
		"envd >/dev/ttyS0 2>&1":             "/dev/ttyS0",
		"exec 2>/dev/console\nenvd":         "/dev/console",
		"C=/dev/ttyS1\nenvd &>$C":           "/dev/ttyS1",
		"envd 2>$(tty)":                     unknownFile,
		"f() { envd; }\nf >/tmp/log 2>&1 &": "/tmp/log",
	} {
		read, err := ReadScript(script)
		if err != nil || len(read.Steps) != 1 || read.Steps[0].Stderr != want {
			t.Errorf("%q: %+v, %v", script, read, err)
		}
	}
}
