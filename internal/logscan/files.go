package logscan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"sandproof/internal/evidence"
)

// Source is a place that holds the orchestrator's log.
type Source interface {
	// Name says which place it is, for people.
	Name() string
	// Open marks the log's end: what is written from then on is covered.
	Open(ctx context.Context) (Stretch, error)
}

// Stretch is the part of a source's log from its mark on.
type Stretch interface {
	// Grown tells whether bytes with the given text came since it was last
	// asked; it is what waiting for a quiet log looks at.
	Grown(text []byte) bool
	// Seal sets the end mark.
	Seal(ctx context.Context) error
	// Read hands out every byte between the marks, in order for each stream,
	// and accounts for what was read and what is missing.
	Read(ctx context.Context, chunk func(stream, source string, offset int64, data []byte)) ([]evidence.Coverage, []string)
	// TailLost counts lines that the live follower missed, once sealed.
	TailLost() int
	// Close lets go of files and followers.
	Close()
}

// Files is the log of one Nomad task in the file system, over all of its
// allocations.
type Files struct {
	// Dirs is a glob of alloc/logs directories, Task the task's name.
	Dirs, Task string
	// Settle is how long the writer may hold bytes back: logmon's 100 ms and
	// some. Marks are taken twice with this pause between.
	Settle time.Duration
	// Poll is how often new files are looked for.
	Poll time.Duration
}

// Name implements Source.
func (f Files) Name() string { return filepath.Join(f.Dirs, f.Task+".{stdout,stderr}.N") }

// held is one file that is kept open, so that its removal loses nothing.
type held struct {
	path   string
	stream string // directory and stream: the files of one index sequence
	index  int
	file   *os.File
	from   int64 // first byte that counts
	lineAt int64 // beginning of the line in which from lies
	seen   int64 // how far Grown has looked
	end    int64 // the end mark
	follow *follower
}

// fileStretch is the part of a task's files since a mark.
type fileStretch struct {
	source Files
	stop   context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	files    map[string]*held
	troubles []string
	lost     int
}

// Open implements Source. The mark is taken twice, since the writer may hold
// bytes back that were logged before.
func (f Files) Open(ctx context.Context) (Stretch, error) {
	if _, err := f.list(); err != nil {
		return nil, err
	}
	select {
	case <-time.After(f.Settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := &fileStretch{source: f, files: map[string]*held{}, done: make(chan struct{})}
	found, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, name := range found {
		if err := s.hold(name, true); err != nil {
			s.Close()
			return nil, err
		}
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.watch(watching)
	return s, nil
}

var fileName = regexp.MustCompile(`^(.+)\.(stdout|stderr)\.([0-9]{1,9})$`)

// list returns the task's log files: regular files by their own name, since
// the directory holds FIFOs as well, which must never be opened.
func (f Files) list() ([]string, error) {
	dirs, err := filepath.Glob(f.Dirs)
	if err != nil {
		return nil, fmt.Errorf("log directories %q: %w", f.Dirs, err)
	}
	var names []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // an allocation that was just collected
		}
		if err != nil {
			return nil, fmt.Errorf("list the logs: %w; sandproof must be able to read the orchestrator's allocation", err)
		}
		for _, entry := range entries {
			match := fileName.FindStringSubmatch(entry.Name())
			if match != nil && match[1] == f.Task && entry.Type().IsRegular() {
				names = append(names, filepath.Join(dir, entry.Name()))
			}
		}
	}
	return names, nil
}

// hold opens a file and keeps it. At the first mark only what comes after its
// present end counts; a file that appears later counts whole.
func (s *fileStretch) hold(path string, atMark bool) error {
	// Without blocking, should the name have become a FIFO in between.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open the log: %w", err), file.Close())
	}
	match := fileName.FindStringSubmatch(filepath.Base(path))
	index, err := strconv.Atoi(match[3])
	if err != nil {
		return errors.Join(fmt.Errorf("open the log: %w", err), file.Close())
	}
	h := &held{path: path, stream: filepath.Join(filepath.Dir(path), match[2]), index: index, file: file}
	if atMark {
		h.from = info.Size()
		if h.lineAt, err = lineStart(file, h.from); err != nil {
			return errors.Join(fmt.Errorf("read the log: %w", err), file.Close())
		}
	}
	h.seen = h.from
	h.follow = follow(path, h.from)
	s.files[path] = h
	return nil
}

// lineStart finds the beginning of the line in which an offset lies, looking
// back as far as a line may be long.
func lineStart(file *os.File, offset int64) (int64, error) {
	back := min(offset, maxLine)
	data := make([]byte, back)
	if _, err := file.ReadAt(data, offset-back); err != nil {
		return 0, err
	}
	return offset - back + int64(bytes.LastIndexByte(data, '\n')) + 1, nil
}

