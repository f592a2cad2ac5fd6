package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The bounds of what is read out of an image, in bytes.
const (
	maxMetadata = 1 << 20
	maxUnit     = 256 << 10
	maxTable    = 4 << 20 // the user file, fstab and the like
	maxBinary   = 256 << 20
	// maxDropIns is how many drop-ins of envd's unit are read.
	maxDropIns = 32
)

// Inspect reads a build: its image, and what lies beside it. Nothing is
// modified, and nothing of the image is run. That the image's inside cannot be
// read is no error but said in the inventory; what cannot be read on the host
// is one.
func Inspect(ctx context.Context, b Build) (*Inventory, error) {
	f, err := os.Open(b.RootFS)
	if err != nil {
		return nil, fmt.Errorf("the image: %w; run sandproof as a user who may read it", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("the image: %w", err)
	}
	inv := &Inventory{Schema: InventorySchema, Build: b, Size: info.Size()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		inv.Allocated = s.Blocks * 512 // stat(2)
	}
	if b.Metadata != "" {
		inv.Metadata = readMetadata(b.Metadata)
	}
	if info.Mode().IsRegular() && info.Size() > 0 {
		if inv.FileSystem, err = readSuperblock(f, info.Size()); err != nil {
			inv.Unreadable = err.Error()
			return inv, nil
		}
	}
	if b.Header != "" {
		inv.Unreadable = "the image is a layer that holds changes only, so nothing lies where a file system has it"
		return inv, nil
	}
	if err := Check(b.RootFS); err != nil {
		inv.Unreadable = err.Error()
		return inv, nil
	}
	i := inspector{tree: tree{editor: editor{f}, known: map[string]*inode{}}, inv: inv}
	err = i.inside(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("inspect %s: %w", b.RootFS, ctx.Err())
	case errors.Is(err, errTool):
		return nil, err
	case err != nil:
		inv.Unreadable = err.Error()
	}
	return inv, nil
}

// Fields of the superblock that only the inventory shows, in bytes (Linux,
// Documentation/filesystems/ext4/super.rst).
const (
	atFreeLow  = 0x0C
	atState    = 0x3A
	atUUID     = 0x68
	atFreeHigh = 0x158

	stateErrors = 0x2
)

// readSuperblock reads what the superblock tells; nil where there is none.
func readSuperblock(f io.ReaderAt, length int64) (*FileSystem, error) {
	super := make([]byte, superblockSize)
	if _, err := f.ReadAt(super, superblockAt); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	if binary.LittleEndian.Uint16(super[atMagic:]) != magic {
		return nil, nil
	}
	size, err := sizeOf(super)
	if err != nil {
		return nil, err
	}
	incompatible := binary.LittleEndian.Uint32(super[atIncompatible:])
	free := uint64(binary.LittleEndian.Uint32(super[atFreeLow:]))
	if incompatible&incompatibleBig != 0 {
		free |= uint64(binary.LittleEndian.Uint32(super[atFreeHigh:])) << 32
	}
	logSize := binary.LittleEndian.Uint32(super[atLogBlockSize:])
	id := hex.EncodeToString(super[atUUID : atUUID+16])
	return &FileSystem{
		UUID:      strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-"),
		BlockSize: 1 << (10 + logSize), Size: size, Free: min(free, size>>(10+logSize)) << (10 + logSize),
		Errors: binary.LittleEndian.Uint16(super[atState:])&stateErrors != 0, Dirty: incompatible&incompatibleRecover != 0,
		Truncated: uint64(length) < size, //nolint:gosec // a file's size is not negative
	}, nil
}

// readMetadata reads what a build claims, wherever in the file it says it:
// each builder has its own form.
func readMetadata(name string) *Metadata {
	f, err := os.Open(name)
	if err != nil {
		return &Metadata{Problem: err.Error()}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err == nil && len(data) > maxMetadata {
		err = fmt.Errorf("it has more than %d bytes", maxMetadata)
	}
	var document any
	if err == nil {
		err = json.Unmarshal(data, &document)
	}
	m := &Metadata{}
	if err != nil {
		m.Problem = err.Error()
	}
	m.take(document)
	return m
}

// take takes the claims out of a document, the outermost first.
func (m *Metadata) take(document any) {
	object, ok := document.(map[string]any)
	if !ok {
		return
	}
	for key, value := range object {
		text, _ := value.(string)
		var field *string
		switch strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(key)) {
		case "buildid":
			field = &m.BuildID
		case "templateid", "envid":
			field = &m.TemplateID
		case "envdversion":
			field = &m.EnvdVersion
		case "kernelversion":
			field = &m.KernelVersion
		case "firecrackerversion":
			field = &m.FirecrackerVersion
		case "filesystemonly":
			m.FilesystemOnly = m.FilesystemOnly || value == true
		}
		if field != nil && *field == "" {
			*field = clip(text, 200)
		}
	}
	for _, value := range object {
		m.take(value)
	}
}

// clip shortens a text to a number of bytes.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// inspector reads the inside of one image.
type inspector struct {
	tree
	inv *Inventory
	// files are what was resolved at the start, by path.
	files map[string]File
}

// The places that are looked at in every image.
var (
	toolDirs  = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	toolNames = []string{"socat", "nice", "ionice", "busybox"}
	unitDirs  = []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} // systemd.unit(5)
	targets   = []string{"multi-user", "sysinit", "basic", "default", "graphical"}
	runlevels = []string{"sysinit", "boot", "default"}
)

