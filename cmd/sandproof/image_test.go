package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/image"
)

const (
	goodBuild = "9ac9c8b9-9b8b-476c-9238-8266af308c32"
	badBuild  = "8f9398ba-14d1-469c-aa2e-169f890a2520"
)

// runImage runs sandproof image in this process, and returns what it
// prints and the code it ends with, -1 for an error.
func runImage(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	var buffer bytes.Buffer
	cmd := root()
	cmd.SetArgs(append([]string{"image"}, args...))
	cmd.SetOut(&buffer)
	err = cmd.ExecuteContext(t.Context())
	if exit, ok := errors.AsType[exitError](err); ok {
		return buffer.String(), int(exit), nil
	}
	if err != nil {
		return buffer.String(), -1, err
	}
	return buffer.String(), 0, nil
}

// testBuild makes a build below a storage, whose init is a script.
func testBuild(t *testing.T, storage, id, script string) {
	t.Helper()
	tree := t.TempDir()
	for name, text := range map[string]string{
		"sbin/init": script, "bin/sh": "\x7fELF", "usr/bin/envd": "\x7fELF", "usr/bin/socat": "\x7fELF",
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/\x1b[31muser:/bin/sh\n",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(storage, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", tree, filepath.Join(dir, "rootfs.ext4"), "4M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// Templates are found through the inventory, whatever the target is, and the
// exit code tells whether there are errors.
func TestImageLintAndInspect(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	mount := "#!/bin/sh\nexec >/dev/ttyS0 2>&1\nmount -t cgroup2 c /sys/fs/cgroup\n"
	testBuild(t, filepath.Join(dir, "storage"), goodBuild, mount+"for c in cpu memory io; do echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done\n/usr/bin/envd\n")
	testBuild(t, filepath.Join(dir, "storage"), badBuild, mount+"/usr/bin/envd\n")
	text := "live:\n  storage: storage\n  caches: [cache]\ntemplates:\n- {name: fine, build-id: " + goodBuild + "}\n- {name: broken, build-id: " + badBuild + ", priority: 1}\n"
	if err := os.WriteFile("ginkgo.yml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"lint", "fine"}, 0, "0 errors, 0 warnings, 1 notes"},
		{[]string{"lint", "broken"}, 1, "never-enabled"},
		{[]string{"lint", "storage/" + badBuild}, 1, "why: "},
		{[]string{"lint", "storage/" + badBuild + "/rootfs.ext4"}, 1, "1 errors"},
		{[]string{"lint", "nothing"}, -1, "it has broken, fine"},
		{[]string{"inspect", "broken"}, 0, "the init starts it"},
		{[]string{"inspect", "storage/none"}, -1, "no such file"},
	} {
		out, code, err := runImage(t, test.args...)
		if err != nil {
			out += err.Error()
		}
		if code != test.code || !strings.Contains(out, test.want) || strings.Contains(out, "\x1b") {
			t.Errorf("%v: code %d, %s", test.args, code, out)
		}
	}

	out, code, err := runImage(t, "lint", "--json", "fine")
	var report linted
	if err := errors.Join(err, json.Unmarshal([]byte(out), &report)); err != nil || code != 0 || report.Build.Template != "fine" || len(report.Findings) != 1 {
		t.Errorf("lint --json: %v, %d, %s", err, code, out)
	}
	out, code, err = runImage(t, "inspect", "--json", "broken")
	var inv image.Inventory
	if err := errors.Join(err, json.Unmarshal([]byte(out), &inv)); err != nil || code != 0 || inv.Schema != image.InventorySchema || inv.Build.ID != badBuild || len(inv.Init.Script.Steps) != 2 {
		t.Errorf("inspect --json: %v, %d, %s", err, code, out)
	}
}
