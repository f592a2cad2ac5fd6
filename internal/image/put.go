package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// attributes are what a file in an image has beside its content, as debugfs
// prints it.
type attributes struct {
	mode  string // permissions in octal, as 755
	owner string // uid:gid
	// times are those of the inode by debugfs' names for them, with what it
	// prints: seconds, and what goes beyond them. Empty means now.
	times map[string]stamp
	// xattrs are the extended attributes, in no order.
	xattrs map[string]string
}

// stamp is a time as it stands in an inode, both parts in hexadecimal; extra is
// empty in file systems with small inodes.
type stamp struct{ seconds, extra string }

var (
	statTime = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^ *(ctime|atime|mtime|crtime): 0x([0-9a-f]{1,8})(?::([0-9a-f]{1,8}))? -- `)
	})
	eaName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^  (\S+) \([0-9]+\)`) })
	eaSafe = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(user|security|trusted|system)\.[A-Za-z0-9._-]+$`) })
)

// parseTimes reads the times that debugfs' stat prints.
func parseTimes(text string) map[string]stamp {
	times := map[string]stamp{}
	for _, m := range statTime().FindAllStringSubmatch(text, -1) {
		times[m[1]] = stamp{m[2], m[3]}
	}
	return times
}

// attributesOf reads what a file of the image has beside its content.
func (e editor) attributesOf(ctx context.Context, number int) (attributes, error) {
	request := func(format string) (string, error) {
		out := &beginning{}
		said, err := e.tool(ctx, nil, nil, out, "debugfs", "-R", fmt.Sprintf(format, number))
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, said)
		}
		return out.String(), nil
	}
	text, err := request("stat <%d>")
	if err != nil {
		return attributes{}, err
	}
	found, err := parseStat(text)
	if err != nil {
		return attributes{}, err
	}
	a := attributes{mode: found.mode, owner: found.owner, times: parseTimes(text), xattrs: map[string]string{}}
	list, err := request("ea_list <%d>")
	if err != nil {
		return attributes{}, err
	}
	for _, m := range eaName().FindAllStringSubmatch(list, -1) {
		// The content of a small file, which goes with the content.
		if m[1] == "system.data" {
			continue
		}
		if !eaSafe().MatchString(m[1]) {
			return attributes{}, fmt.Errorf("it has an extended attribute of the name %q, which debugfs cannot be told to keep", m[1])
		}
		if a.xattrs[m[1]], err = e.xattr(ctx, number, m[1]); err != nil {
			return attributes{}, err
		}
	}
	return a, nil
}

// xattr reads one extended attribute.
func (e editor) xattr(ctx context.Context, number int, name string) (string, error) {
	f, err := inMemory(nil)
	if err != nil {
		return "", err
	}
	defer f.Close()
	said, err := e.tool(ctx, f, nil, io.Discard, "debugfs", "-R", fmt.Sprintf("ea_get -f %s <%d> %s", hostFile, number, name))
	if err != nil || said != "" && strings.Contains(said, "ea_get:") {
		return "", errors.Join(err, fmt.Errorf("read the extended attribute %s: %s", name, said))
	}
	value, err := io.ReadAll(io.NewSectionReader(f, 0, mostSaid))
	return string(value), err
}

// inMemory is a file that has no name and lies in no file system.
func inMemory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("sandproof", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "a file in memory")
	if _, err := f.WriteAt(content, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// write makes a file of the image, in the place of what has that name in the
// directory, with attributes. What debugfs did is read back: it tells nothing
// by its exit status.
func (e editor) write(ctx context.Context, dir int, name string, content []byte, a attributes) error {
	host, err := inMemory(content)
	if err != nil {
		return err
	}
	defer host.Close()
	uid, gid, _ := strings.Cut(a.owner, ":")
	requests := fmt.Sprintf("cd <%d>\n", dir)
	switch _, err := e.look(ctx, dir, name); {
	case errors.Is(err, errNotThere):
	case err != nil:
		return err
	default:
		requests += "rm " + name + "\n"
	}
	// The mode carries the bits that make it a regular file (inode(7)).
	requests += fmt.Sprintf("write %[1]s %[2]s\nsif %[2]s uid %[3]s\nsif %[2]s gid %[4]s\nsif %[2]s mode 0%[5]o\n", hostFile, name, uid, gid, 0o100000|octal(a.mode))
	said, err := e.tool(ctx, host, strings.NewReader(requests), io.Discard, "debugfs", "-w", "-f", "-")
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	for _, key := range slices.Sorted(maps.Keys(a.xattrs)) {
		if err := e.setXattr(ctx, dir, name, key, a.xattrs[key]); err != nil {
			return err
		}
	}
	if len(a.times) > 0 {
		if err := e.setTimes(ctx, dir, name, a.times); err != nil {
			return err
		}
	}
	if err := e.verify(ctx, dir, name, content, a); err != nil {
		return fmt.Errorf("%s was not written as it should be: %w; debugfs said: %s", name, err, said)
	}
	return nil
}

func (e editor) setXattr(ctx context.Context, dir int, name, key, value string) error {
	f, err := inMemory([]byte(value))
	if err != nil {
		return err
	}
	defer f.Close()
	requests := fmt.Sprintf("cd <%d>\nea_set -f %s %s %s\n", dir, hostFile, name, key)
	if said, err := e.tool(ctx, f, strings.NewReader(requests), io.Discard, "debugfs", "-w", "-f", "-"); err != nil {
		return fmt.Errorf("set the extended attribute %s: %w: %s", key, err, said)
	}
	return nil
}

func (e editor) setTimes(ctx context.Context, dir int, name string, times map[string]stamp) error {
	var requests bytes.Buffer
	fmt.Fprintf(&requests, "cd <%d>\n", dir)
	for _, key := range slices.Sorted(maps.Keys(times)) {
		fmt.Fprintf(&requests, "sif %s %s @0x%s\n", name, key, times[key].seconds)
		if times[key].extra != "" {
			fmt.Fprintf(&requests, "sif %s %s_extra 0x%s\n", name, key, times[key].extra)
		}
	}
	if said, err := e.tool(ctx, nil, &requests, io.Discard, "debugfs", "-w", "-f", "-"); err != nil {
		return fmt.Errorf("set its times: %w: %s", err, said)
	}
	return nil
}

// verify looks whether the image has a file with that content and those
// attributes.
func (e editor) verify(ctx context.Context, dir int, name string, content []byte, want attributes) error {
	found, err := e.look(ctx, dir, name)
	if err != nil {
		return err
	}
	if found.kind != "regular" {
		return fmt.Errorf("it is a %s", found.kind)
	}
	got, err := e.attributesOf(ctx, found.number)
	switch {
	case err != nil:
		return err
	case got.mode != want.mode || got.owner != want.owner:
		return fmt.Errorf("it belongs to %s with mode %s, and should belong to %s with mode %s", got.owner, got.mode, want.owner, want.mode)
	case len(want.times) > 0 && !maps.Equal(got.times, want.times):
		return errors.New("its times are not those that it had")
	case !maps.Equal(got.xattrs, want.xattrs):
		return errors.New("its extended attributes are not those that it had")
	}
	have, err := e.read(ctx, found, int64(len(content)))
	if err != nil {
		return fmt.Errorf("its content cannot be read back: %w", err)
	}
	if !bytes.Equal(have, content) {
		return errors.New("its content reads back differently, maybe because the image has no room")
	}
	return nil
}

// read returns the content of a file of the image, of at most so many bytes.
func (e editor) read(ctx context.Context, from inode, most int64) ([]byte, error) {
	f, err := e.extract(ctx, from, most)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// makeDirectory makes a directory and those above it, where they are not
// there, and returns its inode.
func (e editor) makeDirectory(ctx context.Context, name string) (int, error) {
	number, err := e.directory(ctx, name)
	if !errors.Is(err, errNotThere) || path.Clean(name) == "/" {
		return number, err
	}
	above, err := e.makeDirectory(ctx, path.Dir(name))
	if err != nil {
		return 0, err
	}
	requests := fmt.Sprintf("cd <%d>\nmkdir %s\n", above, path.Base(name))
	said, err := e.tool(ctx, nil, strings.NewReader(requests), io.Discard, "debugfs", "-w", "-f", "-")
	if err != nil {
		return 0, fmt.Errorf("make %s: %w: %s", name, err, said)
	}
	found, err := e.look(ctx, above, path.Base(name))
	if err != nil || found.kind != "directory" || found.owner != "0:0" {
		return 0, fmt.Errorf("the directory %s was not made as it should be, maybe because the image has no room: %w; debugfs said: %s", name, err, said)
	}
	return found.number, nil
}

// octal reads permissions in octal, which parseStat let through.
func octal(mode string) int {
	value := 0
	for _, digit := range mode {
		value = value*8 + int(digit-'0')
	}
	return value
}

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
