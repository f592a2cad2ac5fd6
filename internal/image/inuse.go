package image

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandproof/internal/redact"
)

// mostUsers is how many users of an image are named.
const mostUsers = 5

// inUse tells who has an image open: processes by their descriptors and
// mappings (proc(5)), and loop devices. Where the kernel lets this user ask, it
// says whether there is anybody else at all (fcntl(2), F_SETLEASE); where it
// does not, unsure says what could not be looked at.
func inUse(image string) (users []string, unsure string, err error) {
	info, err := os.Stat(image)
	if err != nil {
		return nil, "", err
	}
	hidden := 0
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, "", err
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		switch has, err := hasOpen(pid, info); {
		case has:
			users = append(users, fmt.Sprintf("process %d (%s)", pid, commandName(pid)))
		case errors.Is(err, fs.ErrPermission):
			hidden++
		}
	}
	users = append(users, loops(image, info)...)
	if len(users) > mostUsers {
		users = append(users[:mostUsers], fmt.Sprintf("and %d more", len(users)-mostUsers))
	}
	if len(users) > 0 {
		return users, "", nil
	}
	switch alone, err := isAlone(image); {
	case err == nil && !alone:
		return []string{"somebody whom this user may not see"}, "", nil
	case err != nil && hidden > 0:
		return nil, fmt.Sprintf("%d processes of other users could not be looked at: whether one of them has the image open is not known (run as root to know)", hidden), nil
	}
	return nil, "", nil
}

// isAlone asks the kernel whether nobody else has a file open, for which the
// user must own it. Where it cannot be asked, that is the error.
func isAlone(image string) (bool, error) {
	f, err := os.Open(image)
	if err != nil {
		return false, err
	}
	defer f.Close() // gives the lease back
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	return err == nil, err
}

func hasOpen(pid int, file os.FileInfo) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, d := range open {
		if info, err := os.Stat(filepath.Join(dir, d.Name())); err == nil && os.SameFile(info, file) {
			return true, nil
		}
	}
	return mapped(pid, file)
}

// mapped looks for a file among a process's mappings, by device and inode.
func mapped(pid int, file os.FileInfo) (bool, error) {
	stat := statOf(file)
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false, err
	}
	defer f.Close()
	want := fmt.Sprintf("%02x:%02x %d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 5 && fields[3]+" "+fields[4] == want {
			return true, nil
		}
	}
	return false, nil
}

func commandName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "ended"
	}
	return redact.Terminal(strings.TrimSpace(string(name)))
}

// loops are the loop devices that show an image.
func loops(image string, file os.FileInfo) []string {
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil
	}
	var found []string
	for _, d := range devices {
		backing, err := os.ReadFile(d)
		if err != nil {
			continue
		}
		name := strings.TrimSpace(string(backing))
		info, err := os.Stat(name)
		if err == nil && os.SameFile(info, file) || name == image {
			found = append(found, "the loop device "+filepath.Base(filepath.Dir(filepath.Dir(d))))
		}
	}
	return found
}
