package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// TestMain lets the probe play its own children, as it does in a guest by
// running itself anew.
func TestMain(m *testing.M) {
	// Under the race detector each of them would sleep a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	if len(os.Args) > 1 && slices.Contains([]string{modeReport, modeGrandparent, modeHogChild, modeSleep, "burn"}, os.Args[1]) {
		if err := run(os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // the probe's own end
		}
		os.Exit(0) //nolint:forbidigo // the probe's own end
	}
	os.Exit(m.Run()) //nolint:forbidigo // TestMain ends with the tests' exit code
}

// tree writes files of a made-up guest; a value that begins with "->" is a
// symbolic link.
func tree(t *testing.T, files map[string]string) guest {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(text, "->"); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o755) // some are programs
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return guest{proc: filepath.Join(root, "proc"), sys: filepath.Join(root, "sys"), answer: 5 * time.Second}
}

// stat is a line of /proc/PID/stat with a name that tries to confuse.
func stat(pid, ppid, nice, start int) string {
	return fmt.Sprintf("%d (a) b (c) S %d 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 %d 1 0 %d 100 200\n", pid, ppid, nice, start)
}

const envdScript = "#!/bin/sh\n[ \"$1\" = -version ] && echo 0.6.13\n[ \"$1\" = -commit ] && echo abc123\nexit 0\n"

// shellGuest is a guest with a script as its init, and envd above the probe.
func shellGuest() map[string]string {
	return map[string]string{
		"proc/1/stat": stat(1, 0, 0, 1), "proc/1/cgroup": "0::/\n", "proc/1/cmdline": "/bin/sh\x00/sbin/init\x00", "proc/1/exe": "->/bin/busybox",
		"proc/1/root/sbin/init": "#!/bin/sh\n", "proc/1/oom_score_adj": "0\n",
		"usr/bin/envd": envdScript,
		"proc/50/stat": stat(50, 1, -20, 77), "proc/50/cgroup": "0::/\n", "proc/50/cmdline": "/usr/bin/envd\x00-cgroup-root\x00/sys/fs/cgroup\x00",
		"proc/50/exe": "->../../usr/bin/envd", "proc/50/fd/2": "->/dev/ttyS0", "proc/50/oom_score_adj": "-1000\n",
		"proc/60/stat": stat(60, 50, 0, 99), "proc/60/cgroup": "0::/user\n", "proc/60/cmdline": "/tmp/probe\x00snapshot\x00", "proc/60/exe": "->/tmp/probe",
		"proc/cmdline": "console=ttyS0 quiet\n", "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
		"proc/uptime": "4.25 3.00\n", "proc/stat": "cpu 1 2\nbtime 1795463452\n",
		"proc/meminfo":                     "MemTotal:         479904 kB\nMemFree: 1 kB\n",
		"proc/self/mountinfo":              "20 1 254:0 / / rw - ext4 /dev/vda rw\n23 20 0:22 / /sys rw - sysfs sysfs rw\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n31 20 0:27 / /tmp rw - tmpfs tmpfs rw\n",
		"sys/fs/cgroup/cgroup.controllers": "cpu io memory pids\n", "sys/fs/cgroup/cgroup.subtree_control": "cpu memory\n",
		"sys/fs/cgroup/user/cpu.weight": "50\n", "sys/fs/cgroup/user/cgroup.type": "domain\n",
	}
}

