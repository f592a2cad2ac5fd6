package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/verdict"
)

// The templates of the double, after the recorded answers of E2B's server
// (internal/sandboxapi/testdata/recordings, 196-templates-v1 and
// 202-template-get).
const (
	firstBuild  = "11111111-2222-4333-8444-555555555555"
	secondBuild = "73a278ac-d549-4a29-a3cd-c24638bc489f"
	noBuild     = "00000000-0000-0000-0000-000000000000"
)

var made = time.Date(2026, 11, 23, 13, 10, 36, 0, time.UTC)

// deployment answers as an E2B API does for templates.
type deployment struct {
	templates []sandboxapi.Template
	made      map[string]time.Time // of each template's build; the default is made
	status    int                  // of every answer, where it is not 0
	body      string
}

func (d *deployment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch id, one := strings.CutPrefix(r.URL.Path, "/templates/"); {
	case d.status != 0:
		w.WriteHeader(d.status)
		_, _ = w.Write([]byte(d.body))
		return
	case r.Header.Get("X-API-Key") != "e2b_0123456789abcdef":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case one:
		for _, t := range d.templates {
			if t.TemplateID == id {
				at, other := d.made[id]
				if !other {
					at = made
				}
				answer = sandboxapi.TemplateWithBuilds{TemplateID: id, Builds: []sandboxapi.Build{{BuildID: t.BuildID, Status: "ready", CreatedAt: at}}}
			}
		}
	default:
		answer = d.templates
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	text, err := json.Marshal(answer)
	if err != nil {
		text = []byte(err.Error())
	}
	_, _ = w.Write(text)
}

func offer(id, build string, aliases ...string) sandboxapi.Template {
	return sandboxapi.Template{TemplateID: id, BuildID: build, Aliases: aliases, Names: aliases, CreatedAt: made, UpdatedAt: made, BuildStatus: "ready"}
}

// serve starts the deployment and points the environment at it; the working
// directory has the given configuration.
func serve(t *testing.T, d *deployment, file string) {
	t.Helper()
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module x\n", "ginkgo.yml": file} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for name, value := range map[string]string{"E2B_API_URL": server.URL, "E2B_API_KEY": "e2b_0123456789abcdef", "E2B_DOMAIN": "", "E2B_SANDBOX_URL": "", "SANDPROOF_SHARD": "", "CI": ""} {
		t.Setenv(name, value)
	}
}

// judged says how a template was judged.
type judged struct {
	name, id, build string
	result          requirement.Result
	at              time.Time
}

// gatedRun is a run directory that the gate has seen.
func gatedRun(t *testing.T, target, profile string, all ...judged) string {
	t.Helper()
	return gatedBy(t, rundir.Manifest{Target: target, Profile: profile}, func(*evidence.Sandbox) {}, all...)
}

