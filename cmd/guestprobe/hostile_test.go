package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// guestWith is the guest with a script as its init, with some files changed;
// a file that is changed to "" is not there.
func guestWith(t *testing.T, changes map[string]string) guest {
	t.Helper()
	files := shellGuest()
	maps.Copy(files, changes)
	maps.DeleteFunc(files, func(_, text string) bool { return text == "" })
	return tree(t, files)
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// envd is found wherever it stands above the probe: an init may end by
// becoming it, and a wrapper may stay between.
func TestEnvdIsFound(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes map[string]string
		pid     int
	}{
		{"the parent", nil, 50},
		{"PID 1 itself", map[string]string{
			"proc/60/stat": stat(60, 1, 0, 99), "proc/1/exe": "->../../usr/bin/envd", "proc/1/cmdline": "/usr/bin/envd\x00",
		}, 1},
		{"behind a wrapper", map[string]string{
			"proc/60/stat": stat(60, 55, 0, 99),
			"proc/55/stat": stat(55, 50, 0, 98), "proc/55/cgroup": "0::/user\n", "proc/55/cmdline": "/bin/sh\x00-c\x00probe envd\x00", "proc/55/exe": "->/bin/busybox",
		}, 50},
		{"another version beside it", map[string]string{
			"proc/51/stat": stat(51, 1, 0, 70), "proc/51/cgroup": "0::/\n", "proc/51/cmdline": "/usr/bin/envd\x00", "proc/51/exe": "->../../usr/bin/envd",
		}, 50},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := guestWith(t, test.changes).snapshot(60)
			if s.Envd == nil || s.Envd.Process.PID != test.pid || s.Envd.Version != "0.6.13" {
				t.Errorf("envd %+v, errors %v", s.Envd, s.Errors)
			}
		})
	}
}

func TestEnvdThatIsNotFoundIsExplained(t *testing.T) {
	s := guestWith(t, map[string]string{"proc/50/exe": "->/usr/bin/renamed"}).snapshot(60)
	if s.Envd != nil || !strings.Contains(s.Errors["envd"], "/usr/bin/renamed") || !strings.Contains(s.Errors["envd"], "/bin/busybox") {
		t.Errorf("envd %+v, errors %v: want those that were seen named", s.Envd, s.Errors)
	}
}

// A process that is its own parent, which a hostile guest may show, holds
// nobody up.
func TestRingOfParents(t *testing.T) {
	g := guestWith(t, map[string]string{"proc/60/stat": stat(60, 61, 0, 99), "proc/60/exe": "", "proc/61/stat": stat(61, 60, 0, 98), "proc/61/cgroup": "0::/\n"})
	if s := g.snapshot(60); s.Envd != nil || !strings.Contains(s.Errors["envd"], "no process above the probe is envd") {
		t.Errorf("envd %+v, errors %v", s.Envd, s.Errors)
	}
	if p := g.nearestEnvd(g.process(60)); p != nil {
		t.Errorf("envd %+v", p)
	}
}

