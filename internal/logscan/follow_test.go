package logscan

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
)

// oneLog is a node with one log, of one line, and the log as it is held.
func oneLog(t *testing.T) (node, *os.File) {
	t.Helper()
	n := newNode(t)
	n.write("a", "orchestrator.stdout.0", "old\n")
	file, err := os.Open(n.path("a", "orchestrator.stdout.0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return n, file
}

// TestFollowerHalfLines: the follower hands a line out when it is whole, and
// also the last ones of a file that is removed meanwhile.
func TestFollowerHalfLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n, file := oneLog(t)
		var seen []string // in the follower's goroutine, and here after a pause
		f := follow(file, int64(len("old\n")), func(line string) { seen = append(seen, line) })
		if f == nil {
			t.Fatal("the file is not followed")
		}
		defer f.stop()
		writer, err := os.OpenFile(file.Name(), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = writer.Close() }()
		for _, step := range []struct {
			text   string
			remove bool
			want   int64
		}{{text: "half of a "}, {text: "line\nand ", want: 1}, {text: "more\n", remove: true, want: 2}, {text: "after\n", want: 3}} {
			if _, err := writer.WriteString(step.text); err != nil {
				t.Fatal(err)
			}
			if step.remove {
				n.remove(file.Name())
			}
			pass(3 * followPoll)
			if got := f.count.Load(); got != step.want {
				t.Errorf("after %q %d lines, want %d", step.text, got, step.want)
			}
		}
		f.stop()
		if want := []string{"half of a line", "and more", "after"}; !slices.Equal(seen, want) {
			t.Errorf("it saw %q, want %q", seen, want)
		}
	})
}

// A follower that ends takes nothing from another one of the same file.
func TestFollowersOfOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer letGo()
		n, file := oneLog(t)
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
	n, file := oneLog(t)
	n.write("a", "other", "x\n")
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
			other, err := os.Open(n.path("a", "other"))
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
	_, file := oneLog(t)
	f := follow(file, 0, func(string) {})
	defer f.stop()
	opens := func(fd int) string {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	if f.own < 0 || f.own == int(file.Fd()) || opens(f.own) != file.Name() {
		t.Fatalf("it reads by descriptor %d, and the file is held by %d", f.own, file.Fd())
	}
	f.starve()
	if opens(f.own) != os.DevNull || opens(int(file.Fd())) != file.Name() {
		t.Errorf("it reads %s, and %s is held", opens(f.own), opens(int(file.Fd())))
	}
}
