package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// superblock is one of a file system of so many blocks of 1 KiB << log.
func superblock(blocks uint64, log uint32, big bool) []byte {
	super := make([]byte, superblockSize)
	binary.LittleEndian.PutUint16(super[atMagic:], magic)
	binary.LittleEndian.PutUint32(super[atBlocksLow:], uint32(blocks))
	binary.LittleEndian.PutUint32(super[atLogBlockSize:], log)
	if big {
		binary.LittleEndian.PutUint32(super[atIncompatible:], incompatibleBig)
		binary.LittleEndian.PutUint32(super[atBlocksHigh:], uint32(blocks>>32))
	}
	return super
}

// image is a file with a superblock, made longer or shorter to a size.
func image(t *testing.T, super []byte, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rootfs.ext4")
	if err := os.WriteFile(name, append(make([]byte, superblockAt), super...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCheck(t *testing.T) {
	noMagic := superblock(64, 0, false)
	noMagic[atMagic]++
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, test := range []struct {
		name, image, want string
	}{
		{"whole", image(t, superblock(64, 0, false), 64<<10), ""},
		{"longer than its file system", image(t, superblock(64, 0, false), 65<<10), ""},
		{"blocks of 4 KiB", image(t, superblock(16, 2, true), 64<<10), ""},
		{"a high half that does not count", image(t, superblock(64|1<<32, 0, false), 64<<10), ""},
		{"cut short", image(t, superblock(64, 0, false), 64<<10-1), "is cut short: its file system has 65536 bytes, the file 65535"},
		{"cut short by its high half", image(t, superblock(64|1<<32, 0, true), 64<<10), "is cut short"},
		{"cut off in the superblock", image(t, superblock(64, 0, false), superblockAt+0x40), "is cut short"},
		{"cut off before the magic number", image(t, superblock(64, 0, false), superblockAt+0x38), "is no ext4 file system"},
		{"a wrong magic number", image(t, noMagic, 64<<10), "is no ext4 file system"},
		{"a hole", image(t, nil, 64<<10), "is no ext4 file system"},
		{"impossible blocks", image(t, superblock(64, 7, false), 64<<10), "its superblock is damaged: it tells blocks of 2^7 KiB"},
		{"no blocks", image(t, superblock(0, 0, false), 64<<10), "its superblock is damaged: it tells 0 blocks"},
		{"more than there can be", image(t, superblock(1<<60, 6, true), 64<<10), "its superblock is damaged"},
		{"empty", image(t, nil, 0), "is empty"},
		{"a directory", dir, "is a directory"},
		{"a device", os.DevNull, "is no regular file but a device"},
		{"a socket", socket, "is no regular file but a socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Check(test.image)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if err := Check(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

// The superblock of a real file system is read as the tools read it.
func TestCheckKnowsMke2fs(t *testing.T) {
	for _, args := range [][]string{{"-t", "ext4"}, {"-t", "ext4", "-b", "1024", "-O", "^64bit"}, {"-t", "ext4", "-b", "4096", "-O", "64bit,inline_data"}} {
		name := filepath.Join(t.TempDir(), "rootfs.ext4")
		mke2fs(t, name, "8M", args...)
		if err := Check(name); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if err := os.Truncate(name, 8<<20-1024); err != nil {
			t.Fatal(err)
		}
		if err := Check(name); err == nil || !strings.Contains(err.Error(), "is cut short: its file system has 8388608 bytes") {
			t.Errorf("%v, a block less: %v", args, err)
		}
	}
}

func mke2fs(t *testing.T, name, size string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/sbin/mke2fs", append(append([]string{"-q", "-F"}, args...), name, size)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A superblock is somebody else's: no bytes of it may break the reading.
func FuzzSizeOf(f *testing.F) {
	f.Add(superblock(64, 0, false))
	f.Add(superblock(1<<60, 6, true))
	f.Fuzz(func(t *testing.T, data []byte) {
		super := append(bytes.Clone(data), make([]byte, superblockSize)...)[:superblockSize]
		if size, err := sizeOf(super); err == nil && (size == 0 || size%1024 != 0) {
			t.Errorf("a size of %d", size)
		}
	})
}