const (
	unitName   = "envd.service"
	userFile   = "/etc/passwd"
	fstab      = "/etc/fstab"
	openrcPath = "/sbin/openrc"
	serviceOf  = "/etc/init.d/envd"
)

// places are all paths that are looked at in every image.
func places() []string {
	all := append([]string{initPath, userFile, fstab, openrcPath, serviceOf, "/bin/sh"}, envdPaths...)
	for _, dir := range toolDirs {
		for _, name := range toolNames {
			all = append(all, path.Join(dir, name))
		}
	}
	for _, dir := range unitDirs {
		all = append(all, path.Join(dir, unitName), path.Join(dir, unitName+".d"))
		for _, target := range targets {
			for _, kind := range []string{"wants", "requires"} {
				all = append(all, path.Join(dir, target+".target."+kind, unitName))
			}
		}
	}
	for _, level := range runlevels {
		for _, service := range []string{"cgroups", "envd"} {
			all = append(all, path.Join("/etc/runlevels", level, service))
		}
	}
	return all
}

func (i *inspector) inside(ctx context.Context) error {
	features, err := i.features(ctx)
	if err != nil {
		return err
	}
	i.inv.FileSystem.Features = features
	asked := places()
	found, err := i.resolve(ctx, asked)
	if err != nil {
		return err
	}
	i.files = map[string]File{}
	for n, name := range asked {
		i.files[name] = found[n]
	}
	i.tools()
	if err := i.users(ctx); err != nil {
		return err
	}
	started, err := i.init(ctx)
	if err != nil {
		return err
	}
	if i.inv.Init.InitKind == InitSystemd {
		unit, err := i.systemd(ctx)
		if err != nil {
			return err
		}
		started = append(started, unit...)
	}
	if i.inv.Init.InitKind == InitOpenRC {
		i.openrc()
	}
	return i.envds(ctx, started)
}

// features asks debugfs for the names of the file system's features, and shows
// with that whether it opens the image.
func (i *inspector) features(ctx context.Context) ([]string, error) {
	answers, said, err := i.batch(ctx, []string{"features"})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	_, names, ok := strings.Cut(answers[0], "Filesystem features:")
	if !ok {
		return nil, fmt.Errorf("debugfs cannot open the file system; look at it with e2fsck -fn: %s", clip(said, 500))
	}
	return strings.Fields(names), nil
}

// digest is the SHA-256 of a file's content.
func digest(f io.ReadSeeker) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	_, err := f.Seek(0, io.SeekStart)
	return hex.EncodeToString(hash.Sum(nil)), err
}

