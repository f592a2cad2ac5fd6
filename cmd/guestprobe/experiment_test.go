package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

var host = guest{proc: "/proc", sys: "/sys", answer: 5 * time.Second}

// Two that burn meet, and share one CPU over the same stretch of time.
func TestBurn(t *testing.T) {
	name := meetingOf(t)
	var burns [2]*evidence.Burn
	var both sync.WaitGroup
	for i := range burns {
		both.Go(func() {
			out, err := exec.CommandContext(t.Context(), "/proc/self/exe", "burn", "-meet="+name, "-for=300ms").Output()
			if err != nil {
				t.Error(err)
				return
			}
			if burns[i], err = evidence.ParseProbe[evidence.Burn](out); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if t.Failed() {
		return
	}
	one, other := burns[0], burns[1]
	if one.CPU == nil || other.CPU == nil || *one.CPU != *other.CPU || one.From != other.From || one.To != other.To || one.From <= 0 || one.To-one.From < 0.299 {
		t.Errorf("they did not compete: %+v, %+v", one, other)
	}
	if total := one.CPUSeconds + other.CPUSeconds; total <= 0 || total > 1.5*(one.To-one.From) {
		t.Errorf("they got %f s of one CPU in %f s", total, one.To-one.From)
	}
	if one.Process.PID == other.Process.PID || one.Process.PID == 0 || one.Process.Cgroup == "" {
		t.Errorf("they do not say who they are: %+v, %+v", one.Process, other.Process)
	}
}

// meetingOf is a test's own name to meet by: all of a machine's processes see
// each other, those of another run of the tests too.
func meetingOf(t *testing.T) string {
	t.Helper()
	return t.Name() + "-" + strconv.Itoa(os.Getpid())
}

// Whoever is left alone says so, in time; and nobody burns for ever.
func TestBurnAlone(t *testing.T) {
	if _, err := host.burn(t.Context(), meetingOf(t), 50*time.Millisecond, time.Second); err == nil || !strings.Contains(err.Error(), "it did not come") {
		t.Errorf("got %v", err)
	}
	for _, long := range []time.Duration{0, -time.Second, maxBurn + 1} {
		if _, err := host.burn(t.Context(), meetingOf(t), time.Second, long); err == nil || !strings.Contains(err.Error(), "-for between 0 and 30s") {
			t.Errorf("%s: got %v", long, err)
		}
	}
}

func FuzzParseStart(f *testing.F) {
	for _, text := range []string{"0\n", "7500000000\n", "-1\n", "7", "\n", "9223372036854775808\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if from, err := parseStart(text); err == nil && (from < 0 || !strings.HasSuffix(text, "\n")) {
			t.Errorf("%q is %s", text, from)
		}
	})
}

// A hog is let loose only in a group that has a limit, in which the probe is,
// and which ends before the guest's memory does.
func TestPlanHog(t *testing.T) {
	const mebi = 1 << 20
	self := evidence.Process{PID: 77, Cgroup: "0::/user\n"}
	group := func(files map[string]string) evidence.Group {
		g := evidence.Group{Path: "/sys/fs/cgroup/user", FSMagic: evidence.CGroup2Magic, Files: map[string]evidence.File{"cgroup.procs": {Text: "12\n77\n"}}}
		for name, text := range files {
			g.Files[name] = evidence.File{Text: text + "\n"}
		}
		return g
	}
	foreign := group(map[string]string{"memory.max": "104857600"})
	foreign.FSMagic = 0x01021994
	other := group(map[string]string{"memory.max": "104857600"})
	other.Files["cgroup.procs"] = evidence.File{Text: "7\n770\n"}
	unreadable := group(nil)
	unreadable.Files["memory.max"] = evidence.File{Errno: "ENOENT"}
	for _, test := range []struct {
		name      string
		group     evidence.Group
		used      uint64
		available uint64
		want      hogPlan
		detail    string
	}{
		{"a limit", group(map[string]string{"memory.max": "104857600"}), 0, 512 * mebi, hogPlan{wanted: 116 * mebi}, ""},
		{"throttled only", group(map[string]string{"memory.max": "max", "memory.high": "104857600"}), 0, 512 * mebi, hogPlan{wanted: 116 * mebi, throttles: true}, ""},
		{"no limit", group(map[string]string{"memory.max": "max", "memory.high": "max"}), 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "neither memory.max nor memory.high"},
		{"no files", group(nil), 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "neither"},
		{"files that cannot be read", unreadable, 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "neither"},
		{"a limit that is none", group(map[string]string{"memory.max": "9223372036854771712"}), 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "which is none"},
		{"not a number", group(map[string]string{"memory.max": "lots"}), 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "neither"},
		{"no cgroup2", foreign, 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "no cgroup2 directory"},
		{"somebody else's group", other, 0, 512 * mebi, hogPlan{end: evidence.HogNoLimit}, "not in /sys/fs/cgroup/user"},
		{"too little memory", group(map[string]string{"memory.max": "104857600"}), 0, 110 * mebi, hogPlan{end: evidence.HogImpossible}, "its own memory ends first"},
		{"enough, since some is used", group(map[string]string{"memory.max": "104857600"}), 10 * mebi, 110 * mebi, hogPlan{wanted: 116 * mebi}, ""},
		{"more used than allowed", group(map[string]string{"memory.max": "104857600"}), 200 * mebi, 20 * mebi, hogPlan{wanted: 116 * mebi}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := planHog(test.group, self, test.used, test.available)
			if got.wanted != test.want.wanted || got.throttles != test.want.throttles || got.end != test.want.end || !strings.Contains(got.detail, test.detail) {
				t.Errorf("got %+v, want %+v with %q", got, test.want, test.detail)
			}
		})
	}
}

