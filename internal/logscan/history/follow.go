package history

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"sandproof/internal/logscan/search"
)

// The pauses of Follow: between two looks at the newest file of each log that may
// have grown, and between two looks for new files and at all of them.
const (
	followLook = 100 * time.Millisecond
	followFind = time.Second
)

// lively is for how long after it grew a log is looked at for its next file as
// often as for what it grew by: a writer begins the next when one is full.
const lively = 10 * time.Second

// Follow goes on where Scan would end: it looks at what grows, at new files and
// at new allocations until the context ends, and reports on all of it. Lines
// that were there when it began do not count.
func Follow(ctx context.Context, paths []string, options Options) (Report, error) {
	s := newScan(options)
	s.report.Oldest = time.Now()
	f := newFollow(s, paths)
	defer f.close()
	files, troubles, err := f.finder.find(ctx, paths)
	if err != nil {
		return Report{}, err
	}
	for _, trouble := range troubles {
		s.note(trouble)
	}
	f.take(files, true)
	look, refresh := time.NewTicker(followLook), time.NewTicker(followFind)
	defer look.Stop()
	defer refresh.Stop()
	for {
		select {
		case <-look.C:
			f.look(false)
		case <-refresh.C:
			f.refresh(ctx)
		case <-ctx.Done():
			f.refresh(context.WithoutCancel(ctx))
			f.look(true)
			f.report.Newest = time.Now()
			return f.conclude(), nil
		}
	}
}

// follow is the logs that are looked at. It reads what comes by itself, since a
// follower for each file loses lines when files are removed under it.
type follow struct {
	*worker // one for all logs: its memory is what costs

	paths  []string
	finder *finder
	block  []byte // for lookIn
	head   []byte // for sameHead
	// current is what each stream is written to; tails are all that are looked
	// at: a log that was renamed may be written to until its writer opens the new
	// one.
	current map[string]*tailed
	tails   map[*tailed]bool
	// held are the open files, and by which watch: as long as one is open, no other
	// has its identity. watched are the logs to which the watches belong.
	held    map[identity]int
	watch   watch
	watched map[int]*tailed
	arrivals
}

func newFollow(s *scan, paths []string) *follow {
	f := &follow{
		worker: newWorker(s), paths: paths, finder: newFinder(), block: make([]byte, edge), head: make([]byte, maxHead),
		current: map[string]*tailed{}, tails: map[*tailed]bool{}, held: map[identity]int{},
		watch: newWatch(), watched: map[int]*tailed{}, arrivals: newArrivals(),
	}
	f.finder.held = func(id identity) bool { _, held := f.held[id]; return held }
	return f
}

// tailed is one log, from where it was found on.
type tailed struct {
	log    *log
	stream string
	newest int
	// rotated: there will be a next file. grown is when this one was seen to have
	// grown.
	rotated bool
	grown   time.Time
	// born is when the youngest of its files was made, as logFile has it. A lower
	// index that is younger begins the sequence anew: then what was made before
	// began is of the sequence before.
	born, began int64
	// watched: the newest file's watch tells when to look at it; due: it did, or
	// something else is a reason to.
	watched, due bool
	text         text
	read         int64 // up to here whole lines were read
	// skip: the open line is longer than any may be, and its rest says nothing.
	skip bool
	// waited is where the record begins for the end of which a look was waited.
	waited int64
	// head is how the newest file begins, and before how it did before it was cut:
	// by them a copy is known. What is in a copy has been read.
	head, before []byte
	copied       bool
}

// maxHead is how much of a file's beginning is remembered, in bytes.
const maxHead = 256

// refresh looks for new files.
func (f *follow) refresh(ctx context.Context) {
	files, troubles, err := f.finder.find(ctx, f.paths)
	if err != nil {
		troubles = append(troubles, err.Error())
	}
	for _, trouble := range troubles {
		f.note(trouble)
	}
	f.take(files, false)
	f.forget(files)
	for t := range f.tails {
		f.letGo(t)
		t.due = true
	}
}