// read extracts a regular file and notes its hash. Where it cannot be read, or
// is too large, the file's Problem says so, and there is none.
func (i *inspector) read(ctx context.Context, f *File, most int64) (*os.File, error) {
	if f.Kind != "regular" {
		return nil, nil
	}
	content, err := i.extract(ctx, f.inode, most)
	if err == nil {
		if f.SHA256, err = digest(content); err != nil {
			err = errors.Join(err, content.Close())
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		f.Problem = "it cannot be read: " + clip(err.Error(), 500)
		return nil, nil
	}
	return content, nil
}

// readText is read of a file that is a text.
func (i *inspector) readText(ctx context.Context, f *File, most int64) (string, error) {
	content, err := i.read(ctx, f, most)
	if content == nil {
		return "", err
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	return string(data), err
}

func (i *inspector) tools() {
	for _, name := range toolNames {
		tool := Tool{Name: name}
		for _, dir := range toolDirs {
			if f := i.files[path.Join(dir, name)]; isProgram(f) {
				tool.File, tool.Busybox = &f, name != "busybox" && path.Base(f.Real) == "busybox"
				break
			}
		}
		i.inv.Tools = append(i.inv.Tools, tool)
	}
	for _, helper := range helperPaths {
		if isProgram(i.files[helper]) {
			i.inv.HelpersThere = append(i.inv.HelpersThere, helper)
		}
	}
}

// isProgram tells whether root can execute a file.
func isProgram(f File) bool {
	mode, err := strconv.ParseUint(f.Mode, 8, 32)
	return err == nil && f.Kind == "regular" && mode&0o111 != 0
}

func (i *inspector) users(ctx context.Context) error {
	f := i.files[userFile]
	text, err := i.readText(ctx, &f, maxTable)
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(fields) != 7 || fields[0] != "root" && fields[0] != "user" {
			continue
		}
		if id, err := strconv.Atoi(fields[2]); err == nil && len(i.inv.Users) < 8 {
			i.inv.Users = append(i.inv.Users, User{Name: fields[0], UID: id, Home: clip(fields[5], 200), Shell: clip(fields[6], 200)})
		}
	}
	return nil
}

// init looks at what the kernel starts, and returns the paths of the envds
// that it starts.
func (i *inspector) init(ctx context.Context) (started []string, err error) {
	init := Init{File: i.files[initPath]}
	defer func() { i.inv.Init = init }()
	content, err := i.read(ctx, &init.File, maxBinary)
	if err != nil {
		return nil, err
	}
	if content == nil {
		switch init.Kind {
		case "":
			init.InitKind = InitMissing
		case "directory":
			init.InitKind = InitDirectory
		default:
			init.InitKind = InitOther
		}
		return nil, nil
	}
	defer content.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(content, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		init.InitKind = InitScript
	case !bytes.Equal(head, []byte("\x7fELF")):
		init.InitKind = InitOther
	case path.Base(init.Real) == "systemd":
		init.InitKind = InitSystemd
	case path.Base(init.Real) == "openrc-init", path.Base(init.Real) == "busybox" && isProgram(i.files[openrcPath]):
		init.InitKind = InitOpenRC
	case path.Base(init.Real) == "busybox":
		init.InitKind = InitBusybox
	default:
		init.InitKind = InitBinary
	}
	if init.InitKind != InitScript {
		return nil, nil
	}
	if init.Size > maxScript {
		init.Script = &Text{Foreign: true, Syntax: fmt.Sprintf("it has %d bytes, more than the %d of any init script", init.Size, maxScript)}
		return nil, nil
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return nil, err
	}
	return i.script(ctx, &init, string(data))
}

// shells are the interpreters whose scripts can be read.
var shells = []string{"sh", "bash", "dash", "ash", "busybox"}

// script reads an init script and its interpreter.
func (i *inspector) script(ctx context.Context, init *Init, text string) (started []string, err error) {
	init.Script = &Text{CRLF: strings.Contains(text, "\r\n"), NoNewline: !strings.HasSuffix(text, "\n"), text: text}
	if mark := markFirst().FindStringSubmatch(text); mark != nil {
		// A number too large for one is not ours.
		init.Script.Patched, _ = strconv.Atoi(mark[1])
	}
	line, _, _ := strings.Cut(text, "\n")
	name, args, _ := strings.Cut(strings.Trim(line[2:], " \t"), " ")
	init.InterpreterArgs = clip(args, 200)
	interpreter := File{Path: clip(name, 200), Problem: fmt.Sprintf("the kernel would look for the interpreter %q", clip(name, 200))}
	if path.IsAbs(name) && len(name) <= 200 {
		found, err := i.resolve(ctx, []string{name})
		if err != nil {
			return nil, err
		}
		interpreter = found[0]
	}
	init.Interpreter = &interpreter
	words := strings.Fields(path.Base(name) + " " + args)
	if len(words) > 1 && words[0] == "env" {
		words = words[1:]
	}
	if len(words) > 0 && !slices.Contains(shells, path.Base(words[0])) {
		init.Script.Foreign = true
		init.Script.Syntax = fmt.Sprintf("its interpreter %q is no shell that is known, so it was not read", clip(words[0], 100))
		return nil, nil
	}
	script, err := ReadScript(strings.ReplaceAll(text, "\r\n", "\n"))
	if err != nil {
		init.Script.Syntax, init.Script.SyntaxLine = clip(err.Error(), 500), syntaxLine(err)
		return nil, nil
	}
	for _, step := range script.Steps {
		if step.Kind == StepMountAll {
			mounted, err := i.fstabMount(ctx)
			if err != nil {
				return nil, err
			}
			if mounted == "" {
				continue
			}
			step.Kind, step.Target = StepMount, mounted
		}
		if step.Kind == StepEnvd {
			started = append(started, step.Target)
		}
		init.Script.Steps = append(init.Script.Steps, step)
	}
	return started, nil
}

// fstabMount is where the image's table of mounts has cgroup2; empty where it
// has not.
func (i *inspector) fstabMount(ctx context.Context) (string, error) {
	f := i.files[fstab]
	text, err := i.readText(ctx, &f, maxTable)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) >= 3 && !strings.HasPrefix(fields[0], "#") && fields[2] == "cgroup2" {
			return clip(path.Clean(fields[1]), maxPath), nil
		}
	}
	return "", err
}

