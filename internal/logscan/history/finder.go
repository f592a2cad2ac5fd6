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
	// held, where it is not nil, tells of a file that it is read, whatever its
	// name has become.
	held func(identity) bool
}

// listing is what a directory held.
type listing struct {
	round    int
	state    directoryState // before it was listed
	at       time.Time      // when that was looked at
	below    []string       // directories in it
	files    []logFile
	mistaken []logFile // files that are no logs by their names, but may be meant as such
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
	roots, resolved := make([]string, 0, len(paths)), make([]string, 0, len(paths))
	for _, path := range paths {
		if path == "" {
			return nil, nil, errors.New("look for logs: an empty path was given, perhaps by a variable that is not set; name a file or a directory of logs")
		}
		root, err := filepath.EvalSymlinks(path)
		whole, other := resolve(path)
		if err = cmp.Or(err, other); err != nil {
			return nil, nil, fmt.Errorf("look for logs: %w; name a file or a directory of logs", err)
		}
		roots, resolved = append(roots, root), append(resolved, whole)
	}
	d.round++
	seen := map[identity]bool{}
	var mistaken []logFile
	take := func(l *listing) {
		troubles, mistaken = append(troubles, l.troubles...), append(mistaken, l.mistaken...)
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
			named.add(root, fs.FileInfoToDirEntry(info), resolved, true)
			take(named)
			continue
		}
		for open := []string{root}; len(open) > 0; {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			l := d.list(open[0], resolved)
			take(l)
			open = append(open[1:], l.below...)
		}
	}
	for path, l := range d.listed {
		if l.round != d.round {
			delete(d.listed, path)
		}
	}
	for _, file := range mistaken {
		if !seen[file.id] && (d.held == nil || !d.held(file.id)) {
			troubles = append(troubles, file.path+" was not taken for a log by its name, and was not read; if it is one, name it itself")
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

// resolve is a path from the file system's root on, with no symlink in it: two of
// them can be compared.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
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
	case entry.Type()&fs.ModeSymlink != 0: // whatever its name: it may lead to a directory
		l.addLink(path, isLog(entry.Name()), roots)
	case !named && !isLog(entry.Name()):
		if file := fileOf(path); entry.Type().IsRegular() && mayBeLog(entry.Name()) {
			if err := file.identify(); err != nil {
				l.whole = false
			}
			l.mistaken = append(l.mistaken, file)
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

// addLink takes in what a symlink leads to, where that is a log by this name
// alone: what lies below the roots and is a log by its own is met there, and what
// lies elsewhere was not asked for, but must not be passed over in silence.
func (l *listing) addLink(path string, isLogsName bool, roots []string) {
	target, err := resolve(path)
	if errors.Is(err, fs.ErrNotExist) && !isLogsName {
		return // it leads nowhere
	}
	var info fs.FileInfo
	if err == nil {
		info, err = os.Lstat(target)
	}
	if err != nil {
		l.troubles = append(l.troubles, fmt.Sprintf("%s is a symlink and was not followed: %v", path, hinted(err)))
		return
	}
	inside, own, meant := within(roots, target), isLog(info.Name()), mayBeLog(filepath.Base(path))
	switch {
	case !inside && info.IsDir():
		l.troubles = append(l.troubles, fmt.Sprintf("%s is a symlink to %s, a directory outside, and was not followed; name that as well", path, target))
	case !inside && (isLogsName || (own || meant) && info.Mode().IsRegular()):
		l.troubles = append(l.troubles, path+" is a symlink to the outside and was not followed; name its target as well")
	case inside && isLogsName && !own && info.Mode().IsRegular():
		l.add(target, fs.FileInfoToDirEntry(info), roots, true)
		l.whole = false // the target may be replaced and the directory stay as it is
	case inside && meant && !own && info.Mode().IsRegular():
		l.mistaken = append(l.mistaken, fileOf(path))
	}
}
