package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aymanbagabas/go-udiff"
	"golang.org/x/sys/unix"

	"sandproof/internal/redact"
)

// The steps of a patch and of an undo, as the manifest and the progress name
// them.
const (
	stepCopy     = "copy"
	stepJournal  = "replay the journal"
	stepWrite    = "write"
	stepCheck    = "check the file system"
	stepVerify   = "verify"
	stepManifest = "write the manifest"
	stepBackup   = "keep the backup"
	stepLink     = "name the copy"
	stepRename   = "put it in place"
	stepSync     = "sync the directory"
	stepRecord   = "record"
	stepPurge    = "purge"

	stepVerifyBackup = "verify the backup"
	stepUndoBegin    = "undo: begin"
	stepUndoRename   = "undo: put the original back"
	stepUndoRecord   = "undo: record"
)

// Plan is what a patch would do. Nothing was modified for it.
type Plan struct {
	Build Build
	// Refusals are why it is not done; empty where it can be.
	Refusals []*RefusedError
	// Nothing says why nothing is to be done.
	Nothing string
	// Delegation is the version that is put in, 0 for a whole init.
	Delegation int
	Changes    []FileChange
	// Steps say in sentences what is done, in order.
	Steps []string
	Purge []Cached
	Notes []string

	change *change
}

func (p *Plan) refuse(err error) error {
	refusal, ok := errors.AsType[*RefusedError](err)
	if !ok {
		return err
	}
	p.Refusals = append(p.Refusals, refusal)
	return nil
}

// refused is all refusals as one, nil for none.
func (p *Plan) refused() error {
	switch len(p.Refusals) {
	case 0:
		return nil
	case 1:
		return p.Refusals[0]
	}
	all := &RefusedError{WayOut: "each has its own way out, above"}
	for i, r := range p.Refusals {
		if i > 0 {
			all.Reason += "; "
		}
		all.Reason += r.Reason
	}
	return all
}

// change is one file to be put into an image.
type change struct {
	path          string
	before, after []byte // before is nil where the file is not there
	attributes    attributes
	delegation    int
	why           string
	// nothing is true where the image has it already.
	nothing bool
	notes   []string
}

// PlanPatch plans a patch of a build's image, and modifies nothing. What
// forbids it is in the plan; the error is trouble.
func PlanPatch(ctx context.Context, b Build, o Options) (*Plan, error) {
	p := &Plan{Build: b}
	if err := p.refuse(refusedByFiles(b)); err != nil {
		return nil, err
	}
	byFiles := len(p.Refusals)
	for _, look := range []func() error{
		func() error { return p.lookForUsers(b.RootFS) },
		func() error { return asError(writable(filepath.Dir(b.RootFS))) },
		func() error { return p.lookAtRest(ctx, b.RootFS) },
		func() (err error) {
			var notes []string
			p.Purge, notes, err = purgePlan(b, o.Caches)
			p.Notes = append(p.Notes, notes...)
			return err
		},
		func() error { return p.lookInside(ctx, o) },
	} {
		if err := p.refuse(look()); err != nil {
			return nil, err
		}
	}
	if p.Nothing != "" {
		// An image that needs nothing is refused nothing, unless nobody boots it.
		p.Refusals = p.Refusals[:byFiles]
	}
	if p.Nothing == "" && len(p.Refusals) == 0 {
		p.describe()
	}
	return p, nil
}

func asError(r *RefusedError) error {
	if r == nil {
		return nil
	}
	return r
}

// refusedByFiles refuses what lies beside the image.
func refusedByFiles(b Build) error {
	switch {
	case b.Header != "":
		return refuse("make the template anew with the fix in it (e2b-dev/infra, packages/orchestrator/cmd, shows what is in a layer), or patch a build that is a whole image",
			"the image is a layer that holds changes only: %s lies beside it, and blocks are not where a file system would have them", b.Header)
	case b.Memfile != "" || b.Snapfile != "":
		return refuse("make the template anew with the fix in it; a patched disk under an old memory would damage the file system",
			"sandboxes of this build resume from a guest's memory, which does not see the disk: %s", strings.Join(slices.DeleteFunc([]string{b.Memfile, b.Snapfile}, func(s string) bool { return s == "" }), ", "))
	case len(b.CachedSnapshots) > 0:
		return refuse("where the build itself has none any more, stop the orchestrator, remove these, and patch again; else make the template anew with the fix in it",
			"a cache has a guest's memory of this build, from which sandboxes resume without a look at the disk: %s", strings.Join(b.CachedSnapshots, ", "))
	}
	return nil
}