// Steps are large far from the limit, and never larger than what is left.
func TestStepsOfAHog(t *testing.T) {
	const mebi = 1 << 20
	p := hogPlan{limit: 400 * mebi, wanted: 416 * mebi}
	for _, test := range []struct {
		used, available uint64
		want            byte
	}{
		{0, 800 * mebi, 16},
		{200 * mebi, 800 * mebi, 12},
		{360 * mebi, 800 * mebi, 2},
		{390 * mebi, 800 * mebi, 1},
		{400 * mebi, 800 * mebi, 1},
		{500 * mebi, 800 * mebi, 1},
		// Somebody else takes the guest's memory meanwhile.
		{0, 48 * mebi, 2},
		{0, 20 * mebi, 1},
		{0, 16 * mebi, 1},
		{0, 1 * mebi, 1},
	} {
		if got := p.stepsAt(test.used, test.available); got != test.want {
			t.Errorf("at %d MiB with %d MiB left: %d steps, want %d", test.used/mebi, test.available/mebi, got, test.want)
		}
	}
}

// A hog that was planned goes on where the guest has somewhat less than was planned
// to be left, and ends before the guest's own memory does.
func TestHogGoesOnNearTheFloor(t *testing.T) {
	for kb, want := range map[int]evidence.HogEnd{
		hogFloor / 1024: "", hogFloor/1024 - 1: "", hogLeast / 1024: "", hogLeast/1024 - 1: evidence.HogGaveUp, 0: evidence.HogGaveUp,
	} {
		g, report := guest{proc: t.TempDir()}, evidence.HogReport{AvailableLeast: hogFloor}
		if err := os.WriteFile(filepath.Join(g.proc, "meminfo"), fmt.Appendf(nil, "MemAvailable: %d kB\n", kb), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, end, detail := g.mayGoOn(t.Context(), hogPlan{}, &report); end != want || report.AvailableLeast != uint64(kb)*1024 {
			t.Errorf("with %d kB left: %q (%s), want %q, and %d bytes were the least", kb, end, detail, want, report.AvailableLeast)
		}
	}
}

// On a host that is no guest nothing is ever allocated.
func TestHogWithoutALimit(t *testing.T) {
	r := host.hog(t.Context(), os.Getpid(), t.TempDir(), time.Second)
	if r.Ended != evidence.HogNoLimit || r.Hog != nil || r.Allocated != 0 {
		t.Errorf("got %+v", r)
	}
}

// A hog does one step for each order, and is gone with its orders, with its
// parent's word, and at the deadline.
func TestHogChild(t *testing.T) {
	for name, stop := range map[string]func(*hogChild){
		"close": func(c *hogChild) { c.close() },
		"kill": func(c *hogChild) {
			c.kill()
			c.end()
			if !c.signalled() {
				t.Error("it is not said to be killed")
			}
		},
		"no more orders": func(c *hogChild) {
			c.orders.Close()
			if how := c.end(); how != "exit status 0" || c.signalled() {
				t.Errorf("it ended with %s", how)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := startHog()
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if err := c.reply(); err != nil {
				t.Fatalf("it did not begin: %v: %s", err, c.end())
			}
			pid := c.cmd.Process.Pid
			if score, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj"); err != nil || strings.TrimSpace(string(score)) != hogScore {
				t.Errorf("its score is %q, %v", score, err)
			}
			before := resident(t, pid)
			if err := c.step(3); err != nil {
				t.Fatal(err)
			}
			if grown := resident(t, pid) - before; grown < 3*hogStep || grown > 4*hogStep {
				t.Errorf("it grew by %d bytes, want %d", grown, 3*hogStep)
			}
			stop(c)
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		})
	}
}

