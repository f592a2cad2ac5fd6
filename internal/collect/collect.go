// Package collect takes one sandbox from its create call to evidence: the log
// window, the guest probe, the experiments, the destruction. It asserts
// nothing and knows no test runner: trouble becomes a Problem in the
// evidence, and judging is done elsewhere.
package collect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
	"sandproof/internal/redact"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/sandboxapi/envd"
)

// The metadata that every sandbox of the harness carries, by which its
// leftovers are known and swept.
const (
	MetadataRun     = "sandproof.run"
	MetadataProcess = "sandproof.process"
	MetadataVersion = "sandproof.version"
	// MetadataSession is unique to one create call, so that a sandbox whose
	// answer never came can be found.
	MetadataSession = "sandproof.session"
	// MetadataExpires is when the sandbox is surely of no use any more, in
	// Unix seconds.
	MetadataExpires = "sandproof.expires"
)

// Options say what to collect from where.
type Options struct {
	Run     string
	Process string // the suite process, unique within the run
	Version string // the harness's version
	Target  string
	StandIn bool

	Template  config.Template
	Number    int // of the sandbox among the template's, from 1
	Intervals config.Intervals
	Client    *sandboxapi.Client
	Logs      []logscan.Source
	// Waivers excuse lines of the log that no rule knows.
	Waivers []logscan.Waiver
	// Live is given the sandbox's lines of the log as they come, and not too many,
	// by another goroutine; nil where nobody looks. They are as the log has them:
	// whoever shows one takes secrets out first, and then makes it harmless.
	Live func(text string)
	// Redactor is told the sandbox's own tokens, and takes secrets out of what is cut
	// before anybody else could; nil is one of its own.
	Redactor *redact.Redactor
	// Probe is the guest probe's binary.
	Probe []byte
	// Disk reads what the storage holds of a build; nil where none is configured.
	Disk func(ctx context.Context, build string) (*evidence.Disk, error)
	// Experiments says whether the pieces of evidence.Experiments are collected.
	Experiments bool
	// MayKeep says that the sandbox may be kept in the end (Keep), and so counts
	// as a leftover only later.
	MayKeep bool
	// Again tells from the evidence so far whether the CPU experiment should be
	// made once more; nil never.
	Again func(*evidence.Sandbox) bool
	// Alone is called before a guest's memory is filled and keeps others from
	// doing so until what it returns is called; nil where nobody else could.
	Alone func(ctx context.Context) (release func(), err error)
}

// Session is one sandbox and what is known of it. Its methods are called one
// after the other.
type Session struct {
	options  Options
	evidence *evidence.Sandbox
	window   *logscan.Window
	sandbox  *sandboxapi.Sandbox
	envd     *envd.Client
	canary   *evidence.Canary
	tried    map[evidence.Piece]bool
	// written is true once the probe lies in the guest, uploaded once it can be
	// executed there.
	written, uploaded bool
	renewal           func()
	ended             *ending
	// id is the session's own; cutOff is true when a create call may have made a
	// sandbox that nobody was told of.
	id     string
	cutOff bool
}

// New prepares a session; nothing happens yet.
func New(o Options) *Session {
	if o.Redactor == nil {
		o.Redactor = redact.New()
	}
	return &Session{
		options: o, tried: map[evidence.Piece]bool{}, id: rand.Text(), ended: &ending{came: make(chan struct{})},
		evidence: &evidence.Sandbox{
			Version: evidence.Version, Run: o.Run, Target: o.Target, Template: o.Template.Name, Number: o.Number, StandIn: o.StandIn,
		},
	}
}

// Evidence is what is known so far.
func (s *Session) Evidence() *evidence.Sandbox { return s.evidence }

// problem records why a piece is missing.
func (s *Session) problem(piece evidence.Piece, kind evidence.ProblemKind, call string, err error, meaning string) {
	s.evidence.Problems = append(s.evidence.Problems, evidence.Problem{
		Piece: piece, Kind: kind, Call: call, Error: err.Error(), Meaning: meaning, At: time.Now().UTC(),
	})
}

