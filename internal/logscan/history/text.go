package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// text is the bytes of consecutive files as one: a line may begin in one and
// end in the next.
type text struct {
	parts []part
	size  int64
}

// part is one file of a text, from its beginning in the text on.
type part struct {
	path string
	file *os.File
	base int64
	size int64
}

// add takes the next file in.
func (t *text) add(path string, file *os.File, size int64) {
	t.parts = append(t.parts, part{path, file, t.size, size})
	t.size += size
}

// at tells in which file a place lies, and where in it.
func (t *text) at(offset int64) (path string, inFile int64) {
	p := t.parts[t.part(offset)]
	return p.path, offset - p.base
}

// part is the file in which a place lies.
func (t *text) part(offset int64) int {
	return sort.Search(len(t.parts), func(i int) bool { return t.parts[i].base > offset }) - 1
}

// ReadAt implements io.ReaderAt over all files.
func (t *text) ReadAt(data []byte, offset int64) (int, error) {
	n := 0
	for n < len(data) {
		if offset >= t.size {
			return n, io.EOF
		}
		p := t.parts[t.part(offset)]
		room := data[n:min(int64(len(data)), int64(n)+p.base+p.size-offset)]
		got, err := p.file.ReadAt(room, offset-p.base)
		n, offset = n+got, offset+int64(got)
		if got < len(room) {
			if err == nil || errors.Is(err, io.EOF) {
				err = fmt.Errorf("%s was cut while it was read", p.path)
			}
			return n, err
		}
	}
	return n, nil
}

// begin is where the first file begins that is still held.
func (t *text) begin() int64 { return t.parts[0].base }

func (t *text) close() {
	for _, p := range t.parts {
		_ = p.file.Close()
	}
}
