package verdict

import (
	"math"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// burnt is a process that burnt for half a second, and what its group used.
func burnt(group string, samples ...evidence.CPUSample) *evidence.Burn {
	return &evidence.Burn{From: 10, To: 10.5, CPUSeconds: 0.1, Group: "/sys/fs/cgroup" + group, Samples: samples}
}

func steady(perMille uint64) []evidence.CPUSample {
	var all []evidence.CPUSample
	for i := range 6 {
		at := i * 100_000
		all = append(all, evidence.CPUSample{AtUS: int64(at), UsageUS: 7_000_000 + uint64(at)*perMille/1000})
	}
	return all
}

func TestCPUOverTime(t *testing.T) {
	for _, test := range []struct {
		name         string
		command, pty *evidence.Burn
		lines        int
		path         string // of the first line
		notes        []string
	}{
		{"steady shares", burnt("/user", steady(200)...), burnt("/ptys", steady(800)...), 2, "M0 80H20V80H40V80H60V80H80V80H100", nil},
		{"an older run", burnt("/user"), burnt("/ptys"), 0, "", []string{"the command's group, /user was not sampled", "the terminal's group, /ptys was not sampled"}},
		{"a guest without the file", &evidence.Burn{From: 1, To: 2, NoSamples: "open cpu.stat of /sys/fs/cgroup/user: ENOENT"}, nil, 0, "", []string{"is not drawn over time: open cpu.stat"}},
		{
			"a file that cannot be read any more", &evidence.Burn{From: 1, To: 1.5, Group: "/sys/fs/cgroup/user", Samples: steady(200), NoSamples: "read cpu.stat: EIO"}, nil, 1, "",
			[]string{"the samples of the command's group, /user end early: read cpu.stat: EIO"},
		},
		{"nobody reported", nil, nil, 0, "", nil},
		{"one group for both", burnt("", steady(900)...), burnt("", steady(900)...), 0, "", []string{"both ran in one cgroup, /sys/fs/cgroup,"}},
		{"one sample is no share", burnt("/user", steady(200)[:1]...), burnt("/ptys", steady(800)...), 1, "M0 20H20V20H40V20H60V20H80V20H100", []string{"/user was not sampled"}},
		{
			"times out of order", burnt("/user", evidence.CPUSample{AtUS: -5}, evidence.CPUSample{AtUS: 0}, evidence.CPUSample{AtUS: 0, UsageUS: 9},
				evidence.CPUSample{AtUS: 250_000, UsageUS: 125_000}, evidence.CPUSample{AtUS: 100_000, UsageUS: 1}, evidence.CPUSample{AtUS: math.MaxInt64, UsageUS: 1}), nil,
			1, "M0 50H50",
			[]string{"4 samples are left out"},
		},
		{
			"a counter that falls", burnt("/user", evidence.CPUSample{UsageUS: 900_000}, evidence.CPUSample{AtUS: 100_000, UsageUS: 910_000},
				evidence.CPUSample{AtUS: 200_000, UsageUS: 0}, evidence.CPUSample{AtUS: 300_000, UsageUS: 20_000}), nil,
			1, "M0 90H20M40 80H60",
			[]string{"fell 1 times"},
		},
		{
			"more than a CPU", burnt("/user", evidence.CPUSample{}, evidence.CPUSample{AtUS: 250_000, UsageUS: math.MaxUint64}), nil,
			1, "M0 0H50",
			[]string{"1 values lie beyond the upper edge"},
		},
		{"no stretch", &evidence.Burn{From: 2, To: 1, Samples: steady(200)}, nil, 0, "", []string{"for how long it burnt is not known"}},
		{"not a number", &evidence.Burn{From: math.NaN(), To: math.Inf(1), Samples: steady(200)}, nil, 0, "", []string{"for how long it burnt is not known"}},
		{"far too many", burnt("/user", many(100_000)...), nil, 1, "M0 100H", []string{"100000 samples were told, of which the first 200 are drawn"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := seen(t, "base", "base")
			s.CPU = &evidence.CPUExperiment{Command: test.command, PTY: test.pty}
			v, missing := cpuOverTime(s)
			if v == nil {
				v = &chartView{}
			}
			if len(v.Lines) != test.lines || test.lines > 0 && !strings.HasPrefix(v.Lines[0].Path, test.path) {
				t.Errorf("got %+v, want %d lines, the first %s", v.Lines, test.lines, test.path)
			}
			holds(t, append(v.Notes, missing...), test.notes)
			sound(t, v)
		})
	}
}

func many(n int) []evidence.CPUSample {
	all := make([]evidence.CPUSample, n)
	for i := range all {
		all[i].AtUS = int64(i)
	}
	return all
}

func TestMemoryOverTime(t *testing.T) {
	const mebi = 1 << 20
	at := func(ms int64, mib uint64, stalled ...uint64) evidence.MemorySample {
		one := evidence.MemorySample{AtUS: ms * 1000, Current: mib * mebi}
		if len(stalled) == 2 {
			one.Stalled = &evidence.Stalled{SomeUS: stalled[0], FullUS: stalled[1]}
		}
		return one
	}
	for _, test := range []struct {
		name        string
		report      evidence.HogReport
		used, some  string
		notes, says []string
	}{
		{
			"with pressure",
			evidence.HogReport{Samples: []evidence.MemorySample{at(0, 0, 5, 5), at(500, 100, 100_005, 5), at(1000, 50, 600_005, 250_005)}},
			"M0 100L50 50L100 75", "M0 80H50V0H100", nil,
			[]string{"to 100.0 MiB at the most", "full between 0.0 % and 50.0 %"},
		},
		{
			"no pressure in this kernel",
			evidence.HogReport{Samples: []evidence.MemorySample{at(0, 0), at(1000, 200)}, NoPressure: "ENOENT"},
			"M0 100L100 0", "",
			[]string{"this guest's kernel counts no stalls of the group (ENOENT"},
			nil,
		},
		{
			"pressure that cannot be read any more",
			evidence.HogReport{Samples: []evidence.MemorySample{at(0, 0, 5, 5), at(500, 100, 100_005, 5), at(1000, 50, 600_005, 250_005)}, NoPressure: "ENOENT"},
			"M0 100L50 50L100 75", "M0 80H50V0H100",
			[]string{"the samples of memory.pressure end early: ENOENT"},
			nil,
		},
		{
			"memory that cannot be read any more",
			evidence.HogReport{Samples: []evidence.MemorySample{at(0, 0), at(1000, 200)}, NoSamples: "read memory.current after 2s: EIO", NoPressure: "ENOENT"},
			"M0 100L100 0", "",
			[]string{"this guest's kernel counts no stalls of the group (ENOENT", "the samples of the group's memory end early: read memory.current after 2s: EIO"},
			nil,
		},
		{"an older run", evidence.HogReport{Hog: &evidence.Process{PID: 1}}, "", "", []string{"the group's memory was not sampled over time"}, nil},
		{"nothing was let loose", evidence.HogReport{Ended: evidence.HogNoLimit}, "", "", nil, nil},
		{"no file", evidence.HogReport{NoSamples: "open memory.current: ENOENT"}, "", "", []string{"is not drawn over time: open memory.current: ENOENT"}, nil},
		{
			"more than the guest has",
			evidence.HogReport{Samples: []evidence.MemorySample{at(0, 100, 0, 0), {AtUS: 1_000_000, Current: math.MaxUint64, Stalled: &evidence.Stalled{SomeUS: math.MaxUint64}}}},
			"M0 50L100 0", "M0 0H100",
			[]string{"1 values lie beyond the upper edge"},
			nil,
		},
		{
			"stall times that fall",
			evidence.HogReport{Samples: []evidence.MemorySample{at(0, 0, 900, 900), at(500, 0, 0, 0), at(1000, 0, 0, 0)}},
			"M0 100L50 100L100 100", "M50 100H100",
			[]string{"fell 2 times"},
			nil,
		},
		{
			"times out of order",
			evidence.HogReport{Samples: []evidence.MemorySample{at(-1, 0), at(0, 0), at(1000, 200), at(500, 3), at(1<<50, 1)}},
			"M0 100L100 0", "",
			[]string{"3 samples are left out"},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := seen(t, "base", "base")
			s.Snapshot.MemTotal = 200 * mebi
			test.report.Limit.Text, test.report.Throttle.Text = "104857600\n", "max\n"
			used, stalled, notes := memoryOverTime(s, &test.report)
			var says []string
			for _, one := range []struct {
				view *chartView
				want string
			}{{used, test.used}, {stalled, test.some}} {
				if (one.view != nil) != (one.want != "") {
					t.Fatalf("got %+v, want %q", one.view, one.want)
				}
				if one.view == nil {
					continue
				}
				if one.view.Lines[0].Path != one.want {
					t.Errorf("got %s, want %s", one.view.Lines[0].Path, one.want)
				}
				says, notes = append(says, one.view.Says), append(notes, one.view.Notes...)
				sound(t, one.view)
			}
			if used != nil && (len(used.Levels) != 1 || used.Levels[0].At != 50) {
				t.Errorf("the limits stand at %+v", used.Levels)
			}
			holds(t, notes, test.notes)
			if all := strings.Join(says, "\n"); len(test.says) > 0 {
				for _, want := range test.says {
					if !strings.Contains(all, want) {
						t.Errorf("it lacks %q: %s", want, all)
					}
				}
			}
		})
	}
}

