package image

// InventorySchema is the version of Inventory's JSON. Later versions may add
// fields; it rises when one changes its meaning.
const InventorySchema = 1

// Inventory is what an image holds, as far as cgroups and envd go. Whatever
// comes out of the image is as untrusted as the image.
type Inventory struct {
	Schema int   `json:"schema"`
	Build  Build `json:"build"`
	// Size is the image's in bytes, Allocated what it takes on the host's disk.
	Size      int64 `json:"size"`
	Allocated int64 `json:"allocated"`
	// Metadata is nil where the build has none, or none that can be read.
	Metadata *Metadata `json:"metadata,omitempty"`
	// FileSystem is nil where the image has no superblock. Unreadable is why
	// nothing of what is inside could be read; then everything below is empty.
	FileSystem *FileSystem `json:"fileSystem,omitempty"`
	Unreadable string      `json:"unreadable,omitempty"`

	Init    Init     `json:"init"`
	Systemd *Systemd `json:"systemd,omitempty"`
	OpenRC  *OpenRC  `json:"openrc,omitempty"`
	Envds   []Envd   `json:"envds,omitempty"`
	// Tools are those that envd uses, without a File where there is none, and
	// Users are root and user, where the image has them.
	Tools []Tool `json:"tools,omitempty"`
	Users []User `json:"users,omitempty"`
	// HelpersThere are those of the paths by which envds start commands at
	// which the image has a program.
	HelpersThere []string `json:"helpersThere,omitempty"`
}

// Metadata is what a build's metadata.json claims; hand-made ones often claim
// what is not so. Problem is why it could not be read.
type Metadata struct {
	BuildID            string `json:"buildID,omitempty"`
	TemplateID         string `json:"templateID,omitempty"`
	EnvdVersion        string `json:"envdVersion,omitempty"`
	KernelVersion      string `json:"kernelVersion,omitempty"`
	FirecrackerVersion string `json:"firecrackerVersion,omitempty"`
	// FilesystemOnly is true where sandboxes of the build boot although the
	// deployment has snapshots (e2b-dev/infra 62aa3874f).
	FilesystemOnly bool   `json:"filesystemOnly,omitempty"`
	Problem        string `json:"problem,omitempty"`
}

// FileSystem is what the superblock tells. Sizes are in bytes.
type FileSystem struct {
	UUID      string   `json:"uuid"`
	BlockSize int64    `json:"blockSize"`
	Size      uint64   `json:"size"`
	Free      uint64   `json:"free"`
	Features  []string `json:"features,omitempty"`
	// Errors is true where the kernel found errors in it, Dirty where its
	// journal waits to be replayed, Truncated where the file is shorter than
	// the file system.
	Errors    bool `json:"errors,omitempty"`
	Dirty     bool `json:"dirty,omitempty"`
	Truncated bool `json:"truncated,omitempty"`
}

