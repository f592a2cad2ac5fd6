package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
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
	limited, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	cmd := exec.CommandContext(limited, name, append(args, imageFile)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGFS_PAGER=cat")
	cmd.ExtraFiles = []*os.File{e.image}
	// A tool that outlived a killed patcher would have the image open, and the
	// next patcher be refused. The kernel goes by the thread that started it
	// (prctl(2), PR_SET_PDEATHSIG), which is kept until then.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if host != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, host)
	}
	trouble := &beginning{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, trouble
	if err := cmd.Run(); err != nil {
		return trouble.String(), errors.Join(limited.Err(), fmt.Errorf("%s: %w", tool, err))
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
	size              int64 // bytes
}

// rootInode is the number of an ext4's root directory.
const rootInode = 2

var errNotThere = errors.New("the image has no such file")

var (
	statFirst = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^Inode: ([0-9]+) +Type: ([a-z ]+?) +Mode: +0*([0-7]+) `)
	})
	statOwner = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^User: +([0-9]+) +Group: +([0-9]+) +(?:Project: +[0-9]+ +)?Size: ([0-9]+)$`)
	})
	statTarget = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^Fast link dest: "(.*)"$`) })
	// safeName is what may stand in a request to debugfs without quotes; an
	// image's links can hold anything.
	safeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._+@:-]+$`) })
)

