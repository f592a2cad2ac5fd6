package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sandproof/internal/evidence"
)

// However long it lasts, the samples are bounded, in order, and spread over the
// whole time, from its beginning on.
func TestSeriesIsBounded(t *testing.T) {
	for _, long := range []time.Duration{0, 500 * time.Millisecond, 9 * time.Second, 10 * time.Second, 11 * time.Second, 30 * time.Second, time.Hour} {
		s := newSeries[time.Duration]()
		for at := time.Duration(0); at <= long; at += 7 * time.Millisecond {
			if s.due(at) {
				s.add(at, at)
			}
		}
		if len(s.all) == 0 || len(s.all) > evidence.MostSamples || s.all[0] != 0 {
			t.Fatalf("%s: %d samples", long, len(s.all))
		}
		if long > 10*time.Second && len(s.all) < evidence.MostSamples/3 {
			t.Errorf("%s: only %d samples", long, len(s.all))
		}
		for i := range s.all[1:] {
			if gap := s.all[i+1] - s.all[i]; gap < sampleEvery || gap > 3*s.every {
				t.Errorf("%s: %s lie between two samples, and they are taken each %s", long, gap, s.every)
			}
		}
	}
}

func TestWatchCPU(t *testing.T) {
	const stat = "usage_usec 91827\nuser_usec 61827\nsystem_usec 30000\n"
	for _, test := range []struct {
		name, cgroup, text string
		samples            int
		why                string
	}{
		{"a group", "0::/user\n", stat, 3, ""},
		{"no such file", "0::/ptys\n", stat, 0, "open cpu.stat of /sys/fs/cgroup/ptys: ENOENT"},
		{"no cgroup v2", "4:memory:/user\n", stat, 0, "no line of the cgroup v2 hierarchy"},
		{"no usage", "0::/user\n", "nr_periods 0\n", 0, "no usage_usec"},
		{"an empty file", "0::/user\n", "", 0, "no usage_usec"},
		{"hostile text", "0::/user\n", "usage_usec -1\n", 0, "is no number"},
		{"endless text", "0::/user\n", strings.Repeat("usage_usec 9", 1<<20), 0, "want lines of a key and a number"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// By the bubble's clock no read takes long, however busy the machine is.
			synctest.Test(t, func(t *testing.T) {
				g := tree(t, map[string]string{"sys/fs/cgroup/user/cpu.stat": test.text})
				_, w := g.watchCPU(evidence.Process{Cgroup: test.cgroup})
				for _, at := range []time.Duration{0, sampleEvery / 2, sampleEvery} {
					w.look(at, false)
				}
				w.look(sampleEvery+1, true) // too soon after the one before
				w.look(sampleEvery*3/2, true)
				samples, why := w.samples()
				if len(samples) != test.samples || !strings.Contains(why, test.why) || (why == "") != (test.why == "") {
					t.Fatalf("got %v, %q, want %d samples and %q", samples, why, test.samples, test.why)
				}
				for _, one := range samples {
					if one.UsageUS != 91827 {
						t.Errorf("got %+v", one)
					}
				}
			})
		})
	}
}

// A file is read anew each time, by both ways, and nothing but a regular file is
// opened: a FIFO would hold the probe for ever.
func TestMeter(t *testing.T) {
	name := filepath.Join(t.TempDir(), "memory.current")
	if err := os.WriteFile(name, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openMeter(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1\n", "22\n", ""} {
		if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		for way, read := range map[string]func() (string, error){"told": m.read, "untold": m.readUntold} {
			if got, err := read(); err != nil || got != want {
				t.Errorf("%s: got %q, %v, want %q", way, got, err, want)
			}
		}
	}
	m.close()
	for way, read := range map[string]func() (string, error){"told": m.read, "untold": m.readUntold} {
		if _, err := read(); err == nil || err.Error() != "EBADF" {
			t.Errorf("%s: a closed file gave %v", way, err)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, t.TempDir(), "/dev/zero"} {
		if _, err := openMeter(name); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestWatchMemory(t *testing.T) {
	const pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n"
	for _, test := range []struct {
		name       string
		files      map[string]string
		samples    bool
		stalled    bool
		noSamples  string
		noPressure string
	}{
		{"with pressure", map[string]string{"memory.current": "4096\n", "memory.pressure": fmt.Sprintf(pressure, 70, 30)}, true, true, "", ""},
		{"the kernel counts no stalls", map[string]string{"memory.current": "4096\n"}, true, false, "", "ENOENT"},
		{"pressure in another form", map[string]string{"memory.current": "4096\n", "memory.pressure": "none\n"}, true, false, "", "want lines of some and full"},
		{"no group", nil, false, false, "open memory.current: ENOENT", ""},
		{"no number", map[string]string{"memory.current": "-1\n"}, false, false, "read memory.current", "ENOENT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := map[string]string{"sys/x": ""}
			for name, text := range test.files {
				files["sys/fs/cgroup/user/"+name] = text
			}
			w := tree(t, files).watchMemory("/sys/fs/cgroup/user")
			var r evidence.HogReport
			w.stop(&r)
			if (len(r.Samples) >= 2) != test.samples || len(r.Samples) > 0 != test.samples {
				t.Errorf("got %d samples", len(r.Samples))
			}
			for _, pair := range [][2]string{{r.NoSamples, test.noSamples}, {r.NoPressure, test.noPressure}} {
				if !strings.HasPrefix(pair[0], pair[1]) || (pair[0] == "") != (pair[1] == "") {
					t.Errorf("got %q, want %q", pair[0], pair[1])
				}
			}
			for _, one := range r.Samples {
				if one.Current != 4096 || (one.Stalled != nil) != test.stalled || one.Stalled != nil && *one.Stalled != (evidence.Stalled{SomeUS: 70, FullUS: 30}) {
					t.Errorf("got %+v", one)
				}
			}
		})
	}
}
