package history

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/logscan/search"
	"sandproof/internal/redact"
)

// corpusEnv names logs that are compared besides the test's own; make bench-log
// sets it.
const corpusEnv = "SANDPROOF_CORPUS"

// tally is what lines are compared by: how many there are, and the sum of their
// hashes, since ripgrep reads files side by side and in no order.
type tally struct {
	lines int
	bytes int64
	hash  uint64
}

func (n *tally) add(seed maphash.Seed, line []byte) {
	line = line[:min(len(line), search.MaxLine)] // no more is kept of a line
	n.lines++
	n.bytes += int64(len(line))
	n.hash += maphash.Bytes(seed, line)
}

// TestSameLinesAsRipgrep: the lines that are decoded are those that ripgrep
// finds, which a user would trust.
func TestSameLinesAsRipgrep(t *testing.T) {
	rg, err := exec.LookPath("rg")
	if err != nil {
		t.Skip("ripgrep is not installed (make bench-log installs it)")
	}
	corpora := []string{hostileLogs(t)}
	if given := os.Getenv(corpusEnv); given != "" {
		corpora = append(corpora, given)
	}
	for _, corpus := range corpora {
		seed := maphash.MakeSeed()
		got, want := ourLines(t, seed, corpus), ripgrepLines(t, seed, rg, corpus)
		if got != want || want.lines == 0 {
			t.Errorf("%s: sandproof decodes %+v, ripgrep finds %+v", corpus, got, want)
			continue
		}
		t.Logf("%s: %d lines of %d bytes, the same", filepath.Base(corpus), want.lines, want.bytes)
	}
}

// hostileLogs are what consoles carry besides text. No line goes on in the next
// file: ripgrep, which takes files one by one, would see two. And no file begins
// with FF FE or FE FF, where it reads UTF-16 and finds nothing.
func hostileLogs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	long := strings.Repeat("x", 1<<20)
	for i, text := range []string{
		"a cgroup\x00b\r\n\x00\nfalling back\r\n\x1b[31mcgroup\x1b[0m\r\nnone\r\n",
		long + " cgroup\n" + long + "\ncgroup " + long + "\n",
		"a\xff\xfe cgroup \xc3\n" + strings.Repeat("\n", 1000) + "falling back falling back cgroup\ncgrou\np\nfalling  back\nCGROUP\n",
		strings.Repeat("g", search.MaxLine-3) + "cgroup\n" + strings.Repeat("falling bac", 1000) + "k\n",
		"the last line has no end: cgroup",
	} {
		path := filepath.Join(dir, fmt.Sprintf("orchestrator.stdout.%d", 2*i)) // none is the next of another
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// ourLines are the lines of all units that a scan hands out.
func ourLines(t *testing.T, seed maphash.Seed, corpus string) (n tally) {
	t.Helper()
	files, troubles, err := find(t.Context(), []string{corpus})
	if err != nil || len(troubles) > 0 {
		t.Fatal(err, troubles)
	}
	s := newScan(Options{Redactor: redact.New()})
	units := make(chan unit)
	go func() {
		defer close(units)
		for stream := range byStream(files) {
			s.stream(t.Context(), stream, units)
		}
	}()
	scanner := search.New()
	for u := range units {
		if _, err := scanner.Scan(io.NewSectionReader(u.text, u.from, u.to-u.from), u.from, func(l search.Line) { n.add(seed, l.Data) }); err != nil {
			t.Error(err)
		}
		u.done()
	}
	return n
}

func ripgrepLines(t *testing.T, seed maphash.Seed, rg, corpus string) (n tally) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rg, "-a", "-uuu", "--no-filename", "--no-line-number", "--color=never", "cgroup|falling back", corpus)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(out, 2<<20)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			n.add(seed, bytes.TrimSuffix(line, []byte("\n")))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return n
}