func TestSnapshot(t *testing.T) {
	s := tree(t, shellGuest()).snapshot(60)
	if s.MemTotal != 479904*1024 || s.Boot.UptimeSeconds != 4.25 || s.Boot.BootTime.Unix() != 1795463452 || s.Kernel.Cmdline != "console=ttyS0 quiet" {
		t.Errorf("memory %d, boot %+v, kernel %+v", s.MemTotal, s.Boot, s.Kernel)
	}
	if len(s.Mounts) != 3 || !strings.Contains(s.Mounts[2], "cgroup2") {
		t.Errorf("mounts %q: want those that lead to the cgroups, and no other", s.Mounts)
	}
	if s.InitProgram == nil || s.InitProgram.Path != "/sbin/init" || s.InitProgram.Size != 10 {
		t.Errorf("PID 1 runs %+v, want the script and not its shell", s.InitProgram)
	}
	if e := s.Envd; e == nil || e.Version != "0.6.13" || e.Commit != "abc123" || e.Process.PID != 50 || e.Process.Stderr != "/dev/ttyS0" ||
		*e.Process.OOMScoreAdj != -1000 || *e.Process.Nice != -20 || e.Process.StartTicks != 77 || e.SHA256 == "" {
		t.Errorf("envd %+v", e)
	}
	if s.Self.PPID != 50 || s.Self.Comm != "a) b (c" || s.Self.Cgroup != "0::/user\n" {
		t.Errorf("self %+v", s.Self)
	}
	user := s.Groups["user"]
	if !user.Exists || user.FSMagic == 0 || user.FSMagic == evidence.CGroup2Magic || user.Files["cpu.weight"].Text != "50\n" || user.Files["memory.max"].Errno != "ENOENT" {
		t.Errorf("user %+v", user)
	}
	if ptys := s.Groups["ptys"]; ptys.Exists || ptys.Error != "" || ptys.Path != "/sys/fs/cgroup/ptys" {
		t.Errorf("ptys %+v", ptys)
	}
	if s.Root.Files["io.cost.qos"].Errno != "ENOENT" || s.Root.Files["cgroup.subtree_control"].Text != "cpu memory\n" {
		t.Errorf("root %+v", s.Root)
	}
}

// What cannot be read is said, and is no zero that could pass for a reading.
func TestWhatCannotBeReadIsSaid(t *testing.T) {
	for _, test := range []struct {
		name, file, text, what string
	}{
		{"no envd above the probe", "proc/60/stat", stat(60, 1, 0, 99), "envd"},
		{"no meminfo", "proc/meminfo", "", "meminfo"},
		{"meminfo of another kind", "proc/meminfo", "MemTotal: lots\n", "meminfo"},
		{"no uptime", "proc/uptime", "soon\n", "boot"},
		{"an odd stat", "proc/50/stat", "50 (x\n", "envd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := shellGuest()
			files[test.file] = test.text
			if s := tree(t, files).snapshot(60); s.Errors[test.what] == "" {
				t.Errorf("errors %v", s.Errors)
			}
		})
	}
}

func TestCgroupRootArgument(t *testing.T) {
	for _, test := range []struct {
		cmdline []string
		want    string
	}{
		{[]string{"envd"}, defaultCgroupRoot},
		{[]string{"envd", "-cgroup-root", "/x"}, "/x"},
		{[]string{"envd", "--cgroup-root=/y", "-port", "1"}, "/y"},
		{[]string{"envd", "-cgroup-root"}, defaultCgroupRoot},
		{[]string{"envd", "cgroup-root=/z"}, defaultCgroupRoot},
		{[]string{"envd", "-cgroup-root", ""}, defaultCgroupRoot}, // envd leaves its default alone
		{[]string{"envd", "-port", "1", "-cgroup-root", "/x"}, "/x"},
		{[]string{"envd", "-isnotfc", "-cgroup-root", "/x"}, "/x"},
		{[]string{"envd", "-newer", "1", "-other", "-cgroup-root=/x"}, "/x"},
		// Go's flags end at the first word that is none, and at two dashes.
		{[]string{"envd", "x", "-cgroup-root", "/x"}, defaultCgroupRoot},
		{[]string{"envd", "-isnotfc", "true", "-cgroup-root", "/x"}, defaultCgroupRoot},
		{[]string{"envd", "-port=1", "-", "-cgroup-root", "/x"}, defaultCgroupRoot},
		{[]string{"envd", "-cgroup-root=/x", "--", "-cgroup-root=/y"}, "/x"},
		{[]string{"-cgroup-root", "/x"}, defaultCgroupRoot},
	} {
		if got := cgroupRootArgument(test.cmdline); got != test.want {
			t.Errorf("%q: %s, want %s", test.cmdline, got, test.want)
		}
	}
}

