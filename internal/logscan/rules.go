package logscan

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// Rule recognises one kind of line.
type Rule struct {
	// ID is never reused.
	ID    string
	Class evidence.FindingClass
	// Meaning is for people.
	Meaning string
	// Says is what the line means by the generation of the envd that prints it;
	// a generation that is not there never does. Only failures have it.
	Says map[string]string
	// Kernel: it knows what the kernel says alone.
	Kernel bool
	// Match is tried on the normalised message. Its groups named group,
	// property and errno become the finding's fields.
	Match func() *regexp.Regexp
	// Holds is asked in the place of Match where it is set.
	Holds func(message string) bool
	// Samples must match this rule and no earlier one; Others are lines like
	// them that must not.
	Samples, Others []string
}

// The generations of envd, by the names that requirement gives them: A from
// c7180fe2c, B from baeb9772d, B' from 452097909, C from f4bd1b24b of
// e2b-dev/infra.
const (
	genA      = "A"
	genB      = "B"
	genBPrime = "B'"
	genC      = "C"
)

// always is one meaning for all generations.
func always(meaning string) map[string]string { return from(genA, meaning) }

// from is one meaning from a generation on.
func from(first, meaning string) map[string]string {
	generations := []string{genA, genB, genBPrime, genC}
	says := map[string]string{}
	for _, generation := range generations[slices.Index(generations, first):] {
		says[generation] = meaning
	}
	return says
}

// pattern is an expression that is compiled when it is first asked for: many
// runs of the program ask for none.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// causes are the words that envd puts before the failure that it names last.
const causes = `^(?:failed to create (?:cgroup2 manager|cgroups|\S+ cgroup): )*`

// kernelTexts are those of a boot, whole (kernel/cgroup and mm/oom_kill.c, from
// Linux 4.5 on, and init/main.c): others may begin as the kernel does.
const kernelTexts = `^cgroup: (?:` +
	`Disabling \w+ control group (?:subsystem|feature)|Unknown subsys name '[^']*'|cgroup2: unknown option "[^"]*"|fork rejected by pids controller in /\S*|` +
	`cgroup: disabling cgroup2 socket matching due to net_prio or net_cls activation|` +
	`option changes via remount are deprecated \(pid=\d+ comm=.{1,15}\)|option or name mismatch, new: 0x[0-9a-f]+ "[^"]*", old: 0x[0-9a-f]+ "[^"]*"|` +
	`.{1,15} \(\d+\) created nested cgroup for controller "\w+" which has incomplete hierarchy support\. Nested cgroups may change behavior in the future\.)$|` +
	`^(?:Kernel c|C)ommand line: .*cgroup|^Unknown kernel command line parameters ".*cgroup.*", will be passed to user space\.$|` +
	`^Memory cgroup out of memory: Kill(?:ed)? process \d+ \(.{1,15}\)(?:(?:,? (?:[\w-]+:-?\w+|UID \d+))*| score \d+ or sacrifice child)$`

