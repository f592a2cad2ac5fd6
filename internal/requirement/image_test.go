package requirement

import (
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// What the guest runs is compared with the disk only where both are known, and
// a difference names what stands between them.
func TestBytes(t *testing.T) {
	resume := func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 400 }
	for _, test := range []struct {
		name   string
		change func(*evidence.Sandbox)
		result Result
		reason string
	}{
		{"the same", func(*evidence.Sandbox) {}, Pass, "has the init that the storage holds for build b-1"},
		{"the same, and resumed", resume, Pass, "has the init that the storage holds"},
		{"no storage", func(s *evidence.Sandbox) { s.Disk = nil }, NotApplicable, "no storage of builds is configured"},
		{"trouble with the storage", func(s *evidence.Sandbox) {
			s.Disk = nil
			s.Problems = append(s.Problems, evidence.Problem{Piece: evidence.PieceDisk, Kind: evidence.ProblemInfra, Call: "read the build", Error: "debugfs: killed"})
		}, Infra, "debugfs: killed"},
		{"a storage that cannot be read", func(s *evidence.Sandbox) { s.Disk.Init, s.Disk.Unreadable = nil, "permission denied" }, NotApplicable, "permission denied"},
		{"a storage without that build", func(s *evidence.Sandbox) { s.Disk.Init, s.Disk.Missing = nil, "no such directory" }, Unproven, "has no build b-1"},
		{"an API that does not tell the build", func(s *evidence.Sandbox) { s.Disk.Build = "" }, Unproven, "of which build"},
		{"no init on the disk", func(s *evidence.Sandbox) { s.Disk.Init = nil }, Unproven, "has no init"},
		{"no init seen in the guest", func(s *evidence.Sandbox) { s.Snapshot.InitProgram = nil }, Unproven, "what PID 1 runs could not be read"},
		{"changed since", func(s *evidence.Sandbox) { s.Disk.Changed = s.API.Requested.Add(time.Second) }, Unproven, "was changed at"},
		{"another program", func(s *evidence.Sandbox) { s.Snapshot.InitProgram.Path = "/init" }, NotApplicable, "not compared"},
		{"by a link in the image", func(s *evidence.Sandbox) {
			s.Disk.Init.Real, s.Snapshot.InitProgram.Path = "/usr/lib/init", "/usr/lib/init"
		}, Pass, "has the init"},
		{"a stale cache", func(s *evidence.Sandbox) { s.Disk.Init.SHA256 = "patched" }, Fail, "other bytes than the disk holds for build b-1: it booted from a copy in a cache"},
		{"a stale snapshot", func(s *evidence.Sandbox) {
			resume(s)
			s.Disk.Init.SHA256, s.Disk.Snapshots = "patched", []string{"/cache/b-1/snapfile"}
		}, Fail, "it was resumed from an older snapshot (the guest has been up for 400 s and the sandbox was asked for 5 s ago), which /cache/b-1/snapfile holds"},
		{"a stale snapshot that is not known", func(s *evidence.Sandbox) { resume(s); s.Disk.Init.SHA256 = "patched" }, Fail, "resumed from an older snapshot"},
		{"a drop-in that is in the guest", func(s *evidence.Sandbox) {
			s.Disk.DropIns = []string{"/etc/a.conf"}
			s.Snapshot.Envd.Unit = &evidence.Unit{Files: []string{"/etc/envd.service", "/etc/a.conf"}}
		}, Pass, "has the init"},
		{"a drop-in that is on the disk alone", func(s *evidence.Sandbox) {
			s.Disk.DropIns = []string{"/etc/a.conf"}
			s.Snapshot.Envd.Unit = &evidence.Unit{Files: []string{"/etc/envd.service"}}
		}, Fail, "booted from a copy in a cache"},
		{"a drop-in, and no unit was seen", func(s *evidence.Sandbox) { s.Disk.DropIns = []string{"/etc/a.conf"} }, Unproven, "envd's unit was not seen"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := healthy("0.6.13")
			test.change(s)
			r, _ := Lookup(ImageBytes)
			o := r.Judge(s)
			if o.Result != test.result || !strings.Contains(o.Reason, test.reason) {
				t.Errorf("got %s: %s", o.Result, o.Reason)
			}
			if o.Result == Fail && !strings.Contains(o.Next, "restart the orchestrator") {
				t.Errorf("next: %s", o.Next)
			}
		})
	}
}
