package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Options are what patching and undoing need to be told.
type Options struct {
	// Init is the path of a host's file that becomes the image's whole init;
	// empty means that the delegation is put into the image's own.
	Init string
	// Caches are directories that hold copies of builds.
	Caches []string
	// Harness is the version of sandproof.
	Harness string
	// Progress, where it is not nil, is told how far a long step has come, in
	// bytes.
	Progress func(step string, done, total int64)
}

func (o Options) progress(step string, total int64) func(int64) {
	if o.Progress == nil {
		return nil
	}
	return func(done int64) { o.Progress(step, done, total) }
}

// Result is what became of an image.
type Result struct {
	// Nothing says why nothing was to be done; empty where something was.
	Nothing string
	// Notes are things worth a line.
	Notes []string
	// Manifest is nil where there is none.
	Manifest *Manifest
}

// atStep is called when a step of a patch or an undo is done.
var atStep = func(string) {}

// Patch patches a build's image: plans it, shows the plan, and does it unless
// it is refused. The image is never written to: a copy without a name is
// patched, verified, and renamed over it, and the original's inode stays as the
// backup. Whatever ends it, the image is the original or the patched one. A
// refusal is a *RefusedError; with any error the result says what is there.
func Patch(ctx context.Context, b Build, o Options, show func(*Plan) error) (*Result, error) {
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
	plan, err := PlanPatch(ctx, b, o)
	if err != nil {
		return result, err
	}
	if err := show(plan); err != nil {
		return result, err
	}
	if refusal := plan.refused(); refusal != nil {
		return result, refusal
	}
	if plan.Nothing != "" {
		result.Nothing = plan.Nothing
		if m != nil && m.State == StatePatched && !m.PurgeDone {
			m.Purge = plan.Purge
			return result, m.purge(b.RootFS)
		}
		return result, nil
	}
	p := &patching{plan: plan, options: o, image: b.RootFS, previous: m}
	defer p.close()
	if err := p.do(ctx); err != nil {
		return result, err
	}
	result.Manifest = p.manifest
	return result, p.manifest.purge(b.RootFS)
}

// lockFor locks an image whose directory can be written to; where it cannot,
// nothing can be done, and the plan says why.
func lockFor(image string) (func(), error) {
	if refusal := writable(filepath.Dir(image)); refusal != nil {
		return nil, refusal
	}
	return lock(image)
}

// patching is one patch on its way.
type patching struct {
	plan     *Plan
	options  Options
	image    string
	previous *Manifest

	original *os.File // open for reading
	info     os.FileInfo
	copied   *os.File // has no name until the end
	manifest *Manifest
}

func (p *patching) close() {
	for _, f := range []*os.File{p.original, p.copied} {
		if f != nil {
			f.Close()
		}
	}
}

// do does all steps but the purge. Until the backup is linked it can be given
// up; from then on it is finished.
func (p *patching) do(ctx context.Context) error {
	p.manifest = &Manifest{
		Schema: ManifestSchema, Harness: p.options.Harness, State: StatePatching, Template: p.plan.Build.Template, Build: p.plan.Build.ID,
		Delegation: p.plan.Delegation, Changes: p.plan.Changes, Purge: p.plan.Purge,
	}
	for _, s := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{stepCopy, p.copy},
		{stepJournal, p.journal},
		{stepWrite, p.write},
		{stepCheck, p.check},
		{stepVerify, p.verify},
	} {
		if err := p.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w; the image is as it was", s.name, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w; the image is as it was", err)
	}
	ctx = context.WithoutCancel(ctx)
	if err := p.commit(ctx); err != nil {
		// What was begun is taken back, or found to be done.
		_, note, recovered := recoverState(p.image)
		return errors.Join(fmt.Errorf("%w; %s", err, note), recovered)
	}
	return nil
}

// step does one step and keeps what came of it.
func (p *patching) step(ctx context.Context, name string, do func(context.Context) (string, error)) error {
	start := time.Now()
	result, err := do(ctx)
	if err != nil {
		return err
	}
	p.manifest.Steps = append(p.manifest.Steps, Done{name, start.UTC(), time.Since(start).Seconds(), result})
	atStep(name)
	return nil
}

