package redact

import (
	"bytes"
	"io"
	"slices"
	"sync"
)

// Writer takes secrets out of what is written to another writer, line by line:
// one that is split over two writes is found all the same. What has no line end
// yet is written by Flush, or once it is much. It may be used by several goroutines.
type Writer struct {
	mu      sync.Mutex
	out     io.Writer
	redact  *Redactor
	pending []byte
	changed bool
}

// NewWriter makes a writer in front of out.
func NewWriter(out io.Writer, r *Redactor) *Writer { return &Writer{out: out, redact: r} }

// Changed tells whether anything had to be taken out so far.
func (w *Writer) Changed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// clean is text without secrets.
func (w *Writer) clean(text []byte) []byte {
	clean := w.redact.Bytes(text)
	w.changed = w.changed || !bytes.Equal(clean, text)
	return clean
}

// Unwrap is the writer behind it, for whoever must know whether that is a
// terminal.
func (w *Writer) Unwrap() io.Writer { return w.out }

// A line that does not end is written in pieces when it is as long as
// mostPending; of each piece keptPending bytes wait for the next one, so that a
// secret at its end is seen whole.
const (
	mostPending = 128 << 10
	keptPending = 4 << 10
)

// Write implements io.Writer. An error may be that of an earlier write's text.
func (w *Writer) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, text...)
	end := bytes.LastIndexByte(w.pending, '\n') + 1
	if end == 0 && len(w.pending) < mostPending {
		return len(text), nil
	}
	if end == 0 {
		end = w.border()
	}
	lines := w.pending[:end]
	rest := bytes.Clone(w.pending[end:])
	_, err := w.out.Write(w.clean(lines))
	w.pending = rest
	return len(text), err
}

// border is where a long line without an end is cut, so that no secret is seen in
// two halves: what is taken out of both parts is what is taken out of the whole.
// What has the shape of a secret and leaves no such place is longer than any, and
// goes as a whole.
func (w *Writer) border() int {
	const steps = 16
	whole := w.redact.Bytes(w.pending)
	for end := len(w.pending) - keptPending; end > len(w.pending)-2*keptPending; end -= keptPending / steps {
		if bytes.Equal(whole, slices.Concat(w.redact.Bytes(w.pending[:end]), w.redact.Bytes(w.pending[end:]))) {
			return end
		}
	}
	return len(w.pending)
}

// WriteDocument writes a page or an XML document (Redactor.Document).
func (w *Writer) WriteDocument(text []byte) error {
	if err := w.Flush(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.out.Write(w.redact.Document(text))
	return err
}

// Flush writes what has no line end.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.out.Write(w.clean(w.pending))
	w.pending = nil
	return err
}
