package collect

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
)

// guestWorld is one in which the probe reports groups, and each experiment
// ends as it should.
func guestWorld(files map[string]string) *world {
	w := healthyWorld()
	w.pauseStatus = http.StatusNoContent
	w.start = func(args []string, pty bool) (string, int32, error) {
		frame := func(v any) (string, int32, error) {
			data, err := evidence.FrameProbe(v)
			return string(data), 0, err
		}
		if len(args) < 2 || args[0] != probePath {
			return probeOutputs(args, pty)
		}
		switch args[1] {
		case "snapshot":
			group := evidence.Group{Path: "/sys/fs/cgroup/user", Exists: true, Files: map[string]evidence.File{}}
			for name, text := range files {
				group.Files[name] = evidence.File{Text: text}
			}
			return frame(evidence.Snapshot{
				Groups: map[string]evidence.Group{"user": group}, Envd: &evidence.Envd{Process: evidence.Process{Cgroup: "0::/\n"}},
			})
		case "burn":
			return frame(evidence.Burn{CPU: new(int), From: 1, To: 2, CPUSeconds: 0.5})
		case "hog":
			return frame(evidence.HogReport{Group: "/sys/fs/cgroup/user", Ended: evidence.HogKilled})
		case "survivor", "process":
			return frame(evidence.Process{PID: 90, Cgroup: "0::/user\n"})
		}
		return probeOutputs(args, pty)
	}
	return w
}

func collected(t *testing.T, w *world, pieces ...evidence.Piece) *Session {
	t.Helper()
	s := newSession(t, w)
	s.options.Experiments = true
	s.Open(t.Context())
	s.Collect(t.Context(), pieces...)
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return s
}

