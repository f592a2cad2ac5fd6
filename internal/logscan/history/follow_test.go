package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/logscan/search"
	"sandproof/internal/redact"
)

// followed is a log that is followed in a test.
type followed struct {
	*testing.T
	*follow

	path string
}

func remove(l followed, path string) {
	if err := os.Remove(path); err != nil {
		l.Fatal(err)
	}
}

// packFile packs a file as gzip does, which removes it then.
func packFile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+".gz", pack(t, string(text)))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// fileSize is a file's size, 0 where it is not there.
func fileSize(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

// TestFollowsRotation: whatever becomes of a log's name, what was written is
// seen once, or told as not read.
func TestFollowsRotation(t *testing.T) {
	boot, failed := record(2, "i1", booted), record(3, "i1", fallback)
	joined := strings.Replace(record(1, "i2", "failed to create cgroup2 manager: a\n"+fallback), "\r", "", 1)
	rename := func(l followed, from, to string) {
		if err := os.Rename(from, to); err != nil {
			l.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		do    func(l followed)
		want  Result
		count int    // of findings' lines
		says  string // of what was not read
	}{
		{"renamed, and made anew", func(l followed) {
			rename(l, l.path, l.path+".1")
			write(l.T, l.path, failed)
		}, Failures, 1, ""},
		{"renamed, and written to before it is made anew", func(l followed) {
			write(l.T, l.path, failed)
			rename(l, l.path, l.path+".1")
			write(l.T, l.path+".1", failed)
			write(l.T, l.path, boot)
		}, Failures, 2, ""},
		{"renamed, and written to after it is made anew", func(l followed) {
			rename(l, l.path, l.path+".1")
			write(l.T, l.path, boot)
			l.refresh(l.Context())
			l.look(false)
			write(l.T, l.path+".1", failed)
		}, Failures, 1, ""},
		{"renamed twice between two looks", func(l followed) {
			rename(l, l.path, l.path+".1")
			write(l.T, l.path, failed)
			rename(l, l.path+".1", l.path+".2")
			rename(l, l.path, l.path+".1")
			write(l.T, l.path, failed)
		}, Failures, 2, ""},
		{"renamed to a name that is no log's", func(l followed) {
			rename(l, l.path, l.path+".gone")
			write(l.T, l.path, failed)
		}, Failures, 1, ""},
		{"removed with an open line, and made anew", func(l followed) {
			write(l.T, l.path, strings.TrimSuffix(failed, "\n"))
			if err := os.Remove(l.path); err != nil {
				l.Fatal(err)
			}
			write(l.T, l.path, boot)
		}, Failures, 1, ""},
		{"copied and cut", func(l followed) {
			copyFile(l.T, l.path, l.path+".1")
			if err := os.Truncate(l.path, 0); err != nil {
				l.Fatal(err)
			}
			write(l.T, l.path, boot)
		}, Unproven, 0, "x.log was cut while it was followed"},
		{"cut, and grown beyond what it was", func(l followed) {
			if err := os.Truncate(l.path, 0); err != nil {
				l.Fatal(err)
			}
			write(l.T, l.path, strings.Repeat(boot, 10))
		}, Unproven, 0, "x.log was cut while it was followed"},
		{"cut, and failing then", func(l followed) {
			if err := os.Truncate(l.path, 0); err != nil {
				l.Fatal(err)
			}
			write(l.T, l.path, failed)
		}, Failures, 1, "x.log was cut while it was followed"},
		{"new, then cut and filled again", func(l followed) {
			path := filepath.Join(filepath.Dir(l.path), "new.log")
			write(l.T, path, boot)
			l.refresh(l.Context())
			l.look(false)
			if err := os.Truncate(path, 0); err != nil {
				l.Fatal(err)
			}
			write(l.T, path, failed+boot+boot)
		}, Failures, 1, "new.log was cut while it was followed"},
		{"new, then cut and filled again before it was read", func(l followed) {
			path := filepath.Join(filepath.Dir(l.path), "new.log")
			write(l.T, path, boot)
			l.refresh(l.Context())
			if err := os.Truncate(path, 0); err != nil {
				l.Fatal(err)
			}
			write(l.T, path, failed+boot+boot)
		}, Failures, 1, "new.log was cut while it was followed"},
		{"new, then copied, cut and filled to the same size", func(l followed) {
			path := filepath.Join(filepath.Dir(l.path), "new.log")
			write(l.T, path, failed)
			l.refresh(l.Context())
			l.look(false)
			copyFile(l.T, path, path+".2")
			if err := os.Truncate(path, 0); err != nil {
				l.Fatal(err)
			}
			write(l.T, path, record(3, "i6", fallback))
		}, Failures, 2, "new.log was cut while it was followed"},
		{"packed after it was followed", func(l followed) {
			rename(l, l.path+".1.gz", l.path+".2.gz")
			rename(l, l.path, l.path+".1")
			write(l.T, l.path, boot)
			l.refresh(l.Context())
			packFile(l.T, l.path+".1")
		}, Clean, 0, ""},
		{"packed after it was followed and let go", func(l followed) {
			text, err := os.ReadFile(l.path)
			if err != nil {
				l.Fatal(err)
			}
			remove(l, l.path)
			write(l.T, l.path, boot)
			l.refresh(l.Context())
			l.refresh(l.Context())
			write(l.T, l.path+"-20260120.gz", pack(l.T, string(text)))
		}, Clean, 0, ""},
		{"renamed and packed between two looks", func(l followed) {
			write(l.T, l.path, failed)
			rename(l, l.path+".1.gz", l.path+".2.gz")
			rename(l, l.path, l.path+".1")
			packFile(l.T, l.path+".1")
			write(l.T, l.path, boot)
		}, Failures, 1, ""},
		{"seen while it is packed", func(l followed) {
			rename(l, l.path, l.path+".3")
			write(l.T, l.path, boot)
			text, err := os.ReadFile(l.path + ".3")
			if err != nil {
				l.Fatal(err)
			}
			packed := pack(l.T, string(text))
			for _, end := range []int{0, 5, len(packed) / 2, len(packed) - 1} {
				write(l.T, l.path+".3.gz", packed[:end][min(end, fileSize(l.T, l.path+".3.gz")):])
				l.refresh(l.Context())
			}
			write(l.T, l.path+".3.gz", packed[len(packed)-1:])
			remove(l, l.path+".3")
		}, Clean, 0, ""},
		{"a packed one that was never seen", func(l followed) {
			write(l.T, l.path+"-20260120.gz", pack(l.T, failed))
		}, Unproven, 0, "x.log-20260120.gz came while the logs were followed and was not read"},
		{"a packed one that was never seen, and was removed", func(l followed) {
			write(l.T, l.path+"-20260120.gz", pack(l.T, failed))
			l.refresh(l.Context())
			remove(l, l.path+"-20260120.gz")
		}, Unproven, 0, "x.log-20260120.gz came while the logs were followed and was not read"},
		{"a packed one that begins as the log and goes on", func(l followed) {
			text, err := os.ReadFile(l.path)
			if err != nil {
				l.Fatal(err)
			}
			write(l.T, l.path+".2.gz", pack(l.T, string(text)+failed))
		}, Unproven, 0, "x.log.2.gz came while the logs were followed and was not read"},
		{"a packed one of another log", func(l followed) {
			text, err := os.ReadFile(l.path)
			if err != nil {
				l.Fatal(err)
			}
			write(l.T, filepath.Join(filepath.Dir(l.path), "y.log.gz"), pack(l.T, string(text)))
		}, Unproven, 0, "y.log.gz came while the logs were followed and was not read"},
		{"journald's bytes behind its texts", func(l followed) {
			write(l.T, l.path, journal(2, true, booted))
			l.look(false)
			write(l.T, l.path, journal(3, false, fallback))
		}, Unproven, 0, "take journalctl -o cat"},
		{"a line without end at the end", func(l followed) {
			write(l.T, l.path, fallback)
		}, Failures, 1, ""},
		{"a record that comes in two parts", func(l followed) {
			first, rest, _ := strings.Cut(joined, "\n")
			write(l.T, l.path, first+"\n")
			l.look(false)
			write(l.T, l.path, rest)
		}, Failures, 2, ""},
		{"a record that stays open before a line that is too long", func(l followed) {
			open, _, _ := strings.Cut(joined, "  {")
			write(l.T, l.path, open+"\n"+strings.Repeat("x", 300_000))
			l.look(false)
			write(l.T, l.path, "\n"+boot)
		}, Failures, 2, fmt.Sprintf("the line at %d of ", len(record(1, "iold", "hello")+record(1, "iold", fallback)+boot+strings.SplitN(joined, "  {", 2)[0])+1)},
		{"a record that stays open before a line that is nearly too long", func(l followed) {
			open, _, _ := strings.Cut(joined, "  {")
			write(l.T, l.path, open+"\n"+strings.Repeat("x", search.MaxLine-20))
			l.look(false)
			write(l.T, l.path, "\n"+boot)
		}, Failures, 2, ""},
		{"nothing", func(followed) {}, Clean, 0, ""},
	} {
		follows := func(t *testing.T, watched bool) {
			t.Helper()
			dir := t.TempDir()
			path := filepath.Join(dir, "x.log")
			write(t, path, record(1, "iold", "hello")+record(1, "iold", fallback))
			write(t, path+".1.gz", pack(t, failed))
			files, _, err := find(t.Context(), []string{dir})
			if err != nil {
				t.Fatal(err)
			}
			f := newFollow(newScan(Options{Redactor: redact.New()}), []string{dir})
			defer f.close()
			if !watched {
				f.watch.close()
				f.watch = watch{noWatch}
			}
			f.take(files, true)
			write(t, path, boot)
			f.look(false)
			test.do(followed{t, f, path})
			for range 3 {
				f.look(false)
				f.refresh(t.Context())
			}
			f.look(true)
			r := f.conclude()
			count := 0
			for _, found := range r.Findings {
				count += found.Count
				if found.Sandbox == "iold" || strings.Contains(test.name, "two parts") && found.Sandbox != "i2" {
					t.Errorf("%s of %q", found.Rule, found.Sandbox)
				}
			}
			said := strings.Join(r.Uncovered, "; ")
			if r.Result != test.want || count != test.count || !strings.Contains(said, test.says) || (test.says == "") != (said == "") {
				t.Errorf("%s: %s; %d lines, %q; want %s, %d lines, %q", r.Result, r.Reason, count, said, test.want, test.count, test.says)
			}
		}
		t.Run(test.name, func(t *testing.T) { follows(t, true) })
		t.Run(test.name+", unwatched", func(t *testing.T) { follows(t, false) })
	}
}

// TestWatchSparesLooks: a log of which the watch tells nothing is not looked at,
// but once a second it is, should the watch have missed something.
func TestWatchSparesLooks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	write(t, path, record(1, "i1", booted))
	f := newFollow(newScan(Options{Redactor: redact.New()}), []string{dir})
	defer f.close()
	f.refresh(t.Context())
	f.look(false)
	log := f.current[path]
	if !log.watched {
		t.Skip("temporary files are on a file system that is not watched")
	}
	for id := range f.watched {
		f.watch.remove(id)
	}
	f.look(false)
	write(t, path, record(2, "i1", fallback))
	f.look(false)
	if len(f.findings) != 0 {
		t.Error("a look was not spared")
	}
	f.refresh(t.Context())
	f.look(false)
	if len(f.findings) != 1 {
		t.Errorf("%d findings after a second, want one", len(f.findings))
	}
}

// TestNextFileAtOnce: of a log that grows, the next files are found without a
// search for new ones.
func TestNextFileAtOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, logs+"0"), record(1, "i1", booted))
	f := newFollow(newScan(Options{Redactor: redact.New()}), []string{dir})
	defer f.close()
	f.refresh(t.Context())
	write(t, filepath.Join(dir, logs+"0"), record(2, "i1", fallback)[:60])
	f.look(false)
	write(t, filepath.Join(dir, logs+"1"), record(2, "i1", fallback)[60:])
	write(t, filepath.Join(dir, logs+"2"), record(2, "i2", fallback))
	if err := os.Symlink(logs+"2", filepath.Join(dir, logs+"3")); err != nil {
		t.Fatal(err)
	}
	f.look(false)
	if len(f.findings) != 2 || f.report.Files != 3 || len(f.report.Uncovered) != 0 {
		t.Errorf("%d findings in %d files, %q; want two in three", len(f.findings), f.report.Files, f.report.Uncovered)
	}
}

