package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// defaultCgroupRoot is where envd makes its cgroups unless -cgroup-root says
// otherwise (e2b-dev/infra c7180fe2c, packages/envd/main.go).
const defaultCgroupRoot = "/sys/fs/cgroup"

// groupFiles are the interface files that are read of each group.
var groupFiles = []string{
	"cgroup.type", "cgroup.controllers", "cgroup.subtree_control", "cgroup.freeze", "cgroup.events", "cgroup.procs",
	"cpu.weight", "cpu.max", "memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max",
	"memory.events", "memory.oom.group", "io.weight", "pids.max",
}

// rootFiles are those of envd's cgroup root.
var rootFiles = []string{"cgroup.controllers", "cgroup.subtree_control", "cgroup.type"}

// configOptions are the kernel options that explain what cgroups can do.
var configOptions = []string{
	"CONFIG_CGROUPS", "CONFIG_MEMCG", "CONFIG_CGROUP_SCHED", "CONFIG_FAIR_GROUP_SCHED", "CONFIG_CFS_BANDWIDTH",
	"CONFIG_RT_GROUP_SCHED", "CONFIG_BLK_CGROUP", "CONFIG_BLK_CGROUP_IOCOST", "CONFIG_CGROUP_PIDS",
	"CONFIG_CGROUP_FREEZER", "CONFIG_PSI", "CONFIG_PSI_DEFAULT_DISABLED",
}

// sandboxID is the sandbox that envd says this is to what it starts. An ID of
// E2B's has 21 characters, and an old client ID behind it.
func sandboxID() string {
	const longest = 64
	id := os.Getenv("E2B_SANDBOX_ID")
	return id[:min(len(id), longest)]
}

// snapshot reads the guest once. It never fails: what cannot be read is said
// in Errors.
func (g guest) snapshot(self int) evidence.Snapshot {
	s := evidence.Snapshot{
		ProbeVersion: version, Taken: time.Now().UTC(), PageSize: uint64(os.Getpagesize()), //nolint:gosec // a page size is positive
		SandboxID: sandboxID(), Self: g.process(self), Init: g.process(1), Groups: map[string]evidence.Group{}, Errors: map[string]string{},
	}
	note := func(what string, err error) {
		if err != nil {
			s.Errors[what] = err.Error()
		}
	}
	var err error
	s.Kernel, err = g.kernel()
	note("kernel", err)
	s.Boot, err = g.boot()
	note("boot", err)
	s.MemTotal, err = g.memory("MemTotal")
	note("meminfo", err)
	s.Mounts, err = g.mounts()
	note("mountinfo", err)
	s.InitProgram, err = g.initProgram(s.Init)
	note("init program", err)
	s.Bystanders = g.bystanders(s.InitProgram)
	s.Envd, err = g.envd(s.Self)
	note("envd", err)

	root, names := defaultCgroupRoot, slices.Clone(promised)
	if s.Envd != nil {
		root = s.Envd.CgroupRoot
		names = append(names, heldGroups(s.Envd.Process, g.inSys(root))...)
	}
	s.Root = g.group(root, rootFiles)
	if s.Root.Exists {
		s.Root.Files["io.cost.qos"] = g.ioCostQoS(s.Mounts, root)
	}
	for _, name := range names {
		s.Groups[name] = g.group(filepath.Join(root, name), groupFiles)
	}
	if socats := s.Groups["socats"]; socats.Exists {
		socats.Above = g.above(s.Mounts, socats.Path)
		s.Groups["socats"] = socats
	}
	if s.Envd != nil && s.Envd.Group != nil {
		s.Envd.Group.Above = g.above(s.Mounts, s.Envd.Group.Path)
	}
	s.RealTime, err = g.realTime()
	note("real-time processes", err)
	return s
}

// ioCostQoS reads io.cost.qos where it alone exists, in the root of the
// hierarchy: envd's cgroup root may lie below that.
func (g guest) ioCostQoS(mounts []string, root string) evidence.File {
	m, err := cgroup2.MountAt(mounts, root)
	switch {
	case err != nil:
		return evidence.File{Errno: err.Error()}
	case m.Type == "cgroup2" && m.Root != "/":
		return evidence.File{Errno: fmt.Sprintf("only the part %.100q of the hierarchy is mounted at %.100q", m.Root, m.Point)}
	case m.Type == "cgroup2":
		root = m.Point
	}
	return readFile(filepath.Join(g.inSys(root), "io.cost.qos"))
}

