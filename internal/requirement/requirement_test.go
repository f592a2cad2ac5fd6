package requirement

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
)

const (
	guestMemory = 491_421_696 // MemTotal of a 512 MiB guest, in bytes
	guestPage   = 4096
)

// healthy is the evidence of a sandbox in which everything holds, as the lab's
// template base gives it.
func healthy(version string) *evidence.Sandbox {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	limit := strconv.FormatUint(limit.Value(guestMemory, guestPage), 10)
	values := map[string]map[string]string{
		"user":   {"cpu.weight": "50", "memory.high": limit, "memory.max": limit, "io.weight": "default 10"},
		"ptys":   {"cpu.weight": "200", "memory.high": limit, "memory.max": limit, "io.weight": "default 50"},
		"socats": {"cpu.weight": "150", "memory.min": "5242880", "memory.low": "8388608", "io.weight": "default 50"},
	}
	groups := map[string]evidence.Group{}
	for name, files := range values {
		first := map[string]uint64{"ptys": 23, "socats": 68, "user": 113}[name]
		g := evidence.Group{Path: "/sys/fs/cgroup/" + name, Exists: true, FSMagic: evidence.CGroup2Magic, Inode: first, Files: map[string]evidence.File{
			"cgroup.type":            {Text: "domain\n", Inode: first + 1},
			"cgroup.freeze":          {Text: "0\n", Inode: first + 10},
			"cgroup.events":          {Text: "populated 1\nfrozen 0\n", Inode: first + 6},
			"cgroup.subtree_control": {Text: "\n", Inode: first + 5},
		}}
		for i, s := range settable {
			text := s.fallback
			if promised, ok := files[s.file]; ok {
				text = promised
			}
			g.Files[s.file] = evidence.File{Text: text + "\n", Inode: first + 15 + uint64(i)}
		}
		groups[name] = g
	}
	placed := func(pid int, cgroup string) *evidence.Placed {
		return &evidence.Placed{Process: &evidence.Process{PID: pid, Cgroup: "0::" + cgroup + "\n"}}
	}
	s := &evidence.Sandbox{
		Version: evidence.Version, Run: "test", Target: "lab", Template: "base",
		API: &evidence.API{
			SandboxID: "i0123456789abcdefghi", TemplateID: "bpghzec2u1txrmox1v5i", Alias: "base",
			Requested: start, Answered: start.Add(3 * time.Second), BuildID: "b-1", BuildWanted: "b-1",
		},
		Disk: &evidence.Disk{
			Build: "b-1", Image: "/storage/b-1/rootfs.ext4", Changed: start.Add(-time.Hour), Init: &evidence.DiskFile{Path: "/sbin/init", SHA256: "9db7fe34"},
		},
		Health: &evidence.Health{Status: 204, At: start.Add(3 * time.Second)},
		Snapshot: &evidence.Snapshot{
			Received: start.Add(5 * time.Second), MemTotal: guestMemory, PageSize: guestPage,
			Boot: evidence.Boot{ID: "8efc0bd1-ef78-449a-aea3-71c12ebae88f", UptimeSeconds: 4, BootTime: start},
			InitProgram: &evidence.Program{Path: "/sbin/init", SHA256: "9db7fe34", Steps: []evidence.Step{
				{Kind: evidence.StepMount, Line: 11, Target: "/sys/fs/cgroup"},
				{Kind: evidence.StepEnable, Line: 12, Target: "/sys/fs/cgroup/cgroup.subtree_control", Words: []string{"+cpu", "+memory", "+io", "+pids"}},
				{Kind: evidence.StepEnvd, Line: 18, Target: "/usr/bin/envd"},
			}},
			Init:   evidence.Process{PID: 1, Stderr: "/dev/ttyS0"},
			Mounts: []string{"25 22 0:23 / /sys/fs/cgroup rw,relatime - cgroup2 none rw"},
			Envd: &evidence.Envd{
				Version: version, CgroupRoot: "/sys/fs/cgroup",
				Process: evidence.Process{
					PID: 50, Stderr: "/dev/ttyS0", Cgroup: "0::/\n", StartTicks: 200, CgroupFDs: []string{"/sys/fs/cgroup/user"},
				},
			},
			Root: evidence.Group{Path: "/sys/fs/cgroup", Exists: true, FSMagic: evidence.CGroup2Magic, Files: map[string]evidence.File{
				"cgroup.controllers":     {Text: "cpuset cpu io memory hugetlb pids rdma\n"},
				"cgroup.subtree_control": {Text: "cpu io memory pids\n"},
				"io.cost.qos":            {Text: "\n"},
			}},
			Groups: groups,
		},
		Placement: &evidence.Placement{
			Command: placed(60, "/user"), Child: placed(61, "/user"), Grandchild: placed(62, "/user"),
			PTY: placed(63, "/ptys"), Forwarder: placed(64, "/socats"),
		},
		Log: &evidence.Log{
			Coverage: []evidence.Coverage{{Source: "orchestrator.stdout.0", From: 0, To: 4096}}, OwnRecords: 9, Settled: true,
			Findings: []evidence.Finding{{Rule: "BT001", Class: evidence.FindingControl, Confidence: evidence.ByField, Time: start.Add(time.Second)}},
		},
	}
	if p, err := Generations(version, ""); err == nil {
		for name, g := range s.Snapshot.Groups {
			for _, f := range settable {
				if _, some, _ := (promise{generations: p}).wants(name, f.file); !some {
					g.Files[f.file] = evidence.File{Text: f.fallback + "\n", Inode: g.Files[f.file].Inode}
				}
			}
		}
	}
	s.Later = copyOf(s.Snapshot)
	s.Later.Boot.UptimeSeconds = 34
	s.CPU, s.Memory, s.Lifecycle = competed(4), overAllocated(version), paused(s)
	return s
}

// competed is a CPU experiment in which the terminal got so many times the CPU
// time of the command, and equals the same.
func competed(ratio float64) *evidence.CPUExperiment {
	const from, to = 7.5, 8.5
	cpu := 1
	burn := func(pid int, cgroup string, share float64) *evidence.Burn {
		return &evidence.Burn{Process: evidence.Process{PID: pid, Cgroup: "0::" + cgroup + "\n"}, CPU: &cpu, From: from, To: to, CPUSeconds: share * (to - from) * 0.98}
	}
	return &evidence.CPUExperiment{
		Command: burn(70, "/user", 1/(1+ratio)), PTY: burn(71, "/ptys", ratio/(1+ratio)),
		Control: []*evidence.Burn{burn(72, "/user", 0.5), burn(73, "/user", 0.5)},
	}
}

// events is the text of a memory.events in which some of the counts are one.
func events(risen ...string) evidence.File {
	var text strings.Builder
	for _, name := range []string{"low", "high", "max", "oom", "oom_kill", "oom_group_kill"} {
		n := 0
		if slices.Contains(risen, name) {
			n = 1
		}
		fmt.Fprintf(&text, "%s %d\n", name, n)
	}
	return evidence.File{Text: text.String()}
}

// overAllocated is a memory experiment that ended as it should: by the group's
// own memory.max, or at the first sign of memory.high where there is no max.
func overAllocated(version string) *evidence.MemoryExperiment {
	envd := func() *evidence.Process { return &evidence.Process{PID: 50, StartTicks: 200, Cgroup: "0::/\n"} }
	report := &evidence.HogReport{
		Hog: &evidence.Process{PID: 80, Cgroup: "0::/user\n"}, Group: "/sys/fs/cgroup/user",
		Allocated: 424 << 20, Wanted: 436 << 20, Ended: evidence.HogKilled, Detail: "signal: killed",
		Before: events(), After: events("high", "max", "oom", "oom_kill"), Swap: evidence.File{Text: "0\n"},
		EnvdBefore: envd(), EnvdAfter: envd(),
		KernelLog: []string{"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/user,task_memcg=/user,task=guestprobe,pid=80,uid=0"},
	}
	if version == "0.4.3" {
		report.Ended, report.Detail, report.After, report.KernelLog = evidence.HogThrottled, "memory.high acts", events("high"), nil
	}
	return &evidence.MemoryExperiment{Report: report, HealthAnswered: 12, HealthSlowestMS: 40}
}

// paused is what a pause leaves of a sandbox in which everything holds.
func paused(s *evidence.Sandbox) *evidence.Lifecycle {
	survivor := evidence.Process{PID: 90, StartTicks: 900, Cgroup: "0::/user\n"}
	after := survivor
	placement := copyOf(s.Placement)
	placement.Forwarder = nil
	return &evidence.Lifecycle{
		Paused: s.Snapshot.Received.Add(time.Minute), Resumed: s.Snapshot.Received.Add(time.Minute + time.Second), Aside: true,
		Snapshot: copyOf(s.Snapshot), Placement: placement, Before: &survivor, Survivor: &evidence.Placed{Process: &after},
	}
}

// copyOf copies through JSON, as evidence travels.
func copyOf[T any](v *T) *T {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	c := new(T)
	if err := json.Unmarshal(data, c); err != nil {
		panic(err)
	}
	return c
}

// underUnit is the same sandbox with systemd and E2B's own unit.
func underUnit(version string) *evidence.Sandbox {
	s := healthy(version)
	for _, snapshot := range []*evidence.Snapshot{s.Snapshot, s.Later} {
		oom, nice := -1000, -20
		snapshot.InitProgram = &evidence.Program{Path: "/usr/lib/systemd/systemd", SHA256: "5d5d5d5d"}
		e := snapshot.Envd
		e.Process.Cgroup, e.Process.OOMScoreAdj, e.Process.Nice = "0::/system.slice/envd.service\n", &oom, &nice
		e.Process.Stderr, snapshot.Init.Stderr = "socket:[11017]", "/dev/null"
		e.Journal = &evidence.Journal{Control: "Started envd.service - envd."}
		e.Unit = &evidence.Unit{Name: "envd.service", Files: []string{"/etc/systemd/system/envd.service"}, Settings: map[string]string{
			"CPUWeight": "1000", "MemoryMin": "50M", "MemoryLow": "100M", "OOMScoreAdjust": "-1000", "Nice": "-20", "IOWeight": "10000", "Delegate": "yes",
		}}
		e.Group = &evidence.Group{Path: "/sys/fs/cgroup/system.slice/envd.service", Exists: true, FSMagic: evidence.CGroup2Magic, Files: map[string]evidence.File{
			"cpu.weight": {Text: "1000\n"}, "memory.min": {Text: "52428800\n"}, "memory.low": {Text: "104857600\n"}, "io.weight": {Text: "default 10000\n"},
		}, Above: []evidence.Ancestor{{Path: "/sys/fs/cgroup/system.slice", Files: map[string]evidence.File{
			"memory.min": {Text: "52428800\n"}, "memory.low": {Text: "max\n"},
		}}}}
	}
	return s
}

