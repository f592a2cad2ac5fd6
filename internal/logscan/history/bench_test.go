package history

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sandproof/internal/redact"
)

// BenchmarkFollowLatency is how long it takes from a written line to its
// finding, of a log that is followed beside a thousand idle ones: the median and
// the 99th percentile, in milliseconds.
func BenchmarkFollowLatency(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		writeLog(b, filepath.Join(dir, fmt.Sprintf("alloc/%d/alloc/logs/orchestrator.stdout.0", i)), "hello\n")
	}
	busy := filepath.Join(dir, "alloc/0/alloc/logs/orchestrator.stdout.0")
	file, err := os.OpenFile(busy, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()

	seen := make(chan time.Time, 1)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Follow(ctx, []string{dir}, Options{Redactor: redact.New(), Seen: func(Finding) { seen <- time.Now() }})
		ended <- err
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	<-time.After(2 * followFind) // until it follows

	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		// Each at another phase of the looks, and of a sandbox of its own: a
		// finding is told once.
		<-time.After(time.Duration(i*37%100) * followLook / 100)
		written := time.Now()
		if _, err := fmt.Fprintf(file, "2026-01-20T10:00:01.250Z  INFO  falling back to no-op cgroup manager  {\"sandbox.id\": \"i%d\"}\n", i); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-seen).Sub(written))
	}
	slices.Sort(took)
	for name, share := range map[string]int{"p50-ms": 50, "p99-ms": 99} {
		b.ReportMetric(float64(took[min(len(took)-1, len(took)*share/100)])/float64(time.Millisecond), name)
	}
}

func writeLog(b *testing.B, path, text string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}