// gatedBy is one of which the manifest or what was seen is another.
func gatedBy(t *testing.T, m rundir.Manifest, change func(*evidence.Sandbox), all ...judged) string {
	t.Helper()
	m.Run, m.Harness, m.Started = "night", version, made
	for _, j := range all {
		m.Templates = append(m.Templates, j.name)
	}
	run, err := rundir.Create(t.TempDir(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := run.Recorder(1, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range all {
		for i, sandbox := range m.Sandboxes(j.name) {
			recordAll(t, recorder, sandbox, requirement.Outcome{Requirement: requirement.EnableCPU, Result: j.result, Reason: "as promised"})
			s := &evidence.Sandbox{Version: evidence.Version, Template: j.name, Number: i + 1, Target: m.Target, API: &evidence.API{TemplateID: j.id, BuildID: j.build, Requested: j.at, StartedAt: &j.at}}
			change(s)
			if err := run.WriteEvidence(s, redact.New()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := recorder.Close(); err != nil {
		t.Fatal(err)
	}
	command(t, "gate", run.Dir)
	return run.Dir
}

func TestTemplates(t *testing.T) {
	later := made.Add(time.Hour)
	base := offer("id-base", firstBuild, "base")
	desktop := offer("id-desktop", firstBuild, "desktop")
	green := judged{"base", "id-base", firstBuild, requirement.Pass, later}
	byTwo := gatedBy(t, rundir.Manifest{Target: "live", Profile: "core", Repeat: map[string]int{"base": 2}}, func(*evidence.Sandbox) {}, green)
	for _, test := range []struct {
		name    string
		offered []sandboxapi.Template
		made    map[string]time.Time
		file    string
		since   []string
		want    string // the names
		says    string // in the text
	}{
		{"without a state all are new", []sandboxapi.Template{base, desktop}, nil, "", nil, "base,desktop", "to judge: base (build " + firstBuild + "): new"},
		{"one is new", []sandboxapi.Template{base, desktop}, nil, "", []string{gatedRun(t, "live", "core", green)}, "desktop", "left out: base (build " + firstBuild + "): this build was green in run night"},
		{"one was rebuilt", []sandboxapi.Template{offer("id-base", secondBuild, "base")}, nil, "", []string{gatedRun(t, "live", "core", green)}, "base", "rebuilt: build " + firstBuild + " was green in run night"},
		{"one was rebuilt under its ID", []sandboxapi.Template{base}, map[string]time.Time{"id-base": later.Add(time.Second)}, "", []string{gatedRun(t, "live", "core", green)}, "base", "rebuilt: its build is of 2026-11-23T14:10:37Z, and was green in run night of 2026-11-23T14:10:36Z"},
		{"one was red", []sandboxapi.Template{base}, nil, "", []string{gatedRun(t, "live", "core", judged{"base", "id-base", firstBuild, requirement.Fail, later})}, "base", "new, or not isolated when it was last judged"},
		{"one was unproven", []sandboxapi.Template{base}, nil, "", []string{gatedRun(t, "live", "core", judged{"base", "id-base", firstBuild, requirement.Unproven, later})}, "base", "new"},
		{"the build was not known", []sandboxapi.Template{base}, nil, "", []string{gatedRun(t, "live", "core", judged{"base", "id-base", "", requirement.Pass, later})}, "base", "new"},
		{"the profile asked for less", []sandboxapi.Template{base}, nil, "profile: gate\n", []string{gatedRun(t, "live", "core", green)}, "base", "by profile core only"},
		{"the profile asked for more", []sandboxapi.Template{base}, nil, "", []string{gatedRun(t, "live", "gate", green)}, nothingToJudge, "nothing to judge: none of the 1 templates is new or was rebuilt"},
		{"none", []sandboxapi.Template{base}, nil, "", []string{gatedRun(t, "live", "core", green)}, nothingToJudge, "nothing to judge"},
		{"another build is configured", []sandboxapi.Template{base}, nil, "templates: [{name: base, build-id: " + secondBuild + "}]\n", []string{gatedRun(t, "live", "core", green)}, "base", "the configuration asks for build " + secondBuild + ", and the API lists another"},
		{"another build is configured by a second name", []sandboxapi.Template{base}, nil, "templates: [{name: base}, {name: id-base, build-id: " + secondBuild + "}]\n", []string{gatedRun(t, "live", "core", green)}, "id-base", "1 of 2 templates"},
		{"this build is configured", []sandboxapi.Template{base}, nil, "templates: [{name: base, build-id: " + firstBuild + "}]\n", []string{gatedRun(t, "live", "core", green)}, nothingToJudge, ""},
		{"more sandboxes of all", []sandboxapi.Template{base}, nil, "repeat: 5\n", []string{gatedRun(t, "live", "core", green)}, "base", "in run night by 1 sandboxes only, and 5 are to be judged"},
		{"more sandboxes of one", []sandboxapi.Template{base}, nil, "templates: [{name: base, repeat: 3}]\n", []string{byTwo}, "base", "by 2 sandboxes only, and 3 are to be judged"},
		{"as many sandboxes", []sandboxapi.Template{base}, nil, "templates: [{name: base, repeat: 2}]\n", []string{byTwo}, nothingToJudge, ""},
		{"fewer sandboxes", []sandboxapi.Template{base}, nil, "", []string{byTwo}, nothingToJudge, ""},
		{"one has no build yet", []sandboxapi.Template{base, offer("id-new", noBuild, "new")}, nil, "", nil, "base", "left out: new (build " + noBuild + "): it has no finished build"},
		{"one has no build yet and is configured", []sandboxapi.Template{base, offer("id-new", noBuild, "new")}, nil, "templates: [{name: base}, {name: new}]\n", nil, "base,new", "to judge: new (build " + noBuild + "): the API lists no finished build"},
		{"the API tells no build", []sandboxapi.Template{base, offer("id-mute", "", "mute")}, nil, "", []string{gatedRun(t, "live", "core", green)}, "mute", "to judge: mute: the API does not tell its build"},
		{"the API tells the build of none", []sandboxapi.Template{offer("id-base", "", "base")}, nil, "", []string{gatedRun(t, "live", "core", green)}, "base", "1 of 1 templates to judge"},
		{"the inventory's order and names", []sandboxapi.Template{base, desktop}, nil, "templates: [{name: id-desktop}, {name: base}]\n", nil, "id-desktop,base", ""},
		{"one of another team", []sandboxapi.Template{base}, nil, "templates: [{name: public}]\n", []string{gatedRun(t, "live", "core", green)}, "public", "a rebuild could not be seen"},
		{"a tag", []sandboxapi.Template{base}, nil, "templates: [{name: \"base:v2\"}, {name: base}]\n", []string{gatedRun(t, "live", "core", judged{"base:v2", "id-base", firstBuild, requirement.Pass, later})}, "base:v2,base", ""},
		{"a hostile alias", []sandboxapi.Template{offer("id-x", firstBuild, "a,b", "$(reboot)\n")}, nil, "", nil, "id-x", ""},
		{"two states", []sandboxapi.Template{base, desktop}, nil, "", []string{gatedRun(t, "live", "core", green), gatedRun(t, "live", "core", judged{"desktop", "id-desktop", firstBuild, requirement.Pass, later})}, nothingToJudge, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			serve(t, &deployment{templates: test.offered, made: test.made}, test.file)
			args := []string{"templates"}
			for _, s := range test.since {
				args = append(args, "--changed-since", s)
			}
			if exit, names := command(t, append(args, "--format=names")...); names != test.want+"\n" || exit != 0 {
				t.Errorf("names %q, want %q; exit %d", names, test.want, exit)
			}
			if exit, text := command(t, args...); !strings.Contains(text, test.says) || exit != 0 {
				t.Errorf("exit %d, want %q in:\n%s", exit, test.says, text)
			}
		})
	}
}

// A list in which no template has a build is not "nothing to judge"; a single
// one without a build, beside others that were green, is left out and counted.
func TestTemplatesWithoutABuild(t *testing.T) {
	since := gatedRun(t, "live", "core", judged{"base", "id-base", firstBuild, requirement.Pass, made.Add(time.Hour)})
	for _, format := range []string{"text", "names", "json", "github-matrix"} {
		serve(t, &deployment{templates: []sandboxapi.Template{offer("id-base", noBuild, "base"), offer("id-new", noBuild, "new")}}, "")
		exit, text := command(t, "templates", "--changed-since", since, "--format", format)
		if exit != verdict.ExitInfra || !strings.Contains(text, "no finished build of any of 2 templates") || strings.Contains(text, nothingToJudge) {
			t.Errorf("%s: exit %d: %s", format, exit, text)
		}
		serve(t, &deployment{templates: []sandboxapi.Template{offer("id-base", firstBuild, "base"), offer("id-new", noBuild, "new")}}, "")
		exit, text = command(t, "templates", "--changed-since", since, "--format", format)
		if exit != verdict.ExitIsolated || !strings.Contains(text, nothingToJudge) {
			t.Errorf("%s, beside a green one: exit %d: %s", format, exit, text)
		}
	}
}

// Whoever names templates and names none is told so: it is not "nothing to
// judge", and not what the API or the file lists.
func TestTemplatesNamesNothing(t *testing.T) {
	for _, file := range []string{"", "templates: [{name: base}]\n"} {
		serve(t, &deployment{templates: []sandboxapi.Template{offer("id-base", firstBuild, "base")}}, file)
		for value, says := range map[string]string{"": "it is empty", " ": "it is empty", ",": "no template is named", ", ,": "no template is named"} {
			for _, format := range []string{"text", "names", "json", "github-matrix"} {
				exit, text := command(t, "templates", "--format="+format, "--", "-e2e.target=live", "-e2e.templates="+value)
				if exit != verdict.ExitInfra || !strings.Contains(text, says) || strings.Contains(text, nothingToJudge) {
					t.Errorf("%q, %q, %s: exit %d: %s", file, value, format, exit, text)
				}
			}
		}
	}
}

func TestTemplatesFormats(t *testing.T) {
	serve(t, &deployment{templates: []sandboxapi.Template{offer("id-a", firstBuild, "a"), offer("id-b", firstBuild, "b")}}, "")
	const matrix = `{"include":[{"shard":"1/2","number":1,"templates":"a,b"},{"shard":"2/2","number":2,"templates":"a,b"}]}` + "\n"
	if exit, text := command(t, "templates", "--format=github-matrix", "--shards=5"); text != matrix || exit != 0 {
		t.Errorf("exit %d, got %s", exit, text)
	}
	exit, text := command(t, "templates", "--format=json")
	var d discovery
	if err := json.Unmarshal([]byte(text), &d); err != nil || exit != 0 || len(d.Judge) != 2 || d.Judge[0].BuildID != firstBuild {
		t.Errorf("exit %d, %v: %s", exit, err, text)
	}
	// Who names templates is given those, whole, whatever was green.
	t.Setenv("SANDPROOF_SHARD", "1/2")
	if exit, text := command(t, "templates", "--format=names", "--", "-e2e.templates=x,b"); text != "x,b\n" || exit != 0 {
		t.Errorf("exit %d: %s", exit, text)
	}
	for _, args := range [][]string{{"--format=yaml"}, {"--", "-e2e.templates=$(reboot)"}, {"--shards=0"}, {"--", "-e2e.target=lab"}, {"--changed-since=nowhere"}} {
		if exit, text := command(t, append([]string{"templates"}, args...)...); exit != verdict.ExitInfra {
			t.Errorf("%q: exit %d: %s", args, exit, text)
		}
	}
}

// Trouble of the API is never an empty list, and no list is never "nothing to
// judge".
func TestTemplatesInTrouble(t *testing.T) {
	for name, d := range map[string]*deployment{
		"no template at all": {templates: []sandboxapi.Template{}},
		"refused":            {status: http.StatusUnauthorized, body: `{"code":401,"message":"no"}`},
		"a proxy's page":     {status: http.StatusOK, body: "<html>"},
		"null":               {status: http.StatusOK, body: "null"},
		"an object":          {status: http.StatusOK, body: "{}"},
		"a hostile build":    {templates: []sandboxapi.Template{offer("id-x", "\x1b[2Jnothing to judge", "x")}},
		"a hostile ID":       {templates: []sandboxapi.Template{offer("x\nnothing to judge", firstBuild)}},
		"no build at all":    {templates: []sandboxapi.Template{offer("id-x", noBuild, "x"), offer("id-y", noBuild, "y")}},
		"nameless":           {status: http.StatusOK, body: `[{}]`},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, d, "")
			for _, format := range []string{"text", "names", "json", "github-matrix"} {
				if exit, text := command(t, "templates", "--format="+format); exit != verdict.ExitInfra || strings.Contains(text, "\nnothing") || strings.HasPrefix(text, "nothing") {
					t.Errorf("%s: exit %d: %s", format, exit, text)
				}
			}
		})
	}
}

// What a server answers is shown, and is neither a command of a GitHub workflow
// nor one of the terminal.
func TestErrorsGiveNoCommands(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "true")
	serve(t, &deployment{status: http.StatusInternalServerError, body: `{"code":500,"message":"x\n::error::pwned1\n \u00a0::add-mask::pwned2\r::error::pwned3 ##[error]pwned4\u001b[2J"}`}, "")
	for _, args := range [][]string{{"templates", "--format=names"}, {"templates", "-x\n::error::y"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != verdict.ExitInfra || out.Len() > 0 {
			t.Errorf("exit %d: %s", code, &out)
		}
		commandLess(t, errs.String())
		if args[1] == "--format=names" && strings.Count(errs.String(), "pwned") != 4 {
			t.Errorf("what the server said is not shown whole:\n%q", &errs)
		}
	}
}

// commandLess wants a text in which GitHub's runner finds no command
// (actions/runner, src/Runner.Common/ActionCommand.cs), and the terminal none.
func commandLess(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Errorf("a command: %q", line)
		}
	}
	if strings.Contains(text, "##[") || strings.ContainsAny(text, "\x1b\r\u0085\u2028\u202e") {
		t.Errorf("a command: %q", text)
	}
}

