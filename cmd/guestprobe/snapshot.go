package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
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

// rootFiles are those of the root cgroup.
var rootFiles = []string{"cgroup.controllers", "cgroup.subtree_control", "cgroup.type", "io.cost.qos"}

// configOptions are the kernel options that explain what cgroups can do.
var configOptions = []string{
	"CONFIG_CGROUPS", "CONFIG_MEMCG", "CONFIG_CGROUP_SCHED", "CONFIG_FAIR_GROUP_SCHED", "CONFIG_CFS_BANDWIDTH",
	"CONFIG_RT_GROUP_SCHED", "CONFIG_BLK_CGROUP", "CONFIG_BLK_CGROUP_IOCOST", "CONFIG_CGROUP_PIDS",
	"CONFIG_CGROUP_FREEZER", "CONFIG_PSI", "CONFIG_PSI_DEFAULT_DISABLED",
}

// snapshot reads the guest once. It never fails: what cannot be read is said
// in Errors.
func (g guest) snapshot(self int) evidence.Snapshot {
	s := evidence.Snapshot{
		ProbeVersion: version, Taken: time.Now().UTC(), PageSize: uint64(os.Getpagesize()), //nolint:gosec // a page size is positive
		Self: g.process(self), Init: g.process(1), Groups: map[string]evidence.Group{}, Errors: map[string]string{},
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
	s.MemTotal, err = g.memTotal()
	note("meminfo", err)
	s.Mounts, err = g.mounts()
	note("mountinfo", err)
	s.InitProgram, err = g.initProgram(s.Init)
	note("init program", err)
	s.Envd, err = g.envd(s.Self)
	note("envd", err)

	root := defaultCgroupRoot
	if s.Envd != nil {
		root = s.Envd.CgroupRoot
	}
	s.Root = g.group(root, rootFiles)
	for _, name := range []string{"user", "ptys", "socats"} {
		s.Groups[name] = g.group(filepath.Join(root, name), groupFiles)
	}
	return s
}

func (g guest) kernel() (evidence.Kernel, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return evidence.Kernel{}, err
	}
	k := evidence.Kernel{Release: unix.ByteSliceToString(uts.Release[:]), Machine: unix.ByteSliceToString(uts.Machine[:])}
	cmdline, err := read(filepath.Join(g.proc, "cmdline"))
	k.Cmdline = strings.TrimSpace(cmdline)
	k.Config = g.kernelConfig()
	return k, err
}

// kernelConfig reads the options from /proc/config.gz; nil where the kernel
// does not offer it.
func (g guest) kernelConfig() map[string]string {
	f, err := os.Open(filepath.Join(g.proc, "config.gz"))
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
	return options
}

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
	if b.UptimeSeconds, err = strconv.ParseFloat(first, 64); err != nil {
		return b, fmt.Errorf("uptime %q: %w", uptime, err)
	}
	stat, err := read(filepath.Join(g.proc, "stat"))
	if err != nil {
		return b, err
	}
	for line := range strings.Lines(stat) {
		if text, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err != nil {
				return b, fmt.Errorf("btime %q: %w", text, err)
			}
			b.BootTime = time.Unix(seconds, 0).UTC()
		}
	}
	return b, nil
}

// memTotal is MemTotal of /proc/meminfo in bytes, the input of envd's own
// formula.
func (g guest) memTotal() (uint64, error) {
	text, err := read(filepath.Join(g.proc, "meminfo"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			kb, err := strconv.ParseUint(fields[1], 10, 54)
			return kb * 1024, err
		}
	}
	return 0, errors.New("no MemTotal in meminfo")
}

// mounts returns the mountinfo lines that say what lies at /sys/fs/cgroup and
// above, and every cgroup mount.
func (g guest) mounts() ([]string, error) {
	text, err := read(filepath.Join(g.proc, "self/mountinfo"))
	if err != nil {
		return nil, err
	}
	var kept []string
	for line := range strings.Lines(text) {
		m, err := cgroup2.ParseMount(line)
		if err != nil {
			continue
		}
		if m.Covers(defaultCgroupRoot) || strings.HasPrefix(m.Type, "cgroup") || strings.HasPrefix(m.Point, defaultCgroupRoot+"/") {
			kept = append(kept, strings.TrimSuffix(line, "\n"))
		}
	}
	return kept, nil
}

// initProgram identifies what PID 1 runs by its content: the script where an
// interpreter runs one.
func (g guest) initProgram(init evidence.Process) (*evidence.Program, error) {
	name := init.Exe
	if len(init.Cmdline) > 1 && filepath.IsAbs(init.Cmdline[1]) {
		name = init.Cmdline[1]
	}
	if name == "" {
		return nil, errors.New("what PID 1 runs cannot be told")
	}
	sum, size, err := hash(filepath.Join(g.proc, "1", "root", name))
	if err != nil {
		return nil, err
	}
	return &evidence.Program{Path: name, SHA256: sum, Size: size}, nil
}

// envd finds the running envd: the probe's nearest ancestor that is one.
func (g guest) envd(self evidence.Process) (*evidence.Envd, error) {
	for pid := self.PPID; pid > 1; {
		p := g.process(pid)
		if p.Error != "" {
			return nil, fmt.Errorf("process %d above the probe: %s", pid, p.Error)
		}
		if isEnvd(p) {
			return g.describeEnvd(p), nil
		}
		pid = p.PPID
	}
	return nil, errors.New("no process above the probe is envd")
}

// isEnvd goes by the program that a process runs. A replaced binary reads
// " (deleted)", and is the running one all the same.
func isEnvd(p evidence.Process) bool {
	return strings.HasPrefix(filepath.Base(p.Exe), "envd")
}

func (g guest) describeEnvd(p evidence.Process) *evidence.Envd {
	exe := filepath.Join(g.proc, strconv.Itoa(p.PID), "exe")
	e := &evidence.Envd{Process: p, CgroupRoot: cgroupRootArgument(p.Cmdline)}
	e.Version = ask(exe, "-version")
	e.Commit = ask(exe, "-commit")
	e.SHA256, _, _ = hash(exe)
	return e
}

// cgroupRootArgument returns the value of envd's -cgroup-root, else its
// default.
func cgroupRootArgument(cmdline []string) string {
	for i, arg := range cmdline {
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case !strings.HasPrefix(arg, "-") || name != "cgroup-root":
		case inline:
			return value
		case i+1 < len(cmdline):
			return cmdline[i+1]
		}
	}
	return defaultCgroupRoot
}

// ask runs the envd binary for its version or commit: one short line.
func ask(exe, flag string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) //nolint:forbidigo // a process's own root context
	defer cancel()
	out, err := exec.CommandContext(ctx, exe, flag).Output()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(line) > 100 {
		return ""
	}
	return line
}

// group reads one cgroup directory.
func (g guest) group(path string, files []string) evidence.Group {
	group := evidence.Group{Path: path}
	dir := path
	if rest, ok := strings.CutPrefix(path, "/sys/"); ok {
		dir = filepath.Join(g.sys, rest)
	}
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
	group.Exists = true
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
