package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// The marks between which the guest probe prints its JSON, on one line. A
// terminal echoes, adds carriage returns and mixes in other output; what lies
// between the marks is the probe's alone.
const (
	probeBegin = "SANDPROOF-BEGIN"
	probeEnd   = "SANDPROOF-END"
)

// maxProbe bounds what is accepted from a probe, in bytes.
const maxProbe = 4 << 20

// FrameProbe makes the line that a probe prints for a value.
func FrameProbe(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("probe output: %w", err)
	}
	return fmt.Appendf(nil, "%s%s%s\n", probeBegin, data, probeEnd), nil
}

// ParseProbe reads back what a probe printed. The output comes from a guest:
// it is bounded, and anything but one whole frame is an error that shows the
// beginning of what came instead.
func ParseProbe[T any](output []byte) (*T, error) {
	if len(output) > maxProbe {
		return nil, fmt.Errorf("the probe printed %d bytes, more than %d are not read", len(output), maxProbe)
	}
	_, rest, found := bytes.Cut(output, []byte(probeBegin))
	if !found {
		return nil, fmt.Errorf("the probe printed no frame; its output begins with %.200q", output)
	}
	// The first beginning and the last end: what the guest's own files say
	// inside the frame cannot cut it, and two frames are no JSON.
	end := bytes.LastIndex(rest, []byte(probeEnd))
	if end < 0 {
		return nil, fmt.Errorf("the probe's output ends within its frame, after %d bytes", len(output))
	}
	v := new(T)
	if err := json.Unmarshal(rest[:end], v); err != nil {
		return nil, fmt.Errorf("between its marks the probe's output is not the one JSON value that it should be: %w", err)
	}
	return v, nil
}