// nested is a guest whose envd makes its cgroups in one below the root of the
// hierarchy, which protects as much as they do.
func nested(version string) *evidence.Sandbox {
	const root = "/sys/fs/cgroup/e2b"
	s := healthy(version)
	for _, snapshot := range []*evidence.Snapshot{s.Snapshot, s.Later} {
		snapshot.Envd.CgroupRoot, snapshot.Root.Path = root, root
		for name, g := range snapshot.Groups {
			g.Path = root + "/" + name
			g.Above = []evidence.Ancestor{{Path: root, Files: map[string]evidence.File{"memory.min": {Text: "5242880\n"}, "memory.low": {Text: "8388608\n"}}}}
			snapshot.Groups[name] = g
		}
	}
	return s
}

// inFile is the same sandbox with an init that sends what envd says to a file of
// its own, in which it has said something, and nothing about cgroups.
func inFile(version string) *evidence.Sandbox {
	s := healthy(version)
	for _, snapshot := range []*evidence.Snapshot{s.Snapshot, s.Later} {
		position := int64(120)
		snapshot.Envd.Process.Stderr = "/var/log/envd.log"
		snapshot.Envd.LogFile = &evidence.LogFile{
			Path: "/var/log/envd.log", Inode: 12, Mode: evidence.LogFileWritten, Position: &position, Size: 120, Control: evidence.CanaryLine("ABC"),
		}
	}
	return s
}

// judgeable tells whether a file holds every piece that a requirement is judged
// by.
func judgeable(r Requirement, s *evidence.Sandbox) bool {
	return !slices.ContainsFunc(slices.Concat(r.Needs, r.Helps), func(p evidence.Piece) bool { return !Present(s, p) })
}

// unpatched is the same sandbox from a template whose init enables nothing.
func unpatched(version string) *evidence.Sandbox {
	s := healthy(version)
	s.Snapshot.Root.Files["cgroup.subtree_control"] = evidence.File{Text: "\n"}
	for _, g := range s.Snapshot.Groups {
		for _, file := range []string{"cpu.weight", "memory.high", "memory.max", "memory.min", "memory.low", "io.weight"} {
			g.Files[file] = evidence.File{Errno: "ENOENT"}
		}
	}
	return s
}

func results(s *evidence.Sandbox) map[ID]Outcome {
	all := map[ID]Outcome{}
	for _, r := range All() {
		all[r.ID] = r.Judge(s)
	}
	return all
}

func TestHealthySandboxHoldsEverything(t *testing.T) {
	for _, version := range []string{"0.4.3", "0.5.6", "0.5.10", "0.5.24", "0.5.25", "0.6.13"} {
		for name, s := range map[string]*evidence.Sandbox{"shell": healthy(version), "systemd": underUnit(version)} {
			for _, r := range All() {
				if !judgeable(r, s) {
					continue
				}
				if o := r.Judge(s); !o.Result.Green() {
					t.Errorf("envd %s, %s: %s is %s: %s", version, name, r.ID, o.Result, o.Reason)
				}
			}
		}
	}
}

func TestPromiseByGeneration(t *testing.T) {
	for _, test := range []struct {
		version, name string
		promised      int
	}{
		{"0.4.2", "none", 0},
		{"0.4.3", "A", 6},
		{"0.5.5", "A", 6},
		{"0.5.6", "B", 9},
		{"0.5.10", "B'", 9},
		{"0.5.24", "B' or C", 9},
		{"0.5.25", "C", 12},
		{"0.6.13", "C", 12},
		{"v0.6.13-rc1", "C", 12},
	} {
		s := healthy(test.version)
		if got := GenerationName(s); got != test.name {
			t.Errorf("envd %s is generation %q, want %q", test.version, got, test.name)
		}
		p, promised := promiseOf(s), 0
		for _, property := range propertiesC {
			if _, _, all := p.wants(property.Group, property.File); all {
				promised++
			}
		}
		if promised != test.promised {
			t.Errorf("envd %s surely sets %d properties, want %d", test.version, promised, test.promised)
		}
	}
}

func TestUnknownVersionIsUnprovenAndNeverGuessed(t *testing.T) {
	for _, version := range []string{"0.6.14", "1.0.0", "", "latest"} {
		for id, o := range results(healthy(version)) {
			if o.Result == Pass && strings.HasPrefix(string(id), "value.") || o.Result == Fail {
				t.Errorf("envd %q: %s is %s", version, id, o.Result)
			}
		}
		if o := results(healthy(version))[BootEnvdKnown]; o.Result != Unproven {
			t.Errorf("envd %q: %s is %s, want unproven", version, BootEnvdKnown, o.Result)
		}
	}
}

// The limit was measured in a real guest: written 430323712, read 430321664.
func TestLimitIsRoundedDownToAPage(t *testing.T) {
	const memTotal = 491798528
	if got := limit.Value(memTotal, 1); got != 430323712 {
		t.Errorf("limit before rounding is %d, want 430323712", got)
	}
	if got := limit.Value(memTotal, 4096); got != 430321664 {
		t.Errorf("limit is %d, want 430321664", got)
	}
	if got := limit.Value(8<<30, 4096); got != 8<<30-128<<20 {
		t.Errorf("limit of 8 GiB is %d, want all but 128 MiB", got)
	}
}

func TestUnpatchedTemplate(t *testing.T) {
	for _, version := range []string{"0.4.3", "0.6.13"} {
		got := results(unpatched(version))
		for _, id := range []ID{EnableCPU, EnableMemory, ValueUserCPUWeight, ValueUserMemoryHigh} {
			if got[id].Result != Fail {
				t.Errorf("envd %s: %s is %s, want fail", version, id, got[id].Result)
			}
		}
		if reason := got[EnableCPU].Reason; !strings.Contains(reason, `"permission denied" in envd's log means just this`) {
			t.Errorf("the reason does not explain the log's words: %s", reason)
		}
		if got[OfferCPU].Result != Pass {
			t.Errorf("envd %s: %s is %s, want pass", version, OfferCPU, got[OfferCPU].Result)
		}
	}
}

