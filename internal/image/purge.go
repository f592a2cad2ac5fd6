package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"sandproof/internal/redact"
)

// Restart says what a purge cannot do, and why (e2b-dev/infra
// packages/orchestrator/internal/sandbox/template/cache.go).
const Restart = "Restart the orchestrator on every node that has this storage, and purge the caches of the other nodes: an orchestrator keeps the " +
	"builds that it has opened in memory for 25 hours, and goes on giving sandboxes the old bytes until then. Sandboxes that run keep what they have."

// buildID is the form of a build's ID: a UUID.
var buildID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
})

// IsBuildID tells whether a name has the form of a build's ID.
func IsBuildID(name string) bool { return buildID().MatchString(name) }

// Cached is what a cache holds of a build.
type Cached struct {
	// Cache is the configured directory, Name what lies directly in it.
	Cache string `json:"cache"`
	Name  string `json:"name"`
	// Removed is when it was, as a time of RFC 3339; empty before.
	Removed string `json:"removed,omitempty"`
}

// Path is where it lies.
func (c Cached) Path() string { return filepath.Join(c.Cache, c.Name) }

// cached lists what the caches hold of a build: the directory with its name,
// and the chunk files of its disk, which carry it in front. Links are not
// followed: one that has the build's name is an error, as is a cache that holds
// the image itself.
func cached(caches []string, build, image string) ([]Cached, error) {
	if !IsBuildID(build) {
		return nil, fmt.Errorf("%q is not the ID of a build, so nothing is purged", redact.Terminal(build))
	}
	var all []Cached
	for _, cache := range caches {
		found, err := cachedIn(cache, build, image)
		if err != nil {
			return nil, fmt.Errorf("the cache %s: %w", cache, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func cachedIn(cache, build, image string) ([]Cached, error) {
	root, err := os.OpenRoot(cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; run sandproof as a user who may read it", err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var found []Cached
	for _, e := range entries {
		isChunk := strings.HasPrefix(e.Name(), build+"-rootfs.ext4-")
		switch {
		case e.Name() != build && !isChunk:
		case e.Type()&fs.ModeSymlink != 0:
			return nil, fmt.Errorf("%s is a link there, which is not followed: remove it, or what it leads to, by hand", redact.Terminal(e.Name()))
		case isChunk && e.Type().IsRegular():
			found = append(found, Cached{Cache: cache, Name: e.Name()})
		case e.IsDir() && holds(filepath.Join(cache, build), image):
			return nil, fmt.Errorf("%s in it holds the image itself: live.caches must not name the storage of the templates", build)
		case e.IsDir() && e.Name() == build:
			found = append(found, Cached{Cache: cache, Name: build})
		default:
			return nil, fmt.Errorf("%s is neither a directory nor a file there: look what it is", redact.Terminal(e.Name()))
		}
	}
	return found, nil
}

// holds tells whether a file lies below a directory, whatever their names.
func holds(dir, file string) bool {
	want, err := os.Stat(dir)
	if err != nil {
		return false
	}
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	if resolved, err = filepath.Abs(resolved); err != nil {
		return false
	}
	for at := filepath.Dir(resolved); ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && os.SameFile(info, want) {
			return true
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}

// remove removes what a cache holds of a build. Of links in it the links are
// removed, not what they lead to.
func (c Cached) remove() error {
	root, err := os.OpenRoot(c.Cache)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(c.Name); err != nil {
		return fmt.Errorf("%w; run sandproof as a user who may remove it", err)
	}
	return nil
}
