package collect

import (
	"context"
	"errors"

	"sandproof/internal/evidence"
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
	s.evidence.Log = log
}