// take takes up files that are not held; of those that were there at the
// beginning, what they hold is history.
func (f *follow) take(files []logFile, history bool) {
	var fresh []*tailed
	for _, file := range files {
		if file.packed {
			f.arrived(file, history)
			continue
		}
		if _, held := f.held[file.id]; held {
			continue
		}
		t := f.current[file.stream]
		switch {
		case t == nil:
			t = &tailed{newest: -1, log: f.of(file), stream: file.stream}
		case file.rotated && file.born < t.began, file.rotated && file.index < t.newest && file.born <= t.born:
			f.maybeAnew(t, file)
			continue // it was read, and is final
		case file.rotated && file.index < t.newest: // the sequence begins anew
			t = &tailed{newest: -1, log: t.log, stream: t.stream, began: t.born + 1}
		case file.index == t.newest: // the one that is held has another name now, or none
			t = &tailed{newest: file.index - 1, log: t.log, stream: t.stream, began: t.began, born: t.born}
		}
		if file.index != t.newest+1 && !history {
			f.uncoveredf("%s: the files %d to %d came and went unseen", file.stream, t.newest+1, file.index-1)
		}
		opened, size, err := open(file.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the gap before the next one tells
		}
		if err != nil {
			f.uncoveredf("read the log: %v", err)
			continue
		}
		if t.newest >= 0 && len(t.text.parts) > 0 {
			f.grow(t) // the file before is final now
			f.drop(t)
		}
		id, _ := identityOf(opened)
		f.held[id], f.tails[t], f.current[file.stream] = f.watch.add(opened), true, t
		t.watched, t.due = f.held[id] != noWatch, true
		if t.watched {
			f.watched[f.held[id]] = t
		}
		t.newest, t.head, t.rotated, t.born = file.index, nil, file.rotated, max(t.born, file.born)
		t.text.add(file.path, opened, size)
		fresh = append(fresh, t)
		f.report.Files++
		switch {
		case history:
			t.read = t.text.size
		case file.path != file.log && !file.rotated && f.isCopy(t, opened): // its own name is never a copy's
			t.copied = true
			f.uncoveredf("%s is a copy of a log that was followed, and was not read", file.path)
		}
	}
	// Only now: what came together with its like is a log as much as that.
	for _, t := range fresh {
		f.sameHead(t)
	}
}

// maybeAnew notes that a sequence may have begun anew: its newest file was
// removed, one of a lower index is there, and nothing tells when that was made.
func (f *follow) maybeAnew(t *tailed, file logFile) {
	if file.born != 0 {
		return
	}
	if _, named := identityOf(t.text.parts[len(t.text.parts)-1].file); !named {
		f.uncoveredf("%s was not read: the files after it were removed, and its file system does not tell whether it was made since", file.path)
	}
}

// isCopy tells whether a file that came begins as another of its log does or
// did: logrotate's copytruncate copies a log and cuts it then.
func (f *follow) isCopy(t *tailed, file *os.File) bool {
	head := make([]byte, maxHead)
	n, _ := file.ReadAt(head, 0) // its reading proper tells
	for other := range f.tails {
		for _, known := range [][]byte{other.head, other.before} {
			if other != t && other.log == t.log && len(known) > 0 && bytes.HasPrefix(head[:n], known) {
				return true
			}
		}
	}
	return false
}

// sameHead tells whether the newest file begins as it did, and remembers how.
func (f *follow) sameHead(t *tailed) bool {
	last := t.text.parts[len(t.text.parts)-1]
	head := f.head[:min(maxHead, last.size)]
	if n, err := last.file.ReadAt(head, 0); n < len(head) && err != nil {
		return true // the reading proper tells
	}
	if !bytes.HasPrefix(head, t.head) {
		return false
	}
	t.head = append(t.head, head[len(t.head):]...)
	return true
}

// drop lets go of files that were read to their end.
func (f *follow) drop(t *tailed) {
	if t.read < t.text.size {
		return // a line goes on in the next file
	}
	f.remember(t)
	f.closeFiles(t.text.parts)
	t.text = text{size: t.text.size}
}

// letGo ends what was replaced under its name and was removed since.
func (f *follow) letGo(t *tailed) {
	if f.current[t.stream] == t {
		return
	}
	last := t.text.parts[len(t.text.parts)-1]
	if _, named := identityOf(last.file); named {
		return
	}
	f.lookAtOne(t, true)
	f.remember(t)
	f.closeFiles(t.text.parts)
	delete(f.tails, t)
}

func (f *follow) closeFiles(parts []part) {
	for _, p := range parts {
		id, _ := identityOf(p.file)
		f.watch.remove(f.held[id])
		delete(f.watched, f.held[id])
		delete(f.held, id)
		_ = p.file.Close()
	}
}

