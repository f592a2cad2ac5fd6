package history

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandproof/internal/logscan/corpus"
	"sandproof/internal/redact"
)

const (
	fallback = "falling back to no-op cgroup manager"
	booted   = "=== Starting envd ==="
)

// record is a guest's line in the orchestrator's log, some minutes after ten.
func record(minute int, sandbox, message string) string {
	return fmt.Sprintf("2026-01-20T10:%02d:00.000Z  \x1b[34mINFO\x1b[0m  %s\r  {\"sandbox.id\": %q, \"template.id\": \"tpl\"}\n", minute, message, sandbox)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// journal is a guest's line in the orchestrator's log as journalctl -o json has
// it: as a text, or as bytes, as journald does where it holds control characters.
func journal(minute int, text bool, message string) string {
	said := strings.TrimSuffix(record(minute, "i1", message), "\n")
	var data any = strings.NewReplacer("\r", "", "\x1b[34m", "", "\x1b[0m", "").Replace(said)
	if !text {
		numbers := []int{}
		for _, b := range []byte(said) {
			numbers = append(numbers, int(b))
		}
		data = numbers
	}
	line, err := json.Marshal(map[string]any{"MESSAGE": data, "__REALTIME_TIMESTAMP": strconv.FormatInt(at(minute).UnixMicro(), 10), "_PID": "7"})
	if err != nil {
		panic(err)
	}
	return string(line) + "\n"
}

func at(minute int) time.Time { return time.Date(2026, 1, 20, 10, minute, 0, 0, time.UTC) }

const logs = "alloc/a/alloc/logs/orchestrator.stdout."

func TestScan(t *testing.T) {
	boot := record(1, "i1", booted)
	torn := record(2, "i1", "failed to create cgroup2 manager: permission denied")
	long := record(3, "i1", strings.Repeat("x", 100<<10)+" cgroup: cannot do it, invalid argument")
	for _, test := range []struct {
		name   string
		files  map[string]string
		since  time.Time
		want   Result
		reason string // a part of the reason, or of what was not read
		found  string // rule, template, sandbox and count of the first finding
	}{
		{name: "healthy", files: map[string]string{logs + "0": boot + record(2, "i1", "hello")}, want: Clean, reason: "from 2026-01-20 10:01:00Z to 2026-01-20 10:02:00Z"},
		{name: "a failure", files: map[string]string{logs + "0": boot + record(2, "i1", fallback) + record(3, "i1", fallback)}, want: Failures, found: "CG003 tpl i1 2"},
		{
			name:  "the kernel's words, and the same in another's mouth",
			files: map[string]string{logs + "0": boot + record(2, "i1", "[    5.123456] cgroup: fork rejected by pids controller in /user") + record(3, "i1", "cgroup: fork rejected by pids controller in /user")},
			want:  Unproven, found: "CG0U0 tpl i1 1",
		},
		{name: "the kernel's words", files: map[string]string{logs + "0": boot + record(2, "i1", "[    5.123456] cgroup: fork rejected by pids controller in /user")}, want: Clean},
		{name: "two sandboxes", files: map[string]string{logs + "0": record(2, "i2", fallback) + record(3, "i1", fallback)}, want: Failures, found: "CG003 tpl i1 1"},
		{name: "no boot line", files: map[string]string{logs + "0": record(2, "i1", "hello")}, want: Unproven, reason: "no line of any guest's boot"},
		{name: "an empty log", files: map[string]string{logs + "0": ""}, want: Unproven, reason: "nothing was there to read"},
		{name: "unknown trouble", files: map[string]string{logs + "0": boot + record(2, "i1", "cgroup v9: operation not permitted")}, want: Unproven, reason: "1 line speaks of cgroup trouble, and no rule knows it", found: "CG0U0 tpl i1 1"},
		{name: "a missing file", files: map[string]string{logs + "0": boot, logs + "2": boot}, want: Unproven, reason: "the files 1 to 1 are missing"},
		{name: "purged", files: map[string]string{logs + "3": boot}, want: Unproven, reason: "purged before 2026-01-20 10:01:00Z"},
		{name: "purged before what was asked for", files: map[string]string{logs + "3": boot + record(5, "i1", booted)}, since: at(3), want: Clean},
		{name: "purged after what was asked for", files: map[string]string{logs + "3": record(5, "i1", booted)}, since: at(3), want: Unproven, reason: "purged before 2026-01-20 10:05:00Z"},
		{name: "an old failure", files: map[string]string{logs + "0": record(1, "i1", fallback) + record(5, "i1", booted)}, since: at(3), want: Clean},
		{name: "a failure just before what was asked for", files: map[string]string{logs + "0": record(1, "i1", fallback) + record(5, "i1", booted)}, since: at(3), want: Clean, reason: "no failure from 2026-01-20 10:03:00Z to 2026-01-20 10:05:00Z, in"},
		{name: "no times", files: map[string]string{logs + "0": booted + "\n"}, want: Clean, reason: "no failure, in"},
		{name: "a line over two files", files: map[string]string{logs + "0": boot + long[:60<<10], logs + "1": long[60<<10:]}, want: Unproven, found: "CG0U0 tpl i1 1"},
		{name: "a failure torn by a missing file", files: map[string]string{logs + "0": boot + record(2, "i1", fallback)[:60], logs + "2": boot}, want: Unproven, reason: "missing", found: "CG0F0   1"},
		{name: "packed", files: map[string]string{"x.log.1.gz": pack(t, boot+record(2, "i1", fallback))}, want: Failures, found: "CG003 tpl i1 1"},
		{name: "packed and cut", files: map[string]string{"x.log.1.gz": pack(t, strings.Repeat(boot, 1000))[:40], "y.log": boot}, want: Unproven, reason: "unpack"},
		{name: "packed and whole", files: map[string]string{"x.log.1.gz": pack(t, boot)}, want: Clean},
		{name: "journald's bytes", files: map[string]string{"x.log": journal(1, true, booted) + journal(2, false, fallback)}, want: Unproven, reason: "x.log: what journald says at byte "},
		{name: "journald's bytes among texts", files: map[string]string{"x.log": journal(1, true, booted) + strings.Repeat(journal(1, true, "hello"), 3000) + journal(2, false, fallback) + strings.Repeat(journal(3, true, "hello"), 3000)}, want: Unproven, reason: "take journalctl -o cat"},
		{name: "journald's bytes alone", files: map[string]string{"x.log": journal(2, false, fallback), "y.log": boot}, want: Unproven, reason: "take journalctl -o cat"},
		{name: "journald's bytes, packed", files: map[string]string{"x.log.gz": pack(t, journal(1, true, booted)+strings.Repeat(journal(1, true, "hello"), 3000)+journal(2, false, fallback)+journal(1, true, "hello"))}, want: Unproven, reason: "take journalctl -o cat"},
		{name: "journald's bytes behind another's lines", files: map[string]string{"x.log": boot + strings.Repeat(record(1, "i1", "hello"), 3000) + journal(2, false, fallback) + journal(1, true, "hello")}, want: Unproven, reason: "take journalctl -o cat"},
		{name: "journald's bytes, with blanks", files: map[string]string{"x.log": journal(1, true, booted) + strings.Replace(journal(2, false, fallback), `"MESSAGE":[`, `"MESSAGE" : [`, 1)}, want: Unproven, reason: "take journalctl -o cat"},
		{name: "what journald left out", files: map[string]string{"x.log": journal(1, true, booted) + `{"MESSAGE":null,"__REALTIME_TIMESTAMP":"1768903320000000"}` + "\n"}, want: Unproven, reason: "take journalctl -o cat"},
		{name: "journald's bytes of an earlier time", files: map[string]string{"x.log": journal(1, false, fallback) + journal(2, true, booted) + journal(4, true, booted)}, since: at(2), want: Clean},
		{
			name:  "journald's bytes before a record of an earlier time",
			files: map[string]string{"x.log": journal(1, true, "hello") + journal(3, true, "✓ Filesystems mounted (with cgroup delegation)") + journal(4, false, fallback) + journal(1, true, "hello")},
			since: at(2), want: Unproven, reason: "take journalctl -o cat",
		},
		{
			name:  "a boot before a record of an earlier time",
			files: map[string]string{"x.log": record(1, "i1", "hello") + record(3, "i1", booted) + record(1, "i1", "hello")},
			since: at(2), want: Clean,
		},
		{name: "journald's texts", files: map[string]string{"x.log": journal(1, true, booted) + journal(2, true, `{"MESSAGE":[1]} and "MESSAGE":[2]`)}, want: Clean},
		{name: "journald's bytes in a guest's mouth", files: map[string]string{"x.log": boot + record(2, "i1", `{"MESSAGE":[102,97]}`)}, want: Clean},
		{name: "journald's bytes beside a failure", files: map[string]string{"x.log": journal(1, true, fallback) + journal(2, false, fallback)}, want: Failures, found: "CG003 tpl i1 1"},
		{name: "packed twice", files: map[string]string{"x.log.1.gz": pack(t, pack(t, boot+record(2, "i1", fallback))), "y.log": boot}, want: Unproven, reason: "x.log.1.gz holds what is packed once more"},
		{name: "another packing within", files: map[string]string{"x.log.1.gz": pack(t, "\xfd7zXZ\x00abc"), "y.log": boot}, want: Unproven, reason: "x.log.1.gz holds what is packed once more"},
		{name: "UTF-16 in a packed file", files: map[string]string{"x.log.1.gz": pack(t, "\xff\xfec\x00g\x00r\x00o\x00u\x00p\x00"), "y.log": boot}, want: Unproven, reason: "x.log.1.gz holds UTF-16"},
		{name: "a packed file of nothing", files: map[string]string{"x.log.1.gz": pack(t, ""), "y.log": boot}, want: Clean},
		{name: "a failure torn over packed and plain", files: map[string]string{logs + "0.gz": pack(t, boot+torn[:60]), logs + "1": torn[60:]}, want: Unproven, reason: "the last line of "},
		{name: "a failure torn over plain and packed", files: map[string]string{logs + "0": boot + torn[:60], logs + "1.gz": pack(t, torn[60:])}, want: Unproven, reason: "the last line of "},
		{name: "a failure torn over packed and packed", files: map[string]string{logs + "0.gz": pack(t, boot+torn[:60]), logs + "1.gz": pack(t, torn[60:])}, want: Unproven, reason: "the last line of "},
		{name: "packed and plain, of whole lines", files: map[string]string{logs + "0.gz": pack(t, boot), logs + "1": boot, logs + "2.gz": pack(t, boot+"no end")}, want: Clean},
		{name: "NUL and no end", files: map[string]string{logs + "0": boot + "\x00\x00\n\x00" + fallback}, want: Failures, found: "CG003   1"},
		{name: "JSON", files: map[string]string{logs + "0": boot + `{"message":"` + fallback + `\r","sandbox.id":"i9","timestamp":"2026-01-20T10:04:00Z"}` + "\n"}, want: Failures, found: "CG003  i9 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				write(t, filepath.Join(dir, name), text)
			}
			r, err := Scan(t.Context(), []string{dir}, Options{Since: test.since, Redactor: redact.New()})
			if err != nil {
				t.Fatal(err)
			}
			said := r.Reason + "; " + strings.Join(r.Uncovered, "; ")
			if r.Result != test.want || !strings.Contains(said, test.reason) {
				t.Errorf("%s: %s\nwant %s, with %q", r.Result, said, test.want, test.reason)
			}
			found := ""
			if len(r.Findings) > 0 {
				f := r.Findings[0]
				found = fmt.Sprintf("%s %s %s %d", f.Rule, f.Template, f.Sandbox, f.Count)
			}
			if found != test.found {
				t.Errorf("found %q, want %q", found, test.found)
			}
		})
	}
}