// Each row breaks one thing in a healthy sandbox and names the outcome of the
// requirement that must see it.
func TestOneThingWrong(t *testing.T) {
	set := func(group, file, text string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { s.Snapshot.Groups[group].Files[file] = evidence.File{Text: text + "\n"} }
	}
	errno := func(group, file, name string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { s.Snapshot.Groups[group].Files[file] = evidence.File{Errno: name} }
	}
	finding := func(class evidence.FindingClass, confidence evidence.Confidence, rule string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) {
			s.Log.Findings = append(s.Log.Findings, evidence.Finding{Rule: rule, Class: class, Confidence: confidence})
		}
	}
	for _, test := range []struct {
		name string
		harm func(*evidence.Sandbox)
		id   ID
		want Result
	}{
		{"tmpfs where cgroup2 should be", func(s *evidence.Sandbox) { s.Snapshot.Root.FSMagic = 0x01021994 }, MountCgroup2, Fail},
		{"tmpfs: right numbers limit nothing", func(s *evidence.Sandbox) { s.Snapshot.Root.FSMagic = 0x01021994 }, ValueUserCPUWeight, Fail},
		{"file system not told", func(s *evidence.Sandbox) { s.Snapshot.Root.FSMagic = 0 }, MountCgroup2, Unproven},
		{"no directory", noDirectory, MountCgroup2, Fail},
		{"no directory: enabled in no order", noDirectory, EnableOrder, NotApplicable},
		{"no directory: no value", noDirectory, ValueUserMemoryMax, Fail},
		{"no look at a directory", func(s *evidence.Sandbox) { s.Snapshot.Root = evidence.Group{} }, MountCgroup2, Unproven},
		{"a directory that could not be looked at", func(s *evidence.Sandbox) {
			s.Snapshot.Root = evidence.Group{Path: "/sys/fs/cgroup", Error: "stat: permission denied"}
		}, MountCgroup2, Unproven},
		{"file system not told: offer", rootUntold, OfferCPU, Unproven},
		{"file system not told: enable", rootUntold, EnableCPU, Unproven},
		{"file system not told: place", rootUntold, PlaceCommand, Unproven},
		{"file system not told, and a command elsewhere all the same", func(s *evidence.Sandbox) {
			rootUntold(s)
			s.Placement.Command.Process.Cgroup = "0::/\n"
		}, PlaceCommand, Fail},
		{"read-only mount", func(s *evidence.Sandbox) {
			s.Snapshot.Mounts = []string{"25 22 0:23 / /sys/fs/cgroup ro,relatime - cgroup2 none rw"}
		}, MountCgroup2, Fail},
		{"memory bound to v1", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["cgroup.controllers"] = evidence.File{Text: "cpu io pids\n"}
		}, OfferMemory, Fail},
		{"controllers not read", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["cgroup.controllers"] = evidence.File{Errno: "EACCES"}
		}, OfferMemory, Unproven},
		{"only cpu enabled", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["cgroup.subtree_control"] = evidence.File{Text: "cpu\n"}
		}, EnableMemory, Fail},
		{"group missing", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["ptys"] = evidence.Group{Path: "/sys/fs/cgroup/ptys"}
		}, CreateGroups, Fail},
		{"group not looked at", func(s *evidence.Sandbox) { delete(s.Snapshot.Groups, "ptys") }, CreateGroups, Unproven},
		{"another group mounted over one", mountedAt("/decoy", "/sys/fs/cgroup/user"), CreateGroups, Fail},
		{"a mount beside the groups", mountedAt("/decoy", "/sys/fs/cgroup/users"), CreateGroups, Pass},
		{"mounts not told", func(s *evidence.Sandbox) { s.Snapshot.Mounts = nil }, CreateGroups, Unproven},
		{"threaded group", set("user", "cgroup.type", "threaded"), CreateDomain, Fail},
		{"threaded domain", set("user", "cgroup.type", "domain threaded"), CreateDomain, Pass},
		{"invalid domain", set("user", "cgroup.type", "domain invalid"), CreateDomain, Fail},
		{"threaded controllers enabled below", set("user", "cgroup.subtree_control", "cpuset cpu pids perf_event"), CreateLeaf, Pass},
		{"one domain controller among them", set("user", "cgroup.subtree_control", "cpu io pids"), CreateLeaf, Fail},
		{"a process came into a threaded domain", func(s *evidence.Sandbox) {
			s.Later.Groups["ptys"].Files["cgroup.type"] = evidence.File{Text: "domain threaded\n"}
		}, KeepGroups, Pass},
		{"made threaded later", func(s *evidence.Sandbox) {
			s.Later.Groups["ptys"].Files["cgroup.type"] = evidence.File{Text: "threaded\n"}
		}, KeepGroups, Fail},
		{"frozen group", set("user", "cgroup.events", "populated 1\nfrozen 1"), CreateThawed, Fail},
		{"freezing group", set("user", "cgroup.freeze", "1"), CreateThawed, Fail},
		{"controllers enabled one level too deep", set("user", "cgroup.subtree_control", "memory"), CreateLeaf, Fail},
		{"weight at its default", set("user", "cpu.weight", "100"), ValueUserCPUWeight, Fail},
		{"limit too loose", set("user", "memory.high", "max"), ValueUserMemoryHigh, Fail},
		{"limit too tight", set("user", "memory.max", "134217728"), ValueUserMemoryMax, Fail},
		{"limit one byte short", set("ptys", "memory.max", strconv.FormatUint(limit.Value(guestMemory, guestPage)-1, 10)), ValuePtysMemoryMax, Fail},
		{"a prefix is not the value", set("user", "cpu.weight", "500"), ValueUserCPUWeight, Fail},
		{"another group mounted over one, with the right values", mountedAt("/decoy", "/sys/fs/cgroup/user"), ValueUserMemoryMax, Fail},
		{"another file mounted over a value", mountedAt("/decoy/memory.max", "/sys/fs/cgroup/user/memory.max"), ValueUserMemoryMax, Fail},
		{"another file mounted over another value", mountedAt("/decoy/memory.max", "/sys/fs/cgroup/user/memory.max"), ValueUserMemoryHigh, Pass},
		{"another group mounted over one later", func(s *evidence.Sandbox) {
			s.Later.Mounts = append(s.Later.Mounts, "40 25 0:23 /decoy /sys/fs/cgroup/user rw,relatime - cgroup2 none rw")
		}, KeepValues, Fail},
		{"value under mounts that were not told", func(s *evidence.Sandbox) { s.Snapshot.Mounts = nil }, ValueUserMemoryMax, Unproven},
		{"file system not told: value", rootUntold, ValueUserMemoryMax, Unproven},
		{"file system of a group not told", func(s *evidence.Sandbox) { untold(s.Snapshot) }, ValueUserMemoryMax, Unproven},
		{"file system of a group not told later", func(s *evidence.Sandbox) { untold(s.Later) }, KeepValues, Unproven},
		{"file system of the root not told later", func(s *evidence.Sandbox) { s.Later.Root.FSMagic = 0 }, KeepValues, Unproven},
		{"value not parsed", set("user", "cpu.weight", "fifty"), ValueUserCPUWeight, Unproven},
		{"value not read", errno("user", "cpu.weight", "EIO"), ValueUserCPUWeight, Unproven},
		{"io.weight set and inert", func(*evidence.Sandbox) {}, ValueUserIOWeight, Inert},
		{"io.weight acting", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "8:0 enable=1 ctrl=auto\n"}
		}, ValueUserIOWeight, Pass},
		{"io.weight of a device that is none of envd's", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["io.weight"] = evidence.File{Text: "default 10\n254:0 10000\n"}
			s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "254:0 enable=1 ctrl=auto\n"}
		}, ValueUserIOWeight, Fail},
		{"io.weight of a device that is envd's", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["io.weight"] = evidence.File{Text: "default 10\n254:0 10\n"}
			s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "254:0 enable=1 ctrl=auto\n"}
		}, ValueUserIOWeight, Pass},
		{"io.weight that is a device's alone", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["io.weight"] = evidence.File{Text: "default 100\n254:0 10\n"}
		}, ValueUserIOWeight, Fail},
		{"io.cost.qos enabled for no device", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "254:0 enable=0 ctrl=auto\n"}
		}, ValueUserIOWeight, Inert},
		{"an io.cost.qos that is none", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "enable=1\n"}
		}, ValueUserIOWeight, Unproven},
		{"no IOCOST in the kernel", errno("user", "io.weight", "ENOENT"), ValueUserIOWeight, NotApplicable},
		{"no MemTotal", func(s *evidence.Sandbox) { s.Snapshot.MemTotal = 0 }, ValueUserMemoryHigh, Unproven},
		{"right files, processes elsewhere", func(s *evidence.Sandbox) {
			s.Placement.Command.Process.Cgroup = "0::/\n"
		}, PlaceCommand, Fail},
		{"user is not user2", func(s *evidence.Sandbox) {
			s.Placement.Command.Process.Cgroup = "0::/user2\n"
		}, PlaceCommand, Fail},
		{"terminal in user", func(s *evidence.Sandbox) { s.Placement.PTY.Process.Cgroup = "0::/user\n" }, PlacePTY, Fail},
		{"no forwarder seen", func(s *evidence.Sandbox) {
			s.Placement.Forwarder = &evidence.Placed{Error: "no socat within 6 s"}
		}, PlaceForwarder, Unproven},
		{"connection lost", func(s *evidence.Sandbox) {
			s.Placement.PTY = &evidence.Placed{Error: "connection reset", Infra: true}
		}, PlacePTY, Infra},
		{"failure line", finding(evidence.FindingFailure, evidence.ByField, "CG002"), LogNoFailure, Fail},
		{"failure line is no fallback", finding(evidence.FindingFailure, evidence.ByField, "CG002"), LogNoFallback, Pass},
		{"fallback line", finding(evidence.FindingFailure, evidence.ByField, FallbackRule), LogNoFallback, Fail},
		{"failure that only its time places", finding(evidence.FindingFailure, evidence.ByWindow, "CG002"), LogNoFailure, Unproven},
		{"unknown cgroup trouble", finding(evidence.FindingUnknown, evidence.ByField, "CG0U0"), LogNoFailure, Unproven},
		{"failure that only its origin places", finding(evidence.FindingFailure, evidence.ByOrigin, "CG002"), LogNoFailure, Fail},
		{"failure where nobody else was", finding(evidence.FindingFailure, evidence.ByExclusion, "CG002"), LogNoFailure, Fail},
		{"waived trouble", finding(evidence.FindingWaived, evidence.ByField, "CG0U0"), LogNoFailure, Pass},
		{"a canary that did not come", func(s *evidence.Sandbox) { s.Log.Canary = &evidence.Canary{Nonce: "A", Device: "/dev/ttyS0"} }, LogNoFailure, Unproven},
		{"a canary that could not be written", func(s *evidence.Sandbox) {
			s.Log.Canary = &evidence.Canary{Nonce: "A", Device: "/dev/ttyS0", Error: "input/output error"}
		}, LogNoFailure, Unproven},
		{"a canary, no boot line, and a record from before envd was started", canaryAlone(0, 1900*time.Millisecond), LogNoFailure, Pass},
		{"the same by a log's clock that is hours behind", canaryAlone(-7*time.Hour, 1900*time.Millisecond), LogNoFailure, Pass},
		{"a canary, and no record from before envd was started", canaryAlone(0, 2900*time.Millisecond), LogNoFailure, Unproven},
		{"no such record by a log's clock that is hours behind", canaryAlone(-7*time.Hour, 2900*time.Millisecond), LogNoFailure, Unproven},
		{"a canary, and nobody knows when the log begins", func(s *evidence.Sandbox) {
			canaryAlone(0, 0)(s)
			s.Log.First = time.Time{}
		}, LogNoFailure, Unproven},
		{"the init's last line, which comes after envd was started", func(s *evidence.Sandbox) { s.Log.Findings[0].Rule = "BT005" }, LogNoFailure, Unproven},
		{"a canary of which nobody knows whose it is", func(s *evidence.Sandbox) {
			s.Log.Canary = &evidence.Canary{Nonce: "A", Device: "/dev/ttyS0"}
			s.Log.Findings = append(s.Log.Findings, evidence.Finding{Rule: CanaryRule, Class: evidence.FindingControl, Confidence: evidence.ByWindow})
		}, LogNoFailure, Unproven},
		{"no boot line", func(s *evidence.Sandbox) { s.Log.Findings = nil }, LogNoFailure, Unproven},
		{"hole in the log", func(s *evidence.Sandbox) { s.Log.Holes = []string{"orchestrator.stdout.3 was purged"} }, LogNoFailure, Unproven},
		{"nothing read", func(s *evidence.Sandbox) { s.Log.Coverage = nil }, LogNoFailure, Unproven},
		{"nothing came", func(s *evidence.Sandbox) { s.Log.Coverage[0].From = s.Log.Coverage[0].To }, LogNoFailure, Unproven},
		{"not settled", func(s *evidence.Sandbox) { s.Log.Settled = false }, LogNoFailure, Unproven},
		{"stderr thrown away", func(s *evidence.Sandbox) { s.Snapshot.Envd.Process.Stderr = "/dev/null" }, LogNoFailure, Unproven},
		{"stderr in the journal", func(s *evidence.Sandbox) { s.Snapshot.Envd.Process.Stderr = "socket:[123]" }, LogNoFallback, Unproven},
		{"stderr in a file that is named like a console", func(s *evidence.Sandbox) { s.Snapshot.Envd.Process.Stderr = "/dev/hvc0" }, LogNoFailure, Unproven},
		{"resumed, and no log at all", func(s *evidence.Sandbox) {
			s.Snapshot.Boot.UptimeSeconds, s.Log = 86400, nil
		}, LogNoFailure, NotApplicable},
		{"a bound cgroup root", func(s *evidence.Sandbox) {
			s.Snapshot.Mounts = append(s.Snapshot.Mounts, "26 25 0:23 /inner /sys/fs/cgroup rw - cgroup2 none rw")
			s.Placement.Command.Process.Cgroup = "0::/inner/user\n"
		}, PlaceCommand, Pass},
		{"a group on an unknown file system", func(s *evidence.Sandbox) { untold(s.Snapshot) }, CreateGroups, Unproven},
		{"resumed", func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 86400 }, LogNoFailure, NotApplicable},
		{"another template", func(s *evidence.Sandbox) { s.API.Alias = "someone-elses" }, ImageTemplate, Infra},
		{"the whole form of a name", func(s *evidence.Sandbox) { s.Template, s.API.Alias = "team/base:v2", "team/base" }, ImageTemplate, Pass},
		{"no alias told", func(s *evidence.Sandbox) { s.API.Alias = "" }, ImageTemplate, NotApplicable},
		{"another build", func(s *evidence.Sandbox) { s.API.BuildID = "b-2" }, ImageBuild, Fail},
		{"build not told", func(s *evidence.Sandbox) { s.API.BuildID = "" }, ImageBuild, Unproven},
		{"no build asked for", func(s *evidence.Sandbox) { s.API.BuildWanted = "" }, ImageBuild, NotApplicable},
		{"patched, and resumed from before it", func(s *evidence.Sandbox) {
			*s = *unpatched("0.6.13")
			s.Snapshot.Boot.UptimeSeconds = 86400
		}, ImageInForce, Fail},
		{"patched, and resumed from after it", func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 86400 }, ImageInForce, Pass},
		{"not patched, and resumed", func(s *evidence.Sandbox) {
			*s = *unpatched("0.6.13")
			s.Snapshot.Boot.UptimeSeconds, s.Snapshot.InitProgram.Steps = 86400, nil
		}, ImageInForce, NotApplicable},
		{"init not read", func(s *evidence.Sandbox) { s.Snapshot.InitProgram = nil }, BootIdentity, Unproven},
		{"enabled after envd had started", enabledLate, EnableOrder, Fail},
		{"enabled after the cgroups, and envd started again", func(s *evidence.Sandbox) {
			values := copyOf(s.Snapshot)
			enabledLate(s)
			for name, g := range s.Snapshot.Groups {
				for f, v := range g.Files {
					v.Text = values.Groups[name].Files[f].Text
					g.Files[f] = v
				}
			}
		}, EnableOrder, Pass},
		{"enabled after the cgroups, and no MemTotal to tell whether envd was started again", func(s *evidence.Sandbox) {
			memoryLate(s)
			s.Snapshot.MemTotal = 0
		}, EnableOrder, Unproven},
		{"the same, and one value is not envd's", func(s *evidence.Sandbox) {
			memoryLate(s)
			s.Snapshot.MemTotal = 0
			f := s.Snapshot.Groups["socats"].Files["memory.low"]
			f.Text = "0\n"
			s.Snapshot.Groups["socats"].Files["memory.low"] = f
		}, EnableOrder, Fail},
		{"inodes not read", func(s *evidence.Sandbox) {
			g := s.Snapshot.Groups["user"]
			g.Inode = 0
			s.Snapshot.Groups["user"] = g
		}, EnableOrder, Unproven},
		{"a limit that envd does not set", set("user", "cpu.max", "10000 100000"), ValueUnset, Fail},
		{"a limit that envd does not set in that group", set("socats", "memory.max", "1048576"), ValueUnset, Fail},
		{"no command started", func(s *evidence.Sandbox) {
			s.Placement.Command = &evidence.Placed{Error: "fork/exec /bin/sh: device or resource busy"}
		}, CreateStarts, Fail},
		{"no command, and nobody says why", func(s *evidence.Sandbox) {
			s.Placement.Command = &evidence.Placed{Error: "no answer within 30 s"}
		}, CreateStarts, Unproven},
		{"switched off on purpose", func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Process.Cmdline = []string{"envd", "--no-cgroups"}
			s.Snapshot.Groups["user"] = evidence.Group{Path: "/sys/fs/cgroup/user"}
		}, CreateGroups, Fail},
		{"grandchild moved out", func(s *evidence.Sandbox) {
			s.Placement.Grandchild.Process.Cgroup = "0::/system.slice/docker.service\n"
		}, PlaceGrandchild, Fail},
		{"removed later", func(s *evidence.Sandbox) { s.Later.Groups["ptys"] = evidence.Group{Path: "/sys/fs/cgroup/ptys"} }, KeepGroups, Fail},
		{"made anew later", func(s *evidence.Sandbox) {
			g := s.Later.Groups["ptys"]
			g.Inode += 1000
			s.Later.Groups["ptys"] = g
		}, KeepGroups, Fail},
		{"inode not read at first", inodes(0, 23), KeepGroups, Unproven},
		{"inode not read later", inodes(23, 0), KeepGroups, Unproven},
		{"inode never read", inodes(0, 0), KeepGroups, Unproven},
		{"frozen later", func(s *evidence.Sandbox) {
			s.Later.Groups["ptys"].Files["cgroup.freeze"] = evidence.File{Text: "1\n"}
		}, KeepGroups, Fail},
		{"booted again", func(s *evidence.Sandbox) { s.Later.Boot.ID = "another" }, KeepGroups, Fail},
		{"disabled later", func(s *evidence.Sandbox) {
			s.Later.Root.Files["cgroup.subtree_control"] = evidence.File{Text: "memory pids\n"}
		}, KeepControllers, Fail},
		{"reset later", func(s *evidence.Sandbox) {
			s.Later.Groups["user"].Files["memory.max"] = evidence.File{Text: "max\n"}
		}, KeepValues, Fail},
		{"wrong from the beginning is not reset later", func(s *evidence.Sandbox) {
			for _, snapshot := range []*evidence.Snapshot{s.Snapshot, s.Later} {
				snapshot.Groups["user"].Files["memory.max"] = evidence.File{Text: "max\n"}
			}
		}, KeepValues, Pass},
		{"not read later", func(s *evidence.Sandbox) {
			s.Later.Groups["user"].Files["memory.max"] = evidence.File{Errno: "EIO"}
		}, KeepValues, Unproven},
		{"envd was started again", func(s *evidence.Sandbox) { s.Later.Envd.Process.StartTicks = 900 }, ProtectSurvives, Fail},
		{"a shell init promises no protection", func(*evidence.Sandbox) {}, ProtectCPUWeight, NotApplicable},
		{"no IO weight, no core failure", withoutIO, LogNoFailure, Pass},
		{"no IO weight", withoutIO, LogNoIOLoss, Fail},
		{"the log complains of a guest that is right", finding(evidence.FindingFailure, evidence.ByField, "CG002"), LogAgrees, Fail},
		{"the log is clean about a guest that is wrong", set("user", "cpu.weight", "100"), LogAgrees, Fail},
		{"the log cannot speak", func(s *evidence.Sandbox) { s.Snapshot.Envd.Process.Stderr = "/dev/null" }, LogAgrees, NotApplicable},
		{"the line of an envd that was ended", formerEnvd, LogNoFallback, Pass},
		{"the line of an envd that was ended, in a guest that is wrong", func(s *evidence.Sandbox) {
			formerEnvd(s)
			s.Snapshot.Groups["user"].Files["cpu.weight"] = evidence.File{Text: "100\n", Inode: 130}
		}, LogNoFallback, Fail},
		{"the line of an envd that was ended, and a hole in the log", func(s *evidence.Sandbox) {
			formerEnvd(s)
			s.Log.Holes = []string{"orchestrator.stdout.3 was purged"}
		}, LogNoFallback, Unproven},
		{"the line of an envd that was ended, and the running one cannot be heard", func(s *evidence.Sandbox) {
			formerEnvd(s)
			s.Snapshot.Envd.Process.Stderr = "/dev/null"
		}, LogNoFallback, Unproven},
		{"the line of the running envd, in a log whose clock is behind", func(s *evidence.Sandbox) {
			formerEnvd(s)
			s.Snapshot.Envd.Process.StartTicks = 400 // the line came a second later
			behind(s, 10*time.Second)
		}, LogNoFallback, Fail},
		{"the line of an envd that was ended, in a log whose clock is behind", func(s *evidence.Sandbox) {
			formerEnvd(s)
			behind(s, 10*time.Second)
		}, LogNoFallback, Pass},
		{"a line of whose clock nobody knows", func(s *evidence.Sandbox) {
			formerEnvd(s)
			s.Log.Canary = nil
			s.Log.Findings = slices.DeleteFunc(s.Log.Findings, func(f evidence.Finding) bool { return f.Rule == CanaryRule })
		}, LogNoFallback, Fail},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := healthy("0.6.13")
			test.harm(s)
			o := results(s)[test.id]
			if o.Result != test.want {
				t.Errorf("%s is %s (%s), want %s", test.id, o.Result, o.Reason, test.want)
			}
			if o.Reason == "" {
				t.Error("the outcome gives no reason")
			}
			if !o.Result.Green() && o.Next == "" {
				t.Error("a red outcome must say what to do next")
			}
		})
	}
}