// The real thing, on this machine: a child, a grandchild that lost its
// parent, and no forwarder, since no envd runs here.
func TestPlacement(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"placement", "-forwarder-wait=150ms"}, &out); err != nil {
		t.Fatal(err)
	}
	report, err := evidence.ParseProbe[evidence.PlacementReport](out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if report.Self.PID != os.Getpid() || report.Self.Cgroup == "" {
		t.Errorf("self %+v", report.Self)
	}
	if c := report.Child; c == nil || c.Process == nil || c.Process.PPID != os.Getpid() || c.Process.Cgroup == "" {
		t.Errorf("child %+v", c)
	}
	if g := report.Grandchild; g == nil || g.Process == nil || g.Process.PPID == os.Getpid() || g.Process.Cgroup == "" {
		t.Errorf("grandchild %+v", g)
	}
	if f := report.Forwarder; f == nil || f.Process != nil || !strings.Contains(f.Error, "no forwarder for 127.0.0.1:") {
		t.Errorf("forwarder %+v", f)
	}
}

// Only a socat that forwards this very port counts.
func TestFindForwarder(t *testing.T) {
	cmdline := func(argv ...string) string { return strings.Join(argv, "\x00") + "\x00" }
	process := func(pid int, argv ...string) map[string]string {
		return map[string]string{
			filepath.Join("proc", strconv.Itoa(pid), "cmdline"): cmdline(argv...),
			filepath.Join("proc", strconv.Itoa(pid), "stat"):    stat(pid, 50, 0, 1),
			filepath.Join("proc", strconv.Itoa(pid), "cgroup"):  "0::/socats\n",
		}
	}
	files := map[string]string{}
	for _, p := range []map[string]string{
		process(70, "socat", "-d", "TCP4-LISTEN:40001,bind=169.254.0.21,reuseaddr,fork", "TCP4:localhost:40001"),
		process(71, "sh", "-c", "echo TCP4-LISTEN:4000,bind=169.254.0.21"),
		process(72, "socat", "TCP4-LISTEN:4000,bind=127.0.0.1,fork", "EXEC:/bin/true", "169.254.0.21"),
		process(73, "/usr/bin/socat", "-d", "-d", "-d", "TCP4-LISTEN:4000,bind=169.254.0.21,reuseaddr,fork", "TCP4:localhost:4000"),
	} {
		maps.Copy(files, p)
	}
	g := tree(t, files)
	if p, found := g.findForwarder(4000); !found || p.PID != 73 || p.Cgroup != "0::/socats\n" {
		t.Errorf("got %+v, %v", p, found)
	}
	if p, found := g.findForwarder(400); found {
		t.Errorf("port 400 was found in %+v", p)
	}
}

func TestHostileTextCannotBreakTheFrame(t *testing.T) {
	files := shellGuest()
	files["sys/fs/cgroup/user/cpu.weight"] = "50\x00\xff\"SANDPROOF-END SANDPROOF-BEGIN{}\n" + strings.Repeat("x", 2*maxText)
	var out bytes.Buffer
	if err := emit(&out, tree(t, files).snapshot(60)); err != nil {
		t.Fatal(err)
	}
	s, err := evidence.ParseProbe[evidence.Snapshot](out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if text := s.Groups["user"].Files["cpu.weight"].Text; !strings.HasPrefix(text, "50\x00") || len(text) > maxText+10 {
		t.Errorf("%d bytes came back: %.60q", len(text), text)
	}
}

func TestUnknownModeIsAnError(t *testing.T) {
	if err := run([]string{"nonsense"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), `unknown mode "nonsense": snapshot, placement,`) {
		t.Errorf("got %v", err)
	}
}

func FuzzAddStat(f *testing.F) {
	f.Add(stat(1, 0, 0, 1))
	f.Add("1 ()")
	f.Add(")(")
	f.Fuzz(func(t *testing.T, text string) {
		var p evidence.Process
		addStat(&p, text)
		if !strings.Contains(text, p.Comm) || (p.Error == "" && p.PPID == 0 && !strings.Contains(text, "0")) {
			t.Errorf("%q gave %+v", text, p)
		}
	})
}