// resident is the resident set of a process in bytes, as its pages add up: the
// number in statm lags behind (proc_pid_statm(5)).
func resident(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\nRss:")
	text, _, _ := strings.Cut(rest, " kB\n")
	kilobytes, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return kilobytes << 10
}

// A survivor outlives the probe, and not for long.
func TestSurvivor(t *testing.T) {
	p, err := host.survivor(200 * time.Millisecond)
	if err != nil || p.PID == 0 || p.StartTicks == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	child, err := os.FindProcess(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := child.Wait(); err != nil || !state.Success() {
		t.Errorf("it ended with %v, %v", state, err)
	}
	for _, life := range []time.Duration{0, maxSurvivor + 1} {
		if _, err := host.survivor(life); err == nil {
			t.Errorf("a life of %s is no error", life)
		}
	}
	for _, args := range [][]string{nil, {"soon"}, {"1h"}, {"1s", "1s"}} {
		if err := sleep(args); err == nil {
			t.Errorf("sleep %q is no error", args)
		}
	}
}

func TestOneProcess(t *testing.T) {
	if p, err := host.one([]string{strconv.Itoa(os.Getpid())}); err != nil || p.PID != os.Getpid() || p.Comm == "" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, args := range [][]string{nil, {"-1"}, {"0"}, {"x"}, {"1", "2"}} {
		if _, err := host.one(args); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

// What is asked for is what the kernel answers.
func TestRealTime(t *testing.T) {
	if got := realTime(); got != "granted" && got != "EPERM" {
		t.Errorf("got %q", got)
	}
}

func TestMeminfo(t *testing.T) {
	g := tree(t, map[string]string{"proc/meminfo": "MemTotal:  491420 kB\nMemAvailable:   9007199254740993 kB\nHugePages_Total:       0\nMemFree: x kB\n"})
	for name, want := range map[string]uint64{"MemTotal": 491420 << 10, "MemFree": 0, "HugePages_Total": 0, "Nothing": 0} {
		if got, err := g.memory(name); got != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}

func FuzzOutOfMemoryLine(f *testing.F) {
	for _, record := range []string{
		"4,812,7512345,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/user,task_memcg=/user,task=x,pid=80,uid=0\n",
		"3,813,7512399,-;Memory cgroup out of memory: Killed process 80 (x)\n SUBSYSTEM=memory\n", "6,1,1,-;plain", ";", "no semicolon oom-kill:",
	} {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record string) {
		if text, ok := outOfMemoryLine(record); ok && (len(text) > maxKernelLine || strings.Contains(text, "\n") || !strings.Contains(record, ";"+text)) {
			t.Errorf("%q gave %q", record, text)
		}
	})
}

// The deadline ends the wait for a hog that does nothing any more.
func TestHogThatHangs(t *testing.T) {
	c, err := startHog()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.reply(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Until it stands still it may take another order.
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it does not stop: %v, %v", status, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	defer context.AfterFunc(ctx, c.kill)()
	if err := c.step(1); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}