// openrc looks at what OpenRC starts.
func (i *inspector) openrc() {
	rc := &OpenRC{Service: i.files[serviceOf]}
	for _, level := range runlevels {
		rc.Cgroups = rc.Cgroups || i.files[path.Join("/etc/runlevels", level, "cgroups")].Kind == "regular"
		rc.Envd = rc.Envd || i.files[path.Join("/etc/runlevels", level, "envd")].Kind == "regular"
	}
	i.inv.OpenRC = rc
}

// systemd looks at envd's unit and its drop-ins, and returns the paths of the
// envds that it starts.
func (i *inspector) systemd(ctx context.Context) (started []string, err error) {
	s := &Systemd{}
	i.inv.Systemd = s
	for _, dir := range slices.Backward(unitDirs) {
		if f := i.files[path.Join(dir, unitName)]; f.Kind != "" || len(f.Links) > 0 && f.Real != "" && isMask(f) {
			s.Unit = f // the first directory wins
		}
		for _, target := range targets {
			for _, kind := range []string{"wants", "requires"} {
				// The link counts, not where it leads: systemd looks for the name.
				if f := i.files[path.Join(dir, target+".target."+kind, unitName)]; f.Kind != "" || endsInLink(f) {
					s.Enabled = true
				}
			}
		}
	}
	if isMask(s.Unit) {
		return nil, nil
	}
	if err := i.settings(ctx, &s.Unit); err != nil {
		return nil, err
	}
	names, err := i.dropIns(ctx)
	if err != nil {
		return nil, err
	}
	found, err := i.resolve(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if isMask(f) {
			continue
		}
		if err := i.settings(ctx, &f); err != nil {
			return nil, err
		}
		s.DropIns = append(s.DropIns, f)
	}
	for _, setting := range s.Settings {
		if setting.Key == "ExecStart" {
			started = append(started, envdOf(setting.Value)...)
		}
	}
	return started, nil
}

// isMask tells whether a unit or drop-in is a link to /dev/null, by which
// systemd takes it for gone.
func isMask(f File) bool { return len(f.Links) > 0 && f.Links[len(f.Links)-1].Target == "/dev/null" }

