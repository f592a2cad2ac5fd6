package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sandproof/internal/config"
)

// Build is a template's build on disk, as an orchestrator with local storage
// keeps it: one directory, whose name is the build's ID (e2b-dev/infra
// packages/shared/pkg/storage).
type Build struct {
	// Template and Priority are the inventory's, where it names the build.
	Template string `json:"template,omitempty"`
	Priority int    `json:"priority,omitempty"`
	// ID is the build's, from the inventory or else from its directory; empty
	// where the image lies in a directory of another kind.
	ID string `json:"id,omitempty"`
	// RootFS is the image's path on the host, absolute.
	RootFS string `json:"rootfs"`
	// What lies beside it, by absolute paths, each empty where it is not there:
	// Header makes the image a layer that holds changes only, Memfile and
	// Snapfile are a guest's memory, from which sandboxes resume, Metadata is
	// what the template's builder claims.
	Header   string `json:"header,omitempty"`
	Memfile  string `json:"memfile,omitempty"`
	Snapfile string `json:"snapfile,omitempty"`
	Metadata string `json:"metadata,omitempty"`
	// CachedSnapshots are copies of the memory in the configured caches, which
	// are asked before the storage.
	CachedSnapshots []string `json:"cachedSnapshots,omitempty"`
}

// Storage is where builds are looked for.
type Storage struct {
	// Dir holds one directory a build, Caches hold copies of them; both may be
	// empty.
	Dir       string
	Caches    []string
	Templates []config.Template
}

// The names of a build's files (e2b-dev/infra packages/shared/pkg/storage).
const (
	rootFSName   = "rootfs.ext4"
	headerSuffix = ".header"
	memfileName  = "memfile"
	snapfileName = "snapfile"
	metadataName = "metadata.json"
)

// Locate returns what an argument means: the path of a root filesystem, the
// path of a build's directory, or the name of a template that the inventory
// gives a build. A path wins over a name.
func Locate(arg string, s Storage) (Build, error) {
	info, err := os.Stat(arg)
	switch {
	case err == nil && info.IsDir():
		return s.at(filepath.Join(arg, rootFSName))
	case err == nil:
		return s.at(arg)
	case !errors.Is(err, fs.ErrNotExist) || strings.ContainsRune(arg, filepath.Separator):
		return Build{}, fmt.Errorf("the image: %w", err)
	}
	i := slices.IndexFunc(s.Templates, func(t config.Template) bool { return t.Name == arg })
	if i < 0 {
		return Build{}, fmt.Errorf("there is no file and no directory %q, and no template of that name in ginkgo.yml%s", arg, s.names())
	}
	return s.Build(s.Templates[i])
}

// names lists the templates that could have been meant.
func (s Storage) names() string {
	var names []string
	for _, t := range s.Templates {
		names = append(names, t.Name)
	}
	if names == nil {
		return ", which has no templates"
	}
	return "; it has " + strings.Join(names, ", ")
}

// Build returns the build of a template of the inventory.
func (s Storage) Build(t config.Template) (Build, error) {
	switch {
	case s.Dir == "":
		return Build{}, fmt.Errorf("template %q: where builds are stored is not configured: set live.storage in ginkgo.yml, or give the build's directory", t.Name)
	case t.BuildID == "":
		return Build{}, fmt.Errorf("template %q has no build-id in ginkgo.yml, so its directory in %s is not known: set it, or give the build's directory", t.Name, s.Dir)
	case !isName(t.BuildID):
		return Build{}, fmt.Errorf("template %q: the build-id %q is no name of a directory", t.Name, t.BuildID)
	}
	dir := filepath.Join(s.Dir, t.BuildID)
	if _, err := os.Stat(filepath.Join(dir, rootFSName)); err != nil {
		return Build{}, fmt.Errorf("template %q, build %s: %w; check build-id and live.storage in ginkgo.yml", t.Name, t.BuildID, err)
	}
	b, err := s.at(filepath.Join(dir, rootFSName))
	b.Template, b.Priority, b.ID = t.Name, t.Priority, t.BuildID
	b.CachedSnapshots = s.cachedSnapshots(b.ID)
	return b, err
}

// isName tells whether a text can be the name of one directory, and matches
// no other one.
func isName(text string) bool {
	return text != "" && text != "." && text != ".." && !strings.ContainsAny(text, `/\*?[`)
}

// at returns the build whose image has a path.
func (s Storage) at(rootFS string) (Build, error) {
	rootFS, err := filepath.Abs(rootFS)
	if err != nil {
		return Build{}, err
	}
	if _, err := os.Stat(rootFS); err != nil {
		return Build{}, fmt.Errorf("the image: %w", err)
	}
	dir := filepath.Dir(rootFS)
	b := Build{
		RootFS: rootFS, Header: existing(rootFS + headerSuffix),
		Memfile: existing(filepath.Join(dir, memfileName)), Snapfile: existing(filepath.Join(dir, snapfileName)), Metadata: existing(filepath.Join(dir, metadataName)),
	}
	id := filepath.Base(dir)
	if i := slices.IndexFunc(s.Templates, func(t config.Template) bool { return t.BuildID == id }); i >= 0 {
		b.ID, b.Template, b.Priority = id, s.Templates[i].Name, s.Templates[i].Priority
	} else if filepath.Base(rootFS) == rootFSName && isUUID(id) {
		b.ID = id
	}
	b.CachedSnapshots = s.cachedSnapshots(b.ID)
	return b, nil
}

func existing(path string) string {
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// isUUID tells whether a text has the shape of a build's ID.
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i, r := range text {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return true
}

// cachedSnapshots are the files of a build's memory in the caches, at the
// places that E2B's caches have for them (e2b-dev/infra c7180fe2c,
// packages/shared/pkg/storage/storage_cache*.go and TEMPLATE_CACHE_DIR).
func (s Storage) cachedSnapshots(id string) []string {
	if !isName(id) {
		return nil
	}
	var found []string
	for _, cache := range s.Caches {
		for _, pattern := range []string{snapfileName, memfileName, filepath.Join("cache", "*", snapfileName)} {
			// The cache's own path may hold what a pattern would be read from.
			matches, err := fs.Glob(os.DirFS(cache), filepath.Join(id, pattern))
			if err != nil {
				continue
			}
			for _, match := range matches {
				found = append(found, filepath.Join(cache, match))
			}
		}
	}
	return found
}
