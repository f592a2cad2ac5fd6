// Package deploy_test looks that what others run sandproof with is right:
// workflows, the Nomad job, and the script of the container.
package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"sandproof/internal/rundir"
)

// workflow is what is looked at of one.
type workflow struct {
	On          any
	Permissions map[string]string
	Concurrency map[string]any
	Jobs        map[string]struct {
		If      string
		Needs   any
		Timeout int `yaml:"timeout-minutes"`
		// Concurrency is that of the job alone.
		Concurrency map[string]any
		Steps       []step
	}
}

type step struct {
	Uses, Run, If string
	With          map[string]any
	Env           map[string]string
}

func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(files) < 4 {
		t.Fatalf("workflows %q, %v", files, err)
	}
	all := map[string]workflow{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var w workflow
		if err := yaml.Unmarshal(text, &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = w
	}
	return all
}

// No workflow may do more than read, run for ever, or let what somebody typed
// into a form be run as a command.
func TestWorkflowsAreSafe(t *testing.T) {
	for name, w := range workflows(t) {
		if !maps.Equal(w.Permissions, map[string]string{"contents": "read"}) {
			t.Errorf("%s: permissions %v", name, w.Permissions)
		}
		if w.Concurrency["group"] == nil {
			t.Errorf("%s: no concurrency group", name)
		}
		for id, job := range w.Jobs {
			if job.Timeout == 0 {
				t.Errorf("%s: job %s has no timeout-minutes", name, id)
			}
			for _, s := range job.Steps {
				if strings.Contains(s.Run, "${{") {
					t.Errorf("%s: job %s runs an expression as a command; pass it by env:\n%s", name, id, s.Run)
				}
				if strings.Contains(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
					t.Errorf("%s: job %s leaves the token in the checkout", name, id)
				}
				// A job whose time is up is a cancelled one.
				kept := "!cancelled()"
				if id == "judge" {
					kept = "always()"
				}
				if strings.Contains(s.Uses, "upload-artifact@") && !strings.Contains(s.If, kept) {
					t.Errorf("%s: job %s keeps nothing of a run that failed", name, id)
				}
			}
		}
	}
}