// A configuration of which several things are wrong is told as a list.
func TestErrorsOfManyLines(t *testing.T) {
	serve(t, &deployment{}, "repeat: 0\nprofile: coore\n")
	var out, errs bytes.Buffer
	run(t.Context(), []string{"templates"}, &out, &errs)
	if !strings.Contains(errs.String(), "configuration:\n  - profile \"coore\"") || strings.Count(errs.String(), "\n  - ") < 2 {
		t.Errorf("it says:\n%s", &errs)
	}
}

// A run of the lab says nothing of a deployment.
func TestTemplatesOfTheLabDoNotCount(t *testing.T) {
	serve(t, &deployment{templates: []sandboxapi.Template{offer("id-base", firstBuild, "base")}}, "")
	ofLab := gatedRun(t, "lab", "gate", judged{"base", "id-base", firstBuild, requirement.Pass, made})
	if exit, text := command(t, "templates", "--changed-since", ofLab); exit != verdict.ExitInfra || !strings.Contains(text, "made on target lab") {
		t.Errorf("exit %d: %s", exit, text)
	}
	state := filepath.Join(t.TempDir(), "green.json")
	if exit, text := command(t, "green", "--state", state, ofLab); exit != 0 {
		t.Fatalf("exit %d: %s", exit, text)
	}
	if exit, text := command(t, "templates", "--changed-since", state); exit != verdict.ExitInfra || !strings.Contains(text, "of target lab") {
		t.Errorf("exit %d: %s", exit, text)
	}
}

