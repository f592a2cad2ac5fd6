package history

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sandproof/internal/redact"
)

// TestOtherNames: what logrotate left is read, and what is packed in a way that
// cannot be read is told, whatever its name says.
func TestOtherNames(t *testing.T) {
	boot, failed := record(1, "i1", booted), record(2, "i1", fallback)
	for _, test := range []struct {
		name, file, text string
		want             Result
		says             string
	}{
		{"dateext", "x.log-20260119", failed, Failures, ""},
		{"dateext, packed", "x.log-20260119-1700000000.gz", pack(t, failed), Failures, ""},
		{"an old one", "x.log.old", failed, Failures, ""},
		{"zstd", "x.log.1.zst", "?", Unproven, "x.log.1.zst is packed in a way that is not read here"},
		{"xz, of Nomad", "orchestrator.stdout.0.xz", "?", Unproven, "orchestrator.stdout.0.xz is packed in a way that is not read here"},
		{"gzip that is not called so", "y.log", pack(t, failed), Unproven, "its name does not say so"},
		{"xz that is not called so", "y.log", "\xfd7zXZ\x00\x00", Unproven, "its name does not say so"},
		{"UTF-16", "y.log", "\xff\xfeh\x00i\x00", Unproven, "y.log is in UTF-16"},
		{"UTF-16, big endian", "y.log", "\xfe\xff\x00h\x00i", Unproven, "y.log is in UTF-16"},
		{"no log", "x.logic", failed, Clean, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "x.log"), boot)
			write(t, filepath.Join(dir, test.file), test.text)
			r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
			if err != nil {
				t.Fatal(err)
			}
			if r.Result != test.want || !strings.Contains(strings.Join(r.Uncovered, "; "), test.says) {
				t.Errorf("%s: %s, %q; want %s, %q", r.Result, r.Reason, r.Uncovered, test.want, test.says)
			}
		})
	}
}

// TestNamesThatMayBeMeant: what is no log by its name, and may be meant as one, is
// told; what is something else is not.
func TestNamesThatMayBeMeant(t *testing.T) {
	for name, want := range map[string]bool{
		"orchestrator.stdout": true, "orchestrator.STDERR": true, "orchestrator.stdout.out": true, "x.log.tgz": true, "x.log.tar.gz": true,
		"x.log.7z": true, "x.log.zstd": true, "o.log.gzip": true, "x.log.1.bak": true, "o.log.1~": true, "o.log.2026-01-19_10": true,
		"x.log.2026-01-20T10": true, "X.LOG": true, "x.logic": false, "x.login": false, "log": false, "blog": false, "x.stdoutx": false, "x.": false,
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.log"), record(1, "i1", booted))
		write(t, filepath.Join(dir, name), record(2, "i1", fallback))
		r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(strings.Join(r.Uncovered, "; "), name+" was not taken for a log by its name"); told != want || (r.Result == Unproven) != want {
			t.Errorf("%s: %s, %q; want told: %t", name, r.Result, r.Uncovered, want)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"a.log", "X.LOG"} {
		write(t, filepath.Join(dir, name), record(1, "i1", booted))
	}
	if r, err := Scan(t.Context(), []string{dir, filepath.Join(dir, "X.LOG")}, Options{Redactor: redact.New()}); err != nil || r.Result != Clean || r.Files != 2 {
		t.Errorf("named itself: %v, %s, %q", err, r.Result, r.Uncovered)
	}
}

// TestOneDirectoryTwice: a directory that is named in two ways is read once.
func TestOneDirectoryTwice(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, filepath.Join(dir, "logs", "x.log"), record(1, "i1", fallback))
	r, err := Scan(t.Context(), []string{"logs", filepath.Join(dir, "logs")}, Options{Redactor: redact.New()})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 1 || r.Findings[0].Count != 1 || r.Files != 1 {
		t.Errorf("%d files, %+v; want one line in one file", r.Files, r.Findings)
	}
}

// TestHints: too many open files are not taken for missing rights.
func TestHints(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EMFILE: "ulimit -n", syscall.ENFILE: "ulimit -n", syscall.EACCES: "must be able to read it",
	} {
		if got := hinted(&os.PathError{Op: "open", Path: "x", Err: err}).Error(); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