// TestIndexBeginsAnew: a sequence that begins again with a lower index is read
// from there on, and what was there before is not read again.
func TestIndexBeginsAnew(t *testing.T) {
	fails := func(sandbox string) string { return record(2, sandbox, booted) + record(3, sandbox, fallback) }
	for _, test := range []struct {
		name    string
		before  []int // the indexes that are there, each with a failure
		removed []int
		made    []int // from then on, each with a failure
		says    string
	}{
		{"all were removed", []int{0, 1, 2, 3}, []int{0, 1, 2, 3}, []int{0, 1}, ""},
		{"the newest was removed", []int{3}, []int{3}, []int{0}, ""},
		{"the others stay", []int{0, 1, 2, 3}, []int{0}, []int{0}, ""},
		{"it overtakes what was there", []int{0, 1}, []int{0, 1}, []int{0, 1, 2}, ""},
		{"not from 0 on", []int{3}, []int{3}, []int{1}, "the files 0 to 0 came and went unseen"},
		{"not at all", []int{0, 1, 2, 3}, []int{3}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := func(index int) string { return filepath.Join(dir, logs+strconv.Itoa(index)) }
			for _, index := range test.before {
				write(t, path(index), fails("iold"))
			}
			files, _, err := find(t.Context(), []string{dir})
			if err != nil {
				t.Fatal(err)
			}
			if files[0].born == 0 {
				t.Skip("the file system of temporary files does not tell when one was made")
			}
			f := newFollow(newScan(Options{Redactor: redact.New()}), []string{dir})
			defer f.close()
			f.take(files, true)
			<-time.After(20 * time.Millisecond) // births are told by the kernel's tick
			for _, index := range test.removed {
				if err := os.Remove(path(index)); err != nil {
					t.Fatal(err)
				}
			}
			for _, index := range test.made {
				write(t, path(index), fails("inew"))
			}
			f.refresh(t.Context())
			f.look(false)
			for range 2 {
				f.refresh(t.Context())
				f.look(false)
			}
			want := 0
			if n := len(test.made); n > 0 {
				write(t, path(test.made[n-1]), fails("inew"))
				want = n + 1
			}
			f.look(true)
			r := f.conclude()
			got := 0
			for _, found := range r.Findings {
				if got += found.Count; found.Sandbox != "inew" {
					t.Errorf("what was there was read: %+v", found)
				}
			}
			said := strings.Join(r.Uncovered, "; ")
			if got != want || !strings.Contains(said, test.says) || (test.says == "") != (said == "") {
				t.Errorf("%d lines, %q; want %d, %q", got, said, want, test.says)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	file, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(text))
}
