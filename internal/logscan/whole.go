package logscan

import (
	"bytes"
	"slices"
	"time"
)

// What a reader needs that decodes single lines of a log, and not all of them.

// The bounds of a record of several lines.
const (
	MaxRecordLines = maxOpenLines
	MaxRecordBytes = maxOpenBytes
)

// Begins tells whether a line is the beginning of a record, and whether it is
// all of it: a message may hold line feeds, and then its fields stand at the end
// of a later line.
func Begins(line []byte) (begins, whole bool) {
	begins = beginsRecord(line)
	return begins, begins && endsInFields(line)
}

// CutFields takes the fields off the last line of a record of several lines, and
// returns what they name; false where it ends in none.
func CutFields(line []byte) (text []byte, named Record, ok bool) {
	if !endsInFields(line) {
		return line, Record{}, false
	}
	message, fields := splitFields(string(trimEnd(line)))
	if fields == nil {
		return line, Record{}, false
	}
	return []byte(message), fields.record(), true
}

// CutTime takes the time off a line that begins with one as the console encoding
// writes it in UTC; zero where it does not. Lines of which the rests are the same
// are the same records, but for their time, where that is the records' too.
func CutTime(line []byte) (at time.Time, rest []byte) {
	if !startsLike(line, utcTime+"  ") {
		return at, line
	}
	return stampTime(string(line[:len(utcTime)])), line[len(utcTime):]
}

// ControlSigns are texts of which every line holds one that a rule of a guest's
// boot knows.
var ControlSigns = [][]byte{[]byte("=== "), []byte("✓ "), []byte("--- [GUEST] "), []byte(canarySign)}

// SandboxSigns are texts of which every line holds one that names a sandbox.
var SandboxSigns = func() [][]byte {
	signs := [][]byte{[]byte("-> [sandbox ")}
	for _, field := range sandboxFields {
		// Without the quote behind it, before which a record within a record has
		// a backslash.
		signs = append(signs, []byte(`"`+field))
	}
	return slices.Clip(signs)
}()

// Holds tells whether a text holds any of some signs.
func Holds(text []byte, signs [][]byte) bool {
	return slices.ContainsFunc(signs, func(sign []byte) bool { return bytes.Contains(text, sign) })
}
