package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sandproof/internal/evidence"
)

// shown writes steps as "line kind target words".
func shown(steps []evidence.Step) string {
	lines := make([]string, len(steps))
	for i, s := range steps {
		lines[i] = strings.TrimSpace(fmt.Sprintf("%d %s %s %s", s.Line, s.Kind, s.Target, strings.Join(s.Words, " ")))
	}
	return strings.Join(lines, "; ")
}

func TestScriptSteps(t *testing.T) {
	const control = "/sys/fs/cgroup/cgroup.subtree_control"
	for _, test := range []struct{ name, script, want string }{
		{"the usual line", `echo "+cpu +memory +io +pids" > ` + control, "1 enable " + control + " +cpu +memory +io +pids"},
		{"hidden errors", "echo +cpu +memory > " + control + " 2>/dev/null || true", "1 enable " + control + " +cpu +memory"},
		{"errors first", "echo +cpu 2>&1 >" + control, "1 enable " + control + " +cpu"},
		{"redirection first", ">" + control + " echo +cpu", "1 enable " + control + " +cpu"},
		{"appended", "printf '+cpu\\n+memory\\n' >> " + control, "1 enable " + control + " +cpu +memory"},
		{"through tee", "echo +cpu | tee -a " + control + " >/dev/null", "1 enable " + control + " +cpu"},
		{"in a loop", "for c in cpu memory; do\n\techo \"+$c\" > $root/cgroup.subtree_control\ndone", "2 enable $root/cgroup.subtree_control +$c"},
		{"after a test", "[ -w x ] && echo +cpu > " + control, "1 enable " + control + " +cpu"},
		{"in a condition", "if ! echo +cpu > " + control + "; then echo failed; fi", "1 enable " + control + " +cpu"},
		{"too deep", "echo +memory > /sys/fs/cgroup/user/cgroup.subtree_control", "1 enable /sys/fs/cgroup/user/cgroup.subtree_control +memory"},
		{"disabled", "echo -cpu > " + control, "1 enable " + control},
		{"over two lines", "echo +cpu \\\n  > " + control, "1 enable " + control + " +cpu"},
		{"a quoted path", `echo +cpu > "/sys/fs/cgroup/cgroup.subtree_control"`, "1 enable " + control + " +cpu"},
		{"a mount", "mount -t cgroup2 none /sys/fs/cgroup", "1 mount /sys/fs/cgroup"},
		{"a busybox mount", "busybox mount -o rw -t cgroup2 cgroup2 /sys/fs/cgroup || true", "1 mount /sys/fs/cgroup"},
		{"envd", "#!/bin/sh\n# starts envd\nexec /usr/bin/envd -port 1 &\n", "3 envd /usr/bin/envd"},
		{"envd in the background of a loop", "while true; do /usr/local/bin/envd; done &", "1 envd /usr/local/bin/envd"},
		{"a comment", "# echo +cpu > " + control + "\necho on # echo +cpu > " + control, ""},
		{"a quoted text", `echo "now: echo +cpu > ` + control + `"`, ""},
		{"a here-document", "cat > /etc/x <<'END'\necho +cpu > " + control + "\nEND\necho +io > " + control, "4 enable " + control + " +io"},
		{"a name that ends alike", "echo +cpu > /tmp/my-cgroup.subtree_control", ""},
		{"read, not written", "cat < " + control, ""},
		{"another descriptor", "echo +cpu 3> " + control, ""},
		{"an unfinished quote", "echo '+cpu > " + control, ""},
		{"nothing", "", ""},
	} {
		if got := shown(scriptSteps(test.script)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestStepsAreBounded(t *testing.T) {
	steps := scriptSteps(strings.Repeat("echo +"+strings.Repeat("x", 2*maxWord)+" > /a/cgroup.subtree_control\n", 2*maxSteps))
	if len(steps) != maxSteps || len(steps[0].Words[0]) != maxWord {
		t.Errorf("%d steps, words of %d bytes", len(steps), len(steps[0].Words[0]))
	}
}

// Whatever stands in an init: reading it ends, and lines never go back.
func FuzzScriptSteps(f *testing.F) {
	f.Add("#!/bin/sh\nmount -t cgroup2 none /sys/fs/cgroup\necho \"+cpu\" > /sys/fs/cgroup/cgroup.subtree_control\nexec envd\n")
	f.Add("cat <<A <<B\nA\nB\n2>&1 >| x \\")
	f.Add("'\"`$(\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		last := 1
		for _, s := range scriptSteps(text) {
			if s.Line < last || s.Line > strings.Count(text, "\n")+1 {
				t.Fatalf("%q: line %d after line %d", text, s.Line, last)
			}
			last = s.Line
			for _, word := range s.Words {
				if !strings.HasPrefix(word, "+") || len(word) > maxWord {
					t.Fatalf("%q: word %q", text, word)
				}
			}
		}
	})
}

func TestInitProgramSteps(t *testing.T) {
	files := shellGuest()
	files["proc/1/root/sbin/init"] = "#!/bin/sh\n\nmount -t cgroup2 none /sys/fs/cgroup\n/bin/envd &\n"
	files["proc/1/root/etc/rc.local"] = "#!/bin/sh\necho +cpu > /sys/fs/cgroup/cgroup.subtree_control\n"
	files["proc/1/root/etc/init.d/rcS"] = "#!/bin/sh\necho nothing\n"
	s := tree(t, files).snapshot(60)
	if got := shown(s.InitProgram.Steps); got != "3 mount /sys/fs/cgroup; 4 envd /bin/envd" {
		t.Errorf("the init's steps are %q", got)
	}
	if len(s.Bystanders) != 1 || s.Bystanders[0].Path != "/etc/rc.local" || shown(s.Bystanders[0].Steps) != "2 enable /sys/fs/cgroup/cgroup.subtree_control +cpu" {
		t.Errorf("bystanders %+v", s.Bystanders)
	}
}

// envd's own cgroup and unit: the drop-in of the highest rank wins, a setting
// of another section does not count.
func TestUnit(t *testing.T) {
	files := shellGuest()
	files["proc/50/cgroup"] = "0::/system.slice/envd.service\n"
	files["sys/fs/cgroup/system.slice/envd.service/cpu.weight"] = "1000\n"
	files["proc/1/root/usr/lib/systemd/system/envd.service"] = "[Service]\nCPUWeight=7\nNice=-20\n"
	files["proc/1/root/etc/systemd/system/envd.service"] = "[Unit]\nMemoryMin=1M\n[Service]\n# CPUWeight=9\nCPUWeight=1000\nMemoryLow = 100M\nExecStart=/usr/bin/envd\n"
	files["proc/1/root/etc/systemd/system/envd.service.d/10.conf"] = "[Service]\nMemoryLow=50M\n"
	files["proc/1/root/run/systemd/system/envd.service.d/20.conf"] = "[Service]\nIOWeight=10\n"
	e := tree(t, files).snapshot(60).Envd
	if e.Unit == nil || fmt.Sprint(e.Unit.Settings) != "map[CPUWeight:1000 IOWeight:10 MemoryLow:50M]" || len(e.Unit.Files) != 3 {
		t.Errorf("unit %+v", e.Unit)
	}
	if e.Group == nil || e.Group.Files["cpu.weight"].Text != "1000\n" || e.Group.Path != "/sys/fs/cgroup/system.slice/envd.service" {
		t.Errorf("group %+v", e.Group)
	}
	if e := tree(t, shellGuest()).snapshot(60).Envd; e.Unit != nil || e.Group != nil || e.Parent != nil {
		t.Errorf("under a shell init: %+v", e)
	}
}

// What stands between the root of the hierarchy and a group that is to be
// protected is read, and nothing else.
func TestGroupsAbove(t *testing.T) {
	const mount = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n"
	deep := strings.Repeat("/x", 2*maxAbove)
	for _, test := range []struct {
		name, root, own, mountinfo string
		socats, envd               string
	}{
		{"directly below the root", "/sys/fs/cgroup", "/envd.service", mount, "", ""},
		{"in a slice", "/sys/fs/cgroup/e2b", "/system.slice/envd.service", mount, "/sys/fs/cgroup/e2b", "/sys/fs/cgroup/system.slice"},
		{"in a slice of a slice", "/sys/fs/cgroup/a/b", "/c/d/envd.service", mount, "/sys/fs/cgroup/a/b /sys/fs/cgroup/a", "/sys/fs/cgroup/c/d /sys/fs/cgroup/c"},
		{"on no cgroup2", "/sys/fs/cgroup/e2b", "/system.slice/envd.service", strings.ReplaceAll(mount, "cgroup2", "tmpfs"), "", ""},
		{"where no mount is known", "/sys/fs/cgroup/e2b", "/system.slice/envd.service", "", "", ""},
	} {
		files := shellGuest()
		files["proc/50/cgroup"], files["proc/50/cmdline"] = "0::"+test.own+"\n", "/usr/bin/envd\x00-cgroup-root\x00"+test.root+"\x00"
		files["proc/self/mountinfo"] = test.mountinfo
		files[test.root[1:]+"/socats/memory.min"], files["sys/fs/cgroup"+test.own+"/memory.min"] = "5242880\n", "52428800\n"
		files["sys/fs/cgroup/system.slice/memory.low"] = "4096\n"
		s := tree(t, files).snapshot(60)
		paths := func(above []evidence.Ancestor) string {
			var all []string
			for _, a := range above {
				all = append(all, a.Path)
				if want := map[bool]string{true: "4096\n"}[a.Path == "/sys/fs/cgroup/system.slice"]; len(a.Files) != 2 || a.Files["memory.low"].Text != want || a.Files["memory.min"].Errno != "ENOENT" {
					t.Errorf("%s: %+v", test.name, a)
				}
			}
			return strings.Join(all, " ")
		}
		if got := paths(s.Groups["socats"].Above); got != test.socats {
			t.Errorf("%s: above socats %q, want %q", test.name, got, test.socats)
		}
		if got := paths(s.Envd.Group.Above); got != test.envd || s.Groups["user"].Above != nil {
			t.Errorf("%s: above envd %q, want %q; above user %+v", test.name, got, test.envd, s.Groups["user"].Above)
		}
	}
	files := shellGuest()
	files["proc/50/cgroup"], files["sys/fs/cgroup"+deep+"/memory.min"] = "0::"+deep+"\n", "1\n"
	if s := tree(t, files).snapshot(60); len(s.Envd.Group.Above) != maxAbove {
		t.Errorf("%d groups above", len(s.Envd.Group.Above))
	}
}

// A line that ends in a backslash goes on in the next one, comments aside
// (systemd.syntax(7)).
func TestContinuedSettings(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"what belongs to another setting", "Environment=A=1 \\\nCPUWeight=5\n", "map[]"},
		{"a value on the next line", "MemoryMin=\\\n  50M\n", "map[MemoryMin:50M]"},
		{"what follows it", "Environment=A=1 \\\nB=2 \\\n C=3\nCPUWeight=5\n", "map[CPUWeight:5]"},
		{"a comment in between", "MemoryMin=\\\n# MemoryMin=1\n ; \\\n50M\nNice=1\n", "map[MemoryMin:50M Nice:1]"},
		{"a comment goes on nowhere", "# a \\\nCPUWeight=5\n", "map[CPUWeight:5]"},
		{"a blank line ends it", "CPUWeight=5 \\\n\nNice=1\n", "map[CPUWeight:5 Nice:1]"},
		{"a section's name is none in it", "Environment=A=1 \\\n[Unit]\nCPUWeight=5\n", "map[CPUWeight:5]"},
		{"a backslash that is escaped", "Environment=A=1\\\\\nCPUWeight=5\n", "map[CPUWeight:5]"},
		{"one that a blank follows", "Environment=A=1\\ \nCPUWeight=5\n", "map[CPUWeight:5]"},
		{"at the end of the file", "CPUWeight=5 \\", "map[CPUWeight:5]"},
		{"lines of DOS", "MemoryMin=\\\r\n50M\r\nNice=1\r\n", "map[MemoryMin:50M Nice:1]"},
	} {
		settings := map[string]string{}
		if addSettings(settings, "[Service]\n"+test.text); fmt.Sprint(settings) != test.want {
			t.Errorf("%s: %v, want %s", test.name, settings, test.want)
		}
	}
}

