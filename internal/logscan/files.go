package logscan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	// Came tells of each text whether bytes that hold it came since it was last
	// asked; an empty text never does. It is what waiting for a quiet log looks
	// at, and nil where that cannot be told before the log is read.
	Came(texts ...[]byte) []bool
	// Seal sets the end mark of a window in which a sandbox lived.
	Seal(ctx context.Context, sandbox string) error
	// Read hands out every byte between the marks, in order for each stream,
	// and accounts for what was read and what is missing.
	Read(ctx context.Context, chunk func(stream, source string, offset int64, data []byte)) ([]evidence.Coverage, []string)
	// Late says what may be missing where the canary did not come out of this
	// very stretch; empty where every line is there once it was written.
	Late() string
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

// logFile is one file of the log, by its name.
type logFile struct {
	path   string
	stream string // directory and stream: the files of one index sequence
	index  int
}

// held is one file that is kept open, so that its removal loses nothing.
type held struct {
	logFile

	late   bool // it appeared after the mark, so it counts whole
	file   opened
	from   int64 // first byte that counts
	lineAt int64 // beginning of the line in which from lies
	seen   int64 // how far Came has looked
	end    int64 // the end mark
	fed    int64 // behind the last line feed that was looked for
	// last are the bytes before size, as they were at the last look.
	last   []byte
	size   int64
	follow *follower
}

// place is where a task's files lie: a file system, or behind Nomad's API.
type place interface {
	Name() string
	// list returns the task's files as they are now; where there is an error, too,
	// those that it could list all the same.
	list(ctx context.Context) ([]logFile, error)
	// open takes hold of one of them; os.ErrNotExist where it is gone.
	open(ctx context.Context, f logFile) (opened, error)
}

// opened is one file of a place.
type opened interface {
	io.ReaderAt
	io.Closer
	// size is the file's present size in bytes.
	size() (int64, error)
	// replaced tells whether the name has come to mean another file;
	// os.ErrNotExist where it means none.
	replaced() (bool, error)
	// follow starts the live view; nil where there is none.
	follow(from int64, see func(line string)) *follower
}

// diskFile is a file that is held by its descriptor.
type diskFile struct{ *os.File }

func (f diskFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// replaced implements opened.
func (f diskFile) replaced() (bool, error) {
	now, err := os.Stat(f.Name())
	if err != nil {
		return false, err
	}
	then, err := f.Stat()
	if err != nil {
		return false, err
	}
	return !os.SameFile(now, then), nil
}

func (f diskFile) follow(from int64, see func(string)) *follower { return follow(f.File, from, see) }

// fileStretch is the part of a task's files since a mark.
type fileStretch struct {
	place        place
	settle, poll time.Duration
	stop         context.CancelFunc
	done         chan struct{}
	recent       *queue // what the followers saw last

	mu       sync.Mutex
	files    map[string]*held
	final    map[string]bool // what was complete at the mark, and is not held
	looked   time.Time       // when the last whole look at the directories began
	troubles []string
	lost     int
}

// Open implements Source.
func (f Files) Open(ctx context.Context) (Stretch, error) {
	return mark(ctx, f, f.Settle, f.Poll, true)
}

// mark begins a stretch. The mark is taken twice, since the writer may hold
// bytes back that were logged before. What is complete already is held only
// where that costs nothing and its last line may go on in the next file: a node
// keeps thousands of files, and a process may hold few.
func mark(ctx context.Context, place place, settle, poll time.Duration, holdFinal bool) (*fileStretch, error) {
	if _, err := place.list(ctx); err != nil {
		return nil, err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := &fileStretch{
		place: place, settle: settle, poll: poll, done: make(chan struct{}), recent: &queue{},
		files: map[string]*held{}, final: map[string]bool{},
	}
	s.looked = time.Now()
	found, err := place.list(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b logFile) int { return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(b.index, a.index)) })
	stream := ""
	var next *held // the file behind this one, where it is held
	for _, f := range found {
		// A file is final as soon as the next index exists: only the newest
		// is worth following.
		live := f.stream != stream
		if live {
			stream, next = f.stream, nil
		}
		if !live && (!holdFinal || next == nil || next.lineAt > 0) {
			s.final[f.path], next = true, nil
			continue
		}
		err := s.hold(ctx, f, false, live)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.Close()
			return nil, err
		}
		next = s.files[f.path]
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.watch(watching)
	return s, nil
}

