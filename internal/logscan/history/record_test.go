package history

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sandproof/internal/logscan"
	"sandproof/internal/logscan/search"
	"sandproof/internal/redact"
)

// TestLinesOfOneRecord: what stands in a record of several lines has its time
// and its sandbox, and raw lines beside it do not.
func TestLinesOfOneRecord(t *testing.T) {
	joined := strings.Replace(record(1, "i2", "failed to create cgroup2 manager: a\nfailed to write cgroup property: b\n"+fallback), "\r", "", 1)
	first, rest, _ := strings.Cut(joined, "\n")
	far := strings.Repeat("a line of the record\n", 60)
	for name, test := range map[string]struct {
		files   map[string]string
		sandbox string
		named   bool // by time and sandbox
	}{
		"in a file":                    {files: map[string]string{"x.log": joined + record(5, "i1", booted)}, named: true},
		"after other records":          {files: map[string]string{"x.log": record(1, "i7", "hello") + joined + record(5, "i1", booted)}, named: true},
		"packed":                       {files: map[string]string{"x.log.1.gz": pack(t, strings.Repeat(record(0, "i7", "hello"), 10_000)+joined+record(5, "i1", booted))}, named: true},
		"over two files":               {files: map[string]string{logs + "0": first + "\nfail", logs + "1": rest[len("fail"):] + record(5, "i1", booted)}, named: true},
		"with lines between":           {files: map[string]string{"x.log": first + "\n" + far + rest + record(5, "i1", booted)}, named: true},
		"torn by another record":       {files: map[string]string{"x.log": "a\n" + record(1, "i7", "hello") + rest + record(5, "i1", booted)}},
		"of too many lines":            {files: map[string]string{"x.log": first + "\n" + far + far + rest + record(5, "i1", booted)}},
		"at the beginning of the file": {files: map[string]string{"x.log": rest + record(5, "i1", booted)}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				write(t, filepath.Join(dir, file), text)
			}
			r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
			if err != nil || r.Result != Failures {
				t.Fatalf("%v, %s: %s", err, r.Result, r.Reason)
			}
			for _, f := range r.Findings {
				begins := f.Rule == "CG001" // this line has a time of its own
				if !begins && test.named != (f.Sandbox == "i2" && f.First.Equal(at(1))) || test.named && strings.Contains(f.Example, "sandbox.id") {
					t.Errorf("%s is of sandbox %q at %s: %q", f.Rule, f.Sandbox, f.First, f.Example)
				}
			}
			r, err = Scan(t.Context(), []string{dir}, Options{Since: at(3), Redactor: redact.New()})
			if want := map[bool]Result{true: Clean, false: Failures}[test.named]; err != nil || r.Result != want {
				t.Errorf("%v: since later %s: %s; want %s", err, r.Result, r.Reason, want)
			}
		})
	}
}

// TestGapsAreBounded: lines that are too long are told once for each file,
// harmless ones too, and no more gaps are kept than a report may have.
func TestGapsAreBounded(t *testing.T) {
	dir, long := t.TempDir(), strings.Repeat("x", search.MaxLine)
	write(t, filepath.Join(dir, "x.log"), record(1, "i1", booted)+strings.Repeat("cgroup: Disabling "+long+"\n", 20))
	r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
	if err != nil || r.Result != Unproven || len(r.Uncovered) != 1 || !strings.Contains(r.Uncovered[0], "was not read to its end") {
		t.Errorf("%v, %s: %q", err, r.Result, r.Uncovered)
	}
	s := newScan(Options{Redactor: redact.New()})
	for i := range 3 * maxUncovered {
		s.uncoveredf("gap %d", i%(2*maxUncovered))
	}
	if n := len(s.report.Uncovered); n != maxUncovered+1 || !strings.Contains(s.report.Uncovered[n-1], "the rest was not kept") {
		t.Errorf("%d gaps are kept, the last is %q", n, s.report.Uncovered[n-1])
	}
}

// TestWindow: around any place of reading the last stretch can be read again.
func TestWindow(t *testing.T) {
	var text strings.Builder
	for i := 0; text.Len() < 4*keep; i++ {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	whole := text.String()
	w := &window{r: strings.NewReader(whole)}
	var read int64
	for buf := make([]byte, 100_000); read < int64(len(whole)); {
		n, err := w.Read(buf)
		if err != nil || string(buf[:n]) != whole[read:read+int64(n)] {
			t.Fatalf("at %d: %v", read, err)
		}
		read += int64(n)
		for _, from := range []int64{max(w.begin(), read-keep), max(0, read-10), read} {
			if n, _ := w.ReadAt(buf[:5000], from); string(buf[:n]) != whole[from:min(from+5000, int64(len(whole)))] {
				t.Fatalf("around %d from %d: %d bytes differ", read, from, n)
			}
		}
	}
}

// FuzzRemembered: a line that was remembered is, at another time, the same
// records, known by the same rules, as without a memory.
func FuzzRemembered(f *testing.F) {
	for _, rest := range []string{
		"  INFO  " + fallback + `  {"sandbox.id": "i1", "template.id": "t"}`, "  \x1b[34mINFO\x1b[0m  [ 1.5] cgroup: x\r  {}", "  {}", "    {}",
		"  \x1b]0;cgroup", "  -> [sandbox i1] cgroup", `  {"message": "cgroup", "ts": "2026-01-20T10:00:01Z"}`, ` {"a": 1}`, "Z  cgroup", "  ", "  \x1b[0m",
	} {
		f.Add(rest, uint(17), uint(20))
	}
	f.Fuzz(func(t *testing.T, rest string, day, hour uint) {
		m := newMemory()
		for _, stamp := range []string{"2026-01-20T10:00:01.250Z", fmt.Sprintf("2024-02-%02dT%02d:00:60.999Z", day%100, hour%100), fmt.Sprintf("2024-02-%02dT%02d:00:59.999Z", day%100, hour%100)} {
			line := []byte(stamp + rest)
			got, at, known := m.recall(line)
			if !known {
				got, at = m.records(line)
			}
			var want []ruled
			for _, record := range logscan.Records(line) {
				want = append(want, ruled{record, logscan.Classify(record)})
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(ruled{}), cmpopts.IgnoreFields(logscan.Record{}, "Time"), cmpopts.IgnoreUnexported(logscan.Record{}),
				cmp.Comparer(func(a, b *logscan.Rule) bool { return a == b })); diff != "" || !at.Equal(want[0].Time) {
				t.Errorf("%q at %s, want %s, -want +got:\n%s", line, at, want[0].Time, diff)
			}
		}
	})
}
