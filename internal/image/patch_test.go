package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	testBuild = "9ac9c8b9-9b8b-476c-9238-8266af308c32"
	plainInit = "#!/bin/sh\nmount -t cgroup2 none /sys/fs/cgroup\n/usr/bin/envd &\nwhile :; do wait; sleep 1; done\n"
	// lookLikeInit gives an init an owner, a mode and times of its own.
	lookLikeInit = "sif /sbin/init mode 0100754\nsif /sbin/init uid 7\nsif /sbin/init gid 8\nsif /sbin/init mtime @1700000001\nsif /sbin/init mtime_extra 0x123454\nsif /sbin/init crtime @1600000000\nea_set /sbin/init user.kept value\n"
)

// buildOf makes a build's directory with an image of a tree.
func buildOf(t *testing.T, tree map[string]string, requests string, mke2fsArgs ...string) Build {
	t.Helper()
	if strings.HasPrefix(tree["sbin/init"], "#!") {
		requests = "sif /sbin/init mode 0100755\n" + requests
	}
	made := rootFS(t, tree, requests)
	if len(mke2fsArgs) > 0 {
		made = filepath.Join(t.TempDir(), "made.ext4")
		mke2fs(t, made, "4M", append([]string{"-t", "ext4", "-d", filepath.Join(filepath.Dir(rootFS(t, tree, "")), "root")}, mke2fsArgs...)...)
		cmd := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-w", "-R", "sif /sbin/init mode 0100755", made)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	dir := filepath.Join(t.TempDir(), testBuild)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(made, filepath.Join(dir, "rootfs.ext4")); err != nil {
		t.Fatal(err)
	}
	return locate(t, dir)
}

func plainBuild(t *testing.T) Build {
	t.Helper()
	return buildOf(t, map[string]string{"sbin/init": plainInit, "usr/bin/envd": "envd", "bin/sh": "sh"}, lookLikeInit)
}

func locate(t *testing.T, dir string) Build {
	t.Helper()
	b, err := Locate(dir, Storage{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func quietly(*Plan) error { return nil }

func quietlyUndo(*UndoPlan) error { return nil }

func content(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// initIn is the init of an image, with what it has beside its content.
func initIn(t *testing.T, image string) (string, attributes) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := editor{f}
	dir, err := e.directory(t.Context(), "/sbin")
	if err != nil {
		t.Fatal(err)
	}
	found, err := e.look(t.Context(), dir, "init")
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.read(t.Context(), found, maxInit)
	if err != nil {
		t.Fatal(err)
	}
	a, err := e.attributesOf(t.Context(), found.number)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), a
}

// names are those in an image's directory.
func names(t *testing.T, b Build) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(b.RootFS))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// A patch, a second one, and the undo.
func TestPatchAndUndo(t *testing.T) {
	b := plainBuild(t)
	if err := os.Chmod(b.RootFS, 0o640); err != nil {
		t.Fatal(err)
	}
	before := content(t, b.RootFS)
	_, had := initIn(t, b.RootFS)
	var plan *Plan
	result, err := Patch(t.Context(), b, Options{Harness: "test"}, func(p *Plan) error { plan = p; return nil })
	if err != nil || result.Nothing != "" {
		t.Fatalf("%v, %+v", err, result)
	}
	if len(plan.Changes) != 1 || !strings.Contains(plan.Changes[0].Diff, "\n+# >>> sandproof delegation 1 >>>\n") || !strings.Contains(plan.Changes[0].Diff, "\n /usr/bin/envd &\n") {
		t.Errorf("the plan: %+v", plan)
	}
	want, err := Delegate(plainInit)
	if err != nil {
		t.Fatal(err)
	}
	text, has := initIn(t, b.RootFS)
	if text != want.Text {
		t.Errorf("the init is\n%s", text)
	}
	if fmt.Sprint(has) != fmt.Sprint(had) || has.owner != "7:8" || has.mode != "754" || has.xattrs["user.kept"] != "value" || has.times["mtime"].extra != "00123454" {
		t.Errorf("beside its content it has\n%+v, and had\n%+v", has, had)
	}
	if info, err := os.Stat(b.RootFS); err != nil || info.Mode() != 0o640 {
		t.Errorf("the image has the mode %v, %v", info.Mode(), err)
	}
	if !bytes.Equal(content(t, b.RootFS+backupSuffix), before) {
		t.Error("the backup is not the original")
	}
	if s := StatusOf(t.Context(), b); s.State != StateIsPatched || s.Version != 1 || s.Detail != "" {
		t.Errorf("status: %+v", s)
	}
	var m Manifest
	if err := json.Unmarshal(content(t, b.RootFS+manifestSuffix), &m); err != nil || m.State != StatePatched || m.Changes[0].Before != sha256Of([]byte(plainInit)) || m.Changes[0].After != sha256Of([]byte(text)) {
		t.Errorf("%v: %+v", err, m)
	}
	for _, step := range []string{stepCopy, stepWrite, stepCheck, stepVerify, stepBackup, stepRename, stepPurge} {
		if !slices.ContainsFunc(m.Steps, func(d Done) bool { return d.Step == step }) {
			t.Errorf("step %q is not in the manifest", step)
		}
	}
	patched := content(t, b.RootFS)
	result, err = Patch(t.Context(), b, Options{}, quietly)
	if err != nil || !strings.Contains(result.Nothing, "is in it already") || !bytes.Equal(content(t, b.RootFS), patched) {
		t.Errorf("a second time: %v, %+v", err, result)
	}
	if _, err := Undo(t.Context(), b, Options{}, quietlyUndo); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, b.RootFS), before) {
		t.Error("the undone image is not the original")
	}
	if got := names(t, b); !slices.Equal(got, []string{"rootfs.ext4", "rootfs.ext4" + manifestSuffix}) {
		t.Errorf("left: %v", got)
	}
	if s := StatusOf(t.Context(), b); s.State != StateIsUndone {
		t.Errorf("status: %+v", s)
	}
	result, err = Undo(t.Context(), b, Options{}, quietlyUndo)
	if err != nil || result.Nothing == "" {
		t.Errorf("undone twice: %v, %+v", err, result)
	}
	if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil || !bytes.Equal(content(t, b.RootFS+backupSuffix), before) {
		t.Errorf("patched again: %v", err)
	}
}

