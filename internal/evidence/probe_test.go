package evidence

import (
	"bytes"
	"testing"
)

func TestProbeFrame(t *testing.T) {
	frame, err := FrameProbe(Process{PID: 7, Cgroup: "0::/user\n"})
	if err != nil {
		t.Fatal(err)
	}
	noisy := append([]byte("motd\r\n$ probe self\r\n"), bytes.ReplaceAll(frame, []byte("\n"), []byte("\r\n"))...)
	got, err := ParseProbe[Process](noisy)
	if err != nil || got.PID != 7 || got.Cgroup != "0::/user\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, output := range map[string][]byte{
		"nothing": nil, "no frame": []byte("sh: not found"), "cut": frame[:len(frame)-5],
		"two frames": append(frame, frame...), "no JSON": []byte(probeBegin + "{" + probeEnd),
		"flood": make([]byte, maxProbe+1),
	} {
		if got, err := ParseProbe[Process](output); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add([]byte(probeBegin + `{"pid":1}` + probeEnd))
	f.Fuzz(func(t *testing.T, output []byte) {
		if p, err := ParseProbe[Snapshot](output); err == nil && p == nil {
			t.Error("neither a value nor an error")
		}
	})
}
