package image

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goodInit is a script that does everything right.
const goodInit = `#!/bin/sh
exec >/dev/ttyS0 2>&1
mount -t cgroup2 none /sys/fs/cgroup
for c in cpu memory io pids; do
	echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control || echo "no $c"
done
/usr/bin/envd &
while :; do sleep 1; done
`

func program(name string) File {
	return File{Path: name, Real: name, Kind: "regular", Mode: "755", Size: 1, SHA256: "00"}
}

// healthy is the inventory of an image that has nothing wrong.
func healthy() *Inventory {
	inv := &Inventory{
		Schema: InventorySchema, Size: 1 << 20, FileSystem: &FileSystem{Size: 1 << 20},
		Build:    Build{ID: "b", RootFS: "/builds/b/rootfs.ext4", Metadata: "/builds/b/metadata.json"},
		Metadata: &Metadata{BuildID: "b", EnvdVersion: "0.6.13"},
		Init:     Init{File: program("/sbin/init"), InitKind: InitScript},
		Envds:    []Envd{{File: program("/usr/bin/envd"), Started: true, Generation: "C", Helpers: helperPaths}},
		Users:    []User{{Name: "root"}, {Name: "user", UID: 1000}}, HelpersThere: helperPaths,
	}
	shell := program("/bin/sh")
	inv.Init.Interpreter = &shell
	for _, name := range toolNames {
		f := program("/usr/bin/" + name)
		inv.Tools = append(inv.Tools, Tool{Name: name, File: &f})
	}
	runs(goodInit)(inv)
	return inv
}

// runs makes an image's init a script.
func runs(script string) func(*Inventory) {
	return func(inv *Inventory) {
		inv.Init.Script = &Text{text: script}
		read, err := ReadScript(script)
		if err != nil {
			panic(err)
		}
		inv.Init.Script.Steps = read.Steps
	}
}

// withUnit makes an image boot with systemd, which starts envd by a unit with
// settings KEY=VALUE.
func withUnit(settings ...string) func(*Inventory) {
	return func(inv *Inventory) {
		inv.Init = Init{File: program("/sbin/init"), InitKind: InitSystemd}
		inv.Systemd = &Systemd{Unit: program("/etc/systemd/system/envd.service"), Enabled: true}
		for n, text := range settings {
			key, value, _ := strings.Cut(text, "=")
			inv.Systemd.Settings = append(inv.Systemd.Settings, Setting{key, value, inv.Systemd.Unit.Path, n + 1})
		}
	}
}

func withOpenRC(cgroups, envd bool) func(*Inventory) {
	return func(inv *Inventory) {
		inv.Init = Init{File: program("/sbin/init"), InitKind: InitOpenRC}
		inv.OpenRC = &OpenRC{Service: program("/etc/init.d/envd"), Cgroups: cgroups, Envd: envd}
	}
}

// replaced is the good init with a piece replaced.
func replaced(old, with string) func(*Inventory) {
	if !strings.Contains(goodInit, old) {
		panic(old)
	}
	return runs(strings.Replace(goodInit, old, with, 1))
}

const (
	goodMount  = "mount -t cgroup2 none /sys/fs/cgroup\n"
	goodEnable = "for c in cpu memory io pids; do\n\techo \"+$c\" >/sys/fs/cgroup/cgroup.subtree_control || echo \"no $c\"\ndone\n"
	goodEnvd   = "/usr/bin/envd &\n"
	control    = "/sys/fs/cgroup/cgroup.subtree_control"
)

