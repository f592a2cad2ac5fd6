package image

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The image of the benchmark, in bytes: its size, and what it holds beside its
// init.
const (
	benchSize = 4 << 30
	benchData = 1 << 30
)

// BenchmarkPatch patches, with backup and full verification, a sparse image of
// 4 GiB that holds 1 GiB. Its measure is what a careful person would do by hand:
// "cp --sparse=always A B && sync B", and one SHA-256 over the data of both,
// which baseline-s has; x is the ratio, rss-MiB the process's own memory at its
// highest (RssAnon, proc(5)).
func BenchmarkPatch(b *testing.B) {
	dir := filepath.Join(b.TempDir(), testBuild)
	image := benchImage(b, dir)
	var patching, baseline time.Duration
	most := 0.0
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				most = max(most, rssAnon())
			}
		}
	}()
	for b.Loop() {
		evict(b, image)
		start := time.Now()
		byHand(b, image)
		baseline += time.Since(start)
		evict(b, image)
		build, err := Locate(dir, Storage{})
		if err != nil {
			b.Fatal(err)
		}
		start = time.Now()
		if _, err := Patch(b.Context(), build, Options{}, quietly); err != nil {
			b.Fatal(err)
		}
		patching += time.Since(start)
		if _, err := Undo(b.Context(), build, Options{}, quietlyUndo); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	<-stopped
	n := float64(b.N)
	b.ReportMetric(patching.Seconds()/n, "patch-s")
	b.ReportMetric(baseline.Seconds()/n, "baseline-s")
	b.ReportMetric(patching.Seconds()/baseline.Seconds(), "x")
	b.ReportMetric(most, "rss-MiB")
}

// benchImage makes the image.
func benchImage(b *testing.B, dir string) string {
	b.Helper()
	root := filepath.Join(b.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(root, "sbin"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sbin/init"), []byte(plainInit), 0o755); err != nil {
		b.Fatal(err)
	}
	data, err := os.Create(filepath.Join(root, "data"))
	if err != nil {
		b.Fatal(err)
	}
	defer data.Close()
	if _, err := io.CopyN(data, rand.NewChaCha8([32]byte{}), benchData); err != nil {
		b.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	image := filepath.Join(dir, "rootfs.ext4")
	if out, err := exec.CommandContext(b.Context(), "/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, image, strconv.Itoa(benchSize>>10)+"k").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	if err := os.RemoveAll(root); err != nil {
		b.Fatal(err)
	}
	return image
}

// byHand is the baseline.
func byHand(b *testing.B, image string) {
	b.Helper()
	by := image + ".by-hand"
	for _, args := range [][]string{{"cp", "--sparse=always", image, by}, {"sync", by}} {
		if out, err := exec.CommandContext(b.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	for _, name := range []string{image, by} {
		hashData(b, name)
	}
	if err := os.Remove(by); err != nil {
		b.Fatal(err)
	}
}

// hashData is one SHA-256 over the stretches of a file that hold data.
func hashData(b *testing.B, name string) {
	b.Helper()
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	for at := int64(0); ; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			break
		}
		if at, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE); err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(sum, io.NewSectionReader(f, data, at-data), make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
	}
}

// evict takes a file out of the page cache, so that both begin alike.
func evict(b *testing.B, name string) {
	b.Helper()
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

// rssAnon is the process's own memory, in MiB.
func rssAnon() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "RssAnon:")
	kib, err := strconv.ParseFloat(strings.Fields(after + " 0")[0], 64)
	if err != nil {
		return 0
	}
	return kib / 1024
}

// The digest says of every byte what it is, and nothing of holes.
func TestSparseDigest(t *testing.T) {
	dir := t.TempDir()
	of := func(name string, size int64, extents ...extent) string {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, e := range extents {
			if _, err := f.WriteAt([]byte(e.data), e.at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		sum, err := sparseDigest(t.Context(), f, nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := os.Create(filepath.Join(dir, "copy"))
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		copied, err := copyHashed(t.Context(), to, f, nil)
		if err != nil || copied != sum {
			t.Errorf("%s: copied %s, %v", name, copied, err)
		}
		if want, got := content(t, f.Name()), content(t, to.Name()); string(want) != string(got) {
			t.Errorf("%s: the copy is another", name)
		}
		return sum
	}
	const size = 3<<20 + 17
	zero := strings.Repeat("\x00", 2<<20)
	same := []string{
		of("a hole", size, extent{0, "x"}),
		of("zeros", size, extent{0, "x" + zero}),
		of("zeros at the end", size, extent{0, "x"}, extent{size - 100, zero[:100]}),
	}
	if same[0] != same[1] || same[0] != same[2] {
		t.Errorf("holes count: %v", same)
	}
	seen := map[string]string{same[0]: "a hole"}
	for name, sum := range map[string]string{
		"another byte":    of("1", size, extent{0, "y"}),
		"another place":   of("2", size, extent{1, "x"}),
		"a chunk later":   of("3", size, extent{chunkSize, "x"}),
		"a piece later":   of("4", size, extent{pieceSize, "x"}),
		"the last byte":   of("5", size, extent{0, "x"}, extent{size - 1, "x"}),
		"another size":    of("6", size+1, extent{0, "x"}),
		"nothing":         of("7", size),
		"nothing at all":  of("8", 0),
		"across a border": of("9", size, extent{pieceSize - 1, "xx"}),
	} {
		if other, ok := seen[sum]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[sum] = name
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := os.Open(filepath.Join(dir, "zeros"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancel()
	if _, err := sparseDigest(ctx, f, nil); err == nil {
		t.Error("given up, and yet a digest")
	}
}
