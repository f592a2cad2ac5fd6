package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The names beside an image, after its own.
const (
	lockSuffix     = ".sandproof-lock"
	backupSuffix   = ".sandproof-backup"
	newSuffix      = ".sandproof-new"
	manifestSuffix = ".sandproof.json"
)

// lock keeps two who patch or undo the same image apart. The kernel lets go of
// it when its holder ends, however that is; the file goes away with a release.
func lock(image string) (release func(), err error) {
	name := image + lockSuffix
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, fmt.Errorf("make the lock of the image: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(refuse("wait until it has ended", "another sandproof patches or undoes this image right now, and holds %s", name), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		// Its last holder may have removed it after it was opened here.
		if isAt(f, name) {
			return func() {
				_ = os.Remove(name) // where it stays, it locks nothing
				f.Close()
			}, nil
		}
		f.Close()
	}
}

// isAt tells whether an open file is what a name stands for.
func isAt(f *os.File, name string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := os.Lstat(name)
	return err == nil && os.SameFile(info, at)
}
