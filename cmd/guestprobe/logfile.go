package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// maxLogFile bounds what is read of a log file, in bytes. envd's lines about
// cgroups come before it listens, so they are the first that it writes.
const maxLogFile = 4 << 20

// maxCompared bounds how many descriptors of a process are compared with a file.
const maxCompared = 256

// logFile reads the regular file to which a process's standard error goes; nil
// where that is none.
//
// Which part of the file is the process's own, the kernel tells by the
// descriptor's position (proc_pid_fdinfo(5)): it is 0 until something is
// written through the descriptor, and then the end of what was written last.
// Without O_APPEND everything before it was written through this descriptor;
// with O_APPEND, older content lies before it, and where that ends nothing
// tells. The file is reached by the descriptor, whatever became of its name.
func (g guest) logFile(p evidence.Process) *evidence.LogFile {
	descriptor := filepath.Join(g.proc, strconv.Itoa(p.PID), "fd", "2")
	info, err := os.Stat(descriptor)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	l := &evidence.LogFile{Path: p.Stderr, Inode: inode(descriptor), Holders: g.holders(p, info)}
	if err := g.readLogFile(l, p.PID, info); err != nil {
		l.Error = err.Error()
		return l
	}
	if l.Control, err = writeControl(descriptor); err != nil {
		l.Error = "write a line to the file: " + err.Error()
	}
	return l
}

// readLogFile fills in what the descriptor and the file tell.
func (g guest) readLogFile(l *evidence.LogFile, pid int, info os.FileInfo) error {
	position, flags, err := g.fdinfo(pid, 2)
	if err != nil {
		return err
	}
	l.Position, l.Mode = &position, evidence.LogFileWritten
	if flags&unix.O_APPEND != 0 {
		l.Mode = evidence.LogFileAppended
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return errors.New("envd's standard error was opened for reading alone")
	}
	if g.overwritten(pid, info) {
		return errors.New("envd's standard output is another descriptor of the same file, and not both append: they overwrite each other")
	}
	f, err := open(filepath.Join(g.proc, strconv.Itoa(pid), "fd", "2"))
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if l.Size = now.Size(); l.Size < position {
		return fmt.Errorf("the file was cut to %d bytes, and envd had written up to byte %d", l.Size, position)
	}
	own := l.Mode == evidence.LogFileWritten && len(l.Holders) == 0
	from, to := int64(0), min(position, maxLogFile)
	if !own {
		from, to = max(0, position-maxLogFile), position
	}
	data := make([]byte, to-from)
	if _, err := f.ReadAt(data, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	l.Lines, l.Doubtful = ownLines(data, own, len(l.Holders) == 0)
	switch {
	case bytes.IndexByte(data, 0) >= 0:
		return errors.New("the file holds zero bytes, as one that was cut while envd wrote to it: what stood there is lost")
	case l.Mode == evidence.LogFileWritten && !own && from > 0:
		return fmt.Errorf("more than %d bytes were written through a descriptor that envd shares: its first lines were not read", maxLogFile)
	}
	return nil
}

// ownLines picks the lines about cgroups out of what lies before a descriptor's
// position. They are all its process's, where that is known; else only the
// last line is, which ends where the descriptor wrote last, and that only where
// no other process has it.
func ownLines(data []byte, own, alone bool) (lines, doubtful []string) {
	end := len(data)
	at := 0
	for line := range bytes.Lines(data) {
		at += len(line)
		text := strings.TrimRight(string(line), "\r\n")
		if !aboutCgroups(text) {
			continue
		}
		to := &doubtful
		if own || alone && at == end {
			to = &lines
		}
		if len(*to) < maxJournalLines {
			*to = append(*to, text[:min(len(text), maxJournalLine)])
		}
	}
	return lines, doubtful
}

// fdinfo reads a descriptor's position in bytes and its flags.
func (g guest) fdinfo(pid, fd int) (position int64, flags int, err error) {
	name := filepath.Join(g.proc, strconv.Itoa(pid), "fdinfo", strconv.Itoa(fd))
	text, err := read(name)
	if err != nil {
		return 0, 0, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	position, noPosition := strconv.ParseInt(fields["pos"], 10, 64)
	octal, noFlags := strconv.ParseInt(fields["flags"], 8, 32)
	if err := errors.Join(noPosition, noFlags); err != nil || position < 0 {
		return 0, 0, fmt.Errorf("%s is not what it should be: %.100q", name, text)
	}
	return position, int(octal), nil
}

// overwritten tells whether a process's standard output may overwrite its
// standard error in a file to which both go: through another descriptor, where
// not both append. One that they share is always at one position.
func (g guest) overwritten(pid int, file os.FileInfo) bool {
	stdout, err := os.Stat(filepath.Join(g.proc, strconv.Itoa(pid), "fd", "1"))
	if err != nil || !os.SameFile(stdout, file) {
		return false
	}
	const looks = 3 // envd may write between two of them
	for range looks {
		before, flags, noBefore := g.fdinfo(pid, 2)
		output, outputFlags, noOutput := g.fdinfo(pid, 1)
		after, _, noAfter := g.fdinfo(pid, 2)
		switch {
		case errors.Join(noBefore, noOutput, noAfter) != nil:
			return true
		case flags&outputFlags&unix.O_APPEND != 0, before == output && output == after && flags == outputFlags:
			return false
		}
	}
	return true
}

// holders are the processes above a process that have the file open, too: they
// may have given their descriptor to another envd before.
func (g guest) holders(p evidence.Process, file os.FileInfo) []int {
	var found []int
	for range maxGenerations {
		if p.PPID < 1 {
			break
		}
		p = g.process(p.PPID)
		if p.Error != "" {
			break
		}
		dir := filepath.Join(g.proc, strconv.Itoa(p.PID), "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries[:min(len(entries), maxCompared)] {
			if other, err := os.Stat(filepath.Join(dir, entry.Name())); err == nil && os.SameFile(other, file) {
				found = append(found, p.PID)
				break
			}
		}
	}
	return found
}

// writeControl appends a line of the probe's to the file and returns it as it
// was read back: the file takes lines, and keeps them.
func writeControl(descriptor string) (string, error) {
	in, err := open(descriptor)
	if err != nil {
		return "", err
	}
	defer in.Close()
	before, err := in.Stat()
	if err != nil {
		return "", err
	}
	line := evidence.CanaryLine(rand.Text())
	text := line + "\n"
	last := make([]byte, 1)
	if size := before.Size(); size > 0 {
		if _, err := in.ReadAt(last, size-1); err != nil {
			return "", err
		}
		if last[0] != '\n' {
			text = "\n" + text
		}
	}
	out, err := os.OpenFile(descriptor, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(out, text)
	if err := errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	// Others may have appended in between, and not much.
	back, err := io.ReadAll(io.LimitReader(io.NewSectionReader(in, before.Size(), maxLogFile), maxLogFile))
	if err != nil {
		return "", err
	}
	if !bytes.Contains(back, []byte(line)) {
		return "", errors.New("it was not there when the file was read again")
	}
	return line, nil
}
