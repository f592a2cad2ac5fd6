package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// guest reads one guest's proc and sys trees; tests put others in their
// place.
type guest struct {
	proc, sys string
}

// maxText bounds every text that is read, in bytes.
const maxText = 64 << 10

// read returns a file's text, cut at maxText.
func read(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(data), err
}

// readFile reads an interface file into evidence, with the symbolic errno
// where it cannot be read.
func readFile(name string) evidence.File {
	text, err := read(name)
	if err != nil {
		return evidence.File{Errno: errnoName(err)}
	}
	return evidence.File{Text: text}
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
		target, err := os.Readlink(filepath.Join(dir, "fd", entry.Name()))
		if err == nil && (target == root || strings.HasPrefix(target, root+"/")) {
			found = append(found, target)
		}
	}
	return found
}

// hash returns the SHA-256 and size of a file's content.
func hash(name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
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
