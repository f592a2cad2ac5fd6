package history

import (
	"bytes"
	"errors"
	"io"

	"sandproof/internal/logscan"
	"sandproof/internal/logscan/search"
)

// around is a text in which one can look before and behind a line.
type around interface {
	io.ReaderAt
	begin() int64 // what is before cannot be read
}

// near is how far is looked at first, in bytes: few records have many lines.
const near = 4 << 10

// enclose finds the record of several lines that a line is a part of. It returns
// what the record names and its time, empty where the line is a record by itself
// or of none that is whole, and the line without the record's fields.
func (w *worker) enclose(from around, offset int64, line []byte) (whole logscan.Record, text []byte) {
	begins, closed := logscan.Begins(line)
	if closed || len(line) > logscan.MaxRecordBytes {
		return logscan.Record{}, line
	}
	lines, size, at := 1, len(line), logscan.TimeOf(line)
	if !begins {
		first, before := w.beginning(from, offset)
		if first == nil {
			return logscan.Record{}, line
		}
		lines, size, at = lines+bytes.Count(before, feed), size+len(before), logscan.TimeOf(first)
		if text, named, ok := logscan.CutFields(line); ok {
			named.Time = at
			return named, text
		}
	}
	named, ok := w.end(from, offset+int64(len(line))+1, logscan.MaxRecordLines-lines, logscan.MaxRecordBytes-size)
	if !ok {
		return logscan.Record{}, line
	}
	named.Time = at
	return named, line
}

var feed = []byte("\n")

// beginning looks back from a line's beginning for the first line of an open
// record; before is all from there on. It is nil where there is none.
func (w *worker) beginning(from around, offset int64) (first, before []byte) {
	for _, reach := range []int64{near, logscan.MaxRecordBytes} {
		begin := max(from.begin(), offset-reach)
		text := w.scratch[:offset-begin]
		if n, err := from.ReadAt(text, begin); n < len(text) && err != nil {
			return nil, nil // the reading proper tells
		}
		for end, lines := len(text), 0; end > 0; lines++ {
			start := bytes.LastIndexByte(text[:end-1], '\n') + 1
			if start == 0 && begin > from.begin() {
				break // the line's beginning lies further back
			}
			line := text[start : end-1]
			if begins, closed := logscan.Begins(line); begins && !closed {
				return line, text[start:]
			} else if begins || lines == logscan.MaxRecordLines {
				return nil, nil
			}
			if _, _, ok := logscan.CutFields(line); ok {
				return nil, nil // a record ended here
			}
			end = start
		}
		if begin == from.begin() {
			return nil, nil
		}
	}
	return nil, nil
}

// end looks for the fields of an open record, from a place on at which a line
// begins.
func (w *worker) end(from around, offset int64, lines, size int) (named logscan.Record, ok bool) {
	for _, reach := range []int{near, size} {
		text := w.scratch[:max(0, min(reach, size))]
		n, err := from.ReadAt(text, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return named, false // the reading proper tells
		}
		last := errors.Is(err, io.EOF)
		text = text[:n]
		for count := 0; len(text) > 0 && count < lines; count++ {
			line, rest, ended := bytes.Cut(text, feed)
			if !ended && !last {
				break // the line goes on
			}
			if begins, _ := logscan.Begins(line); begins {
				return named, false // the record was torn
			}
			if _, named, ok := logscan.CutFields(line); ok {
				return named, true
			}
			text = rest
		}
	}
	return named, false
}

// window is a text that can be read once, of which the last stretch is kept, so
// that one can look around in it.
type window struct {
	r    io.Reader
	kept []byte
	base int64 // where kept begins
	at   int64 // up to here it was read in order
	err  error
}

// keep is how much is kept before the place of reading, in bytes: a line that is
// handed out lies at most a scanner's memory before it.
const keep = 3 * search.MaxLine

func (t *window) begin() int64 { return t.base }

// fill reads on, up to a place.
func (t *window) fill(to int64) {
	for t.err == nil && t.base+int64(len(t.kept)) < to {
		const piece = 32 << 10
		if surplus := t.at - keep - t.base; surplus > keep {
			t.kept = append(t.kept[:0], t.kept[surplus:]...)
			t.base += surplus
		}
		var n int
		n0 := len(t.kept)
		t.kept = append(t.kept, make([]byte, piece)...)
		n, t.err = t.r.Read(t.kept[n0:])
		t.kept = t.kept[:n0+n]
	}
}

// Read implements io.Reader.
func (t *window) Read(data []byte) (int, error) {
	t.fill(t.at + 1)
	n := copy(data, t.kept[t.at-t.base:])
	t.at += int64(n)
	if n == 0 {
		return 0, t.err
	}
	return n, nil
}

// ReadAt implements io.ReaderAt for what is kept and what comes soon.
func (t *window) ReadAt(data []byte, offset int64) (int, error) {
	t.fill(offset + int64(len(data)))
	n := copy(data, t.kept[min(offset-t.base, int64(len(t.kept))):])
	if n < len(data) {
		return n, t.err
	}
	return n, nil
}
