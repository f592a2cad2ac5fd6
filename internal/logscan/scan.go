package logscan

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// scan turns the bytes of streams into findings about one sandbox.
type scan struct {
	sandbox string
	canary  string // the text of the line that the probe wrote, empty where it wrote none
	waivers []Waiver
	log     *evidence.Log
	gate    gate
	streams map[string]*assembly
	secrets *redact.Redactor
	// harmless counts findings that change nothing, kept or not, by class.
	harmless map[evidence.FindingClass]int
	// stranger is true once a record named another sandbox.
	stranger bool
	// alive is true once a line came that shows the sandbox's boot, sung once
	// the canary did.
	alive, sung bool
	// torn are the findings, by their number in the log, of records that the end
	// of the window cut before their fields: they may have named anybody. tearing
	// is true while such a record is read.
	torn    map[int]bool
	tearing bool
}

func newScan(sandbox, canary string, waivers []Waiver, secrets *redact.Redactor, log *evidence.Log) *scan {
	return &scan{
		sandbox: sandbox, canary: canary, waivers: waivers, secrets: secrets, log: log, harmless: map[evidence.FindingClass]int{},
		gate: gate{sandbox: bytes.ToLower([]byte(sandbox))}, streams: map[string]*assembly{}, torn: map[int]bool{},
	}
}

// assembly is one stream on its way to records. A message may hold line feeds,
// as joined errors do: then its fields, and with them the sandbox, stand at the
// end of a later line.
type assembly struct {
	split splitter
	// open are the lines of a record whose fields have not come yet, and size
	// their bytes.
	open []line
	size int
}

// The bounds of a record of several lines: lines, and bytes.
const (
	maxOpenLines = 64
	maxOpenBytes = 64 << 10
)

func (s *scan) feed(stream, source string, offset int64, data []byte) {
	a, known := s.streams[stream]
	if !known {
		a = &assembly{}
		a.split.emit = func(l line) { s.line(a, l) }
		s.streams[stream] = a
	}
	a.split.feed(source, offset, data)
}

func (s *scan) finish() {
	for _, stream := range slices.Sorted(maps.Keys(s.streams)) {
		a := s.streams[stream]
		a.split.finish()
		s.tearing = len(a.open) > 0 // its fields come after the end mark
		s.release(a, Record{})
		s.tearing = false
	}
}

// line takes the next line of a stream.
func (s *scan) line(a *assembly, l line) {
	begins := beginsRecord(l.data)
	if begins {
		s.release(a, Record{}) // the record before was torn
	}
	switch {
	case begins && !endsInFields(l.data), !begins && len(a.open) > 0:
		l.data = bytes.Clone(l.data)
		a.open, a.size = append(a.open, l), a.size+len(l.data)
		if !begins && endsInFields(l.data) {
			if _, fields := splitFields(string(trimEnd(l.data))); fields != nil {
				s.release(a, fields.record())
			}
		}
		if len(a.open) > maxOpenLines || a.size > maxOpenBytes {
			s.release(a, Record{})
		}
	case l.oversize, s.gate.passes(l.data, !s.stranger):
		if !begins {
			s.rest(l.data)
		}
		s.tearing = begins && l.partial // what looks like its fields may be a part of them
		s.records(l, Record{})
		s.tearing = false
	}
}

// rest takes a line that may be the last of a record of which the beginning was
// not seen, or not known for one. Whom its fields name was there; that the line is
// theirs they do not say, since whoever prints a raw line can end it so.
func (s *scan) rest(line []byte) {
	_, named, _ := CutFields(line)
	s.stranger = s.stranger || named.SandboxID != "" && named.SandboxID != s.sandbox
}

// release hands out the lines that were kept. What their record names, where
// that came, is of them all.
func (s *scan) release(a *assembly, whole Record) {
	open := a.open
	a.open, a.size = nil, 0
	for _, l := range open {
		if whole.SandboxID != "" || l.oversize || s.gate.passes(l.data, !s.stranger) {
			s.records(l, whole)
		}
	}
}

// records classifies what a line says.
func (s *scan) records(l line, whole Record) {
	for i, record := range Records(l.data) {
		if whole.SandboxID != "" {
			record.SandboxID, record.TemplateID, record.ByText = whole.SandboxID, whole.TemplateID, false
		}
		s.record(record, l, i == 0)
	}
}