// Of several runs and files the last judgement of a template counts, in whatever
// order they are named.
func TestLastJudgementCounts(t *testing.T) {
	serve(t, &deployment{templates: []sandboxapi.Template{offer("id-a", firstBuild, "a")}}, "")
	at := func(hours int, r requirement.Result) string {
		return gatedRun(t, "live", "core", judged{"a", "id-a", firstBuild, r, made.Add(time.Duration(hours) * time.Hour)})
	}
	file := func(runs ...string) string {
		state := filepath.Join(t.TempDir(), "green.json")
		if exit, text := command(t, append([]string{"green", "--state", state}, runs...)...); exit != 0 {
			t.Fatalf("exit %d: %s", exit, text)
		}
		return state
	}
	green, red, greenAgain := at(1, requirement.Pass), at(2, requirement.Fail), at(3, requirement.Pass)
	for _, test := range []struct {
		name  string
		since []string
		left  bool // out of what is to be judged
	}{
		{"green", []string{green}, true},
		{"then red", []string{green, red}, false},
		{"red, then named the older", []string{red, green}, false},
		{"files", []string{file(red), file(green)}, false},
		{"one file", []string{file(red, green)}, false},
		{"a file and a run", []string{file(green), red}, false},
		{"a run and a file", []string{red, file(green)}, false},
		{"green again", []string{green, greenAgain, red}, true},
		{"green again, in a file", []string{file(greenAgain), red, file(green)}, true},
	} {
		args := []string{"templates"}
		for _, path := range test.since {
			args = append(args, "--changed-since", path)
		}
		if exit, text := command(t, args...); exit != 0 || strings.Contains(text, "left out: a (") != test.left {
			t.Errorf("%s: exit %d: %s", test.name, exit, text)
		}
	}
}

