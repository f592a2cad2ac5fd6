package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan/search"
	"sandproof/internal/redact"
)

// TestSeenIsCounted: a finding that is told as it comes has its line counted.
func TestSeenIsCounted(t *testing.T) {
	var seen []Finding
	w := newWorker(newScan(Options{Redactor: redact.New(), Seen: func(f Finding) { seen = append(seen, f) }}))
	w.log = &log{}
	for range 2 {
		w.line(nil, search.Line{Data: []byte(strings.TrimSuffix(record(2, "i1", fallback), "\n"))}, "x.log", 0)
	}
	if len(seen) != 1 || seen[0].Count != 1 || !seen[0].Last.Equal(at(2)) {
		t.Errorf("%+v; want one of one line", seen)
	}
}

// TestDroppedCount: lines of findings that are too many to be kept are counted, and
// a failure among them makes the result.
func TestDroppedCount(t *testing.T) {
	w := newWorker(newScan(Options{Redactor: redact.New()}))
	w.log = &log{}
	say := func(i int, message string) {
		w.line(nil, search.Line{Data: fmt.Appendf(nil, `{"message":%q,"sandbox.id":"i%d"}`, message, i)}, "x.log", int64(i))
	}
	for i := range maxFindings + 5 {
		say(i, "cgroup v9: operation not permitted")
	}
	if r := w.conclude(); r.Result != Unproven || len(r.Findings) != maxFindings || r.Dropped != 5 || !strings.Contains(r.Reason, "10005 lines speak") {
		t.Errorf("%s: %s, %d findings, %d dropped", r.Result, r.Reason, len(r.Findings), r.Dropped)
	}
	for range 3 {
		say(maxFindings, fallback)
	}
	if r := w.conclude(); r.Result != Failures || r.Dropped != 8 || !strings.Contains(r.Reason, "envd said 3 times") || !w.found(evidence.FindingFailure) {
		t.Errorf("%s: %s, %d dropped", r.Result, r.Reason, r.Dropped)
	}
}

// TestUnreadIsToldOnce: a file that cannot be read is told once, by its path.
func TestUnreadIsToldOnce(t *testing.T) {
	for name, says := range map[string]string{"x.log.gz": "x.log.gz: it is empty", "y.log.gz": "y.log.gz: gzip: invalid header", "z.log": "z.log is packed and"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.log"), record(1, "i1", booted))
		write(t, filepath.Join(dir, name), map[string]string{"y.log.gz": strings.Repeat("no gzip", 10), "z.log": pack(t, "")}[name])
		r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
		if err != nil || r.Result != Unproven || len(r.Uncovered) != 1 || !strings.Contains(r.Uncovered[0], says) {
			t.Errorf("%s: %v, %s, %q; want once %q", name, err, r.Result, r.Uncovered, says)
		}
	}
}

// TestFilesBeforeAreThere: files that were not named were not purged.
func TestFilesBeforeAreThere(t *testing.T) {
	for _, before := range []string{"o.stdout.0", "o.stdout.0.gz", ""} {
		dir := t.TempDir()
		last := filepath.Join(dir, "o.stdout.1")
		write(t, last, record(1, "i1", booted))
		want := "o.stdout: purged before 2026-01-20 10:01:00Z"
		if before != "" {
			write(t, filepath.Join(dir, before), "")
			want = "o.stdout: the files before o.stdout.1 are there, and were not named"
		}
		r, err := Scan(t.Context(), []string{last}, Options{Redactor: redact.New()})
		if err != nil || r.Result != Unproven || len(r.Uncovered) != 1 || !strings.HasSuffix(r.Uncovered[0], want) {
			t.Errorf("%s: %v, %s, %q; want %q", before, err, r.Result, r.Uncovered, want)
		}
		if r, err := Scan(t.Context(), []string{last}, Options{Redactor: redact.New(), Since: at(1)}); err != nil || r.Result != Clean {
			t.Errorf("%s: since its first record: %v, %s", before, err, r.Reason)
		}
	}
}

// TestControlStandsFirst: whichever worker comes first, the boot that is shown is
// the one that stands first.
func TestControlStandsFirst(t *testing.T) {
	dir := t.TempDir()
	for i := range 8 {
		said := "=== E2B Init Starting ==="
		if i == 0 { // the others are found long before this one's end
			said = strings.Repeat("x\n", 2<<20) + booted
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.log", i)), []byte(said+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
	if err != nil || r.Control != booted {
		t.Errorf("%v, %q; want %q", err, r.Control, booted)
	}
}