func (p *Plan) lookForUsers(image string) error {
	users, unsure, err := inUse(image)
	if err != nil {
		return err
	}
	if unsure != "" {
		p.Notes = append(p.Notes, unsure)
	}
	if len(users) > 0 {
		return refusedInUse(users)
	}
	return nil
}

func refusedInUse(users []string) *RefusedError {
	return refuse("end what uses it (sandboxes of this template, the orchestrator, a loop mount), and try again", "the image is in use: %s has it open", strings.Join(users, ", "))
}

// writable refuses a directory in which nothing can be made, or in which a file
// cannot be made without a name.
func writable(dir string) *RefusedError {
	err := unix.Access(dir, unix.W_OK|unix.X_OK)
	if err == nil {
		var f *os.File
		if f, err = namelessIn(dir); err == nil {
			f.Close()
			return nil
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return refuse("move the build to ext4, xfs, btrfs or tmpfs, patch it there, and move it back",
			"the directory %s is on a file system (%s) that has no files without a name, so a crash could leave half an image", dir, fileSystemOf(dir))
	}
	return refuse("run sandproof as a user who may write there, or mount it for writing", "nothing can be written to the directory %s, in which the copy and the backup must lie: %v", dir, err)
}

// namelessBeside opens a file without a name in the directory of an image.
func namelessBeside(image string) (*os.File, error) { return namelessIn(filepath.Dir(image)) }

func namelessIn(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file without a name in %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), "the copy in "+dir), nil
}

// fileSystems are names of file systems by their magic (statfs(2)).
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.MSDOS_SUPER_MAGIC: "vfat", unix.V9FS_MAGIC: "9p", 0x2fc12fc1: "zfs", unix.PROC_SUPER_MAGIC: "proc",
}

// fileSystemOf names the file system of a directory.
func fileSystemOf(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	if name := fileSystems[s.Type]; name != "" {
		return name
	}
	return fmt.Sprintf("type %#x", s.Type)
}

// room refuses a copy for which the directory's file system has no room.
func room(image string, info os.FileInfo) *RefusedError {
	var s unix.Statfs_t
	dir := filepath.Dir(image)
	if err := unix.Statfs(dir, &s); err != nil {
		return nil //nolint:nilerr // the copy tells
	}
	need, have := statOf(info).Blocks*512, int64(s.Bavail)*s.Bsize //nolint:gosec // no disk has 2^63 bytes
	if need <= have {
		return nil
	}
	return refuse("make room there: the copy becomes the image, and the original stays as the backup until undo",
		"the copy needs %d MiB in %s, which has %d MiB", need>>20, dir, have>>20)
}

// lookAtRest refuses what an earlier patch makes impossible.
func (p *Plan) lookAtRest(ctx context.Context, image string) error {
	m, err := readManifest(image)
	if err != nil {
		return err
	}
	_, err = os.Lstat(image + backupSuffix)
	hasBackup := err == nil
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	switch where(m, image, info) {
	case begun, renamed, restored:
		p.Notes = append(p.Notes, "an earlier patch or undo was interrupted; it is completed, or taken back, first")
		return nil
	case atRest, astray:
	}
	if m != nil && m.State == StatePatched && !m.Patched.seems(info) {
		return lookAtChanged(ctx, image, m, hasBackup)
	}
	if hasBackup && (m == nil || m.State == StateUndone) {
		return refuse("where you do not need it, move it away, and patch again", "there is a backup %s that no manifest explains", image+backupSuffix)
	}
	return nil
}

// lookAtChanged refuses an image that is not the one that was patched, where
// its backup would be lost or mistaken for its original.
func lookAtChanged(ctx context.Context, image string, m *Manifest, hasBackup bool) error {
	same, err := m.Patched.is(ctx, image, nil)
	if err != nil || same || !hasBackup {
		return err
	}
	return refuse(fmt.Sprintf("where the backup is not needed, move %s and %s away, and patch again", image+backupSuffix, image+manifestSuffix),
		"the image was changed, or made anew, since it was patched; the backup is that of the image from before")
}

