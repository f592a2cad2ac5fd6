package requirement

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// describing are the fields that no outcome rests on: they name what was seen,
// explain a failure, or are there for a person. An entry stands for everything
// below it.
var describing = []string{
	"version", "run", "runStarted", "target", "template", "number", "standIn", // whose evidence this is
	"problems", // they explain what is absent
	"api/sandboxID", "api/alias", "api/envdVersion", "api/answered", "api/startedAt", "api/endAt", "api/cpuCount", "api/memoryMB", "api/nodeID",
	"api/buildID", "api/buildWanted", // of image.build, which passes only with both
	"disk/image", "disk/changed", "disk/unreadable", "disk/missing", "disk/patched", "disk/dropIns", "disk/snapshots", "disk/init/path", "disk/init/real", // which image it is, and why it differs
	"health/at", "health/afterMS", "health/memTotal",
	"snapshot/probeVersion", "snapshot/taken", "snapshot/aside", "snapshot/errors", "snapshot/self", "snapshot/bystanders", "snapshot/realTime", "snapshot/kernel",
	"snapshot/initProgram/path", "snapshot/initProgram/size", "snapshot/initProgram/steps",
	"snapshot/init/pid", "snapshot/init/ppid", "snapshot/init/comm", "snapshot/init/exe", "snapshot/init/cmdline", "snapshot/init/cgroup",
	"snapshot/init/oomScoreAdj", "snapshot/init/nice", "snapshot/init/startTicks", "snapshot/init/cgroupFDs", "snapshot/init/error",
	"snapshot/envd/journal/lines", "snapshot/envd/journal/error", // a complaint, or why none can be heard
	"snapshot/envd/logFile/path", "snapshot/envd/logFile/inode", "snapshot/envd/logFile/size", "snapshot/envd/logFile/holders", // which file it is
	"snapshot/envd/logFile/lines", "snapshot/envd/logFile/doubtful", "snapshot/envd/logFile/error", // a complaint, or why none can be heard
	"snapshot/envd/stdout",
	"snapshot/envd/commit", "snapshot/envd/sha256", "snapshot/envd/cgroupRoot", "snapshot/envd/parent", "snapshot/envd/unit",
	"snapshot/envd/process/ppid", "snapshot/envd/process/comm", "snapshot/envd/process/exe", "snapshot/envd/process/cmdline",
	"snapshot/envd/process/cgroup", "snapshot/envd/process/cgroupFDs", "snapshot/envd/process/error",
	"snapshot/envd/group/path", "snapshot/envd/group/exists", "snapshot/envd/group/fsMagic", "snapshot/envd/group/inode", "snapshot/envd/group/error",
	"snapshot/envd/group/files/*/inode", "snapshot/root/files/*/inode",
	"snapshot/root/above", // it is read of groups alone
	"snapshot/root/path", "snapshot/root/exists", "snapshot/root/inode", "snapshot/root/error",
	"snapshot/groups/*/path", "snapshot/groups/*/error",
	"snapshot/envd/group/above/path", "snapshot/envd/group/above/files/*/inode", "snapshot/groups/*/above/path", "snapshot/groups/*/above/files/*/inode",
	"placement/*/error", "placement/*/infra", // why there is no process
	"placement/*/process/pid", "placement/*/process/ppid", "placement/*/process/comm", "placement/*/process/exe", "placement/*/process/cmdline",
	"placement/*/process/oomScoreAdj", "placement/*/process/nice", "placement/*/process/startTicks", "placement/*/process/stderr",
	"placement/*/process/cgroupFDs", "placement/*/process/error",
	"log/start", "log/end", "log/foreign", "log/ownRecords", "log/tailLost", "log/coverage",
	"log/first", "snapshot/asked", // they speak where the init prints no line that is known
	"log/holes",                                                                                                   // a hole makes an outcome unproven; its absence is the good case
	"log/findings/rule", "log/findings/group", "log/findings/property", "log/findings/errno", "log/findings/time", // they tell failures apart
	"log/findings/message", "log/findings/raw", "log/findings/source", "log/findings/offset", "log/findings/says", "log/findings/waiver",
	"log/canary", // a second witness that the channel is alive beside the boot lines; where it was tried it must have come
	"log/api",
	"notAsked", // why an experiment is absent
	"placement/realTime",
	"cpu/*/process", "cpu/control/cpu",
	"cpu/*/group", "cpu/*/samples", "cpu/*/noSamples", "memory/report/samples", "memory/report/noSamples", "memory/report/noPressure", // they are drawn
	"memory/healthFailed", "memory/healthLost", "memory/healthError", // a failure; its absence is the good case
	"memory/healthSlowestMS",
	"memory/report/hog", "memory/report/group", "memory/report/limit", "memory/report/throttle", "memory/report/allocated", "memory/report/wanted",
	"memory/report/used", "memory/report/available", "memory/report/availableLeast", "memory/report/floor", "memory/report/detail",
	"memory/report/before/inode", "memory/report/after/inode",
	"memory/report/swap",      // why nothing was stopped
	"memory/report/kernelLog", // another witness than the group's own counts
	"memory/report/envdBefore", "memory/report/envdAfter",
	"snapshot/sandboxID", // only another sandbox's is a finding
	"lifecycle/notOffered", "lifecycle/paused", "lifecycle/aside",
	"lifecycle/before", "lifecycle/survivor", "lifecycle/placement",
}

