package collect

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
	"sandproof/internal/sandboxapi"
)

// log closes the window: it waits until the log is quiet about the sandbox,
// and reads what lies between the marks.
func (s *Session) log(ctx context.Context) {
	if len(s.options.Logs) == 0 {
		s.problem(evidence.PieceLog, evidence.ProblemGuest, "read the orchestrator's log",
			errors.New("no log source is configured"), "name the orchestrator's log files in ginkgo.yml (live.logs)")
		return
	}
	log, err := s.window.Read(ctx)
	if err != nil {
		s.problem(evidence.PieceLog, evidence.ProblemInfra, "read the orchestrator's log", err, "")
		return
	}
	log.Canary = s.canary
	s.askLogs(ctx, log)
	s.evidence.Log = log
}

// sing writes a canary to the console to which envd's standard error goes, where
// the init's own lines go to the same one: what is said there must come out of
// the log. A console that was taken up again with a guest's memory said what it
// has to say long ago.
func (s *Session) sing(ctx context.Context) {
	snapshot := s.evidence.Snapshot
	if s.window == nil || snapshot.Envd == nil {
		return
	}
	device := snapshot.Envd.Process.Stderr
	if resumed, _, err := s.evidence.ResumedBefore(); err != nil || resumed || !evidence.IsConsole(device) || device != snapshot.Init.Stderr {
		return
	}
	s.canary = &evidence.Canary{Nonce: rand.Text(), Device: device}
	as := kind{}
	if snapshot.Aside {
		as.tag = systemTag
	}
	s.window.Expect(s.canary.Nonce)
	result, err := s.run(ctx, []string{probePath, "canary", device, s.canary.Nonce}, as)
	if err == nil && (result.ExitCode != 0 || !result.Exited) {
		err, _ = exitProblem("canary", result)
	}
	s.canary.Written = time.Now().UTC()
	if err != nil {
		s.canary.Error = err.Error()
		s.window.Expect("")
	}
}

// maxAPILines is how many lines the API is asked for; its servers give no more
// at once.
const maxAPILines = 1000

// askLogs adds what the API's own log of the sandbox says of cgroups. It takes
// nothing away: an empty answer is no proof of anything.
func (s *Session) askLogs(ctx context.Context, log *evidence.Log) {
	log.API = &evidence.APILog{}
	lines, err := s.options.Client.SandboxLogs(ctx, s.sandbox.SandboxID, sandboxapi.LogQuery{Direction: sandboxapi.Forward, Limit: maxAPILines})
	if err != nil {
		log.API.Error = err.Error()
		return
	}
	log.API.Entries = len(lines)
	for _, l := range lines {
		found := logscan.Said(l.Message, l.Timestamp, s.options.Redactor)
		for _, f := range found {
			// What the orchestrator says stands in its own log, too.
			if !slices.ContainsFunc(log.Findings, func(other evidence.Finding) bool { return other.Rule == f.Rule && other.Message == f.Message }) {
				log.Findings = append(log.Findings, f)
			}
		}
	}
}
