package image

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Severity is how much a finding weighs.
type Severity string

// The severities: an error breaks the isolation, the boot or the patch of
// every sandbox; a warning does so under conditions that the image does not
// tell; a note is worth knowing.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityNote    Severity = "note"
)

// Rule is one thing that can be wrong with an image.
type Rule struct {
	// ID is stable, and never used again for something else.
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	// Why is what follows from it, WayOut what to do.
	Why    string `json:"why"`
	WayOut string `json:"wayOut"`
}

// Finding is a rule that an image breaks.
type Finding struct {
	Rule
	// Path is within the image, or on the host for what lies beside it; Line is
	// in that file, 0 for the whole.
	Path string `json:"path"`
	Line int    `json:"line,omitempty"`
	// Text is what was found, in a sentence. It may hold what the image holds.
	Text string `json:"text"`
}

// Rules is the one table of them, in the order in which they are reported.
func Rules() []Rule { return slices.Clone(rules) }

var rules = []Rule{
	// What lies on the disk.
	{"diff-layer", SeverityError, "The image is a layer that holds changes only", "blocks are not where a file system has them: nothing in it can be read or patched", "rebuild the template, or patch the build that it was made from"},
	{"not-ext4", SeverityError, "The image is no ext4 file system", "no sandbox can boot from it", "give the build's rootfs.ext4, or copy it again"},
	{"truncated", SeverityError, "The file is shorter than its file system", "the end of the file system is missing", "copy it again"},
	{"unreadable", SeverityError, "The file system, or a file in it, cannot be read", "what is inside is not known", "look at it with e2fsck -fn, and repair a copy"},
	{"file-system-errors", SeverityError, "The kernel found errors in the file system", "what is read may not be what a guest sees", "repair a copy with e2fsck -f, and take that"},
	{"journal-dirty", SeverityError, "The journal waits to be replayed", "the next mount writes over what is read here, and over a patch", "stop what uses the image; sandproof image patch replays the journal in its copy"},
	{"snapshot-beside", SeverityError, "A memory snapshot lies beside the image", "sandboxes resume from memory in which init and envd run already, and a patch of the disk is never in force", "rebuild the template; where the orchestrator can boot without a snapshot, remove memfile and snapfile"},
	{"snapshot-cached", SeverityError, "A cache holds a memory snapshot of this build", "caches are asked before the storage, so that sandboxes resume from it", "stop the orchestrator, remove the build's directories from the caches, and start it again"},
	{"metadata-unreadable", SeverityNote, "metadata.json cannot be read", "what it claims of the build is not known", "write it again, as JSON"},
	{"metadata-build", SeverityWarning, "metadata.json names another build", "the directory may hold another build's files", "look which build the template resolves to"},
	{"metadata-envd", SeverityWarning, "metadata.json claims another envd than the image has", "E2B decides by that version what it asks of envd", "correct the version in metadata.json and in E2B's data base"},
	// The init.
	{"init-missing", SeverityError, "There is no init", "the kernel finds nothing to start, and panics", "put an init there: sandproof image patch --init FILE"},
	{"init-no-file", SeverityError, "The init is no regular file", "the kernel cannot start it, and panics", "put an init there: sandproof image patch --init FILE"},
	{"init-not-executable", SeverityError, "The init is not executable", "the kernel panics: Requested init failed (error -13)", "give it the mode 0755"},
	{"init-no-program", SeverityError, "The init is neither a program nor a script with #! in its first line", "the kernel panics: Requested init failed (error -8)", "begin its first line with #!/bin/sh"},
	{"init-interpreter", SeverityError, "The script's interpreter is not in the image", "the kernel panics: Requested init failed (error -2)", "name one that the image has, such as #!/bin/sh"},
	{"init-crlf", SeverityError, "The script has lines that end in CR LF", "the kernel looks for an interpreter whose name ends in CR, and the shell for such commands", "convert it: sed -i 's/\\r$//'"},
	{"init-syntax", SeverityError, "The script's grammar is broken", "the shell ends at that line, and the kernel panics when PID 1 ends", "correct the line"},
	{"init-not-read", SeverityWarning, "The script was not read", "what it does is not seen here", "look at it, and at a sandbox with sandproof verify-image"},
	{"init-symlink", SeverityWarning, "The script is reached over a link", "sandproof image patch refuses it: who replaces /sbin/init replaces the link", "put the script itself at /sbin/init"},
	{"init-binary", SeverityWarning, "The init is a program", "what it does about cgroups is not seen, and cannot be patched", "boot it with sandproof verify-image, or give a whole init: sandproof image patch --init FILE"},
	{"init-no-newline", SeverityNote, "The script's last line has no end", "who appends a line to it makes one of two", "end it with a newline"},
	// What a script does about cgroups.
	{"cgroup2-not-mounted", SeverityError, "cgroup2 is never mounted at /sys/fs/cgroup", "envd falls back and limits nothing; before 0.5.10 it may start no command at all", "sandproof image patch"},
	{"mount-after-envd", SeverityError, "cgroup2 is mounted after envd is started", "envd looks once, when it starts", "move the mount before the start of envd"},
	{"mount-errors-hidden", SeverityWarning, "The mount's errors go to /dev/null", "why there are no cgroups is told nowhere", "let them go to the console"},
	{"never-enabled", SeverityError, "No controller is enabled for envd's cgroups", "envd's cgroups get no cpu.weight and no memory.max, so that it falls back or limits nothing", "sandproof image patch"},
	{"enabled-after-envd", SeverityError, "Controllers are enabled only after envd is started", "envd writes its limits once, when it starts", "move the line before the start of envd: sandproof image patch"},
	{"enabled-before-mount", SeverityError, "Controllers are enabled before cgroup2 is mounted", "there is no file yet to write to", "move the line behind the mount"},
	{"controller-missing", SeverityError, "A controller that envd needs is not enabled", "envd cannot set what it promises with it", "enable it too: sandproof image patch"},
	{"controller-io", SeverityNote, "The io controller is not enabled", "envd from generation C on sets io.weight, and passes over it", "enable io too"},
	{"controller-unknown", SeverityError, "A controller is named that no kernel has", "the kernel refuses the write as a whole, with all that stands in it", "correct the name"},
	{"all-or-nothing", SeverityWarning, "One write enables several controllers", "where the kernel lacks one of them, it enables none", "write each on its own"},
	{"errors-hidden", SeverityWarning, "The errors of enabling go to /dev/null", "a write that failed looks like one that did not", "let them go to the console"},
	{"fatal-enable", SeverityError, "Under set -e a write that fails ends the init", "the kernel panics when PID 1 ends: no sandbox boots on a kernel that lacks a controller", "put it into an if, with the error on the console"},
	{"too-deep", SeverityError, "Controllers are enabled within one of envd's own cgroups", "no process can be put into a cgroup that enables controllers for its children: every command fails with EBUSY", "remove the line: the root's cgroup.subtree_control is enough"},
	{"envd-start-hidden", SeverityWarning, "The start of envd is not to be seen in the script", "whether anything comes before it or after it is not known", "start envd in the script itself"},
	{"envd-stderr", SeverityWarning, "envd's errors go to /dev/null", "envd tells of failed cgroups there and nowhere else", "send them to the console: 2>/dev/console"},
	{"no-console", SeverityNote, "The script sends envd's errors nowhere", "they go to the kernel's console, which is there only where the kernel is given one", "exec >/dev/ttyS0 2>&1 at its beginning"},
	// systemd and OpenRC.
	{"unit-missing", SeverityError, "There is no unit that starts envd", "the sandbox never answers", "rebuild the template"},
	{"unit-not-enabled", SeverityWarning, "Nothing wants envd's unit at boot", "envd is not started unless something else does", "enable it: link it in multi-user.target.wants"},
	{"unit-thinned", SeverityError, "The unit does not ask for the controllers that envd needs", "systemd enables a controller at the root only where a unit asks for it, so that envd's cgroups lack cpu or memory", "sandproof image patch adds a drop-in with Delegate=yes and the weights"},
	{"unit-unprotected", SeverityNote, "The unit does not protect envd itself", "under memory pressure the kernel may end envd", "OOMScoreAdjust=-1000, MemoryMin=50M, MemoryLow=100M, as E2B's unit has them"},
	{"unit-stderr", SeverityWarning, "The unit throws envd's errors away", "envd tells of failed cgroups there and nowhere else", "take StandardError=null out"},
	{"openrc-no-cgroups", SeverityError, "No runlevel has OpenRC's service cgroups", "cgroup2 is not mounted, and envd falls back", "rc-update add cgroups sysinit, when the template is built"},
	{"openrc-no-envd", SeverityError, "OpenRC does not start envd", "the sandbox never answers", "rc-update add envd default, when the template is built"},
	// envd and what it needs.
	{"envd-missing", SeverityError, "There is no envd", "the sandbox never answers", "put one at /usr/bin/envd: rebuild the template"},
	{"envd-not-executable", SeverityError, "envd is not executable", "it is never started", "give it the mode 0755"},
	{"envd-no-cgroups", SeverityError, "This envd has no cgroups", "there are no limits at all, whatever the init does", "put envd 0.4.3 or newer into the template"},
	{"envd-unknown", SeverityNote, "Which envd it is, its bytes do not tell", "what it promises is not known", "ask a sandbox: sandproof verify-image"},
	{"envd-several", SeverityWarning, "There are several envds, and they differ", "the one that is started is not always the one that was replaced", "remove the other, or make it a link"},
	{"helper-missing", SeverityError, "A program is missing with which this envd starts every command", "every command fails with exit code 127", "install coreutils and util-linux, or busybox' links, at these paths"},
	{"socat-missing", SeverityWarning, "There is no socat", "envd forwards no ports", "install socat"},
	{"user-missing", SeverityWarning, "There is no user called user", "commands that name no user fail, where the deployment's default is user", "adduser --disabled-password user"},
}