// watch looks for new files until the stretch is sealed: the next index, or a
// new allocation.
func (s *fileStretch) watch(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(s.source.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.discover()
		}
	}
}

func (s *fileStretch) discover() {
	found, err := s.source.list()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.trouble("%v", err)
		return
	}
	for _, path := range found {
		if h, known := s.files[path]; known {
			s.sameFile(h)
			continue
		}
		if err := s.hold(path, false); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.trouble("%v", err)
		}
	}
}

// sameFile notes when a path has come to mean another file.
func (s *fileStretch) sameFile(h *held) {
	now, err := os.Stat(h.path)
	then, heldErr := h.file.Stat()
	if err == nil && heldErr == nil && !os.SameFile(now, then) {
		s.trouble("%s was replaced by another file of its name", h.path)
	}
}

// trouble notes, once, something that makes the read incomplete.
func (s *fileStretch) trouble(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.troubles, text) {
		s.troubles = append(s.troubles, text)
	}
}

// Grown implements Stretch.
func (s *fileStretch) Grown(text []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := false
	for _, h := range s.files {
		info, err := h.file.Stat()
		if err != nil || info.Size() <= h.seen {
			continue
		}
		// From a little before, should the text have been cut.
		from := max(h.from, h.seen-int64(len(text)))
		found, err := contains(h.file, from, info.Size(), text)
		if err != nil {
			s.trouble("read %s: %v", h.path, err)
		}
		grown = grown || found
		h.seen = info.Size()
	}
	return grown
}

func contains(file *os.File, from, to int64, text []byte) (bool, error) {
	buffer := make([]byte, chunkSize)
	for from < to {
		n, err := file.ReadAt(buffer[:min(int64(len(buffer)), to-from)], from)
		if bytes.Contains(buffer[:n], text) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if from += int64(n); from < to {
			from -= int64(len(text)) // a match may lie across two chunks
		}
	}
	return false, nil
}

// chunkSize is how much is read at once, in bytes.
const chunkSize = 256 << 10

// Seal implements Stretch: like the first mark, the end mark is the second of
// two looks.
func (s *fileStretch) Seal(ctx context.Context) error {
	select {
	case <-time.After(s.source.Settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.stop()
	<-s.done
	s.discover()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.files {
		info, err := h.file.Stat()
		if err != nil {
			s.trouble("look at %s: %v", h.path, err)
			continue
		}
		h.end = info.Size()
		if h.end < h.from {
			s.trouble("%s was cut from %d to %d bytes", h.path, h.from, h.end)
			h.end = h.from
		}
	}
	return nil
}

// Read implements Stretch.
func (s *fileStretch) Read(ctx context.Context, chunk func(stream, source string, offset int64, data []byte)) ([]evidence.Coverage, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make([]*held, 0, len(s.files))
	for _, h := range s.files {
		files = append(files, h)
	}
	slices.SortFunc(files, func(a, b *held) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.index, b.index))
	})
	var coverage []evidence.Coverage
	buffer := make([]byte, chunkSize)
	for i, h := range files {
		if i > 0 && files[i-1].stream == h.stream && h.index != files[i-1].index+1 && h.from == 0 {
			s.trouble("between %s and %s files are missing: they came and were removed unseen", files[i-1].path, filepath.Base(h.path))
		}
		at, lines := h.lineAt, 0
		for at < h.end && ctx.Err() == nil {
			n, err := h.file.ReadAt(buffer[:min(int64(len(buffer)), h.end-at)], at)
			lines += bytes.Count(buffer[max(0, min(int64(n), h.from-at)):n], []byte("\n"))
			chunk(h.stream, h.path, at, buffer[:n])
			at += int64(n)
			if err != nil && !(errors.Is(err, io.EOF) && at == h.end) {
				s.trouble("read %s at %d: %v", h.path, at, err)
				break
			}
		}
		if ctx.Err() != nil {
			s.trouble("the read of %s was given up: %v", h.path, context.Cause(ctx))
		}
		if at > h.from {
			coverage = append(coverage, evidence.Coverage{Source: h.path, From: h.from, To: at})
		}
		s.lost += max(0, lines-h.follow.lines())
	}
	return coverage, s.troubles
}

// TailLost implements Stretch.
func (s *fileStretch) TailLost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Close implements Stretch.
func (s *fileStretch) Close() {
	if s.stop != nil {
		s.stop()
		<-s.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.files {
		h.follow.stop()
		_ = h.file.Close()
	}
	s.files = map[string]*held{}
}