// Open marks the log, then creates the sandbox: in this order, since what
// envd says at its start is said before the create call returns. It keeps the
// sandbox's time to live renewed until Close.
func (s *Session) Open(ctx context.Context) {
	s.tried[evidence.PieceAPI] = true
	window, err := logscan.Open(ctx, s.options.Logs)
	if err != nil {
		s.problem(evidence.PieceLog, evidence.ProblemInfra, "mark the orchestrator's log", err, "without a mark before the create, no line can be told from an older one")
		s.tried[evidence.PieceLog] = true
	}
	s.window = window

	ttl := s.options.Intervals.SandboxTTL
	seconds := int32(ttl.Seconds())
	api := &evidence.API{Requested: time.Now().UTC(), BuildWanted: s.options.Template.BuildID}
	sandbox, err := s.options.Client.Create(ctx, sandboxapi.NewSandbox{
		TemplateID: s.options.Template.Name, Timeout: &seconds,
		Metadata: map[string]string{
			MetadataRun: s.options.Run, MetadataProcess: s.options.Process, MetadataVersion: s.options.Version, MetadataSession: s.id,
			MetadataExpires: strconv.FormatInt(s.expires(ttl).Unix(), 10),
		},
	})
	api.Answered = time.Now().UTC()
	if err != nil {
		if said, ok := s.templateFailed(err); ok {
			s.problem(evidence.PieceAPI, evidence.ProblemBoot, "create the sandbox", errors.New(said), "")
			return
		}
		s.problem(evidence.PieceAPI, evidence.ProblemInfra, "create the sandbox", err, "")
		e, ok := errors.AsType[*sandboxapi.Error](err)
		s.cutOff = ok && !e.HadNoEffect()
		return
	}
	s.sandbox = &sandbox
	s.learn()
	api.SandboxID, api.TemplateID, api.Alias, api.EnvdVersion = sandbox.SandboxID, sandbox.TemplateID, sandbox.Alias, sandbox.EnvdVersion
	s.evidence.API = api
	if s.window != nil {
		s.window.Hide(s.options.Redactor)
		s.window.Excuse(s.options.Waivers)
		s.window.Watch(ctx, sandbox.SandboxID, logscan.Settling{
			Quiet: s.options.Intervals.LogQuiet, Cap: s.options.Intervals.LogCap, Poll: s.options.Intervals.Poll,
		})
		s.window.Show(ctx, s.saw())
	}
	s.renew(ctx, ttl)
	s.look(ctx)
	if s.envd, err = s.options.Client.Envd(sandbox); err != nil {
		s.problem(evidence.PieceHealth, evidence.ProblemInfra, "find the way to envd", err, "")
		s.tried[evidence.PieceHealth] = true
	}
}

// learn tells of the tokens that open the sandbox.
func (s *Session) learn() {
	s.options.Redactor.Learn(s.sandbox.EnvdAccessToken)
	if token := s.sandbox.TrafficAccessToken; token != nil {
		s.options.Redactor.Learn(*token)
	}
}

// templateFailed tells a create that failed because the template's guest does
// not come up, and what the server said of it. Only the lab's word is taken
// for it: a cluster gives the same code to trouble of its own.
func (s *Session) templateFailed(err error) (said string, ok bool) {
	e, ok := errors.AsType[*sandboxapi.Error](err)
	if !ok || s.options.Target != string(config.TargetLab) || e.Code != sandboxapi.CodeCreateFailed {
		return "", false
	}
	return e.Message, true
}

// look adds what the API tells of the running sandbox; it is not needed for
// anything else, so a failure costs these facts only.
func (s *Session) look(ctx context.Context) {
	detail, err := s.options.Client.Get(ctx, s.sandbox.SandboxID)
	if err != nil {
		return
	}
	api := s.evidence.API
	api.StartedAt, api.EndAt, api.CPUCount, api.MemoryMB = &detail.StartedAt, &detail.EndAt, detail.CPUCount, detail.MemoryMB
	api.NodeID = s.node(ctx)
	// The build is known to be the one listed now, which a rebuild may have
	// made after the sandbox; whoever relies on it compares the times.
	templates, err := s.options.Client.ListTemplates(ctx)
	if err != nil {
		return
	}
	for _, t := range templates {
		if t.TemplateID == api.TemplateID {
			api.BuildID = t.BuildID
		}
	}
}