func TestSupervisorOfEnvd(t *testing.T) {
	files := shellGuest()
	files["proc/50/stat"] = stat(50, 40, 0, 77)
	files["proc/40/stat"], files["proc/40/cgroup"], files["proc/40/exe"] = stat(40, 1, 0, 70), "0::/\n", "->/sbin/supervise-daemon"
	if e := tree(t, files).snapshot(60).Envd; e.Parent == nil || e.Parent.PID != 40 || e.Parent.Exe != "/sbin/supervise-daemon" {
		t.Errorf("parent %+v", e.Parent)
	}
}

// Only threads of a real-time policy outside of the root cgroup count.
func TestRealTimeProcesses(t *testing.T) {
	thread := func(policy int) string {
		return "9 (x) S" + strings.Repeat(" 0", 37) + fmt.Sprintf(" %d 0 0\n", policy)
	}
	files := shellGuest()
	for pid, p := range map[int]struct {
		cgroup string
		policy int
	}{80: {"0::/user", 1}, 81: {"0::/", 1}, 82: {"0::/user", 0}, 83: {"0::/system.slice/x", 2}} {
		dir := fmt.Sprintf("proc/%d/", pid)
		files[dir+"stat"], files[dir+"cgroup"] = stat(pid, 1, 0, 1), p.cgroup+"\n"
		files[dir+fmt.Sprintf("task/%d/stat", pid)] = thread(0)
		files[dir+"task/99/stat"] = thread(p.policy)
	}
	var pids []int
	for _, p := range tree(t, files).snapshot(60).RealTime {
		pids = append(pids, p.PID)
	}
	if fmt.Sprint(pids) != "[80 83]" {
		t.Errorf("real-time processes %v", pids)
	}
}

