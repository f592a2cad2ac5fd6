package logscan

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// A follower that ends takes nothing from another one of the same file.
func TestFollowersOfOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n := newNode(t)
		n.write("a", "orchestrator.stdout.0", "old\n")
		file, err := os.Open(n.path("a", "orchestrator.stdout.0"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		first, second := follow(file, 0, func(string) {}), follow(file, 0, func(string) {})
		defer second.stop()
		pass(2 * followPoll)
		first.stop()
		n.write("a", "orchestrator.stdout.0", "new\n")
		pass(2 * followPoll)
		if got := second.count.Load(); got != 2 {
			t.Errorf("the other one saw %d lines, want 2", got)
		}
	})
}

// A follower that ends leaves this process's other files as they are, whatever
// number they are opened by while it closes its own.
func TestFollowerLeavesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"log", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for range 200 {
		f := follow(file, 0, func(string) {})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			f.stop()
		}()
		for going := true; going; {
			select {
			case <-stopped:
				going = false
			default:
			}
			other, err := os.Open(filepath.Join(dir, "other"))
			if err != nil {
				t.Fatal(err)
			}
			opened, err := other.Stat()
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if now, err := other.Stat(); err != nil || !os.SameFile(opened, now) {
					t.Fatalf("another file was replaced by %+v, %v", now, err)
				}
			}
			_ = other.Close()
		}
	}
}

// A follower that ends reads on from /dev/null, and the held file is as it was: in
// a line without an end that grows faster than it reads it would not end else.
func TestFollowerIsStarved(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	f := follow(file, 0, func(string) {})
	defer f.stop()
	opens := func(fd int) string {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	if f.own < 0 || f.own == int(file.Fd()) || opens(f.own) != name {
		t.Fatalf("it reads by descriptor %d, and the file is held by %d", f.own, file.Fd())
	}
	f.starve()
	if opens(f.own) != os.DevNull || opens(int(file.Fd())) != name {
		t.Errorf("it reads %s, and %s is held", opens(f.own), opens(int(file.Fd())))
	}
}
