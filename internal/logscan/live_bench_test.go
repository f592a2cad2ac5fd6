package logscan

import (
	"strings"
	"testing"
)

// BenchmarkQueuePut is what the live view costs a follower for each line of
// somebody else's.
func BenchmarkQueuePut(b *testing.B) {
	line := strings.TrimSuffix(record("iother", "an ordinary line of an orchestrator, as nearly all are, of an ordinary length"), "\n")
	q := &queue{}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		q.put(line)
	}
}
