// Package logscan reads the orchestrator's log: sources are marked before a
// sandbox is created and read exactly between two marks; lines become
// records, and rules make findings of those that speak of cgroups or show
// that the log is alive.
package logscan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sandproof/internal/evidence"
)

// Window is the stretch of the log in which one sandbox lives.
type Window struct {
	start     time.Time
	stretches []Stretch
	watched   *stillness
}

// Open marks every source. It must be called before the sandbox is created.
func Open(ctx context.Context, sources []Source) (*Window, error) {
	w := &Window{}
	for _, source := range sources {
		stretch, err := source.Open(ctx)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("mark the log %s: %w", source.Name(), err)
		}
		w.stretches = append(w.stretches, stretch)
	}
	w.start = time.Now().UTC()
	return w, nil
}

// Settling says when a log counts as quiet.
type Settling struct {
	// Quiet is how long no line of the sandbox may come, Cap the longest wait
	// for that, Poll the pause between two looks.
	Quiet, Cap, Poll time.Duration
}

// Watch looks out for lines of a sandbox from now on, so that Read need not
// wait where there were none for long.
func (w *Window) Watch(ctx context.Context, sandbox string, settling Settling) {
	w.watched = newStillness(ctx, w.stretches, sandbox, settling)
}

// Read waits until the log is quiet about the sandbox that is watched, sets the
// end mark and reads the window whole.
func (w *Window) Read(ctx context.Context) (*evidence.Log, error) {
	if w.watched == nil {
		return nil, errors.New("BUG: the window is read, and no sandbox was watched in it")
	}
	sandbox := w.watched.sandbox
	settled := w.watched.settled(ctx)
	w.watched.end()
	log := &evidence.Log{Start: w.start, Coverage: []evidence.Coverage{}, Settled: settled}
	for _, stretch := range w.stretches {
		if err := stretch.Seal(ctx); err != nil {
			return nil, fmt.Errorf("set the log's end mark: %w", err)
		}
	}
	log.End = time.Now().UTC()
	for _, stretch := range w.stretches {
		scan := newScan(sandbox, log)
		coverage, holes := stretch.Read(ctx, scan.feed)
		scan.finish()
		log.Coverage = append(log.Coverage, coverage...)
		log.Holes = append(log.Holes, holes...)
		log.TailLost += stretch.TailLost()
	}
	return log, nil
}

// Close lets go of everything; it may be called any number of times.
func (w *Window) Close() {
	if w.watched != nil {
		w.watched.end()
	}
	for _, stretch := range w.stretches {
		stretch.Close()
	}
	w.stretches = nil
}

// scan turns the bytes of streams into findings about one sandbox.
type scan struct {
	sandbox string
	log     *evidence.Log
	streams map[string]*splitter
}

func newScan(sandbox string, log *evidence.Log) *scan {
	return &scan{sandbox: sandbox, log: log, streams: map[string]*splitter{}}
}

func (s *scan) feed(stream, source string, offset int64, data []byte) {
	split, known := s.streams[stream]
	if !known {
		split = &splitter{emit: s.line}
		s.streams[stream] = split
	}
	split.feed(source, offset, data)
}

func (s *scan) finish() {
	for _, stream := range slices.Sorted(maps.Keys(s.streams)) {
		s.streams[stream].finish()
	}
}

// maxFindings bounds what one window may find: a guest that floods its
// console must not fill the evidence.
const maxFindings = 1000

func (s *scan) line(l line) {
	record := Parse(l.data)
	switch record.SandboxID {
	case s.sandbox:
		s.log.OwnRecords++
	case "":
	default:
		if rule := Classify(record); rule != nil {
			s.log.Foreign++
		}
		return
	}
	if l.oversize {
		s.add(evidence.Finding{
			Rule: "CG0L0", Class: evidence.FindingUnknown, Message: fmt.Sprintf("a line longer than %d bytes was cut", maxLine),
			Time: record.Time,
		}, record, l)
	}
	if rule := Classify(record); rule != nil {
		s.add(rule.finding(record, l.data), record, l)
	}
}

func (s *scan) add(f evidence.Finding, record Record, l line) {
	if len(s.log.Findings) >= maxFindings {
		full := fmt.Sprintf("more than %d findings: the rest was not kept", maxFindings)
		if !slices.Contains(s.log.Holes, full) {
			s.log.Holes = append(s.log.Holes, full)
		}
		return
	}
	f.Source, f.Offset, f.Confidence = l.source, l.offset, evidence.ByWindow
	if record.SandboxID != "" {
		f.Confidence = evidence.ByField
	}
	s.log.Findings = append(s.log.Findings, f)
}