// maxAbove bounds how many groups are read above another.
const maxAbove = 8

// aboveFiles are the interface files that are read of them.
var aboveFiles = []string{"memory.min", "memory.low"}

// above reads the groups between the root of the hierarchy and a group, the
// nearest first; none where it cannot be told which these are.
func (g guest) above(mounts []string, group string) []evidence.Ancestor {
	m, err := cgroup2.MountAt(mounts, group)
	if err != nil || m.Type != "cgroup2" {
		return nil
	}
	var found []evidence.Ancestor
	for dir := filepath.Dir(group); len(dir) > len(m.Point) && len(found) < maxAbove; dir = filepath.Dir(dir) {
		found = append(found, evidence.Ancestor{Path: dir, Files: g.group(dir, aboveFiles).Files})
	}
	return found
}

// promised are the groups that every known envd makes.
var promised = []string{"user", "ptys", "socats"}

// heldGroups names the other groups right below the root that envd holds open:
// a newer envd may make more than those that are known.
func heldGroups(envd evidence.Process, root string) []string {
	var names []string
	for _, held := range envd.CgroupFDs {
		name, below := strings.CutPrefix(held, root+"/")
		if below && name != "" && !strings.Contains(name, "/") && !slices.Contains(promised, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names[:min(len(names), maxHeld)]
}

// maxHeld bounds how many groups are read because envd holds them open.
const maxHeld = 4

func (g guest) kernel() (evidence.Kernel, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return evidence.Kernel{}, err
	}
	k := evidence.Kernel{Release: unix.ByteSliceToString(uts.Release[:]), Machine: unix.ByteSliceToString(uts.Machine[:])}
	cmdline, err := read(filepath.Join(g.proc, "cmdline"))
	k.Cmdline = strings.TrimSpace(cmdline)
	k.Config = g.kernelConfig()
	_, noPressure := os.Stat(filepath.Join(g.proc, "pressure"))
	k.Pressure = noPressure == nil
	return k, err
}

// kernelConfig reads the options from /proc/config.gz; nil where the kernel
// does not offer it, or not whole.
func (g guest) kernelConfig() map[string]string {
	f, err := open(filepath.Join(g.proc, "config.gz"))
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := gzip.NewReader(f)
	if err != nil {
		return nil
	}
	options := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(text, 4<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if ok && slices.Contains(configOptions, name) {
			options[name] = value
		}
	}
	if lines.Err() != nil {
		return nil // half a configuration would say of options that they are not set
	}
	return options
}

// maxSeconds is the end of the year 9999: JSON has no times beyond it, nor
// numbers that are infinite or none.
const maxSeconds = 253402300799

func (g guest) boot() (evidence.Boot, error) {
	var b evidence.Boot
	id, err := read(filepath.Join(g.proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return b, err
	}
	b.ID = strings.TrimSpace(id)
	uptime, err := read(filepath.Join(g.proc, "uptime"))
	if err != nil {
		return b, err
	}
	first, _, _ := strings.Cut(uptime, " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil || !(seconds >= 0 && seconds < maxSeconds) {
		return b, fmt.Errorf("uptime %q is no number of seconds", uptime)
	}
	b.UptimeSeconds = seconds
	stat, err := readWhole(filepath.Join(g.proc, "stat"))
	if err != nil {
		return b, err
	}
	for line := range strings.Lines(stat) {
		if text, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err != nil || seconds <= 0 || seconds >= maxSeconds {
				return b, fmt.Errorf("btime %.100q is no time", text)
			}
			b.BootTime = time.Unix(seconds, 0).UTC()
			return b, nil
		}
	}
	return b, errors.New("no btime in stat")
}

// maxMounts bounds the lines of mountinfo that are reported, in bytes.
const maxMounts = 64 << 10

// mounts returns the mountinfo lines that say what lies at /sys/fs/cgroup and
// above, and every cgroup mount: all of them or none, since a missing line
// would show another mount in its place.
func (g guest) mounts() ([]string, error) {
	text, err := readWhole(filepath.Join(g.proc, "self/mountinfo"))
	if err != nil {
		return nil, err
	}
	var kept []string
	size := 0
	for line := range strings.Lines(text) {
		m, err := cgroup2.ParseMount(line)
		if err != nil {
			return nil, err
		}
		if m.Covers(defaultCgroupRoot) || strings.HasPrefix(m.Type, "cgroup") || strings.HasPrefix(m.Point, defaultCgroupRoot+"/") {
			kept = append(kept, strings.TrimSuffix(line, "\n"))
			size += len(line)
		}
	}
	if size > maxMounts {
		return nil, fmt.Errorf("%d mounts that matter to cgroups, in %d bytes: more than %d bytes are not reported", len(kept), size, maxMounts)
	}
	return kept, nil
}

// initProgram identifies what PID 1 runs by its content: the script where an
// interpreter runs one. The script is the first argument that is no option:
// "#!/bin/sh -e" runs as "/bin/sh -e /sbin/init".
func (g guest) initProgram(init evidence.Process) (*evidence.Program, error) {
	name, file := init.Exe, filepath.Join(g.proc, "1", "exe")
	for i, arg := range init.Cmdline {
		if i == 0 || strings.HasPrefix(arg, "-") {
			continue
		}
		if filepath.IsAbs(arg) {
			name, file = arg, g.inRoot(arg)
		}
		break
	}
	if name == "" {
		return nil, errors.New("what PID 1 runs cannot be told")
	}
	return program(name, file)
}

// program identifies a file by its content, and reads what it does where it is
// a shell script.
func program(name, file string) (*evidence.Program, error) {
	sum, size, err := hash(file)
	if err != nil {
		return nil, err
	}
	return &evidence.Program{Path: name, SHA256: sum, Size: size, Steps: stepsOf(file)}, nil
}

// stepsOf reads a shell script; there are none in any other file.
func stepsOf(file string) []evidence.Step {
	text, err := readWhole(file)
	if err != nil || !strings.HasPrefix(text, "#!") {
		return nil
	}
	return scriptSteps(text)
}

// bootScripts are where people put a line that is to run at boot, and where it
// runs only if the init happens to run the file.
var bootScripts = []string{"/sbin/init", "/init", "/etc/rc.local", "/etc/rc.d/rc.local", "/etc/init.d/rcS"}

// bystanders are the boot scripts that enable controllers and are not what PID
// 1 runs.
func (g guest) bystanders(init *evidence.Program) []evidence.Program {
	var found []evidence.Program
	for _, name := range bootScripts {
		file := g.inRoot(name)
		if !slices.ContainsFunc(stepsOf(file), func(s evidence.Step) bool { return s.Kind == evidence.StepEnable }) {
			continue
		}
		if p, err := program(name, file); err == nil && (init == nil || p.SHA256 != init.SHA256) {
			found = append(found, *p)
		}
	}
	return found
}

// maxRealTime bounds how many real-time processes are reported.
const maxRealTime = 4

// realTime lists the processes outside of the root cgroup that have a thread
// of a real-time policy.
func (g guest) realTime() ([]evidence.Process, error) {
	names, err := filepath.Glob(filepath.Join(g.proc, "[0-9]*"))
	if err != nil {
		return nil, err
	}
	var found []evidence.Process
	for _, dir := range names {
		// One that ended meanwhile is not outside of anything.
		text, err := read(filepath.Join(dir, "cgroup"))
		if err != nil {
			continue
		}
		if where, err := cgroup2.ParseProcCgroup(text); err != nil || where == "/" || !g.hasRealTimeThread(dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if found = append(found, g.process(pid)); len(found) == maxRealTime {
			break
		}
	}
	return found, nil
}

// hasRealTimeThread looks at the policy of each thread, field 41 of its stat:
// 1 is SCHED_FIFO, 2 is SCHED_RR (proc_pid_stat(5), sched(7)).
func (g guest) hasRealTimeThread(dir string) bool {
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "stat"))
	if err != nil {
		return false
	}
	for _, name := range threads {
		text, err := read(name)
		if err != nil {
			continue
		}
		const policy = 38 // counted from the field after the name, the third
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) > policy && (fields[policy] == "1" || fields[policy] == "2") {
			return true
		}
	}
	return false
}

