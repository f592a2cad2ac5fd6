package logscan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// Look is what is seen of one stream of a task's log: its files, of which the
// one with the highest index is written to.
type Look struct {
	// Path is the newest file, Index its number, Files how many there are.
	Path  string
	Index int
	Files int
	// Last is the time of the last line that has one, else of the file's last
	// write; zero where the file is empty.
	Last time.Time
}

// lookBack is how far from a log's end its last line is looked for, in bytes.
const lookBack = 64 << 10

// Look looks at the log as it is, by the rules by which it is read; an error
// tells what of it cannot be read.
func (f Files) Look(ctx context.Context) ([]Look, error) {
	found, err := f.list(ctx)
	if err != nil {
		return nil, err
	}
	byStream := map[string]int{}
	var looks []Look
	for _, file := range found {
		i, known := byStream[file.stream]
		if !known {
			i = len(looks)
			byStream[file.stream] = i
			looks = append(looks, Look{Path: file.path, Index: file.index})
		}
		looks[i].Files++
		if file.index >= looks[i].Index {
			looks[i].Path, looks[i].Index = file.path, file.index
		}
	}
	for i := range looks {
		if looks[i].Last, err = f.lastLine(ctx, looks[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return looks, nil
}

// lastLine is the time of the newest line of a file.
func (f Files) lastLine(ctx context.Context, l Look) (time.Time, error) {
	file, err := f.open(ctx, logFile{path: l.Path, index: l.Index})
	if err != nil {
		return time.Time{}, err
	}
	defer file.Close()
	size, err := file.size()
	if err != nil || size == 0 {
		return time.Time{}, err
	}
	data := make([]byte, min(size, lookBack))
	if _, err := file.ReadAt(data, size-int64(len(data))); err != nil && !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	lines := bytes.Split(data, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		if at := TimeOf(line); !at.IsZero() {
			return at, nil
		}
	}
	info, err := os.Stat(l.Path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
