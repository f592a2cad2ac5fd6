package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const five = `target: live
live: {domain: e2b.example}
templates:
  - {name: e}
  - {name: c, priority: 2}
  - {name: a, priority: 1}
  - {name: d, priority: 2}
  - {name: b, priority: 1}
`

func names(templates []Template) string {
	var all []string
	for _, t := range templates {
		all = append(all, t.Name)
	}
	return strings.Join(all, "")
}

// The templates are dealt out by their order, and no template is lost or
// judged twice, however many shards there are.
func TestShards(t *testing.T) {
	for of, want := range map[int][]string{1: {"abcde"}, 2: {"ace", "bd"}, 3: {"ad", "be", "c"}, 5: {"a", "b", "c", "d", "e"}} {
		var got []string
		for n := range of {
			c, err := Load(Sources{Dir: tree(t, five), Environ: []string{key}, Flags: Flags{Shard: fmt.Sprintf("%d/%d", n+1, of)}})
			if err != nil {
				t.Fatal(err)
			}
			if names(c.Whole) != "abcde" || len(c.Inventory) != 5 {
				t.Errorf("the whole list is %s, the inventory %s", names(c.Whole), names(c.Inventory))
			}
			got = append(got, names(c.Templates))
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %d: got %q, want %q", of, got, want)
		}
	}
}

func TestShardPrecedence(t *testing.T) {
	file := "shard: 1/5\n" + five
	for _, test := range []struct {
		environ, flag, want string
	}{{"", "", "a"}, {"SANDPROOF_SHARD=2/5", "", "b"}, {"SANDPROOF_SHARD=2/5", "3/5", "c"}, {"SANDPROOF_SHARD=", "", "a"}} {
		c, err := Load(Sources{Dir: tree(t, file), Environ: []string{key, test.environ}, Flags: Flags{Shard: test.flag}})
		if err != nil {
			t.Fatal(err)
		}
		if names(c.Templates) != test.want {
			t.Errorf("%+v: got %s", test, names(c.Templates))
		}
	}
}

func TestShardProblems(t *testing.T) {
	for shard, want := range map[string]string{
		"2":     `shard "2": want N/OF, such as 2/3`,
		"0/3":   `shard "0/3": want N/OF`,
		"4/3":   `shard "4/3": want a number up to 3`,
		"1/257": `256 shards at most`,
		"1/-1":  `want N/OF`,
		"6/6":   "shard 6/6 has no template, there are 5: use 5 shards at most",
	} {
		_, err := Load(Sources{Dir: tree(t, five), Environ: []string{key}, Flags: Flags{Shard: shard}})
		wantError(t, err, want)
	}
}

// Shards of one run have one hash, wherever they run; other settings have
// another.
func TestHash(t *testing.T) {
	hash := func(file, shard string) string {
		c, err := Load(Sources{Dir: tree(t, file), Environ: []string{key}, Flags: Flags{Shard: shard}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.Hash()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	withPath := strings.Replace(five, "live: {", "live: {storage: builds, ", 1)
	one := hash(withPath, "")
	for _, shard := range []string{"1/3", "2/3", "1/1"} {
		if got := hash(withPath, shard); got != one {
			t.Errorf("shard %s has the hash %s, the whole %s", shard, got, one)
		}
	}
	for _, other := range []string{five, strings.Replace(withPath, "name: e", "name: f", 1), "profile: gate\n" + withPath} {
		if hash(other, "1/3") == one {
			t.Errorf("the hash does not see:\n%s", other)
		}
	}
}

// What a shard records is a configuration again, which is the same shard.
func TestShardIsRecorded(t *testing.T) {
	first, err := Load(Sources{Dir: tree(t, five), Environ: []string{key}, Flags: Flags{Shard: "2/3"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(Sources{Dir: tree(t, settingsOf(t, &first)), Environ: []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Templates, again.Templates); diff != "" {
		t.Error(diff)
	}
}

// Whoever asks the API need not name templates; whoever judges must.
func TestUnnamed(t *testing.T) {
	const file = "target: live\nlive: {domain: e2b.example}\n"
	if _, err := Load(Sources{Dir: tree(t, file), Environ: []string{key}, Unnamed: true}); err != nil {
		t.Error(err)
	}
	_, err := Load(Sources{Dir: tree(t, file), Environ: []string{key}})
	wantError(t, err, "no template is named")
	_, err = Load(Sources{Dir: tree(t, file+"templates: [{name: base}]\n"), Environ: []string{key}, Unnamed: true, Flags: Flags{Templates: ", ,"}})
	wantError(t, err, "no template is named")
}
