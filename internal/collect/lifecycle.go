package collect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/sandboxapi"
)

// systemTag is the tag of a process that envd starts in its own cgroup, beside
// what it limits. It came with the call that freezes those cgroups
// (e2b-dev/infra eceb7419f, envd 0.6.0); for an older envd it is a name like
// any other.
const systemTag = "_system"

// survivorLife is how long the process that is to survive the pause lives:
// longer than a pause and a connect take.
const survivorLife = 10 * time.Minute

// lifecycle pauses the sandbox, connects to it again, and looks what is left of
// it. It comes last: a failed pause has been seen to end the sandbox.
func (s *Session) lifecycle(ctx context.Context) {
	const piece = evidence.PieceLifecycle
	if !s.mayStart(piece, "user", "ptys") {
		return
	}
	l := &evidence.Lifecycle{Aside: s.startsAside(ctx)}
	var ok bool
	if l.Before, ok = ask[evidence.Process](ctx, s, piece, kind{}, "survivor", "-for="+survivorLife.String()); !ok {
		return
	}
	if err := s.options.Client.Pause(ctx, s.sandbox.SandboxID); err != nil {
		s.pauseFailed(ctx, err)
		return
	}
	l.Paused = time.Now().UTC()
	sandbox, err := s.options.Client.Connect(ctx, s.sandbox.SandboxID, s.options.Intervals.SandboxTTL)
	if err != nil {
		s.problem(piece, evidence.ProblemInfra, "connect to the paused sandbox", err, "")
		return
	}
	// What is handed out is looked into, and deleted in the end: it must be ours.
	if sandbox.SandboxID != s.sandbox.SandboxID {
		err := fmt.Errorf("connect to sandbox %s: the API handed out sandbox %.100q", s.sandbox.SandboxID, sandbox.SandboxID)
		s.problem(piece, evidence.ProblemInfra, "connect to the paused sandbox", err, "it is left alone, since it may be anybody's")
		return
	}
	s.sandbox = &sandbox
	s.learn()
	s.envd.Close()
	if s.envd, err = s.options.Client.Envd(sandbox); err != nil {
		s.problem(piece, evidence.ProblemInfra, "find the way to envd after the pause", err, "")
		return
	}
	// The machine from before the pause has ended, and that says nothing of this.
	if _, err := s.awaitEnvd(ctx, nil); err != nil {
		s.problem(piece, kindOf(err), "ask envd for its health after the pause", err, meaningOf(err))
		return
	}
	l.Resumed = time.Now().UTC()
	s.evidence.Lifecycle = l
	if s.awaitThaw(ctx, l) {
		s.lookAfterPause(ctx, l)
	}
}

// startsAside tries, while all is thawed, whether a process can be started
// outside of envd's cgroups.
func (s *Session) startsAside(ctx context.Context) bool {
	if s.evidence.Snapshot.Envd == nil || !s.upload(ctx, evidence.PieceLifecycle) {
		return false
	}
	p, failed := answerOf[evidence.Process](ctx, s, kind{tag: systemTag}, "self")
	return failed == nil && p.Cgroup != "" && p.Cgroup == s.evidence.Snapshot.Envd.Process.Cgroup
}

// pauseFailed tells an API that has no such call from one in trouble: the
// sandbox is still there, and the call is what is not found.
func (s *Session) pauseFailed(ctx context.Context, failed error) {
	absent := []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}
	if e, ok := errors.AsType[*sandboxapi.Error](failed); ok && slices.Contains(absent, e.Status) {
		if _, err := s.options.Client.Get(ctx, s.sandbox.SandboxID); err == nil {
			s.evidence.Lifecycle = &evidence.Lifecycle{NotOffered: failed.Error()}
			return
		}
	}
	s.problem(evidence.PieceLifecycle, evidence.ProblemInfra, "pause the sandbox", failed, "a pause that fails may have ended the sandbox all the same")
}

// awaitThaw looks at the guest from outside of envd's cgroups until none of
// them is frozen: envd thaws them while the sandbox is handed out.
func (s *Session) awaitThaw(ctx context.Context, l *evidence.Lifecycle) bool {
	as := kind{}
	if l.Aside {
		as.tag = systemTag
	}
	tick := time.NewTicker(s.options.Intervals.Poll)
	defer tick.Stop()
	for end := time.Now().Add(s.options.Intervals.EnvdReady); ; {
		snapshot, ok := ask[evidence.Snapshot](ctx, s, evidence.PieceLifecycle, as, "snapshot")
		if !ok {
			return false
		}
		snapshot.Received = time.Now().UTC()
		l.Snapshot = snapshot
		if len(snapshot.Frozen()) == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// lookAfterPause starts new processes and looks for the old one.
func (s *Session) lookAfterPause(ctx context.Context, l *evidence.Lifecycle) {
	const piece = evidence.PieceLifecycle
	l.Placement = &evidence.Placement{}
	// Without the forwarder, which takes seconds and is proven already.
	if report, ok := ask[evidence.PlacementReport](ctx, s, piece, kind{}, "placement", "-forwarder-wait=0"); ok {
		l.Placement.Command = &evidence.Placed{Process: &report.Self}
		l.Placement.Child, l.Placement.Grandchild, l.Placement.RealTime = report.Child, report.Grandchild, report.RealTime
	} else {
		l.Placement.Command = s.lost()
	}
	if process, ok := ask[evidence.Process](ctx, s, piece, terminal, "self"); ok {
		l.Placement.PTY = &evidence.Placed{Process: process}
	} else {
		l.Placement.PTY = s.lost()
	}
	if process, ok := ask[evidence.Process](ctx, s, piece, kind{}, "process", strconv.Itoa(l.Before.PID)); ok {
		l.Survivor = &evidence.Placed{Process: process}
	} else {
		l.Survivor = s.lost()
	}
}