// A whole init, over links and with a mode of its own; and a newer patch over
// it, whose undo gives the original.
func TestPatchWholeInit(t *testing.T) {
	b := plainBuild(t)
	before := content(t, b.RootFS)
	own := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(own, []byte(ShippedInit()), 0o600); err != nil {
		t.Fatal(err)
	}
	var notes []string
	if _, err := Patch(t.Context(), b, Options{Init: own}, func(p *Plan) error { notes = p.Notes; return nil }); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "init to install") }) {
		t.Errorf("the shipped init: %q", notes)
	}
	if text, a := initIn(t, b.RootFS); text != ShippedInit() || a.mode != "755" || a.owner != "0:0" {
		t.Errorf("%+v", a)
	}
	if err := os.WriteFile(own, []byte("#!/bin/sh\n/usr/bin/envd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Patch(t.Context(), b, Options{Init: own}, func(p *Plan) error { notes = p.Notes; return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "does not enable the controllers") }) {
		t.Errorf("an init without delegation: %q", notes)
	}
	if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil {
		t.Fatal(err)
	}
	if text, _ := initIn(t, b.RootFS); !strings.Contains(text, delegation) {
		t.Errorf("%s", text)
	}
	if _, err := Undo(t.Context(), b, Options{}, quietlyUndo); err != nil || !bytes.Equal(content(t, b.RootFS), before) {
		t.Errorf("undone: %v", err)
	}
	for _, test := range []struct{ name, text, want string }{
		{"CR LF", "#!/bin/sh\r\n/usr/bin/envd\r\n", "CR LF"},
		{"no first line", "/usr/bin/envd\n", "does not start it"},
		{"a shell that is not there", "#!/bin/zsh\n/usr/bin/envd\n", "is run by /bin/zsh"},
	} {
		if err := os.WriteFile(own, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Patch(t.Context(), b, Options{Init: own}, quietly); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A unit's drop-in is the mend under systemd.
func TestPatchSystemd(t *testing.T) {
	tree := map[string]string{
		"sbin": "-> usr/sbin", "usr/sbin/init": "-> ../lib/systemd/systemd", "usr/lib/systemd/systemd": "\x7fELF\x00", "usr/bin/envd": "envd",
		"etc/systemd/system/envd.service": "[Service]\nExecStart=/usr/bin/envd\n",
	}
	b := buildOf(t, tree, "")
	if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(b.RootFS)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := inside(t, f, dropInPath); got != "regular 644 0:0 " {
		t.Errorf("the drop-in is %q", got)
	}
	if out, err := (editor{f}).run(t.Context(), "debugfs", "-R", "cat "+dropInPath); err != nil || !strings.Contains(out, "Delegate=yes") {
		t.Errorf("%v: %s", err, out)
	}
	f.Close()
	if result, err := Patch(t.Context(), b, Options{}, quietly); err != nil || !strings.Contains(result.Nothing, "already") {
		t.Errorf("a second time: %v, %+v", err, result)
	}
	tree["etc/systemd/system/envd.service"] = "[Service]\nDelegate=yes\n"
	if result, err := Patch(t.Context(), buildOf(t, tree, ""), Options{}, quietly); err != nil || !strings.Contains(result.Nothing, "delegates already") {
		t.Errorf("upstream's unit: %v, %+v", err, result)
	}
	tree["etc/systemd/system/envd.service"] = "-> /dev/null"
	if _, err := Patch(t.Context(), buildOf(t, tree, ""), Options{}, quietly); err == nil || !strings.Contains(err.Error(), "is a symlink") {
		t.Errorf("a masked unit: %v", err)
	}
	delete(tree, "etc/systemd/system/envd.service")
	if _, err := Patch(t.Context(), buildOf(t, tree, ""), Options{}, quietly); err == nil || !strings.Contains(err.Error(), "has no envd.service") {
		t.Errorf("no unit: %v", err)
	}
}

// Images as E2B and others make them.
func TestPatchFileSystems(t *testing.T) {
	tree := map[string]string{"sbin/init": plainInit, "usr/bin/envd": "envd"}
	for _, args := range [][]string{
		{"-O", "inline_data"},
		{"-O", "^64bit,^dir_index"},
		{"-O", "inline_data,^64bit,^dir_index,^has_journal,^resize_inode"},
		{"-b", "4096", "-I", "128"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			b := buildOf(t, tree, "", args...)
			before := content(t, b.RootFS)
			if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil {
				t.Fatal(err)
			}
			if text, _ := initIn(t, b.RootFS); !strings.Contains(text, delegation) {
				t.Errorf("%s", text)
			}
			if _, err := Undo(t.Context(), b, Options{}, quietlyUndo); err != nil || !bytes.Equal(content(t, b.RootFS), before) {
				t.Errorf("undone: %v", err)
			}
		})
	}
	t.Run("dirty journal", func(t *testing.T) {
		b := buildOf(t, tree, "jo\njw -b 2000 /dev/zero\njc\n")
		var notes []string
		if _, err := Patch(t.Context(), b, Options{}, func(p *Plan) error { notes = p.Notes; return nil }); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(b.RootFS)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if dirty, err := hasDirtyJournal(f); dirty || err != nil || !strings.Contains(strings.Join(notes, " "), "journal") {
			t.Errorf("dirty: %v, %v, %q", dirty, err, notes)
		}
	})
}

// Images that are refused, and stay what they are, with nothing beside them.
func TestPatchRefuses(t *testing.T) {
	plain := map[string]string{"sbin/init": plainInit, "usr/bin/envd": "envd"}
	with := func(name, text string) map[string]string {
		return map[string]string{"sbin/init": plainInit, "usr/bin/envd": "envd", name: text}
	}
	beside := func(name string) func(*testing.T, Build) {
		return func(t *testing.T, b Build) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(filepath.Dir(b.RootFS), name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name string
		tree map[string]string
		do   string
		then func(*testing.T, Build)
		want string
	}{
		{"a layer", plain, "", beside("rootfs.ext4.header"), "a layer that holds changes only"},
		{"a memory", plain, "", beside("memfile"), "resume from a guest's memory"},
		{"a snapshot", plain, "", beside("snapfile"), "resume from a guest's memory"},
		{"a broken journal", plain, "jo\njw -b 2000 /dev/zero\njc\nclri <8>\n", nil, "journal"},
		{"a broken file system", plain, "clri <2>\n", nil, "the file system of the image has errors"},
		{"an absolute link", map[string]string{"sbin/init": "-> /opt/init", "opt/init": plainInit}, "", nil, `is a link to "/opt/init"`},
		{"a relative link", map[string]string{"sbin/init": "-> ../opt/init", "opt/init": plainInit}, "", nil, `is a link to "../opt/init"`},
		{
			"a link below a link",
			map[string]string{"sbin": "-> usr/sbin", "usr/sbin/init": "-> ../opt/init", "usr/opt/init": plainInit},
			"",
			nil,
			`is a link to "../opt/init"`,
		},
		{"busybox", map[string]string{"sbin/init": "-> ../bin/busybox", "bin/busybox": "x"}, "", nil, "OpenRC"},
		{"a binary", with("sbin/init", "\x7fELF\x00\x01"), "sif /sbin/init mode 0100755\n", nil, "is no script: it is a binary"},
		{"a directory", map[string]string{"sbin/init/x": "x"}, "", nil, "is a directory"},
		{"no init", map[string]string{"sbin/x": "x"}, "", nil, "has no /sbin/init"},
		{"no sbin", map[string]string{"bin/x": "x"}, "", nil, "has no /sbin/init"},
		{"not executable", plain, "sif /sbin/init mode 0100644\n", nil, "has the mode 644"},
		{"CR LF", with("sbin/init", "#!/bin/sh\r\n/usr/bin/envd &\r\n"), "", nil, "CR LF"},
		{"broken script", with("sbin/init", "#!/bin/sh\nif true; then\n/usr/bin/envd &\n"), "", nil, "the shell would not accept"},
		{"no envd", with("sbin/init", "#!/bin/sh\nsleep 1\n"), "", nil, "does not start envd"},
		{"cut short", plain, "", func(t *testing.T, b Build) {
			t.Helper()
			if err := os.Truncate(b.RootFS, 1<<20); err != nil {
				t.Fatal(err)
			}
		}, "is cut short"},
		{"no ext4", plain, "", func(t *testing.T, b Build) {
			t.Helper()
			if err := os.WriteFile(b.RootFS, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is no ext4 file system"},
		{"in use", plain, "", func(t *testing.T, b Build) {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), "sleep", "60")
			f, err := os.Open(b.RootFS)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.ExtraFiles = []*os.File{f}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill() // it may have ended
				_ = cmd.Wait()         // its status is that of the kill
			})
		}, "the image is in use: process"},
		{"a backup from elsewhere", plain, "", beside("rootfs.ext4.sandproof-backup"), "no manifest explains"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := buildOf(t, test.tree, test.do)
			if test.then != nil {
				test.then(t, b)
				b = locate(t, filepath.Dir(b.RootFS))
			}
			before, had := content(t, b.RootFS), names(t, b)
			result, err := Patch(t.Context(), b, Options{}, quietly)
			refusal, ok := errors.AsType[*RefusedError](err)
			if !ok || !strings.Contains(refusal.Reason, test.want) || refusal.WayOut == "" {
				t.Fatalf("%v, %+v", err, result)
			}
			if !bytes.Equal(content(t, b.RootFS), before) || !slices.Equal(names(t, b), had) {
				t.Errorf("it was changed, or something is left: %v", names(t, b))
			}
		})
	}
	t.Run("full", func(t *testing.T) {
		b := plainBuild(t)
		large := filepath.Join(t.TempDir(), "large")
		text := append([]byte("#!/bin/sh\n"), bytes.Repeat([]byte("# large\n"), 1<<19)...)
		if err := os.WriteFile(large, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Patch(t.Context(), b, Options{Init: large}, quietly)
		if _, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(err.Error(), "the image has no room for /sbin/init") {
			t.Errorf("%v", err)
		}
		// And where nobody had looked before, the read-back says it.
		f, err := os.OpenFile(b.RootFS, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := (editor{f}).write(t.Context(), rootInode, "large", text, attributes{mode: "755", owner: "0:0"}); err == nil || !strings.Contains(err.Error(), "not written as it should be") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a directory that cannot be written to", func(t *testing.T) {
		b := plainBuild(t)
		immutable(t, filepath.Dir(b.RootFS))
		_, err := Patch(t.Context(), b, Options{}, quietly)
		if _, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(err.Error(), "nothing can be written to the directory") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a file system without nameless files", func(t *testing.T) {
		if refusal := writable("/proc/self"); refusal == nil || !strings.Contains(refusal.Reason, "/proc/self") {
			t.Errorf("%v", refusal)
		}
	})
}

// immutableFlag is FS_IMMUTABLE_FL (ioctl_iflags(2)).
const immutableFlag = 0x10

// immutable makes a directory one that nobody can write to, root neither.
func immutable(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o755) }) // for the directory's own removal, which tells
		return
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutableFlag); err != nil {
		t.Skipf("this file system has no immutable directories: %v", err)
	}
	t.Cleanup(func() {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0); err != nil {
			t.Error(err)
		}
	})
}