// Inode numbers are read of groups and files, and groups that envd holds open
// are read too.
func TestGroupsThatEnvdHolds(t *testing.T) {
	files := shellGuest()
	files["sys/fs/cgroup/agents/cpu.weight"] = "25\n"
	g := tree(t, files)
	s := g.snapshot(60)
	if _, there := s.Groups["agents"]; there {
		t.Error("a group that envd does not hold was read")
	}
	if s.Groups["user"].Inode == 0 || s.Groups["user"].Files["cpu.weight"].Inode == 0 || s.Groups["user"].Files["memory.max"].Inode != 0 {
		t.Errorf("inodes of user: %+v", s.Groups["user"])
	}
	held := evidence.Process{CgroupFDs: []string{"/c/agents", "/c/user", "/c", "/c/user/cpu.max", "/other/x"}}
	if got := heldGroups(held, "/c"); fmt.Sprint(got) != "[agents]" {
		t.Errorf("held groups %v", got)
	}
}

// A unit's text sets nothing but what protects envd, and nothing at length.
func FuzzAddSettings(f *testing.F) {
	f.Add("[Service]\nCPUWeight=1000\nNice = -20\n[Install]\nMemoryMin=1\n")
	f.Add("[Service\n=\nCPUWeight")
	f.Add("[Service]\nCPUWeight=1\\\n# x\\\n 2 \\\n3\\")
	f.Fuzz(func(t *testing.T, text string) {
		settings := map[string]string{}
		addSettings(settings, text)
		for name, value := range settings {
			there := strings.Contains(text, value)
			if strings.Contains(text, "\\") { // its words stand on several lines
				there = !slices.ContainsFunc(strings.Fields(value), func(word string) bool { return !strings.Contains(text, word) })
			}
			if !slices.Contains(protecting, name) || len(value) > maxSetting || !there || !strings.Contains(text, "[Service]") {
				t.Errorf("%q set %s to %q", text, name, value)
			}
		}
	})
}