// lookInside plans the change by what the image holds: a copy of it where its
// journal must be replayed.
func (p *Plan) lookInside(ctx context.Context, o Options) error {
	image := p.Build.RootFS
	if p.Build.Header != "" {
		return nil // what is in it cannot be told
	}
	if err := Check(image); err != nil {
		return refuse("give the whole ext4 root filesystem of a build", "%v", err)
	}
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	dirty, err := hasDirtyJournal(f)
	if err != nil {
		return err
	}
	if dirty {
		copied, err := copyOf(ctx, image)
		if err != nil {
			return fmt.Errorf("copy the image, to replay its journal: %w", err)
		}
		defer copied.Close()
		if _, err := replay(ctx, editor{copied}); err != nil {
			return err
		}
		p.Notes = append(p.Notes, "the journal of the image waits to be replayed, which is done in the copy first")
		f = copied
	}
	e := editor{f}
	if out, err := e.run(ctx, "e2fsck", "-fn"); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return refuse("mend a copy of the image with e2fsck -f and look what is lost, or make the template anew", "the file system of the image has errors, or cannot be checked: %v: %s", err, out)
	}
	c, err := o.change(ctx, e)
	if err != nil {
		return err
	}
	p.change, p.Delegation = c, c.delegation
	p.Notes = append(p.Notes, c.notes...)
	if c.nothing {
		p.Nothing = c.why
		return nil
	}
	if err := fits(f, c); err != nil {
		return err
	}
	p.Changes = []FileChange{c.describe()}
	return nil
}

// fits refuses a change for which the image has no room.
func fits(image *os.File, c *change) error {
	super, err := readSuperblock(image, math.MaxInt64)
	if err != nil {
		return err
	}
	block := super.BlockSize
	free := int64(super.Free / uint64(block)) //nolint:gosec // neither is negative, nor near 2^63
	blocks := func(content []byte) int64 { return (int64(len(content)) + block - 1) / block }
	// A directory may have to be made, or to grow.
	if need := blocks(c.after) - blocks(c.before) + int64(strings.Count(c.path, "/"))/4; need > free {
		return refuse("make room in the image (resize2fs on a copy), or make the template anew with a larger disk", "the image has no room for %s: %d blocks of %d bytes are free, and %d are needed", c.path, free, block, need)
	}
	return nil
}

func (c *change) describe() FileChange {
	f := FileChange{Path: c.path, Mode: c.attributes.mode, Owner: c.attributes.owner, After: sha256Of(c.after), Why: c.why}
	from := "/dev/null"
	if c.before != nil {
		f.Before, from = sha256Of(c.before), "a"+c.path
	}
	if isText(c.before) && isText(c.after) {
		f.Diff = udiff.Unified(from, "b"+c.path, string(c.before), string(c.after))
	} else {
		f.Diff = fmt.Sprintf("Binary files %s and b%s differ\n", from, c.path)
	}
	return f
}

func isText(content []byte) bool { return !bytes.ContainsRune(content, 0) }

// describe says the steps.
func (p *Plan) describe() {
	image, c := p.Build.RootFS, p.change
	p.Steps = []string{
		fmt.Sprintf("lock %s, so that nobody else patches it", image+lockSuffix),
		fmt.Sprintf("copy %s into a file without a name in the same directory", image),
		fmt.Sprintf("write %s in the copy, mode %s, owner %s: %s", c.path, c.attributes.mode, c.attributes.owner, c.why),
		"read back its content, mode, owner and times, and check the file system with e2fsck -fn",
		"read the whole copy back, and bring it to the disk",
		"write the manifest " + image + manifestSuffix,
		fmt.Sprintf("keep the original as %s until undo", image+backupSuffix),
		"rename the copy over " + image,
	}
	for _, cached := range p.Purge {
		p.Steps = append(p.Steps, "remove "+cached.Path())
	}
}

// maxInit bounds an init in bytes.
const maxInit = 64 << 20

// change is what is to be put into an image.
func (o Options) change(ctx context.Context, e editor) (*change, error) {
	c, err := o.decide(ctx, e)
	if ctx.Err() != nil {
		return nil, ctx.Err() // the tools' failures say nothing of the image
	}
	return c, err
}

func (o Options) decide(ctx context.Context, e editor) (*change, error) {
	if o.Init != "" {
		return o.wholeInit(ctx, e)
	}
	dir, err := e.directory(ctx, path.Dir(initPath))
	if errors.Is(err, errNotThere) {
		return nil, refuse(ownInit, "the image has no %s, which the kernel would start", initPath)
	}
	if err != nil {
		return nil, refuse("make the template anew", "the way to %s in the image cannot be followed: %v", initPath, err)
	}
	found, err := e.look(ctx, dir, path.Base(initPath))
	switch {
	case errors.Is(err, errNotThere):
		return nil, refuse(ownInit, "the image has no %s, which the kernel would start", initPath)
	case err != nil:
		return nil, err
	case found.kind == "symlink":
		return linkedInit(ctx, e, found)
	case found.kind != "regular":
		return nil, refuse("make the template anew", "%s in the image is a %s", initPath, found.kind)
	case octal(found.mode)&0o111 == 0:
		return nil, refuse(ownInit, "%s in the image has the mode %s: the kernel cannot start it", initPath, found.mode)
	}
	return delegated(ctx, e, found)
}