// TestUnreadable: what cannot be looked at is told, and no FIFO is opened.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, logs+"0"), record(1, "i1", booted))
	outside := filepath.Join(t.TempDir(), "x.log")
	write(t, outside, "x\n")
	if err := os.Symlink(outside, filepath.Join(dir, "link.log")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, logs+"1"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
	if err != nil || r.Result != Unproven || len(r.Uncovered) != 1 || !strings.Contains(r.Uncovered[0], "symlink to the outside") {
		t.Errorf("%v: %s: %q", err, r.Result, r.Uncovered)
	}
	if _, err := Scan(t.Context(), []string{t.TempDir()}, Options{Redactor: redact.New()}); err == nil || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("a directory without logs: %v", err)
	}
	if _, err := Scan(t.Context(), []string{filepath.Join(dir, "nowhere")}, Options{Redactor: redact.New()}); err == nil {
		t.Error("a path that is not there is no error")
	}
}

// TestSecrets: a key that somebody logged does not come out.
func TestSecrets(t *testing.T) {
	dir, key := t.TempDir(), "e2b_"+strings.Repeat("ab12", 10)
	write(t, filepath.Join(dir, "x.log"), record(1, "i1", "failed to write cgroup property: "+key))
	r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New(key)})
	if err != nil || len(r.Findings) != 1 || strings.Contains(r.Findings[0].Example, key) {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestCorpus: a log in Nomad's layout is cut into units, and all of it is read.
func TestCorpus(t *testing.T) {
	const size, every = 60 << 20, 200
	dir := t.TempDir()
	if err := corpus.New(7, every).WriteNomad(dir, size); err != nil {
		t.Fatal(err)
	}
	var text []byte
	files, _, err := find(t.Context(), []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, data...)
	}
	want := 0
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("cgroup")) || bytes.Contains(line, []byte("falling back")) {
			want++
		}
	}
	r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
	if err != nil || r.Lines != want || r.Bytes != int64(len(text)) || r.Files != len(files) || r.Result != Failures {
		t.Errorf("%v: %d lines of %d bytes in %d files, %s; want %d lines of %d bytes in %d files", err, r.Lines, r.Bytes, r.Files, r.Result, want, len(text), len(files))
	}
}

