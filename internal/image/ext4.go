package image

import (
	"context"
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