func TestExperimentsAreCollected(t *testing.T) {
	w := guestWorld(nil)
	s := newSession(t, w)
	s.options.Experiments = true
	alone := 0
	s.options.Alone = func(context.Context) (func(), error) {
		alone++
		return func() { alone += 10 }, nil
	}
	s.Open(t.Context())
	s.Collect(t.Context(), evidence.Pieces()...)
	e := s.Evidence()
	if e.CPU == nil || e.CPU.Command == nil || e.CPU.PTY == nil || len(e.CPU.Control) != 2 {
		t.Errorf("CPU %+v", e.CPU)
	}
	if e.Memory == nil || e.Memory.Report == nil || e.Memory.Report.Ended != evidence.HogKilled || e.Memory.HealthAnswered == 0 {
		t.Errorf("memory %+v", e.Memory)
	}
	if alone != 11 {
		t.Errorf("the memory experiment was not alone, or never let others begin: %d", alone)
	}
	if l := e.Lifecycle; l == nil || l.Before == nil || l.Survivor.Process.PID != 90 || l.Snapshot == nil || l.Placement.Command.Process.PID != 8 || l.Resumed.Before(l.Paused) {
		t.Errorf("lifecycle %+v", l)
	}
	if len(e.NotAsked) != 0 {
		t.Errorf("not asked for: %v", e.NotAsked)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Rounds that tell nothing are kept, and there are no more than three.
func TestRounds(t *testing.T) {
	for wanted, rounds := range map[int]int{0: 1, 1: 2, 2: 3, 9: 3} {
		s := newSession(t, guestWorld(nil))
		s.options.Experiments = true
		left := wanted
		s.options.Again = func(e *evidence.Sandbox) bool {
			if e.CPU == nil || e.CPU.PTY == nil {
				t.Errorf("it is asked without a round: %+v", e.CPU)
			}
			left--
			return left >= 0
		}
		s.Open(t.Context())
		s.Collect(t.Context(), evidence.PieceCPU)
		if e := s.Evidence().CPU; e == nil || len(e.Earlier) != rounds-1 || len(e.Control) != 2 {
			t.Errorf("%d more wanted: %+v", wanted, e)
		} else if slices.ContainsFunc(e.Earlier, func(r *evidence.CPUExperiment) bool { return r.Command == nil || r.Earlier != nil }) {
			t.Errorf("an earlier round is not whole: %+v", e.Earlier)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestExperimentsNobodyAskedFor(t *testing.T) {
	w := guestWorld(nil)
	s := newSession(t, w)
	s.Open(t.Context())
	s.Collect(t.Context(), evidence.Pieces()...)
	if e := s.Evidence(); e.CPU != nil || e.Memory != nil || e.Lifecycle != nil || !slices.Equal(e.NotAsked, evidence.Experiments()) {
		t.Errorf("got %+v", e.NotAsked)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Each round burns twice as long as the one before, and no round longer than the
// probe burns or the command lives.
func TestRoundsGrow(t *testing.T) {
	for _, test := range []struct{ burn, command, second, third time.Duration }{
		{500 * time.Millisecond, time.Minute, time.Second, 2 * time.Second},
		{10 * time.Second, 10 * time.Minute, 20 * time.Second, config.MostBurn},
		{10 * time.Second, time.Minute, 15 * time.Second, 15 * time.Second},
		{20 * time.Second, time.Minute, 20 * time.Second, 20 * time.Second},
	} {
		w := guestWorld(nil)
		s := newSession(t, w)
		s.options.Experiments, s.options.Intervals.Burn, s.options.Intervals.Command = true, test.burn, test.command
		s.options.Again = func(*evidence.Sandbox) bool { return true }
		s.Open(t.Context())
		s.Collect(t.Context(), evidence.PieceCPU)
		var burnt []string
		for _, args := range w.started {
			if len(args) > 3 && args[1] == "burn" {
				burnt = append(burnt, args[3])
			}
		}
		var want []string
		for _, long := range []time.Duration{test.burn, test.second, test.third} {
			want = append(want, slices.Repeat([]string{"-for=" + long.String()}, 4)...)
		}
		if diff := cmp.Diff(want, burnt); diff != "" {
			t.Errorf("burn %s of command %s: %s", test.burn, test.command, diff)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Nothing is started in a frozen group, by any experiment.
func TestNothingIsStartedInAFrozenGroup(t *testing.T) {
	w := guestWorld(map[string]string{"cgroup.freeze": "1\n"})
	e := collected(t, w, evidence.PieceSnapshot, evidence.PieceCPU, evidence.PieceMemory, evidence.PieceLifecycle).Evidence()
	for _, piece := range evidence.Experiments() {
		if p := e.ProblemOf(piece); p == nil || !strings.Contains(p.Error, "cgroup.freeze reads 1") || !strings.Contains(p.Meaning, "hangs envd") {
			t.Errorf("%s: %+v", piece, p)
		}
	}
	for _, args := range w.started {
		if len(args) > 1 && slices.Contains([]string{"burn", "hog", "survivor"}, args[1]) {
			t.Errorf("%q was started", args)
		}
	}
}

// An API without a pause is no trouble of the sandbox's.
func TestNoPause(t *testing.T) {
	w := guestWorld(nil)
	w.pauseStatus = 0
	e := collected(t, w, evidence.PieceLifecycle).Evidence()
	if e.Lifecycle == nil || e.Lifecycle.NotOffered == "" || e.ProblemOf(evidence.PieceLifecycle) != nil {
		t.Errorf("got %+v, %+v", e.Lifecycle, e.Problems)
	}
	w = guestWorld(nil)
	w.pauseStatus = http.StatusInternalServerError
	e = collected(t, w, evidence.PieceLifecycle).Evidence()
	if p := e.ProblemOf(evidence.PieceLifecycle); e.Lifecycle != nil || p == nil || p.Kind != evidence.ProblemInfra {
		t.Errorf("got %+v, %+v", e.Lifecycle, e.Problems)
	}
}

// A sandbox that a connect hands out in the place of ours is somebody else's: it is
// neither looked into nor deleted, and ours is.
func TestConnectHandsOutAnother(t *testing.T) {
	w := guestWorld(nil)
	w.handsOut = "stranger"
	e := collected(t, w, evidence.PieceLifecycle).Evidence()
	if p := e.ProblemOf(evidence.PieceLifecycle); e.Lifecycle != nil || p == nil || p.Kind != evidence.ProblemInfra || !strings.Contains(p.Error, `handed out sandbox "stranger"`) {
		t.Errorf("got %+v, %+v", e.Lifecycle, e.Problems)
	}
	if !w.deleted || slices.ContainsFunc(w.lost, func(call string) bool { return strings.Contains(call, "stranger") }) {
		t.Errorf("deleted %v, and asked for what is not ours: %q", w.deleted, w.lost)
	}
}

// Where nothing can be started in envd's groups, the guest is looked at from
// beside them, and what that means is recorded all the same.
func TestLookAside(t *testing.T) {
	w := healthyWorld()
	w.aside = w.start
	w.start = func([]string, bool) (string, int32, error) {
		return "", 0, connect.NewError(connect.CodeInvalidArgument, errors.New("error starting process: device or resource busy"))
	}
	e := collected(t, w, evidence.PieceSnapshot, evidence.PiecePlacement).Evidence()
	if e.Snapshot == nil || !e.Snapshot.Aside || e.Snapshot.MemTotal != 42 {
		t.Errorf("snapshot %+v", e.Snapshot)
	}
	if p := e.ProblemOf(evidence.PieceSnapshot); p == nil || p.Kind != evidence.ProblemGuest || !strings.Contains(p.Meaning, "one level too deep") {
		t.Errorf("problem %+v", p)
	}
	if p := e.Placement; p == nil || p.Command.Process != nil || p.PTY.Process != nil || !strings.Contains(p.Command.Error, "busy") {
		t.Errorf("placement %+v", p)
	}
}

func TestNodeOfASandbox(t *testing.T) {
	for name, test := range map[string]struct {
		nodes map[string]string
		want  string
	}{
		"nobody may ask":            {nil, ""},
		"the only one":              {map[string]string{"n1": ""}, "n1"},
		"the one that lists it":     {map[string]string{"n1": "i0", "n2": "i1"}, "n2"},
		"none of several lists any": {map[string]string{"n1": "", "n2": ""}, ""},
	} {
		w := healthyWorld()
		w.nodes = test.nodes
		if got := collected(t, w).Evidence().API.NodeID; got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
