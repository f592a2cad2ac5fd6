package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sandproof/internal/evidence"
)

// Disk reads what the storage holds of the build of a sandbox, to be compared
// with what the guest runs. What cannot be read from here, or is not there, is
// said in it; an error is trouble of the tools.
func (s Storage) Disk(ctx context.Context, build string) (*evidence.Disk, error) {
	d := &evidence.Disk{Build: build}
	if !isUUID(build) {
		d.Missing = "it has not the form of a build's ID"
		return d, nil
	}
	if _, err := os.ReadDir(s.Dir); err != nil {
		d.Unreadable = err.Error()
		return d, nil //nolint:nilerr // it is what was found
	}
	rootFS := filepath.Join(s.Dir, build, rootFSName)
	info, err := os.Stat(rootFS)
	if errors.Is(err, fs.ErrNotExist) {
		d.Missing = err.Error()
		return d, nil
	}
	if err != nil {
		d.Unreadable = err.Error()
		return d, nil //nolint:nilerr // it is what was found
	}
	d.Image, d.Changed = rootFS, changed(info)
	b, err := s.at(rootFS)
	if err != nil {
		return nil, err
	}
	for _, path := range append([]string{b.Memfile, b.Snapfile}, b.CachedSnapshots...) {
		if path != "" {
			d.Snapshots = append(d.Snapshots, path)
		}
	}
	inv, err := Inspect(ctx, b)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.Unreadable = err.Error()
		return d, nil
	case err != nil:
		return nil, err
	case b.Header != "":
		d.Unreadable = b.Header + " makes it a layer that holds changes only"
		return d, nil
	case inv.Unreadable != "":
		d.Unreadable = inv.Unreadable
		return d, nil
	}
	if inv.Init.SHA256 != "" {
		d.Init = &evidence.DiskFile{Path: inv.Init.Path, Real: inv.Init.Real, SHA256: inv.Init.SHA256}
	}
	if inv.Init.Script != nil {
		d.Patched = inv.Init.Script.Patched
	}
	if inv.Systemd != nil {
		for _, dropIn := range inv.Systemd.DropIns {
			d.DropIns = append(d.DropIns, dropIn.Path)
		}
	}
	return d, nil
}

// changed is when a file was last written, or given its name: a rename changes
// the inode's own time alone.
func changed(info fs.FileInfo) time.Time {
	at := info.ModTime()
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		if inode := time.Unix(s.Ctim.Unix()); inode.After(at) {
			at = inode
		}
	}
	return at.UTC()
}