// memoryLate is a guest whose memory controller came after envd had made its
// cgroups, and whose values are right all the same.
func memoryLate(s *evidence.Sandbox) {
	for _, g := range s.Snapshot.Groups {
		for f, v := range g.Files {
			if strings.HasPrefix(f, "memory.") {
				v.Inode += 1000
				g.Files[f] = v
			}
		}
	}
}

// noDirectory is a guest that has no /sys/fs/cgroup at all.
func noDirectory(s *evidence.Sandbox) {
	s.Snapshot.Mounts = []string{"20 1 254:0 / / rw,relatime - ext4 /dev/vda rw"}
	s.Snapshot.Root = evidence.Group{Path: "/sys/fs/cgroup"}
	noGroups(s)
}

// noGroups is a guest in which envd has made none of its cgroups.
func noGroups(s *evidence.Sandbox) {
	for _, name := range groupNames() {
		s.Snapshot.Groups[name] = evidence.Group{Path: "/sys/fs/cgroup/" + name}
	}
}

// rootUntold is a guest that would not tell the file system of its cgroup root.
func rootUntold(s *evidence.Sandbox) {
	s.Snapshot.Root.FSMagic, s.Snapshot.Root.Error = 0, "statfs: operation not permitted"
}

// untold makes a look that could not tell the file system of the group user.
func untold(s *evidence.Snapshot) {
	g := s.Groups["user"]
	g.FSMagic, g.Error = 0, "statfs: permission denied"
	s.Groups["user"] = g
}

// mountedAt mounts a group of the same hierarchy somewhere else as well.
func mountedAt(root, point string) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) {
		s.Snapshot.Mounts = append(s.Snapshot.Mounts, "40 25 0:23 "+root+" "+point+" rw,relatime - cgroup2 none rw")
	}
}

// inodes sets the inode of the terminals' group at both looks.
func inodes(first, later uint64) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) {
		for look, inode := range map[*evidence.Snapshot]uint64{s.Snapshot: first, s.Later: later} {
			g := look.Groups["ptys"]
			g.Inode = inode
			look.Groups["ptys"] = g
		}
	}
}