// node finds the node on which the sandbox runs: the only one there is, or the
// one that lists it. Servers since 2026 do not list a node's sandboxes, and the
// calls need an admin token; where nothing tells, it is empty.
func (s *Session) node(ctx context.Context) string {
	nodes, err := s.options.Client.Nodes(ctx)
	if err != nil {
		return ""
	}
	if len(nodes) == 1 {
		return nodes[0].ID
	}
	for _, n := range nodes {
		detail, err := s.options.Client.Node(ctx, n.ID)
		if err == nil && slices.ContainsFunc(detail.Sandboxes, func(l sandboxapi.ListedSandbox) bool { return l.SandboxID == s.sandbox.SandboxID }) {
			return n.ID
		}
	}
	return ""
}

// renew keeps the sandbox alive at half its time to live, beyond the context
// that created it, until Close.
func (s *Session) renew(ctx context.Context, ttl time.Duration) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	id := s.sandbox.SandboxID
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(ttl / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				// A renewal that fails is followed by the next one; when all
				// fail the sandbox ends, and what is lost by that says so.
				_ = s.options.Client.SetTimeout(ctx, id, ttl)
			}
		}
	})
	s.renewal = func() {
		cancel()
		running.Wait()
	}
}

// Lacks returns those of the pieces that Collect would gather now.
func (s *Session) Lacks(pieces ...evidence.Piece) []evidence.Piece {
	return slices.DeleteFunc(slices.Clone(pieces), func(p evidence.Piece) bool { return s.sandbox == nil || s.tried[p] || s.notAsked(p) })
}

// notAsked tells whether a piece is an experiment that the run did not ask
// for.
func (s *Session) notAsked(p evidence.Piece) bool {
	return !s.options.Experiments && slices.Contains(evidence.Experiments(), p)
}

// Collect gathers the pieces that were not tried yet, with what they rest on.
func (s *Session) Collect(ctx context.Context, pieces ...evidence.Piece) {
	steps := []struct {
		piece evidence.Piece
		needs []evidence.Piece
		run   func(context.Context)
	}{
		{evidence.PieceHealth, nil, s.health},
		{evidence.PieceSnapshot, []evidence.Piece{evidence.PieceHealth}, s.snapshot},
		{evidence.PiecePlacement, []evidence.Piece{evidence.PieceHealth}, s.placement},
		{evidence.PieceCPU, []evidence.Piece{evidence.PieceSnapshot}, s.cpu},
		{evidence.PieceMemory, []evidence.Piece{evidence.PieceSnapshot}, s.memory},
		{evidence.PieceLater, []evidence.Piece{evidence.PieceSnapshot}, s.later},
		{evidence.PieceLog, nil, s.log},
		{evidence.PieceLifecycle, []evidence.Piece{evidence.PieceSnapshot}, s.lifecycle},
		{evidence.PieceDisk, nil, s.disk},
	}
	if s.sandbox == nil {
		return
	}
	wanted := slices.Clone(pieces)
	for _, step := range slices.Backward(steps) {
		if slices.Contains(wanted, step.piece) {
			wanted = append(wanted, step.needs...)
		}
	}
	for _, step := range steps {
		if !slices.Contains(wanted, step.piece) || s.tried[step.piece] {
			continue
		}
		s.tried[step.piece] = true
		if s.notAsked(step.piece) {
			s.evidence.NotAsked = append(s.evidence.NotAsked, step.piece)
			continue
		}
		step.run(ctx)
	}
}

// expires is when the sandbox is surely of no use any more. Renewals end with
// the run; an hour past the first time to live is more than any of them adds.
func (s *Session) expires(ttl time.Duration) time.Time {
	if s.options.MayKeep {
		ttl += s.options.Intervals.Keep
	}
	return time.Now().Add(ttl + time.Hour)
}

// Kept is a sandbox that lives on after its session, for a person to look at.
type Kept struct {
	SandboxID, Template string
	// Ends is when the server ends it.
	Ends time.Time
}