// look returns what a directory has by a name.
func (e editor) look(ctx context.Context, dir int, name string) (inode, error) {
	if !safeName().MatchString(name) {
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
	first, owner := statFirst().FindStringSubmatch(text), statOwner().FindStringSubmatch(text)
	if first == nil || owner == nil {
		return inode{}, fmt.Errorf("debugfs told no inode in %.300q", text)
	}
	number, err := strconv.Atoi(first[1])
	if err != nil {
		return inode{}, fmt.Errorf("debugfs told the inode %q", first[1])
	}
	size, err := strconv.ParseInt(owner[3], 10, 64)
	if err != nil {
		return inode{}, fmt.Errorf("debugfs told the size %q", owner[3])
	}
	found := inode{number: number, kind: first[2], mode: first[3], owner: owner[1] + ":" + owner[2], size: size}
	if target := statTarget().FindStringSubmatch(text); target != nil && found.kind == "symlink" && int64(len(target[1])) == found.size {
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

// errTool is that a tool of e2fsprogs could not be used at all.
var errTool = errors.New("e2fsprogs cannot be used")

// mostStats bounds what debugfs prints of the inodes that one question is for,
// in bytes.
const mostStats = 4 << 20

// batch lets debugfs do requests one after the other, and returns what it
// prints for each of them. What an image holds cannot pass for the beginning
// of another answer: between them stands a word that it cannot know.
func (e editor) batch(ctx context.Context, requests []string) (answers []string, said string, err error) {
	// A request that debugfs refuses for its argument, and prints before that.
	separator := "pwd " + rand.Text()
	var in strings.Builder
	for _, request := range requests {
		// debugfs prints each request before it tries it.
		fmt.Fprintf(&in, "%s\n%s\n", separator, request)
	}
	out := &bounded{most: mostStats}
	if said, err = e.tool(ctx, nil, strings.NewReader(in.String()), out, "debugfs", "-f", "-"); err != nil {
		return nil, said, fmt.Errorf("%w: %w", errTool, err)
	}
	if out.cut {
		return nil, said, fmt.Errorf("debugfs told more than %d bytes of %d files: the image is damaged, or made to harm", mostStats, len(requests))
	}
	parts := strings.Split(out.text.String(), "debugfs: "+separator+"\n")
	if len(parts) != len(requests)+1 {
		return nil, said, fmt.Errorf("debugfs answered %d of %d requests", len(parts)-1, len(requests))
	}
	if parts[0] != "" {
		// It goes on in spite of checksums that are wrong.
		return nil, said, fmt.Errorf("debugfs says of the file system: %s", redact.Terminal(clip(strings.TrimSpace(parts[0]), 500)))
	}
	for _, part := range parts[1:] {
		_, answer, _ := strings.Cut(part, "\n") // the request
		answers = append(answers, answer)
	}
	return answers, said, nil
}

// bounded keeps what is written to it, up to a number of bytes.
type bounded struct {
	text strings.Builder
	most int
	cut  bool
}

// Write implements io.Writer; it never fails.
func (b *bounded) Write(p []byte) (int, error) {
	room := min(len(p), b.most-b.text.Len())
	b.cut = b.cut || room < len(p)
	b.text.Write(p[:room])
	return len(p), nil
}

// extract copies a file of the image into one without a name. debugfs prints
// files that lie within their inode (inline_data) with zeros behind them, so
// that only their size tells where they end.
func (e editor) extract(ctx context.Context, from inode, most int64) (*os.File, error) {
	if from.size > most {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are read", from.size, most)
	}
	to, err := nameless(os.TempDir())
	if err != nil {
		return nil, err
	}
	said, err := e.tool(ctx, to, nil, io.Discard, "debugfs", "-R", fmt.Sprintf("dump <%d> %s", from.number, hostFile))
	if err == nil {
		var info os.FileInfo
		if info, err = to.Stat(); err == nil && info.Size() < from.size {
			err = fmt.Errorf("%d of its %d bytes can be read", info.Size(), from.size)
		}
	}
	if err == nil {
		err = to.Truncate(from.size)
	}
	if err == nil {
		_, err = to.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, said), to.Close())
	}
	return to, nil
}

// tree is what is known of an image's directories: what lies at paths that
// lead over no link.
type tree struct {
	editor
	known map[string]*inode // nil for what is not there
}

// maxPath is how long a path may be (Linux, PATH_MAX).
const maxPath = 4096

// resolve looks at paths as the guest would, over links within the image. It
// asks for all of them at once, so that the tool runs a few times only.
func (t *tree) resolve(ctx context.Context, paths []string) ([]File, error) {
	files := make([]File, len(paths))
	for {
		unknown := map[string]bool{}
		for i, name := range paths {
			var missing string
			files[i], missing = t.walk(name)
			if missing == "" {
				continue
			}
			// Most names on a way are no links: all of them are asked for.
			for at := missing; at != "/"; at = path.Dir(at) {
				if _, ok := t.known[at]; !ok {
					unknown[at] = true
				}
			}
			rest := strings.TrimPrefix(path.Clean(name), missing)
			for at := missing; rest != path.Clean(name) && rest != ""; {
				next, after, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
				if !safeName().MatchString(next) {
					break
				}
				at, rest = path.Join(at, next), after
				if _, ok := t.known[at]; !ok {
					unknown[at] = true
				}
			}
		}
		if len(unknown) == 0 {
			return files, nil
		}
		if err := t.look(ctx, slices.Sorted(maps.Keys(unknown))); err != nil {
			return nil, err
		}
	}
}

// look asks for what lies at paths.
func (t *tree) look(ctx context.Context, paths []string) error {
	requests := make([]string, 0, len(paths))
	for _, name := range paths {
		requests = append(requests, "stat "+name)
	}
	answers, said, err := t.batch(ctx, requests)
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	for i, answer := range answers {
		t.known[paths[i]] = nil
		if answer == "" {
			continue
		}
		found, err := parseStat(answer)
		if err != nil {
			return fmt.Errorf("%s: %w", paths[i], err)
		}
		if found.kind == "symlink" && found.target == "" && found.size > 0 && found.size < maxPath {
			// What cannot be read leads nowhere.
			if found.target, err = t.text(ctx, found, maxPath); ctx.Err() != nil {
				return err
			}
		}
		t.known[paths[i]] = &found
	}
	return nil
}

// text reads a small file.
func (t *tree) text(ctx context.Context, from inode, most int64) (string, error) {
	f, err := t.extract(ctx, from, most)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return string(data), err
}

// walk follows a path through what is known, and returns the first place on
// the way that is not.
func (t *tree) walk(name string) (f File, missing string) {
	f.Path = name
	at := "/"
	kind := "directory"
	var found *inode
	for todo := parts(name); len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch {
		case kind != "directory":
			return f, "" // nothing is below it
		case part == ".":
			continue
		case part == "..":
			at = path.Dir(at)
			found = t.known[at]
			continue
		case !safeName().MatchString(part):
			f.Problem = fmt.Sprintf("the way to it leads over the name %q, which is not followed", part)
			return f, ""
		}
		next := path.Join(at, part)
		var ok bool
		if found, ok = t.known[next]; !ok {
			return f, next
		}
		switch {
		case found == nil:
			f.Real = next
			return f, ""
		case found.kind != "symlink":
			at, kind = next, found.kind
			continue
		}
		f.Links = append(f.Links, Link{next, found.target})
		if found.target == "" {
			f.Problem = "where the link " + next + " leads cannot be read"
			return f, ""
		}
		if len(f.Links) > maxLinks {
			f.Problem = fmt.Sprintf("more than %d links follow each other on the way to it", maxLinks)
			return f, ""
		}
		if path.IsAbs(found.target) {
			at = "/"
		}
		todo = append(parts(found.target), todo...)
		found = nil
	}
	f.Real, f.Kind = at, kind
	if found != nil {
		f.inode = *found
		f.Mode, f.Size = found.mode, found.size
		if _, err := fmt.Sscanf(found.owner, "%d:%d", &f.UID, &f.GID); err != nil {
			f.Problem = fmt.Sprintf("its owner is told as %q", found.owner)
		}
	}
	return f, ""
}
