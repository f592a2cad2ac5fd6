// Package search finds, in any amount of text, the lines that hold a word of
// envd's failures. It is what stands before the slow part of reading a log: no
// line is decoded that holds none of them.
package search

import (
	"bytes"
	"errors"
	"io"
)

// The bounds of memory, in bytes: of what is read at once, and of what is kept
// of one line. For a line of up to usual bytes there is room from the beginning.
const (
	block   = 256 << 10
	MaxLine = 256 << 10
	usual   = 16 << 10
)

// Line is a line that holds a word, without its line feed. Data is valid
// during the call that hands it out.
type Line struct {
	Data   []byte
	Offset int64 // of the line's beginning
	// Cut: the line is longer than MaxLine, and Data is its beginning. Partial:
	// it has no end.
	Cut, Partial bool
}

// Scanner searches texts that come in pieces.
type Scanner struct {
	emit func(Line)

	buf    []byte
	n      int   // how much of buf is the open line
	offset int64 // where the open line began
	at     int64 // how much was read
	// Of an open line longer than MaxLine: its end so far, which may hold the
	// beginning of a word, and whether one was found in it.
	long, found bool
	tail        []byte
}

// overlap is how much of a word's beginning may stand before a border.
const overlap = len(fallingBack) - 1

// New returns a scanner. It may be used for any number of texts, one after the
// other.
func New() *Scanner { return &Scanner{buf: make([]byte, usual+block)} }

// Scan reads a text that begins at an offset to its end, hands every line that
// holds a word to emit, and returns how many bytes it had.
func (s *Scanner) Scan(r io.Reader, offset int64, emit func(Line)) (int64, error) {
	s.emit = emit
	s.n, s.long, s.found, s.offset, s.at = 0, false, false, offset, offset
	for {
		if s.n > usual && len(s.buf) < MaxLine+block {
			s.buf = append(make([]byte, 0, MaxLine+block), s.buf[:s.n]...)[:MaxLine+block]
		}
		got, err := r.Read(s.buf[s.n : s.n+block])
		s.at += int64(got)
		s.take(got)
		if errors.Is(err, io.EOF) {
			s.close(true)
			return s.at - offset, nil
		}
		if err != nil {
			return s.at - offset, err
		}
	}
}

// take handles the bytes that were just read behind the open line.
func (s *Scanner) take(got int) {
	fresh := s.buf[s.n : s.n+got]
	if s.long {
		feed := bytes.IndexByte(fresh, '\n')
		if feed < 0 {
			s.grow(fresh)
			return
		}
		s.grow(fresh[:feed])
		s.close(false)
		got = copy(s.buf, fresh[feed+1:])
		s.offset, fresh = s.at-int64(got), s.buf[:got]
	}
	last := bytes.LastIndexByte(fresh, '\n')
	if last < 0 {
		s.n += got
	} else {
		whole, end := s.n+last+1, s.n+got
		s.lines(s.buf[:whole])
		s.n = copy(s.buf, s.buf[whole:end])
		s.offset = s.at - int64(s.n)
	}
	if s.n > MaxLine {
		surplus := s.buf[MaxLine:s.n]
		s.n, s.long = MaxLine, true
		s.found = holds(s.buf[:MaxLine])
		s.tail = append(s.tail[:0], s.buf[MaxLine-overlap:MaxLine]...)
		s.grow(surplus)
	}
}

// lines hands out the lines of text that hold a word. Text begins with the open
// line.
func (s *Scanner) lines(text []byte) {
	for from := 0; from < len(text); {
		hit := find(text, from)
		if hit == len(text) {
			return
		}
		begin := from + bytes.LastIndexByte(text[from:hit], '\n') + 1
		end := hit + bytes.IndexByte(text[hit:], '\n')
		s.out(Line{Data: text[begin:end], Offset: s.offset + int64(begin)})
		from = end + 1
	}
}

func (s *Scanner) out(l Line) {
	if len(l.Data) > MaxLine {
		l.Data, l.Cut = l.Data[:MaxLine], true
	}
	s.emit(l)
}

// grow searches more of a line of which no more is kept.
func (s *Scanner) grow(more []byte) {
	if s.found {
		return
	}
	s.tail = append(s.tail, more...)
	s.found = holds(s.tail)
	s.tail = append(s.tail[:0], s.tail[max(0, len(s.tail)-overlap):]...)
}

// close ends the open line.
func (s *Scanner) close(partial bool) {
	if s.n > 0 && (s.found || !s.long && holds(s.buf[:s.n])) {
		s.emit(Line{Data: s.buf[:s.n], Offset: s.offset, Cut: s.long, Partial: partial})
	}
	s.n, s.long, s.found = 0, false, false
}

// LineEnd returns the first place from at on, in a text of size bytes, at which
// a line begins, or size: a text that is cut there is cut between lines.
func LineEnd(r io.ReaderAt, at, size int64) (int64, error) {
	if at <= 0 {
		return 0, nil
	}
	buf := make([]byte, 256) // longer than what is left of most lines
	for from := at - 1; from < size; {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-from)], from)
		if feed := bytes.IndexByte(buf[:n], '\n'); feed >= 0 {
			return from + int64(feed) + 1, nil
		}
		if from += int64(n); err != nil && from < size {
			return 0, err
		}
	}
	return size, nil
}
