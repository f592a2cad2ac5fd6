package deploy_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// e2eScript is a directory with the script that runs the suites, in which ginkgo
// and sandproof are played by shell scripts.
func e2eScript(t *testing.T, ginkgo, sandproof string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"bin/go":        "#!/bin/bash\n[ \"$1\" = build ] && exit 0\n" + ginkgo,
		"bin/sandproof": "#!/bin/bash\n[ \"$1\" = config ] && echo live && exit 0\n" + sandproof,
	}
	for _, name := range []string{"scripts/e2e.sh", "scripts/stop-commands.sh", "scripts/in-group.sh"} {
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// onGitHub is the environment of a script whose ginkgo is a script.
func onGitHub(dir, actions string) []string {
	return []string{"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "RUN=r", "GITHUB_ACTIONS=" + actions}
}

var stopped = regexp.MustCompile(`(?s)^(.*)::stop-commands::([0-9a-f]{32})\n(.*)\n::([0-9a-f]{32})::\n(.*)$`)

// split takes apart what came before, while and after GitHub was told not to
// listen.
func split(t *testing.T, out string) (before, within, after string) {
	t.Helper()
	parts := stopped.FindStringSubmatch(out)
	if parts == nil || parts[2] != parts[4] || strings.Count(out, parts[2]) != 2 {
		t.Fatalf("the commands of the workflow are not stopped and resumed:\n%s", out)
	}
	return parts[1], parts[3], parts[5]
}

// In a workflow whatever ginkgo prints, on either stream, in a last line without
// an end, and however it ends, is no command of the workflow; what the gate
// prints is, and its code is the script's.
func TestSuitesGiveNoWorkflowCommands(t *testing.T) {
	for name, end := range map[string]string{"it fails": "exit 7", "it is killed": "kill -KILL $$", "it is well": "exit 0"} {
		dir := e2eScript(t, "echo ::add-mask::green; echo ::error::stderr >&2; printf ::stop-commands::x; "+end, `echo "::error::gate $*"; exit 2`)
		out, err := script(t.Context(), t, dir, "scripts/e2e.sh", onGitHub(dir, "true")).CombinedOutput()
		_, within, after := split(t, string(out))
		want := map[string]string{"it fails": "7", "it is killed": "137", "it is well": "0"}[name]
		if got := exitCode(t, err); got != 2 || !strings.HasPrefix(within, "::add-mask::green\n::error::stderr\n::stop-commands::x") ||
			after != "::error::gate gate --ginkgo-exit="+want+" runs/r\n" {
			t.Errorf("%s: exit %d:\n%s", name, got, out)
		}
	}
	dir := e2eScript(t, "echo suites: $*; exit 1", `echo "$*"; exit 1`)
	out, err := script(t.Context(), t, dir, "scripts/e2e.sh", onGitHub(dir, ""), "-p").CombinedOutput()
	if got := exitCode(t, err); got != 1 || !strings.Contains(string(out), "suites: tool ginkgo run -p ./e2e -- -e2e.run=r -e2e.runs="+dir+"/runs\ngate --ginkgo-exit=1 runs/r\n") {
		t.Errorf("elsewhere: exit %d:\n%s", got, out)
	}
}

// What the documentation has others run every night works in the second one too:
// a run of a name that is there already is refused.
func TestDocumentedRunsHaveNamesOfTheirOwn(t *testing.T) {
	text, err := os.ReadFile("../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^    (.*\bRUN=.*(?:scripts/e2e\.sh|run\.sh|make e2e).*)$`).FindAllStringSubmatch(string(text), -1)
	if len(commands) == 0 {
		t.Fatal("docs/ci.md names no run")
	}
	for _, c := range commands {
		if !strings.Contains(c[1], "$(date ") {
			t.Errorf("it works once: %s", c[1])
		}
	}
}

// The gate reads the run that the suites wrote, wherever the configuration lies:
// without a word the suites write beside that.
func TestConfigurationElsewhere(t *testing.T) {
	const suites = `for arg; do case $arg in -e2e.runs=*) runs=${arg#*=} ;; esac; done; mkdir -p "${runs:?}/r" && echo well >"$runs/r/manifest.json"`
	dir := e2eScript(t, suites, `cat "${@: -1}/manifest.json" || exit 3`)
	out, err := script(t.Context(), t, t.TempDir(), filepath.Join(dir, "scripts/e2e.sh"), append(onGitHub(dir, ""), "CONFIG=/etc/sandproof/ginkgo.yml")).CombinedOutput()
	if got := exitCode(t, err); got != 0 || !strings.HasSuffix(string(out), "\nwell\n") {
		t.Errorf("exit %d:\n%s", got, out)
	}
}

// The runs of the story of a patch are removed in the end, and runs/latest leads
// where it led, unless another run began meanwhile.
func TestBeforeAfterLeavesTheLatestRun(t *testing.T) {
	for _, test := range []struct{ before, meanwhile, keep, want string }{
		{before: "night", want: "night"},
		{before: "night", meanwhile: "other", want: "other"},
		{want: ""},
		{before: "night", keep: "1", want: "after-*"},
	} {
		dir := e2eScript(t, "", "exit 0")
		suites := "#!/bin/bash\nmkdir -p runs/$RUN && ln -sfn $RUN runs/latest\n[ -z '" + test.meanwhile + "' ] || ln -sfn '" + test.meanwhile + "' runs/latest\n" +
			"echo 'base-unpatched: not-isolated, first broken stage: enable (enable.cpu)' >runs/$RUN/report.txt\n[[ $RUN != before-* ]]\n"
		story, err := os.ReadFile("../scripts/before-after.sh")
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "scripts/before-after.sh"), story, 0o700),
			os.WriteFile(filepath.Join(dir, "scripts/e2e.sh"), []byte(suites), 0o700), os.Mkdir(filepath.Join(dir, "runs"), 0o755))
		if test.before != "" {
			err = errors.Join(err, os.Symlink(test.before, filepath.Join(dir, "runs/latest")))
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := script(t.Context(), t, dir, "scripts/before-after.sh", append(onGitHub(dir, ""), "KEEP="+test.keep, "TMPDIR="+t.TempDir())).CombinedOutput()
		latest, _ := os.Readlink(filepath.Join(dir, "runs/latest"))
		if matched, _ := filepath.Match(test.want, latest); exitCode(t, err) != 0 || !matched {
			t.Errorf("%+v: runs/latest leads to %q (%v):\n%s", test, latest, err, out)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "runs/*-*")); (len(left) > 0) != (test.keep != "") {
			t.Errorf("%+v: %q is left", test, left)
		}
	}
}