// delegated puts the delegation into the init script.
func delegated(ctx context.Context, e editor, found inode) (*change, error) {
	before, err := e.read(ctx, found, maxScript)
	if err != nil {
		return nil, refuse(ownInit, "%s cannot be read as a script: %v", initPath, err)
	}
	if !bytes.HasPrefix(before, []byte("#!")) {
		return nil, refuse(ownInit, "%s is no script: it is a binary, or does not begin with #!, so that the kernel does not start it", initPath)
	}
	changed, err := Delegate(string(before))
	if err != nil {
		if refusal, ok := errors.AsType[*RefusedError](err); ok {
			return nil, refusal
		}
		return nil, refuse(mendInit, "%v", err)
	}
	c := &change{path: initPath, before: before, after: []byte(changed.Text), delegation: delegationVersion, why: changed.Why, nothing: changed.Text == string(before)}
	if c.attributes, err = e.attributesOf(ctx, found.number); err != nil {
		return nil, refuse(mendInit, "what %s has beside its content cannot be read: %v", initPath, err)
	}
	return c, nil
}

// wholeInit installs a host's file as the init.
func (o Options) wholeInit(ctx context.Context, e editor) (*change, error) {
	info, err := os.Stat(o.Init)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the init to install: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxInit:
		return nil, fmt.Errorf("the init to install: %s is no regular file of at most %d MiB", o.Init, maxInit>>20)
	}
	after, err := os.ReadFile(o.Init)
	if err != nil {
		return nil, fmt.Errorf("the init to install: %w", err)
	}
	c := &change{path: initPath, after: after, attributes: attributes{mode: "755", owner: "0:0"}, why: "the whole init is replaced by " + filepath.Base(o.Init)}
	if err := bootable(ctx, e, after); err != nil {
		return nil, err
	}
	c.notes = ownNotes(after)
	dir, err := e.directory(ctx, path.Dir(initPath))
	if err != nil {
		return nil, refuse("make the template anew", "the way to %s in the image cannot be followed: %v", initPath, err)
	}
	found, err := e.look(ctx, dir, path.Base(initPath))
	switch {
	case errors.Is(err, errNotThere):
		return c, nil
	case err != nil:
		return nil, err
	case found.kind == "symlink":
		c.notes = append(c.notes, fmt.Sprintf("%s was a link to %s; the link goes away, what it leads to stays", initPath, redact.Terminal(found.target)))
		return c, nil
	case found.kind != "regular":
		return nil, refuse("make the template anew", "%s in the image is a %s", initPath, found.kind)
	}
	if c.before, err = e.read(ctx, found, maxInit); err != nil {
		return nil, refuse("make the template anew", "%s in the image cannot be read: %v", initPath, err)
	}
	if bytes.Equal(c.before, after) && found.mode == "755" && found.owner == "0:0" {
		c.nothing, c.why = true, "this init is in it already"
	}
	return c, nil
}

var interpreter = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^#![ \t]*(/[^ \t\n]+)`) })

// bootable refuses an init that the kernel could not start in the image.
func bootable(ctx context.Context, e editor, init []byte) error {
	if bytes.HasPrefix(init, []byte("\x7fELF")) {
		return nil
	}
	first, _, _ := bytes.Cut(init, []byte("\n"))
	m := interpreter().FindSubmatch(init)
	switch {
	case bytes.HasSuffix(first, []byte("\r")):
		return refuse("save it with LF alone", "the init to install has lines that end in CR LF: the kernel looks for an interpreter whose name ends in CR, and does not start it")
	case m == nil:
		return refuse("begin it with #!/bin/sh", "the init to install is neither a program nor a script that begins with #! and a path: the kernel does not start it")
	}
	shell := string(m[1])
	dir, err := e.directory(ctx, path.Dir(shell))
	if err == nil {
		_, err = e.look(ctx, dir, path.Base(shell))
	}
	if err != nil {
		return refuse("begin it with a shell that the image has", "the init to install is run by %s: %v", redact.Terminal(shell), err)
	}
	return nil
}

