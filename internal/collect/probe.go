package collect

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/sandboxapi/envd"
)

// Where the probe lies in the guest, and as whom it runs: root can read every
// process.
const (
	probePath = "/tmp/sandproof-guestprobe"
	probeUser = "root"
)

// probeOutput bounds what a probe may print, in bytes.
const probeOutput = 4 << 20

// upload puts the probe into the guest, once. The file API sets no x-bit, so
// the first command does.
func (s *Session) upload(ctx context.Context, piece evidence.Piece) bool {
	if s.uploaded {
		return true
	}
	// The command after it has its own bound, of which more can be said.
	bounded, cancel := context.WithTimeout(ctx, s.options.Intervals.Command)
	defer cancel()
	if err := s.sure(ctx, s.envd.WriteFile(bounded, probeUser, probePath, s.options.Probe)); err != nil {
		s.problem(piece, kindOf(err), "upload the guest probe", err, meaningOf(err))
		return false
	}
	s.written = true
	if failed := s.makeExecutable(ctx, kind{}); failed != nil {
		s.problem(piece, failed.kind, "make the guest probe executable", failed.err, failed.meaning)
		return false
	}
	s.uploaded = true
	return true
}

func (s *Session) makeExecutable(ctx context.Context, as kind) *failure {
	result, err := s.run(ctx, []string{"chmod", "0755", probePath}, as)
	if err != nil {
		return &failure{kindOf(err), err, meaningOf(err)}
	}
	if result.ExitCode != 0 || !result.Exited {
		err, meaning := exitProblem("chmod", result)
		return &failure{evidence.ProblemGuest, err, meaning}
	}
	return nil
}

// kind is how a command is started: with a terminal, or with a tag.
type kind struct {
	pty *envd.Size
	tag string
}

// run runs a command through envd as root, with the configured lifetime.
func (s *Session) run(ctx context.Context, argv []string, as kind) (envd.Result, error) {
	result, err := s.envd.Run(ctx, envd.Command{
		Path: argv[0], Args: argv[1:], User: probeUser, Dir: "/", PTY: as.pty, Tag: as.tag,
		Lifetime: s.options.Intervals.Command, OutputLimit: probeOutput,
	})
	return result, s.sure(ctx, err)
}

// sure makes sure of whom an error blames. A proxy takes the connection that
// breaks under a call for a closed port until it notices that the machine, or
// its node, is gone, so that this looks like the end of envd for a moment.
func (s *Session) sure(ctx context.Context, err error) error {
	if !isAt(err, envd.AtPort) {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, sureOfEnd)
	defer cancel()
	tick := time.NewTicker(s.options.Intervals.Poll)
	defer tick.Stop()
	var last error
	for {
		_, now := s.envd.Health(asking)
		if now == nil {
			return err // envd, or the next one, is there
		}
		if last == nil || asking.Err() == nil {
			last = now // and not the end of the asking itself
		}
		if isAt(now, envd.AtProxy) || asking.Err() != nil {
			break
		}
		select {
		case <-tick.C:
		case <-asking.Done():
		}
	}
	if ctx.Err() != nil || isAt(last, envd.AtPort) {
		return err
	}
	return fmt.Errorf("%w; a moment before: %s", last, err) //nolint:errorlint // the first look is what was wrong
}

// ask runs the probe in one mode and reads its frame; what fails becomes a
// problem of the piece.
func ask[T any](ctx context.Context, s *Session, piece evidence.Piece, as kind, args ...string) (*T, bool) {
	if !s.upload(ctx, piece) {
		return nil, false
	}
	v, failed := answerOf[T](ctx, s, as, args...)
	if failed != nil {
		s.problem(piece, failed.kind, "run the guest probe's "+args[0], failed.err, failed.meaning)
	}
	return v, failed == nil
}

// failure is why the probe gave no answer.
type failure struct {
	kind    evidence.ProblemKind
	err     error
	meaning string
}

// answerOf runs the probe, which is uploaded, and records nothing: more than
// one may be running.
func answerOf[T any](ctx context.Context, s *Session, as kind, args ...string) (*T, *failure) {
	result, err := s.run(ctx, append([]string{probePath}, args...), as)
	if err != nil {
		return nil, &failure{kindOf(err), err, meaningOf(err)}
	}
	if result.ExitCode != 0 || !result.Exited {
		err, meaning := exitProblem(args[0], result)
		return nil, &failure{evidence.ProblemGuest, err, meaning}
	}
	output := result.Stdout
	if as.pty != nil {
		output = result.PTY
	}
	v, err := evidence.ParseProbe[T](output)
	if err != nil {
		return nil, &failure{evidence.ProblemGuest, err, ""}
	}
	return v, nil
}

