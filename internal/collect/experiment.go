package collect

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
)

// mayStart tells whether something may be started in these of envd's cgroups.
// In a frozen one envd would wait for ever, and nothing could be learnt of the
// guest any more, so that this becomes the piece's problem instead.
func (s *Session) mayStart(piece evidence.Piece, groups ...string) bool {
	seen := s.evidence.Snapshot
	if s.evidence.Later != nil {
		seen = s.evidence.Later
	}
	if seen == nil {
		return false
	}
	frozen := seen.Frozen()
	maps.DeleteFunc(frozen, func(name, _ string) bool { return !slices.Contains(groups, name) })
	if len(frozen) == 0 {
		return true
	}
	s.problem(piece, evidence.ProblemGuest, "start a process in "+strings.Join(slices.Sorted(maps.Keys(frozen)), " and "),
		fmt.Errorf("nothing was started: %s", strings.Join(slices.Sorted(maps.Values(frozen)), ", ")),
		"a process that is started in a frozen cgroup hangs envd as a whole")
	return false
}

// MostRounds is how often the CPU experiment is made at most: a host that holds
// a guest's CPU back for some tens of milliseconds, at the wrong moment, makes
// one round worthless. Each one takes twice as long as the one before, so that
// the same disturbance weighs half as much.
const MostRounds = 3

// cpu lets a command and a terminal compete for one CPU, then two commands as
// a control; and once more where that did not tell anything for certain.
func (s *Session) cpu(ctx context.Context) {
	if !s.mayStart(evidence.PieceCPU, "user", "ptys") || !s.upload(ctx, evidence.PieceCPU) {
		return
	}
	var earlier []*evidence.CPUExperiment
	long := s.options.Intervals.Burn
	// One that burns has to end within its command's time, in half of which it may
	// wait for the other.
	longest := max(long, min(config.MostBurn, s.options.Intervals.Command/4))
	for range MostRounds {
		e := s.round(ctx, long)
		long = min(2*long, longest)
		last := *e
		e.Earlier = earlier
		s.evidence.CPU = e
		if ctx.Err() != nil || s.options.Again == nil || !s.options.Again(s.evidence) {
			return
		}
		earlier = append(slices.Clip(earlier), &last)
	}
}

// round is the CPU experiment, once, in which each pair burns for a time.
func (s *Session) round(ctx context.Context, long time.Duration) *evidence.CPUExperiment {
	e := &evidence.CPUExperiment{}
	e.Command, e.PTY = s.compete(ctx, long, kind{}, terminal)
	one, other := s.compete(ctx, long, kind{}, kind{})
	for _, b := range []*evidence.Burn{one, other} {
		if b != nil {
			e.Control = append(e.Control, b)
		}
	}
	return e
}

// compete runs two burning processes side by side for a time, which find each
// other in the guest. One that did not report is nil, with a problem.
func (s *Session) compete(ctx context.Context, long time.Duration, one, other kind) (first, second *evidence.Burn) {
	// Whoever comes first waits for the other, for less than its own lifetime.
	args := []string{"burn", "-meet=" + rand.Text(), "-for=" + long.String(), "-wait=" + (s.options.Intervals.Command / 2).String()}
	var failed [2]*failure
	var both sync.WaitGroup
	both.Go(func() { first, failed[0] = answerOf[evidence.Burn](ctx, s, one, args...) })
	both.Go(func() { second, failed[1] = answerOf[evidence.Burn](ctx, s, other, args...) })
	both.Wait()
	for _, f := range failed {
		if f != nil {
			s.problem(evidence.PieceCPU, f.kind, "run the guest probe's burn", f.err, f.meaning)
		}
	}
	return first, second
}

// memory lets a command take more memory than its group may use, and asks envd
// for its health meanwhile. The probe itself decides whether there is a limit
// to try, from what it reads right before.
func (s *Session) memory(ctx context.Context) {
	if !s.mayStart(evidence.PieceMemory, "user") || !s.upload(ctx, evidence.PieceMemory) {
		return
	}
	if s.options.Alone != nil {
		release, err := s.options.Alone(ctx)
		if err != nil {
			s.problem(evidence.PieceMemory, evidence.ProblemInfra, "wait until no other memory experiment of this run is under way", err, "")
			return
		}
		defer release()
	}
	e := &evidence.MemoryExperiment{}
	stop := s.watchHealth(ctx, e)
	e.Report, _ = ask[evidence.HogReport](ctx, s, evidence.PieceMemory, kind{}, "hog",
		"-group="+s.evidence.Snapshot.Groups["user"].Path, "-deadline="+s.options.Intervals.Pressure.String())
	stop()
	s.evidence.Memory = e
}

// watchHealth asks envd for its health again and again until it is told to
// stop; the last answer is waited for.
func (s *Session) watchHealth(ctx context.Context, e *evidence.MemoryExperiment) (stop func()) {
	done := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(s.options.Intervals.Poll)
		defer tick.Stop()
		for {
			s.askHealth(ctx, e)
			select {
			case <-tick.C:
			case <-done:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		close(done)
		asking.Wait()
	}
}

func (s *Session) askHealth(ctx context.Context, e *evidence.MemoryExperiment) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Intervals.EnvdReady)
	defer cancel()
	asked := time.Now()
	status, err := s.envd.Health(ctx)
	said := ""
	switch {
	case err != nil && kindOf(err) == evidence.ProblemInfra:
		e.HealthLost++
		said = err.Error()
	case err != nil:
		e.HealthFailed++
		said = err.Error()
	case status != http.StatusNoContent:
		e.HealthFailed++
		said = fmt.Sprintf("GET /health: envd answered %d", status)
	default:
		e.HealthAnswered++
		e.HealthSlowestMS = max(e.HealthSlowestMS, time.Since(asked).Milliseconds())
	}
	if e.HealthError == "" {
		e.HealthError = said
	}
}
