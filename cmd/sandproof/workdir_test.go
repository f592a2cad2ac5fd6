package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// A directory lives as long as its owner: the next verification removes what a
// killed one left, and nothing that is in use.
func TestWorkdir(t *testing.T) {
	cache := t.TempDir()
	mine, err := openWorkdir(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(cache, "verify-left", "lab")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, "verify-left", ownerLock), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := openWorkdir(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is still there: %v", err)
	}
	for _, w := range []*workdir{mine, other} {
		if err := os.WriteFile(filepath.Join(w.path, "file"), nil, 0o600); err != nil {
			t.Errorf("a directory in use is gone: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if names, err := filepath.Glob(filepath.Join(cache, workdirs)); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// Whoever waits for another verification to begin can give up.
func TestWorkdirWaitsNoLongerThanItsContext(t *testing.T) {
	cache := t.TempDir()
	held := flock.New(filepath.Join(cache, "verify.lock"))
	if locked, err := held.TryLock(); err != nil || !locked {
		t.Fatal(locked, err)
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockRetry)
	defer cancel()
	began := time.Now()
	if w, err := openWorkdir(ctx, cache); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v after %s", w, err, time.Since(began))
	}
}
