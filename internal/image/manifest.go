package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ManifestSchema is the version of the manifest's JSON.
const ManifestSchema = 1

// Progress of a patch, as the manifest has it.
const (
	StatePatching = "patching" // being done, or interrupted
	StatePatched  = "patched"
	StateUndone   = "undone"
)

// Manifest is what was done to an image. It lies beside it, as
// rootfs.ext4.sandproof.json.
type Manifest struct {
	Schema  int    `json:"schema"`
	Harness string `json:"harness"` // the version of sandproof
	State   string `json:"state"`
	// Template and Build are those of the image, where they are known.
	Template string `json:"template,omitempty"`
	Build    string `json:"build,omitempty"`
	// Original is the image before the first patch, which the backup is;
	// Patched is the one that was put in its place.
	Original Identity `json:"original"`
	Patched  Identity `json:"patched"`
	// Delegation is the version of the delegation in it, 0 where a whole init
	// was installed.
	Delegation int          `json:"delegation,omitempty"`
	Changes    []FileChange `json:"changes"`
	Steps      []Done       `json:"steps"`
	// Purge is what the caches held of the build; PurgeDone is true when all
	// of it is removed.
	Purge     []Cached `json:"purge,omitempty"`
	PurgeDone bool     `json:"purgeDone"`
	// Previous is the manifest of the patch that this one replaces.
	Previous *Manifest `json:"previous,omitempty"`
}

// Identity is one state of an image. Digest counts; the rest tells without
// reading the image that nothing wrote to it.
type Identity struct {
	Digest   string    `json:"digest"` // see sparseDigest
	Size     int64     `json:"size"`   // bytes
	Inode    uint64    `json:"inode"`
	Modified time.Time `json:"modified"`
}

// FileChange is one file that is changed in an image.
type FileChange struct {
	Path string `json:"path"`
	// Mode has the permissions in octal, as 755; Owner is uid:gid.
	Mode  string `json:"mode"`
	Owner string `json:"owner"`
	// Before is empty for a file that was not there.
	Before string `json:"beforeSHA256,omitempty"`
	After  string `json:"afterSHA256"`
	// Why says in a sentence what is done.
	Why string `json:"why"`
	// Diff is the unified diff; it is no part of the manifest.
	Diff string `json:"-"`
}

// Done is one step that was done.
type Done struct {
	Step   string    `json:"step"`
	At     time.Time `json:"at"`
	Took   float64   `json:"seconds"`
	Result string    `json:"result,omitempty"`
}

// maxManifest bounds a manifest in bytes; anybody may have written one.
const maxManifest = 1 << 20

// readManifest returns nil where an image has none.
func readManifest(image string) (*Manifest, error) {
	f, err := os.OpenFile(image+manifestSuffix, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the manifest of the image: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("the manifest of the image: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("the manifest %s cannot be read: %w; look at it, and at the backup beside it, by hand", image+manifestSuffix, err)
	}
	if m.Schema != ManifestSchema {
		return nil, fmt.Errorf("the manifest %s has the schema %d, and this sandproof knows %d: use the sandproof that wrote it (%.40q)", image+manifestSuffix, m.Schema, ManifestSchema, m.Harness)
	}
	return &m, nil
}

// write puts the manifest beside the image: whole or not at all, and on the
// disk when it returns.
func (m *Manifest) write(image string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	name := image + manifestSuffix
	// The name is always the same, so that one that was left is found again.
	f, err := os.OpenFile(name+newSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the manifest: %w", errors.Join(err, os.Remove(name+newSuffix)))
	}
	if err := os.Rename(name+newSuffix, name); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return syncDir(image)
}

// syncDir makes the names in an image's directory last.
func syncDir(image string) error {
	dir, err := os.Open(filepath.Dir(image))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// identify tells which state of an image a file is, by a digest that is known.
func identify(f *os.File, digest string) (Identity, error) {
	info, err := f.Stat()
	if err != nil {
		return Identity{}, err
	}
	return Identity{Digest: digest, Size: info.Size(), Inode: statOf(info).Ino, Modified: info.ModTime().UTC()}, nil
}

// seems tells by what costs nothing whether a file is this state of an image,
// and nothing wrote to it since.
func (i Identity) seems(info os.FileInfo) bool {
	return i.Digest != "" && info.Size() == i.Size && statOf(info).Ino == i.Inode && info.ModTime().Equal(i.Modified)
}

func statOf(info os.FileInfo) *syscall.Stat_t {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return &syscall.Stat_t{}
	}
	return stat
}
