package logscan

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// logmon writes as Nomad's rotator does (hashicorp/nomad client/logmon/logging,
// aa026cc99c): a new index when the next write does not fit, the oldest removed
// beyond a number of files, and flushes that respect no line.
type logmon struct {
	node    node
	random  *rand.Rand
	limit   int // bytes of one file
	keep    int
	alloc   int
	index   int
	written int
	open    *os.File
	total   int64
	pool    []string // lines to choose from, since making them takes longer than writing
	// life is how long an allocation lives at least, as a real one does: it is
	// seen, or it is told that nobody looked.
	life time.Duration
	born time.Time
}

func (l *logmon) file(index int) string { return fmt.Sprintf("orchestrator.stdout.%d", index) }

// write flushes a text in pieces of any size.
func (l *logmon) write(text string) {
	for text != "" {
		piece := text[:min(len(text), 1+l.random.IntN(64<<10))]
		text = text[len(piece):]
		if l.written > 0 && l.written+len(piece) > l.limit {
			l.close()
			l.index, l.written = l.index+1, 0
		}
		begun := l.open != nil
		if !begun {
			l.begin()
		}
		if _, err := l.open.WriteString(piece); err != nil {
			l.node.t.Fatal(err)
		}
		l.written += len(piece)
		l.total += int64(len(piece))
		if !begun && l.index >= l.keep {
			l.node.remove(l.node.path(l.name(), l.file(l.index-l.keep)))
		}
	}
}

// begin opens the next file.
func (l *logmon) begin() {
	l.node.write(l.name(), l.file(l.index), "")
	if l.index == 0 {
		l.born = time.Now()
	}
	var err error
	if l.open, err = os.OpenFile(l.node.path(l.name(), l.file(l.index)), os.O_APPEND|os.O_WRONLY, 0); err != nil {
		l.node.t.Fatal(err)
	}
}

func (l *logmon) close() {
	if l.open == nil {
		return
	}
	if err := l.open.Close(); err != nil {
		l.node.t.Fatal(err)
	}
	l.open = nil
}

func (l *logmon) name() string { return "alloc" + strconv.Itoa(l.alloc) }

// replace ends the allocation and begins another, on which the old one's
// directory may be collected.
func (l *logmon) replace() {
	if time.Since(l.born) < l.life {
		return
	}
	l.close()
	old := l.name()
	l.alloc, l.index, l.written = l.alloc+1, 0, 0
	if l.random.IntN(2) == 0 {
		l.node.remove(l.node.path(old, ""))
	}
}

// line is what stands between planted lines: others' records, huge lines, bytes
// that are no text, stack traces.
func (l *logmon) line() string {
	switch l.random.IntN(40) {
	case 0:
		return record("iother", strings.Repeat("x", 30<<10+l.random.IntN(150<<10)))
	case 1:
		return "\x00\x1b[31m\xff\x1b]0;title\x07\r\n"
	case 2:
		return "main.main\n\t/build/main.go:" + strconv.Itoa(l.random.IntN(999)) + "\n"
	default:
		return record("iother", strings.Repeat("noise ", l.random.IntN(60)))
	}
}

// TestTorture: over rotation, removal and replaced allocations at full speed
// every planted line is found once and in order, none is invented, and where one
// is missing the ledger tells of a hole. SANDPROOF_TORTURE is the number of
// seeds.
func TestTorture(t *testing.T) {
	seeds := 10
	if text := os.Getenv("SANDPROOF_TORTURE"); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil || seeds < 1 {
			t.Fatalf("SANDPROOF_TORTURE=%q: want a number of seeds, such as 200", text)
		}
	}
	base := uint64(time.Now().UnixNano())
	if text := os.Getenv("SANDPROOF_TORTURE_SEED"); text != "" {
		var err error
		if base, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SANDPROOF_TORTURE_SEED=%q: want a number that an earlier run printed", text)
		}
	}
	whole := 0
	for i := range seeds {
		seed := base + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			if torture(t, seed) {
				whole++
			}
		})
	}
	t.Logf("%d of %d windows were read whole; SANDPROOF_TORTURE=1 SANDPROOF_TORTURE_SEED=N repeats one", whole, seeds)
	if whole == 0 {
		t.Error("no window was read whole, so nothing was shown of a window without holes")
	}
}

// torture writes one log under a window, and tells whether it was read whole.
func torture(t *testing.T, seed uint64) bool {
	t.Helper()
	const planted = 100
	n := newNode(t)
	random := rand.New(rand.NewPCG(seed, 0))
	source := n.source()
	source.Settle, source.Poll = 10*time.Millisecond, time.Duration(4+random.IntN(5))*time.Millisecond
	l := &logmon{
		node: n, random: random, limit: 256<<10 + random.IntN(4<<20), keep: 3 + random.IntN(8),
		life: missedLooks*source.Poll + source.Settle,
	}
	defer l.close()
	for range 200 {
		l.pool = append(l.pool, l.line())
	}
	l.write(record("iold", fallback))
	w, err := Open(t.Context(), []Source{source})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	began := time.Now()
	for i := range planted {
		var text strings.Builder
		for range random.IntN(200) {
			text.WriteString(l.pool[random.IntN(len(l.pool))])
		}
		l.write(text.String() + record("iours", fmt.Sprintf(`cgroup property "p%d" unavailable at "/sys/fs/cgroup/user", skipping`, i)))
		if random.IntN(planted) == 0 {
			l.replace()
		}
	}
	t.Logf("%d MB at %.0f MB/s, over %d allocations", l.total/1e6, float64(l.total)/1e6/time.Since(began).Seconds(), l.alloc+1)
	w.Watch(t.Context(), "iours", Settling{Quiet: 30 * time.Millisecond, Cap: time.Minute, Poll: 5 * time.Millisecond})
	log, err := w.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkPlanted(t, log, planted)
	return len(log.Holes) == 0
}

func checkPlanted(t *testing.T, log *evidence.Log, planted int) {
	t.Helper()
	seen, last := map[int]bool{}, map[string]int{}
	for _, f := range log.Findings {
		if f.Class != evidence.FindingFailure {
			if len(log.Holes) == 0 {
				t.Errorf("%s was invented at %s:%d: %q", f.Rule, f.Source, f.Offset, f.Message)
			}
			continue
		}
		number, err := strconv.Atoi(strings.TrimPrefix(f.Property, "p"))
		switch {
		case err != nil || number >= planted || f.Confidence != evidence.ByField:
			t.Errorf("a finding was invented: %+v", f)
		case seen[number]:
			t.Errorf("finding %d came twice", number)
		}
		if before, known := last[f.Source]; known && number <= before {
			t.Errorf("in %s finding %d came after %d", f.Source, number, before)
		}
		seen[number], last[f.Source] = true, number
	}
	if len(seen) < planted && len(log.Holes) == 0 {
		t.Errorf("%d of %d findings are missing, and the ledger tells of no hole", planted-len(seen), planted)
	}
}