func (s *Session) snapshot(ctx context.Context) {
	if s.evidence.Health == nil {
		return
	}
	// The upload comes first: it is no part of the look that is timed.
	var snapshot *evidence.Snapshot
	ok := s.upload(ctx, evidence.PieceSnapshot)
	asked := time.Now().UTC()
	if ok {
		snapshot, ok = ask[evidence.Snapshot](ctx, s, evidence.PieceSnapshot, kind{}, "snapshot")
	}
	if !ok && s.written && s.evidence.ProblemOf(evidence.PieceSnapshot).Kind == evidence.ProblemGuest {
		asked = time.Now().UTC()
		snapshot, ok = s.snapshotAside(ctx)
	}
	if ok {
		snapshot.Asked, snapshot.Received = asked, time.Now().UTC()
		s.evidence.Snapshot = snapshot
		// However it came into the image, the stand-in is no real envd.
		if snapshot.Envd != nil && strings.HasPrefix(snapshot.Envd.Commit, standInCommit) {
			s.evidence.StandIn = true
		}
		s.sing(ctx)
	}
}

// snapshotAside looks at a guest in which no ordinary process starts, by one
// that envd starts beside its cgroups, where it can. What that costs the
// template is recorded already: an ordinary start has failed.
func (s *Session) snapshotAside(ctx context.Context) (*evidence.Snapshot, bool) {
	aside := kind{tag: systemTag}
	if s.makeExecutable(ctx, aside) != nil {
		return nil, false
	}
	snapshot, failed := answerOf[evidence.Snapshot](ctx, s, aside, "snapshot")
	if failed != nil {
		return nil, false
	}
	snapshot.Aside = true
	return snapshot, true
}

// later looks at the guest once more, some time after the first look, in which
// what sets its own house in order has had its chance.
func (s *Session) later(ctx context.Context) {
	if s.evidence.Snapshot == nil {
		return
	}
	select {
	case <-time.After(time.Until(s.evidence.Snapshot.Received.Add(s.options.Intervals.Settle))):
	case <-ctx.Done():
		s.problem(evidence.PieceLater, evidence.ProblemInfra, "wait before the second look", ctx.Err(), "")
		return
	}
	// An envd that has ended may be on its way back.
	if _, err := s.awaitEnvd(ctx, s.ended); err != nil {
		s.problem(evidence.PieceLater, kindOf(err), "ask envd for its health before the second look", err, meaningOf(err))
		return
	}
	if snapshot, ok := ask[evidence.Snapshot](ctx, s, evidence.PieceLater, kind{}, "snapshot"); ok {
		snapshot.Received = time.Now().UTC()
		s.evidence.Later = snapshot
	}
}

// standInCommit begins what the lab's stand-in tells as its commit.
const standInCommit = "stand-in"

// terminal is an ordinary one.
var terminal = kind{pty: &envd.Size{Cols: 80, Rows: 24}}

// placement provokes each kind of process: a command with its descendants and
// a listener, and a terminal, while the listener waits for its forwarder. What
// one kind cannot show does not hide the other.
func (s *Session) placement(ctx context.Context) {
	if s.evidence.Health == nil {
		return
	}
	const piece = evidence.PiecePlacement
	placement := &evidence.Placement{}
	s.evidence.Placement = placement
	if !s.upload(ctx, piece) {
		lost := s.lost()
		placement.Command, placement.Child, placement.Grandchild, placement.Forwarder, placement.PTY = lost, lost, lost, lost, lost
		return
	}
	var report *evidence.PlacementReport
	var process *evidence.Process
	var failed [2]*failure
	var both sync.WaitGroup
	both.Go(func() {
		report, failed[0] = answerOf[evidence.PlacementReport](ctx, s, kind{}, "placement", "-forwarder-wait="+s.options.Intervals.Forwarder.String())
	})
	both.Go(func() { process, failed[1] = answerOf[evidence.Process](ctx, s, terminal, "self") })
	both.Wait()
	if f := failed[0]; f != nil {
		s.problem(piece, f.kind, "run the guest probe's placement", f.err, f.meaning)
		lost := s.lost()
		placement.Command, placement.Child, placement.Grandchild, placement.Forwarder = lost, lost, lost, lost
	} else {
		placement.Command = &evidence.Placed{Process: &report.Self}
		placement.Child, placement.Grandchild, placement.Forwarder = report.Child, report.Grandchild, report.Forwarder
		placement.RealTime = report.RealTime
	}
	if f := failed[1]; f != nil {
		s.problem(piece, f.kind, "run the guest probe's self in a terminal", f.err, f.meaning)
		placement.PTY = s.lost()
	} else {
		placement.PTY = &evidence.Placed{Process: process}
	}
}

// lost makes the placement's own account of the last problem.
func (s *Session) lost() *evidence.Placed {
	p := s.evidence.Problems[len(s.evidence.Problems)-1]
	text := fmt.Sprintf("%s: %s", p.Call, p.Error)
	if p.Meaning != "" {
		text = strings.Join([]string{text, p.Meaning}, "; ")
	}
	return &evidence.Placed{Error: text, Infra: p.Kind == evidence.ProblemInfra}
}
