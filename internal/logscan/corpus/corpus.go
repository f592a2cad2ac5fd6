// Package corpus makes logs like those of a busy node, for benchmarks: the same
// bytes for the same seed.
package corpus

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// poolSize is how many different lines there are; making each anew would take
// longer than writing it.
const poolSize = 20_000

// Corpus is an endless log.
type Corpus struct {
	random *rand.Rand
	pool   [][]byte
	hits   [][]byte
	every  int
}

// New makes a log in which one line of every so many speaks of cgroups: half of
// those are failures, half mean no harm.
func New(seed uint64, every int) *Corpus {
	c := &Corpus{random: rand.New(rand.NewPCG(seed, 0)), every: every} //nolint:gosec // a corpus is to be made again
	for range poolSize {
		c.pool = append(c.pool, []byte(c.line()))
	}
	for i := range 100 {
		for _, text := range []string{
			"failed to write cgroup property: open /sys/fs/cgroup/user/cpu.weight: permission denied", "falling back to no-op cgroup manager",
			"✓ Filesystems mounted (with cgroup delegation)", "[    0.012345] cgroup: Disabling memory control group subsystem",
		} {
			c.hits = append(c.hits, []byte(c.guest(text, fmt.Sprintf("i%019d", i))))
		}
	}
	return c
}

// next is the log's next line, with its end.
func (c *Corpus) next() []byte {
	if c.random.IntN(c.every) == 0 {
		return c.hits[c.random.IntN(len(c.hits))]
	}
	return c.pool[c.random.IntN(len(c.pool))]
}

// line is one of the shapes in which lines come: the orchestrator's own in JSON
// and in console form, a guest's in a record, and a guest's as it is.
func (c *Corpus) line() string {
	sandbox := fmt.Sprintf("i%019d", c.random.IntN(100))
	switch n := c.random.IntN(100); {
	case n < 55:
		data, err := json.Marshal(map[string]any{
			"level": "info", "timestamp": c.stamp(), "message": c.words(10 + c.random.IntN(70)), "service": "orchestrator", "sandbox.id": sandbox,
		})
		if err != nil {
			panic(err) // of text and numbers there is always JSON
		}
		return string(data) + "\n"
	case n < 75:
		return c.stamp() + "  \x1b[34mINFO\x1b[0m  " + c.words(5+c.random.IntN(40)) + fields(sandbox)
	case n < 90:
		return c.guest(c.words(3+c.random.IntN(15)), sandbox)
	default:
		return fmt.Sprintf("[%12.6f] %s\r\n", c.random.Float64()*100, c.words(3+c.random.IntN(15)))
	}
}

// guest is a guest's console line in a record.
func (c *Corpus) guest(text, sandbox string) string {
	return c.stamp() + "  \x1b[34mINFO\x1b[0m  " + text + "\r" + fields(sandbox)
}

func fields(sandbox string) string {
	return fmt.Sprintf("  {\"service\": \"orchestrator\", \"internal\": true, \"pid\": 4711, \"sandbox.id\": %q, \"template.id\": \"tpl\"}\n", sandbox)
}

func (c *Corpus) stamp() string {
	const day = 24 * 60 * 60 * 1000
	return time.UnixMilli(1768867200000 + c.random.Int64N(day)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// vocabulary is what such logs speak of.
var vocabulary = strings.Fields(`sandbox request handled created memory network interface link becomes ready listening on port
	template build cache chunk block device nbd connected proxy route envd initialized snapshot resumed paused metrics balloon
	virtio_blk random: crng done loaded module usb clocksource switched registered driver timeout retrying after 12.5ms 200 OK GET
	/v1/health POST /init 10.11.0.17:49983 error=nil trace_id=4bf92f3577b34da6a3ce929d0e0e4736 duration_ms=17 bytes=4096`)

func (c *Corpus) words(n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = vocabulary[c.random.IntN(len(vocabulary))]
	}
	return strings.Join(words, " ")
}

// Write writes whole lines, up to a size in bytes.
func (c *Corpus) Write(w io.Writer, size int64) error {
	out := bufio.NewWriterSize(w, 1<<20)
	for n := int64(0); ; {
		line := c.next()
		if n += int64(len(line)); n > size {
			return out.Flush()
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}

// The layout of Nomad's logs, with its defaults (hashicorp/nomad, logs block).
const (
	nomadFile  = 10 << 20
	nomadFiles = 10
)

// WriteNomad writes allocations of a task below a directory.
func (c *Corpus) WriteNomad(dir string, size int64) error {
	for n := range int(size / nomadFile) {
		path := filepath.Join(dir, "alloc", fmt.Sprintf("alloc-%03d", n/nomadFiles), "alloc", "logs", fmt.Sprintf("orchestrator.stdout.%d", n%nomadFiles))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := c.WriteFile(path, nomadFile); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes one file of a size in bytes.
func (c *Corpus) WriteFile(path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(c.Write(file, size), file.Close())
}