// rules are tried in order; the first that matches names the line. The texts
// are those of e2b-dev/infra packages/envd/main.go and
// internal/services/cgroups, from c7180fe2c to 54693ff35, and of the init
// scripts of a public fork.
//
// A failure is one only where the line begins with it, as envd prints it: in
// the middle of a line the same words may be a user's command that envd's
// logger quotes, in a record that was damaged. Such a line is unknown.
var rules = []Rule{
	{
		ID: "CG005", Class: evidence.FindingFailure, Meaning: "cgroups were switched off on purpose",
		Says:    from(genC, "somebody started envd with --no-cgroups: nothing is limited"),
		Others:  []string{"envd --no-cgroups", "usage: cgroups disabled via --no-cgroups"},
		Match:   pattern(`^cgroups disabled via --no-cgroups`),
		Samples: []string{"cgroups disabled via --no-cgroups; using no-op cgroup manager"},
	},
	{
		ID: "CG003", Class: evidence.FindingFailure, Meaning: "envd gave up its cgroups: nothing is limited",
		Says:    always("nothing is limited, whatever directories are there"),
		Others:  []string{"falling back to polling", "echo falling back to no-op cgroup manager", "not falling back to no-op cgroup manager"},
		Match:   pattern(`^falling back to no-op cgroup manager`),
		Samples: []string{"falling back to no-op cgroup manager"},
	},
	{
		ID: "CG004", Class: evidence.FindingFailure, Meaning: "one limit was skipped, since its file does not exist",
		Says:    from(genC, "this limit alone is missing: its file was not there or could not be written; the others stand"),
		Others:  []string{`cgroup property "io.weight" available at "/sys/fs/cgroup/user"`, `skipping cgroup property "io.weight" unavailable at "/x", skipping`},
		Match:   pattern(`^cgroup property "(?P<property>[^"]+)" unavailable at "[^"]*?(?P<group>[^"/]+)", skipping`),
		Samples: []string{`cgroup property "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`},
	},
	{
		ID: "CG006", Class: evidence.FindingFailure, Meaning: "no cgroup2 is mounted where envd looks",
		Says:   from(genBPrime, "envd looked at the file system's type and gave up: nothing is limited"),
		Others: []string{"cgroup root /sys/fs/cgroup is a cgroup2 filesystem", "checking whether cgroup root /sys/fs/cgroup is not a cgroup2 filesystem"},
		Match:  pattern(causes + `(?:cgroup root \S+ is not a cgroup2 filesystem|failed to statfs cgroup root)`),
		Samples: []string{
			"failed to create cgroup2 manager: cgroup root /sys/fs/cgroup is not a cgroup2 filesystem (type=0x62656572)",
			"failed to create cgroup2 manager: failed to statfs cgroup root /sys/fs/cgroup: no such file or directory",
		},
	},
	{
		ID: "CG002", Class: evidence.FindingFailure, Meaning: "a limit could not be written",
		Says: map[string]string{
			genA: "one limit that cannot be written makes envd give up all", genB: "one limit that cannot be written makes envd give up all",
			genBPrime: "one limit that cannot be written makes envd give up all",
			genC:      "its file was there and the write failed for another reason than rights, which makes envd give up all",
		},
		Others: []string{"failed to write cgroup properties", "failed to write file cgroup property: x", "warning: failed to write cgroup property: x"},
		Match:  pattern(causes + `failed to write cgroup property(?: "[^"]+")?: (?:\w+ \S*/(?P<group>[^/ ]+)/(?P<property>[^/ :]+): )?(?P<errno>.*)$`),
		Samples: []string{
			"failed to create cgroup2 manager: failed to create cgroups: failed to create user cgroup: failed to write cgroup property: open /sys/fs/cgroup/user/memory.high: permission denied",
			"failed to write cgroup property: open /sys/fs/cgroup/user/cpu.weight: permission denied",
			"failed to create pty cgroup: failed to write cgroup property: open /sys/fs/cgroup/ptys/cpu.weight: permission denied",
			`failed to write cgroup property "memory.high": write /sys/fs/cgroup/user/memory.high: invalid argument`,
		},
	},
	{
		ID: "CG007", Class: evidence.FindingFailure, Meaning: "a cgroup could not be made",
		Says:   always("envd could not make a group, and gives up all"),
		Others: []string{"failed to create network cgroup: x", "failed to create cgroup directory: mkdir /sys/fs/cgroup/e2b: x"},
		Match: pattern(`^(?:failed to create (?:cgroup2 manager|cgroups): )*` +
			`failed to create (?:(?P<group>user|ptys?|socats?) cgroup(?:: failed to create cgroup root)?|cgroup root)(?:: mkdir \S+)?(?:: (?P<errno>.*))?$`),
		Samples: []string{
			"failed to create cgroup2 manager: failed to create cgroups: failed to create pty cgroup: failed to create cgroup root: mkdir /sys/fs/cgroup/ptys: read-only file system",
			"failed to create socat cgroup: no such device",
		},
	},
	{
		ID: "CG001", Class: evidence.FindingFailure, Meaning: "envd could not set its cgroups up",
		Says:    always("envd could not set its groups up, and gives up all"),
		Others:  []string{"failed to create cgroup manager: x", "the orchestrator failed to create cgroup2 manager"},
		Match:   pattern(`^failed to create (?:cgroup2 manager|cgroups)`),
		Samples: []string{"failed to create cgroup2 manager: permission denied"},
	},
	{
		ID: "CG009", Class: evidence.FindingFailure, Meaning: "envd could not read the guest's memory size",
		Says:    always("envd could not reckon its limits, and gives up all"),
		Others:  []string{"failed to calculate metrics: x", "warning: failed to calculate host metrics: x"},
		Match:   pattern(`^failed to calculate host metrics: (?P<errno>.*)$`),
		Samples: []string{"failed to calculate host metrics: open /proc/meminfo: no such file or directory"},
	},
	{
		ID: "BT001", Class: evidence.FindingControl, Meaning: "the init script began",
		Match:   pattern(`^=== E2B Init Starting ===$`),
		Samples: []string{"=== E2B Init Starting ==="},
	},
	{
		ID: "BT002", Class: evidence.FindingControl, Meaning: "the init script mounted the file systems",
		Match:   pattern(`^✓ Filesystems mounted(?: \(with cgroup delegation\))?$`),
		Samples: []string{"✓ Filesystems mounted", "✓ Filesystems mounted (with cgroup delegation)"},
	},
	{
		ID: "BT003", Class: evidence.FindingControl, Meaning: "the init script set the network up",
		Match:   pattern(`^✓ Network configured$`),
		Samples: []string{"✓ Network configured"},
	},
	{
		ID: "BT004", Class: evidence.FindingControl, Meaning: "the init script starts envd",
		Match:   pattern(`^=== Starting envd ===$|^--- \[GUEST\] Starting envd daemon ---$`),
		Samples: []string{"=== Starting envd ===", "--- [GUEST] Starting envd daemon ---"},
	},
	{
		ID: "BT005", Class: evidence.FindingControl, Meaning: "the init script started envd",
		Match:   pattern(`^=== Init complete, envd started ===$`),
		Samples: []string{"=== Init complete, envd started ==="},
	},
	{
		ID: CanaryRule, Class: evidence.FindingControl, Meaning: "the guest probe's own line came through the console",
		Match:   pattern(`^sandproof canary [A-Z2-7]+$`),
		Samples: []string{"sandproof canary ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
	},
	{
		ID: "CGOK1", Class: evidence.FindingBenign, Meaning: "the kernel speaks of cgroups", Kernel: true,
		Match: pattern(kernelTexts),
		Samples: []string{
			"cgroup: Disabling memory control group subsystem", "cgroup: Disabling pressure control group feature", "cgroup: Unknown subsys name 'net_cls'",
			`cgroup: cgroup2: unknown option "memory_recursiveprot"`, "cgroup: fork rejected by pids controller in /user",
			"cgroup: cgroup: disabling cgroup2 socket matching due to net_prio or net_cls activation", //nolint:dupword // as the kernel prints it
			"cgroup: option changes via remount are deprecated (pid=1 comm=systemd)",
			`cgroup: option or name mismatch, new: 0x0 "", old: 0x4 "systemd"`,
			`cgroup: runc (77) created nested cgroup for controller "memory" which has incomplete hierarchy support. Nested cgroups may change behavior in the future.`,
			"Command line: console=ttyS0 cgroup_disable=memory", "Kernel command line: console=ttyS0 cgroup_disable=memory",
			`Unknown kernel command line parameters "cgroup_enable=memory audit=disabled", will be passed to user space.`,
			"Memory cgroup out of memory: Killed process 174 (exe) total-vm:1683524kB, anon-rss:418552kB, file-rss:3284kB, shmem-rss:0kB, UID:0 pgtables:916kB oom_score_adj:-1000",
			"Memory cgroup out of memory: Killed process 77 (failover.sh), UID 0, total-vm:8kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB",
			"Memory cgroup out of memory: Kill process 77 ((sd-pam)) score 1009 or sacrifice child",
		},
		Others: []string{
			"cgroup: failed to set up the hierarchy: permission denied", "cgroup: cgroup2: permission denied, running without limits",
			"cgroup: option memory.high rejected: invalid argument", "cgroup: Disabling limits, since memory.high: permission denied",
			"Memory cgroup out of memory: limits not applied",
		},
	},
	{
		ID: "CGOK3", Class: evidence.FindingBenign, Meaning: "systemd speaks of its cgroups",
		Match:   pattern(`^systemd\[\d+\]: .*cgroup`),
		Samples: []string{"systemd[1]: Detected cgroup v2 with unified hierarchy", "systemd[1]: Failed to create cgroup /init.scope: Permission denied"},
		Others: []string{
			"systemd cgroup driver failed: permission denied", "systemd: cgroup of envd could not be created, limits disabled",
			"systemd[x]: cgroup of envd could not be created",
		},
	},
	{
		ID: "CGOK2", Class: evidence.FindingBenign, Meaning: "a line of a Go stack trace: a function or a file, and no words",
		Match: pattern(`^(?:created by )?\S*/\S*cgroup\S*(?:\([0-9a-fx{}.,?_ ]*\))?(?: in goroutine \d+)?(?: \+0x[0-9a-f]+)?$`),
		Samples: []string{
			"github.com/e2b-dev/infra/packages/orchestrator/pkg/sandbox/cgroup.(*managerImpl).failed(...)",
			"/build/packages/orchestrator/pkg/sandbox/cgroup/errors.go:63 +0x1d",
			"github.com/e2b-dev/infra/packages/orchestrator/pkg/sandbox/cgroup.(*managerImpl).failed({0xc000012345, 0x12})",
			"created by github.com/e2b-dev/infra/packages/orchestrator/pkg/sandbox/cgroup.failLater in goroutine 17",
		},
	},
	{
		ID: unknownRule, Class: evidence.FindingUnknown, Meaning: "speaks of cgroup trouble, and no rule knows it",
		Holds: troubled,
		Samples: []string{
			"cgroup v3 backend: operation not permitted", "could not attach: error in cgroup controller",
			"permission denied while opening /sys/fs/cgroup/user/cpu.weight", "no such file or directory: /sys/fs/cgroup/user/memory.high",
			"read-only file system: mkdir /sys/fs/cgroup/ptys", "operation not permitted (cgroup user)", "cgroup2: EACCES",
			"skipping cgroup setup", "cgroup limits not applied", "cgroup limits disabled", "the limits of cgroup user are missing",
			"device or resource busy: rmdir /sys/fs/cgroup/user", "no space left on device: mkdir /sys/fs/cgroup/user",
			"cannot allocate memory (cgroup user)", "timeout while opening /sys/fs/cgroup/user", "too many open files in cgroup setup",
			"cgroup memory.high does not exist", "Cgroup Limits NOT SET",
		},
	},
}

// CanaryRule is the rule of the line that the probe writes.
const CanaryRule = "BT010"

// canarySign is what a canary begins with, in lower case.
const canarySign = evidence.CanarySign

// unknownRule is the rule of lines that speak of trouble and that nothing else
// knows.
const unknownRule = "CG0U0"

// oversizeRule stands for a line of which only the beginning was kept.
var oversizeRule = Rule{ID: "CG0L0", Class: evidence.FindingUnknown, Meaning: "a line too long to be kept whole"}

// shingle is how much of a failure's own words makes a fragment of one.
const shingle = 12

// telling is how much of a fragment must be words that only envd's failures
// use, in bytes: everybody's log holds "failed to create".
const telling = 3

// ownWords are texts that envd alone prints, of which a part is everybody's: a
// line that holds one whole holds a part of a failure.
var ownWords = []string{
	`" unavailable at "`, "late host metrics",
	"to create user cgroup", "to create pty cgroup", "to create ptys cgroup", "to create socat cgroup", "to create socats cgroup",
}

// fragments are the words of envd's failures, of which a damaged line may
// hold a part: the console mixes kernel messages into envd's lines. To each
// shingle they tell what must follow it.
var fragments = sync.OnceValue(func() map[string]following {
	set := map[string]following{}
	for _, text := range ownWords {
		f := set[text[:shingle]]
		f.whole = append(f.whole, text[shingle:])
		set[text[:shingle]] = f
	}
	for _, text := range []struct {
		common, own string
		sure        int    // so much of own is nobody else's, whatever follows
		or          string // another own text that begins so
	}{
		{"failed to create ", "cgroup2 manager", len("cgroup2"), "cgroup root"},
		{"failed to write ", "cgroup property", len("cgroup p"), ""},
		{"falling back to ", "no-op cgroup manager", len("no-op cg"), ""},
		{"", "cgroups disabl", telling, ""},
		{"isabled via --no", "-cgroups", telling, ""},
		{"is not a ", "cgroup2 filesystem", len("cgroup2"), ""},
	} {
		whole := text.common + text.own
		for i := max(0, len(text.common)+telling-shingle); i+shingle <= len(whole); i++ {
			var f following
			if own := i + shingle - len(text.common); own < text.sure {
				f.own, f.cut = own, []string{text.own, cmp.Or(text.or, text.own)}
			}
			set[whole[i:i+shingle]] = f
		}
	}
	return set
})

// following tells what must follow a shingle that makes a fragment: one of some
// texts whole; or one of some of which it has the first bytes, as far as the line
// holds their words. Nothing must where it says enough.
type following struct {
	whole, cut []string
	own        int // how many bytes of cut the shingle has
}

// in tells whether a message has what must follow a shingle that ends at a place.
func (f following) in(message string, end int) bool {
	return f.whole == nil && f.cut == nil ||
		slices.ContainsFunc(f.whole, func(text string) bool { return strings.HasPrefix(message[end:], text) }) ||
		slices.ContainsFunc(f.cut, func(text string) bool { return goesOn(message[end-f.own:], text) })
}

// goesOn tells whether a text goes on as a failure's own words do, or was cut
// within them. Where a whole word ends sooner than own's, or another one begins, it
// is somebody else's, as "falling back to no-op tracer" is, but for what lines begin
// with.
func goesOn(rest, own string) bool {
	n := samePrefix(rest, own)
	switch {
	case n == len(rest), n == len(own), lineBegins().MatchString(strings.TrimLeft(rest[n:], " ")):
		return true
	case isLetter(own[n-1]):
		whole := own[n] == ' ' || strings.HasSuffix(own[:n], "cgroup")
		return !whole || strings.IndexByte(" .,:;", rest[n]) < 0
	default:
		return !isLetter(rest[n]) && !isDigit(rest[n])
	}
}

// samePrefix is how many bytes two texts begin alike.
func samePrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// beginnings are those of failures of which, where another line cuts them in own,
// neither side has enough words for a fragment: the end of the line, or what
// follows, shows that they were cut. Up to from bytes of own, and with more than
// to, whatever follows does; in between others' texts go on as well, as "failed to
// create user config" does, and it must be what a line begins with.
var beginnings = []struct {
	common, own string
	from, to    int
}{
	{"failed to create user ", "cgroup", 0, 1},
	{"failed to create pty ", "cgroup", 0, 1},
	{"failed to create ptys ", "cgroup", 0, 1},
	{"failed to create socat ", "cgroup", 0, 1},
	{"failed to create socats ", "cgroup", 0, 1},
	{"failed to calcu", "late host metrics", len("lat"), len("late host me")},
}

// lineBegins is what lines begin with: the kernel's, Firecracker's, which share
// the console's way, JSON, syslog's, and those of common loggers.
var lineBegins = pattern(`^(?:\[|\{ ?"|<\d+>|\d{4}[-/]\d\d[-/]\d\d|[A-Z][a-z]{2} \d{1,2} \d\d:|[IWEF]\d{4} \d\d:|(?:time|level|lvl|ts|msg)=|(?:TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL)\b)`)

// beginningSign is what every beginning holds before its own words.
const beginningSign = "failed to c"

// cutOff tells whether a line is the beginning of a failure, cut in the midst of
// its own words.
func cutOff(message string) bool {
	if !strings.HasPrefix(message, beginningSign) {
		return false
	}
	for _, text := range beginnings {
		rest, begun := strings.CutPrefix(message, text.common)
		if !begun {
			continue
		}
		n := samePrefix(rest, text.own)
		if n > 0 && (n == len(rest) || n <= text.from || n > text.to) {
			return true
		}
		for i := range n {
			if lineBegins().MatchString(rest[i+1:]) {
				return true
			}
		}
	}
	return false
}

// shared are texts in envd's failures that systemd says of its own cgroups as
// well, but for capitals.
var shared = []string{"failed to create cgroup", " cgroup property", " a cgroup2 filesystem"}

// holdsPart tells whether a message holds a part of a failure's words, and one
// that is not in a text of except.
func holdsPart(message string, except ...string) bool {
	if cutOff(message) {
		return true
	}
	known := fragments()
	for i := 0; i+shingle <= len(message); i++ {
		piece := message[i : i+shingle]
		follows, found := known[piece]
		if !found || slices.ContainsFunc(except, func(text string) bool { return strings.Contains(text, piece) }) {
			continue
		}
		if follows.in(message, i+shingle) {
			return true
		}
	}
	return false
}

// fragmentRule stands for a part of a failure line.
var fragmentRule = Rule{ID: "CG0F0", Class: evidence.FindingUnknown, Meaning: "a part of an envd failure line, damaged on its way"}

// troubles are texts of which a line that speaks of cgroup trouble holds one,
// before or behind, in lower case: what goes wrong, what is left out, and what
// the kernel answers. errnos are words of their own.
var (
	troubles = []string{
		"fail", "error", "unable", "cannot", "could not", "can't", "couldn't", "fall", "denied", "refused", "reject", "invalid", "unavailable",
		"missing", "disabled", "skip", "give up", "gives up", "giving up", "gave up", "timed out", "time out", "timeout",
		"not applied", "not available", "not permitted", "not supported", "not allowed", "not found", "not mounted", "not enabled", "not enforced",
		"not created", "not writable", "not written", "not exist", "not a cgroup",
		"no such", "read-only", "no space left", "too many", "out of range", "bad file descriptor",
	}
	troubleWords = []string{
		"busy", "not set", "eacces", "eperm", "enoent", "einval", "erofs", "ebusy", "enospc", "enomem", "enodev", "eopnotsupp", "emfile", "eagain",
	}
)

// troubled tells whether a message speaks of cgroups and of trouble, in
// whichever order: nobody knows the words of the next envd.
func troubled(message string) bool {
	message = strings.ToLower(message)
	if strings.Contains(message, "failed to calculate host metrics") {
		return true
	}
	return strings.Contains(message, "cgroup") &&
		(slices.ContainsFunc(troubles, func(text string) bool { return strings.Contains(message, text) }) ||
			slices.ContainsFunc(troubleWords, func(word string) bool { return holdsWord(message, word) }))
}

// holdsWord tells whether a text holds a word with no letter at either side:
// "busy" is trouble, and busybox is none.
func holdsWord(text, word string) bool {
	for {
		before, behind, ok := strings.Cut(text, word)
		if !ok {
			return false
		}
		if (before == "" || !isLetter(before[len(before)-1])) && (behind == "" || !isLetter(behind[0])) {
			return true
		}
		text = behind
	}
}

// speaks tells whether a rule could know a message at all. Nearly every line
// of a log is about something else, and the rules are slow to say so.
func speaks(message string) bool {
	for _, sign := range []string{"===", "---", "✓", "host metrics", canarySign} {
		if strings.Contains(message, sign) {
			return true
		}
	}
	return strings.Contains(strings.ToLower(message), "cgroup")
}

// Classify returns the rule that knows a record; nil for a line that says
// nothing about cgroups or the boot. A line that begins as a harmless one does
// may go on with a failure's words: systemd quotes, and lines run together.
func Classify(r Record) *Rule {
	if r.Structured {
		return nil
	}
	if speaks(r.Message) {
		for i := range rules {
			switch {
			case !rules[i].knows(r):
			case rules[i].Class == evidence.FindingBenign && holdsPart(r.Message, shared...):
				return &fragmentRule
			default:
				return &rules[i]
			}
		}
	}
	if holdsPart(r.Message) {
		return &fragmentRule
	}
	return nil
}

// knows tells whether a rule knows a record's message.
func (r *Rule) knows(record Record) bool {
	switch {
	case r.Kernel && !record.Kernel:
		return false
	case r.Holds != nil:
		return r.Holds(record.Message)
	}
	return r.Match().MatchString(record.Message)
}

// finding makes a finding of a record that a rule matched.
func (r *Rule) finding(record Record, raw []byte, secrets *redact.Redactor) evidence.Finding {
	f := evidence.Finding{
		Rule: r.ID, Class: r.Class, Says: r.Says, Message: Bounded(record.Message, secrets), Raw: Bounded(string(raw), secrets), Time: record.Time,
	}
	if r.Match == nil {
		return f
	}
	match := r.Match().FindStringSubmatch(record.Message)
	for i, name := range r.Match().SubexpNames() {
		switch name {
		case "group":
			f.Group = directoryOf(match[i])
		case "property":
			f.Property = match[i]
		case "errno":
			f.Errno = match[i]
		}
	}
	return f
}

// directoryOf is the directory of a group, which envd's errors name by the kind
// of its processes: pty and socat live in ptys and socats.
func directoryOf(group string) string {
	switch group {
	case "pty", "socat":
		return group + "s"
	default:
		return group
	}
}

// maxText bounds the texts of a finding, in bytes.
const maxText = 1000

// Bounded is a text of a finding without secrets, of at most 1000 bytes and what
// tells of a cut. It is cut after they were taken out: half of one is no secret that
// the redactor knows. It is a copy: a part of a line would keep all of it in memory.
func Bounded(text string, secrets *redact.Redactor) string {
	const mostLookedAt = 16 * maxText
	clean := secrets.String(text[:min(len(text), mostLookedAt)])
	if len(clean) <= maxText {
		return strings.ToValidUTF8(clean, "\uFFFD")
	}
	return strings.ToValidUTF8(clean[:maxText], "\uFFFD") + "…"
}