// canaryAlone makes a log that holds the canary and no boot line, with a clock
// that is off by skew. Its first record was made so long after the sandbox was
// asked for; envd was started after 2.5 s.
func canaryAlone(skew, first time.Duration) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) {
		asked := s.API.Requested
		s.Snapshot.Asked = asked.Add(4500 * time.Millisecond)
		s.Log.First = asked.Add(skew + first)
		s.Log.Canary = &evidence.Canary{Nonce: "A", Device: "/dev/ttyS0", Written: asked.Add(6 * time.Second)}
		s.Log.Findings = []evidence.Finding{{Rule: CanaryRule, Class: evidence.FindingControl, Confidence: evidence.ByField, Time: asked.Add(skew + 6*time.Second)}}
	}
}

// enabledLate is a guest whose controllers came after envd had made its
// cgroups: the files are there, newer than the cgroups, at their defaults.
func enabledLate(s *evidence.Sandbox) {
	next := uint64(200)
	for _, name := range []string{"ptys", "socats", "user"} {
		for _, f := range settable {
			s.Snapshot.Groups[name].Files[f.file] = evidence.File{Text: f.fallback + "\n", Inode: next}
			next++
		}
	}
}

// withoutIO is a guest in which io is not enabled, and whose envd said so.
func withoutIO(s *evidence.Sandbox) {
	s.Snapshot.Root.Files["cgroup.subtree_control"] = evidence.File{Text: "cpu memory\n"}
	s.Log.Findings = append(s.Log.Findings, evidence.Finding{
		Rule: skipRule, Property: "io.weight", Class: evidence.FindingFailure, Confidence: evidence.ByField,
	})
}

// formerEnvd is a guest in which envd was started twice: the first one fell
// back, the second one, 20 s later, set everything up.
func formerEnvd(s *evidence.Sandbox) {
	s.Snapshot.Received = s.API.Requested.Add(30 * time.Second)
	s.Snapshot.Boot.UptimeSeconds, s.Snapshot.Envd.Process.StartTicks = 29, 2500
	s.Log.Canary = &evidence.Canary{Nonce: "A", Device: s.Snapshot.Envd.Process.Stderr}
	s.Log.Findings = append(s.Log.Findings, evidence.Finding{
		Rule: FallbackRule, Class: evidence.FindingFailure, Confidence: evidence.ByField, Time: s.API.Requested.Add(5 * time.Second),
	}, evidence.Finding{
		Rule: CanaryRule, Class: evidence.FindingControl, Confidence: evidence.ByField, Time: s.Snapshot.Received.Add(time.Second / 10),
	})
}

// behind sets back the clock that stamps the log.
func behind(s *evidence.Sandbox, by time.Duration) {
	for i := range s.Log.Findings {
		if f := &s.Log.Findings[i]; !f.Time.IsZero() {
			f.Time = f.Time.Add(-by)
		}
	}
}

func journalSays(line string) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) { s.Snapshot.Envd.Journal.Lines = []string{line} }
}

// The same where envd's standard error goes to a file.
func TestOneThingWrongWithALogFile(t *testing.T) {
	const (
		fallback = "falling back to no-op cgroup manager"
		noWeight = `cgroup property "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`
	)
	file := func(change func(*evidence.LogFile)) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { change(s.Snapshot.Envd.LogFile) }
	}
	appended := func(position int64, change func(*evidence.LogFile)) func(*evidence.Sandbox) {
		return file(func(l *evidence.LogFile) {
			l.Mode, l.Position = evidence.LogFileAppended, &position
			change(l)
		})
	}
	old := func(l *evidence.LogFile) { l.Doubtful = []string{fallback} }
	for _, test := range []struct {
		name   string
		harm   func(*evidence.Sandbox)
		id     ID
		want   Result
		mute   bool
		reason string
	}{
		{"the file is clean", file(func(*evidence.LogFile) {}), LogJournal, Pass, false, "/var/log/envd.log"},
		{"the log leaves it to the file", file(func(*evidence.LogFile) {}), LogNoFailure, NotApplicable, false, "/var/log/envd.log"},
		{"the file, without any other log", func(s *evidence.Sandbox) { s.Log = nil }, LogNoFallback, NotApplicable, false, "/var/log/envd.log"},
		{"the file and the guest agree, without any other log", func(s *evidence.Sandbox) { s.Log = nil }, LogAgrees, Pass, false, ""},
		{"resumed, and the file is there", func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 86400 }, LogJournal, Pass, false, ""},
		{"the file complains", file(func(l *evidence.LogFile) { l.Lines = []string{fallback} }), LogJournal, Fail, false, ""},
		{"the file complains, and takes no line any more", file(func(l *evidence.LogFile) { l.Lines, l.Control, l.Error = []string{fallback}, "", "ENOSPC" }), LogJournal, Fail, false, ""},
		{"the file complains of a guest that is right", file(func(l *evidence.LogFile) { l.Lines = []string{fallback} }), LogAgrees, Fail, false, ""},
		{"the file complains of an IO weight", file(func(l *evidence.LogFile) { l.Lines = []string{noWeight} }), LogJournal, Pass, false, ""},
		{"the file complains of an IO weight that io would give", func(s *evidence.Sandbox) {
			s.Snapshot.Envd.LogFile.Lines = []string{noWeight}
			s.Snapshot.Root.Files["cgroup.subtree_control"] = evidence.File{Text: "cpu memory\n"}
		}, LogNoIOLoss, Fail, false, "loss of an IO weight"},
		{"the file takes no line", file(func(l *evidence.LogFile) { l.Control = "" }), LogJournal, Unproven, true, "takes any line"},
		{"the file cannot be read", file(func(l *evidence.LogFile) { l.Error = "the file was cut" }), LogJournal, Unproven, true, "the file was cut"},
		{"how far envd wrote is not known", file(func(l *evidence.LogFile) { l.Position = nil }), LogJournal, Unproven, true, "how far"},
		{"older lines, and envd appended nothing", appended(0, old), LogJournal, Pass, false, ""},
		{"older lines, and envd appended something", appended(400, old), LogJournal, Unproven, true, fallback},
		{"envd appended something, and where it began nothing tells", appended(400, func(*evidence.LogFile) {}), LogJournal, Unproven, true, "appends to what stood there before"},
		{"envd appended the fallback last", appended(400, func(l *evidence.LogFile) { l.Lines, l.Doubtful = []string{fallback}, []string{"cgroup x"} }), LogJournal, Fail, false, ""},
		{"envd appended the fallback last, in a guest that is right", appended(400, func(l *evidence.LogFile) { l.Lines, l.Doubtful = []string{fallback}, []string{"cgroup x"} }), LogAgrees, Fail, false, ""},
		{"envd appended the loss of an IO weight last", appended(400, func(l *evidence.LogFile) { l.Lines = []string{noWeight} }), LogJournal, Unproven, true, ""},
		{"another process wrote through the same descriptor", file(func(l *evidence.LogFile) { l.Holders, l.Doubtful = []int{1}, []string{fallback} }), LogJournal, Unproven, true, "process 1 above envd"},
		{"another process has the same descriptor, and nothing was said", file(func(l *evidence.LogFile) { l.Holders = []int{1} }), LogJournal, Pass, false, ""},
		{"a file that cannot speak leaves the log to say why", file(func(l *evidence.LogFile) { l.Control = "" }), LogNoFailure, Unproven, true, "/var/log/envd.log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := inFile("0.6.13")
			test.harm(s)
			if o := results(s)[test.id]; o.Result != test.want || o.Mute != test.mute || o.Reason == "" || !strings.Contains(o.Reason+o.Read, test.reason) {
				t.Errorf("%s is %s, mute %v (%s), want %s", test.id, o.Result, o.Mute, o.Reason, test.want)
			}
		})
	}
}

