package image

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the storage holds of a build is read whole, or it is said what is not.
func TestDisk(t *testing.T) {
	b := plainBuild(t)
	build := filepath.Base(filepath.Dir(b.RootFS))
	cache := t.TempDir()
	s := Storage{Dir: filepath.Dir(filepath.Dir(b.RootFS)), Caches: []string{cache}}
	d, err := s.Disk(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := initIn(t, b.RootFS)
	sum := sha256.Sum256([]byte(text))
	if d.Init == nil || d.Init.SHA256 != hex.EncodeToString(sum[:]) || d.Init.Path != "/sbin/init" || d.Patched != 0 || d.Image != b.RootFS || d.Snapshots != nil {
		t.Errorf("got %+v with init %+v", d, d.Init)
	}

	started := time.Now().Add(-time.Second)
	if _, err := Patch(t.Context(), b, Options{Harness: "test"}, quietly); err != nil {
		t.Fatal(err)
	}
	beside, cached := filepath.Join(filepath.Dir(b.RootFS), snapfileName), filepath.Join(cache, build, snapfileName)
	if err := os.WriteFile(beside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cached, 0o700); err != nil {
		t.Fatal(err)
	}
	after, err := s.Disk(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	if after.Patched == 0 || after.Init.SHA256 == d.Init.SHA256 || after.Changed.Before(started) || strings.Join(after.Snapshots, " ") != beside+" "+cached {
		t.Errorf("after the patch: %+v", after)
	}
	if err := os.WriteFile(b.RootFS+headerSuffix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if layer, err := s.Disk(t.Context(), build); err != nil || layer.Init != nil || !strings.Contains(layer.Unreadable, headerSuffix) {
		t.Errorf("a layer: %+v, %v", layer, err)
	}
}

func TestDiskThatIsNotThere(t *testing.T) {
	const build = "9ac9c8b9-9b8b-476c-9238-8266af308c32"
	dir := t.TempDir()
	for name, test := range map[string]struct {
		storage             Storage
		build               string
		missing, unreadable string
	}{
		"no such build":       {Storage{Dir: dir}, build, "no such file", ""},
		"no ID":               {Storage{Dir: dir}, "../" + filepath.Base(dir), "form of a build's ID", ""},
		"no such storage":     {Storage{Dir: filepath.Join(dir, "none")}, build, "", "no such file"},
		"a storage of a file": {Storage{Dir: "disk_test.go"}, build, "", "not a directory"},
	} {
		d, err := test.storage.Disk(t.Context(), test.build)
		if err != nil || d.Init != nil || !strings.Contains(d.Missing, test.missing) || !strings.Contains(d.Unreadable, test.unreadable) ||
			(d.Missing == "") != (test.missing == "") || (d.Unreadable == "") != (test.unreadable == "") {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}