var pinned = regexp.MustCompile(`uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)

// Actions are pinned by commit, with the version beside it, and the same one
// everywhere.
func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	commits := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			uses := strings.Index(line, "uses: ")
			if uses < 0 || strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			if !pinned.MatchString(line) {
				t.Errorf("%s: not pinned by commit and version: %s", file, line)
				continue
			}
			action, commit, _ := strings.Cut(line[uses+len("uses: "):], "@")
			repository := strings.Join(strings.Split(action, "/")[:2], "/")
			if old := commits[repository]; old != "" && old != commit {
				t.Errorf("%s: %s is pinned to %s and to %s", file, repository, old, commit)
			}
			commits[repository] = commit
		}
	}
	if len(commits) < 5 {
		t.Errorf("only %v are used", slices.Collect(maps.Keys(commits)))
	}
}

// A gate that does not run must not look like one that passed: it runs
// always, insists on the live target, and ends without a run only by the words
// that discovery says.
func TestGatesAlwaysRun(t *testing.T) {
	for _, name := range []string{"nightly.yml", "release-gate.yml"} {
		job := workflows(t)[name].Jobs["gate"]
		if !strings.Contains(job.If, "always()") {
			t.Errorf("%s: the gate runs only if %s", name, job.If)
		}
		i := slices.IndexFunc(job.Steps, func(s step) bool { return strings.Contains(s.Run, "scripts/gate-shards.sh") })
		if i < 0 || job.Steps[i].Env["GATE_TARGET"] != "live" || job.Steps[i].If != "" {
			t.Errorf("%s: the gate's step is %+v", name, job.Steps)
		}
	}
	release := workflows(t)["release-gate.yml"].Jobs
	// An input that a caller leaves empty asks for what is promised, in every step.
	asked := 0
	for id, job := range release {
		for _, s := range job.Steps {
			for _, name := range []string{"PROFILE", "GATE_PROFILE"} {
				if profile, has := s.Env[name]; has {
					asked++
					if profile != "${{ inputs.profile || 'gate' }}" {
						t.Errorf("job %s: %s is %s", id, name, profile)
					}
				}
			}
			if strings.Contains(s.Run, "scripts/gate-shards.sh") && s.Env["GATE_PROFILE"] == "" {
				t.Errorf("job %s gates by the profile of whatever was run", id)
			}
		}
	}
	if asked != 3 {
		t.Errorf("the profile is asked for %d times, want 3: when templates are listed, judged and gated", asked)
	}
	if !strings.Contains(release["judge"].If, "!= 'nothing to judge'") {
		t.Errorf("it judges if %s", release["judge"].If)
	}
}

// What was green is one state, of one source, that every gate goes by and brings
// up to date, one after the other: what is red at night must not be green in front
// of a release. A branch does not see what was red elsewhere, and so takes no
// part.
func TestGatesShareWhatIsGreen(t *testing.T) {
	const source = "sandproof-green-${{ hashFiles('cmd/**', 'e2e/**', 'internal/**', 'go.sum') }}-"
	// A caller of another repository has a cache of its own.
	const onDefault = "github.ref_name == github.event.repository.default_branch && inputs.repository == ''"
	for name, want := range map[string]struct{ restored, saved int }{"nightly.yml": {1, 1}, "release-gate.yml": {2, 1}} {
		w := workflows(t)[name]
		restored, saved := 0, 0
		for id, job := range w.Jobs {
			for _, s := range job.Steps {
				action, _, _ := strings.Cut(s.Uses, "@")
				if action != "actions/cache/restore" && action != "actions/cache/save" {
					continue
				}
				if s.With["path"] != "last-green.json" || s.With["key"] != source+"${{ github.run_id }}-${{ github.run_attempt }}" {
					t.Errorf("%s: job %s keeps %v", name, id, s.With)
				}
				if name == "release-gate.yml" && !strings.Contains(s.If, onDefault) {
					t.Errorf("%s: job %s: %s if %q", name, id, action, s.If)
				}
				if action == "actions/cache/save" {
					saved++
				} else if restored++; s.With["restore-keys"] != source {
					t.Errorf("%s: job %s goes by %v", name, id, s.With)
				}
			}
		}
		if restored != want.restored || saved != want.saved {
			t.Errorf("%s: what was green is restored %d times and saved %d times, want %+v", name, restored, saved, want)
		}
		gate := w.Jobs["gate"]
		if gate.Concurrency["group"] != "sandproof-green" || gate.Concurrency["cancel-in-progress"] != false {
			t.Errorf("%s: two gates write it side by side: %v", name, gate.Concurrency)
		}
		order := []string{}
		for _, s := range gate.Steps {
			for _, what := range []string{"cache/restore", "scripts/gate-shards.sh", "scripts/keep-green.sh", "cache/save"} {
				if strings.Contains(s.Uses+s.Run, what) {
					order = append(order, what)
				}
			}
			if strings.Contains(s.Run, "scripts/keep-green.sh") && !strings.Contains(s.If, "!cancelled()") {
				t.Errorf("%s: after a red gate what is red stays green: %+v", name, s)
			}
		}
		if got := strings.Join(order, ", "); got != "cache/restore, scripts/gate-shards.sh, scripts/keep-green.sh, cache/save" {
			t.Errorf("%s: the gate's steps are %s", name, got)
		}
	}
}

// installed is a directory with the container's script, and what it runs,
// played by shell scripts.
func installed(t *testing.T, suites, sandproof string) string {
	t.Helper()
	dir := t.TempDir()
	script, err := os.ReadFile("container/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"run.sh": string(script), "e2e.test": "#!/bin/sh\n" + suites, "sandproof": "#!/bin/sh\n" + sandproof} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func script(ctx context.Context, t *testing.T, dir, path string, environment []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

// The gate comes after the suites, whatever they said, and its code is the
// script's.
func TestContainerScript(t *testing.T) {
	for _, code := range []string{"0", "1", "2", "3"} {
		dir := installed(t, `echo "suites: $*"; exit 7`, `echo "sandproof: $*"; exit `+code)
		out, err := script(t.Context(), t, dir, filepath.Join(dir, "run.sh"), []string{
			"RUN=r", "TEMPLATES=a b", "TARGET=live", "PROFILE=gate", "SHARD=1/2", "CONFIG=/c.yml", "GATE_TARGET=live",
		}, "-ginkgo.timeout=3h").CombinedOutput()
		want := "suites: -test.timeout=0 -ginkgo.no-color -e2e.shard=1/2 -e2e.profile=gate -e2e.target=live -e2e.templates=a b -e2e.config=/c.yml " +
			"-e2e.probe=" + dir + "/guestprobe -e2e.runs=runs -e2e.run=r -ginkgo.timeout=3h\n" +
			"sandproof: gate --ginkgo-exit=7 --target live runs/r\n"
		if got := exitCode(t, err); string(out) != want || got != int(code[0]-'0') {
			t.Errorf("exit %d, got:\n%swant:\n%s", got, out, want)
		}
	}
}

func TestContainerScriptRefusesAnOldRun(t *testing.T) {
	dir := installed(t, "exit 0", "exit 0")
	if err := os.MkdirAll(filepath.Join(dir, "runs", "r"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := script(t.Context(), t, dir, filepath.Join(dir, "run.sh"), []string{"RUN=r"}).CombinedOutput()
	if got := exitCode(t, err); got != 3 || !strings.Contains(string(out), "exists already") {
		t.Errorf("exit %d: %s", got, out)
	}
}

// A stop reaches the suites, which end their sandboxes, and the gate speaks
// all the same.
func TestContainerScriptIsStopped(t *testing.T) {
	dir := installed(t, `trap 'echo cleaned; exit 9' TERM; touch started; while :; do sleep 0.05; done`, `echo "sandproof: $*"; exit 3`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := script(ctx, t, dir, filepath.Join(dir, "run.sh"), []string{"RUN=r"})
	out, err := stopOnceStarted(ctx, t, cmd, filepath.Join(dir, "started"))
	if got := exitCode(t, err); got != 3 || out != "cleaned\nsandproof: gate --ginkgo-exit=9 runs/r\n" {
		t.Errorf("exit %d: %s", got, out)
	}
}

// A stop that comes while the suites are being started reaches them, too.
func TestEarlyStop(t *testing.T) {
	dir := installed(t, "exec sleep 60", `echo "sandproof: $*"`)
	for _, command := range [][]string{
		{filepath.Join(dir, "run.sh")},
		{"bash", "-c", ". ../scripts/in-group.sh; in_group sleep 60; echo --ginkgo-exit=$?"},
	} {
		t.Run(filepath.Base(command[0]), func(t *testing.T) {
			const tries = 20
			for n := range tries {
				cmd := script(t.Context(), t, ".", command[0], []string{"RUNS=" + t.TempDir(), "RUN=" + strconv.Itoa(n)}, command[1:]...)
				var out strings.Builder
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				for !catches(cmd.Process.Pid, syscall.SIGTERM) && len(ended) == 0 {
					runtime.Gosched()
				}
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatalf("it ended before: %v\n%s", err, &out)
				}
				if code := exitCode(t, <-ended); code != 0 || !slices.Contains(strings.Fields(out.String()), "--ginkgo-exit=143") {
					t.Fatalf("exit %d, and the suites were not ended by the stop:\n%s", code, &out)
				}
			}
		})
	}
}

// catches tells whether a process has set a handler for a signal (SigCgt of
// proc_pid_status(5)).
func catches(pid int, signal syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if mask, found := strings.CutPrefix(line, "SigCgt:"); found {
			set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && set&(1<<(signal-1)) != 0
		}
	}
	return false
}

// stopOnceStarted stops a script once a file is there, and returns what it said
// until its end.
func stopOnceStarted(ctx context.Context, t *testing.T, cmd *exec.Cmd, started string) (string, error) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	// Suites that the stop did not reach would hold the output for ever.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		if _, err := os.Stat(started); err == nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	return out.String(), err
}

// A run that cannot be taken over, as where nothing was merged, leaves nothing
// green, in a file that the cache can keep and the next run can read.
func TestKeepGreen(t *testing.T) {
	text, err := os.ReadFile("../scripts/keep-green.sh")
	if err != nil {
		t.Fatal(err)
	}
	const state = `{"version": 1, "target": "live", "builds": {"id": {"buildID": "b"}}}`
	for code, green := range []int{1, 0, 0, 0} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"scripts/keep-green.sh": string(text), "bin/sandproof": fmt.Sprintf("#!/bin/sh\necho \"$*\"\nexit %d\n", code), "last-green.json": state,
		} {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o700)); err != nil {
				t.Fatal(err)
			}
		}
		out, err := script(t.Context(), t, dir, "scripts/keep-green.sh", nil, "night").CombinedOutput()
		greens, loadErr := rundir.LoadGreens(filepath.Join(dir, "last-green.json"))
		if got := exitCode(t, err); got != code || loadErr != nil || greens.Target != "live" || len(greens.Builds) != green ||
			!strings.HasPrefix(string(out), "green --state last-green.json runs/night\n") {
			t.Errorf("exit %d, want %d: %v, %+v: %s", got, code, loadErr, greens, out)
		}
	}
}

// The gate of shards finds the runs wherever they were unpacked, gates what
// was merged although a shard is missing, and nothing that was not merged.
func TestGateOfShards(t *testing.T) {
	for _, test := range []struct {
		merge, gate, exit int
		dirs              []string
		want              string
	}{
		{0, 1, 1, []string{"shards"}, "merge --into runs/night DIR/shards/one DIR/shards/x/two\ngate --target live --profile gate runs/night\n"},
		{2, 2, 2, []string{"shards"}, "merge --into runs/night DIR/shards/one DIR/shards/x/two\ngate --target live --profile gate runs/night\n"},
		{3, 0, 3, []string{"shards"}, "merge --into runs/night DIR/shards/one DIR/shards/x/two\n"},
		{2, 1, 1, []string{"shards/one", "shards/x/two", "shards/none"}, "merge --into runs/night DIR/shards/one DIR/shards/x/two\ngate --target live --profile gate runs/night\n"},
	} {
		dir := t.TempDir()
		gate, err := os.ReadFile("../scripts/gate-shards.sh")
		if err != nil {
			t.Fatal(err)
		}
		fake := "#!/bin/sh\necho \"$*\"\n[ \"$1\" = merge ] && exit " + string(rune('0'+test.merge)) + "\nexit " + string(rune('0'+test.gate)) + "\n"
		for name, text := range map[string]string{
			"scripts/gate-shards.sh": string(gate), "bin/sandproof": fake,
			"shards/one/manifest.json": "", "shards/x/two/manifest.json": "", "shards/one/artifacts/shard-1/manifest.json": "",
		} {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		out, err := script(t.Context(), t, dir, "scripts/gate-shards.sh", []string{"GATE_TARGET=live", "GATE_PROFILE=gate"}, append([]string{"night"}, test.dirs...)...).Output()
		if got := exitCode(t, err); got != test.exit || strings.ReplaceAll(string(out), dir, "DIR") != test.want {
			t.Errorf("exit %d, want %d: %s", got, test.exit, out)
		}
	}
}

// runStep runs a step of a workflow as GitHub does, in a directory where
// sandproof and go are scripts.
func runStep(t *testing.T, workflow, job, has, sandproof string, environment ...string) (said, output string, exit int) {
	t.Helper()
	steps := workflows(t)[workflow].Jobs[job].Steps
	i := slices.IndexFunc(steps, func(s step) bool { return strings.Contains(s.Run, has) })
	if i < 0 {
		t.Fatalf("%s has no step with %s", workflow, has)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"bin/sandproof": "#!/bin/bash\n" + sandproof, "bin/go": "#!/bin/sh\n", "scripts/gate-shards.sh": "#!/bin/sh\necho \"gate $*\"; exit 2\n",
		"last-green.json": "", "step.sh": steps[i].Run, "output": "", "summary": "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := script(t.Context(), t, dir, "bash", append(environment,
		"PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "GITHUB_OUTPUT="+filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY="+filepath.Join(dir, "summary"),
	), "--noprofile", "--norc", "-eo", "pipefail", "step.sh")
	out, err := cmd.CombinedOutput()
	told, readErr := os.ReadFile(filepath.Join(dir, "output"))
	if readErr != nil {
		t.Fatal(readErr)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "pwned*")); len(left) > 0 {
		t.Errorf("what was typed into the form was run: %q", left)
	}
	return string(out), string(told), exitCode(t, err)
}

// What is typed into the form stays one argument, and a discovery that fails
// tells no matrix.
func TestDiscoveryStep(t *testing.T) {
	const has = "--format github-matrix"
	typed := "TEMPLATES=a; touch pwned1 $(touch pwned2) `touch pwned3` \" ' &"
	_, output, exit := runStep(t, "release-gate.yml", "discover", has, `printf '<%s>' "$@"`, typed, "PROFILE=gate", "SHARDS=3")
	want := "matrix=<templates><--changed-since><last-green.json><--format><github-matrix><--shards><3><--><-e2e.target=live><-e2e.profile=gate>" +
		"<-e2e.templates=" + strings.TrimPrefix(typed, "TEMPLATES=") + ">\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d, got %s want %s", exit, output, want)
	}
	for _, profile := range []string{"", "auto", "core gate", "coore"} {
		if said, output, exit := runStep(t, "release-gate.yml", "discover", has, "echo listed", "TEMPLATES=", "PROFILE="+profile, "SHARDS=3"); exit != 3 || output != "" || !strings.Contains(said, "want core, gate or extended") {
			t.Errorf("profile %q: exit %d, output %q: %s", profile, exit, output, said)
		}
	}
	for _, workflow := range []string{"release-gate.yml", "nightly.yml"} {
		job := map[string]string{"release-gate.yml": "discover", "nightly.yml": "plan"}[workflow]
		if said, output, exit := runStep(t, workflow, job, has, "exit 3", "TEMPLATES=", "PROFILE=gate", "SHARDS=3"); exit != 3 || output != "" {
			t.Errorf("%s: exit %d, output %q: %s", workflow, exit, output, said)
		}
	}
}

// Without a run only one sentence is green.
func TestGateStep(t *testing.T) {
	for discovered, want := range map[string]int{"nothing to judge": 0, "": 2, `{"include":[]}`: 2, "nothing": 2} {
		if said, _, exit := runStep(t, "release-gate.yml", "gate", "scripts/gate-shards.sh", "", "DISCOVERED="+discovered); exit != want {
			t.Errorf("discovered %q: exit %d, want %d: %s", discovered, exit, want, said)
		}
	}
}
