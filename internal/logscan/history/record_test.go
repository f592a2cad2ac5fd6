package history

import (
	stdcmp "cmp"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sandproof/internal/evidence"
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

// lineKinds are of what the logs are made in which lines are read one by one.
// Records come close to no bound of lines or bytes: they keep it or are far beyond.
var lineKinds = []string{
	"2026-01-20T10:00:01.250Z  INFO  x\n", "2026-01-20T10:00:02.250Z  INFO  failed to create cgroup2 manager: a\n", "2026-01-20T10:00:03.250Z  INFO  cgroup {x}\n",
	record(4, "i4", fallback), record(5, "i5", "x"), `{"message":"` + fallback + `","sandbox.id":"i6"}` + "\n",
	"x\n", "\n", fallback + "\n", "cgroup: cannot do it  {x}\n", "cgroup v9 failed\r\n", "falling back\n",
	"x  {\"sandbox.id\": \"i7\"}\n", fallback + "\r  {\"sandbox.id\": \"i8\"}\n", "cgroup v9 failed  {}\n",
	strings.Repeat("y", 10_000) + "\n", "cgroup " + strings.Repeat("z", 30_000) + "\n", strings.Repeat("y", 60_000) + "\n", strings.Repeat("x\n", 70), "no end",
}

// madeOf is the text of some kinds of lines, of which it takes few enough to keep
// clear of the bound of lines.
func madeOf(kinds []byte) string {
	var text strings.Builder
	for _, kind := range kinds[:min(len(kinds), 40)] {
		text.WriteString(lineKinds[int(kind)%len(lineKinds)])
	}
	return text.String()
}

// readPlainly reads a text as one would without a thought for speed: the findings
// of all lines that are looked at.
func readPlainly(text string) map[string]span {
	found := map[string]span{}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !strings.Contains(line, "cgroup") && !strings.Contains(line, "falling back") {
			continue
		}
		var whole logscan.Record
		if first, last := recordAround(lines, i); last >= 0 {
			cut, named, _ := logscan.CutFields([]byte(lines[last]))
			whole, whole.Time = named, logscan.TimeOf([]byte(lines[first]))
			if last == i {
				line = string(cut)
			}
		}
		for _, record := range logscan.Records([]byte(line)) {
			rule := logscan.Classify(record)
			if rule == nil || rule.Class == evidence.FindingBenign || rule.Class == evidence.FindingControl {
				continue
			}
			name, at := rule.ID+" of "+stdcmp.Or(whole.SandboxID, record.SandboxID), whole.Time
			if !record.Time.IsZero() {
				at = record.Time
			}
			f := found[name]
			if f.count++; !at.IsZero() && (f.first.IsZero() || at.Before(f.first)) {
				f.first = at
			}
			if at.After(f.last) {
				f.last = at
			}
			found[name] = f
		}
	}
	return found
}

// span is how many lines were found, and the times of the first and the last.
type span struct {
	count       int
	first, last time.Time
}

// recordAround is the first and the last line of the record of several lines that
// a line is a part of; last is -1 where there is none.
func recordAround(lines []string, i int) (first, last int) {
	size := 0
	for first = i; ; first-- {
		if first < 0 {
			return 0, -1
		}
		size += len(lines[first])
		if begins, whole := logscan.Begins([]byte(lines[first])); whole {
			return first, -1
		} else if begins {
			break
		}
		if _, _, ended := logscan.CutFields([]byte(lines[first])); ended && first < i {
			return first, -1
		}
	}
	for last = i; last < len(lines); last++ {
		begins, _ := logscan.Begins([]byte(lines[last]))
		if last > i {
			size += len(lines[last])
		}
		if begins && last > first || last-first >= logscan.MaxRecordLines || size > logscan.MaxRecordBytes {
			break
		}
		if _, _, ended := logscan.CutFields([]byte(lines[last])); ended && last > first {
			return first, last
		}
	}
	return first, -1
}

// checkPlainly scans a text, as it is and packed, and wants what readPlainly finds.
func checkPlainly(t *testing.T, text string) {
	t.Helper()
	want := readPlainly(text)
	for name, data := range map[string]string{"x.log": text, "x.log.gz": pack(t, text)} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, name), data)
		r, err := Scan(t.Context(), []string{dir}, Options{Redactor: redact.New()})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]span{}
		for _, f := range r.Findings {
			got[f.Rule+" of "+f.Sandbox] = span{f.Count, f.First, f.Last}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(span{})); diff != "" {
			t.Errorf("%s: other findings in %.2000q, -want +got:\n%s", name, text, diff)
		}
	}
}

// FuzzScanEqualsAPlainReading: a search for words that looks around the lines with
// one finds what a reading of all lines does.
func FuzzScanEqualsAPlainReading(f *testing.F) {
	for i := range byte(len(lineKinds)) {
		f.Add([]byte{i, 8, 12})
		f.Add([]byte{0, 10, i, 13, 8})
		f.Add([]byte{1, 15, 16, 16, i, 8, 12})
	}
	f.Fuzz(func(t *testing.T, kinds []byte) { checkPlainly(t, madeOf(kinds)) })
}

// TestLineBehindALargeRecord: a line of a record that is too large is read by itself.
func TestLineBehindALargeRecord(t *testing.T) {
	for _, size := range []int{1, logscan.MaxRecordBytes - 1000, logscan.MaxRecordBytes - 100} {
		begun := "2026-01-20T10:00:01.250Z  INFO  x\n" + strings.Repeat("y", size) + "\n"
		checkPlainly(t, begun+"cgroup failed "+strings.Repeat("z", 10_000)+"\nx  {}\n")
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