// Keep lets go of everything but the sandbox, which lives on for the interval
// keep and is ended by the server then. Where that fails, Close ends it.
func (s *Session) Keep(ctx context.Context) (Kept, error) {
	if s.sandbox == nil {
		return Kept{}, errors.New("there is no sandbox to keep")
	}
	s.letGo()
	ctx, cancel := context.WithTimeout(ctx, s.options.Intervals.Destroy)
	defer cancel()
	id := s.sandbox.SandboxID
	if err := s.options.Client.SetTimeout(ctx, id, s.options.Intervals.Keep); err != nil {
		return Kept{}, err
	}
	// The server cuts what exceeds the team's maximum, so it is asked.
	detail, err := s.options.Client.Get(ctx, id)
	if err != nil {
		return Kept{}, err
	}
	return Kept{SandboxID: id, Template: s.options.Template.Name, Ends: detail.EndAt}, nil
}

// letGo ends everything that runs beside the sandbox.
func (s *Session) letGo() {
	if s.window != nil {
		s.window.Close()
	}
	if s.renewal != nil {
		s.renewal()
	}
	if s.envd != nil {
		s.envd.Close()
	}
}

// Close ends the sandbox and lets go of everything, whatever happened before.
// Its error means that the sandbox may be left behind.
func (s *Session) Close(ctx context.Context) error {
	s.letGo()
	ctx, cancel := context.WithTimeout(ctx, s.options.Intervals.Destroy)
	defer cancel()
	if s.cutOff {
		return s.endLost(ctx, LostWait)
	}
	if s.sandbox == nil {
		return nil
	}
	existed, err := s.options.Client.Delete(ctx, s.sandbox.SandboxID)
	if err != nil || existed {
		return err
	}
	return s.surelyGone(ctx)
}

// surelyGone looks for a sandbox of which the server said that it does not
// exist: it says so, too, while its store is down, and then the lists fail
// (e2b-dev/infra 54693ff35).
func (s *Session) surelyGone(ctx context.Context) error {
	found, err := s.options.Client.List(ctx, map[string]string{MetadataSession: s.id})
	if err != nil {
		return fmt.Errorf("delete sandbox %s: the API answered that it does not exist, and cannot list it either: %w", s.sandbox.SandboxID, err)
	}
	if len(found) > 0 {
		return fmt.Errorf("delete sandbox %s: the API answered that it does not exist, and lists it: it is still there", s.sandbox.SandboxID)
	}
	return nil
}

// LostWait is how long a sandbox whose create call was cut off is looked for, since
// the server may still be making it, and then until no list has it.
const LostWait = 10 * time.Second

// endLost ends a sandbox that a create call may have made without telling:
// the call was interrupted, or its answer broke off. Only a list tells that it has
// ended: to a delete the server answers that there is none while its store is
// down, too. Each is waited for: that it comes, and that it goes.
func (s *Session) endLost(ctx context.Context, wait time.Duration) error {
	tick := time.NewTicker(s.options.Intervals.Poll)
	defer tick.Stop()
	seen := false
	for end := time.Now().Add(wait); ; {
		found, err := s.options.Client.List(ctx, map[string]string{MetadataSession: s.id})
		for _, sandbox := range found {
			_, deleted := s.options.Client.Delete(ctx, sandbox.SandboxID)
			err = errors.Join(err, deleted)
		}
		if len(found) > 0 && !seen {
			seen, end = true, time.Now().Add(wait)
		}
		late := time.Now().After(end)
		switch {
		case err != nil:
			return fmt.Errorf("look for a sandbox whose create call was cut off: %w", err)
		case len(found) == 0 && (seen || late):
			return nil
		case late:
			return fmt.Errorf("delete sandbox %s, whose create call was cut off: %s later it is still listed", found[0].SandboxID, wait)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("look for a sandbox whose create call was cut off: %w", ctx.Err())
		}
	}
}

// disk reads what the storage holds of the sandbox's build, where there is one.
func (s *Session) disk(ctx context.Context) {
	if s.options.Disk == nil {
		return
	}
	build := s.evidence.API.BuildID
	if build == "" {
		s.evidence.Disk = &evidence.Disk{} // it is known that the build is not
		return
	}
	disk, err := s.options.Disk(ctx, build)
	if err != nil {
		s.problem(evidence.PieceDisk, evidence.ProblemInfra, "read what the storage holds of build "+build, err, "")
		return
	}
	s.evidence.Disk = disk
}

