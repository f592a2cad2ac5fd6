package history

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// watch tells, by inotify, which files were written to, so that a thousand logs
// in which nothing happens need not all be looked at ten times a second. It only
// spares looks: a file of which it cannot tell is looked at each time, and any
// is each second, since it hears nothing of what is written through an overlay
// of the file's own file system (overlayfs writes below it without a notice).
type watch struct {
	fd int // less than 0 where there is no inotify
}

// noWatch is no file's watch.
const noWatch = -1

// local are the file systems on which all writes are this kernel's own, so that
// it tells of them: ext2 to ext4, XFS, Btrfs, tmpfs and F2FS.
var local = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC}

func newWatch() watch {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return watch{noWatch} // a user may have so many only (fs.inotify.max_user_instances)
	}
	return watch{fd}
}

// add begins to watch an open file, whatever its name is by now; noWatch where
// it cannot be watched.
func (w watch) add(file *os.File) int {
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &system); w.fd < 0 || err != nil || !slices.Contains(local, system.Type) {
		return noWatch
	}
	id, err := unix.InotifyAddWatch(w.fd, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.IN_MODIFY)
	if err != nil {
		return noWatch // as above (fs.inotify.max_user_watches)
	}
	return id
}

func (w watch) remove(id int) {
	if id != noWatch {
		_, _ = unix.InotifyRmWatch(w.fd, uint32(id)) //nolint:gosec // a watch's number is none below 0
	}
}

// written tells which watches' files were written to since it was last asked;
// all is true where that was lost.
func (w watch) written() (ids []int, all bool) {
	if w.fd < 0 {
		return nil, false
	}
	var buf [16 << 10]byte
	for {
		n, err := unix.Read(w.fd, buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return ids, all
		case err != nil:
			return ids, true
		}
		for events := buf[:n]; len(events) >= unix.SizeofInotifyEvent; {
			id, mask := int32(binary.NativeEndian.Uint32(events)), binary.NativeEndian.Uint32(events[4:]) //nolint:gosec // as the kernel writes it
			all = all || mask&unix.IN_Q_OVERFLOW != 0
			ids = append(ids, int(id))
			events = events[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(events[12:]):]
		}
	}
}

func (w watch) close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
	}
}