// TestFollow: what is appended, the next index and a new allocation are seen,
// and what was there is not.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, logs+"0"), record(1, "iold", fallback))
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan Finding)
	type ended struct {
		Report
		error
	}
	done := make(chan ended)
	go func() {
		r, err := Follow(ctx, []string{dir}, Options{Redactor: redact.New(), Seen: func(f Finding) { seen <- f }})
		done <- ended{r, err}
	}()
	await := func(sandbox string) {
		t.Helper()
		select {
		case f := <-seen:
			if f.Sandbox != sandbox {
				t.Errorf("saw a line of %s, want %s", f.Sandbox, sandbox)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no line of %s was seen", sandbox)
		}
	}
	// The file is looked at from when Follow has found it; what comes before is
	// history.
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		<-tick.C
		write(t, filepath.Join(dir, logs+"0"), record(2, "i1", fallback))
		select {
		case f := <-seen:
			if f.Sandbox != "i1" {
				t.Errorf("saw a line of %s", f.Sandbox)
			}
			tick.Stop()
		default:
			continue
		}
		break
	}
	split := record(3, "i2", fallback)
	write(t, filepath.Join(dir, logs+"0"), split[:50])
	write(t, filepath.Join(dir, logs+"1"), split[50:])
	await("i2")
	write(t, filepath.Join(dir, "alloc/b/alloc/logs/orchestrator.stdout.0"), record(4, "i3", fallback))
	await("i3")
	write(t, filepath.Join(dir, "alloc/b/alloc/logs/orchestrator.stdout.2"), record(5, "i4", fallback))
	await("i4")
	stop()
	got := <-done
	if got.error != nil || got.Result != Failures || len(got.Uncovered) != 1 || !strings.Contains(got.Uncovered[0], "the files 1 to 1 came and went unseen") {
		t.Errorf("%v: %s: %q", got.error, got.Result, got.Uncovered)
	}
}