// A kernel that counts no stalls is told from one of which nothing is known.
func TestNoPressureIsSaid(t *testing.T) {
	s := seen(t, "base", "base")
	s.Memory.Report.Samples = []evidence.MemorySample{{}, {AtUS: int64(time.Second / time.Microsecond), Current: 9}}
	for why, want := range map[string]string{
		"EOPNOTSUPP": "counts no stalls", "EACCES": "memory.pressure is not drawn over time: EACCES", "": "memory.pressure was not sampled over time",
	} {
		s.Memory.Report.NoPressure = why
		if _, stalled, notes := memoryOverTime(s, s.Memory.Report); stalled != nil || !strings.Contains(strings.Join(notes, "\n"), want) {
			t.Errorf("%q: %q lacks %q", why, notes, want)
		}
	}
}

// holds fails unless there are as many notes as wanted, each with its text.
func holds(t *testing.T, notes, want []string) {
	t.Helper()
	if len(notes) < len(want) || len(want) == 0 && len(notes) > 0 && !strings.Contains(notes[0], "memory.pressure was not sampled") {
		t.Errorf("got the notes %q, want %q", notes, want)
	}
	all := strings.Join(notes, "\n")
	for _, text := range want {
		if !strings.Contains(all, text) {
			t.Errorf("the notes lack %q: %q", text, notes)
		}
	}
}

// sound fails for a chart that a browser could not draw, or that is too large.
func sound(t *testing.T, v *chartView) {
	t.Helper()
	for _, line := range v.Lines {
		if strings.ContainsAny(line.Path, "NaIfe-") || len(line.Path) > 20*evidence.MostSamples {
			t.Errorf("the path is no path: %.300s", line.Path)
		}
	}
	if len(v.Rows) > mostRows {
		t.Errorf("the table has %d rows", len(v.Rows))
	}
}
