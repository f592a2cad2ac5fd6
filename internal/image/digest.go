package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The units in which an image is read, in bytes: what is asked for at once, and
// what a digest takes or leaves as a whole.
const (
	pieceSize = 1 << 20
	chunkSize = 64 << 10
	// pieces is how many pieces are on their way between the disk and the hash.
	pieces = 4
	// writeBack is how much is copied before the kernel is asked to begin
	// writing it, so that the sync in the end has little left.
	writeBack = 32 << 20
)

var zeros [chunkSize]byte

// sparseDigest is the SHA-256 of what an image holds: of each 64 KiB that are not all
// zero their offset (64 bits, big-endian) and their bytes, then the size. So
// it says of every byte what it is, costs what the image holds, and does not
// depend on which zeros are holes.
func sparseDigest(ctx context.Context, image *os.File, progress func(done int64)) (string, error) {
	return copyHashed(ctx, nil, image, progress)
}

// copyHashed copies what an image holds into an empty file, unless that is
// nil, and returns the digest of what it read. Zeros become holes. Progress is
// told the offset up to which it came.
func copyHashed(ctx context.Context, to, from *os.File, progress func(done int64)) (string, error) {
	info, err := from.Stat()
	if err != nil {
		return "", err
	}
	free, full, sum := make(chan []byte, pieces), make(chan piece, pieces), make(chan []byte)
	for range pieces {
		free <- make([]byte, pieceSize)
	}
	go func() {
		h := sha256.New()
		for p := range full {
			hashPiece(h, p)
			free <- p.bytes[:pieceSize]
		}
		_ = binary.Write(h, binary.BigEndian, info.Size()) // a hash takes everything
		sum <- h.Sum(nil)
	}()
	c := &copier{to: to, from: from, size: info.Size(), free: free, full: full, progress: progress}
	err = c.all(ctx)
	close(full)
	hashed := <-sum
	if err == nil && to != nil {
		err = to.Truncate(info.Size())
	}
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(hashed), nil
}

// piece is a stretch of an image.
type piece struct {
	at    int64
	bytes []byte
}

func hashPiece(h hash.Hash, p piece) {
	for at := 0; at < len(p.bytes); at += chunkSize {
		chunk := p.bytes[at:min(at+chunkSize, len(p.bytes))]
		if isZero(chunk) {
			continue
		}
		_ = binary.Write(h, binary.BigEndian, p.at+int64(at)) // a hash takes everything
		h.Write(chunk)
	}
}

func isZero(chunk []byte) bool { return bytes.Equal(chunk, zeros[:len(chunk)]) }

// copier reads an image in pieces, writes them, and hands them on.
type copier struct {
	to, from *os.File
	size     int64
	free     <-chan []byte
	full     chan<- piece
	progress func(done int64)
	begun    int64 // up to where the kernel was asked to write
}

// all reads the stretches that hold data (lseek(2), SEEK_DATA), in whole
// chunks.
func (c *copier) all(ctx context.Context) error {
	for at := int64(0); at < c.size; {
		data, err := unix.Seek(int(c.from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole is left
		}
		if err != nil {
			return fmt.Errorf("look for data: %w", err)
		}
		hole, err := unix.Seek(int(c.from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for a hole: %w", err)
		}
		end := min((hole+chunkSize-1)/chunkSize*chunkSize, c.size)
		for at = max(at, data/chunkSize*chunkSize); at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := c.one(at, min(end-at, pieceSize))
			if err != nil {
				return err
			}
			at += n
			if c.progress != nil {
				c.progress(at)
			}
		}
	}
	if c.progress != nil {
		c.progress(c.size)
	}
	return nil
}

func (c *copier) one(at, n int64) (int64, error) {
	buffer := (<-c.free)[:n]
	_, err := io.ReadFull(io.NewSectionReader(c.from, at, n), buffer)
	if err == nil && c.to != nil {
		err = c.write(piece{at, buffer})
	}
	c.full <- piece{at, buffer}
	return n, err
}

// write writes the chunks of a piece that are not all zero.
func (c *copier) write(p piece) error {
	first := -1
	for at := 0; at <= len(p.bytes); at += chunkSize {
		atEnd := at >= len(p.bytes)
		zero := atEnd || isZero(p.bytes[at:min(at+chunkSize, len(p.bytes))])
		switch {
		case !zero && first < 0:
			first = at
		case zero && first >= 0:
			if _, err := c.to.WriteAt(p.bytes[first:min(at, len(p.bytes))], p.at+int64(first)); err != nil {
				return err
			}
			first = -1
		}
	}
	if first >= 0 {
		if _, err := c.to.WriteAt(p.bytes[first:], p.at+int64(first)); err != nil {
			return err
		}
	}
	if end := p.at + int64(len(p.bytes)); end-c.begun >= writeBack {
		// A hint only: what it does not do the sync does.
		_ = unix.SyncFileRange(int(c.to.Fd()), c.begun, end-c.begun, unix.SYNC_FILE_RANGE_WRITE)
		c.begun = end
	}
	return nil
}
