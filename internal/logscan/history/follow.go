package history

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"sandproof/internal/logscan/search"
)

// The pauses of Follow: between two looks at the newest file of each log, and
// between two looks for new files.
const (
	followLook = 100 * time.Millisecond
	followFind = time.Second
)

// Follow goes on where Scan would end: it looks at what grows, at new files and
// at new allocations until the context ends, and reports on all of it. Lines
// that were there when it began do not count.
func Follow(ctx context.Context, paths []string, options Options) (Report, error) {
	files, troubles, err := find(ctx, paths)
	if err != nil {
		return Report{}, err
	}
	s := newScan(options)
	for _, trouble := range troubles {
		s.note(trouble)
	}
	f := &follow{worker: newWorker(s), paths: paths, block: make([]byte, edge), streams: map[string]*tailed{}}
	defer f.close()
	f.take(files, true)
	look, refresh := time.NewTicker(followLook), time.NewTicker(followFind)
	defer look.Stop()
	defer refresh.Stop()
	for {
		select {
		case <-look.C:
			f.look()
		case <-refresh.C:
			f.refresh(ctx)
		case <-ctx.Done():
			f.refresh(context.WithoutCancel(ctx))
			f.look()
			return s.conclude(), nil
		}
	}
}

// follow is the logs that are looked at. It reads what comes by itself, since a
// follower for each file loses lines when files are removed under it.
type follow struct {
	*worker // one for all logs: its memory is what costs

	paths   []string
	block   []byte // for lookIn
	streams map[string]*tailed
}

// tailed is one log, from where it was found on.
type tailed struct {
	log    *log
	newest int
	text   text
	read   int64 // up to here whole lines were read
	// skip: the open line is longer than any may be, and its rest says nothing.
	skip bool
}

// refresh looks for new files.
func (f *follow) refresh(ctx context.Context) {
	files, troubles, err := find(ctx, f.paths)
	if err != nil {
		troubles = append(troubles, err.Error())
	}
	for _, trouble := range troubles {
		f.note(trouble)
	}
	f.take(files, false)
}

// take takes up files that are not known; of those that were there at the
// beginning, what they hold is history.
func (f *follow) take(files []logFile, history bool) {
	for _, file := range files {
		t := f.streams[file.stream]
		if t == nil {
			t = &tailed{newest: -1, log: f.of(file)}
			f.streams[file.stream] = t
		}
		if file.packed || file.index <= t.newest {
			continue
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
		if t.newest >= 0 {
			f.grow(t) // the file before is final now
			f.drop(t)
		}
		t.newest = file.index
		t.text.add(file.path, opened, size)
		f.report.Files++
		if history {
			t.read = t.text.size
		}
	}
}

// drop lets go of files that were read to their end.
func (f *follow) drop(t *tailed) {
	if t.read < t.text.size {
		return // a line goes on in the next file
	}
	for i := range t.text.parts {
		_ = t.text.parts[i].file.Close()
	}
	t.text = text{size: t.text.size}
}

// look reads what came.
func (f *follow) look() {
	for _, t := range f.streams {
		if f.grow(t) {
			f.read(t)
		}
	}
}

// grow notes the newest file's present size, and tells whether there is
// anything to read.
func (f *follow) grow(t *tailed) bool {
	if len(t.text.parts) == 0 {
		return false
	}
	last := &t.text.parts[len(t.text.parts)-1]
	info, err := last.file.Stat()
	switch {
	case err != nil:
		f.uncoveredf("look at %s: %v", last.path, err)
	case info.Size() < last.size:
		f.uncoveredf("%s was cut from %d to %d bytes", last.path, last.size, info.Size())
	default:
		t.text.size += info.Size() - last.size
		last.size = info.Size()
	}
	return t.text.size > t.read
}

// read reads the whole lines that came.
func (f *follow) read(t *tailed) {
	end, err := lastLine(&t.text, t.read, t.text.size)
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
		if err == nil && !t.log.control {
			err = f.lookIn(t.log, io.NewSectionReader(&t.text, from, end-from), f.block)
		}
		t.read, t.skip = end, false
	}
	if err == nil && t.text.size-t.read > search.MaxLine {
		if !t.skip {
			path, offset := t.text.at(t.read)
			f.uncoveredf("the line at %d of %s is longer than %d bytes, and was not read", offset, path, search.MaxLine)
		}
		t.read, t.skip = t.text.size, true
	}
	if err != nil {
		f.uncoveredf("read the log: %v", err)
		t.read = t.text.size
	}
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
	for _, t := range f.streams {
		t.text.close()
	}
}
