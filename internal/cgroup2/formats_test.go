package cgroup2

import (
	"fmt"
	"math"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The lines that guests really have, and those that a mere split at blanks
// would misread (proc_pid_mountinfo(5)).
func TestParseMountForms(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       Mount
		readOnly   bool
	}{
		{
			"no optional field", "30 23 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 none rw",
			Mount{Root: "/", Point: "/sys/fs/cgroup", Type: "cgroup2", Options: []string{"rw", "relatime"}, SuperOptions: []string{"rw"}},
			false,
		},
		{
			"several optional fields, and the line's end",
			"30 23 0:26 / /sys/fs/cgroup rw shared:9 master:3 propagate_from:2 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
			Mount{
				Root: "/", Point: "/sys/fs/cgroup", Type: "cgroup2", Options: []string{"rw"},
				SuperOptions: []string{"rw", "nsdelegate", "memory_recursiveprot"},
			},
			false,
		},
		{
			"mounted with an empty source", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2  rw",
			Mount{Root: "/", Point: "/sys/fs/cgroup", Type: "cgroup2", Options: []string{"rw"}, SuperOptions: []string{"rw"}},
			false,
		},
		{
			"a bind mount of a part", "31 23 0:26 /user /mnt/user ro - cgroup2 none rw",
			Mount{Root: "/user", Point: "/mnt/user", Type: "cgroup2", Options: []string{"ro"}, SuperOptions: []string{"rw"}},
			true,
		},
		{
			"the file system itself is read-only", "31 23 0:26 / /sys/fs/cgroup rw - cgroup2 none ro",
			Mount{Root: "/", Point: "/sys/fs/cgroup", Type: "cgroup2", Options: []string{"rw"}, SuperOptions: []string{"ro"}},
			true,
		},
		{
			"version 1", "32 31 0:27 / /sys/fs/cgroup/memory rw - cgroup none rw,memory",
			Mount{Root: "/", Point: "/sys/fs/cgroup/memory", Type: "cgroup", Options: []string{"rw"}, SuperOptions: []string{"rw", "memory"}},
			false,
		},
		{
			"escapes", `33 31 0:28 / /a\040b\011c\012d\134e\043f rw - tmpfs tmp\040fs rw`,
			Mount{Root: "/", Point: "/a b\tc\nd\\e#f", Type: "tmpfs", Options: []string{"rw"}, SuperOptions: []string{"rw"}},
			false,
		},
		{
			"blanks that the kernel does not escape", "33 31 0:28 / /a\u00a0b\vc\rd rw - tmpfs none rw",
			Mount{Root: "/", Point: "/a\u00a0b\vc\rd", Type: "tmpfs", Options: []string{"rw"}, SuperOptions: []string{"rw"}},
			false,
		},
		{
			"no escape of a byte", `33 31 0:28 / /a\777\9x\04 rw - tmpfs none rw`,
			Mount{Root: "/", Point: `/a\777\9x\04`, Type: "tmpfs", Options: []string{"rw"}, SuperOptions: []string{"rw"}},
			false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseMount(test.line)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if got.ReadOnly() != test.readOnly {
				t.Errorf("read-only is %v", got.ReadOnly())
			}
		})
	}
}

// Where a process is, is told by the 0:: line alone and by its whole path.
func TestParseProcCgroupForms(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"hybrid":                          {"2:cpu,cpuacct:/user\n1:name=systemd:/user\n0::/\n", "/"},
		"v1 of the same name":             {"4:memory:/user\n0::/init.scope\n", "/init.scope"},
		"outside of its cgroup namespace": {"0::/../ptys\n", "/../ptys"},
		"deleted":                         {"0::/user (deleted)\n", "/user (deleted)"},
		"without the line's end":          {"0::/user", "/user"},
		"a name with blanks":              {"0::/a b\n", "/a b"},
	} {
		if got, err := ParseProcCgroup(test.text); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, test.want)
		}
	}
}

