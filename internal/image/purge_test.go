package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Exactly what belongs to the build goes.
func TestPurge(t *testing.T) {
	const other = "8f9398ba-14d1-469c-aa2e-169f890a2520"
	b := plainBuild(t)
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{
		"template/" + testBuild + "/cache/a/metadata.json", "template/" + other + "/x", "template/" + testBuild + "-more/x",
		"chunk/" + testBuild + "/rootfs.ext4/000000000000-4194304.bin", "chunk/" + other + "/x",
		"build/" + testBuild + "-rootfs.ext4-1", "build/" + testBuild + "-memfile-1", "build/" + other + "-rootfs.ext4-1",
	} {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A link in the build's directory goes, what it leads to stays.
	if err := os.Symlink(outside, filepath.Join(root, "template", testBuild, "link")); err != nil {
		t.Fatal(err)
	}
	caches := []string{filepath.Join(root, "template"), filepath.Join(root, "chunk"), filepath.Join(root, "build"), filepath.Join(root, "none")}
	var planned []string
	if _, err := Patch(t.Context(), b, Options{Caches: caches}, func(p *Plan) error {
		for _, c := range p.Purge {
			planned = append(planned, strings.TrimPrefix(c.Path(), root))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"/template/" + testBuild, "/chunk/" + testBuild, "/build/" + testBuild + "-rootfs.ext4-1"}
	if strings.Join(planned, " ") != strings.Join(want, " ") {
		t.Errorf("planned %v", planned)
	}
	for _, name := range want {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range []string{
		"template/" + other + "/x", "template/" + testBuild + "-more/x", "chunk/" + other + "/x", "build/" + testBuild + "-memfile-1", "build/" + other + "-rootfs.ext4-1",
	} {
		if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(outside); err != nil {
		t.Error(err)
	}
}

// A cache that is not what it should be refuses the patch before anything is
// done.
func TestPurgeRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(cache string, b Build) (string, error)
		want string
	}{
		{"a link with the build's name", func(cache string, b Build) (string, error) {
			return cache, os.Symlink(filepath.Dir(b.RootFS), filepath.Join(cache, testBuild))
		}, "is a link there"},
		{"the storage itself", func(_ string, b Build) (string, error) { return filepath.Dir(filepath.Dir(b.RootFS)), nil }, "holds the image itself"},
		{"the storage over a link", func(cache string, b Build) (string, error) {
			return cache + "/st", os.Symlink(filepath.Dir(filepath.Dir(b.RootFS)), cache+"/st")
		}, "holds the image itself"},
		{"a file with the build's name", func(cache string, _ Build) (string, error) {
			return cache, os.WriteFile(filepath.Join(cache, testBuild), nil, 0o600)
		}, "is neither a directory nor a file"},
		{"no directory", func(cache string, _ Build) (string, error) {
			return cache + "/file", os.WriteFile(cache+"/file", nil, 0o600)
		}, "not a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := plainBuild(t)
			cache, err := test.make(t.TempDir(), b)
			if err != nil {
				t.Fatal(err)
			}
			before := content(t, b.RootFS)
			if _, err := Patch(t.Context(), b, Options{Caches: []string{cache}}, quietly); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
			if string(content(t, b.RootFS)) != string(before) {
				t.Error("the image was changed")
			}
		})
	}
	for _, name := range []string{"", ".", "..", "a/b", "*", testBuild + "x", strings.Repeat("-", 36)} {
		if _, err := cached([]string{t.TempDir()}, name, "/none"); err == nil {
			t.Errorf("%q is taken for a build's ID", name)
		}
	}
}
