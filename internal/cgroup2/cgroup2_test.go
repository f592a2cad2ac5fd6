package cgroup2

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseValue(t *testing.T) {
	for _, test := range []struct {
		text  string
		want  Value
		wrong bool
	}{
		{text: "max\n", want: Value{Max: true}},
		{text: "50\n", want: Value{Number: 50}},
		{text: "18446744073709551615\n", want: Value{Number: 1<<64 - 1}},
		{text: "18446744073709551616\n", wrong: true},
		{text: "+50\n", wrong: true},
		{text: "-1\n", wrong: true},
		{text: "50 100\n", wrong: true},
		{text: "50\n60\n", wrong: true},
		{text: "0x32\n", wrong: true},
		{text: "", wrong: true},
		{text: "max \n", wrong: true},
	} {
		got, err := ParseValue(test.text)
		if (err != nil) != test.wrong || got != test.want {
			t.Errorf("ParseValue(%q) = %v, %v", test.text, got, err)
		}
	}
}

func TestParseIOWeight(t *testing.T) {
	for _, test := range []struct {
		text  string
		want  IOWeight
		wrong bool
	}{
		{text: "default 10\n", want: IOWeight{Default: 10}},
		{text: "default 50\n8:0 200\n", want: IOWeight{Default: 50, Devices: map[string]uint64{"8:0": 200}}},
		{text: "8:0 200\n", wrong: true},
		{text: "10\n", wrong: true},
		{text: "default 10\ndefault 20\n", wrong: true},
		{text: "", wrong: true},
	} {
		got, err := ParseIOWeight(test.text)
		if (err != nil) != test.wrong || (err == nil && !cmp.Equal(got, test.want)) {
			t.Errorf("ParseIOWeight(%q) = %v, %v", test.text, got, err)
		}
	}
}

func TestParseIOCostQoS(t *testing.T) {
	const rest = " ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00\n"
	for _, test := range []struct {
		text  string
		want  []string
		wrong bool
	}{
		{text: ""},
		{text: "254:0 enable=0" + rest},
		{text: "8:0 enable=1" + rest + "254:0 enable=0" + rest + "254:16 enable=1" + rest, want: []string{"8:0", "254:16"}},
		{text: "254:0 enable=10" + rest},
		{text: "enable=1" + rest, wrong: true},
		{text: "vda enable=1" + rest, wrong: true},
	} {
		got, err := ParseIOCostQoS(test.text)
		if (err != nil) != test.wrong || !cmp.Equal(got, test.want) {
			t.Errorf("ParseIOCostQoS(%q) = %q, %v", test.text, got, err)
		}
	}
}

func TestParseControllers(t *testing.T) {
	for _, test := range []struct {
		text  string
		want  []string
		wrong bool
	}{
		{text: "cpuset cpu io memory hugetlb pids rdma\n", want: []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"}},
		{text: "\n", want: []string{}},
		{text: "", want: []string{}},
		{text: "cpu cpu\n", wrong: true},
		{text: "cpu\nmemory\n", wrong: true},
		{text: "+cpu\n", wrong: true},
	} {
		got, err := ParseControllers(test.text)
		if (err != nil) != test.wrong || (err == nil && !cmp.Equal(got, test.want)) {
			t.Errorf("ParseControllers(%q) = %q, %v", test.text, got, err)
		}
	}
}

func TestParseFlatKeyed(t *testing.T) {
	got, err := ParseFlatKeyed("populated 1\nfrozen 0\n")
	if err != nil || got["populated"] != 1 || got["frozen"] != 0 || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"frozen\n", "frozen 0 1\n", "frozen yes\n", "frozen 0\nfrozen 1\n"} {
		if got, err := ParseFlatKeyed(text); err == nil {
			t.Errorf("ParseFlatKeyed(%q) = %v, want an error", text, got)
		}
	}
}

