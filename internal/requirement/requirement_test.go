package requirement

import (
	"encoding/json"
	"os"
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
		g := evidence.Group{Path: "/sys/fs/cgroup/" + name, Exists: true, FSMagic: evidence.CGroup2Magic, Files: map[string]evidence.File{
			"cgroup.type":            {Text: "domain\n"},
			"cgroup.freeze":          {Text: "0\n"},
			"cgroup.events":          {Text: "populated 1\nfrozen 0\n"},
			"cgroup.subtree_control": {Text: "\n"},
		}}
		for file, text := range files {
			g.Files[file] = evidence.File{Text: text + "\n"}
		}
		groups[name] = g
	}
	placed := func(pid int, cgroup string) *evidence.Placed {
		return &evidence.Placed{Process: &evidence.Process{PID: pid, Cgroup: "0::" + cgroup + "\n"}}
	}
	return &evidence.Sandbox{
		Version: evidence.Version, Run: "test", Target: "lab", Template: "base",
		API:    &evidence.API{SandboxID: "i0123456789abcdefghi", Requested: start, Answered: start.Add(3 * time.Second)},
		Health: &evidence.Health{Status: 204, At: start.Add(3 * time.Second)},
		Snapshot: &evidence.Snapshot{
			Received: start.Add(5 * time.Second), MemTotal: guestMemory, PageSize: guestPage,
			Boot:   evidence.Boot{UptimeSeconds: 4},
			Init:   evidence.Process{PID: 1, Stderr: "/dev/ttyS0"},
			Mounts: []string{"25 22 0:23 / /sys/fs/cgroup rw,relatime - cgroup2 none rw"},
			Envd: &evidence.Envd{
				Version: version, CgroupRoot: "/sys/fs/cgroup",
				Process: evidence.Process{PID: 50, Stderr: "/dev/ttyS0", Cgroup: "0::/\n"},
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
			Findings: []evidence.Finding{{Rule: "BT001", Class: evidence.FindingControl, Confidence: evidence.ByField}},
		},
	}
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
	for _, version := range []string{"0.4.3", "0.5.6", "0.5.10", "0.5.25", "0.6.13"} {
		for id, o := range results(healthy(version)) {
			if !o.Result.Green() {
				t.Errorf("envd %s: %s is %s: %s", version, id, o.Result, o.Reason)
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
		{"threaded group", set("user", "cgroup.type", "threaded"), CreateDomain, Fail},
		{"frozen group", set("user", "cgroup.events", "populated 1\nfrozen 1"), CreateThawed, Fail},
		{"freezing group", set("user", "cgroup.freeze", "1"), CreateThawed, Fail},
		{"controllers enabled one level too deep", set("user", "cgroup.subtree_control", "memory"), CreateLeaf, Fail},
		{"weight at its default", set("user", "cpu.weight", "100"), ValueUserCPUWeight, Fail},
		{"limit too loose", set("user", "memory.high", "max"), ValueUserMemoryHigh, Fail},
		{"limit too tight", set("user", "memory.max", "134217728"), ValueUserMemoryMax, Fail},
		{"limit one byte short", set("ptys", "memory.max", strconv.FormatUint(limit.Value(guestMemory, guestPage)-1, 10)), ValuePtysMemoryMax, Fail},
		{"a prefix is not the value", set("user", "cpu.weight", "500"), ValueUserCPUWeight, Fail},
		{"value not parsed", set("user", "cpu.weight", "fifty"), ValueUserCPUWeight, Unproven},
		{"value not read", errno("user", "cpu.weight", "EIO"), ValueUserCPUWeight, Unproven},
		{"io.weight set and inert", func(*evidence.Sandbox) {}, ValueUserIOWeight, Inert},
		{"io.weight acting", func(s *evidence.Sandbox) {
			s.Snapshot.Root.Files["io.cost.qos"] = evidence.File{Text: "8:0 enable=1 ctrl=auto\n"}
		}, ValueUserIOWeight, Pass},
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
		{"no boot line", func(s *evidence.Sandbox) { s.Log.Findings = nil }, LogNoFailure, Unproven},
		{"hole in the log", func(s *evidence.Sandbox) { s.Log.Holes = []string{"orchestrator.stdout.3 was purged"} }, LogNoFailure, Unproven},
		{"nothing read", func(s *evidence.Sandbox) { s.Log.Coverage = nil }, LogNoFailure, Unproven},
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
		{"a group on an unknown file system", func(s *evidence.Sandbox) {
			g := s.Snapshot.Groups["user"]
			g.FSMagic, g.Error = 0, "statfs: permission denied"
			s.Snapshot.Groups["user"] = g
		}, CreateGroups, Unproven},
		{"resumed", func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 86400 }, LogNoFailure, NotApplicable},
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

// Absent evidence is never a pass: whatever piece is taken away, whatever
// needed it stops being green.
func TestAbsentEvidenceIsNeverGreen(t *testing.T) {
	drop := map[evidence.Piece]func(*evidence.Sandbox){
		evidence.PieceAPI:       func(s *evidence.Sandbox) { s.API = nil },
		evidence.PieceHealth:    func(s *evidence.Sandbox) { s.Health = nil },
		evidence.PieceSnapshot:  func(s *evidence.Sandbox) { s.Snapshot = nil },
		evidence.PiecePlacement: func(s *evidence.Sandbox) { s.Placement = nil },
		evidence.PieceLog:       func(s *evidence.Sandbox) { s.Log = nil },
	}
	for _, piece := range evidence.Pieces() {
		for _, kind := range []evidence.ProblemKind{"", evidence.ProblemGuest, evidence.ProblemInfra} {
			s := healthy("0.6.13")
			drop[piece](s)
			want := Unproven
			if kind != "" {
				s.Problems = []evidence.Problem{{Piece: piece, Kind: kind, Call: "the call", Error: "the error"}}
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
			MountCgroup2: Pass, EnableCPU: Pass, ValueUserMemoryMax: Pass, ValueUserIOWeight: Inert, PlaceForwarder: Pass, LogNoFailure: Pass, LogNoFallback: Pass,
		},
		"base-unpatched": {
			MountCgroup2: Pass, OfferCPU: Pass, EnableCPU: Fail, ValueUserMemoryMax: Fail, PlaceCommand: Pass, LogNoFailure: Fail, LogNoFallback: Pass,
		},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		s := &evidence.Sandbox{}
		if err := json.Unmarshal(data, s); err != nil {
			t.Fatal(err)
		}
		got := results(s)
		for id, result := range want {
			if got[id].Result != result {
				t.Errorf("%s: %s is %s (%s), want %s", name, id, got[id].Result, got[id].Reason, result)
			}
		}
	}
}
