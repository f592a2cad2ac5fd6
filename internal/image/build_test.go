package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/config"
)

// An argument is a file, a build's directory, or a template of the inventory.
func TestLocate(t *testing.T) {
	const id, other = "9ac9c8b9-9b8b-476c-9238-8266af308c32", "fcb118f7-4d32-45d0-a935-13f3e630ecbb"
	root := t.TempDir()
	t.Chdir(root)
	for _, name := range []string{
		"s/" + id + "/rootfs.ext4", "s/" + id + "/metadata.json", "s/" + other + "/rootfs.ext4", "s/" + other + "/rootfs.ext4.header", "s/" + other + "/snapfile", "s/" + other + "/memfile",
		"s/named/rootfs.ext4", "c[1]/" + id + "/snapfile/content.bin", "c[1]/" + id + "/cache/u/snapfile", "c[1]/" + other + "/rootfs.ext4/x", "mine.ext4",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := Storage{Dir: root + "/s", Caches: []string{root + "/c[1]", root + "/none"}, Templates: []config.Template{
		{Name: "base", BuildID: id, Priority: 1}, {Name: "named", BuildID: "named"}, {Name: "gone", BuildID: "gone"}, {Name: "unset"}, {Name: "escape", BuildID: "../s"}, {Name: "all", BuildID: "*"},
	}}
	base := Build{
		Template: "base", Priority: 1, ID: id, RootFS: root + "/s/" + id + "/rootfs.ext4", Metadata: root + "/s/" + id + "/metadata.json",
		CachedSnapshots: []string{root + "/c[1]/" + id + "/snapfile", root + "/c[1]/" + id + "/cache/u/snapfile"},
	}
	for _, test := range []struct {
		name, arg string
		storage   Storage
		want      Build
		problem   string
	}{
		{"a template", "base", s, base, ""},
		{"its directory", "s/" + id, s, base, ""},
		{"its image", "s/" + id + "/rootfs.ext4", s, base, ""},
		{"a build without an inventory", "s/" + id, Storage{}, Build{ID: id, RootFS: base.RootFS, Metadata: base.Metadata}, ""},
		{"a layer with a snapshot", "s/" + other, Storage{}, Build{
			ID: other, RootFS: root + "/s/" + other + "/rootfs.ext4", Header: root + "/s/" + other + "/rootfs.ext4.header",
			Memfile: root + "/s/" + other + "/memfile", Snapfile: root + "/s/" + other + "/snapfile",
		}, ""},
		{"a build with a name for an ID", "named", s, Build{Template: "named", ID: "named", RootFS: root + "/s/named/rootfs.ext4"}, ""},
		{"a file", "mine.ext4", s, Build{RootFS: root + "/mine.ext4"}, ""},
		{"a path that is not there", "s/nothing.ext4", s, Build{}, "no such file"},
		{"a directory without an image", "c[1]", s, Build{}, "no such file"},
		{"an unknown name", "bass", s, Build{}, `no file and no directory "bass", and no template of that name in ginkgo.yml; it has base, named, gone`},
		{"an unknown name without an inventory", "bass", Storage{}, Build{}, "which has no templates"},
		{"no storage", "base", Storage{Templates: s.Templates}, Build{}, "set live.storage"},
		{"no build-id", "unset", s, Build{}, "has no build-id"},
		{"a build that is not there", "gone", s, Build{}, "check build-id and live.storage"},
		{"a build-id that leads away", "escape", s, Build{}, "is no name of a directory"},
		{"a build-id that is a pattern", "all", s, Build{}, "is no name of a directory"},
	} {
		got, err := Locate(test.arg, test.storage)
		if test.problem != "" {
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%s: %+v, %v", test.name, got, err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", test.name, err, diff)
		}
	}
}
