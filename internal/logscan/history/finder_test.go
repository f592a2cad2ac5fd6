package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/redact"
)

// TestFinderRemembers: whatever happens to directories, soon after they were
// listed or long after, what is remembered of them is what a new look finds.
func TestFinderRemembers(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	place := func() string {
		return filepath.Join(root, fmt.Sprintf("alloc/%d/logs/orchestrator.stdout.%d", random.IntN(20), random.IntN(4)))
	}
	change := func() {
		path := place()
		switch random.IntN(8) {
		case 0, 1, 2:
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			_ = os.WriteFile(path, nil, 0o600)
		case 3:
			_ = os.Remove(path)
		case 4:
			_ = os.Rename(path, place())
		case 5:
			_ = os.RemoveAll(filepath.Dir(filepath.Dir(path)))
		case 6:
			_ = os.Rename(filepath.Dir(path), filepath.Dir(place()))
		case 7:
			_ = os.Symlink("/", path)
		}
	}
	d := newFinder()
	remembered := 0
	for turn := range 300 {
		if turn%100 == 50 { // so that the times are old enough to be trusted
			<-time.After(clockTick + 100*time.Millisecond)
			if _, _, err := d.find(t.Context(), []string{root}); err != nil {
				t.Fatal(err)
			}
		}
		before := map[*listing]bool{}
		for _, l := range d.listed {
			before[l] = true
		}
		for range random.IntN(3) {
			change()
		}
		files, troubles, err := d.find(t.Context(), []string{root})
		wantFiles, wantTroubles, wantErr := find(t.Context(), []string{root})
		if err != nil || wantErr != nil {
			t.Fatal(err, wantErr)
		}
		same := cmp.AllowUnexported(logFile{}, identity{})
		if diff := cmp.Diff(wantFiles, files, same) + cmp.Diff(wantTroubles, troubles); diff != "" {
			t.Fatalf("turn %d: -anew +remembered:\n%s", turn, diff)
		}
		for _, l := range d.listed {
			if before[l] {
				remembered++
			}
		}
	}
	if remembered == 0 {
		t.Error("nothing was ever remembered")
	}
}

// TestListingHolds: a directory's times say that it is as it was only where they
// were old when it was listed, and are never believed for long.
func TestListingHolds(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name                    string
		modified, change, looks time.Duration // before now
		is                      bool
	}{
		{"old", time.Hour, time.Hour, time.Second, true},
		{"modified as it was listed", time.Second, time.Hour, time.Second, false},
		{"changed just before it was listed", time.Hour, 3 * time.Second, time.Second, false},
		{"time set back", time.Hour, 2 * time.Second, time.Second, false},
		{"of the future", -time.Minute, time.Hour, time.Second, false},
		{"listed long ago", time.Hour, time.Hour, maxTrust, false},
	} {
		var state directoryState
		state.modified.Sec, state.change.Sec = now.Add(-test.modified).Unix(), now.Add(-test.change).Unix()
		l := listing{state: state, at: now.Add(-test.looks), whole: true}
		if got := l.holds(state, now); got != test.is {
			t.Errorf("%s: %t", test.name, got)
		}
		other := state
		other.id.inode++
		if l.whole = false; l.holds(state, now) {
			t.Errorf("%s: what could not be looked at is believed", test.name)
		}
		if l.whole = true; l.holds(other, now) {
			t.Errorf("%s: another directory is taken for it", test.name)
		}
	}
}