// evidenceFiles are the recorded ones and those made for tests, by name.
func evidenceFiles(t *testing.T) map[string]*evidence.Sandbox {
	t.Helper()
	all := map[string]*evidence.Sandbox{"healthy": healthy("0.6.13"), "healthy under systemd": underUnit("0.6.13"), "healthy with a log file": inFile("0.6.13"), "healthy below a group": nested("0.6.13")}
	names, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no recorded evidence: %v", err)
	}
	for _, name := range names {
		all[filepath.Base(name)] = recorded(t, name)
	}
	return all
}

func recorded(t *testing.T, name string) *evidence.Sandbox {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &evidence.Sandbox{}
	if err := json.Unmarshal(data, s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// Whatever field a requirement names as its input: without it, it passes no
// more. Each input is tried in at least one file in which it passes.
func TestWithoutAnInputNothingPasses(t *testing.T) {
	files := evidenceFiles(t)
	for _, r := range All() {
		tried := map[string]bool{}
		seen := false
		for name, s := range files {
			if !judgeable(r, s) {
				continue
			}
			seen = true
			if o := r.Judge(s); o.Result != Pass && o.Result != Inert {
				continue
			}
			for _, input := range r.Inputs {
				without, removed := remove(t, s, input)
				if !removed {
					continue
				}
				tried[input] = true
				if o := r.Judge(without); o.Result != Unproven && o.Result != Fail {
					t.Errorf("%s: without %s, %s is %s: %s", name, input, r.ID, o.Result, o.Reason)
				}
			}
		}
		for _, input := range r.Inputs {
			if seen && !tried[input] {
				t.Errorf("%s names the input %s, and passes in no evidence that has it", r.ID, input)
			}
		}
	}
}

// remove returns evidence without a field, and whether it was there.
func remove(t *testing.T, s *evidence.Sandbox, path string) (*evidence.Sandbox, bool) {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	removed := prune(tree, strings.Split(path, "/"))
	if data, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	without := &evidence.Sandbox{}
	if err := json.Unmarshal(data, without); err != nil {
		t.Fatal(err)
	}
	return without, removed
}

// prune removes a field; in a list, of each element.
func prune(tree any, path []string) bool {
	switch node := tree.(type) {
	case []any:
		removed := false
		for _, element := range node {
			removed = prune(element, path) || removed
		}
		return removed
	case map[string]any:
		child, there := node[path[0]]
		if !there {
			return false
		}
		if len(path) > 1 {
			return prune(child, path[1:])
		}
		delete(node, path[0])
		return true
	}
	return false
}

// A field of the evidence is an input of some requirement or describes what
// was seen: nothing is collected for nobody, and nothing is judged in silence.
func TestEveryFieldIsAnInputOrDescribes(t *testing.T) {
	var inputs []string
	needed := map[string]bool{}
	for _, r := range All() {
		inputs = append(inputs, r.Inputs...)
		for _, piece := range slices.Concat(r.Needs, r.Helps) {
			needed[string(piece)] = true
		}
	}
	var fields []string
	walk(reflect.TypeFor[evidence.Sandbox](), "", &fields)
	for _, field := range fields {
		piece, _, _ := strings.Cut(field, "/")
		if slices.Contains(evidence.Pieces(), evidence.Piece(piece)) && !needed[piece] {
			continue // nothing is judged by this piece yet
		}
		isInput := slices.ContainsFunc(inputs, func(input string) bool {
			return matches(field, input) || matches(field, input+"/text") || matches(field, input+"/errno")
		})
		describes := slices.ContainsFunc(describing, func(prefix string) bool { return below(field, prefix) })
		if !isInput && !describes {
			t.Errorf("%s is neither an input of a requirement nor among the describing fields", field)
		}
	}
	for _, prefix := range describing {
		if !slices.ContainsFunc(fields, func(field string) bool { return below(field, prefix) }) {
			t.Errorf("%s describes nothing: there is no such field", prefix)
		}
	}
}

// laterLooks are where evidence has the snapshots after the first, and the
// rounds of an experiment before the last.
var laterLooks = []string{"later", "lifecycle/snapshot", "cpu/earlier"}

// walk lists the leaves of a type by their paths in JSON; a map's key is "*".
// The later looks have the fields of the first, and are not walked again.
func walk(typ reflect.Type, path string, fields *[]string) {
	switch typ.Kind() { //nolint:exhaustive // all other kinds are leaves
	case reflect.Pointer, reflect.Slice:
		if elem := typ.Elem(); elem.Kind() == reflect.Struct || elem.Kind() == reflect.Pointer {
			walk(elem, path, fields)
			return
		}
	case reflect.Map:
		if typ.Elem().Kind() == reflect.Struct {
			walk(typ.Elem(), path+"/*", fields)
			return
		}
	case reflect.Struct:
		if typ == reflect.TypeFor[time.Time]() {
			break
		}
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if below := strings.TrimPrefix(path+"/"+name, "/"); !slices.Contains(laterLooks, below) {
				walk(field.Type, below, fields)
			}
		}
		return
	}
	*fields = append(*fields, path)
}

// matches tells whether a field's path is a pattern for an input: "*" stands
// for any key of a map, and what is said of a later look holds for the first.
func matches(field, input string) bool {
	for _, look := range laterLooks {
		if rest, ok := strings.CutPrefix(input, look+"/"); ok {
			input = "snapshot/" + rest
		}
	}
	f, i := strings.Split(field, "/"), strings.Split(input, "/")
	return slices.EqualFunc(f, i, func(name, key string) bool { return name == key || name == "*" })
}

// below tells whether a field is an entry or lies below it; "*" in the entry
// stands for any one name.
func below(field, entry string) bool {
	f, e := strings.Split(field, "/"), strings.Split(entry, "/")
	if len(f) < len(e) {
		return false
	}
	for n, name := range e {
		if name != f[n] && name != "*" {
			return false
		}
	}
	return true
}