// Each rule has an image that breaks it, on the line where it does; the others
// of the table show what it must not be taken for.
func TestLint(t *testing.T) {
	covered := map[string]bool{}
	for _, test := range []struct {
		name string
		do   func(*Inventory)
		// want is what is found, as "ID" or "ID:LINE".
		want []string
	}{
		{"nothing wrong", func(*Inventory) {}, nil},
		{"a diff layer", func(inv *Inventory) {
			inv.Build.Header, inv.Unreadable = "rootfs.ext4.header", "no"
			inv.FileSystem = nil
		}, []string{"diff-layer"}},
		{"no ext4", func(inv *Inventory) { inv.FileSystem, inv.Unreadable = nil, "no superblock" }, []string{"not-ext4"}},
		{"truncated", func(inv *Inventory) { inv.FileSystem.Truncated, inv.Unreadable = true, "cut short" }, []string{"truncated"}},
		{"unreadable", func(inv *Inventory) { inv.Unreadable = "bad checksum" }, []string{"unreadable"}},
		{"an init that cannot be read", func(inv *Inventory) { inv.Init.InitKind, inv.Init.Problem = InitOther, "no extents" }, []string{"unreadable"}},
		{"errors", func(inv *Inventory) { inv.FileSystem.Errors = true }, []string{"file-system-errors"}},
		{"a dirty journal", func(inv *Inventory) { inv.FileSystem.Dirty = true }, []string{"journal-dirty"}},
		{"a snapshot", func(inv *Inventory) { inv.Build.Snapfile, inv.Build.Memfile = "snapfile", "memfile" }, []string{"snapshot-beside"}},
		{"a memory without a state", func(inv *Inventory) { inv.Build.Memfile = "memfile" }, []string{"snapshot-beside"}},
		{"a snapshot that is not resumed", func(inv *Inventory) { inv.Build.Snapfile, inv.Metadata.FilesystemOnly = "snapfile", true }, nil},
		{"a stale snapshot", func(inv *Inventory) { inv.Build.CachedSnapshots = []string{"/c/b/snapfile"} }, []string{"snapshot-cached"}},
		{"broken metadata", func(inv *Inventory) { inv.Metadata = &Metadata{Problem: "no JSON"} }, []string{"metadata-unreadable"}},
		{"no metadata", func(inv *Inventory) { inv.Metadata = nil }, nil},
		{"another build", func(inv *Inventory) { inv.Metadata.BuildID = "other" }, []string{"metadata-build"}},
		{"a version that is not of the generation", func(inv *Inventory) { inv.Metadata.EnvdVersion = "0.2.0" }, []string{"metadata-envd"}},
		{"a version that two generations have", func(inv *Inventory) { inv.Metadata.EnvdVersion = "0.5.24" }, nil},
		{"another version", func(inv *Inventory) { inv.Envds[0].Version = "0.6.12" }, []string{"metadata-envd"}},
		{"the same version", func(inv *Inventory) { inv.Envds[0].Version, inv.Metadata.EnvdVersion = "0.6.12", "v0.6.12" }, nil},

		{"no init", func(inv *Inventory) { inv.Init = Init{File: File{Path: "/sbin/init"}, InitKind: InitMissing} }, []string{"init-missing"}},
		{"a directory", func(inv *Inventory) { inv.Init.InitKind, inv.Init.Kind = InitDirectory, "directory" }, []string{"init-no-file"}},
		{"a device", func(inv *Inventory) { inv.Init.InitKind, inv.Init.Kind = InitOther, "character special" }, []string{"init-no-file"}},
		{"not executable", func(inv *Inventory) { inv.Init.Mode = "644" }, []string{"init-not-executable"}},
		{"no #!", func(inv *Inventory) { inv.Init.InitKind = InitOther }, []string{"init-no-program"}},
		{"no interpreter", func(inv *Inventory) { inv.Init.Interpreter.Kind = "" }, []string{"init-interpreter:1"}},
		{"an interpreter that is no program", func(inv *Inventory) { inv.Init.Interpreter.Mode = "644" }, []string{"init-interpreter:1"}},
		{"CR LF", func(inv *Inventory) { inv.Init.Script.CRLF = true }, []string{"init-crlf:1"}},
		{"broken grammar", func(inv *Inventory) { inv.Init.Script = &Text{Syntax: "no fi", SyntaxLine: 7} }, []string{"init-syntax:7"}},
		{"another language", func(inv *Inventory) { inv.Init.Script = &Text{Syntax: "python", Foreign: true} }, []string{"init-not-read:1"}},
		{"a link", func(inv *Inventory) { inv.Init.Links = []Link{{"/sbin/init", "/etc/my-init"}} }, []string{"init-symlink"}},
		{"a linked directory", func(inv *Inventory) { inv.Init.Links = []Link{{"/sbin", "usr/sbin"}} }, nil},
		{"a program", func(inv *Inventory) { inv.Init.InitKind = InitBinary }, []string{"init-binary"}},
		{"busybox' init", func(inv *Inventory) { inv.Init.InitKind = InitBusybox }, []string{"init-binary"}},
		{"no newline", func(inv *Inventory) { inv.Init.Script.NoNewline = true }, []string{"init-no-newline"}},

		{"no mount", replaced(goodMount, ""), []string{"cgroup2-not-mounted"}},
		{"a mount elsewhere", replaced(goodMount, "mount -t cgroup2 none /sys/fs/cgroup/unified\n"), []string{"cgroup2-not-mounted"}},
		{"a mount at what only a run knows", replaced(goodMount, "mount -t cgroup2 none \"$(where)\"\n"), nil},
		{"a mount too late", runs(goodEnvd + goodMount), []string{"mount-after-envd:2", "never-enabled", "no-console:1"}},
		{"hidden mount errors", replaced(goodMount, "mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null || true\n"), []string{"mount-errors-hidden:3"}},
		{"never enabled", replaced(goodEnable, ""), []string{"never-enabled"}},
		{"enabled too late", runs("exec 2>/dev/console\n" + goodMount + goodEnvd + "echo +cpu >" + control + "\n"), []string{"enabled-after-envd:4"}},
		{"enabled too early", runs("exec 2>/dev/console\necho +cpu >" + control + "\necho +memory >" + control + "\necho +io >" + control + "\n" + goodMount + goodEnvd), []string{"enabled-before-mount:2"}},
		{"no memory", replaced("cpu memory io pids", "cpu io"), []string{"controller-missing:5"}},
		{"no io", replaced("cpu memory io pids", "cpu memory"), []string{"controller-io:5"}},
		{"what the kernel offers", replaced("cpu memory io pids", "$(cat /sys/fs/cgroup/cgroup.controllers)"), nil},
		{"a wrong name", replaced("cpu memory io pids", "cpu memory io proc"), []string{"controller-unknown:5"}},
		{"the users' line", replaced(goodEnable, "echo '+cpu +memory +io +pids' > "+control+" 2>/dev/null || true\n"), []string{"all-or-nothing:4", "errors-hidden:4"}},
		{"set -e", replaced(" || echo \"no $c\"\ndone\n", "\ndone\n"), nil},
		{"set -e, and a write that ends it", runs("#!/bin/sh -e\nexec 2>/dev/console\n" + goodMount + "echo +cpu >" + control + "\nif echo +memory >" + control + "; then :; fi\necho +io >" + control + " || :\n" + goodEnvd), []string{"fatal-enable:4"}},
		{"set -e, and no write that ends it", replaced("exec >", "set -euo pipefail\nexec >"), nil},
		{"set +e again", replaced(" || echo \"no $c\"", ""), nil},
		{"a level too deep", replaced(goodEnvd, "mkdir /sys/fs/cgroup/user; echo '+cpu +memory' >/sys/fs/cgroup/user/cgroup.subtree_control\n"+goodEnvd), []string{"too-deep:7"}},
		{"a hidden start", replaced(goodEnvd, "/etc/rc.local\n"), []string{"envd-start-hidden"}},
		{"envd's errors away", replaced(goodEnvd, "/usr/bin/envd >/dev/null 2>&1 &\n"), []string{"envd-stderr:7"}},
		{"envd's errors away with its loop", replaced(goodEnvd, "while :; do /usr/bin/envd; done 2>/dev/null &\n"), []string{"envd-stderr:7"}},
		{"envd's output away, errors on the console", replaced(goodEnvd, "/usr/bin/envd 2>&1 >/dev/null &\n"), nil},
		{"no console", replaced("exec >/dev/ttyS0 2>&1\n", ""), []string{"no-console:6"}},

		{"a whole unit", withUnit("Delegate=yes", "OOMScoreAdjust=-1000"), nil},
		{"no unit", func(inv *Inventory) { withUnit()(inv); inv.Systemd.Unit = File{} }, []string{"unit-missing"}},
		{"a masked unit", func(inv *Inventory) { withUnit()(inv); inv.Systemd.Unit.Links = []Link{{"/x", "/dev/null"}} }, []string{"unit-missing"}},
		{"a unit that nothing wants", func(inv *Inventory) {
			withUnit("Delegate=yes", "OOMScoreAdjust=-1000")(inv)
			inv.Systemd.Enabled = false
		}, []string{"unit-not-enabled"}},
		{"a thin unit", withUnit("OOMScoreAdjust=-1000"), []string{"unit-thinned"}},
		{"a unit that lost its delegation", withUnit("Delegate=yes", "OOMScoreAdjust=-1000", "Delegate=no"), []string{"unit-thinned"}},
		{"a unit with weights", withUnit("CPUWeight=1000", "MemoryMin=50M", "OOMScoreAdjust=-1000"), nil},
		{"some controllers only", withUnit("Delegate=memory pids", "OOMScoreAdjust=-1000"), []string{"unit-thinned"}},
		{"no protection", withUnit("Delegate=yes"), []string{"unit-unprotected"}},
		{"a unit's errors away", withUnit("Delegate=yes", "OOMScoreAdjust=-1000", "StandardError=null"), []string{"unit-stderr:3"}},
		{"a unit's output away, and the errors with it", withUnit("Delegate=yes", "OOMScoreAdjust=-1000", "StandardOutput=null"), []string{"unit-stderr:3"}},
		{"a unit's output away, errors in the journal", withUnit("Delegate=yes", "OOMScoreAdjust=-1000", "StandardOutput=null", "StandardError=journal"), nil},
		{"OpenRC", withOpenRC(true, true), nil},
		{"OpenRC without cgroups", withOpenRC(false, true), []string{"openrc-no-cgroups"}},
		{"OpenRC without envd", withOpenRC(true, false), []string{"openrc-no-envd"}},

		{"no envd", func(inv *Inventory) { inv.Envds = nil }, []string{"envd-missing"}},
		{"another envd than the one that is started", func(inv *Inventory) {
			inv.Envds = []Envd{{File: File{Path: "/opt/envd"}, Started: true}, {File: program("/usr/bin/envd"), Generation: "C"}}
		}, []string{"envd-missing"}},
		{"an envd that cannot run", func(inv *Inventory) { inv.Envds[0].Mode = "600" }, []string{"envd-not-executable"}},
		{"an old envd", func(inv *Inventory) { inv.Envds[0].Generation, inv.Metadata.EnvdVersion = "none", "0.4.2" }, []string{"envd-no-cgroups"}},
		{"an unknown envd", func(inv *Inventory) { inv.Envds[0].Generation, inv.Envds[0].Unknown = "", "why" }, []string{"envd-unknown"}},
		{"two envds", func(inv *Inventory) {
			other := Envd{File: program("/usr/local/bin/envd")}
			other.SHA256 = "11"
			inv.Envds = append(inv.Envds, other)
		}, []string{"envd-several"}},
		{"one envd by two names", func(inv *Inventory) { inv.Envds = append(inv.Envds, Envd{File: program("/usr/local/bin/envd")}) }, nil},
		{"no nice", func(inv *Inventory) { inv.HelpersThere = helperPaths[1:] }, []string{"helper-missing"}},
		{"no nice, and an envd that needs none", func(inv *Inventory) { inv.HelpersThere, inv.Envds[0].Helpers = nil, nil }, nil},
		{"no socat", func(inv *Inventory) { inv.Tools[0].File = nil }, []string{"socat-missing"}},
		{"no user", func(inv *Inventory) { inv.Users = inv.Users[:1] }, []string{"user-missing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inv := healthy()
			test.do(inv)
			var got []string
			for _, f := range Lint(inv) {
				id := f.ID
				covered[id] = true
				if f.Line > 0 {
					id += ":" + strconv.Itoa(f.Line)
				}
				if f.Path == "" || f.Text == "" || f.Why == "" || f.WayOut == "" {
					t.Errorf("says too little: %+v", f)
				}
				got = append(got, id)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("found %v, want %v", got, test.want)
			}
		})
	}
	for _, rule := range Rules() {
		if !covered[rule.ID] {
			t.Errorf("no image breaks %s", rule.ID)
		}
	}
}

// The patch's own script has nothing wrong.
func TestLintOfTheDelegation(t *testing.T) {
	change, err := Delegate("#!/bin/sh -e\nexec >/dev/ttyS0 2>&1\n/usr/bin/envd &\nwait\n")
	if err != nil {
		t.Fatal(err)
	}
	inv := healthy()
	runs(change.Text)(inv)
	if found := Lint(inv); len(found) > 0 {
		t.Errorf("found %+v in\n%s", found, change.Text)
	}
}

// The page has every rule, with its severity, title and way out.
func TestRulesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/image.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.ID] {
			t.Errorf("two rules have the ID %s", r.ID)
		}
		seen[r.ID] = true
		if row := "| `" + r.ID + "` | " + string(r.Severity) + " | " + r.Title + " | " + r.Why + " | " + r.WayOut + " |\n"; !strings.Contains(string(page), row) {
			t.Errorf("docs/image.md lacks\n%s", row)
		}
	}
	if rows != len(rules) {
		t.Errorf("docs/image.md has %d rows, there are %d rules", rows, len(rules))
	}
}
