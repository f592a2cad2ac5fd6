package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// guest reads one guest's proc and sys trees; tests put others in their
// place.
type guest struct {
	proc, sys string
	// answer is how long envd may take to tell its version.
	answer time.Duration
	// journalctl is the guest's own program that reads its journal.
	journalctl string
}

// maxText bounds every text that is reported, in bytes. Interface files and
// command lines are far shorter, and all of them together fit into what the
// harness reads of a probe, even where each byte has to be escaped.
const maxText = 8 << 10

// maxFile bounds the text of an interface file, in bytes: a value is short, and
// what is cut off a longer one makes it no value.
const maxFile = 2 << 10

// maxWhole bounds a file in which something is looked for, in bytes: a guest
// may have hundreds of mounts and processors.
const maxWhole = 4 << 20

// maxFDs bounds how many descriptors of a process are reported.
const maxFDs = 32

// maxGenerations bounds how many processes are looked at above another: a chain
// of parents is far shorter, and a hostile one may be a ring.
const maxGenerations = 32

// open opens a regular file. Others could keep the probe waiting for ever: a
// FIFO under an interface file's name, a link to a device.
func open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read returns a file's text, cut at maxText.
func read(name string) (string, error) {
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(data), err
}

// readWhole returns a file's whole text, or an error where it is longer than
// maxWhole: what is looked for must not be missed by a cut.
func readWhole(name string) (string, error) {
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxWhole+1))
	if err == nil && len(data) > maxWhole {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxWhole)
	}
	return string(data), err
}

// readFile reads an interface file into evidence, with the symbolic errno
// where it cannot be read.
func readFile(name string) evidence.File {
	text, err := read(name)
	if err != nil {
		return evidence.File{Errno: errnoName(err)}
	}
	return evidence.File{Text: text[:min(len(text), maxFile)], Inode: inode(name)}
}

// inode returns a file's number, 0 where it cannot be told.
func inode(name string) uint64 {
	var stat unix.Stat_t
	if err := unix.Stat(name, &stat); err != nil {
		return 0
	}
	return stat.Ino
}

func errnoName(err error) string {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "ENOENT"
	}
	return err.Error()
}

// process reads one process from /proc. What cannot be read stays absent.
func (g guest) process(pid int) evidence.Process {
	dir := filepath.Join(g.proc, strconv.Itoa(pid))
	p := evidence.Process{PID: pid}
	stat, err := read(filepath.Join(dir, "stat"))
	if err != nil {
		p.Error = err.Error()
		return p
	}
	addStat(&p, stat)
	return g.complete(p, dir)
}

func (g guest) complete(p evidence.Process, dir string) evidence.Process {
	if text, err := read(filepath.Join(dir, "cgroup")); err == nil {
		p.Cgroup = text
	} else {
		p.Error = err.Error()
	}
	if text, err := read(filepath.Join(dir, "cmdline")); err == nil && text != "" {
		p.Cmdline = strings.Split(strings.TrimSuffix(text, "\x00"), "\x00")
	}
	if text, err := read(filepath.Join(dir, "oom_score_adj")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
			p.OOMScoreAdj = &n
		}
	}
	p.Exe, _ = os.Readlink(filepath.Join(dir, "exe"))
	p.Stderr, _ = os.Readlink(filepath.Join(dir, "fd", "2"))
	p.CgroupFDs = g.cgroupFDs(dir)
	return p
}

// cgroupFDs lists the open descriptors that point at cgroup directories: a
// real manager's children inherit them.
func (g guest) cgroupFDs(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil
	}
	root := filepath.Join(g.sys, "fs", "cgroup")
	var found []string
	for _, entry := range entries {
		if len(found) == maxFDs {
			break
		}
		target, err := os.Readlink(filepath.Join(dir, "fd", entry.Name()))
		if err == nil && (target == root || strings.HasPrefix(target, root+"/")) {
			found = append(found, target)
		}
	}
	return found
}

// hash returns the SHA-256 and size of a file's content.
func hash(name string) (sum string, size int64, err error) {
	f, err := open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
