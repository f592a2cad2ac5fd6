package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// workdir is a directory for one verification: logs, the console, the probe.
// It goes away with Close; after a kill, with the next verification.
type workdir struct {
	path string
	held *flock.Flock
}

const (
	workdirs = "verify-*"
	// ownerLock is locked in a directory for as long as its owner lives.
	ownerLock = "owner.lock"
	lockRetry = 50 * time.Millisecond
)

// openWorkdir makes a directory below the lab's cache, and removes those whose
// owner was killed.
func openWorkdir(ctx context.Context, cache string) (*workdir, error) {
	// One at a time, so that no directory is seen between its making and its
	// locking.
	all := flock.New(filepath.Join(cache, "verify.lock"))
	if _, err := all.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("wait for another verification to begin: %w", err)
	}
	defer func() { _ = all.Unlock() }()
	if err := sweep(cache); err != nil {
		return nil, fmt.Errorf("remove what killed verifications left: %w", err)
	}
	dir, err := os.MkdirTemp(cache, workdirs)
	if err != nil {
		return nil, fmt.Errorf("make a directory for the verification: %w", err)
	}
	w := &workdir{path: dir, held: flock.New(filepath.Join(dir, ownerLock))}
	if locked, err := w.held.TryLock(); err != nil || !locked {
		return nil, errors.Join(fmt.Errorf("lock the directory of the verification: locked %t: %w", locked, err), w.Close())
	}
	return w, nil
}

// sweep removes the directories whose owner is gone.
func sweep(cache string) error {
	names, err := filepath.Glob(filepath.Join(cache, workdirs, ownerLock))
	for _, name := range names {
		owner := flock.New(name)
		free, lockErr := owner.TryLock()
		if free {
			lockErr = errors.Join(os.RemoveAll(filepath.Dir(name)), owner.Close())
		}
		err = errors.Join(err, lockErr)
	}
	return err
}

// inWorkdir lets work be done in such a directory, which goes away after it.
func inWorkdir(ctx context.Context, cache string, progress io.Writer, work func(w *workdir) error) error {
	w, err := openWorkdir(ctx, cache)
	if err != nil {
		return err
	}
	defer func() {
		if err := w.Close(); err != nil {
			fmt.Fprintf(progress, "sandproof: remove this command's directory: %v\n", err)
		}
	}()
	return work(w)
}

// Close removes the directory.
func (w *workdir) Close() error { return errors.Join(os.RemoveAll(w.path), w.held.Close()) }
