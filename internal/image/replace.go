package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/redact"
)

// Replacements are the host's files that take the place of those in an image;
// an empty path leaves what is there.
type Replacements struct{ Init, Envd string }

// envdPaths are where templates have envd: upstream's builds, and those that
// are made by hand.
var envdPaths = []string{"/usr/bin/envd", "/usr/local/bin/envd"}

const initPath = "/sbin/init"

// Replace returns a copy of an image that has no name and lies in TMPDIR, in
// which the files are replaced, and the paths inside at which they are. They
// belong to root and can be executed; a link in their place goes away, what
// it led to stays. Envd is put wherever the image has one, else where
// upstream's builds have it. debugfs tells nothing by its exit status, so
// what it did is read back, and checked with e2fsck. Nothing is left of the
// copy when the last process that has it open ends.
func Replace(ctx context.Context, image string, with Replacements) (*os.File, []string, error) {
	f, err := copyOf(ctx, image)
	if err != nil {
		return nil, nil, fmt.Errorf("copy the image: %w", err)
	}
	paths, err := replace(ctx, f, with)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("in a copy of %s: %w", image, err), f.Close())
	}
	return f, paths, nil
}

// copyOf is NamelessCopy, which can be given up.
func copyOf(ctx context.Context, image string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	copied := make(chan result)
	go func() {
		f, err := NamelessCopy(image)
		select {
		case copied <- result{f, err}:
		case <-ctx.Done():
			if err == nil {
				f.Close()
			}
		}
	}()
	select {
	case r := <-copied:
		return r.f, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func replace(ctx context.Context, image *os.File, with Replacements) ([]string, error) {
	e := editor{image}
	// As the kernel would at the mount: debugfs writes past a journal, which
	// would then undo it. Of a clean one e2fsck makes a full repair instead.
	dirty, err := hasDirtyJournal(image)
	if err != nil {
		return nil, err
	}
	if dirty {
		if out, err := e.run(ctx, "e2fsck", "-y", "-E", "journal_only"); err != nil {
			return nil, fmt.Errorf("replay its journal: %w: %s", err, out)
		}
	}
	if out, err := e.run(ctx, "e2fsck", "-fn"); err != nil {
		return nil, fmt.Errorf("the file system has errors before anything is replaced; mend the image with e2fsck -f: %w: %s", err, out)
	}
	var paths []string
	if with.Init != "" {
		paths = append(paths, initPath)
		if err := e.put(ctx, with.Init, initPath); err != nil {
			return nil, err
		}
	}
	if with.Envd != "" {
		at, err := e.envds(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range at {
			if err := e.put(ctx, with.Envd, name); err != nil {
				return nil, err
			}
		}
		paths = append(paths, at...)
	}
	if out, err := e.run(ctx, "e2fsck", "-fn"); err != nil {
		return nil, fmt.Errorf("the file system has errors after the replacement: %w: %s", err, out)
	}
	return paths, nil
}

// editor edits an open image with the tools of e2fsprogs, which find it by its
// descriptor.
type editor struct{ image *os.File }

// The paths at which a tool finds the image, and the host's file.
const (
	imageFile = "/proc/self/fd/3"
	hostFile  = "/proc/self/fd/4"
)

const (
	// editTime bounds one run of a tool, on an image that somebody else made.
	editTime = time.Minute
	// mostSaid bounds what is kept of a tool's output, in bytes.
	mostSaid = 64 << 10
)

// tool runs a tool on the image. What it prints goes to out, and what it says
// of errors is returned, bounded.
func (e editor) tool(ctx context.Context, host *os.File, in io.Reader, out io.Writer, tool string, args ...string) (said string, err error) {
	name, err := exec.LookPath(tool)
	if err != nil {
		// A plain user of Debian has the tools of e2fsprogs, but not on the path.
		name, err = exec.LookPath(filepath.Join("/usr/sbin", tool))
	}
	if err != nil {
		return "", fmt.Errorf("%s is not installed: run scripts/lab-deps.sh, or install e2fsprogs with the package manager", tool)
	}
	bounded, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	cmd := exec.CommandContext(bounded, name, append(args, imageFile)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGFS_PAGER=cat")
	cmd.ExtraFiles = []*os.File{e.image}
	if host != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, host)
	}
	trouble := &beginning{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, trouble
	if err := cmd.Run(); err != nil {
		return trouble.String(), errors.Join(bounded.Err(), fmt.Errorf("%s: %w", tool, err))
	}
	return trouble.String(), nil
}

// run runs a tool and returns everything that it prints.
func (e editor) run(ctx context.Context, tool string, args ...string) (string, error) {
	out := &beginning{}
	said, err := e.tool(ctx, nil, nil, out, tool, args...)
	return strings.TrimSpace(out.String() + said), err
}

// beginning keeps the beginning of what is written to it.
type beginning struct{ text []byte }

// Write implements io.Writer; it never fails.
func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), mostSaid-len(b.text))]...)
	return len(p), nil
}

// String is what was kept, harmless to show.
func (b *beginning) String() string { return redact.Terminal(string(b.text)) }

// inode is what the image has at a place: its number, what it is in debugfs'
// words, its permissions and owner, and where a link leads.
type inode struct {
	number            int
	kind, mode, owner string
	target            string
}

// rootInode is the number of an ext4's root directory.
const rootInode = 2

var errNotThere = errors.New("the image has no such file")