// BenchmarkFollowIdle is what a look at a thousand logs costs in which nothing
// happens.
func BenchmarkFollowIdle(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		writeLog(b, filepath.Join(dir, fmt.Sprintf("alloc/%d/alloc/logs/orchestrator.stdout.0", i)), "hello\n")
	}
	f := newFollow(newScan(Options{Redactor: redact.New()}), []string{dir})
	defer f.close()
	<-time.After(2 * clockTick) // until the directories' times are trusted
	f.refresh(b.Context())
	b.Run("look", func(b *testing.B) {
		for b.Loop() {
			f.look(false)
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(followLook)*100, "%core")
	})
	b.Run("refresh", func(b *testing.B) {
		for b.Loop() {
			f.refresh(b.Context())
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(followFind)*100, "%core")
	})
}

// Whichever worker comes first, the line that stands first is a finding's example:
// two scans of the same logs tell the same.
func TestExampleStandsFirst(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		text := record(1, "i1", fmt.Sprintf("failed to create cgroup2 manager: %d: permission denied", i))
		if i == 0 { // the others are read long before this one's end
			text = strings.Repeat(record(0, "i1", "nothing"), 100_000) + text
		}
		write(t, filepath.Join(dir, "alloc", strconv.Itoa(i), "alloc", "logs", "orchestrator.stdout.0"), text)
	}
	report, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
	if err != nil || len(report.Findings) != 1 {
		t.Fatalf("%v: %+v", err, report)
	}
	f := report.Findings[0]
	if f.Count != 4 || !strings.Contains(f.Example, "manager: 0:") || !strings.Contains(f.Source, "/alloc/0/") || f.Offset != int64(100_000*len(record(0, "i1", "nothing"))) {
		t.Errorf("%+v", f)
	}
}