// What the gate lets pass for a time, or would not let pass for a live one, is
// not green, and nothing that was green by its name or its ID stays so.
func TestNotGreen(t *testing.T) {
	live := rundir.Manifest{Target: "live", Profile: "core"}
	at := func(hours int, name string, r requirement.Result) judged {
		return judged{name, "id-a", firstBuild, r, made.Add(time.Duration(hours) * time.Hour)}
	}
	good, bad := requirement.Pass, requirement.Fail
	unseen := func(s *evidence.Sandbox) { s.API = nil }
	asItIs := func(*evidence.Sandbox) {}
	second := func(change func(*evidence.Sandbox)) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) {
			if s.Number == 2 {
				change(s)
			}
		}
	}
	byStandIn := func(s *evidence.Sandbox) { s.StandIn = true }
	byWaiver := func(s *evidence.Sandbox) {
		s.Log = &evidence.Log{Findings: []evidence.Finding{{Rule: "CG0U0", Class: evidence.FindingWaived, Waiver: "TICKET-1 (until 2099-01-01)"}}}
	}
	twice := rundir.Manifest{Target: "live", Profile: "core", Repeat: map[string]int{"a": 2}}
	for name, run := range map[string]string{
		"by the lab's stand-in":                 gatedBy(t, live, byStandIn, at(2, "a", good)),
		"one sandbox by the lab's stand-in":     gatedBy(t, twice, second(byStandIn), at(2, "a", good)),
		"a line is waived":                      gatedBy(t, live, byWaiver, at(2, "a", good)),
		"a line of one sandbox is waived":       gatedBy(t, twice, second(byWaiver), at(2, "a", good)),
		"red by its ID, of which nothing seen":  gatedBy(t, live, unseen, at(2, "id-a", bad)),
		"red by its tag, of which nothing seen": gatedBy(t, live, unseen, at(2, "a:default", bad)),
		"red by a name that was judged earlier": gatedBy(t, live, asItIs, at(3, "b", good), at(2, "a", bad)),
		"red by a name that moved": gatedBy(t, twice, second(func(s *evidence.Sandbox) {
			s.API.TemplateID, s.API.BuildID = "id-a", secondBuild
		}), judged{"a", "id-c", firstBuild, bad, made.Add(2 * time.Hour)}),
	} {
		state := filepath.Join(t.TempDir(), "green.json")
		exit, said := command(t, "green", "--state", state, gatedBy(t, live, asItIs, at(1, "a", good)), run)
		greens, err := rundir.LoadGreens(state)
		if _, green := greens.Builds["id-a"]; err != nil || exit != 0 || green {
			t.Errorf("%s: exit %d, %v, %s: %+v", name, exit, err, said, greens.Builds)
		}
	}
}