// TestSymlinks: what a symlink leads to is read where it lies below what was
// named, and told where it does not.
func TestSymlinks(t *testing.T) {
	boot, failed := record(1, "i1", booted), record(2, "i2", fallback)
	for _, test := range []struct {
		name, file string // with a failure
		link, to   string
		root       string
		want       Result
		count      int
		says       string
	}{
		{"a directory outside", "store/o.stdout.0", "al/a2", "../store", "al", Unproven, 0, "al/a2 is a symlink to "},
		{"a directory inside", "al/store/o.stdout.0", "al/a2", "store", "al", Failures, 1, ""},
		{"a directory inside of the current one", "store/o.stdout.0", "a2", "store", ".", Failures, 1, ""},
		{"a log outside", "store/o.log", "al/a.log", "../store/o.log", "al", Unproven, 0, "al/a.log is a symlink to the outside"},
		{"a log outside, by another name", "store/o.log", "al/current", "../store/o.log", "al", Unproven, 0, "al/current is a symlink to the outside"},
		{"a log inside, by two names", "al/o.log", "al/a.log", "o.log", "al", Failures, 1, ""},
		{"a log by this name alone", "al/o.20260120", "al/o.log", "o.20260120", "al", Failures, 1, ""},
		{"a log by this name alone, packed", "al/o.20260120.xz", "al/o.log", "o.20260120.xz", "al", Unproven, 0, "o.20260120.xz is packed"},
		{"no log by its name, but meant as one", "al/o", "al/O.LOG", "o", "al", Unproven, 0, "al/O.LOG was not taken for a log"},
		{"no log by its name, outside, but meant as one", "store/o", "al/O.LOG", "../store/o", "al", Unproven, 0, "al/O.LOG is a symlink to the outside"},
		{"no log, outside", "store/o", "al/a", "../store/o", "al", Clean, 0, ""},
		{"nothing", "store/o", "al/a", "nowhere", "al", Clean, 0, ""},
		{"nothing, by a log's name", "store/o", "al/a.log", "nowhere", "al", Unproven, 0, "al/a.log is a symlink and was not followed: "},
		{"itself", "store/o", "al/a", "a", "al", Unproven, 0, "al/a is a symlink and was not followed: "},
		{"the directory it is in", "store/o", "al/a", "..", ".", Clean, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			write(t, filepath.Join("al", "a1", "o.stdout.0"), boot)
			text := failed
			if filepath.Ext(test.file) == ".xz" {
				text = "\xfd7zXZ\x00\x00"
			}
			write(t, test.file, text)
			for _, to := range []string{test.to, filepath.Join(dir, filepath.Dir(test.link), test.to)} { // relative and absolute
				if err := os.Symlink(to, test.link); err != nil {
					t.Fatal(err)
				}
				for _, root := range []string{test.root, filepath.Join(dir, test.root)} {
					r, err := Scan(t.Context(), []string{root}, Options{Redactor: redact.New()})
					if err != nil {
						t.Fatal(err)
					}
					count := 0
					for _, f := range r.Findings {
						count += f.Count
					}
					said := strings.Join(r.Uncovered, "; ")
					if r.Result != test.want || count != test.count || !strings.Contains(said, test.says) || (test.says == "") != (said == "") {
						t.Errorf("%s -> %s from %s: %s: %s, %d lines, %q; want %s, %d lines, %q", test.link, to, root, r.Result, r.Reason, count, said, test.want, test.count, test.says)
					}
				}
				if err := os.Remove(test.link); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestFollowsTheTargetOfALink: a log that is one by a link's name alone is
// followed, also where the link comes to lead to another file.
func TestFollowsTheTargetOfALink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "o.log")
	f := newFollow(newScan(Options{Redactor: redact.New()}), []string{dir})
	defer f.close()
	for _, day := range []string{"20260119", "20260120"} {
		write(t, filepath.Join(dir, "o."+day), record(1, "i"+day, fallback))
		_ = os.Remove(link)
		if err := os.Symlink("o."+day, link); err != nil {
			t.Fatal(err)
		}
		f.refresh(t.Context())
		write(t, filepath.Join(dir, "o."+day), record(2, "i"+day, fallback))
		f.look(false)
	}
	for _, found := range f.conclude().Findings {
		if found.Count != 2 {
			t.Errorf("%d lines of %s, want two", found.Count, found.Sandbox)
		}
	}
	if len(f.findings) != 2 || len(f.report.Uncovered) != 0 {
		t.Errorf("%d findings, %q; want two", len(f.findings), f.report.Uncovered)
	}
}