// endsInLink tells whether the path itself, not a directory on the way, is a
// link.
func endsInLink(f File) bool {
	return slices.ContainsFunc(f.Links, func(l Link) bool { return path.Base(l.Path) == path.Base(f.Path) })
}

// dropIns are the paths of the drop-ins of envd's unit, in the order in which
// systemd applies them (systemd.unit(5)).
func (i *inspector) dropIns(ctx context.Context) ([]string, error) {
	byName := map[string]string{}
	for _, dir := range slices.Backward(unitDirs) {
		f := i.files[path.Join(dir, unitName+".d")]
		if f.Kind != "directory" {
			continue
		}
		answers, said, err := i.batch(ctx, []string{fmt.Sprintf("ls -p <%d>", f.inode.number)})
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, said)
		}
		for _, entry := range listed().FindAllStringSubmatch(answers[0], -1) {
			if name := entry[1]; strings.HasSuffix(name, ".conf") && safeName().MatchString(name) && len(byName) < maxDropIns {
				byName[name] = path.Join(f.Real, name)
			}
		}
	}
	var names []string
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for n, name := range names {
		names[n] = byName[name]
	}
	return names, nil
}

// listed is a line of debugfs' ls -p: inode, mode, owner, name and size.
var listed = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^/[0-9]+/[0-7]+/[0-9]+/[0-9]+/([^/\n]+)/[0-9]*/$`)
})

// unitKeys are the settings of a unit that have to do with envd's cgroups, its
// output and its start.
var unitKeys = []string{
	"Delegate", "CPUAccounting", "CPUWeight", "MemoryAccounting", "MemoryMin", "MemoryLow", "IOAccounting", "IOWeight",
	"OOMScoreAdjust", "Nice", "ExecStart", "User", "StandardOutput", "StandardError", "DisableControllers",
}

// settings adds those of one file.
func (i *inspector) settings(ctx context.Context, f *File) error {
	text, err := i.readText(ctx, f, maxUnit)
	if err != nil {
		return err
	}
	section, number, carried := "", 0, ""
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if rest, ok := strings.CutSuffix(line, `\`); ok {
			carried += rest + " "
			continue
		}
		line, carried = carried+line, ""
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); ok && section == "[Service]" && slices.Contains(unitKeys, key) && len(i.inv.Systemd.Settings) < 256 {
			i.inv.Systemd.Settings = append(i.inv.Systemd.Settings, Setting{key, clip(strings.TrimSpace(value), 500), f.Path, number})
		}
	}
	return nil
}

// envdOf are the paths by which a command line of a unit starts envd, maybe
// through a shell.
func envdOf(command string) []string {
	var found []string
	for _, word := range strings.FieldsFunc(command, func(r rune) bool { return strings.ContainsRune(" \t\"'", r) }) {
		if word = strings.TrimLeft(word, "-@:+!"); path.IsAbs(word) && path.Base(word) == "envd" {
			found = append(found, word)
		}
	}
	return found
}

// envds looks at the envds that the image starts, and at those that lie where
// templates have one.
func (i *inspector) envds(ctx context.Context, started []string) error {
	var asked []string
	for _, name := range append(slices.Clone(started), envdPaths...) {
		if !path.IsAbs(name) || len(name) > maxPath {
			continue // by PATH: one of the usual places
		}
		name = path.Clean(name)
		if !slices.Contains(asked, name) && len(asked) < 8 {
			asked = append(asked, name)
		}
	}
	found, err := i.resolve(ctx, asked)
	if err != nil {
		return err
	}
	for n, f := range found {
		isStarted := slices.ContainsFunc(started, func(s string) bool { return s == "envd" || path.Clean(s) == asked[n] })
		if f.Kind == "" && f.Problem == "" && len(f.Links) == 0 && !isStarted {
			continue
		}
		e := Envd{File: f, Started: isStarted}
		content, err := i.read(ctx, &e.File, maxBinary)
		if err != nil {
			return err
		}
		if content != nil {
			err = e.identify(content)
			if err = errors.Join(err, content.Close()); err != nil {
				return err
			}
		}
		i.inv.Envds = append(i.inv.Envds, e)
	}
	return nil
}
