package rundir

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

// The environment that makes this test binary a recording process, and how it
// behaves: it says the ID of each requirement once its outcome is recorded.
const (
	recordDir  = "RUNDIR_TEST_DIR"  // the run directory
	recordHow  = "RUNDIR_TEST_HOW"  // a behaviour
	recordSize = "RUNDIR_TEST_SIZE" // for fullDisk: how long the file may become
	endless    = "endless"          // outcomes of ever new requirements
	catalogue  = "catalogue"        // every requirement passes, then the end
	hanging    = "hanging"          // every requirement passes, and no end comes
	fullDisk   = "full disk"        // as catalogue, while the disk is full for a time
)

func TestMain(m *testing.M) {
	if os.Getenv(recordDir) != "" {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // this process is not the test
		}
		return
	}
	os.Exit(m.Run()) //nolint:forbidigo // TestMain ends with the tests' exit code
}

// play is the recording process.
func play() error {
	run, err := Open(os.Getenv(recordDir), redact.New())
	if err != nil {
		return err
	}
	s := &evidence.Sandbox{Version: evidence.Version, Template: "a", Target: "lab", API: &evidence.API{TemplateID: "a"}}
	if err := run.WriteEvidence(s, redact.New()); err != nil {
		return err
	}
	w, err := run.Recorder(1, redact.New())
	if err != nil {
		return err
	}
	say := func(id requirement.ID) error {
		err := w.Record(Record{Sandbox: "a", Outcome: &requirement.Outcome{Requirement: id, Result: requirement.Pass, Reason: strings.Repeat("as promised ", 20)}})
		if err == nil {
			fmt.Println(id) //nolint:forbidigo // it is what the test reads
		}
		return err
	}
	how := os.Getenv(recordHow)
	for n := 0; how == endless; n++ {
		if err := say(requirement.ID("endless." + strconv.Itoa(n))); err != nil {
			return err
		}
	}
	if how == fullDisk {
		size, err := strconv.ParseUint(os.Getenv(recordSize), 10, 64)
		if err != nil {
			return err
		}
		if err := limitFile(size); err != nil {
			return err
		}
	}
	full := 0
	for _, r := range requirement.All() {
		err := say(r.ID)
		if err != nil {
			full++
		}
		if full == 3 { // somebody has made room
			if err := limitFile(1 << 30); err != nil {
				return err
			}
		}
	}
	if how == hanging {
		select {}
	}
	return w.Close()
}

// limitFile bounds the size of every file that this process writes: a write
// beyond it is cut short, as on a full disk.
func limitFile(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: 1 << 30})
}

// recording runs such a process, kills it after it has said so many outcomes,
// or lets it come to its end where that is 0, and returns what it said.
func recording(t *testing.T, run *Run, kill int, env ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, recordDir+"="+run.Dir)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if len(said) == kill {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && (kill == 0 || !ended) {
		t.Fatal(err)
	}
	return said
}

// exit is the gate's code of the run, after every outcome that was said to be
// recorded was found in it.
func exit(t *testing.T, run *Run, said []string) (int, Merged) {
	t.Helper()
	m := merge(t, run)
	found := map[string]bool{}
	for _, o := range m.Outcomes["a"] {
		found[string(o.Requirement)] = true
	}
	for _, id := range said {
		if !found[id] {
			t.Errorf("the outcome of %s was recorded, and is lost", id)
		}
	}
	verdicts := run.Verdicts(m, func(string, string) verdict.Input { return verdict.Input{Profile: config.ProfileCore} })
	return verdict.Exit(verdicts, m.Problems), m
}

// A process that is killed with SIGKILL at any point loses nothing that it had
// recorded, and the run is never green.
func TestKilledProcess(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		kill := 1 + rand.IntN(300)
		run := newRun(t, "a")
		code, m := exit(t, run, recording(t, run, kill, recordHow+"="+endless))
		if code == verdict.ExitIsolated || !strings.Contains(strings.Join(m.Problems, "\n"), "did not come to the end") {
			t.Errorf("killed after %d outcomes: exit code %d, problems %q", kill, code, m.Problems)
		}
	}
}

// Whoever is killed after the last outcome may have been about to find a leak:
// only a process that came to its end is green.
func TestKilledAfterTheLastOutcome(t *testing.T) {
	run := newRun(t, "a")
	code, m := exit(t, run, recording(t, run, 0, recordHow+"="+catalogue))
	if code != verdict.ExitIsolated || len(m.Problems) != 0 {
		t.Fatalf("a process that came to its end: exit code %d, problems %q", code, m.Problems)
	}
	run = newRun(t, "a")
	code, m = exit(t, run, recording(t, run, len(requirement.All()), recordHow+"="+hanging))
	if code != verdict.ExitInfra || len(m.Outcomes["a"]) != len(requirement.All()) {
		t.Errorf("killed with %d outcomes: exit code %d, problems %q", len(m.Outcomes["a"]), code, m.Problems)
	}
}

// A disk that is full for a time costs what was written meanwhile, is told, and
// does not spoil what comes after.
func TestFullDisk(t *testing.T) {
	for range 4 {
		size := 500 + rand.IntN(5000)
		run := newRun(t, "a")
		said := recording(t, run, 0, recordHow+"="+fullDisk, recordSize+"="+strconv.Itoa(size))
		if len(said) != len(requirement.All())-3 {
			t.Fatalf("%d bytes: %d outcomes were recorded, want all but 3", size, len(said))
		}
		code, m := exit(t, run, said)
		if code == verdict.ExitIsolated || len(m.Outcomes["a"]) != len(said) {
			t.Errorf("%d bytes: exit code %d, %d outcomes, problems %q", size, code, len(m.Outcomes["a"]), m.Problems)
		}
	}
}

// Records that are gone as a whole are told.
func TestLostRecordFile(t *testing.T) {
	run := newRun(t, "a")
	recording(t, run, 0, recordHow+"="+catalogue)
	if err := os.Remove(run.recordsOf(1)); err != nil {
		t.Fatal(err)
	}
	if code, m := exit(t, run, nil); code != verdict.ExitInfra || !strings.Contains(m.Problems[0], "process 1 of 1 recorded nothing") {
		t.Errorf("exit code %d, problems %q", code, m.Problems)
	}
}
