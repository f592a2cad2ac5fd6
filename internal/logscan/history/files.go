package history

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The names of logs: as Nomad numbers a task's files (hashicorp/nomad
// client/logmon/logging/rotator.go), as everybody else calls them and logrotate
// renames them (dateext is its default on many systems), and as those are called
// that are packed in a way that is not read here.
var (
	nomadName       = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(.+\.(?:stdout|stderr))\.(\d{1,9})(?:\.gz)?$`) })
	otherName       = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\.log(?:[.-](?:\d+|old))*(?:\.gz)?$`) })
	packedOtherwise = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:\.(?:stdout|stderr)\.\d{1,9}|\.log(?:[.-](?:\d+|old))*)\.(?:xz|zst|bz2|lz4|Z|zip)$`)
	})
)

// packed are the first bytes of packed files: of gzip (RFC 1952), zstd (RFC
// 8878), xz and bzip2.
var packed = []string{"\x1f\x8b", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "BZh"}

// wide are the first bytes of UTF-16, little endian and big (RFC 2781).
var wide = []string{"\xff\xfe", "\xfe\xff"}

// logFile is one file of a log.
type logFile struct {
	path   string
	stream string // the files of one index sequence; a single file's own path
	index  int
	// log is the log of which it is a file, and task the task and its stream that
	// all allocations have; the log's name where it is no task's.
	log, task string
	id        identity
	// born is when the file was made, in nanoseconds since 1970; 0 where its file
	// system does not keep it.
	born int64
	// rotated: index is Nomad's, and not 0 for want of one; packed: its bytes
	// are compressed.
	rotated, packed bool
}

// identity is a file, by whatever name: paths may hold one another, and may be
// spelt in two ways.
type identity struct{ device, inode uint64 }

// identify notes which file the path names, and when that was made.
func (f *logFile) identify() error {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, f.path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &stat); err != nil {
		return &fs.PathError{Op: "statx", Path: f.path, Err: err}
	}
	f.id = identity{unix.Mkdev(stat.Dev_major, stat.Dev_minor), stat.Ino}
	if stat.Mask&unix.STATX_BTIME != 0 {
		f.born = stat.Btime.Sec*int64(time.Second) + int64(stat.Btime.Nsec)
	}
	return nil
}

// identityOf is an open file's identity, and whether the file still has a name.
func identityOf(file *os.File) (id identity, named bool) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return identity{}, true
	}
	return identity{stat.Dev, stat.Ino}, stat.Nlink > 0
}

func isLog(name string) bool { return nomadName().MatchString(name) || otherName().MatchString(name) }

// mayBeLog tells of a name that is no log's whether somebody may have meant one:
// it holds ".log", ".stdout" or ".stderr", in any case, and not as the beginning
// of another word.
func mayBeLog(name string) bool {
	for rest := name; ; {
		_, after, found := strings.Cut(rest, ".")
		if !found {
			return false
		}
		for _, word := range []string{"log", "stdout", "stderr"} {
			if n := len(word); len(after) >= n && strings.EqualFold(after[:n], word) && (len(after) == n || !isLetter(after[n])) {
				return true
			}
		}
		rest = after
	}
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

func fileOf(path string) logFile {
	f := logFile{path: path, stream: path, log: path, packed: strings.HasSuffix(path, ".gz")}
	if suffix := otherName().FindString(path); suffix != "" {
		f.log = strings.TrimSuffix(path, suffix) + ".log"
	}
	f.task = f.log
	if match := nomadName().FindStringSubmatch(filepath.Base(path)); match != nil {
		if index, err := strconv.Atoi(match[2]); err == nil {
			f.stream, f.index, f.rotated = filepath.Join(filepath.Dir(path), match[1]), index, true
			f.log, f.task = f.stream, match[1]
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
		return nil, 0, hinted(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err == nil {
		err = readable(file)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// hinted says what to do about an error of opening a file.
func hinted(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; sandproof must be able to read it", err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w; let more files be open (ulimit -n), or name fewer logs at once", err)
	default:
		return err
	}
}

// readable is an error where a file is packed and its name does not say so, or
// its letters are of two bytes.
func readable(file *os.File) error {
	if strings.HasSuffix(file.Name(), ".gz") {
		return nil // what it holds is looked at when it is unpacked
	}
	head := make([]byte, markSize)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch markOf(head[:n]) {
	case markPlain:
	case markWide:
		return fmt.Errorf("%s is in UTF-16, which is not read here: convert it (iconv -f UTF-16 -t UTF-8)", file.Name())
	case markPacked:
		return fmt.Errorf("%s is packed and its name does not say so: unpack it, or let its name end in .gz where it is gzip's", file.Name())
	}
	return nil
}

// mark is what the first bytes of a text say that it is. Searched as they are,
// all but plain ones would hold no failure.
type mark int

const (
	markPlain mark = iota
	markWide
	markPacked
)

// markSize is how many bytes show a text's mark.
const markSize = 6

func markOf(head []byte) mark {
	begins := func(sign string) bool { return strings.HasPrefix(string(head), sign) }
	switch {
	case slices.ContainsFunc(wide, begins):
		return markWide
	case slices.ContainsFunc(packed, begins):
		return markPacked
	}
	return markPlain
}