var fileName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(.+)\.(stdout|stderr)\.([0-9]{1,9})$`) })

// list returns the task's log files: regular files by their own name, since
// the directory holds FIFOs as well, which must never be opened.
func (f Files) list(context.Context) ([]logFile, error) {
	dirs, err := expand(f.Dirs)
	if err != nil {
		return nil, fmt.Errorf("find the log directories %q: %w; sandproof must be able to read every allocation", f.Dirs, err)
	}
	var files []logFile
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // an allocation that was just collected
		}
		if err != nil {
			return nil, fmt.Errorf("list the logs: %w; sandproof must be able to read the orchestrator's allocation", err)
		}
		for _, entry := range entries {
			if file, ok := logFileOf(dir, entry.Name(), f.Task); ok && entry.Type().IsRegular() {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// logFileOf reads the name of a file in a directory of logs; false where it is
// none of the task's.
func logFileOf(dir, name, task string) (logFile, bool) {
	match := fileName().FindStringSubmatch(name)
	if match == nil || match[1] != task {
		return logFile{}, false
	}
	index, err := strconv.Atoi(match[3])
	return logFile{path: filepath.Join(dir, name), stream: filepath.Join(dir, match[2]), index: index}, err == nil
}

// open implements place.
func (f Files) open(_ context.Context, l logFile) (opened, error) {
	// Without blocking, should the name have become a FIFO in between.
	file, err := os.OpenFile(l.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", l.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log: %w", err), file.Close())
	}
	return diskFile{file}, nil
}

// expand finds the directories that a glob means. Other than filepath.Glob it
// reports a directory that it may not look into: an allocation passed over in
// silence would make its silence look like health.
func expand(pattern string) ([]string, error) {
	parent, last := filepath.Split(filepath.Clean(pattern))
	parents := []string{parent}
	if strings.ContainsAny(parent, `*?[\`) {
		var err error
		if parents, err = expand(parent); err != nil {
			return nil, err
		}
	}
	var found []string
	for _, dir := range parents {
		names := []string{last}
		if strings.ContainsAny(last, `*?[\`) {
			var err error
			if names, err = matching(dir, last); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			path := filepath.Join(dir, name)
			info, err := os.Stat(path)
			switch {
			case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			case err != nil:
				return nil, err
			case info.IsDir():
				found = append(found, path)
			}
		}
	}
	return found, nil
}

// matching lists the names in a directory that a pattern without a slash
// matches; none where the directory is gone.
func matching(dir, pattern string) ([]string, error) {
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		matched, err := filepath.Match(pattern, entry.Name())
		if err != nil {
			return nil, err
		}
		if matched {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// hold opens a file and keeps it. At the mark only what comes after its
// present end counts; a late file, which appears after it, counts whole.
func (s *fileStretch) hold(ctx context.Context, f logFile, late, live bool) error {
	file, err := s.place.open(ctx, f)
	if err != nil {
		return err
	}
	h := &held{logFile: f, late: late, file: file}
	if !late {
		if h.from, err = file.size(); err == nil {
			h.lineAt, err = lineStart(file, h.from)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read the log %s: %w", f.path, err), file.Close())
		}
	}
	h.seen, h.fed, h.size = h.from, h.from, h.from
	s.steady(h)
	s.files[f.path] = h
	if !live {
		return nil
	}
	if endless, err := h.endless(); !endless && err == nil {
		h.follow = file.follow(h.from, s.recent.put)
	}
	return nil
}

// endless tells whether a file ends in a line that is longer than any may be.
func (h *held) endless() (bool, error) {
	size, err := h.file.size()
	if err != nil || size-h.fed <= maxLine {
		return false, err
	}
	last := make([]byte, maxLine)
	if _, err := h.file.ReadAt(last, size-maxLine); err != nil {
		return false, err
	}
	at := bytes.LastIndexByte(last, '\n')
	if at >= 0 {
		h.fed = size - maxLine + int64(at) + 1
	}
	return at < 0, nil
}

// curb stops following a file that ends in an endless line: the library would
// keep all of it in memory. The exact read needs no more than a part.
func (s *fileStretch) curb(h *held) {
	if h.follow == nil || h.follow.stopped {
		return
	}
	endless, err := h.endless()
	if err != nil {
		s.troublef("read %s: %v", h.path, err)
	}
	if endless {
		h.follow.stop()
	}
}

// lineStart finds the beginning of the line in which an offset lies, looking
// back as far as a line may be long.
func lineStart(file io.ReaderAt, offset int64) (int64, error) {
	const look = 16 << 10
	at := offset
	for at > max(0, offset-maxLine) {
		data := make([]byte, min(at, look))
		if _, err := file.ReadAt(data, at-int64(len(data))); err != nil {
			return 0, err
		}
		if feed := bytes.LastIndexByte(data, '\n'); feed >= 0 {
			return at - int64(len(data)) + int64(feed) + 1, nil
		}
		at -= int64(len(data))
	}
	return at, nil
}

// watch looks for new files until the stretch is sealed: the next index, or a
// new allocation.
func (s *fileStretch) watch(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(s.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.discover(ctx)
		}
	}
}

// missedLooks is for how many pauses nobody may look at the directories. An
// allocation that comes and goes in between leaves no trace; Nomad keeps one for
// longer than that.
const missedLooks = 50

func (s *fileStretch) discover(ctx context.Context) {
	began := time.Now()
	found, err := s.place.list(ctx)
	if ctx.Err() != nil {
		return // the look was given up, and another one follows
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.troublef("%v", err)
	} else {
		if gap := time.Since(s.looked); gap > missedLooks*s.poll+s.settle {
			s.troublef("nobody looked at %s for %s: an allocation may have come and gone unseen", s.place.Name(), gap.Round(time.Millisecond))
		}
		s.looked = began
	}
	for _, f := range found {
		if s.final[f.path] {
			continue
		}
		if h, known := s.files[f.path]; known {
			s.sameFile(h)
			s.steady(h)
			s.curb(h)
			continue
		}
		// One that is gone already had lines of this window.
		if err := s.hold(ctx, f, true, true); err != nil {
			s.troublef("%s came after the mark and could not be held: %v", f.path, err)
		}
	}
}

// sameFile notes when a path has come to mean another file.
func (s *fileStretch) sameFile(h *held) {
	other, err := h.file.replaced()
	switch {
	case errors.Is(err, os.ErrNotExist): // it is held, or reading it will fail
	case err != nil:
		s.troublef("look at %s: %v", h.path, err)
	case other:
		s.troublef("%s was replaced by another file of its name", h.path)
	}
}

// witness is by how many bytes at its end a file is known to be what it was.
const witness = 64

// steady notes when a file lost what it had, and also where it has grown again
// since. Behind Nomad's API a file is known by its beginning (replaced).
func (s *fileStretch) steady(h *held) {
	if _, onDisk := h.file.(diskFile); !onDisk {
		return
	}
	size, err := h.file.size()
	if err != nil {
		return // whoever reads the file tells
	}
	now := make([]byte, len(h.last))
	if _, err := h.file.ReadAt(now, h.size-int64(len(now))); size < h.size || err != nil || !bytes.Equal(now, h.last) {
		s.troublef("%s was cut or written anew below byte %d", h.path, h.size)
	}
	h.size, h.last = size, make([]byte, min(size, witness))
	if _, err := h.file.ReadAt(h.last, size-int64(len(h.last))); err != nil {
		h.last = nil
	}
}

// troublef notes, once, something that makes the read incomplete.
func (s *fileStretch) troublef(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.troubles, text) {
		s.troubles = append(s.troubles, text)
	}
}

// Came implements Stretch.
func (s *fileStretch) Came(texts ...[]byte) []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	came := make([]bool, len(texts))
	for _, h := range s.files {
		size := s.size(h)
		if size <= h.seen {
			continue
		}
		// From a little before, should a text have been cut.
		from := max(h.from, h.seen-overlap(texts))
		if err := search(h.file, from, size, texts, came); err != nil {
			s.troublef("read %s: %v", h.path, err)
		}
		h.seen = size
	}
	return came
}

// size looks at a file's present size. Nomad never cuts a file, so one that
// shrank has lost what was in it.
func (s *fileStretch) size(h *held) int64 {
	size, err := h.file.size()
	if err != nil {
		s.troublef("look at %s: %v", h.path, err)
		return h.seen
	}
	if size < h.seen {
		s.troublef("%s was cut from %d to %d bytes", h.path, h.seen, size)
	}
	return size
}

// overlap is how much of what was looked at before can belong to a text that
// ends in what comes now, in bytes.
func overlap(texts [][]byte) int64 {
	longest := 1
	for _, text := range texts {
		longest = max(longest, len(text))
	}
	return int64(longest - 1)
}

// search notes which texts lie in a part of a file.
func search(file io.ReaderAt, from, to int64, texts [][]byte, found []bool) error {
	buffer := make([]byte, chunkSize)
	for from < to {
		n, err := file.ReadAt(buffer[:min(int64(len(buffer)), to-from)], from)
		for i, text := range texts {
			found[i] = found[i] || len(text) > 0 && bytes.Contains(buffer[:n], text)
		}
		if err != nil {
			return err
		}
		if from += int64(n); from < to {
			from -= overlap(texts) // a text may lie across two chunks
		}
	}
	return nil
}

// chunkSize is how much is read at once, in bytes.
const chunkSize = 256 << 10

// Seal implements Stretch: like the first mark, the end mark is the second of
// two looks.
func (s *fileStretch) Seal(ctx context.Context, _ string) error {
	select {
	case <-time.After(s.settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.stop()
	<-s.done
	s.discover(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.files {
		s.steady(h)
		h.end = max(h.from, s.size(h))
	}
	s.collected()
	return nil
}

// collected notes the streams that ended in a file that is gone. Nomad removes
// the oldest files and keeps the newest, so this one went with its allocation;
// and what was written between the last look and the removal was never seen. An
// allocation that wrote nothing in the window had ended before it.
func (s *fileStretch) collected() {
	newest := map[string]*held{}
	for _, h := range s.files {
		if last := newest[h.stream]; last == nil || last.index < h.index {
			newest[h.stream] = h
		}
	}
	for _, h := range newest {
		_, err := h.file.replaced()
		if errors.Is(err, os.ErrNotExist) && (h.late || h.end > h.from) {
			s.troublef("%s, the newest of its allocation, was removed: files after it may have come and gone unseen", h.path)
		}
	}
}

// Read implements Stretch.
func (s *fileStretch) Read(ctx context.Context, chunk func(stream, source string, offset int64, data []byte)) ([]evidence.Coverage, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := slices.SortedFunc(maps.Values(s.files), func(a, b *held) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.index, b.index))
	})
	if len(files) == 0 {
		s.troublef("%s", nothing(s.place))
	}
	s.missing(files)
	var coverage []evidence.Coverage
	var unfinished carry
	buffer := make([]byte, chunkSize)
	giveUp := time.Now().Add(followGrace)
	stream := ""
	for i, h := range files {
		if i == 0 || files[i-1].stream != h.stream || files[i-1].index+1 != h.index {
			// After a gap a line begins that has nothing to do with the one that
			// was open before it.
			unfinished, stream = nil, h.path
		}
		if h.lineAt > 0 {
			unfinished = nil // the line before ended in this file
		}
		if h.lineAt < h.from {
			data := make([]byte, h.from-h.lineAt)
			if _, err := h.file.ReadAt(data, h.lineAt); err != nil {
				s.troublef("read %s at %d: %v", h.path, h.lineAt, err)
			}
			unfinished = append(unfinished, piece{h.path, h.lineAt, data})
		}
		at, lines := h.from, 0
		for at < h.end && ctx.Err() == nil {
			n, err := h.file.ReadAt(buffer[:min(int64(len(buffer)), h.end-at)], at)
			if n > 0 {
				unfinished.handOut(stream, chunk)
				unfinished = nil
				lines += bytes.Count(buffer[:n], []byte("\n"))
				chunk(stream, h.path, at, buffer[:n])
				at += int64(n)
			}
			if err != nil && (!errors.Is(err, io.EOF) || at != h.end) {
				s.troublef("read %s at %d: %v", h.path, at, err)
				break
			}
		}
		if ctx.Err() != nil {
			s.troublef("the read of %s was given up: %v", h.path, context.Cause(ctx))
		}
		if at > h.from {
			coverage = append(coverage, evidence.Coverage{Source: h.path, From: h.from, To: at})
		}
		if _, followed := h.file.(diskFile); followed {
			s.lost += max(0, lines-h.follow.await(ctx, lines, giveUp))
		}
	}
	if len(coverage) == 0 {
		coverage = latest(files)
	}
	return coverage, s.troubles
}

// nothing says that a place holds no log of its task, and what it holds instead.
func nothing(p place) string {
	said := "there is no log file " + p.Name()
	f, onDisk := p.(Files)
	if !onDisk {
		return "there is no log file of " + p.Name()
	}
	dirs, err := expand(f.Dirs)
	switch {
	case err != nil:
		return fmt.Sprintf("%s: %v", said, err)
	case len(dirs) == 0:
		return fmt.Sprintf("%s: no directory is called %s; name the directories in which Nomad keeps the logs of allocations, such as "+
			"/opt/nomad/data/alloc/*/alloc/logs", said, f.Dirs)
	}
	var tasks []string
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // what cannot be read was an error at the mark
		for _, entry := range entries {
			if match := fileName().FindStringSubmatch(entry.Name()); match != nil && !slices.Contains(tasks, match[1]) {
				tasks = append(tasks, match[1])
			}
		}
	}
	if len(tasks) == 0 {
		return fmt.Sprintf("%s: %s is there, and holds no file that is called as Nomad calls logs", said, dirs[0])
	}
	slices.Sort(tasks)
	const shown = 10
	if more := len(tasks) - shown; more > 0 {
		tasks = append(tasks[:shown], fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("%s: there are logs of other tasks, %s", said, strings.Join(tasks, ", "))
}

// empty is an error where no log was there at the mark.
func (s *fileStretch) empty() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) > 0 || len(s.final) > 0 {
		return nil
	}
	return errors.New(nothing(s.place))
}

// latest is the ledger of files that nothing came into: the one that was written
// to last, which tells whoever reads it that it may be the wrong one.
func latest(files []*held) []evidence.Coverage {
	var last []evidence.Coverage
	for _, h := range files {
		c := evidence.Coverage{Source: h.path, From: h.from, To: h.from}
		if f, onDisk := h.file.(diskFile); onDisk {
			if info, err := f.Stat(); err == nil {
				c.Written = info.ModTime().UTC()
			}
		}
		// A stream that was never used is of its allocation's age, too.
		if last == nil || h.from > 0 && (last[0].From == 0 || !c.Written.Before(last[0].Written)) {
			last = []evidence.Coverage{c}
		}
	}
	return last
}

// missing notes the files that came and went unseen. Indices rise one by one
// from 0, so a late file tells of those before it; gaps between files that
// were there at the mark are older than the window.
func (s *fileStretch) missing(files []*held) {
	for i, h := range files {
		expected := 0
		if i > 0 && files[i-1].stream == h.stream {
			expected = files[i-1].index + 1
		}
		if h.late && h.index != expected {
			s.troublef("%s begins at index %d, where %d was expected: files came and were removed unseen", h.path, h.index, expected)
		}
	}
}

// piece is a part of a line that was written before the mark.
type piece struct {
	source string
	offset int64
	data   []byte
}

// carry is the line that had begun at the mark, in one file or in several. It
// counts only when it goes on after the mark: a torn line that an allocation
// left behind long ago is not of this window.
type carry []piece

func (c carry) handOut(stream string, chunk func(stream, source string, offset int64, data []byte)) {
	for _, p := range c {
		chunk(stream, p.source, p.offset, p.data)
	}
}

// Late implements Stretch: a file holds what was written to it.
func (s *fileStretch) Late() string { return "" }

// TailLost implements Stretch.
func (s *fileStretch) TailLost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// live implements follows.
func (s *fileStretch) live() *queue { return s.recent }

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