func TestParsePressure(t *testing.T) {
	const some, full = "some avg10=1.50 avg60=0.42 avg300=0.00 total=219384\n", "full avg10=0.00 avg60=0.00 avg300=0.00 total=18203\n"
	got, err := ParsePressure(some + full)
	if want := (Pressure{Some: 219384, Full: 18203}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, text := range []string{
		"", "\n", some, full, some + some + full, some + full + "cpu total=1\n", some + "full\n", some + "full avg10=0.00 avg60=0.00 avg300=0.00\n",
		some + "full total=1 total=2\n", some + "full total=-1\n", some + "full total=NaN\n", some + "full total=1e3\n", some + "full total=\n",
		some + "full total=18446744073709551616\n",
	} {
		if got, err := ParsePressure(text); err == nil {
			t.Errorf("ParsePressure(%q) = %+v, want an error", text, got)
		}
	}
}

func TestParseProcCgroup(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"0::/user\n", "/user"},
		{"0::/\n", "/"},
		{"12:memory:/x\n1:name=systemd:/init.scope\n0::/system.slice/envd.service\n", "/system.slice/envd.service"},
		{"0::/user (deleted)\n", "/user (deleted)"},
		{"0::/a:b\n", "/a:b"},
	} {
		if got, err := ParseProcCgroup(test.text); err != nil || got != test.want {
			t.Errorf("ParseProcCgroup(%q) = %q, %v, want %q", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{"", "12:memory:/x\n"} {
		if _, err := ParseProcCgroup(text); !errors.Is(err, ErrNoV2) {
			t.Errorf("ParseProcCgroup(%q): %v, want ErrNoV2", text, err)
		}
	}
	for _, text := range []string{"0::user\n", "nonsense\n", "0::/a\n0::/b\n", "0:/a\n"} {
		if got, err := ParseProcCgroup(text); err == nil {
			t.Errorf("ParseProcCgroup(%q) = %q, want an error", text, got)
		}
	}
}

func TestParseMount(t *testing.T) {
	m, err := ParseMount(`30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate`)
	if err != nil || m.Point != "/sys/fs/cgroup" || m.Type != "cgroup2" || m.ReadOnly() {
		t.Errorf("got %+v, %v", m, err)
	}
	if !m.Covers("/sys/fs/cgroup/user") || m.Covers("/sys/fs/cgroup2") || m.Covers("/sys") {
		t.Error("a mount covers its point and what lies below, and nothing else")
	}
	m, err = ParseMount(`31 23 0:27 / /mnt/a\040b ro - cgroup2 none rw`)
	if err != nil || m.Point != "/mnt/a b" || !m.ReadOnly() {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, line := range []string{"", "30 23 0:26 / /sys/fs/cgroup rw", "a b c d e f - g h", "1 2 3 / relative rw - tmpfs none rw"} {
		if _, err := ParseMount(line); err == nil {
			t.Errorf("ParseMount(%q) gave no error", line)
		}
	}
}

func FuzzParsers(f *testing.F) {
	for _, seed := range []string{
		"max\n", "default 10\n8:0 200\n", "cpu io memory\n", "frozen 0\n", "0::/user\n",
		`30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate`, "\x00\xff", strings.Repeat("9", 400),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := ParseValue(text); err == nil && v.String() != strings.TrimLeft(strings.TrimSuffix(text, "\n"), "0") && v.Number != 0 {
			t.Errorf("%q was read as %s", text, v)
		}
		if list, err := ParseControllers(text); err == nil {
			again, err := ParseControllers(strings.Join(list, " "))
			if err != nil || !cmp.Equal(list, again) {
				t.Errorf("%q was read as %q, and that as %q, %v", text, list, again, err)
			}
		}
		if where, err := ParseProcCgroup(text); err == nil && !strings.HasPrefix(where, "/") {
			t.Errorf("%q gave the path %q", text, where)
		}
		if m, err := ParseMount(text); err == nil && !m.Covers(m.Point) {
			t.Errorf("%q gave a mount that does not cover its own point %q", text, m.Point)
		}
		for _, err := range []error{second(ParseIOWeight(text)), second(ParseIOCostQoS(text)), second(ParseFlatKeyed(text)), second(ParsePressure(text))} {
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }
