package config

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Where builds lie is the target's own: the lab's are never those of a
// deployment that stands in the same file.
func TestBuilds(t *testing.T) {
	const live = `
templates: [{name: one, build-id: 9ac9c8b9-9b8b-476c-9238-8266af308c32, priority: 2}]
live: {api-url: "http://localhost:3000", storage: builds, caches: [/cache]}
`
	dir := tree(t, live+"lab: {storage: lab, recipes: {one: {rootfs: r}, base: {rootfs: r}}, templates: [one]}\n")
	for _, test := range []struct {
		target string
		want   Builds
	}{
		{"live", Builds{Storage: filepath.Join(filepath.Dir(dir), "builds"), Caches: []string{"/cache"}, Templates: []Template{
			{Name: "one", BuildID: "9ac9c8b9-9b8b-476c-9238-8266af308c32", Priority: 2},
		}}},
		{"lab", Builds{
			Storage: filepath.Join(filepath.Dir(dir), "lab/e2b-template-storage"), Caches: []string{filepath.Join(filepath.Dir(dir), "lab/e2b-template-cache"), filepath.Join(filepath.Dir(dir), "lab/e2b-chunk-cache")},
			Templates: []Template{{Name: "base", BuildID: LabBuildID("base")}, {Name: "one", BuildID: LabBuildID("one")}},
		}},
	} {
		c, err := Load(Sources{Dir: dir, Environ: []string{key}, Flags: Flags{Target: test.target}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, c.Builds()); diff != "" {
			t.Errorf("%s: %s", test.target, diff)
		}
	}
	c, err := Load(Sources{Dir: tree(t, ""), Flags: Flags{Target: "lab"}})
	if err != nil {
		t.Fatal(err)
	}
	if b := c.Builds(); b.Storage != "" || b.Caches != nil {
		t.Errorf("without lab.storage there is %+v", b)
	}
}

// The ID of a build is what patches and caches are found by: it never changes.
func TestLabBuildID(t *testing.T) {
	if got := LabBuildID("base"); !buildID().MatchString(got) || got != LabBuildID("base") || got == LabBuildID("base-unpatched") {
		t.Errorf("got %s", got)
	}
}