// An envd that does not tell its version is still seen, and why it does not
// tell is said. Neither a flood nor a child that keeps its output open can
// hold the probe up.
func TestEnvdThatDoesNotTell(t *testing.T) {
	const short = 300 * time.Millisecond
	for _, test := range []struct {
		name, script, error string
		answer              time.Duration
	}{
		{"fails", "#!/bin/sh\necho unknown flag >&2\nexit 2\n", "exit status 2", 5 * time.Second},
		{"says nothing", "#!/bin/sh\nexit 0\n", "no version", 5 * time.Second},
		{"talks", "#!/bin/sh\necho " + strings.Repeat("x", 500) + "\n", "no version", 5 * time.Second},
		{"floods", "#!/bin/sh\nexec cat /dev/zero\n", "-version", 5 * time.Second},
		{"leaves a child behind", "#!/bin/sh\nsleep 8 &\necho 1.2.3\n", "-version", short},
		{"never answers", "#!/bin/sh\nexec sleep 8\n", "-version", short},
	} {
		t.Run(test.name, func(t *testing.T) {
			// All programs are written before the first of them is started: a child
			// that is just being forked holds what is open for writing, and so long
			// the kernel runs it for nobody (ETXTBSY; golang/go#22315).
			g := guestWith(t, map[string]string{"usr/bin/envd": test.script})
			g.answer = test.answer
			t.Parallel()
			begin := time.Now()
			s := g.snapshot(60)
			if s.Envd == nil || s.Envd.Version != "" || s.Envd.SHA256 == "" || !strings.Contains(s.Errors["envd"], test.error) {
				t.Errorf("envd %+v, errors %v", s.Envd, s.Errors)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// The init program is what PID 1 runs, and its hash changes with it.
func TestInitProgram(t *testing.T) {
	for _, test := range []struct {
		name, cmdline, want string
		size                int64
	}{
		{"a script", "/bin/sh\x00/sbin/init\x00", "/sbin/init", 10},
		{"a script whose first line has an option", "/bin/sh\x00-e\x00/sbin/init\x00", "/sbin/init", 10},
		{"a script with the kernel's further arguments", "/bin/bash\x00-eux\x00/sbin/init\x00splash\x00", "/sbin/init", 10},
		{"under tini", "/sbin/tini\x00--\x00/sbin/init\x00", "/sbin/init", 10},
		{"a binary", "/sbin/init\x00", "/bin/busybox", 7},
		{"a binary with arguments", "/sbin/init\x00--switched-root\x00--deserialize\x0022\x00", "/bin/busybox", 7},
		{"no command line", "", "/bin/busybox", 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := guestWith(t, map[string]string{"proc/1/cmdline": test.cmdline, "proc/1/exe": "", "bin/busybox": "busybox"})
			// The kernel's link is told apart from a name: it opens what runs,
			// even where the name is gone.
			exe := filepath.Join(filepath.Dir(g.proc), "bin/busybox")
			if err := os.Symlink(exe, filepath.Join(g.proc, "1/exe")); err != nil {
				t.Fatal(err)
			}
			s := g.snapshot(60)
			p := s.InitProgram
			if p == nil || !strings.HasSuffix(p.Path, test.want) || p.Size != test.size || len(p.SHA256) != 64 {
				t.Errorf("got %+v, errors %v", p, s.Errors)
			}
		})
	}
}

// What is not there, or makes no sense, is an error and no value.
func TestNothingIsInvented(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes map[string]string
		what    string
		right   func(evidence.Snapshot) bool
	}{
		{
			"memory beyond all numbers",
			map[string]string{"proc/meminfo": "MemTotal: 99999999999999999999 kB\n"},
			"meminfo",
			func(s evidence.Snapshot) bool { return s.MemTotal == 0 },
		},
		{"no boot time", map[string]string{"proc/stat": "cpu 1 2\n"}, "boot", func(s evidence.Snapshot) bool { return s.Boot.BootTime.IsZero() }},
		{
			"a boot time beyond all calendars",
			map[string]string{"proc/stat": "btime 999999999999999\n"},
			"boot",
			func(s evidence.Snapshot) bool { return s.Boot.BootTime.IsZero() },
		},
		{"an endless uptime", map[string]string{"proc/uptime": "1e999 1\n"}, "boot", func(s evidence.Snapshot) bool { return s.Boot.UptimeSeconds == 0 }},
		{"an uptime that is no number", map[string]string{"proc/uptime": "NaN 1\n"}, "boot", func(s evidence.Snapshot) bool { return s.Boot.UptimeSeconds == 0 }},
		{"no boot ID", map[string]string{"proc/sys/kernel/random/boot_id": ""}, "boot", func(s evidence.Snapshot) bool { return s.Boot.ID == "" }},
		{"no mountinfo", map[string]string{"proc/self/mountinfo": ""}, "mountinfo", func(s evidence.Snapshot) bool { return s.Mounts == nil }},
		{
			"a mountinfo that is none",
			map[string]string{"proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw\n"},
			"mountinfo",
			func(s evidence.Snapshot) bool { return s.Mounts == nil },
		},
		{
			"too many mounts",
			map[string]string{"proc/self/mountinfo": strings.Repeat("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n", 1<<12)},
			"mountinfo",
			func(s evidence.Snapshot) bool { return s.Mounts == nil },
		},
		{"no kernel command line", map[string]string{"proc/cmdline": ""}, "kernel", func(s evidence.Snapshot) bool { return s.Kernel.Release != "" }},
		{"no init program", map[string]string{"proc/1/root/sbin/init": ""}, "init program", func(s evidence.Snapshot) bool { return s.InitProgram == nil }},
		{"no PID 1", map[string]string{"proc/1/stat": ""}, "init program", func(s evidence.Snapshot) bool { return s.Init.Error != "" }},
		{"the parent is gone", map[string]string{"proc/50/stat": ""}, "envd", func(s evidence.Snapshot) bool { return s.Envd == nil }},
		{
			"the parent is a zombie",
			map[string]string{"proc/50/exe": "", "proc/50/cmdline": ""},
			"envd",
			func(s evidence.Snapshot) bool { return s.Envd == nil },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := guestWith(t, test.changes).snapshot(60)
			if s.Errors[test.what] == "" || !test.right(s) {
				t.Errorf("errors %v, snapshot %+v", s.Errors, s)
			}
			var out bytes.Buffer
			if err := emit(&out, s); err != nil {
				t.Errorf("what the rest shows is lost: %v", err)
			}
		})
	}
}

// The lines that count are found in files of any length: a guest may have
// hundreds of mounts and processors.
func TestLongFilesAreReadWhole(t *testing.T) {
	s := guestWith(t, map[string]string{
		"proc/stat": "intr " + strings.Repeat("0 ", 1<<17) + "\nbtime 1795463452\n",
		"proc/self/mountinfo": strings.Repeat("31 20 0:27 / /var/lib/x"+strings.Repeat("y", 500)+" rw - overlay none rw\n", 500) +
			"30 23 0:26 / /sys/fs/cgroup rw - cgroup2  rw\n",
	}).snapshot(60)
	if s.Boot.BootTime.Unix() != 1795463452 || len(s.Mounts) != 1 || len(s.Errors) != 0 {
		t.Errorf("boot %+v, %d mounts, errors %v", s.Boot, len(s.Mounts), s.Errors)
	}
}

// A FIFO or a device under an interface file's name cannot hold the probe up.
func TestWhatIsNoFileIsNotRead(t *testing.T) {
	g := guestWith(t, map[string]string{"proc/1/root/sbin/init": "->/dev/zero", "sys/fs/cgroup/user/memory.max": "->/dev/zero", "sys/fs/cgroup/user/cpu.max/x": "x"})
	if err := unix.Mkfifo(filepath.Join(g.sys, "fs/cgroup/user/memory.high"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := g.snapshot(60)
	files := s.Groups["user"].Files
	for _, name := range []string{"memory.high", "memory.max", "cpu.max"} {
		if f := files[name]; f.Text != "" || f.Errno == "" {
			t.Errorf("%s: %.80q, error %q", name, f.Text, f.Errno)
		}
	}
	if s.InitProgram != nil || s.Errors["init program"] == "" || files["cpu.weight"].Text != "50\n" {
		t.Errorf("init program %+v, errors %v", s.InitProgram, s.Errors)
	}
}

// Whatever stands in all files at once, the frame is whole and small enough
// for the harness to read.
func TestTheWorstGuestFitsTheFrame(t *testing.T) {
	flood := strings.Repeat("\x01", 2*maxText)
	changes := map[string]string{"proc/cmdline": flood, "proc/1/cmdline": flood, "proc/50/cmdline": flood, "proc/60/cmdline": flood, "proc/60/cgroup": flood}
	for _, group := range []string{"user", "ptys", "socats"} {
		for _, name := range groupFiles {
			changes[filepath.Join("sys/fs/cgroup", group, name)] = flood
		}
	}
	for n := range 2 * maxRealTime {
		dir := fmt.Sprintf("proc/%d/", 80+n)
		changes[dir+"stat"], changes[dir+"cgroup"], changes[dir+"cmdline"] = stat(80+n, 1, 0, 1), "0::/user\n", flood
		changes[dir+"task/1/stat"] = "9 (x) S" + strings.Repeat(" 1", 50)
	}
	step := "echo" + strings.Repeat(" +"+strings.Repeat("\x01", 2*maxWord), 2*maxWords) + " > " + strings.Repeat("\x01", 2*maxWord) + "/cgroup.subtree_control\n"
	for _, name := range append(bootScripts, "/sbin/init") {
		changes["proc/1/root"+name] = "#!/bin/sh\n# " + name + "\n" + strings.Repeat(step, 2*maxSteps)
	}
	changes["proc/50/stat"], changes["proc/50/cgroup"] = stat(50, 49, 0, 77), "0::/"+strings.Repeat("x/", maxAbove)+"envd.service\n"
	changes["proc/49/stat"], changes["proc/49/cgroup"], changes["proc/49/cmdline"] = stat(49, 1, 0, 7), "0::/\n", flood
	changes["proc/1/root/etc/systemd/system/envd.service"] = "[Service]\nCPUWeight=" + flood
	for _, group := range []string{strings.Repeat("x/", maxAbove) + "envd.service", "h0", "h1", "h2", "h3", "h4"} {
		for _, name := range groupFiles {
			changes[filepath.Join("sys/fs/cgroup", group, name)] = flood
		}
	}
	for depth := range maxAbove {
		for _, name := range aboveFiles {
			changes[filepath.Join("sys/fs/cgroup", strings.Repeat("x/", depth+1), name)] = flood
		}
	}
	g := guestWith(t, changes)
	for fd := range 2 * maxHeld {
		if err := os.Symlink(filepath.Join(g.sys, fmt.Sprintf("fs/cgroup/h%d", fd)), filepath.Join(g.proc, "50/fd", fmt.Sprintf("0%d", fd))); err != nil {
			t.Fatal(err)
		}
	}
	for fd := range 4 * maxFDs {
		name := filepath.Join(g.proc, "50/fd", strconv.Itoa(20+fd))
		if err := os.Symlink(filepath.Join(g.sys, "fs/cgroup", strings.Repeat("\x01", 200)), name); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := emit(&out, g.snapshot(60)); err != nil {
		t.Fatal(err)
	}
	if s, err := evidence.ParseProbe[evidence.Snapshot](out.Bytes()); err != nil || s.Envd == nil || len(s.Envd.Group.Above) != maxAbove || len(s.Groups) != 3+maxHeld || len(s.RealTime) != maxRealTime || len(s.Bystanders) == 0 {
		t.Errorf("%d bytes: %v", out.Len(), err)
	}
}

func TestKernelConfig(t *testing.T) {
	config := "# made\nCONFIG_MEMCG=y\nCONFIG_CGROUP_SCHED=y\n# CONFIG_RT_GROUP_SCHED is not set\nCONFIG_EXT4_FS=y\nCONFIG_PSI_DEFAULT_DISABLED=y\n"
	got := guestWith(t, map[string]string{"proc/config.gz": gzipped(t, config)}).snapshot(60).Kernel.Config
	if want := map[string]string{"CONFIG_MEMCG": "y", "CONFIG_CGROUP_SCHED": "y", "CONFIG_PSI_DEFAULT_DISABLED": "y"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// Half a configuration would say of options that they are not set.
	whole := gzipped(t, config+strings.Repeat("# x\n", 1<<10))
	for name, text := range map[string]string{"none": "", "no gzip": "CONFIG_MEMCG=y\n", "cut": whole[:len(whole)-12]} {
		if got := guestWith(t, map[string]string{"proc/config.gz": text}).snapshot(60).Kernel.Config; got != nil {
			t.Errorf("%s: got %v, want nil", name, got)
		}
	}
}

// envd's own flags decide where the groups are looked for.
func TestGroupsUnderAnotherRoot(t *testing.T) {
	g := guestWith(t, map[string]string{
		"proc/50/cmdline":                       "/usr/bin/envd\x00-cgroup-root\x00/sys/fs/cgroup/a\x00--cgroup-root=/sys/fs/cgroup/b\x00",
		"sys/fs/cgroup/b/user/cpu.weight":       "50\n",
		"sys/fs/cgroup/b/cgroup.controllers":    "cpu\n",
		"sys/fs/cgroup/a/ptys/memory.oom.group": "0\n",
	})
	s := g.snapshot(60)
	if s.Envd.CgroupRoot != "/sys/fs/cgroup/b" || s.Root.Path != "/sys/fs/cgroup/b" || s.Groups["user"].Files["cpu.weight"].Text != "50\n" || s.Groups["ptys"].Exists {
		t.Errorf("root %+v, groups %+v: Go's flags let the last one win", s.Root, s.Groups)
	}
}

// io.cost.qos exists in the hierarchy's root alone.
func TestQoSOfTheHierarchy(t *testing.T) {
	for _, test := range []struct {
		name, root, mountinfo, want string
	}{
		{"envd's root", "/sys/fs/cgroup", "", "8:0 enable=1\n"},
		{"below it", "/sys/fs/cgroup/a/b", "", "8:0 enable=1\n"},
		{"in a mount of the whole", "/sys/fs/cgroup/a/b", "31 30 0:26 / /sys/fs/cgroup/a rw - cgroup2 none rw\n", "8:16 enable=1\n"},
		{"in a mount of a part", "/sys/fs/cgroup/a/b", "31 30 0:26 /x /sys/fs/cgroup/a rw - cgroup2 none rw\n", ""},
		{"in a mount that is not known", "/sys/fs/cgroup/a/b", "31 30 0:26 / /mnt rw - cgroup2 none rw\n", ""},
	} {
		changes := map[string]string{
			"proc/50/cmdline":           "/usr/bin/envd\x00-cgroup-root\x00" + test.root + "\x00",
			"sys/fs/cgroup/io.cost.qos": "8:0 enable=1\n", "sys/fs/cgroup/a/io.cost.qos": "8:16 enable=1\n", "sys/fs/cgroup/a/b/cgroup.controllers": "cpu\n",
		}
		if test.mountinfo != "" {
			changes["proc/self/mountinfo"] = test.mountinfo
		}
		if f := guestWith(t, changes).snapshot(60).Root.Files["io.cost.qos"]; f.Text != test.want || (f.Errno == "") != (test.want != "") || f.Errno == "ENOENT" {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
}

// However envd's root is written, it is the directory that the kernel names in
// mountinfo and in its descriptors.
func TestRootIsResolved(t *testing.T) {
	link := filepath.Join(t.TempDir(), "cg")
	for _, test := range []struct{ root, want string }{
		{"/sys/fs//cgroup/", "/sys/fs/cgroup"},
		{"/sys/fs/../fs/./cgroup", "/sys/fs/cgroup"},
		{"/sys/fs/cg", "/sys/fs/cgroup"},
		{link, "/sys/fs/cgroup"},
		{link + "/user", "/sys/fs/cgroup/user"},
		{"/no/such//directory/", "/no/such/directory"},
	} {
		g := guestWith(t, map[string]string{"proc/50/cmdline": "/usr/bin/envd\x00-cgroup-root\x00" + test.root + "\x00", "sys/fs/cg": "->cgroup"})
		if err := errors.Join(os.RemoveAll(link), os.Symlink(filepath.Join(g.sys, "fs/cgroup"), link)); err != nil {
			t.Fatal(err)
		}
		if s := g.snapshot(60); s.Envd.CgroupRoot != test.want || s.Root.Path != test.want || s.Groups["ptys"].Path != test.want+"/ptys" {
			t.Errorf("%s: envd's root %s, root %s, ptys %s", test.root, s.Envd.CgroupRoot, s.Root.Path, s.Groups["ptys"].Path)
		}
	}
}

// A group that is no directory, or lies below one that is none, does not pass
// for one that is merely absent.
func TestGroupThatIsNone(t *testing.T) {
	s := guestWith(t, map[string]string{"sys/fs/cgroup/socats": "x"}).snapshot(60)
	if g := s.Groups["socats"]; g.Exists || g.Error == "" {
		t.Errorf("got %+v", g)
	}
}

// A descendant's parent may be adopted by somebody else than PID 1: systemd's
// user manager and container shims are such reapers.
func TestGrandchildUnderASubreaper(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
	placed := family(t.Context(), modeGrandparent)
	if placed.Process == nil || placed.Process.PPID != os.Getpid() {
		t.Fatalf("got %+v", placed)
	}
	if _, err := unix.Wait4(placed.Process.PID, nil, 0, nil); err != nil {
		t.Error(err)
	}
}

// An orphan is one only without the parent that started it: while that lives,
// there is no report that could be taken for a daemon's.
func TestNoReportBeforeTheParentIsGone(t *testing.T) {
	for _, parent := range []string{"x", strconv.Itoa(os.Getppid())} {
		if err := awaitOrphaned(parent, 50*time.Millisecond); err == nil {
			t.Errorf("%q: no error", parent)
		}
	}
	if err := awaitOrphaned("999999999", time.Second); err != nil {
		t.Error(err)
	}
}

func TestForwarderIsFoundOnceItRuns(t *testing.T) {
	g := tree(t, map[string]string{"proc/1/cmdline": "init\x00"})
	if p := g.forwarder(t.Context(), 50*time.Millisecond); p.Process != nil || !strings.Contains(p.Error, "no forwarder for 127.0.0.1:") {
		t.Errorf("got %+v", p)
	}
	// A socat that ended between two looks has no cgroup, and proves nothing.
	g = tree(t, map[string]string{"proc/70/cmdline": "socat\x00TCP4-LISTEN:4000,bind=169.254.0.21,fork\x00"})
	if p, found := g.findForwarder(4000); found {
		t.Errorf("a process without a cgroup was taken: %+v", p)
	}
}

// The modes print frames that the harness reads, each of its own type.
func TestModesPrintFrames(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"self"}, &out); err != nil {
		t.Fatal(err)
	}
	// A terminal adds carriage returns and what else was on it.
	noisy := append([]byte("motd\r\n"), bytes.ReplaceAll(out.Bytes(), []byte("\n"), []byte("\r\n"))...)
	p, err := evidence.ParseProbe[evidence.Process](noisy)
	if err != nil || p.PID != os.Getpid() || p.Cgroup == "" || p.Exe == "" || p.Nice == nil || p.OOMScoreAdj == nil || p.StartTicks == 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	if bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Errorf("more than one line: %q", out.Bytes())
	}
	out.Reset()
	if err := run([]string{"snapshot"}, &out); err != nil {
		t.Fatal(err)
	}
	s, err := evidence.ParseProbe[evidence.Snapshot](out.Bytes())
	if err != nil || s.Self.PID != os.Getpid() || s.MemTotal == 0 || s.PageSize == 0 || s.Kernel.Release == "" || s.Boot.ID == "" || len(s.Groups) != 3 {
		t.Errorf("got %+v, %v", s, err)
	}
	out.Reset()
	if err := run([]string{"-version"}, &out); err != nil || out.String() != version+"\n" {
		t.Errorf("version %q, %v", out.String(), err)
	}
	for _, args := range [][]string{nil, {"placement", "-forwarder-wait=soon"}, {"placement", "-no-such-flag"}} {
		if err := run(args, &out); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// FuzzSnapshot puts anything into the files of a guest: the probe prints a
// frame that can be read, and never ends without one.
func FuzzSnapshot(f *testing.F) {
	f.Add("50\n", "0::/user\n", "MemTotal: 1 kB\n", "1.0 1\n", "btime 1\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n")
	f.Add("\x00\xff", "SANDPROOF-END", "MemTotal: -1 kB\n", "inf", "btime -9", "x")
	f.Add("", "0::/user\n", "", "", stat(60, 60, 0, 1), "") // its own parent
	f.Add("", "0::/user\n", "", "1.0 1\n", "btime "+strings.Repeat("\xff", 1<<20)+"\n", "")
	f.Fuzz(func(t *testing.T, value, cgroup, meminfo, uptime, stat, mountinfo string) {
		g := guestWith(t, map[string]string{
			"sys/fs/cgroup/user/cpu.weight": value, "proc/60/cgroup": cgroup, "proc/60/stat": stat, "proc/meminfo": meminfo,
			"proc/uptime": uptime, "proc/stat": stat, "proc/self/mountinfo": mountinfo, "proc/50/exe": "", "proc/60/cmdline": value,
		})
		var out bytes.Buffer
		if err := emit(&out, g.snapshot(60)); err != nil {
			t.Fatal(err)
		}
		s, err := evidence.ParseProbe[evidence.Snapshot](out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if s.MemTotal != 0 && s.Errors["meminfo"] != "" || s.Boot.UptimeSeconds != 0 && s.Boot.UptimeSeconds < 0 {
			t.Errorf("memory %d, boot %+v, errors %v", s.MemTotal, s.Boot, s.Errors)
		}
	})
}