func TestParseFlatKeyedOfTheKernel(t *testing.T) {
	for text, want := range map[string]map[string]uint64{
		"low 0\nhigh 2200\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n": {
			"low": 0, "high": 2200, "max": 3, "oom": 1, "oom_kill": 1, "oom_group_kill": 0,
		},
		"populated 1\nfrozen 0\n": {"populated": 1, "frozen": 0},
		"":                        {},
	} {
		got, err := ParseFlatKeyed(text)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

// An error says what was wanted and what came, and a guest cannot make it
// long or write control characters through it.
func TestErrorsShowWhatCame(t *testing.T) {
	hostile := "\x1b[2J" + strings.Repeat("x ", 1<<16)
	for name, parse := range map[string]func(string) error{
		"value":       func(s string) error { return second(ParseValue(s)) },
		"io.weight":   func(s string) error { return second(ParseIOWeight(s)) },
		"io.cost.qos": func(s string) error { return second(ParseIOCostQoS(s)) },
		"controllers": func(s string) error { return second(ParseControllers(s)) },
		"flat keyed":  func(s string) error { return second(ParseFlatKeyed(s)) },
		"cgroup":      func(s string) error { return second(ParseProcCgroup(s)) },
		"mount":       func(s string) error { return second(ParseMount(s)) },
	} {
		err := parse(hostile)
		if err == nil || !strings.Contains(err.Error(), `\x1b[2J`) || strings.ContainsRune(err.Error(), 0x1b) || len(err.Error()) > 500 {
			t.Errorf("%s: %.600v", name, err)
		}
	}
}

// FuzzParseMount writes a line as the kernel does (seq_path and mangle in
// fs/proc_namespace.c) and reads it back.
func FuzzParseMount(f *testing.F) {
	f.Add("/", "/sys/fs/cgroup", "cgroup2", "shared:9")
	f.Add("/a b", "/x\ty\nz\\w#v", "", "")
	f.Add("/", "/\u00a0\u2028\xff", "none", "master:1")
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`)
	f.Fuzz(func(t *testing.T, root, point, source, optional string) {
		root, point = path.Join("/", root), path.Join("/", point)
		if strings.ContainsAny(optional, " \n") || optional == "-" {
			t.Skip("the kernel writes no such optional field")
		}
		if optional != "" {
			optional += " "
		}
		line := fmt.Sprintf("30 23 0:26 %s %s rw,nosuid %s- cgroup2 %s rw,nsdelegate\n", escape.Replace(root), escape.Replace(point), optional, escape.Replace(source))
		got, err := ParseMount(line)
		want := Mount{Root: root, Point: point, Type: "cgroup2", Options: []string{"rw", "nosuid"}, SuperOptions: []string{"rw", "nsdelegate"}}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: got %+v, %v", line, got, err)
		}
		if !got.Covers(point) || !got.Covers(path.Join(point, "user")) {
			t.Errorf("%q does not cover itself and what lies below", point)
		}
	})
}

// FuzzParseProcCgroup puts a path among lines of version 1 and finds it again.
func FuzzParseProcCgroup(f *testing.F) {
	f.Add("/user", "memory", "/")
	f.Add("/a:b (deleted)", "name=systemd", "/0::")
	f.Fuzz(func(t *testing.T, where, controllers, v1 string) {
		where = "/" + where
		if strings.ContainsRune(where+controllers+v1, '\n') || strings.ContainsRune(controllers, ':') {
			t.Skip("the kernel takes no such name")
		}
		got, err := ParseProcCgroup("3:" + controllers + ":/" + v1 + "\n0::" + where + "\n")
		if err != nil || got != where {
			t.Errorf("got %q, %v, want %q", got, err, where)
		}
	})
}

// FuzzParseIOWeight reads back what the kernel would print for any weights.
func FuzzParseIOWeight(f *testing.F) {
	f.Add(uint64(10), uint32(8), uint32(0), uint64(200))
	f.Fuzz(func(t *testing.T, weight uint64, major, minor uint32, device uint64) {
		name := fmt.Sprintf("%d:%d", major, minor)
		want := IOWeight{Default: weight, Devices: map[string]uint64{name: device}}
		text := fmt.Sprintf("default %d\n%s %d\n", weight, name, device)
		if got, err := ParseIOWeight(text); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	})
}

// FuzzParsePressure reads back what the kernel would print (psi_show in
// kernel/sched/psi.c), and never panics at what it would not.
func FuzzParsePressure(f *testing.F) {
	f.Add("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", uint64(7), uint64(3))
	f.Add("full total=1", uint64(0), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, text string, some, full uint64) {
		if _, err := ParsePressure(text); err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		kernel := fmt.Sprintf("some avg10=0.12 avg60=3.40 avg300=99.99 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", some, full)
		if got, err := ParsePressure(kernel); err != nil || got != (Pressure{Some: some, Full: full}) {
			t.Errorf("%q gave %+v, %v", kernel, got, err)
		}
	})
}
