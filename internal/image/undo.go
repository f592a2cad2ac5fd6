package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// UndoPlan is what undoing a patch would do.
type UndoPlan struct {
	Build Build
	// Nothing says why nothing is to be done.
	Nothing string
	Purge   []Cached
	Notes   []string
}

// Undo puts the original image back, after it was verified byte for byte, and
// purges the caches. An image that was written to since the patch is not
// thrown away: that is refused. A refusal is a *RefusedError.
func Undo(ctx context.Context, b Build, o Options, show func(*UndoPlan) error) (*Result, error) {
	release, err := lockFor(b.RootFS)
	if err != nil {
		return &Result{}, err
	}
	defer release()
	m, note, err := recoverState(b.RootFS)
	result := &Result{Manifest: m}
	if note != "" {
		result.Notes = append(result.Notes, note)
	}
	if err != nil {
		return result, err
	}
	plan := &UndoPlan{Build: b}
	if plan.Purge, plan.Notes, err = purgePlan(b, o.Caches); err != nil {
		return result, err
	}
	switch {
	case m == nil:
		return result, refuse("put the original back from your own backup, or make the template anew", "no patch of sandproof is recorded beside the image, so there is nothing to undo")
	case m.State == StateUndone:
		plan.Nothing = "the patch was undone already"
	default:
		if note, err := undoable(ctx, b, o, m); err != nil {
			return result, err
		} else if note != "" {
			plan.Notes = append(plan.Notes, note)
		}
	}
	if err := show(plan); err != nil {
		return result, err
	}
	result.Nothing = plan.Nothing
	if plan.Nothing == "" {
		if err := putBack(b.RootFS, m); err != nil {
			return result, err
		}
	}
	if !m.PurgeDone {
		m.Purge = plan.Purge
		return result, m.purge(b.RootFS)
	}
	return result, nil
}

// undoable refuses what cannot be undone: an image that is not the patched one,
// a backup that is not the original, an image in use.
func undoable(ctx context.Context, b Build, o Options, m *Manifest) (unsure string, err error) {
	image := b.RootFS
	users, unsure, err := inUse(image)
	if err != nil {
		return "", err
	}
	if len(users) > 0 {
		return "", refusedInUse(users)
	}
	if same, err := m.Patched.is(ctx, image, o.progress("compare the image", m.Patched.Size)); err != nil {
		return "", err
	} else if !same {
		return "", refuse("where what was written to it can go, move "+image+backupSuffix+" over it by hand; else keep it",
			"the image was changed since it was patched, and undoing would throw that away")
	}
	backup := image + backupSuffix
	f, err := os.OpenFile(backup, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", refuse("put the original back from your own backup, or make the template anew", "the backup cannot be opened: %v", err)
	}
	defer f.Close()
	sum, err := sparseDigest(ctx, f, o.progress(stepVerifyBackup, m.Original.Size))
	if err != nil {
		return "", fmt.Errorf("read the backup: %w", err)
	}
	if sum != m.Original.Digest {
		return "", refuse("put the original back from your own backup, or make the template anew",
			"the backup %s is not the original any more: its content has the digest %.16s…, and the manifest says %.16s…", backup, sum, m.Original.Digest)
	}
	// A backup that was copied back by hand has another inode.
	m.Original, err = identify(f, sum)
	return unsure, err
}

// is tells whether a file is this state of an image, by reading it where it was
// touched.
func (i Identity) is(ctx context.Context, name string, progress func(int64)) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if i.seems(info) {
		return true, nil
	}
	sum, err := sparseDigest(ctx, f, progress)
	return err == nil && sum == i.Digest, err
}

// putBack renames the verified backup over the image.
func putBack(image string, m *Manifest) error {
	start := time.Now()
	// The backup may have been given another inode by hand, by which an
	// interrupted undo is told.
	if err := m.write(image); err != nil {
		return err
	}
	atStep(stepUndoBegin)
	if err := os.Rename(image+backupSuffix, image); err != nil {
		return fmt.Errorf("put the original back: %w", err)
	}
	atStep(stepUndoRename)
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	if !m.Original.seems(info) {
		return errors.New("the image is not the backup that was verified a moment ago: somebody else writes here; look at it by hand")
	}
	if err := syncDir(image); err != nil {
		return err
	}
	m.State, m.PurgeDone, m.Previous = StateUndone, false, nil
	m.Steps = append(m.Steps, Done{"undo", start.UTC(), time.Since(start).Seconds(), "the original is back, " + m.Original.Digest})
	if err := m.write(image); err != nil {
		return err
	}
	atStep(stepUndoRecord)
	return nil
}

// purge removes what the caches held of a build, and keeps what was removed.
func (m *Manifest) purge(image string) error {
	start := time.Now()
	var failed error
	for i, c := range m.Purge {
		if c.Removed != "" {
			continue
		}
		if err := c.remove(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s is not purged, and sandboxes may get the old image from there: %w", c.Path(), err))
			continue
		}
		m.Purge[i].Removed = time.Now().UTC().Format(time.RFC3339)
		atStep(stepPurge)
	}
	m.PurgeDone = failed == nil
	m.Steps = append(m.Steps, Done{stepPurge, start.UTC(), time.Since(start).Seconds(), fmt.Sprintf("%d removed", len(m.Purge))})
	return errors.Join(failed, m.write(image))
}

// purgePlan is what is to be purged for a build, and what is to be said of it.
func purgePlan(b Build, caches []string) (purge []Cached, notes []string, err error) {
	switch {
	case len(caches) == 0:
		return nil, []string{"no caches are configured (live.caches in ginkgo.yml), so none is purged: an orchestrator that has this build in a cache goes on with the old image"}, nil
	case b.ID == "":
		return nil, []string{"the image lies in no build's directory, so it is not known what the caches hold of it, and nothing is purged"}, nil
	}
	purge, err = cached(caches, b.ID, b.RootFS)
	if err != nil {
		return nil, nil, refuse("put that right, and patch again", "what the caches hold of the build cannot be told: %v", err)
	}
	var closed []string
	for _, c := range purge {
		if unix.Access(c.Cache, unix.W_OK|unix.X_OK) != nil {
			closed = append(closed, c.Path())
		}
	}
	if closed != nil {
		return nil, nil, refuse("run sandproof as a user who may, such as the orchestrator's", "this user may not remove %s, from which sandboxes would go on to get the old image", strings.Join(closed, ", "))
	}
	return purge, notes, nil
}
