package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