// controllers are those of the kernel (Linux, cgroup-v2.rst, Controllers, with
// the names in their CGROUP_SUBSYS).
var controllers = []string{"cpu", "cpuset", "io", "memory", "hugetlb", "pids", "rdma", "misc", "perf_event", "dmem"}

// Lint judges an inventory.
func Lint(inv *Inventory) []Finding {
	l := &linter{inv: inv}
	l.disk()
	if inv.Unreadable == "" {
		l.init()
		l.systemd()
		l.openrc()
		l.envds()
	}
	order := map[string]int{}
	for n, r := range rules {
		order[r.ID] = n
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int { return order[a.ID] - order[b.ID] })
	return l.found
}

type linter struct {
	inv   *Inventory
	found []Finding
}

// addf adds a finding; a rule that is not in the table is a mistake in here.
func (l *linter) addf(id, file string, line int, format string, args ...any) {
	n := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
	l.found = append(l.found, Finding{Rule: rules[n], Path: file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// disk judges the file, and what lies beside it.
func (l *linter) disk() {
	b, fs := l.inv.Build, l.inv.FileSystem
	switch {
	case b.Header != "":
		l.addf("diff-layer", b.RootFS, 0, "%s lies beside it", path.Base(b.Header))
	case fs == nil && l.inv.Unreadable != "":
		l.addf("not-ext4", b.RootFS, 0, "%s", l.inv.Unreadable)
	case fs != nil && fs.Truncated:
		l.addf("truncated", b.RootFS, 0, "the file system has %d bytes, the file %d", fs.Size, l.inv.Size)
	case l.inv.Unreadable != "":
		l.addf("unreadable", b.RootFS, 0, "%s", l.inv.Unreadable)
	}
	if fs != nil && fs.Errors {
		l.addf("file-system-errors", b.RootFS, 0, "the superblock says that errors were found")
	}
	if fs != nil && fs.Dirty {
		l.addf("journal-dirty", b.RootFS, 0, "the file system has the feature needs_recovery")
	}
	m := l.inv.Metadata
	boots := m != nil && m.FilesystemOnly
	for _, file := range []string{b.Snapfile, b.Memfile} {
		if file != "" && !boots {
			l.addf("snapshot-beside", file, 0, "%s lies beside the image", path.Base(file))
			break
		}
	}
	for _, file := range b.CachedSnapshots {
		if !boots {
			l.addf("snapshot-cached", file, 0, "a memory snapshot of build %s is kept there", b.ID)
		}
	}
	switch {
	case m == nil:
	case m.Problem != "":
		l.addf("metadata-unreadable", b.Metadata, 0, "%s", m.Problem)
	case m.BuildID != "" && b.ID != "" && !strings.EqualFold(m.BuildID, b.ID):
		l.addf("metadata-build", b.Metadata, 0, "it names build %q, the image is in that of %q", m.BuildID, b.ID)
	}
}

func (l *linter) init() {
	in := l.inv.Init
	where := in.Path
	if in.Real != "" {
		where = in.Real
	}
	switch in.InitKind {
	case InitMissing:
		l.addf("init-missing", in.Path, 0, "%s", orElse(in.Problem, leads(in.File)))
		return
	case InitDirectory:
		l.addf("init-no-file", where, 0, "it is a directory")
		return
	case InitOther:
		if in.Kind != "regular" {
			l.addf("init-no-file", where, 0, "%s", orElse(in.Problem, "it is of the kind "+in.Kind))
			return
		}
		if in.Problem != "" {
			l.addf("unreadable", where, 0, "%s", in.Problem)
			return
		}
		l.addf("init-no-program", where, 0, "it begins neither with #! nor as an ELF program")
	case InitBinary, InitBusybox:
		l.addf("init-binary", where, 0, "%s", leads(in.File))
	case InitScript, InitSystemd, InitOpenRC:
	}
	if !isProgram(in.File) {
		l.addf("init-not-executable", where, 0, "its mode is %s", in.Mode)
	}
	if in.InitKind == InitScript {
		l.script(where)
	}
}

func orElse(text, other string) string {
	if text != "" {
		return text
	}
	return other
}

// leads tells which way a path goes.
func leads(f File) string {
	way := []string{f.Path}
	for _, link := range f.Links {
		way = append(way, link.Path+" is a link to "+link.Target)
	}
	if f.Kind == "" {
		way = append(way, "and there is nothing")
	} else {
		way = append(way, "a "+f.Kind+" file")
	}
	return strings.Join(way, ", ")
}

func (l *linter) script(where string) {
	in := l.inv.Init
	if endsInLink(in.File) {
		l.addf("init-symlink", where, 0, "%s", leads(in.File))
	}
	if i := in.Interpreter; i != nil && !isProgram(*i) {
		what := "it is no program"
		if i.Kind == "" {
			what = "it is not there"
		}
		l.addf("init-interpreter", where, 1, "the interpreter is %q: %s", i.Path, orElse(i.Problem, what))
	}
	text := in.Script
	if text == nil {
		return
	}
	if text.CRLF {
		l.addf("init-crlf", where, 1, "the script has CR LF")
	}
	if text.NoNewline {
		l.addf("init-no-newline", where, 0, "its last byte is no newline")
	}
	switch {
	case text.Foreign:
		l.addf("init-not-read", where, 1, "%s", text.Syntax)
		return
	case text.Syntax != "":
		l.addf("init-syntax", where, text.SyntaxLine, "%s", text.Syntax)
		return
	}
	l.steps(where, text.Steps)
}

// isRoot tells whether a step concerns the root of the cgroups; a directory
// that only a run knows counts as that.
func isRoot(step Step) bool {
	switch step.Kind {
	case StepMount:
		return !path.IsAbs(step.Target) || step.Target == CgroupRoot
	case StepEnable:
		return !path.IsAbs(step.Target) || path.Clean(path.Dir(step.Target)) == CgroupRoot
	case StepMountAll, StepEnvd:
	}
	return false
}

// steps judges what a script does, and in which order.
func (l *linter) steps(where string, steps []Step) {
	first := func(kind StepKind) int {
		return slices.IndexFunc(steps, func(s Step) bool { return s.Kind == kind && (kind == StepEnvd || isRoot(s)) })
	}
	mount, enable, envd := first(StepMount), first(StepEnable), first(StepEnvd)
	if envd < 0 {
		l.addf("envd-start-hidden", where, 0, "no line starts a program called envd")
	}
	after := func(n int) bool { return n >= 0 && envd >= 0 && n > envd }
	switch {
	case mount < 0:
		l.addf("cgroup2-not-mounted", where, 0, "no line mounts it%s", elsewhere(steps))
	case after(mount):
		l.addf("mount-after-envd", where, steps[mount].Line, "envd is started in line %d already", steps[envd].Line)
	}
	switch {
	case enable < 0:
		l.addf("never-enabled", where, 0, "no line writes to %s/cgroup.subtree_control", CgroupRoot)
	case after(enable):
		l.addf("enabled-after-envd", where, steps[enable].Line, "envd is started in line %d already", steps[envd].Line)
	case mount > enable:
		l.addf("enabled-before-mount", where, steps[enable].Line, "cgroup2 is mounted in line %d only", steps[mount].Line)
	}
	if enable >= 0 && !after(enable) {
		l.enabled(where, steps, envd)
	}
	for _, step := range steps {
		l.step(where, step)
	}
}

// elsewhere tells where a script mounts cgroup2 instead.
func elsewhere(steps []Step) string {
	for _, s := range steps {
		if s.Kind == StepMount {
			return fmt.Sprintf("; line %d mounts it at %s", s.Line, s.Target)
		}
	}
	return ""
}

// enabled judges which controllers are enabled when envd is started.
func (l *linter) enabled(where string, steps []Step, envd int) {
	if envd < 0 {
		envd = len(steps)
	}
	var enabled []string
	line, isOpen := 0, false
	for _, step := range steps[:envd] {
		if step.Kind == StepEnable && isRoot(step) {
			enabled = append(enabled, step.Controllers...)
			line, isOpen = step.Line, isOpen || step.Open
		}
	}
	if isOpen {
		return // a run knows
	}
	var missing []string
	for _, c := range controllersOfEnvd {
		if !slices.Contains(enabled, c) {
			missing = append(missing, c)
		}
	}
	if missing != nil {
		l.addf("controller-missing", where, line, "%s is not among those that are enabled: %s", strings.Join(missing, " and "), orElse(strings.Join(enabled, " "), "none"))
	}
	if !slices.Contains(enabled, "io") {
		l.addf("controller-io", where, line, "enabled are %s", orElse(strings.Join(enabled, " "), "none"))
	}
}

// step judges one step by itself.
func (l *linter) step(where string, s Step) {
	switch s.Kind {
	case StepMount:
		if s.Quiet {
			l.addf("mount-errors-hidden", where, s.Line, "the errors of mounting cgroup2 are thrown away")
		}
	case StepEnable:
		for _, c := range s.Controllers {
			if !slices.Contains(controllers, c) {
				l.addf("controller-unknown", where, s.Line, "there is no controller %q", c)
			}
		}
		if isTooDeep(s) {
			l.addf("too-deep", where, s.Line, "it enables %s in %s", strings.Join(s.Controllers, " "), path.Dir(s.Target))
			return
		}
		if s.AtOnce > 1 {
			l.addf("all-or-nothing", where, s.Line, "one write enables %s", strings.Join(s.Controllers, " "))
		}
		if s.Quiet {
			l.addf("errors-hidden", where, s.Line, "the errors of enabling %s are thrown away", orElse(strings.Join(s.Controllers, " "), "controllers"))
		}
		if s.Fatal {
			l.addf("fatal-enable", where, s.Line, "set -e is in force there")
		}
	case StepEnvd:
		switch {
		case s.Quiet:
			l.addf("envd-stderr", where, s.Line, "the errors of %s are thrown away", s.Target)
		case s.Stderr == "":
			l.addf("no-console", where, s.Line, "neither this line nor one before it says where errors go")
		}
	case StepMountAll:
	}
}

// last returns the setting that counts.
func (s *Systemd) last(key string) (Setting, bool) {
	for _, setting := range slices.Backward(s.Settings) {
		if setting.Key == key {
			return setting, true
		}
	}
	return Setting{}, false
}

// yes tells whether systemd reads a setting as true (systemd.syntax(7)).
func yes(value string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(value))
}

// asksFor tells whether the unit makes systemd enable a controller for it, and
// with that at the root (systemd.resource-control(5)): by Delegate, by
// accounting, or by a limit or weight.
func (s *Systemd) asksFor(controller string) bool {
	if d, ok := s.last("Delegate"); ok && (yes(d.Value) || slices.Contains(strings.Fields(d.Value), controller)) {
		return true
	}
	keys := map[string][]string{"cpu": {"CPUWeight"}, "memory": {"MemoryMin", "MemoryLow"}}[controller]
	for _, key := range keys {
		if set, ok := s.last(key); ok && set.Value != "" {
			return true
		}
	}
	// Memory is accounted for by default, since systemd 238.
	accounting, ok := s.last(map[string]string{"cpu": "CPUAccounting", "memory": "MemoryAccounting"}[controller])
	if !ok {
		return controller == "memory"
	}
	// CPUAccounting alone takes no controller where the kernel counts anyway.
	return controller == "memory" && yes(accounting.Value)
}

func (l *linter) systemd() {
	s := l.inv.Systemd
	if s == nil {
		return
	}
	if s.Unit.Kind == "" || isMask(s.Unit) {
		l.addf("unit-missing", path.Join(unitDirs[0], unitName), 0, "systemd would not find %s, or finds it masked", unitName)
		return
	}
	where := s.Unit.Path
	if !s.Enabled {
		l.addf("unit-not-enabled", where, 0, "no target that was looked at wants or requires it")
	}
	var thin []string
	for _, c := range controllersOfEnvd {
		if !s.asksFor(c) {
			thin = append(thin, c)
		}
	}
	if thin != nil {
		l.addf("unit-thinned", where, 0, "nothing in it or its drop-ins asks for %s", strings.Join(thin, " and "))
	}
	if oom, ok := s.last("OOMScoreAdjust"); !ok || oom.Value != "-1000" {
		l.addf("unit-unprotected", where, oom.Line, "OOMScoreAdjust is %q", oom.Value)
	}
	if errs, ok := s.last("StandardError"); ok && errs.Value == "null" {
		l.addf("unit-stderr", errs.Path, errs.Line, "StandardError=null")
	} else if out, isSet := s.last("StandardOutput"); isSet && out.Value == "null" && (!ok || errs.Value == "inherit") {
		l.addf("unit-stderr", out.Path, out.Line, "StandardOutput=null, which the errors inherit")
	}
}

func (l *linter) openrc() {
	rc := l.inv.OpenRC
	if rc == nil {
		return
	}
	if !rc.Cgroups {
		l.addf("openrc-no-cgroups", "/etc/runlevels", 0, "looked at were %s", strings.Join(runlevels, ", "))
	}
	if rc.Service.Kind == "" || !rc.Envd {
		l.addf("openrc-no-envd", serviceOf, 0, "it is not there, or in no runlevel")
	}
}

// envds judges the envd that is started, and what it needs.
func (l *linter) envds() {
	started := l.started()
	if started == nil {
		where := envdPaths[0]
		if i := slices.IndexFunc(l.inv.Envds, func(e Envd) bool { return e.Started }); i >= 0 {
			where = l.inv.Envds[i].Path
		}
		l.addf("envd-missing", where, 0, "there is no file at %s", where)
	} else {
		l.envd(started)
	}
	if !slices.ContainsFunc(l.inv.Users, func(u User) bool { return u.Name == "user" }) {
		l.addf("user-missing", userFile, 0, "it has no line for it")
	}
	if !l.has("socat") {
		l.addf("socat-missing", "/usr/bin/socat", 0, "it is in none of %s", strings.Join(toolDirs, ", "))
	}
}

// started is the envd that the init starts, or else the only one there is.
func (l *linter) started() *Envd {
	known := slices.ContainsFunc(l.inv.Envds, func(e Envd) bool { return e.Started })
	for i := range l.inv.Envds {
		if e := &l.inv.Envds[i]; e.Kind != "" && (e.Started || !known) {
			return e
		}
	}
	return nil
}

func (l *linter) has(tool string) bool {
	return slices.ContainsFunc(l.inv.Tools, func(t Tool) bool { return t.Name == tool && t.File != nil })
}

func (l *linter) envd(e *Envd) {
	if !isProgram(e.File) {
		l.addf("envd-not-executable", e.Path, 0, "it is a %s file of mode %s", e.Kind, e.Mode)
	}
	switch e.Generation {
	case generationNone:
		l.addf("envd-no-cgroups", e.Path, 0, "nothing in it speaks of cgroups")
	case "":
		l.addf("envd-unknown", e.Path, 0, "%s", orElse(e.Unknown, orElse(e.Problem, "it could not be read")))
	}
	for _, other := range l.inv.Envds {
		if other.SHA256 != "" && other.SHA256 != e.SHA256 {
			l.addf("envd-several", other.Path, 0, "it differs from %s, which is taken for the one that is started", e.Path)
		}
	}
	for _, helper := range e.Helpers {
		if !slices.Contains(l.inv.HelpersThere, helper) {
			l.addf("helper-missing", helper, 0, "%s names it by its path", e.Path)
		}
	}
	m := l.inv.Metadata
	if m == nil || m.EnvdVersion == "" {
		return
	}
	claimed, own := versionOf(m.EnvdVersion), versionOf(e.Version)
	switch {
	case claimed != "" && own != "" && semver.Compare(claimed, own) != 0:
		l.addf("metadata-envd", l.inv.Build.Metadata, 0, "it claims envd %s, the binary says %s", claimed[len("v"):], own[len("v"):])
	case claimed != "" && own == "" && !claims(m.EnvdVersion, e.Generation):
		l.addf("metadata-envd", l.inv.Build.Metadata, 0, "it claims envd %s, the binary is of generation %s", claimed[len("v"):], e.Generation)
	}
}
