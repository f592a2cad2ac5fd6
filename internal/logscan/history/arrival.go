package history

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
)

// arrivals are the packed files that come while logs are followed. They are not
// read: of a log that was followed to its end all was seen, and any other is told.
type arrivals struct {
	packed map[packedFile]*arrival
	// ended are the files that were read to their ends and let go.
	ended map[whole]bool
	seed  maphash.Seed
}

func newArrivals() arrivals {
	return arrivals{packed: map[packedFile]*arrival{}, ended: map[whole]bool{}, seed: maphash.MakeSeed()}
}

// packedFile is a packed file under whatever name; where its file system does not
// tell when it was made, another may have its identity, and its name counts, too.
type packedFile struct {
	id   identity
	born int64
	path string
}

func packedFileOf(f logFile) packedFile {
	if f.born != 0 {
		return packedFile{id: f.id, born: f.born}
	}
	return packedFile{id: f.id, path: f.path}
}

// arrival is a packed file; read: what it holds was seen unpacked, or was there
// when the following began. size and written are how it was when it was looked
// into: one that is being made changes.
type arrival struct {
	path    string
	read    bool
	size    int64
	written time.Time
}

// whole is a file's text as far as it tells it from others of its log: by its size
// as gzip keeps it (RFC 1952, ISIZE), and by a sum of its beginning.
type whole struct {
	log  string
	size uint32
	head uint64
}

func (a *arrivals) whole(log string, size int64, head []byte) whole {
	return whole{log, uint32(size), maphash.Bytes(a.seed, head)} //nolint:gosec // modulo 2^32, as gzip keeps it
}

// arrived takes note of a packed file.
func (f *follow) arrived(file logFile, history bool) {
	key := packedFileOf(file)
	a := f.packed[key]
	if a == nil {
		a = &arrival{read: history}
		f.packed[key] = a
	}
	a.path = file.path
	if !a.read {
		a.read = f.wasFollowed(a, file.log)
	}
}

// wasFollowed tells whether a packed file holds what was read to its end, or is
// still held, as a file of its log. It cannot until it is packed whole.
func (f *follow) wasFollowed(a *arrival, log string) bool {
	file, size, err := open(a.path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || a.size == size && a.written.Equal(info.ModTime()) {
		return false
	}
	a.size, a.written = size, info.ModTime()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return false
	}
	head := make([]byte, maxHead)
	n, err := io.ReadFull(unpacked, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	var last [4]byte
	if _, err := file.ReadAt(last[:], size-int64(len(last))); err != nil {
		return false
	}
	is := f.whole(log, int64(binary.LittleEndian.Uint32(last[:])), head[:n])
	if f.ended[is] {
		return true
	}
	for t := range f.tails {
		for _, p := range t.text.parts {
			if t.log.name == log && !t.copied && f.wholeOf(t, p.file) == is {
				return true
			}
		}
	}
	return false
}

// wholeOf is the present whole of a log's open file.
func (f *follow) wholeOf(t *tailed, file *os.File) whole {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return whole{} // no log has this name
	}
	head := make([]byte, min(maxHead, size))
	n, _ := file.ReadAt(head, 0) // its reading proper tells
	return f.whole(t.log.name, size, head[:n])
}

// remember keeps what the files of a log were that is let go.
func (f *follow) remember(t *tailed) {
	for _, p := range t.text.parts {
		if !t.copied {
			f.ended[f.wholeOf(t, p.file)] = true
		}
	}
}

// forget lets go of packed files that are gone and were read.
func (f *follow) forget(files []logFile) {
	there := map[packedFile]bool{}
	for _, file := range files {
		if file.packed {
			there[packedFileOf(file)] = true
		}
	}
	for key, a := range f.packed {
		if a.read && !there[key] {
			delete(f.packed, key)
		}
	}
}

// conclude makes the report.
func (f *follow) conclude() Report {
	for _, a := range f.packed {
		if !a.read {
			f.uncoveredf("%s came while the logs were followed and was not read, since it is not known to be one of them, packed: scan it without --follow", a.path)
		}
	}
	return f.scan.conclude()
}