// The same under systemd, where the unit promises envd its own protection.
func TestOneThingWrongUnderSystemd(t *testing.T) {
	own := func(file, text string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { s.Snapshot.Envd.Group.Files[file] = evidence.File{Text: text + "\n"} }
	}
	above := func(file, text string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Group.Above[0].Files[file] = evidence.File{Text: text + "\n"}
		}
	}
	promised := func(setting, value, file, text string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Unit.Settings[setting] = value
			own(file, text)(s)
		}
	}
	for _, test := range []struct {
		name string
		harm func(*evidence.Sandbox)
		id   ID
		want Result
	}{
		{"memory in bytes, which the kernel keeps in pages", promised("MemoryMin", "50000000", "memory.min", "49999872"), ProtectMemoryMin, Pass},
		{"memory in pages, and the kernel keeps less", promised("MemoryLow", "50000000", "memory.low", "49995776"), ProtectMemoryLow, Fail},
		{"memory in KiB, which is no whole page", promised("MemoryLow", "5K", "memory.low", "4096"), ProtectMemoryLow, Pass},
		{"a weight above a page", promised("CPUWeight", "5000", "cpu.weight", "5000"), ProtectCPUWeight, Pass},
		{"a weight of another page", promised("CPUWeight", "5000", "cpu.weight", "4096"), ProtectCPUWeight, Fail},
		{"IO weight of a device", promised("IOWeight", "10000", "io.weight", "default 10000\n254:0 100"), ProtectIOWeight, Fail},
		{"weight not in force", own("cpu.weight", "100"), ProtectCPUWeight, Fail},
		{"memory not in force", own("memory.min", "0"), ProtectMemoryMin, Fail},
		{"memory half in force", own("memory.low", "52428800"), ProtectMemoryLow, Fail},
		{"memory that the slice protects less of", above("memory.min", "52424704"), ProtectMemoryMin, Inert},
		{"memory that the slice protects nothing of", above("memory.low", "0"), ProtectMemoryLow, Inert},
		{"memory that is not in force, in a slice that protects nothing", func(s *evidence.Sandbox) {
			above("memory.low", "0")(s)
			own("memory.low", "0")(s)
		}, ProtectMemoryLow, Fail},
		{"what the slice protects is no number", above("memory.low", "much"), ProtectMemoryLow, Unproven},
		{"the slice was not read", func(s *evidence.Sandbox) { s.Snapshot.Envd.Group.Above = nil }, ProtectMemoryMin, Unproven},
		{"the slice could not be read", func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Group.Above[0].Files["memory.min"] = evidence.File{Errno: "EACCES"}
		}, ProtectMemoryMin, Unproven},
		{"the slice's slice was not read", func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Group.Path = "/sys/fs/cgroup/e2b.slice/system.slice/envd.service"
		}, ProtectMemoryMin, Unproven},
		{"no slice above", func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Group.Path, s.Snapshot.Envd.Group.Above = "/sys/fs/cgroup/envd.service", nil
		}, ProtectMemoryMin, Pass},
		{"the mounts were not read", func(s *evidence.Sandbox) { s.Snapshot.Mounts = nil }, ProtectMemoryMin, Unproven},
		{"only a part of the hierarchy is mounted", func(s *evidence.Sandbox) {
			s.Snapshot.Mounts = []string{"25 22 0:23 /x /sys/fs/cgroup rw,relatime - cgroup2 none rw"}
		}, ProtectMemoryMin, Unproven},
		{"own cgroup not read", func(s *evidence.Sandbox) { s.Snapshot.Envd.Group = nil }, ProtectMemoryLow, Unproven},
		{"the killer may take it", func(s *evidence.Sandbox) { *s.Snapshot.Envd.Process.OOMScoreAdj = 0 }, ProtectOOMScore, Fail},
		{"niceness not in force", func(s *evidence.Sandbox) { *s.Snapshot.Envd.Process.Nice = 0 }, ProtectNice, Fail},
		{"niceness not read", func(s *evidence.Sandbox) { s.Snapshot.Envd.Process.Nice = nil }, ProtectNice, Unproven},
		{"a setting of another kind", func(s *evidence.Sandbox) { s.Snapshot.Envd.Unit.Settings["MemoryMin"] = "10%" }, ProtectMemoryMin, Unproven},
		{"a unit that promises less", func(s *evidence.Sandbox) { delete(s.Snapshot.Envd.Unit.Settings, "CPUWeight") }, ProtectCPUWeight, NotApplicable},
		{"a unit that lacks what E2B's has", func(s *evidence.Sandbox) { delete(s.Snapshot.Envd.Unit.Settings, "CPUWeight") }, ProtectUnit, Fail},
		{"the journal is clean", func(*evidence.Sandbox) {}, LogJournal, Pass},
		{"the log leaves it to the journal", func(*evidence.Sandbox) {}, LogNoFailure, NotApplicable},
		{"the journal, without any other log", func(s *evidence.Sandbox) { s.Log = nil }, LogNoFallback, NotApplicable},
		{"resumed, and the journal is there", func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 86400 }, LogJournal, Pass},
		{"the journal complains", journalSays("falling back to no-op cgroup manager"), LogJournal, Fail},
		{"the journal complains of one limit", journalSays(`cgroup property "cpu.weight" unavailable at "/sys/fs/cgroup/user", skipping`), LogJournal, Fail},
		{"the journal complains of an IO weight", journalSays(`cgroup property "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`), LogJournal, Pass},
		{"the journal complains of an IO weight, which is known", journalSays(`cgroup property "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`), LogNoIOLoss, NotApplicable},
		{"the journal complains of an IO weight that io would give", func(s *evidence.Sandbox) {
			journalSays(`cgroup property "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`)(s)
			s.Snapshot.Root.Files["cgroup.subtree_control"] = evidence.File{Text: "cpu memory\n"}
		}, LogNoIOLoss, Fail},
		{"the journal keeps nothing", func(s *evidence.Sandbox) { s.Snapshot.Envd.Journal.Control = "" }, LogJournal, Unproven},
		{"the journal cannot be read", func(s *evidence.Sandbox) { s.Snapshot.Envd.Journal.Error = "no journalctl" }, LogJournal, Unproven},
		{"the journal complains of a guest that is right", journalSays("falling back to no-op cgroup manager"), LogAgrees, Fail},
		{"the journal is clean about a guest that is wrong", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["cpu.weight"] = evidence.File{Text: "100\n", Inode: 130}
		}, LogAgrees, Fail},
		{"OpenRC promises the niceness", func(s *evidence.Sandbox) {
			e, nice := s.Snapshot.Envd, 0
			e.Unit, e.Parent, e.Process.Nice = nil, &evidence.Process{Exe: "/sbin/supervise-daemon"}, &nice
		}, ProtectNice, Fail},
		{"OpenRC promises no weight", func(s *evidence.Sandbox) {
			s.Snapshot.Envd.Unit, s.Snapshot.Envd.Parent = nil, &evidence.Process{Exe: "/sbin/supervise-daemon"}
		}, ProtectCPUWeight, NotApplicable},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := underUnit("0.6.13")
			test.harm(s)
			if o := results(s)[test.id]; o.Result != test.want || o.Reason == "" {
				t.Errorf("%s is %s (%s), want %s", test.id, o.Result, o.Reason, test.want)
			}
		})
	}
}

// The first stage that broke gives the true reason, from what the guest's own
// init and kernel show.
func TestReasons(t *testing.T) {
	steps := func(steps ...evidence.Step) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { s.Snapshot.InitProgram.Steps = steps }
	}
	enable := func(line int, target string, words ...string) evidence.Step {
		return evidence.Step{Kind: evidence.StepEnable, Line: line, Target: target, Words: words}
	}
	const root = "/sys/fs/cgroup/cgroup.subtree_control"
	offered := func(text string) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["cgroup.controllers"] = evidence.File{Text: text + "\n"}
		}
	}
	for _, test := range []struct {
		name string
		harm func(*evidence.Sandbox)
		id   ID
		want string
	}{
		{"no line", steps(), EnableCPU, "the template's init never enabled it"},
		{"a typo", steps(enable(12, root, "+cpu", "+memroy")), EnableCPU, "in line 12 in one write with memroy"},
		{"one that is not offered", steps(enable(12, root, "+cpu", "+memory", "+misc")), EnableMemory, "in one write with misc"},
		{"before the mount", steps(enable(9, root, "+cpu"), evidence.Step{Kind: evidence.StepMount, Line: 11}), EnableCPU, "before it mounts cgroup2 in line 11"},
		{"another controller", steps(enable(12, root, "+memory")), EnableCPU, "enables only +memory, in line 12"},
		{"too deep", steps(enable(12, "/sys/fs/cgroup/user/cgroup.subtree_control", "+cpu")), EnableCPU, "only below /sys/fs/cgroup/user (line 12), one level too deep"},
		{"in a loop", steps(enable(12, "$root/cgroup.subtree_control", "+$c")), EnableCPU, "in line 12, and the write failed, was never reached, or was undone"},
		{"in another script", func(s *evidence.Sandbox) {
			s.Snapshot.InitProgram.Steps = nil
			s.Snapshot.Bystanders = []evidence.Program{{Path: "/etc/rc.local"}}
		}, EnableCPU, "stands in /etc/rc.local and never took effect: PID 1 runs /sbin/init"},
		{"a unit that asks for nothing", func(s *evidence.Sandbox) {
			s.Snapshot.InitProgram.Steps = nil
			s.Snapshot.Envd.Unit = &evidence.Unit{Name: "envd.service"}
		}, EnableCPU, "nothing asked systemd for it: the unit envd.service"},
		{"real-time processes", func(s *evidence.Sandbox) {
			s.Snapshot.Kernel.Config = map[string]string{"CONFIG_RT_GROUP_SCHED": "y"}
			s.Snapshot.RealTime = []evidence.Process{{PID: 77, Comm: "rtkit", Cgroup: "0::/system.slice\n"}}
		}, EnableCPU, "rtkit (PID 77) in /system.slice"},
		{"disabled on the command line", func(s *evidence.Sandbox) {
			offered("cpu io")(s)
			s.Snapshot.Kernel.Cmdline = "quiet cgroup_disable=memory"
		}, OfferMemory, "its command line has cgroup_disable=memory"},
		{"bound to version 1", func(s *evidence.Sandbox) {
			offered("cpu io")(s)
			s.Snapshot.Mounts = append(s.Snapshot.Mounts, "26 25 0:24 / /mnt/v1 rw - cgroup none rw,memory")
		}, OfferMemory, "cgroup version 1 has it, mounted at /mnt/v1"},
		{"not in the kernel", func(s *evidence.Sandbox) {
			offered("cpu io")(s)
			s.Snapshot.Kernel.Config = map[string]string{}
		}, OfferMemory, "built without CONFIG_MEMCG"},
		{"mounted over", func(s *evidence.Sandbox) { s.Snapshot.Root.FSMagic = 0x62656572 }, MountCgroup2, "/sbin/init mounts it in line 11, and the mount failed"},
		{"no directory", noDirectory, MountCgroup2, "there is no such directory as /sys/fs/cgroup, where envd makes its cgroups; /sbin/init mounts it in line 11"},
		{"too deep, and seen in the groups", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["cgroup.subtree_control"] = evidence.File{Text: "memory\n"}
		}, CreateLeaf, "controllers are enabled one level too deep: a cgroup that enables memory or io for its children takes no process, so that envd can start nothing in it: user: "},
		{"never mounted", func(s *evidence.Sandbox) {
			s.Snapshot.Root.FSMagic = 0x62656572
			steps(enable(12, root, "+cpu"))(s)
		}, MountCgroup2, "/sbin/init never mounts it"},
		{"version 1", func(s *evidence.Sandbox) {
			s.Snapshot.Root.FSMagic = 0x01021994
			s.Snapshot.Mounts = append(s.Snapshot.Mounts, "26 25 0:24 / /sys/fs/cgroup/memory rw - cgroup none rw,memory")
		}, MountCgroup2, "the guest uses cgroup version 1, mounted at /sys/fs/cgroup/memory"},
		{"every start says EBADF", func(s *evidence.Sandbox) {
			s.Snapshot = nil
			s.Problems = []evidence.Problem{{Piece: evidence.PieceSnapshot, Kind: evidence.ProblemGuest, Call: "run the probe", Error: "fork/exec /bin/sh: bad file descriptor"}}
		}, MountCgroup2, "directories that are no cgroups"},
		{"no nice", func(s *evidence.Sandbox) {
			s.Snapshot, s.Placement.Command = nil, &evidence.Placed{Error: "the probe's placement ended with exited (exit code 127)"}
		}, CreateStarts, "/usr/bin/nice"},
		{"no shell", func(s *evidence.Sandbox) {
			s.Placement.Command = &evidence.Placed{Error: "the probe's placement ended with exited (exit code 127)"}
		}, CreateStarts, "envd 0.6.13 needs neither nice nor ionice"},
		{"io.weight of a device", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["io.weight"] = evidence.File{Text: "default 10\n254:0 10000\n"}
		}, ValueUserIOWeight, "io.weight reads default 10, 254:0 10000"},
		{"values in the wrong groups", func(s *evidence.Sandbox) {
			s.Snapshot.Groups["user"].Files["cpu.weight"] = evidence.File{Text: "200\n"}
		}, ValueUserCPUWeight, "it is the value of ptys"},
		{"for show only", func(s *evidence.Sandbox) {
			s.Placement.Command.Process.Cgroup, s.Snapshot.Envd.Process.CgroupFDs = "0::/\n", nil
		}, PlaceCommand, "right files, processes elsewhere"},
		{"disabled and enabled again", func(s *evidence.Sandbox) {
			s.Later.Groups["user"].Files["cpu.weight"] = evidence.File{Text: "100\n", Inode: 900}
		}, KeepValues, "the file is a new one, so its controller was disabled and enabled again"},
		{"envd first", func(s *evidence.Sandbox) {
			enabledLate(s)
			steps(evidence.Step{Kind: evidence.StepEnvd, Line: 12}, enable(14, root, "+cpu"))(s)
		}, EnableOrder, "starts envd in line 12 and enables controllers in line 14"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := healthy("0.6.13")
			if strings.HasPrefix(string(test.id), "enable.") {
				s = unpatched("0.6.13")
			}
			if test.id == EnableOrder {
				s = healthy("0.6.13")
			}
			test.harm(s)
			if o := results(s)[test.id]; o.Result != Fail || !strings.Contains(o.Reason, test.want) {
				t.Errorf("%s is %s (%s), want a failure that says %q", test.id, o.Result, o.Reason, test.want)
			}
		})
	}
}