// File is what the image has at a path. A file that is not there has no Kind.
type File struct {
	// Path is where it was looked for, Real where it lies, all links within
	// the image followed, and Links are these, in order, those of directories
	// too.
	Path  string `json:"path"`
	Real  string `json:"real,omitempty"`
	Links []Link `json:"links,omitempty"`
	// Kind is in debugfs' words: regular, directory, symlink (which leads
	// nowhere) and so on. Problem is why it could not be looked at.
	Kind    string `json:"kind,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Mode has the permissions in octal, as 755.
	Mode   string `json:"mode,omitempty"`
	UID    int    `json:"uid,omitempty"`
	GID    int    `json:"gid,omitempty"`
	Size   int64  `json:"size,omitempty"` // bytes
	SHA256 string `json:"sha256,omitempty"`

	inode inode
}

// Link is one symbolic link on the way to a file.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// InitKind is what kind of program an image boots with.
type InitKind string

// The kinds of inits.
const (
	InitScript    InitKind = "script"
	InitSystemd   InitKind = "systemd"
	InitOpenRC    InitKind = "openrc"
	InitBusybox   InitKind = "busybox" // busybox' own init, with an inittab
	InitBinary    InitKind = "binary"
	InitDirectory InitKind = "directory"
	InitMissing   InitKind = "missing"
	InitOther     InitKind = "other" // neither a program nor a script
)

// Init is what the kernel starts: /sbin/init.
type Init struct {
	File
	InitKind InitKind `json:"initKind"`
	// Interpreter is the file that the first line of a script names; nil for
	// others. InterpreterArgs is the rest of that line.
	Interpreter     *File  `json:"interpreter,omitempty"`
	InterpreterArgs string `json:"interpreterArgs,omitempty"`
	Script          *Text  `json:"script,omitempty"`
}

// Text is a script as it was read.
type Text struct {
	CRLF bool `json:"crlf,omitempty"`
	// NoNewline is true where the last line has no end.
	NoNewline bool `json:"noNewline,omitempty"`
	// Syntax is what is wrong with its grammar, in SyntaxLine where that is
	// known; then there are no steps. Foreign is true where it was not read
	// because it is of another language, or too large.
	Syntax     string `json:"syntax,omitempty"`
	SyntaxLine int    `json:"syntaxLine,omitempty"`
	Foreign    bool   `json:"foreign,omitempty"`
	Steps      []Step `json:"steps,omitempty"`
	// Patched is the version of sandproof's delegation that is in it, 0 for
	// none.
	Patched int `json:"patched,omitempty"`

	text string
}

// Text is the script itself; it is no part of the JSON.
func (t *Text) Text() string { return t.text }

// Systemd is what systemd would start envd with.
type Systemd struct {
	// Unit is envd.service as systemd finds it; it has no Kind where there is
	// none. Settings are those that matter, drop-ins applied.
	Unit     File      `json:"unit"`
	Settings []Setting `json:"settings,omitempty"`
	DropIns  []File    `json:"dropIns,omitempty"`
	// Enabled is true where something wants the unit at boot.
	Enabled bool `json:"enabled"`
}

// Setting is one line of a unit or of a drop-in.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Path  string `json:"path"`
	Line  int    `json:"line"`
}

// OpenRC is what OpenRC would start envd with.
type OpenRC struct {
	Service File `json:"service"`
	// Cgroups is true where a runlevel has the service that mounts cgroups,
	// Envd where one has envd.
	Cgroups bool `json:"cgroups"`
	Envd    bool `json:"envd"`
}

// Envd is an envd binary of the image, read and never run.
type Envd struct {
	File
	// Started is true where the init, or the unit, starts it by this path.
	Started bool `json:"started,omitempty"`
	// Version, Commit and Module are what the Go linker wrote into it, empty
	// where it does not tell.
	Version string `json:"version,omitempty"`
	Commit  string `json:"commit,omitempty"`
	Module  string `json:"module,omitempty"`
	Go      string `json:"go,omitempty"`
	// Generation is what it writes into its cgroups: none, A, B, B' or C, by
	// the messages and properties in it; empty where they do not tell, for the
	// reason in Unknown.
	Generation string `json:"generation,omitempty"`
	Unknown    string `json:"unknown,omitempty"`
	// Helpers are the programs by full path without which it can start no
	// command.
	Helpers []string `json:"helpers,omitempty"`
	StandIn bool     `json:"standIn,omitempty"` // the lab's
}

// Tool is a program that envd, or an init, needs. Busybox is true where it is
// one of busybox' own.
type Tool struct {
	Name    string `json:"name"`
	File    *File  `json:"file,omitempty"`
	Busybox bool   `json:"busybox,omitempty"`
}

// User is a line of the image's user file that envd can start commands as.
type User struct {
	Name  string `json:"name"`
	UID   int    `json:"uid"`
	Home  string `json:"home,omitempty"`
	Shell string `json:"shell,omitempty"`
}
