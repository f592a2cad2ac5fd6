package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// finder lists logs again and again. It remembers what each directory held: a
// node keeps many allocations in which nothing happens, and to list a directory
// costs ten times as much as to see that it is as it was.
type finder struct {
	listed map[string]*listing // by the directory's path
	round  int
}

// listing is what a directory held.
type listing struct {
	round    int
	state    directoryState // before it was listed
	at       time.Time      // when that was looked at
	below    []string       // directories in it
	files    []logFile
	troubles []string
	// whole: everything in it could be looked at.
	whole bool
}

// directoryState changes whenever a name in a directory is made, removed or made
// to mean another file; by the change time even where somebody sets the time of
// modification back.
type directoryState struct {
	id               identity
	modified, change unix.Timespec
}

// The bounds of what is remembered. A file system may give two changes the same
// time when they are less than clockTick apart, so nothing is concluded from a
// time that was younger than that when the directory was listed; and every
// directory is listed anew after maxTrust, should its times mean nothing, as
// those that a network file system remembers may.
const (
	clockTick = 2 * time.Second
	maxTrust  = 10 * time.Second
)

// holds tells whether a directory that is in a state now is as it was listed.
func (l *listing) holds(now directoryState, at time.Time) bool {
	return l.whole && l.state == now && at.Sub(l.at) < maxTrust &&
		l.at.Sub(time.Unix(now.modified.Unix())) > clockTick && l.at.Sub(time.Unix(now.change.Unix())) > clockTick
}

func stateOf(path string) (directoryState, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return directoryState{}, err
	}
	return directoryState{identity{stat.Dev, stat.Ino}, stat.Mtim, stat.Ctim}, nil
}

// find lists the logs that paths hold, in the order in which they were written
// for each stream, and what of them cannot be looked at.
func find(ctx context.Context, paths []string) (files []logFile, troubles []string, err error) {
	return newFinder().find(ctx, paths)
}

func newFinder() *finder { return &finder{listed: map[string]*listing{}} }

func (d *finder) find(ctx context.Context, paths []string) (files []logFile, troubles []string, err error) {
	roots := make([]string, 0, len(paths))
	for _, path := range paths {
		root, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, nil, fmt.Errorf("look for logs: %w; name a file or a directory of logs", err)
		}
		roots = append(roots, root)
	}
	d.round++
	seen := map[identity]bool{}
	take := func(l *listing) {
		troubles = append(troubles, l.troubles...)
		for _, file := range l.files {
			if file.id == (identity{}) || !seen[file.id] { // what cannot be looked at cannot be read, which its reading tells
				files = append(files, file)
			}
			seen[file.id] = true
		}
	}
	for _, root := range roots {
		info, err := os.Lstat(root)
		if err != nil {
			troubles = append(troubles, unlisted(root, err))
			continue
		}
		if !info.IsDir() {
			named := &listing{}
			named.add(root, fs.FileInfoToDirEntry(info), roots, true)
			take(named)
			continue
		}
		for open := []string{root}; len(open) > 0; {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			l := d.list(open[0], roots)
			take(l)
			open = append(open[1:], l.below...)
		}
	}
	for path, l := range d.listed {
		if l.round != d.round {
			delete(d.listed, path)
		}
	}
	slices.SortFunc(files, func(a, b logFile) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.index, b.index), cmp.Compare(a.path, b.path))
	})
	return files, troubles, nil
}

// list is what a directory holds, by what is remembered of it where that holds.
func (d *finder) list(path string, roots []string) *listing {
	at := time.Now()
	state, err := stateOf(path)
	l := d.listed[path]
	if err != nil || l == nil || !l.holds(state, at) {
		l = &listing{state: state, at: at, whole: err == nil}
		entries, err := os.ReadDir(path)
		if err != nil {
			l.troubles, l.whole = append(l.troubles, unlisted(path, err)), false
		}
		for _, entry := range entries {
			if entry.IsDir() {
				l.below = append(l.below, filepath.Join(path, entry.Name()))
			} else {
				l.add(filepath.Join(path, entry.Name()), entry, roots, false)
			}
		}
		d.listed[path] = l
	}
	l.round = d.round
	return l
}

// unlisted says of what it was not seen what it holds.
func unlisted(path string, err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return path + " was removed while it was listed, and what it held was not read"
	}
	return fmt.Sprintf("list %s: %v", path, hinted(err))
}

// add takes in what is no directory, where it is a log or was named itself.
func (l *listing) add(path string, entry fs.DirEntry, roots []string, named bool) {
	switch {
	case packedOtherwise().MatchString(entry.Name()):
		l.troubles = append(l.troubles, path+" is packed in a way that is not read here, and was not; unpack it")
	case !named && !isLog(entry.Name()):
	case entry.Type()&fs.ModeSymlink != 0:
		if target, err := filepath.EvalSymlinks(path); err != nil || !within(roots, target) {
			l.troubles = append(l.troubles, path+" is a symlink to the outside and was not followed; name its target as well")
		}
	case entry.Type().IsRegular():
		file := fileOf(path)
		if err := file.identify(); err != nil {
			l.whole = false
		}
		l.files = append(l.files, file)
	case named: // a FIFO among the logs is Nomad's own, and must never be opened
		l.troubles = append(l.troubles, path+" is no regular file and was not opened")
	}
}