// look reads what came; at the end also a line that has none.
func (f *follow) look(end bool) {
	ids, all := f.watch.written()
	for _, id := range ids {
		if t := f.watched[id]; t != nil {
			t.due = true
		}
	}
	for t := range f.tails {
		if t.due || all || end || !t.watched || t.read < t.text.size {
			f.lookAtOne(t, end)
			t.due = false
		}
		for t.rotated && time.Since(t.grown) < lively && f.next(t) {
			f.lookAtOne(t, end)
		}
	}
}

func (f *follow) lookAtOne(t *tailed, end bool) {
	if !t.copied && f.grow(t) {
		f.read(t, end)
	}
}

// next takes up a log's next file, and tells whether there is one.
func (f *follow) next(t *tailed) bool {
	index := t.newest + 1
	file := fileOf(t.stream + "." + strconv.Itoa(index))
	info, err := os.Lstat(file.path)
	if f.current[t.stream] != t || err != nil || !info.Mode().IsRegular() {
		return false // refresh tells of trouble
	}
	if err := file.identify(); err != nil {
		return false
	}
	f.take([]logFile{file}, false)
	return t.newest == index
}

// grow notes the newest file's present size, and tells whether there is
// anything to read.
func (f *follow) grow(t *tailed) bool {
	last := &t.text.parts[len(t.text.parts)-1]
	// This is asked of a thousand files ten times a second. It costs half of what
	// Stat does, and file systems answer it as surely.
	size, err := last.file.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
		f.uncoveredf("look at %s: %v", last.path, err)
	case size < last.size, (size > last.size || t.due) && !f.sameHead(t):
		f.uncoveredf("%s was cut while it was followed: what was written shortly before may not have been read", last.path)
		f.closeFiles(t.text.parts[:len(t.text.parts)-1])
		anew := text{}
		anew.add(last.path, last.file, size)
		t.text, t.read, t.skip, t.waited = anew, 0, false, 0
		t.before, t.head = t.head, nil
		f.sameHead(t)
	case size > last.size:
		t.grown = time.Now()
		t.text.size += size - last.size
		last.size = size
		f.sameHead(t)
	}
	return t.text.size > t.read
}

// read reads the whole lines that came; at the end all.
func (f *follow) read(t *tailed, all bool) {
	whole, err := t.text.size, error(nil)
	if !all {
		whole, err = lastLine(&t.text, t.read, t.text.size)
	}
	end, long := whole, t.text.size-whole > search.MaxLine
	if err == nil && !all && !long { // what comes after a line that is passed over is no record's end
		end = f.await(t, whole)
	}
	if err == nil && end > t.read {
		var n int64
		from := t.read
		f.log = t.log
		n, err = f.scanner.Scan(io.NewSectionReader(&t.text, from, end-from), from, func(l search.Line) {
			if t.skip && l.Offset == from {
				return // the rest of a line that was told already
			}
			path, offset := t.text.at(l.Offset)
			f.line(&t.text, l, path, offset)
		})
		f.report.Bytes += n
		if !t.log.journal {
			head := f.block[:min(near, end-from)]
			n, _ := t.text.ReadAt(head, from) // what reads all of it tells of errors
			f.mind(t.log, head[:n])
		}
		if err == nil && !t.log.settled() {
			err = f.lookIn(t.log, io.NewSectionReader(&t.text, from, end-from), f.block, func(offset int64) place {
				path, inFile := t.text.at(from + offset)
				return place{path, inFile}
			})
		}
		t.read, t.skip = end, false
	}
	if err == nil && long {
		if !t.skip {
			path, offset := t.text.at(whole)
			f.uncoveredf("the line at %d of %s is longer than %d bytes, and was not read", offset, path, search.MaxLine)
		}
		t.read, t.skip = t.text.size, true
	}
	if err != nil {
		f.uncoveredf("read the log: %v", err)
		t.read = t.text.size
	}
}

// await leaves a record for the next look, once, whose fields have not come: it
// is known by them whose it is.
func (f *follow) await(t *tailed, end int64) int64 {
	_, before := f.beginning(&t.text, end)
	if begin := end - int64(len(before)); len(before) > 0 && begin >= t.read && begin != t.waited {
		t.waited = begin
		return begin
	}
	return end
}

// lastLine is where the last whole line ends, from a place on.
func lastLine(r io.ReaderAt, from, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > from; {
		begin := max(from, end-int64(len(buf)))
		n, err := r.ReadAt(buf[:end-begin], begin)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return begin + int64(i) + 1, nil
			}
		}
		end = begin
	}
	return from, nil
}

func (f *follow) close() {
	f.watch.close()
	for t := range f.tails {
		t.text.close()
	}
}