// health waits for envd, which real orchestrators have seen answering before
// the create call returns: what is awaited here is the way to it.
func (s *Session) health(ctx context.Context) {
	status, err := s.awaitEnvd(ctx, s.ended)
	if err != nil {
		kind := kindOf(err)
		if e, ok := errors.AsType[*endedError](err); ok && e.line.End == logscan.EndPanic {
			// The guest's own kernel says that it stopped.
			kind = evidence.ProblemBoot
		}
		s.problem(evidence.PieceHealth, kind, "ask envd for its health", err, meaningOf(err))
		return
	}
	s.evidence.Health = &evidence.Health{
		Status: status, At: time.Now().UTC(), AfterMS: time.Since(s.evidence.API.Answered).Milliseconds(),
	}
	// The metrics confirm the memory size; older or foreign envds may not tell.
	if metrics, err := s.envd.Metrics(ctx); err == nil {
		s.evidence.Health.MemTotal = metrics.MemTotal
	}
}

// awaitEnvd asks for envd's health until an answer comes, and returns its HTTP
// status, or the last error. Once the guest has ended it asks only for as long
// as it takes to be sure.
func (s *Session) awaitEnvd(ctx context.Context, ended *ending) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Intervals.EnvdReady)
	defer cancel()
	var stop <-chan struct{}
	if ended != nil {
		stop = ended.came
	}
	status, err := s.askEnvd(ctx, stop)
	if err == nil || !ended.already() || ctx.Err() != nil {
		return status, err
	}
	ctx, cancel = context.WithTimeout(ctx, sureOfEnd)
	defer cancel()
	if status, err = s.askEnvd(ctx, nil); err != nil {
		return 0, &endedError{line: ended.line, last: err}
	}
	return status, nil
}

// askEnvd asks until an answer comes, the context ends, or stop is closed. Its
// error is that of the last ask that was not cut off by this, where there is one.
func (s *Session) askEnvd(ctx context.Context, stop <-chan struct{}) (int, error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel() // an ask that nobody will answer may take long
		case <-asking.Done():
		}
	}()
	tick := time.NewTicker(s.options.Intervals.Poll)
	defer tick.Stop()
	var last error
	for {
		status, err := s.envd.Health(asking)
		if err == nil {
			return status, nil
		}
		if last == nil || asking.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-asking.Done():
			return 0, last
		}
	}
}

// kindOf tells the guest's own failures from those of the way to it. A machine
// that has ended answers nothing, and a proxy may take that for a closed port.
func kindOf(err error) evidence.ProblemKind {
	if e, ok := errors.AsType[*endedError](err); ok {
		if e.line.End == logscan.EndPanic {
			return evidence.ProblemGuest
		}
		return evidence.ProblemInfra
	}
	if isAt(err, envd.AtEnvd) || isAt(err, envd.AtPort) {
		return evidence.ProblemGuest
	}
	return evidence.ProblemInfra
}

// isAt tells whether an error is a party's of those on the way to envd.
func isAt(err error, where envd.Where) bool {
	e, ok := errors.AsType[*envd.Error](err)
	return ok && e.Where == where
}

// meanings explain what envd's errors say about its cgroups
// (clone3(2); e2b-dev/infra packages/envd/internal/services/process).
var meanings = []struct{ text, meaning string }{
	{"bad file descriptor", "envd clones into directories that are no cgroups: what is mounted at /sys/fs/cgroup is not cgroup2"},
	{"device or resource busy", "a domain controller is enabled in the cgroup's own cgroup.subtree_control, one level too deep, so it takes no process"},
	{"no such file or directory", "the cgroup that envd had opened was removed, or the program is not there"},
}

func meaningOf(err error) string {
	for _, m := range meanings {
		if strings.Contains(err.Error(), m.text) {
			return m.meaning
		}
	}
	if e, ok := errors.AsType[*envd.Error](err); ok && e.Status == http.StatusUnauthorized {
		return "envd wants another access token"
	}
	return ""
}

// commandNotFound is the exit code of a shell that cannot start a program.
const commandNotFound = 127

// exitProblem explains a probe that ended badly.
func exitProblem(mode string, result envd.Result) (err error, meaning string) { //nolint:staticcheck // the error is data here, not a failure of the call
	err = fmt.Errorf("the probe's %s ended with %s (exit code %d): %.500q", mode, result.Status, result.ExitCode, result.Stderr)
	if result.ExitCode == commandNotFound {
		meaning = "the wrapper with which envd starts commands needs nice and ionice, which this image may lack"
	}
	return err, meaning
}