var (
	statFirst  = regexp.MustCompile(`(?m)^Inode: ([0-9]+) +Type: ([a-z ]+?) +Mode: +0*([0-7]+) `)
	statOwner  = regexp.MustCompile(`(?m)^User: +([0-9]+) +Group: +([0-9]+) `)
	statTarget = regexp.MustCompile(`(?m)^Fast link dest: "(.*)"$`)
	// safeName is what may stand in a request to debugfs without quotes; an
	// image's links can hold anything.
	safeName = regexp.MustCompile(`^[A-Za-z0-9._+@:-]+$`)
)

// look returns what a directory has by a name.
func (e editor) look(ctx context.Context, dir int, name string) (inode, error) {
	if !safeName.MatchString(name) {
		return inode{}, fmt.Errorf("a path in the image leads over the name %q, which is not followed", name)
	}
	out := &beginning{}
	said, err := e.tool(ctx, nil, strings.NewReader(fmt.Sprintf("cd <%d>\nstat %s\n", dir, name)), out, "debugfs", "-f", "-")
	if err != nil {
		return inode{}, fmt.Errorf("look for %s: %w: %s", name, err, said)
	}
	found, err := parseStat(out.String())
	if err != nil && strings.Contains(said, "File not found") {
		return inode{}, errNotThere
	}
	if err != nil {
		return inode{}, fmt.Errorf("look for %s: %w; debugfs said: %s", name, err, said)
	}
	return found, nil
}

// parseStat reads what debugfs' stat prints.
func parseStat(text string) (inode, error) {
	first, owner := statFirst.FindStringSubmatch(text), statOwner.FindStringSubmatch(text)
	if first == nil || owner == nil {
		return inode{}, fmt.Errorf("debugfs told no inode in %.300q", text)
	}
	number, err := strconv.Atoi(first[1])
	if err != nil {
		return inode{}, fmt.Errorf("debugfs told the inode %q", first[1])
	}
	found := inode{number: number, kind: first[2], mode: first[3], owner: owner[1] + ":" + owner[2]}
	if target := statTarget.FindStringSubmatch(text); target != nil && found.kind == "symlink" {
		found.target = target[1]
	}
	return found, nil
}

// maxLinks is how many links one path may lead over, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// directory returns the inode of a directory by its path, over links as the
// guest follows them: within the image.
func (e editor) directory(ctx context.Context, name string) (int, error) {
	at, links := rootInode, 0
	for todo := parts(name); len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		found, err := e.look(ctx, at, part)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case found.kind == "directory":
			at = found.number
		case found.kind == "symlink" && found.target != "" && links < maxLinks:
			links++
			if path.IsAbs(found.target) {
				at = rootInode
			}
			todo = append(parts(found.target), todo...)
		default:
			return 0, fmt.Errorf("%s cannot be followed in the image: %s is a %s", name, part, found.kind)
		}
	}
	return at, nil
}

// parts are the names of a path.
func parts(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// envds are the paths at which the image has an envd, or upstream's.
func (e editor) envds(ctx context.Context) ([]string, error) {
	var at []string
	for _, name := range envdPaths {
		dir, err := e.directory(ctx, path.Dir(name))
		if err == nil {
			_, err = e.look(ctx, dir, path.Base(name))
		}
		if err == nil {
			at = append(at, name)
		} else if !errors.Is(err, errNotThere) {
			return nil, err
		}
	}
	if at == nil {
		at = envdPaths[:1]
	}
	return at, nil
}

// put puts a file of the host's into the image, in the place of what has that
// path.
func (e editor) put(ctx context.Context, hostPath, name string) error {
	host, err := os.Open(hostPath)
	if err != nil {
		return fmt.Errorf("the replacement of %s: %w", name, err)
	}
	defer host.Close()
	if info, err := host.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("the replacement of %s: %s is no regular file", name, hostPath))
	}
	// The directory is gone to by its number: a write through a link to it
	// makes an entry that cannot be, and spoils the file system.
	dir, err := e.directory(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	requests := fmt.Sprintf("cd <%d>\n", dir)
	switch old, err := e.look(ctx, dir, base); {
	case errors.Is(err, errNotThere):
	case err != nil:
		return err
	case old.kind == "directory":
		return fmt.Errorf("%s is a directory in the image", name)
	default:
		requests += "rm " + base + "\n"
	}
	// The mode carries the bits that make it a regular file (inode(7)).
	requests += fmt.Sprintf("write %[1]s %[2]s\nsif %[2]s uid 0\nsif %[2]s gid 0\nsif %[2]s mode 0100755\n", hostFile, base)
	said, err := e.tool(ctx, host, strings.NewReader(requests), io.Discard, "debugfs", "-w", "-f", "-")
	if err == nil {
		err = e.readBack(ctx, dir, base, host)
	}
	if err != nil {
		return fmt.Errorf("%s was not written as it should be, maybe because the image has no room: %w; debugfs said: %s", name, err, said)
	}
	return nil
}

// readBack looks whether the image has the host's file by that name.
func (e editor) readBack(ctx context.Context, dir int, name string, host *os.File) error {
	got, err := e.look(ctx, dir, name)
	if err != nil {
		return err
	}
	if got.kind != "regular" || got.mode != "755" || got.owner != "0:0" {
		return fmt.Errorf("it is a %s file of %s with mode %s", got.kind, got.owner, got.mode)
	}
	if _, err := host.Seek(0, io.SeekStart); err != nil {
		return err
	}
	want, have := sha256.New(), sha256.New()
	if _, err := io.Copy(want, host); err != nil {
		return err
	}
	if said, err := e.tool(ctx, nil, nil, have, "debugfs", "-R", fmt.Sprintf("cat <%d>", got.number)); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	if !bytes.Equal(want.Sum(nil), have.Sum(nil)) {
		return errors.New("its content reads back differently")
	}
	return nil
}
