package deploy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// block is one block of the job, with its values.
type block struct {
	name   string // with the labels, as "task judge"
	values map[string]cty.Value
	blocks []block
}

// find returns the only block by its path below this one.
func (b *block) find(t *testing.T, path ...string) *block {
	t.Helper()
	if len(path) == 0 {
		return b
	}
	var found *block
	for i := range b.blocks {
		if b.blocks[i].name == path[0] {
			if found != nil {
				t.Fatalf("%s has two blocks %s", b.name, path[0])
			}
			found = &b.blocks[i]
		}
	}
	if found == nil {
		t.Fatalf("%s has no block %s", b.name, path[0])
	}
	return found.find(t, path[1:]...)
}

// read evaluates a body.
func read(t *testing.T, name string, body *hclsyntax.Body, values *hcl.EvalContext) block {
	t.Helper()
	b := block{name: name, values: map[string]cty.Value{}}
	for key, attribute := range body.Attributes {
		value, problems := attribute.Expr.Value(values)
		if problems.HasErrors() {
			t.Errorf("%s of %s: %v", key, name, problems)
		}
		b.values[key] = value
	}
	for _, inner := range body.Blocks {
		if inner.Type == "variable" {
			continue
		}
		b.blocks = append(b.blocks, read(t, strings.Join(append([]string{inner.Type}, inner.Labels...), " "), inner.Body, values))
	}
	return b
}

// job reads the Nomad job with its defaults. Nomad's own parser is no module
// that others can use, so this knows HCL and not all of a job's grammar.
func job(t *testing.T) block {
	t.Helper()
	file, problems := hclparse.NewParser().ParseHCLFile("nomad/sandproof-nightly.nomad.hcl")
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		t.Fatalf("its body is %T", file.Body)
	}
	variables := map[string]cty.Value{}
	for _, b := range body.Blocks {
		if b.Type != "variable" {
			continue
		}
		// Without a default, whoever starts the job must say it.
		variables[b.Labels[0]] = cty.StringVal("given")
		if d := b.Body.Attributes["default"]; d != nil {
			value, problems := d.Expr.Value(nil)
			if problems.HasErrors() {
				t.Fatal(problems)
			}
			variables[b.Labels[0]] = value
		}
	}
	values := &hcl.EvalContext{Variables: map[string]cty.Value{"var": cty.ObjectVal(variables)}}
	for _, name := range []string{"NOMAD_SECRETS_DIR", "NOMAD_TASK_DIR", "NOMAD_ALLOC_ID"} {
		values.Variables[name] = cty.StringVal(name)
	}
	return read(t, "file", body, values)
}

func TestNomadJob(t *testing.T) {
	file := job(t)
	nightly := file.find(t, "job sandproof-nightly")
	if nightly.values["type"].AsString() != "batch" || nightly.find(t, "periodic").values["prohibit_overlap"].False() {
		t.Errorf("it is no periodic batch job without overlap: %+v", nightly)
	}
	group := nightly.find(t, "group sandproof")
	// A second try would hide the first.
	for _, again := range []string{"restart", "reschedule"} {
		if n := group.find(t, again).values["attempts"]; n.AsBigFloat().String() != "0" {
			t.Errorf("%s has %v attempts", again, n)
		}
	}
	task := group.find(t, "task judge")
	mounts := 0
	for _, m := range task.find(t, "config").blocks {
		if m.values["target"].AsString() == "/opt/nomad/data/alloc" {
			mounts++
			if m.values["readonly"].False() {
				t.Error("the logs can be written")
			}
		}
	}
	if mounts != 1 {
		t.Errorf("%d mounts of the logs", mounts)
	}
	environment := task.find(t, "env").values
	for key, value := range environment {
		if strings.Contains(key, "KEY") || strings.Contains(key, "TOKEN") {
			t.Errorf("%s stands in the job file: %v", key, value)
		}
	}
	if environment["TARGET"].AsString() != "live" || environment["GATE_TARGET"].AsString() != "live" {
		t.Errorf("the environment is %v", environment)
	}
	key := ""
	for _, b := range task.blocks {
		if b.name == "template" && strings.HasPrefix(b.values["destination"].AsString(), "NOMAD_SECRETS_DIR") {
			key = b.values["data"].AsString()
		}
	}
	// Whatever a deployment and its log are reached by can be said, and need not.
	for _, name := range []string{"E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "NOMAD_ADDR", "LOKI_ADDR"} {
		if value, has := environment[name]; !has || value.AsString() != "" {
			t.Errorf("%s is %v by default", name, value)
		}
	}
	for _, name := range []string{"E2B_ADMIN_TOKEN", "NOMAD_TOKEN", "LOKI_BEARER_TOKEN"} {
		if !strings.Contains(key, "{{ with ."+name+" }}"+name+"={{ . }}{{ end }}\n") {
			t.Errorf("%s does not reach the suites by %q", name, key)
		}
	}
	if !strings.Contains(key, `nomadVar "nomad/jobs/sandproof-nightly"`) || !strings.Contains(key, "E2B_API_KEY={{ .E2B_API_KEY }}") {
		t.Errorf("the key is made of %q", key)
	}
}

// A client's own bound cuts the time that a stopped job is given, so that whoever
// sets one up is told of it, where the job is and where it is described.
func TestNomadClientsAllowTheStop(t *testing.T) {
	nightly := job(t)
	task := nightly.find(t, "job sandproof-nightly", "group sandproof", "task judge")
	want := "max_kill_timeout = \"" + task.values["kill_timeout"].AsString() + "\""
	for _, name := range []string{"nomad/sandproof-nightly.nomad.hcl", "../docs/ci.md"} {
		text, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s does not tell of %s (%v)", name, want, err)
		}
	}
}
