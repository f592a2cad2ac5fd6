package redact

import (
	"bytes"
	"io"
	"sync"
)

// Writer takes secrets out of what is written to another writer, line by line:
// one that is split over two writes is found all the same. What has no line end
// yet is written by Flush. It may be used by several goroutines.
type Writer struct {
	mu      sync.Mutex
	out     io.Writer
	redact  *Redactor
	pending []byte
}

// NewWriter makes a writer in front of out.
func NewWriter(out io.Writer, r *Redactor) *Writer { return &Writer{out: out, redact: r} }

// Unwrap is the writer behind it, for whoever must know whether that is a
// terminal.
func (w *Writer) Unwrap() io.Writer { return w.out }

// Write implements io.Writer. An error may be that of an earlier write's text.
func (w *Writer) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, text...)
	end := bytes.LastIndexByte(w.pending, '\n') + 1
	if end == 0 {
		return len(text), nil
	}
	lines := w.pending[:end]
	rest := bytes.Clone(w.pending[end:])
	_, err := w.out.Write(w.redact.Bytes(lines))
	w.pending = rest
	return len(text), err
}

// Flush writes what has no line end.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.out.Write(w.redact.Bytes(w.pending))
	w.pending = nil
	return err
}
