// Package image knows the ext4 root filesystems of templates: what can be one,
// what its init does, how it is copied, and how files in it are replaced.
// e2fsprogs does the work inside of file systems; nothing is mounted.
package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// The superblock of ext2 and its successors: where it lies, and the fields of
// it that are read here, in bytes (Linux, Documentation/filesystems/ext4/super.rst).
const (
	superblockAt   = 1024
	superblockSize = 1024
	atBlocksLow    = 0x04
	atLogBlockSize = 0x18
	atMagic        = 0x38
	atIncompatible = 0x60
	atBlocksHigh   = 0x150

	magic = 0xEF53
	// Incompatible features: the journal must be replayed before anything is
	// done, and block counts have a high half.
	incompatibleRecover = 0x4
	incompatibleBig     = 0x80
	maxLogBlockSize     = 6
)

// Check looks whether a file can be an ext4 root filesystem: a regular file
// that can be read, with a superblock, and as long as that says. Whether the
// kernel mounts it only a boot tells.
func Check(image string) error {
	info, err := os.Stat(image)
	if err != nil {
		return fmt.Errorf("the image: %w", err)
	}
	switch {
	case info.IsDir():
		return fmt.Errorf("the image %s is a directory: give the file of an ext4 file system, such as the rootfs.ext4 of a build in there", image)
	case !info.Mode().IsRegular():
		return fmt.Errorf("the image %s is no regular file but %s: copy it into one", image, kindOf(info.Mode()))
	case info.Size() == 0:
		return fmt.Errorf("the image %s is empty", image)
	}
	f, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("the image: %w; run sandproof as a user who may read it", err)
	}
	defer f.Close()
	super := make([]byte, superblockSize)
	if _, err := f.ReadAt(super, superblockAt); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the image: %w", err)
	}
	if binary.LittleEndian.Uint16(super[atMagic:]) != magic {
		return fmt.Errorf("the image %s is no ext4 file system: it has no superblock at byte %d; the disk of a whole machine, a compressed image, "+
			"and a layer of E2B's that holds changes only (it has a .header file beside it) cannot be booted", image, superblockAt)
	}
	want, err := sizeOf(super)
	if err != nil {
		return fmt.Errorf("the image %s: %w", image, err)
	}
	if uint64(info.Size()) < want { //nolint:gosec // a file's size is not negative
		return fmt.Errorf("the image %s is cut short: its file system has %d bytes, the file %d; copy it again", image, want, info.Size())
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	}
	return "something else"
}

// hasDirtyJournal tells whether a file system has a journal to be replayed.
func hasDirtyJournal(image io.ReaderAt) (bool, error) {
	super := make([]byte, superblockSize)
	if _, err := image.ReadAt(super, superblockAt); err != nil {
		return false, fmt.Errorf("read the superblock: %w", err)
	}
	return binary.LittleEndian.Uint32(super[atIncompatible:])&incompatibleRecover != 0, nil
}

// sizeOf is the size of a file system in bytes, by its superblock.
func sizeOf(super []byte) (uint64, error) {
	logSize := binary.LittleEndian.Uint32(super[atLogBlockSize:])
	if logSize > maxLogBlockSize {
		return 0, fmt.Errorf("its superblock is damaged: it tells blocks of 2^%d KiB; repair it with e2fsck, which knows where its copies are", logSize)
	}
	blocks := uint64(binary.LittleEndian.Uint32(super[atBlocksLow:]))
	if binary.LittleEndian.Uint32(super[atIncompatible:])&incompatibleBig != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[atBlocksHigh:])) << 32
	}
	size := blocks << (10 + logSize)
	if blocks == 0 || size>>(10+logSize) != blocks {
		return 0, fmt.Errorf("its superblock is damaged: it tells %d blocks; repair it with e2fsck, which knows where its copies are", blocks)
	}
	return size, nil
}
