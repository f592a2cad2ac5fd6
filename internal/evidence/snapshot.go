package evidence

import "time"

// Snapshot is the guest at one moment, read by the probe from the kernel's
// own files. Every text in it comes from the guest and is untrusted.
type Snapshot struct {
	ProbeVersion string    `json:"probeVersion"`
	Taken        time.Time `json:"taken"` // the guest's clock
	// Asked and Received are the harness's clock before the probe was started and
	// when the snapshot arrived; collect sets them, the probe leaves them zero.
	// Only the first snapshot has Asked.
	Asked    time.Time `json:"asked,omitzero"`
	Received time.Time `json:"received,omitzero"`
	// Aside is true where the probe ran beside envd's cgroups, since nothing
	// could be started in them; collect sets it. Such a look counts for no
	// placement.
	Aside bool `json:"aside,omitempty"`
	// SandboxID is the sandbox as which this guest's envd was initialised
	// (E2B_SANDBOX_ID in the environment of what it starts); empty where envd
	// does not tell.
	SandboxID string `json:"sandboxID,omitempty"`
	Kernel    Kernel `json:"kernel"`
	Boot      Boot   `json:"boot"`
	// MemTotal is MemTotal of /proc/meminfo in bytes; PageSize is in bytes.
	MemTotal uint64 `json:"memTotal"`
	PageSize uint64 `json:"pageSize"`
	// Mounts are the lines of /proc/self/mountinfo whose file system is
	// cgroup or cgroup2, or whose mount point lies under /sys/fs/cgroup or is
	// /sys; raw.
	Mounts []string `json:"mounts"`
	Init   Process  `json:"init"`
	// InitProgram is the file that PID 1 runs: the script where PID 1 is an
	// interpreter with a script as its argument.
	InitProgram *Program `json:"initProgram,omitempty"`
	// Bystanders are scripts at the places of an init or a boot script that
	// enable controllers, and that PID 1 does not run.
	Bystanders []Program `json:"bystanders,omitempty"`
	Envd       *Envd     `json:"envd,omitempty"`
	Self       Process   `json:"self"`
	// Root is envd's cgroup root. Its io.cost.qos is that of the hierarchy's root,
	// which alone has one.
	Root Group `json:"root"`
	// Groups are the cgroups that envd promises, by name: user, ptys, socats.
	// A group that does not exist is here with Exists false. Whatever other
	// group envd holds open is here as well.
	Groups map[string]Group `json:"groups"`
	// RealTime are processes with a thread of a real-time policy outside of the
	// root cgroup: under RT_GROUP_SCHED they keep the cpu controller off.
	RealTime []Process `json:"realTime,omitempty"`
	// Errors are reads that failed, by what was read.
	Errors map[string]string `json:"errors,omitempty"`
}

// Kernel is what the guest's kernel says about itself.
type Kernel struct {
	Release string `json:"release"`
	Machine string `json:"machine"`
	Cmdline string `json:"cmdline"`
	// Config holds the options that matter to cgroups (CONFIG_MEMCG and so
	// on) as /proc/config.gz gives them; nil where the kernel does not offer
	// its configuration.
	Config map[string]string `json:"config,omitempty"`
	// Pressure is true where the kernel tells of stalls (/proc/pressure), which
	// E2B's kernels do only with psi=1 on their command line.
	Pressure bool `json:"pressure,omitempty"`
}

// Boot identifies this boot of the guest.
type Boot struct {
	ID            string    `json:"id"`
	UptimeSeconds float64   `json:"uptimeSeconds"`
	BootTime      time.Time `json:"bootTime"` // btime of /proc/stat
}

// Process is one process as /proc shows it.
type Process struct {
	PID     int      `json:"pid"`
	PPID    int      `json:"ppid"`
	Comm    string   `json:"comm,omitempty"`
	Exe     string   `json:"exe,omitempty"`
	Cmdline []string `json:"cmdline,omitempty"`
	// Cgroup is the raw text of /proc/PID/cgroup.
	Cgroup string `json:"cgroup"`
	// OOMScoreAdj and Nice are nil where they could not be read.
	OOMScoreAdj *int `json:"oomScoreAdj,omitempty"`
	Nice        *int `json:"nice,omitempty"`
	// StartTicks is the start time in clock ticks since boot; with PID it
	// identifies the process within one boot.
	StartTicks uint64 `json:"startTicks,omitempty"`
	// Stderr is where descriptor 2 points, as readlink gives it.
	Stderr string `json:"stderr,omitempty"`
	// CgroupFDs are the open descriptors that point below the cgroup root.
	CgroupFDs []string `json:"cgroupFDs,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// Envd is the running envd: the parent of the probe, identified by its own
// binary and not by what the API claims.
type Envd struct {
	Process Process `json:"process"`
	// Version and Commit are what /proc/PID/exe prints for -version and
	// -commit.
	Version string `json:"version,omitempty"`
	Commit  string `json:"commit,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	// CgroupRoot is the directory in which this envd makes its groups: the
	// value of its -cgroup-root argument, else /sys/fs/cgroup. It has no links in
	// it, as the kernel names it in mountinfo.
	CgroupRoot string `json:"cgroupRoot"`
	// Parent is the process that started it and is not PID 1: a supervisor.
	Parent *Process `json:"parent,omitempty"`
	// Unit is the systemd unit that it runs as; nil where it runs as none.
	Unit *Unit `json:"unit,omitempty"`
	// Group is its own cgroup; nil where that is the root, which has no limits.
	Group *Group `json:"group,omitempty"`
	// Journal is what the guest's journal has of this very process; nil where
	// its standard error is no socket.
	Journal *Journal `json:"journal,omitempty"`
	// LogFile is the regular file to which its standard error goes; nil where
	// that is none.
	LogFile *LogFile `json:"logFile,omitempty"`
	// Stdout is where descriptor 1 points, as readlink gives it.
	Stdout string `json:"stdout,omitempty"`
}