// envd finds the running envd: the probe's nearest ancestor that is one. An
// init that ends by becoming envd makes that PID 1.
func (g guest) envd(self evidence.Process) (*evidence.Envd, error) {
	var seen []string
	pid := self.PPID
	for range maxGenerations {
		if pid < 1 {
			break
		}
		p := g.process(pid)
		if p.Error != "" {
			return nil, fmt.Errorf("process %d above the probe: %s", pid, p.Error)
		}
		if isEnvd(p) {
			return g.describeEnvd(p)
		}
		seen = append(seen, fmt.Sprintf("%d (%.100s, %.100q)", pid, p.Comm, p.Exe))
		pid = p.PPID
	}
	return nil, fmt.Errorf("no process above the probe is envd: %s", strings.Join(seen, ", "))
}

// isEnvd goes by the program that a process runs. A replaced binary reads
// " (deleted)", and is the running one all the same.
func isEnvd(p evidence.Process) bool {
	return strings.HasPrefix(filepath.Base(p.Exe), "envd")
}

// describeEnvd tells what envd is, and why where something of it cannot be
// told.
func (g guest) describeEnvd(p evidence.Process) (*evidence.Envd, error) {
	exe := filepath.Join(g.proc, strconv.Itoa(p.PID), "exe")
	e := &evidence.Envd{Process: p, CgroupRoot: g.resolve(cgroupRootArgument(p.Cmdline))}
	var noVersion, noCommit, noHash error
	e.Version, noVersion = ask(exe, "-version", g.answer)
	e.Commit, noCommit = ask(exe, "-commit", g.answer)
	e.SHA256, _, noHash = hash(exe)
	if p.PPID > 1 {
		parent := g.process(p.PPID)
		e.Parent = &parent
	}
	if where, err := cgroup2.ParseProcCgroup(p.Cgroup); err == nil && where != "/" {
		own := g.group(filepath.Join(defaultCgroupRoot, where), groupFiles)
		e.Group, e.Unit = &own, g.unit(filepath.Base(where))
	}
	if strings.HasPrefix(p.Stderr, "socket:") {
		e.Journal = g.journal(p)
	}
	e.LogFile = g.logFile(p)
	e.Stdout, _ = os.Readlink(filepath.Join(g.proc, strconv.Itoa(p.PID), "fd", "1"))
	return e, errors.Join(noVersion, noCommit, noHash)
}

