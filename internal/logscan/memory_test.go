package logscan

import (
	"io"
	"os"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// heap is what lives on the heap, in bytes.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestEndlessLine: a guest that prints 1 GiB without a line feed fills nobody's
// memory, neither the follower's nor the read's, and the line is told.
func TestEndlessLine(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GiB")
	}
	const (
		size   = 1 << 30
		bound  = 64 << 20
		piece  = 4 << 20
		looks  = 20 * time.Millisecond
		resist = 20 * time.Millisecond // between two pieces: some 200 MB/s
	)
	n := newNode(t)
	n.write("a", "orchestrator.stdout.0", "old\n")
	source := n.source()
	source.Poll = looks
	w, err := Open(t.Context(), []Source{source})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before, most := heap(), uint64(0)
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				most = max(most, heap())
			}
		}
	})
	file, err := os.OpenFile(n.path("a", "orchestrator.stdout.0"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	text, tick := strings.Repeat("x", piece), time.NewTicker(resist)
	defer tick.Stop()
	for range size / piece {
		if _, err := io.WriteString(file, text); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	log := n.read(w)
	close(stop)
	watching.Wait()
	if used := most - min(most, before); used > bound {
		t.Errorf("%d MiB of memory were used, want at most %d", used>>20, bound>>20)
	}
	if !slices.ContainsFunc(log.Findings, func(f evidence.Finding) bool { return f.Rule == oversizeRule.ID }) {
		t.Errorf("the line is not told: %+v", log)
	}
}