// A group over which a mount was laid later was not made again.
func TestMountedOverLater(t *testing.T) {
	s := healthy("0.6.13")
	user := s.Later.Groups["user"]
	user.Inode++
	s.Later.Groups["user"] = user
	s.Later.Mounts = append(s.Later.Mounts, "40 25 0:23 /decoy /sys/fs/cgroup/user rw,relatime - cgroup2 none rw")
	if o := results(s)[KeepGroups]; o.Result != Fail || !strings.HasPrefix(o.Reason, "another mount was laid over /sys/fs/cgroup/user between") {
		t.Errorf("it is %s (%s)", o.Result, o.Reason)
	}
}

// Groups that do not exist enable nothing too deep, and are not said to.
func TestAbsentGroupsAreNotTooDeep(t *testing.T) {
	s := healthy("0.6.13")
	noGroups(s)
	if o := results(s)[CreateLeaf]; o.Result != Fail || !strings.HasPrefix(o.Reason, "user: does not exist; ") {
		t.Errorf("it is %s (%s)", o.Result, o.Reason)
	}
}

// The memory of a group is protected only as far as that of those above it, up
// to the root of the hierarchy.
func TestProtectionFromAbove(t *testing.T) {
	for _, test := range []struct {
		name   string
		harm   func(*evidence.Group)
		want   Result
		reason string
	}{
		{"the root protects as much", func(*evidence.Group) {}, Pass, ""},
		{"the root protects nothing", func(g *evidence.Group) {
			g.Above[0].Files["memory.min"] = evidence.File{Text: "0\n"}
		}, Inert, "the value is set, and /sys/fs/cgroup/e2b/memory.min reads 0:"},
		{"the root was not read", func(g *evidence.Group) { g.Above = nil }, Unproven, "/sys/fs/cgroup/e2b/memory.min was not read"},
		{"one above the root was not read", func(g *evidence.Group) {
			g.Path, g.Above[0].Path = "/sys/fs/cgroup/a/e2b/socats", "/sys/fs/cgroup/a/e2b"
		}, Unproven, "/sys/fs/cgroup/a/memory.min was not read"},
		{"the least of several", func(g *evidence.Group) {
			g.Path = "/sys/fs/cgroup/e2b/b/socats"
			g.Above = append(g.Above, evidence.Ancestor{Path: "/sys/fs/cgroup/e2b/b", Files: map[string]evidence.File{"memory.min": {Text: "4096\n"}}})
			g.Above[0].Files["memory.min"] = evidence.File{Text: "8192\n"}
		}, Inert, "/sys/fs/cgroup/e2b/b/memory.min reads 4096:"},
		{"the value is another", func(g *evidence.Group) {
			g.Above[0].Files["memory.min"], g.Files["memory.min"] = evidence.File{Text: "0\n"}, evidence.File{Text: "0\n"}
		}, Fail, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := nested("0.6.13")
			g := s.Snapshot.Groups["socats"]
			test.harm(&g)
			s.Snapshot.Groups["socats"] = g
			if o := results(s)[ValueSocatsMemoryMin]; o.Result != test.want || !strings.Contains(o.Reason, test.reason) {
				t.Errorf("%s (%s), want %s", o.Result, o.Reason, test.want)
			}
		})
	}
}

// An io.weight that acts on one device says nothing of another.
func TestIOWeightNamesWhereItActs(t *testing.T) {
	s := healthy("0.6.13")
	s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "8:0 enable=1 ctrl=auto\n254:0 enable=0 ctrl=auto\n"}
	if o := results(s)[ValueUserIOWeight]; o.Result != Pass || !strings.Contains(o.Reason, "act on 8:0 alone") {
		t.Errorf("%s (%s)", o.Result, o.Reason)
	}
}