// ownNotes say what a whole init lacks, which is its owner's choice.
func ownNotes(init []byte) []string {
	if !bytes.HasPrefix(init, []byte("#!")) {
		return []string{"the init to install is a program: whether it enables the controllers before envd starts only a run tells"}
	}
	switch changed, err := Delegate(string(init)); {
	case err != nil:
		return []string{"of the init to install it cannot be told whether it enables the controllers before envd starts: " + err.Error()}
	case changed.Text != string(init):
		return []string{"the init to install does not enable the controllers before envd starts: without that envd's limits cannot work (sandproof image init prints one that does)"}
	}
	return nil
}

// linkedInit is what can be done where the init is a link: a unit for systemd,
// nothing else.
func linkedInit(ctx context.Context, e editor, found inode) (*change, error) {
	target := redact.Terminal(found.target)
	switch base := path.Base(found.target); base {
	case "systemd":
		return dropIn(ctx, e)
	case "busybox", "openrc-init":
		return nil, refuse("add cgroups to a runlevel (rc-update add cgroups sysinit, rc_cgroup_mode=unified in /etc/rc.conf) where the template is made, or "+ownInit,
			"%s is a link to %s: its services are OpenRC's or an inittab's, in which no place before envd is known", initPath, target)
	}
	return nil, refuse("put the script itself at "+initPath+" where the template is made, or "+ownInit, "%s is a link to %q: writing through it could change a program that others need", initPath, target)
}

const (
	dropInPath = "/etc/systemd/system/envd.service.d/50-sandproof-delegation.conf"
	// dropInText is what upstream's unit has (e2b-dev/infra f4bd1b24b,
	// envd.service.tpl): a unit that delegates, and that has weights and
	// protection, makes systemd enable the controllers at the root.
	dropInText = `# sandproof delegation 1: envd's own cgroups need controllers that systemd enables
# for units that ask for them. These are the values of E2B's own unit.
[Service]
Delegate=yes
CPUAccounting=yes
CPUWeight=1000
MemoryMin=50M
MemoryLow=100M
IOAccounting=yes
IOWeight=10000
`
)

// delegates is a unit's line that has systemd delegate everything.
var delegates = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?mi)^[ \t]*Delegate[ \t]*=[ \t]*(yes|true|on|1|[a-z -]*\bcpu\b[a-z -]*\bmemory\b[a-z -]*)[ \t]*$`)
})

// dropIn gives envd's unit what it needs.
func dropIn(ctx context.Context, e editor) (*change, error) {
	unit, at, err := firstUnit(ctx, e)
	if err != nil {
		return nil, err
	}
	c := &change{
		path: dropInPath, after: []byte(dropInText), attributes: attributes{mode: "644", owner: "0:0"}, delegation: delegationVersion,
		why: "systemd starts envd by " + at + ", which gets the settings of E2B's own unit",
	}
	dir, err := e.directory(ctx, path.Dir(dropInPath))
	if err == nil {
		var there inode
		if there, err = e.look(ctx, dir, path.Base(dropInPath)); err == nil {
			c.before, err = e.read(ctx, there, maxScript)
		}
	}
	if err != nil && !errors.Is(err, errNotThere) {
		return nil, refuse("make the template anew", "the drop-ins of %s cannot be read: %v", unitName, err)
	}
	switch {
	case bytes.Equal(c.before, c.after):
		c.nothing, c.why = true, fmt.Sprintf("the delegation %d is in it already", delegationVersion)
	case c.before == nil && delegates().Match(unit):
		c.nothing, c.why = true, at+" delegates already; it is left as it is"
	}
	return c, nil
}

// firstUnit is envd's unit, which systemd would take.
func firstUnit(ctx context.Context, e editor) (text []byte, at string, err error) {
	for _, in := range unitDirs {
		dir, err := e.directory(ctx, in)
		var found inode
		if err == nil {
			found, err = e.look(ctx, dir, unitName)
		}
		at = path.Join(in, unitName)
		switch {
		case errors.Is(err, errNotThere):
			continue
		case err != nil:
			return nil, "", refuse("make the template anew", "systemd's unit %s cannot be read: %v", at, err)
		case found.kind != "regular":
			return nil, "", refuse("put the unit itself there where the template is made", "systemd's unit %s is a %s to %q", at, found.kind, redact.Terminal(found.target))
		}
		text, err = e.read(ctx, found, maxScript)
		if err != nil {
			return nil, "", refuse("make the template anew", "systemd's unit %s cannot be read: %v", at, err)
		}
		return text, at, nil
	}
	return nil, "", refuse("give the unit that starts envd Delegate=yes and weights where the template is made",
		"the image boots with systemd, which has no %s in %s: what starts envd is not known", unitName, strings.Join(unitDirs, ", "))
}