// Init scripts of the styles that templates have are patched in an image, and
// those that were mended by hand are left alone.
func TestPatchStyles(t *testing.T) {
	for _, test := range []struct {
		name, script, nothing string
	}{
		{"code interpreter, no cgroup mount", "#!/bin/sh\nexec >/dev/ttyS0 2>&1\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\n/usr/local/bin/envd &\nwhile true; do sleep 1000; done\n", ""},
		{"no newline at the end", "#!/bin/bash\nset -e\nmount -t cgroup2 cgroup2 /sys/fs/cgroup\nexec /usr/bin/envd", ""},
		{"by a function", "#!/bin/sh\nrun() {\n\t/usr/bin/envd\n}\nrun &\nwait\n", ""},
		{"by hand", "#!/bin/sh\necho \"+cpu +cpuset +io +memory +pids\" > /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true\n/usr/bin/envd &\n", "it is left as it is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := buildOf(t, map[string]string{"sbin/init": test.script, "usr/bin/envd": "envd"}, "")
			result, err := Patch(t.Context(), b, Options{}, quietly)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := initIn(t, b.RootFS)
			if test.nothing != "" {
				if text != test.script || !strings.Contains(result.Nothing, test.nothing) || len(names(t, b)) != 1 {
					t.Errorf("%+v\n%s", result, text)
				}
				if s := StatusOf(t.Context(), b); s.State != StateForeign {
					t.Errorf("status: %+v", s)
				}
				return
			}
			want, err := Delegate(test.script)
			if err != nil || text != want.Text {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}

// What patching needs at the same time nobody else gets.
func TestTwoPatchers(t *testing.T) {
	b := plainBuild(t)
	inside, goOn := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	var first error
	wg.Go(func() {
		_, first = Patch(t.Context(), b, Options{}, func(*Plan) error {
			close(inside)
			<-goOn
			return nil
		})
	})
	<-inside
	_, second := Patch(t.Context(), b, Options{}, quietly)
	_, third := Undo(t.Context(), b, Options{}, quietlyUndo)
	close(goOn)
	wg.Wait()
	if first != nil {
		t.Error(first)
	}
	for _, err := range []error{second, third} {
		if _, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(err.Error(), "another sandproof") {
			t.Errorf("the other one: %v", err)
		}
	}
}

// Giving it up leaves the original, and nothing beside it.
func TestPatchGivenUp(t *testing.T) {
	for _, step := range []string{"", stepCopy, stepWrite, stepCheck, stepVerify} {
		b := plainBuild(t)
		before := content(t, b.RootFS)
		ctx, cancel := context.WithCancel(t.Context())
		atStep = func(name string) {
			if name == step {
				cancel()
			}
		}
		if step == "" {
			cancel()
		}
		_, err := Patch(ctx, b, Options{}, quietly)
		atStep = func(string) {}
		cancel()
		if !errors.Is(err, context.Canceled) || !bytes.Equal(content(t, b.RootFS), before) || len(names(t, b)) != 1 {
			t.Errorf("at %q: %v, %v", step, err, names(t, b))
		}
	}
}

// crashStep names the step after which a process of the tests kills itself, as
// NAME:BUILD-DIRECTORY:COMMAND.
const crashEnv = "SANDPROOF_TEST_CRASH"

func TestMain(m *testing.M) {
	spec := os.Getenv(crashEnv)
	if spec == "" {
		os.Exit(m.Run()) //nolint:forbidigo // a test process's own end
	}
	parts := strings.Split(spec, "|")
	atStep = func(name string) {
		if name == parts[0] {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL) // it does not come back
			select {}
		}
	}
	ctx := context.Background() //nolint:forbidigo // this process is no test, and its root context its own
	b, err := Locate(parts[1], Storage{})
	if err == nil {
		if o := (Options{Caches: []string{parts[2]}}); parts[3] == "undo" {
			_, err = Undo(ctx, b, o, quietlyUndo)
		} else {
			_, err = Patch(ctx, b, o, quietly)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(9) //nolint:forbidigo // it was to be killed before
}

// A process that is killed at any step leaves the original or the patched
// image, whole, and the next command goes on from there.
func TestKilledAtEveryStep(t *testing.T) {
	crash := func(t *testing.T, step, command string, b Build, cache string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+strings.Join([]string{step, filepath.Dir(b.RootFS), cache, command}, "|"))
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.String() != "signal: killed" {
			t.Fatalf("it was not killed at %q: %v: %s", step, err, out)
		}
	}
	fill := func(t *testing.T) string {
		t.Helper()
		cache := t.TempDir()
		if err := os.MkdirAll(filepath.Join(cache, testBuild, "rootfs.ext4"), 0o755); err != nil {
			t.Fatal(err)
		}
		return cache
	}
	template := plainBuild(t)
	original := content(t, template.RootFS)
	for _, step := range []string{stepCopy, stepJournal, stepWrite, stepCheck, stepVerify, stepManifest, stepBackup, stepLink, stepRename, stepSync, stepRecord, stepPurge} {
		for _, next := range []string{"patch", "undo"} {
			t.Run(step+", then "+next, func(t *testing.T) {
				b, cache := copyBuild(t, original), fill(t)
				crash(t, step, "patch", b, cache)
				whole(t, b, original)
				s := StatusOf(t.Context(), b)
				o := Options{Caches: []string{cache}}
				switch next {
				case "patch":
					if _, err := Patch(t.Context(), b, o, quietly); err != nil {
						t.Fatal(err)
					}
					if text, _ := initIn(t, b.RootFS); !strings.Contains(text, delegation) {
						t.Errorf("it is not patched: %s", text)
					}
					want := []string{"rootfs.ext4", "rootfs.ext4" + backupSuffix, "rootfs.ext4" + manifestSuffix}
					if got := names(t, b); !slices.Equal(got, want) {
						t.Errorf("left: %v", got)
					}
					if _, err := os.Stat(filepath.Join(cache, testBuild)); err == nil {
						t.Error("the cache is not purged")
					}
					if _, err := Undo(t.Context(), b, o, quietlyUndo); err != nil {
						t.Fatal(err)
					}
				case "undo":
					if _, err := Undo(t.Context(), b, o, quietlyUndo); err != nil && !strings.Contains(err.Error(), "nothing to undo") {
						t.Fatal(err)
					}
					for _, name := range names(t, b) {
						if strings.HasSuffix(name, newSuffix) || strings.HasSuffix(name, backupSuffix) || strings.HasSuffix(name, lockSuffix) {
							t.Errorf("left: %s", name)
						}
					}
				}
				if !bytes.Equal(content(t, b.RootFS), original) {
					t.Errorf("it is not the original after undo; the status was %+v", s)
				}
			})
		}
	}
	for _, step := range []string{stepUndoBegin, stepUndoRename, stepUndoRecord, stepPurge} {
		t.Run(step+" of an undo", func(t *testing.T) {
			b, cache := copyBuild(t, original), fill(t)
			if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil {
				t.Fatal(err)
			}
			crash(t, step, "undo", b, cache)
			whole(t, b, original)
			StatusOf(t.Context(), b)
			if _, err := Undo(t.Context(), b, Options{Caches: []string{cache}}, quietlyUndo); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, b.RootFS), original) {
				t.Error("it is not the original")
			}
			if got := names(t, b); !slices.Equal(got, []string{"rootfs.ext4", "rootfs.ext4" + manifestSuffix}) {
				t.Errorf("left: %v", got)
			}
			if _, err := os.Stat(filepath.Join(cache, testBuild)); err == nil {
				t.Error("the cache is not purged")
			}
		})
	}
}

// copyBuild is a build of its own with an image of that content.
func copyBuild(t *testing.T, image []byte) Build {
	t.Helper()
	dir := filepath.Join(t.TempDir(), testBuild)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs.ext4"), image, 0o644); err != nil {
		t.Fatal(err)
	}
	return locate(t, dir)
}