// Journal is the part of systemd's journal that tells of one envd process in
// one boot.
type Journal struct {
	// Lines are those of envd's process that speak of cgroups.
	Lines []string `json:"lines,omitempty"`
	// Control is a line of systemd itself about this unit in this boot, of the
	// priority that standard error has: the journal is alive and keeps such
	// lines.
	Control string `json:"control,omitempty"`
	Error   string `json:"error,omitempty"`
}

// LogFile is a file to which envd's standard error goes, and what is known of
// this envd process's part in it.
type LogFile struct {
	// Path is the file's as the kernel names it now: a file that was renamed has
	// its new name, and one without any name ends in " (deleted)".
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
	// Mode is how the descriptor writes; empty where that is not known.
	Mode LogFileMode `json:"mode,omitempty"`
	// Position is the descriptor's, in bytes: 0 until something was written
	// through it, then the end of what was written last. It is nil where it could
	// not be read. Size is the file's at the same time.
	Position *int64 `json:"position,omitempty"`
	Size     int64  `json:"size"`
	// Holders are the PIDs of processes above envd that have the file open, too:
	// an earlier envd may have written through the same descriptor.
	Holders []int `json:"holders,omitempty"`
	// Lines speak of cgroups and were surely written by this process. Doubtful
	// ones stand before the position and may be another envd's.
	Lines    []string `json:"lines,omitempty"`
	Doubtful []string `json:"doubtful,omitempty"`
	// Control is the line that the probe wrote to the file and read back: it
	// takes lines, and keeps them.
	Control string `json:"control,omitempty"`
	Error   string `json:"error,omitempty"`
}

// LogFileMode is how a descriptor writes to a file (open(2)).
type LogFileMode string

// The modes.
const (
	// LogFileWritten: each write goes where the last one ended.
	LogFileWritten LogFileMode = "write"
	// LogFileAppended: each write goes to the file's end (O_APPEND), after
	// whatever was there before.
	LogFileAppended LogFileMode = "append"
)

// Unit is a systemd service as its files have it.
type Unit struct {
	Name string `json:"name"`
	// Files are the unit's file and its drop-ins, in the order in which they
	// count.
	Files []string `json:"files"`
	// Settings are those of the section Service that protect envd
	// (CPUWeight, OOMScoreAdjust and so on), the last of each.
	Settings map[string]string `json:"settings,omitempty"`
}

// Program is a file by its content.
type Program struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Steps are what a shell script does about cgroups, in the order of its
	// lines; empty for any other program.
	Steps []Step `json:"steps,omitempty"`
}

// Step is one command of a script, recognised by its words: never a comment or
// a quoted text.
type Step struct {
	Kind StepKind `json:"kind"`
	Line int      `json:"line"` // its first, from 1
	// Target is the mount point, or the file that is written, as it stands in
	// the script: a variable is not resolved.
	Target string `json:"target,omitempty"`
	// Words are the controllers of an enabling write, as they stand there:
	// "+cpu", or "+$c" in a loop.
	Words []string `json:"words,omitempty"`
}

// StepKind is what a step does.
type StepKind string

// The kinds of steps.
const (
	StepMount  StepKind = "mount"  // mounts a cgroup2 file system
	StepEnable StepKind = "enable" // writes to a cgroup.subtree_control
	StepEnvd   StepKind = "envd"   // starts envd
)

// Group is one cgroup directory.
type Group struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	// FSMagic is the file system's magic number by statfs; 0x63677270 is
	// cgroup2. Names and paths prove nothing: a tmpfs holds any file.
	FSMagic uint64 `json:"fsMagic,omitempty"`
	// Files are the interface files by name, as they were read. A file that
	// does not exist is present with its error.
	Files map[string]File `json:"files,omitempty"`
	// Above are the groups between the root of the hierarchy and this one, the
	// nearest first, with their memory.min and memory.low: none protects more than
	// those above it (cgroup-v2.rst). They are read of envd's own group and of
	// socats.
	Above []Ancestor `json:"above,omitempty"`
	// Inode is the directory's number. The kernel gives them out in rising
	// order as it makes directories and interface files, so they tell what was
	// made after what (Linux fs/kernfs/dir.c).
	Inode uint64 `json:"inode,omitempty"`
	Error string `json:"error,omitempty"`
}

// Ancestor is a group above another.
type Ancestor struct {
	Path string `json:"path"`
	// Files are those of its interface files that bound what is below it.
	Files map[string]File `json:"files,omitempty"`
}

// File is one interface file: its text, or why there is none.
type File struct {
	Text string `json:"text"`
	// Errno is the symbolic error ("ENOENT") where the file could not be
	// read, else empty.
	Errno string `json:"errno,omitempty"`
	// Inode is the file's number; see Group.
	Inode uint64 `json:"inode,omitempty"`
}

// CGroup2Magic is CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGroup2Magic = 0x63677270
