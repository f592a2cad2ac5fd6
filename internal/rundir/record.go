package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sandproof/internal/redact"
)

// Recorder appends the records of one process.
type Recorder struct {
	file    *os.File
	origin  Origin
	process int
	redact  *redact.Redactor
	// torn is true after a write that failed, and may have left a part of a line.
	torn bool
}

// Recorder opens the record file of one suite process.
func (r *Run) Recorder(process int, redactor *redact.Redactor) (*Recorder, error) {
	file, err := os.OpenFile(r.recordsOf(process), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the records of process %d: %w", process, err)
	}
	return &Recorder{file: file, origin: r.origin(), process: process, redact: redactor}, nil
}

func (r *Run) recordsOf(process int) string {
	return filepath.Join(r.Dir, recordsDir, fmt.Sprintf("process-%d.ndjson", process))
}

// Record appends one line with a single write, so that a killed process leaves
// whole lines only. What a full disk tore stays a line of its own, and does not
// spoil the next one.
func (w *Recorder) Record(record Record) error {
	record.Origin, record.At, record.Process = w.origin, time.Now().UTC(), w.process
	line, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	line = append(w.redact.Bytes(line), '\n')
	if w.torn {
		line = append([]byte{'\n'}, line...)
	}
	_, err = w.file.Write(line)
	if w.torn = err != nil; w.torn {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// Close records that the process came to its end, and closes the record file. A
// process that never gets here was killed, whatever it had recorded.
func (w *Recorder) Close() error {
	return errors.Join(w.Record(Record{End: true}), w.file.Close())
}