// A commit decides where the version does not; one that is not listed leaves
// both open.
func TestAmbiguousVersions(t *testing.T) {
	for _, test := range []struct {
		version, commit string
		change          Change
		want            presence
	}{
		{"0.5.3", "", changeWrapper, absent},
		{"0.5.4", "", changeWrapper, there},
		{"0.5.24", "", changeIONice, open},
		{"0.5.24", "f4bd1b24b0123456789", changeIONice, there},
		{"0.5.24", "f4bd1b2", changeIONice, there},
		{"0.5.24", "f4b", changeIONice, open},
		{"0.6.1", "90cc12e13", changeNoCgroups, absent},
		{"0.6.1", "e10814cec", changeNoCgroups, there},
		{"0.6.3", "", changeFreeze, open},
		{"0.6.12", "47a7cc8f3", changeLookPath, absent},
		{"0.6.12", "1abece199", changeLookPath, there},
		{"0.6.13", "6400d78c0", changeFreezeWaits, absent},
		{"0.6.13", "f06e9bc1e", changeFreezeWaits, there},
	} {
		v, err := parseVersion(test.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := test.change.Since.in(v, test.commit); got != test.want {
			t.Errorf("envd %s at %q: %s: %d, want %d", test.version, test.commit, test.change.What, got, test.want)
		}
	}
	for text, want := range map[string]string{
		"0.6.13": "0.6.13", "v0.6.13": "0.6.13", "0.6.13-rc.1+f06e9bc1e": "0.6.13", "0.6.13+dirty": "0.6.13",
		"": "", "v": "", "0": "", "0.6": "", "0.6.13.1": "", "0.06.13": "", "0.6.13-": "", "0.6.-13": "", "0.6.x": "", "vv0.6.13": "",
	} {
		if got, err := parseVersion(text); got != want || (err == nil) != (want != "") {
			t.Errorf("envd version %q is %q, %v; want %q", text, got, err, want)
		}
	}
	s := healthy("0.5.24")
	if o := results(s)[BootEnvdKnown]; !strings.Contains(o.Reason, "so both are accepted") {
		t.Errorf("the ambiguity is not said: %s", o.Reason)
	}
	s.Snapshot.Envd.Commit = "stand-in f4bd1b24b"
	if got := GenerationName(s); got != "C" {
		t.Errorf("the commit makes it %q, want C", got)
	}
}

// An envd that the table does not know is described as the row that it would
// be.
func TestUnknownEnvdIsLearnt(t *testing.T) {
	s := healthy("0.6.13")
	s.Snapshot.Envd.Version = "0.7.0"
	s.Snapshot.Groups["agents"] = evidence.Group{Path: "/sys/fs/cgroup/agents", Exists: true, Files: map[string]evidence.File{"cpu.weight": {Text: "25\n"}}}
	o := results(s)[BootEnvdKnown]
	for _, want := range []string{
		"envd 0.7.0", `{"user", "cpu.weight", weight(50)},`, `{"user", "memory.max", limit},`, `{"socats", "memory.min", mebi(5)},`,
		`{"user", "io.weight", weight(10)},`, `{"agents", "cpu.weight", weight(25)},`,
	} {
		if !strings.Contains(o.Read, want) {
			t.Errorf("%q is missing in what was learnt:\n%s", want, o.Read)
		}
	}
	if o.Result != Unproven || strings.Contains(o.Read, "pids.max") {
		t.Errorf("%s, and what is at its default is no promise:\n%s", o.Result, o.Read)
	}
}

// The API's word about the version is noted and not believed.
func TestTheRunningVersionCounts(t *testing.T) {
	s := healthy("0.4.3")
	s.API.EnvdVersion = "0.2.0"
	o := results(s)[BootEnvdKnown]
	if o.Result != Pass || !strings.Contains(o.Advice, "the API says envd 0.2.0") {
		t.Errorf("%+v", o)
	}
}

// Absent evidence is never a pass: whatever piece is taken away, whatever
// needed it stops being green.
func TestAbsentEvidenceIsNeverGreen(t *testing.T) {
	drop := map[evidence.Piece]func(*evidence.Sandbox){
		evidence.PieceAPI:       func(s *evidence.Sandbox) { s.API = nil },
		evidence.PieceHealth:    func(s *evidence.Sandbox) { s.Health = nil },
		evidence.PieceSnapshot:  func(s *evidence.Sandbox) { s.Snapshot = nil },
		evidence.PiecePlacement: func(s *evidence.Sandbox) { s.Placement = nil },
		evidence.PieceCPU:       func(s *evidence.Sandbox) { s.CPU = nil },
		evidence.PieceMemory:    func(s *evidence.Sandbox) { s.Memory = nil },
		evidence.PieceLater:     func(s *evidence.Sandbox) { s.Later = nil },
		evidence.PieceLifecycle: func(s *evidence.Sandbox) { s.Lifecycle = nil },
		evidence.PieceLog:       func(s *evidence.Sandbox) { s.Log = nil },
		// An empty one is what is collected where a storage is configured and the
		// build is not known; without a storage there is none, and no promise.
		evidence.PieceDisk: func(s *evidence.Sandbox) { s.Disk = &evidence.Disk{} },
	}
	for _, piece := range evidence.Pieces() {
		for _, kind := range []evidence.ProblemKind{"", evidence.ProblemGuest, evidence.ProblemInfra} {
			s := healthy("0.6.13")
			drop[piece](s)
			want := Unproven
			if kind != "" {
				s.Problems = []evidence.Problem{{Piece: piece, Kind: kind, Call: "the call", Error: "the error"}}
				if piece == evidence.PieceDisk {
					s.Disk = nil
				}
			}
			if kind == evidence.ProblemInfra {
				want = Infra
			}
			judged := 0
			for _, r := range All() {
				for _, need := range slices.Concat(r.Needs, r.Helps) {
					if need != piece {
						continue
					}
					judged++
					if o := r.Judge(s); o.Result != want {
						t.Errorf("without %s (%q): %s is %s, want %s", piece, kind, r.ID, o.Result, want)
					}
				}
			}
			if judged == 0 {
				t.Errorf("no requirement needs %s", piece)
			}
		}
	}
}

// A failure in the log stands by itself: where commands cannot even be started
// in the guest, it is all the evidence there is.
func TestLogSpeaksWithoutASnapshot(t *testing.T) {
	s := unpatched("0.4.3")
	s.Snapshot = nil
	s.Problems = []evidence.Problem{{Piece: evidence.PieceSnapshot, Kind: evidence.ProblemGuest, Call: "run the probe", Error: "exit code 127"}}
	if o := results(s)[LogNoFallback]; o.Result != Unproven {
		t.Errorf("silence without a snapshot is %s", o.Result)
	}
	s.Log.Findings = append(s.Log.Findings, evidence.Finding{Rule: FallbackRule, Class: evidence.FindingFailure, Confidence: evidence.ByField})
	if o := results(s)[LogNoFallback]; o.Result != Fail {
		t.Errorf("a fallback line without a snapshot is %s", o.Result)
	}
}

func TestCatalogueIsWhole(t *testing.T) {
	seen := map[ID]bool{}
	for _, r := range All() {
		if seen[r.ID] {
			t.Errorf("%s stands twice", r.ID)
		}
		seen[r.ID] = true
		if r.Title == "" || r.Why == "" || r.Next == "" || r.Reference == "" || len(r.Needs) == 0 || r.judge == nil {
			t.Errorf("%s is not complete: %+v", r.ID, r)
		}
		if !strings.HasPrefix(string(r.ID), string(r.Stage)+".") {
			t.Errorf("%s does not begin with its stage %s", r.ID, r.Stage)
		}
	}
}

func TestProfilesDecide(t *testing.T) {
	for _, test := range []struct {
		r       Requirement
		profile config.Profile
		want    bool
	}{
		{Requirement{Level: LevelCore, Stage: StageValue}, config.ProfileCore, true},
		{Requirement{Level: LevelCore, Stage: StageBite}, config.ProfileCore, false},
		{Requirement{Level: LevelCore, Stage: StageBite}, config.ProfileGate, true},
		{Requirement{Level: LevelExtended, Stage: StageValue}, config.ProfileGate, false},
		{Requirement{Level: LevelExtended, Stage: StageValue}, config.ProfileExtended, true},
		{Requirement{Level: LevelAdvisory, Stage: StageProtect}, config.ProfileExtended, false},
	} {
		if got := test.r.Decides(test.profile); got != test.want {
			t.Errorf("%s/%s decides under %s: %v, want %v", test.r.Level, test.r.Stage, test.profile, got, test.want)
		}
	}
}

// Evidence of real guests, recorded by the lab, is judged as it was then.
func TestRecordedEvidence(t *testing.T) {
	for name, want := range map[string]map[ID]Result{
		"base": {
			ImageTemplate: Pass, ImageInForce: Pass, BootIdentity: Pass, MountCgroup2: Pass, EnableCPU: Pass, EnableOrder: Pass, CreateStarts: Pass,
			ValueUserMemoryMax: Pass, ValueUserIOWeight: Inert, ValueUnset: Pass, PlaceForwarder: Pass, ProtectCPUWeight: NotApplicable,
			LogNoFailure: Pass, LogNoFallback: Pass, LogAgrees: Pass, BiteCPU: Pass, BiteMemory: Pass, BiteEnvd: Pass, BiteAgrees: Pass,
			KeepValues: Pass, LifecycleThawed: Pass, LifecycleValues: Pass, LifecyclePlacement: Pass, LifecycleSurvivor: Pass,
		},
		"base-a": {BiteCPU: Pass, BiteMemory: Pass, BiteEnvd: Pass, ValueUserMemoryMax: NotApplicable, LifecycleValues: Pass, LifecycleSurvivor: Pass},
		"base-b": {BiteCPU: Pass, BiteMemory: Pass, BiteEnvd: Pass, ValueUserMemoryMax: Pass, LifecycleValues: Pass, LifecycleSurvivor: Pass},
		"base-unpatched": {
			ImageInForce: NotApplicable, MountCgroup2: Pass, OfferCPU: Pass, EnableCPU: Fail, EnableOrder: NotApplicable, ValueUserMemoryMax: Fail,
			PlaceCommand: Pass, LogNoFailure: Fail, LogNoFallback: Pass, LogNoIOLoss: Fail, LogAgrees: Pass,
			BiteCPU: Fail, BiteMemory: Fail, BiteEnvd: NotApplicable, BiteAgrees: NotApplicable, LifecycleValues: NotApplicable, LifecycleThawed: Pass,
		},
		"enabled-late": {
			EnableCPU: Pass, EnableMemory: Pass, EnableOrder: Fail, ValueUserCPUWeight: Fail, PlaceCommand: Pass, LogNoFailure: Fail,
		},
		// One level too deep: nothing starts, so nothing else is seen.
		"enabled-too-deep": {
			BootEnvdAnswers: Pass, CreateStarts: Fail, MountCgroup2: Unproven, PlaceCommand: Unproven, LogNoFailure: Unproven,
		},
		// A tmpfs under an envd that does not notice: nothing starts either.
		"tmpfs-a": {BootEnvdAnswers: Pass, MountCgroup2: Fail, CreateStarts: Fail, LogNoFallback: Unproven},
		"debian-systemd": {
			BootIdentity: Pass, EnableCPU: Pass, EnableOrder: Pass, ValueUserMemoryMax: Pass, PlaceCommand: Pass, PlaceGrandchild: Pass,
			ProtectCPUWeight: Pass, ProtectMemoryMin: Inert, ProtectMemoryLow: Inert, ProtectIOWeight: Pass, ProtectOOMScore: Pass, ProtectNice: Pass,
			ProtectUnit: Pass,
		},
	} {
		got := results(recorded(t, filepath.Join("testdata", name+".json")))
		for id, result := range want {
			if got[id].Result != result {
				t.Errorf("%s: %s is %s (%s), want %s", name, id, got[id].Result, got[id].Reason, result)
			}
		}
	}
}

// TestSays: what a failure in the log means to the envd that runs, and that a
// line which this envd never prints is another one's.
func TestSays(t *testing.T) {
	says := map[string]string{"A": "nothing is limited", "C": "this limit alone is missing"}
	for version, want := range map[string]string{"0.4.3": "nothing is limited", "0.6.13": "this limit alone is missing", "0.5.6": "never says so"} {
		s := healthy(version)
		s.Log.Findings = append(s.Log.Findings, evidence.Finding{Rule: "CG004", Class: evidence.FindingFailure, Confidence: evidence.ByField, Says: says})
		r, _ := Lookup(LogNoFailure)
		if o := r.Judge(s); o.Result != Fail || !strings.Contains(o.Reason, want) {
			t.Errorf("%s: %s: %s; want fail with %q", version, o.Result, o.Reason, want)
		}
	}
}

// What is expected is what the judges compare with: each expectation of the
// recorded guest is the wanted value of the requirement that it names, and no
// promised property is left out.
func TestExpectations(t *testing.T) {
	for _, g := range generations {
		for _, p := range g.Properties {
			if !slices.Contains(setFiles(), p.File) {
				t.Errorf("generation %s sets %s, which is never expected", g.Name, p.File)
			}
		}
	}
	s := recorded(t, filepath.Join("testdata", "base.json"))
	all, err := Expectations(s)
	if err != nil || len(all) != len(propertiesC) {
		t.Fatalf("got %d expectations, want %d (%v)", len(all), len(propertiesC), err)
	}
	for _, e := range all {
		r, known := Lookup(e.Requirement)
		if !known || !e.Sure {
			t.Errorf("%+v names no requirement, or is not sure", e)
			continue
		}
		if o := r.Judge(s); !strings.HasPrefix(o.Wanted, e.Wanted) || e.Wanted == "" {
			t.Errorf("%s expects %q, and its judge wants %q", e.Requirement, e.Wanted, o.Wanted)
		}
	}
	s.Snapshot.MemTotal = 0
	all, _ = Expectations(s)
	for _, e := range all {
		if limit := e.File == "memory.high" || e.File == "memory.max"; limit != (e.Wanted == "") {
			t.Errorf("without MemTotal %s of %s is expected to be %q", e.File, e.Group, e.Wanted)
		}
	}
	s.Snapshot.Envd.Version = "99.0.0"
	if all, err := Expectations(s); err == nil {
		t.Errorf("of an unknown envd %v is expected", all)
	}
}

// What the guest of another sandbox shows, good or bad, says nothing of the one
// that was created.
func TestAnotherSandboxesGuest(t *testing.T) {
	for name, mix := range map[string]func(*evidence.Sandbox){
		"at the first look":  func(s *evidence.Sandbox) { s.Snapshot.SandboxID = "iother" },
		"at the second look": func(s *evidence.Sandbox) { s.Later.SandboxID = "iother-client" },
	} {
		s := healthy("0.6.13")
		mix(s)
		for _, r := range All() {
			if o := r.Judge(s); slices.Contains(r.Needs, evidence.PieceSnapshot) && (o.Result != Infra || !strings.Contains(o.Reason, "iother")) {
				t.Errorf("%s: %s is %s: %s", name, r.ID, o.Result, o.Reason)
			}
		}
	}
	s := healthy("0.6.13")
	s.Snapshot.SandboxID, s.Later.SandboxID = s.API.SandboxID, s.API.SandboxID+"-6532622b"
	for _, r := range All() {
		if o := r.Judge(s); !o.Result.Green() {
			t.Errorf("%s is %s: %s", r.ID, o.Result, o.Reason)
		}
	}
}