// The file goes from run to run: what is green stays, what turned red does
// not, and an old run changes nothing.
func TestGreen(t *testing.T) {
	state := filepath.Join(t.TempDir(), "green.json")
	at := func(hours int) time.Time { return made.Add(time.Duration(hours) * time.Hour) }
	a := func(hours int, r requirement.Result) judged { return judged{"a", "id-a", firstBuild, r, at(hours)} }
	b := judged{"b", "id-b", firstBuild, requirement.Pass, at(1)}
	first, second, third := gatedRun(t, "live", "gate", a(1, requirement.Pass)), gatedRun(t, "live", "core", b, a(2, requirement.Pass)), gatedRun(t, "live", "core", a(3, requirement.Fail))
	for _, test := range []struct {
		run   string
		green int
		has   string
	}{
		{first, 1, `"profile": "gate"`},
		{second, 2, `"profile": "gate"`}, // the stricter one is kept
		{third, 1, "id-b"},
		{second, 1, "id-b"}, // it is older than that
	} {
		exit, text := command(t, "green", "--state", state, test.run)
		data, err := os.ReadFile(state)
		if err != nil || exit != 0 {
			t.Fatalf("%v: %s", err, text)
		}
		if n := strings.Count(string(data), "buildID"); n != test.green || !strings.Contains(string(data), test.has) {
			t.Errorf("want %d and %s, got:\n%s", test.green, test.has, data)
		}
	}
	// Neither a red template of which nothing was seen stays green, nor one of
	// which another name is red.
	unseen := gatedRun(t, "live", "core", judged{"b", "id-b", firstBuild, requirement.Fail, at(4)})
	if err := os.Remove(filepath.Join(unseen, "evidence", "b.json")); err != nil {
		t.Fatal(err)
	}
	both := gatedRun(t, "live", "core", judged{"c", "id-c", firstBuild, requirement.Fail, at(5)}, judged{"d", "id-c", firstBuild, requirement.Pass, at(5)})
	for _, run := range []string{unseen, both} {
		command(t, "green", "--state", state, run)
	}
	if data, err := os.ReadFile(state); err != nil || !strings.Contains(string(data), `"builds": {}`) {
		t.Errorf("red builds stay green: %s (%v)", data, err)
	}
	// A number that is missing, as in older files, is one sandbox.
	byMany := rundir.Manifest{Target: "live", Profile: "core", Repeat: map[string]int{"b": 2}}
	for _, test := range []struct {
		run  string
		want int
	}{{second, 1}, {gatedBy(t, byMany, func(*evidence.Sandbox) {}, b), 2}, {second, 2}} {
		command(t, "green", "--state", state, test.run)
		if greens, err := rundir.LoadGreens(state); err != nil || greens.Builds["id-b"].Sandboxes != test.want {
			t.Errorf("want %d sandboxes: %+v (%v)", test.want, greens.Builds, err)
		}
	}
	for name, text := range map[string]string{"report.json": `{"verdicts": []}`, "torn.json": `{"version": 1, "tar`, "list.json": "[]"} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if exit, text := command(t, "green", "--state", file, first); exit != verdict.ExitInfra {
			t.Errorf("%s: exit %d: %s", name, exit, text)
		}
	}
	if exit, text := command(t, "green", "--state", filepath.Join(t.TempDir(), "new.json"), recordedRun(t, "ungated", requirement.Pass)); exit != verdict.ExitInfra || !strings.Contains(text, "was not gated") {
		t.Errorf("exit %d: %s", exit, text)
	}
}