// whole looks whether an image is the original, or the patched one without any
// damage.
func whole(t *testing.T, b Build, original []byte) {
	t.Helper()
	if bytes.Equal(content(t, b.RootFS), original) {
		return
	}
	f, err := os.Open(b.RootFS)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if out, err := (editor{f}).run(t.Context(), "e2fsck", "-fn"); err != nil {
		t.Errorf("neither the original nor whole: %v: %s", err, out)
	}
	if text, _ := initIn(t, b.RootFS); !strings.Contains(text, delegation) {
		t.Errorf("neither the original nor patched: %s", text)
	}
	if !bytes.Equal(content(t, b.RootFS+backupSuffix), original) {
		t.Error("the backup is not the original")
	}
}

// Tools that fail, or that say they did what they did not, never make a patch.
func TestPatchWithBrokenTools(t *testing.T) {
	b := plainBuild(t)
	before := content(t, b.RootFS)
	debugfs, err := exec.LookPath("/usr/sbin/debugfs")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, tool, script, want string }{
		{"debugfs writes nothing", "debugfs", `case " $* " in *" -w "*) exit 0;; esac; exec ` + debugfs + ` "$@"`, "not what it should be|not written as it should be"},
		{"debugfs does nothing", "debugfs", "exit 0", "debugfs told no inode|has no /sbin/init"},
		{"debugfs writes another content", "debugfs", `case " $* " in *" -w "*) sed 's,/proc/self/fd/4,/etc/passwd,' | exec ` + debugfs + ` "$@";; *) exec ` + debugfs + ` "$@";; esac`, "reads back differently|attributes are not"},
		{"debugfs is killed", "debugfs", `case " $* " in *" -w "*) kill -9 $$;; esac; exec ` + debugfs + ` "$@"`, "killed"},
		{"e2fsck is killed", "e2fsck", "kill -9 $$", "killed"},
		{"e2fsck finds errors", "e2fsck", "echo damaged; exit 4", "damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, test.tool), []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			_, err := Patch(t.Context(), b, Options{}, quietly)
			if err == nil || !slices.ContainsFunc(strings.Split(test.want, "|"), func(s string) bool { return strings.Contains(err.Error(), s) }) {
				t.Errorf("%v", err)
			}
			if !bytes.Equal(content(t, b.RootFS), before) || len(names(t, b)) != 1 {
				t.Errorf("it was changed, or something is left: %v", names(t, b))
			}
		})
	}
}

