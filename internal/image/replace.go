package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
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
	content, err := e.extract(ctx, got, got.size)
	if err != nil {
		return err
	}
	defer content.Close()
	if _, err := io.Copy(have, content); err != nil {
		return err
	}
	if !bytes.Equal(want.Sum(nil), have.Sum(nil)) {
		return errors.New("its content reads back differently")
	}
	return nil
}