// copy copies the image into a file without a name beside it.
func (p *patching) copy(ctx context.Context) (string, error) {
	var err error
	if p.original, err = os.Open(p.image); err != nil {
		return "", err
	}
	if p.info, err = p.original.Stat(); err != nil {
		return "", err
	}
	if p.copied, err = namelessBeside(p.image); err != nil {
		return "", err
	}
	if err := likeOriginal(p.copied, p.original, p.info); err != nil {
		return "", err
	}
	progress := p.options.progress(stepCopy, p.info.Size())
	how := "copied"
	var sum string
	if unix.IoctlFileClone(int(p.copied.Fd()), int(p.original.Fd())) == nil {
		how = "shares its blocks with the original"
		sum, err = sparseDigest(ctx, p.original, progress)
	} else {
		if refusal := room(p.image, p.info); refusal != nil {
			return "", refusal
		}
		sum, err = copyHashed(ctx, p.copied, p.original, progress)
	}
	if err != nil {
		return "", err
	}
	if p.manifest.Original, err = identify(p.original, sum); err != nil {
		return "", err
	}
	return how, p.unchanged()
}

// unchanged tells whether the image is the file that was copied, and was not
// written to.
func (p *patching) unchanged() error {
	now, err := p.original.Stat()
	if err != nil {
		return err
	}
	if !isAt(p.original, p.image) || now.Size() != p.info.Size() || !now.ModTime().Equal(p.info.ModTime()) {
		return refuse("find out who writes to it, and patch it again", "somebody wrote to the image, or replaced it, while it was copied")
	}
	return nil
}

// journal replays a journal in the copy as the kernel would at the mount, which
// would else undo what is written past it.
func (p *patching) journal(ctx context.Context) (string, error) {
	return replay(ctx, editor{p.copied})
}

func (p *patching) write(ctx context.Context) (string, error) {
	e := editor{p.copied}
	change, err := p.options.change(ctx, e)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(change.before, p.plan.change.before) || !bytes.Equal(change.after, p.plan.change.after) {
		return "", refuse("patch it again", "%s is not what it was when the patch was planned", change.path)
	}
	dir, err := e.makeDirectory(ctx, filepath.Dir(change.path))
	if err != nil {
		return "", err
	}
	return "read back", e.write(ctx, dir, filepath.Base(change.path), change.after, change.attributes)
}

func (p *patching) check(ctx context.Context) (string, error) {
	if out, err := (editor{p.copied}).run(ctx, "e2fsck", "-fn"); err != nil {
		return "", fmt.Errorf("the file system has errors after the change: %w: %s", err, out)
	}
	return "clean", nil
}

// verify reads the whole copy, and brings it to the disk.
func (p *patching) verify(ctx context.Context) (string, error) {
	synced := make(chan error, 1)
	go func() { synced <- p.copied.Sync() }()
	sum, err := sparseDigest(ctx, p.copied, p.options.progress(stepVerify, p.info.Size()))
	if err := errors.Join(err, <-synced); err != nil {
		return "", err
	}
	if p.manifest.Patched, err = identify(p.copied, sum); err != nil {
		return "", err
	}
	return sum, nil
}

// commit puts the copy in the image's place.
func (p *patching) commit(ctx context.Context) error {
	if p.previous != nil && p.previous.State == StatePatched {
		// The backup stays the image before the first patch.
		p.manifest.Original, p.manifest.Previous = p.previous.Original, p.previous
		p.manifest.Previous.Previous = nil
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{stepManifest, func() error { return p.manifest.write(p.image) }},
		{stepBackup, p.backup},
		{stepLink, func() error { return linkAs(p.copied, p.image+newSuffix) }},
		{stepRename, p.rename},
		{stepSync, func() error { return syncDir(p.image) }},
		{stepRecord, func() error {
			p.manifest.State = StatePatched
			return p.manifest.write(p.image)
		}},
	} {
		err := p.step(ctx, s.name, func(context.Context) (string, error) { return "", s.do() })
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// backup gives the original's inode a second name.
func (p *patching) backup() error {
	if p.manifest.Previous != nil {
		return nil
	}
	err := os.Link(p.image, p.image+backupSuffix)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return refuse("run sandproof as the image's owner or as root, on a file system that has hard links",
			"the file system (%s) or the kernel lets this user make no second name for the image: %v", fileSystemOf(filepath.Dir(p.image)), err)
	}
	return err
}

func (p *patching) rename() error {
	if err := p.unchanged(); err != nil {
		return err
	}
	return os.Rename(p.image+newSuffix, p.image)
}

// linkAs gives a file without a name its first one (open(2), O_TMPFILE).
func linkAs(f *os.File, name string) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
}