func (s *scan) record(record Record, l line, first bool) {
	rule := Classify(record)
	switch record.SandboxID {
	case s.sandbox:
		if first {
			s.log.OwnRecords++
		}
		if !record.Time.IsZero() && (s.log.First.IsZero() || record.Time.Before(s.log.First)) {
			s.log.First = record.Time
		}
	case "":
	default:
		s.stranger = true
		if rule != nil {
			s.log.Foreign++
		}
		return
	}
	if l.oversize && first {
		s.add(evidence.Finding{
			Rule: oversizeRule.ID, Class: oversizeRule.Class, Message: fmt.Sprintf("a line longer than %d bytes was cut", maxLine),
			Time: record.Time,
		}, record, l)
	}
	switch {
	case rule == nil:
	case rule.ID == CanaryRule && record.Message != s.canary:
		// An older canary, or somebody else's.
	default:
		s.add(rule.finding(record, l.data, s.secrets), record, l)
	}
}

// maxFindings bounds what one window may find, and maxHarmless how many of its
// findings of a class are kept that change nothing: a guest that floods its console
// must not fill the evidence, what is harmless must not keep a failure out, and
// what is benign not what is waived, which must be told.
const (
	maxFindings = 1000
	maxHarmless = 200
)

func (s *scan) add(f evidence.Finding, record Record, l line) {
	f.Source, f.Offset, f.Confidence = l.source, l.offset, confidenceOf(record)
	waive(&f, record.Message, s.waivers, time.Now())
	if f.Class == evidence.FindingBenign || f.Class == evidence.FindingWaived {
		if s.harmless[f.Class]++; s.harmless[f.Class] > maxHarmless {
			return
		}
	}
	if len(s.log.Findings) >= maxFindings {
		full := fmt.Sprintf("more than %d findings: the rest was not kept", maxFindings)
		if !slices.Contains(s.log.Holes, full) {
			s.log.Holes = append(s.log.Holes, full)
		}
		return
	}
	s.alive = s.alive || f.Class == evidence.FindingControl && f.Confidence != evidence.ByWindow
	s.sung = s.sung || f.Rule == CanaryRule
	if s.tearing {
		s.torn[len(s.log.Findings)] = true
	}
	s.log.Findings = append(s.log.Findings, f)
}

func confidenceOf(record Record) evidence.Confidence {
	switch {
	case record.SandboxID == "":
		return evidence.ByWindow
	case record.ByText:
		return evidence.ByOrigin
	default:
		return evidence.ByField
	}
}

// claim makes what names nobody this sandbox's, where nobody else was named in
// the whole window, nor may have been in a torn record. Where bytes are missing,
// others may have been.
func claim(log *evidence.Log, stranger bool, torn map[int]bool) {
	if stranger || log.OwnRecords == 0 || len(log.Holes) > 0 {
		return
	}
	for i := range log.Findings {
		if f := &log.Findings[i]; f.Confidence == evidence.ByWindow && !torn[i] && !ofEarlier(*f, log) {
			f.Confidence = evidence.ByExclusion
		}
	}
}

// ofEarlier tells whether a line's own time says that it is of an earlier
// sandbox, whose line came late: it lies well before the window and before the
// first record of this sandbox, which goes by the same clock.
func ofEarlier(f evidence.Finding, log *evidence.Log) bool {
	const well = time.Minute
	begun := log.Start
	if !log.First.IsZero() && log.First.Before(begun) {
		begun = log.First
	}
	return !f.Time.IsZero() && f.Time.Before(begun.Add(-well))
}

// Said classifies a message of the log that the API keeps of one sandbox:
// failures and unknown trouble alone, since its boot lines prove nothing about
// the console.
func Said(message string, at time.Time, secrets *redact.Redactor) []evidence.Finding {
	var found []evidence.Finding
	for text := range strings.Lines(message) {
		record := Record{Time: at}
		record.say(text)
		rule := Classify(record)
		if rule == nil || rule.Class != evidence.FindingFailure && rule.Class != evidence.FindingUnknown {
			continue
		}
		f := rule.finding(record, []byte(text), secrets)
		f.Source, f.Confidence = "the API's log of the sandbox", evidence.ByField
		found = append(found, f)
	}
	return found
}