// A disk that is full, in the directory, leaves the original.
func TestPatchWithoutRoomOnTheHost(t *testing.T) {
	b := plainBuild(t)
	before := content(t, b.RootFS)
	dir := smallTmpfs(t)
	at := filepath.Join(dir, testBuild)
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "rootfs.ext4"), before, 0o644); err != nil {
		t.Fatal(err)
	}
	full := locate(t, at)
	if _, err := Patch(t.Context(), full, Options{}, quietly); err == nil || !strings.Contains(err.Error(), "room") {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(content(t, full.RootFS), before) || len(names(t, full)) != 1 {
		t.Errorf("left: %v", names(t, full))
	}
}

// smallTmpfs is a directory that has room for one small image and no second.
func smallTmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=5m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The image that was written to after the patch is not thrown away.
func TestUndoRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(Build) error
		want string
	}{
		{"never patched", func(b Build) error {
			return errors.Join(os.Remove(b.RootFS+manifestSuffix), os.Remove(b.RootFS+backupSuffix))
		}, "nothing to undo"},
		{"written to since", func(b Build) error {
			f, err := os.OpenFile(b.RootFS, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 3<<20)
			return errors.Join(err, f.Close())
		}, "was changed since it was patched"},
		{"a backup that is another", func(b Build) error { return os.WriteFile(b.RootFS+backupSuffix, []byte("x"), 0o600) }, "is not the original any more"},
		{"no backup", func(b Build) error { return os.Remove(b.RootFS + backupSuffix) }, "the backup cannot be opened"},
		{"a backup that is a link", func(b Build) error {
			return errors.Join(os.Remove(b.RootFS+backupSuffix), os.Symlink("/dev/zero", b.RootFS+backupSuffix))
		}, "the backup cannot be opened"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := plainBuild(t)
			if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil {
				t.Fatal(err)
			}
			if err := test.do(b); err != nil {
				t.Fatal(err)
			}
			before := content(t, b.RootFS)
			_, err := Undo(t.Context(), b, Options{}, quietlyUndo)
			if _, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v", err)
			}
			if !bytes.Equal(content(t, b.RootFS), before) {
				t.Error("the image was changed")
			}
		})
	}
	// A touch alone is no change.
	b := plainBuild(t)
	if _, err := Patch(t.Context(), b, Options{}, quietly); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(b.RootFS, time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := Undo(t.Context(), b, Options{}, quietlyUndo); err != nil {
		t.Error(err)
	}
}