// unitDirs are where systemd looks for units, the last one first in rank
// (systemd.unit(5)).
var unitDirs = []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system"}

// protecting are the settings of a unit that protect its processes.
var protecting = []string{
	"CPUWeight", "IOWeight", "MemoryMin", "MemoryLow", "OOMScoreAdjust", "Nice", "Delegate", "Slice", "StandardOutput", "StandardError",
}

// unit reads the files of a systemd service: its own of the highest rank, then
// its drop-ins in the order of their names. It is nil for a name that has no
// file.
func (g guest) unit(name string) *evidence.Unit {
	if !strings.HasSuffix(name, ".service") {
		return nil
	}
	u := &evidence.Unit{Name: name, Settings: map[string]string{}}
	dropIns := map[string]string{}
	own := ""
	for _, dir := range unitDirs {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(g.inRoot(file)); err == nil {
			own = file
		}
		found, err := filepath.Glob(filepath.Join(g.inRoot(file+".d"), "*.conf"))
		if err != nil {
			continue
		}
		for _, f := range found {
			dropIns[filepath.Base(f)] = filepath.Join(file+".d", filepath.Base(f))
		}
	}
	if own == "" {
		return nil
	}
	u.Files = append(u.Files, own)
	for _, base := range slices.Sorted(maps.Keys(dropIns)) {
		u.Files = append(u.Files, dropIns[base])
	}
	u.Files = u.Files[:min(len(u.Files), maxUnitFiles)]
	for _, file := range u.Files {
		if text, err := read(g.inRoot(file)); err == nil {
			addSettings(u.Settings, text)
		}
	}
	return u
}

// maxUnitFiles bounds how many files of one unit are read, maxSetting what one
// of them may set, in bytes.
const (
	maxUnitFiles = 8
	maxSetting   = 200
)

// inRoot is where the guest's own file lies for the probe.
func (g guest) inRoot(name string) string { return filepath.Join(g.proc, "1", "root", name) }

// addSettings adds what a unit file's section Service sets of the protecting
// settings; a later one wins (systemd.syntax(7)).
func addSettings(settings map[string]string, text string) {
	section := ""
	for _, line := range unitLines(text) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); ok && section == "[Service]" && slices.Contains(protecting, name) {
			value = strings.TrimSpace(value)
			settings[name] = value[:min(len(value), maxSetting)]
		}
	}
}

// unitLines are the lines of a unit file without comments and the blanks around
// them. One that ends in a backslash goes on in the next, with a blank in the
// backslash's place (systemd.syntax(7)); one that ends in two does not.
func unitLines(text string) []string {
	var lines []string
	begun := ""
	for line := range strings.Lines(text) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if ending := len(line) - len(strings.TrimRight(line, "\\")); ending%2 == 1 {
			begun += line[:len(line)-1] + " "
			continue
		}
		lines = append(lines, strings.TrimSpace(begun+line))
		begun = ""
	}
	return append(lines, strings.TrimSpace(begun))
}

