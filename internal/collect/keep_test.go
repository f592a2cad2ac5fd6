package collect

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A kept sandbox is not ended, gets its time once, and is not renewed any more.
func TestKeep(t *testing.T) {
	w := healthyWorld()
	s := newSession(t, w)
	s.options.MayKeep, s.options.Intervals.Keep = true, 30*time.Minute
	s.Open(t.Context())
	kept, err := s.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kept.SandboxID != "i1" || kept.Template != "base" || !kept.Ends.Equal(time.Date(2026, 11, 23, 12, 5, 0, 0, time.UTC)) {
		t.Errorf("got %+v: what the server says of its end counts", kept)
	}
	if w.deleted || w.ttl != 1800 {
		t.Errorf("deleted %v, time to live %d s", w.deleted, w.ttl)
	}
	// The next run sweeps it only once its time is over.
	expires, err := strconv.ParseInt(w.metadata[MetadataExpires], 10, 64)
	if err != nil || time.Until(time.Unix(expires, 0)) < 90*time.Minute {
		t.Errorf("it counts as a leftover from %s on (%v)", time.Unix(expires, 0), err)
	}
}

// What cannot be kept is still ended.
func TestKeepThatFails(t *testing.T) {
	w := healthyWorld()
	w.timeoutStatus = http.StatusConflict
	s := newSession(t, w)
	s.Open(t.Context())
	if _, err := s.Keep(t.Context()); err == nil {
		t.Error("no error")
	}
	if err := s.Close(t.Context()); err != nil || !w.deleted {
		t.Errorf("close: %v, deleted %v", err, w.deleted)
	}
}

func TestNothingToKeep(t *testing.T) {
	w := healthyWorld()
	w.createStatus = http.StatusInternalServerError
	s := newSession(t, w)
	s.Open(t.Context())
	if _, err := s.Keep(t.Context()); err == nil {
		t.Error("no error")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
