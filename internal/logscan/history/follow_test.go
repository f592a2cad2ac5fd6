package history

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/redact"
)

// followed is a log that is followed in a test.
type followed struct {
	*testing.T
	*follow

	path string
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
		{"a line without end at the end", func(l followed) {
			write(l.T, l.path, fallback)
		}, Failures, 1, ""},
		{"a record that comes in two parts", func(l followed) {
			first, rest, _ := strings.Cut(joined, "\n")
			write(l.T, l.path, first+"\n")
			l.look(false)
			write(l.T, l.path, rest)
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