// switches are envd's flags that take no word after them as their value
// (e2b-dev/infra, packages/envd/main.go, parseFlags).
var switches = []string{"isnotfc", "version", "commit", "verbose"}

// cgroupRootArgument returns the value of envd's last -cgroup-root, as Go's
// flags have it, else its default, which an empty value leaves alone. A word
// after a flag that is not known here is taken for its value.
func cgroupRootArgument(cmdline []string) string {
	root := ""
	for i := 1; i < len(cmdline); i++ {
		arg := cmdline[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			break
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takes := !inline && i+1 < len(cmdline) && !slices.Contains(switches, name)
		if takes && (name == "cgroup-root" || !strings.HasPrefix(cmdline[i+1], "-")) {
			i++
			value = cmdline[i]
		}
		if name == "cgroup-root" {
			root = value
		}
	}
	return cmp.Or(root, defaultCgroupRoot)
}

// resolve is the directory that a path means, as the kernel names it: without
// links. Where it cannot be followed it is the path, written plainly.
func (g guest) resolve(path string) string {
	dir, err := filepath.EvalSymlinks(g.inSys(path))
	if err != nil {
		return filepath.Clean(path)
	}
	if rest, below := strings.CutPrefix(dir, g.sys+"/"); below {
		return filepath.Join("/sys", rest)
	}
	return dir
}

// maxAnswer bounds what envd may print for its version, maxVersion the version
// itself, in bytes.
const (
	maxAnswer  = 4 << 10
	maxVersion = 100
)

// answer takes what envd prints, and nothing beyond maxAnswer.
type answer struct{ text bytes.Buffer }

func (a *answer) Write(p []byte) (int, error) {
	if a.text.Len()+len(p) > maxAnswer {
		return 0, fmt.Errorf("more than %d bytes", maxAnswer)
	}
	return a.text.Write(p)
}

// ask runs the envd binary for its version or commit: one short line.
func ask(exe, flag string, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait) //nolint:forbidigo // a process's own root context
	defer cancel()
	var out answer
	cmd := exec.CommandContext(ctx, exe, flag)
	cmd.Stdout = &out
	cmd.WaitDelay = wait // a child of it may keep its output open
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w", exe, flag, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(out.text.String()), "\n")
	if line == "" || len(line) > maxVersion {
		return "", fmt.Errorf("%s %s: no version in its output, %.100q", exe, flag, line)
	}
	return line, nil
}

// inSys is where a path below /sys lies for the probe.
func (g guest) inSys(path string) string {
	if rest, ok := strings.CutPrefix(path, "/sys/"); ok {
		return filepath.Join(g.sys, rest)
	}
	return path
}

// group reads one cgroup directory.
func (g guest) group(path string, files []string) evidence.Group {
	group := evidence.Group{Path: path}
	dir := g.inSys(path)
	info, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return group
	case err != nil:
		group.Error = err.Error()
		return group
	case !info.IsDir():
		group.Error = "is no directory"
		return group
	}
	group.Exists, group.Inode = true, inode(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		group.Error = "statfs: " + err.Error()
	} else {
		group.FSMagic = uint64(fs.Type) & 0xffffffff //nolint:gosec // a magic number is 32 bits of a wider field
	}
	group.Files = map[string]evidence.File{}
	for _, name := range files {
		group.Files[name] = readFile(filepath.Join(dir, name))
	}
	return group
}

// addStat fills a process from the text of /proc/PID/stat. The command name
// stands in brackets and may hold anything, brackets and blanks included, so
// the fields are counted from its last bracket (proc_pid_stat(5)).
func addStat(p *evidence.Process, stat string) {
	open, closing := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || closing < open {
		p.Error = "unexpected form of stat"
		return
	}
	p.Comm = stat[open+1 : closing]
	// The fields after the name, from the third of the file on: state, ppid.
	fields := strings.Fields(stat[closing+1:])
	const ppid, nice, start = 1, 16, 19
	if len(fields) <= start {
		p.Error = "unexpected form of stat"
		return
	}
	var err error
	if p.PPID, err = strconv.Atoi(fields[ppid]); err != nil {
		p.Error = "unexpected form of stat"
	}
	if n, err := strconv.Atoi(fields[nice]); err == nil {
		p.Nice = &n
	}
	if n, err := strconv.ParseUint(fields[start], 10, 64); err == nil {
		p.StartTicks = n
	}
}