// So it is where the precompiled suites run in a workflow.
func TestContainerGivesNoWorkflowCommands(t *testing.T) {
	dir := installed(t, "echo ::add-mask::green; printf ::error::stderr >&2; exit 7", `echo "::error::$*"; exit 2`)
	out, err := script(t.Context(), t, dir, filepath.Join(dir, "run.sh"), []string{"RUN=r", "GITHUB_ACTIONS=true"}).CombinedOutput()
	before, within, after := split(t, string(out))
	if got := exitCode(t, err); got != 2 || before != "" || within != "::add-mask::green\n::error::stderr" || after != "::error::gate --ginkgo-exit=7 runs/r\n" {
		t.Errorf("exit %d:\n%s", got, out)
	}
}

// Each token is another one, so that no guest knows it.
func TestTokensDiffer(t *testing.T) {
	said := map[string]bool{}
	for range 3 {
		out, err := script(t.Context(), t, ".", "../scripts/stop-commands.sh", nil, "true").Output()
		if err != nil || said[string(out)] {
			t.Errorf("%v: %s", err, out)
		}
		said[string(out)] = true
	}
}

// A stop reaches the suites, which end their sandboxes, and what they say until
// then is no command; the gate speaks all the same.
func TestSuitesAreStopped(t *testing.T) {
	for _, actions := range []string{"true", ""} {
		// As the ginkgo command does, the one in the middle takes the signal and
		// hands nothing on.
		const suites = `trap "echo ::error::cleaned; exit 9" TERM; touch started; while :; do sleep 0.05; done`
		dir := e2eScript(t, `trap : TERM; bash -c '`+suites+`'; exit $?`, `echo "$*"; exit 3`)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		cmd := script(ctx, t, dir, "scripts/e2e.sh", onGitHub(dir, actions))
		out, err := stopOnceStarted(ctx, t, cmd, filepath.Join(dir, "started"))
		cancel()
		code := exitCode(t, err)
		if code != 3 || !strings.HasSuffix(out, "gate --ginkgo-exit=9 runs/r\n") || !strings.Contains(out, "::error::cleaned\n") {
			t.Errorf("GITHUB_ACTIONS=%q: exit %d:\n%s", actions, code, out)
		}
		if actions == "true" {
			if _, within, _ := split(t, out); !strings.Contains(within, "::error::cleaned") {
				t.Errorf("it is a command:\n%s", out)
			}
		}
	}
}

// The jobs of shards, which leave the words to the gate of all, keep guests from
// speaking to the workflow, too.
func TestShardsGiveNoWorkflowCommands(t *testing.T) {
	for _, name := range []string{"nightly.yml", "release-gate.yml"} {
		for job, j := range workflows(t)[name].Jobs {
			for _, s := range j.Steps {
				if strings.Contains(s.Run, "-u GITHUB_ACTIONS") && !strings.HasPrefix(s.Run, "scripts/stop-commands.sh env ") {
					t.Errorf("%s, %s: %s", name, job, s.Run)
				}
			}
		}
	}
}
