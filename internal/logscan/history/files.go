package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The names of logs: as Nomad numbers a task's files (hashicorp/nomad
// client/logmon/logging/rotator.go), and as everybody else calls them.
var (
	nomadName = regexp.MustCompile(`^(.+\.(?:stdout|stderr))\.(\d{1,9})(?:\.gz)?$`)
	otherName = regexp.MustCompile(`\.log(?:\.\d+)?(?:\.gz)?$`)
)

// logFile is one file of a log.
type logFile struct {
	path   string
	stream string // the files of one index sequence; a single file's own path
	index  int
	// rotated: index is Nomad's, and not 0 for want of one; packed: its bytes
	// are compressed.
	rotated, packed bool
}

// find lists the logs that paths hold, in the order in which they were written
// for each stream, and what of them cannot be looked at.
func find(ctx context.Context, paths []string) (files []logFile, troubles []string, err error) {
	seen := map[string]bool{}
	roots := make([]string, 0, len(paths))
	for _, path := range paths {
		root, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, nil, fmt.Errorf("look for logs: %w; name a file or a directory of logs", err)
		}
		roots = append(roots, root)
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			named := path == root
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, fs.ErrNotExist):
				troubles = append(troubles, path+" was removed while it was listed, and what it held was not read")
			case err != nil:
				troubles = append(troubles, fmt.Sprintf("list %s: %v; sandproof must be able to read it", path, err))
			case entry.IsDir(), seen[path], !named && !isLog(entry.Name()):
			case entry.Type()&fs.ModeSymlink != 0:
				if target, err := filepath.EvalSymlinks(path); err != nil || !within(roots, target) {
					troubles = append(troubles, path+" is a symlink to the outside and was not followed; name its target as well")
				}
			case entry.Type().IsRegular():
				seen[path] = true
				files = append(files, fileOf(path))
			case named: // a FIFO among the logs is Nomad's own, and must never be opened
				troubles = append(troubles, path+" is no regular file and was not opened")
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(files, func(a, b logFile) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.index, b.index), cmp.Compare(a.path, b.path))
	})
	return files, troubles, nil
}

func isLog(name string) bool { return nomadName.MatchString(name) || otherName.MatchString(name) }

func fileOf(path string) logFile {
	f := logFile{path: path, stream: path, packed: strings.HasSuffix(path, ".gz")}
	if match := nomadName.FindStringSubmatch(filepath.Base(path)); match != nil {
		if index, err := strconv.Atoi(match[2]); err == nil {
			f.stream, f.index, f.rotated = filepath.Join(filepath.Dir(path), match[1]), index, true
		}
	}
	return f
}

func within(roots []string, path string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
	})
}

// open takes hold of a file, so that its removal loses nothing.
func open(path string) (*os.File, int64, error) {
	// Without blocking, should the name have become a FIFO in between.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}
