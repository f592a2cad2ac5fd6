package logscan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// benchLog is a log as a busy node writes it: one line in a hundred is of our
// sandbox, one in a thousand speaks of cgroups.
func benchLog(size int) string {
	var text strings.Builder
	for i := 0; text.Len() < size; i++ {
		switch {
		case i%1000 == 500:
			text.WriteString(record("iours", fallback))
		case i%100 == 50:
			text.WriteString(record("iours", "[    1.234567] random: crng init done"))
		case i%2 == 0:
			line := inJSON("message", "timestamp", fmt.Sprintf("handled request %d in 12.5 ms with the usual words around it", i))
			text.WriteString(strings.Replace(line, "iours", "iother", 1) + "\n")
		default:
			text.WriteString(record("iother", fmt.Sprintf("[    1.234567] eth0: link %d becomes ready", i)))
		}
	}
	return text.String()
}

// BenchmarkRead is the exact read of a window: file to findings.
func BenchmarkRead(b *testing.B) {
	text := benchLog(8 << 20)
	path := filepath.Join(b.TempDir(), "orchestrator.stdout.0")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	stretch := &fileStretch{files: map[string]*held{
		path: {logFile: logFile{path: path, stream: "stdout"}, file: diskFile{file}, end: int64(len(text))},
	}}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		log := &evidence.Log{}
		s := newScan("iours", "", nil, redact.New(), log)
		stretch.Read(b.Context(), s.feed)
		s.finish()
		if len(log.Findings) == 0 {
			b.Fatal("nothing was found")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for name, line := range map[string]string{
		"console": strings.TrimSuffix(record("iours", failure), "\n"), "JSON": inJSON("message", "timestamp", failure), "raw": failure + "\r",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				Parse([]byte(line))
			}
		})
	}
}

func BenchmarkClassify(b *testing.B) {
	for name, message := range map[string]string{"failure": failure, "nothing": "handled request 17 in 12.5 ms with the usual words around it"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				Classify(Record{Message: message})
			}
		})
	}
}