// likeOriginal gives the copy the original's owner, permissions and extended
// attributes on the host.
func likeOriginal(to, from *os.File, info os.FileInfo) error {
	stat := statOf(info)
	if err := to.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
		return refuse("run sandproof as root, or as the image's owner", "the copy cannot be given to the image's owner, user %d, group %d: %v", stat.Uid, stat.Gid, err)
	}
	if err := to.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(from.Fd()), names)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the image's extended attributes: %w", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimRight(names[:n], "\x00"), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(int(from.Fd()), string(name), value)
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), string(name), value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("the image's extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// replay replays a dirty journal; of a clean one e2fsck would make a full
// repair instead.
func replay(ctx context.Context, e editor) (string, error) {
	dirty, err := hasDirtyJournal(e.image)
	if err != nil || !dirty {
		return "clean", err
	}
	out, err := e.run(ctx, "e2fsck", "-y", "-E", "journal_only")
	if err != nil {
		return "", refuse("mend the image with e2fsck -f, or make the template anew", "the journal of the image waits to be replayed and cannot be: %v: %s", err, out)
	}
	if dirty, err = hasDirtyJournal(e.image); err != nil || dirty {
		return "", errors.Join(err, refuse("mend the image with e2fsck -f, or make the template anew", "the journal of the image waits to be replayed, and e2fsck did not: %s", out))
	}
	return "replayed", nil
}

// recoverState finds what an earlier patch or undo left that did not come to
// its end, completes it or takes it back, and says so. It needs the lock. It
// returns the manifest that counts, nil for none.
func recoverState(image string) (*Manifest, string, error) {
	for _, name := range []string{image + newSuffix, image + manifestSuffix + newSuffix} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", fmt.Errorf("remove what an earlier patch left: %w", err)
		}
	}
	m, err := readManifest(image)
	if err != nil {
		return nil, "", err
	}
	info, err := os.Stat(image)
	if err != nil {
		return m, "", err
	}
	switch found := where(m, image, info); found {
	case atRest:
		return m, "", nil
	case renamed:
		m.State, m.Previous = StatePatched, nil
		return m, "a patch that was interrupted had put the patched image in place: it is complete now", m.write(image)
	case restored:
		m.State, m.PurgeDone = StateUndone, false
		return m, "an undo that was interrupted had put the original back: it is complete now", m.write(image)
	case begun:
		return takeBack(m, image)
	case astray:
	}
	return m, "", refuse("find out what wrote it; move "+filepath.Base(image)+manifestSuffix+" and "+filepath.Base(image)+backupSuffix+" away, and patch again",
		"a patch of the image was interrupted, and the image is neither the one from before nor the patched one")
}

// takeBack removes what a patch left that had not replaced the image.
func takeBack(m *Manifest, image string) (*Manifest, string, error) {
	const note = "a patch that was interrupted had not replaced the image: what was left of it is removed"
	if m.Previous != nil {
		return m.Previous, note, m.Previous.write(image)
	}
	// The manifest goes last: without it nothing says what the backup is.
	for _, name := range []string{image + backupSuffix, image + manifestSuffix} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return m, "", fmt.Errorf("remove what an interrupted patch left: %w", err)
		}
	}
	return nil, note, syncDir(image)
}

// progressOf is how far a patch or an undo came.
type progressOf int

const (
	atRest   progressOf = iota
	begun               // the image is the one from before
	renamed             // the image is the patched one, and the manifest does not say so
	restored            // the image is the original again, and the manifest does not say so
	astray              // the image is neither
)

// where tells how far the patch or the undo of a manifest came.
func where(m *Manifest, image string, info os.FileInfo) progressOf {
	switch {
	case m == nil, m.State == StateUndone:
		return atRest
	case m.State == StatePatched:
		_, err := os.Lstat(image + backupSuffix)
		if errors.Is(err, fs.ErrNotExist) && m.Original.seems(info) {
			return restored
		}
		return atRest
	case m.Patched.seems(info):
		return renamed
	case m.Previous != nil && m.Previous.Patched.seems(info), m.Original.seems(info):
		return begun
	}
	backup, err := os.Lstat(image + backupSuffix)
	if err == nil && os.SameFile(backup, info) {
		return begun // and it was written to since
	}
	return astray
}
