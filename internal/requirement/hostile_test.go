package requirement

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"sandproof/internal/evidence"
)

// Whatever text a guest puts into a place of its evidence, every requirement
// comes to an outcome that says something, and the same each time.
func FuzzJudge(f *testing.F) {
	kinds := []*evidence.Sandbox{healthy("0.6.13"), healthy("0.4.3"), underUnit("0.6.13")}
	for leaf := range uint16(400) {
		f.Add(uint8(leaf%3), leaf, "1 2 3\n")
	}
	for _, text := range []string{"", "max", "-1", "18446744073709551616", "0::/user", "\x00", "default 10\n8:0 x", "25 22 0:23 / /sys/fs/cgroup rw - cgroup2 none rw"} {
		f.Add(uint8(0), uint16(77), text)
	}
	f.Fuzz(func(t *testing.T, kind uint8, leaf uint16, text string) {
		data, err := json.Marshal(kinds[int(kind)%len(kinds)])
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		left := int(leaf)
		if data, err = json.Marshal(replaceLeaf(tree, &left, text)); err != nil {
			t.Fatal(err)
		}
		s := &evidence.Sandbox{}
		if json.Unmarshal(data, s) != nil {
			return // not of its type: such evidence is refused when it is read
		}
		for _, r := range All() {
			o := r.Judge(s)
			if o.Requirement != r.ID || o.Reason == "" || o.Result == "" {
				t.Errorf("%s: %+v", r.ID, o)
			}
			if again := r.Judge(s); again != o {
				t.Errorf("%s is %+v, and then %+v", r.ID, o, again)
			}
		}
	})
}

// replaceLeaf puts a text into one of a tree's leaves, in the order of their
// names; a number where the text is one.
func replaceLeaf(tree any, left *int, text string) any {
	switch node := tree.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(node)) {
			node[name] = replaceLeaf(node[name], left, text)
		}
		return node
	case []any:
		for i := range node {
			node[i] = replaceLeaf(node[i], left, text)
		}
		return node
	}
	*left--
	if *left != -1 {
		return tree
	}
	if _, isText := tree.(string); !isText && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}
