package logscan

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// shapes are the ways in which a line that a guest printed can stand in a
// log.
var shapes = []struct {
	name  string
	field bool // the record names the sandbox
	wrap  func(string) string
}{
	{"raw", false, func(s string) string { return s }},
	{"raw with carriage return", false, func(s string) string { return s + "\r" }},
	{"raw in colour", false, func(s string) string { return "\x1b[0;31m" + s + "\x1b[0m\x1b[K\r" }},
	{"kernel log", false, func(s string) string { return "[    5.123456] " + s + "\r" }},
	{"console", true, func(s string) string { return "2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  " + s + "  " + fields }},
	{"console with carriage return", true, func(s string) string {
		return "2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  " + s + "\r  " + fields
	}},
	{"console, kernel log", true, func(s string) string {
		return "2026-01-20T10:00:01.250+0100  INFO  [   12.000001] " + s + "\r  " + fields
	}},
	{"JSON", true, func(s string) string { return inJSON("msg", "ts", s) }},
	{"JSON with carriage return", true, func(s string) string { return inJSON("message", "timestamp", s+"\r") }},
	{"JSON with colours and NUL", true, func(s string) string { return inJSON("message", "timestamp", "\x00\x1b[1m"+s+"\x1b[0m") }},
}

// kernelStamp is what the kernel puts before its lines.
const kernelStamp = "[    5.123456] "

// stamped puts the kernel's stamp before a text in a shape that has none.
func stamped(shape, text string) string {
	if strings.Contains(shape, "kernel log") {
		return text
	}
	return kernelStamp + text
}

func inJSON(messageKey, timeKey, message string) string {
	data, err := json.Marshal(map[string]any{
		messageKey: message, timeKey: "2026-01-20T10:00:01.250Z", "level": "info", "service": "orchestrator", "sandbox.id": "iours",
	})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// scanAll feeds a text in pieces and returns what was found about iours.
func scanAll(pieces ...string) *evidence.Log {
	log := &evidence.Log{}
	s := newScan("iours", evidence.CanaryLine("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), nil, redact.New(), log)
	offset := int64(0)
	for _, p := range pieces {
		s.feed("stream", "file", offset, []byte(p))
		offset += int64(len(p))
	}
	s.finish()
	return log
}

// TestRulesInEveryShape: every sample of every rule, in every shape, wherever
// the bytes are cut.
func TestRulesInEveryShape(t *testing.T) {
	for _, rule := range rules {
		if len(rule.Samples) == 0 {
			t.Errorf("%s has no samples", rule.ID)
		}
		for _, sample := range rule.Samples {
			for _, shape := range shapes {
				t.Run(fmt.Sprintf("%s/%s/%.30s", rule.ID, shape.name, sample), func(t *testing.T) {
					said := sample
					if rule.Kernel {
						said = stamped(shape.name, sample)
					}
					text := "something before\n" + shape.wrap(said) + "\nsomething after\n"
					whole := scanAll(text)
					if len(whole.Findings) != 1 {
						t.Fatalf("%d findings, want 1, in %q: %+v", len(whole.Findings), text, whole.Findings)
					}
					got := whole.Findings[0]
					want := evidence.ByWindow
					if shape.field {
						want = evidence.ByField
					}
					if got.Rule != rule.ID || got.Class != rule.Class || got.Message != sample || got.Confidence != want {
						t.Errorf("found %s %s by %s: %q; want %s %s by %s: %q",
							got.Rule, got.Class, got.Confidence, got.Message, rule.ID, rule.Class, want, sample)
					}
					if at := int64(len("something before\n")); got.Offset != at {
						t.Errorf("offset %d, want %d", got.Offset, at)
					}
					// Records and findings depend on the lines alone.
					lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
					for cut := range len(text) {
						var again []string
						s := &splitter{emit: func(l line) { again = append(again, string(l.data)) }}
						s.feed("file", 0, []byte(text[:cut]))
						s.feed("file", int64(cut), []byte(text[cut:]))
						if !slices.Equal(again, lines) {
							t.Fatalf("cut at %d: lines %q, want %q", cut, again, lines)
						}
					}
				})
			}
		}
	}
}

// TestRuleIDs: identifiers are written into evidence and must stay unique.
func TestRuleIDs(t *testing.T) {
	seen := map[string]bool{fragmentRule.ID: true, "CG0L0": true}
	for _, rule := range rules {
		if seen[rule.ID] || rule.ID == "" || rule.Meaning == "" || rule.Class == "" {
			t.Errorf("rule %q is not unique or not whole: %+v", rule.ID, rule)
		}
		seen[rule.ID] = true
	}
}

// TestDetails: what a failure line tells of group, property and error.
func TestDetails(t *testing.T) {
	for _, test := range []struct{ line, rule, group, property, errno string }{
		{
			"failed to create cgroup2 manager: failed to create cgroups: failed to create user cgroup: failed to write cgroup property: open /sys/fs/cgroup/user/memory.high: permission denied",
			"CG002", "user", "memory.high", "permission denied",
		},
		{"failed to write cgroup property: open /sys/fs/cgroup/user/cpu.weight: permission denied", "CG002", "user", "cpu.weight", "permission denied"},
		{
			"failed to create pty cgroup: failed to write cgroup property: open /sys/fs/cgroup/ptys/cpu.weight: permission denied",
			"CG002", "ptys", "cpu.weight", "permission denied",
		},
		{
			`failed to create socat cgroup: failed to write cgroup property "memory.min": write /custom/root/socats/memory.min: device or resource busy`,
			"CG002", "socats", "memory.min", "device or resource busy",
		},
		{`cgroup property "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`, "CG004", "user", "io.weight", ""},
		{`cgroup property "cpu.weight" unavailable at "/custom root/ptys", skipping`, "CG004", "ptys", "cpu.weight", ""},
		{
			"failed to create cgroup2 manager: failed to create cgroups: failed to create pty cgroup: failed to create cgroup root: mkdir /sys/fs/cgroup/ptys: read-only file system",
			"CG007", "ptys", "", "read-only file system",
		},
		{"failed to create socat cgroup: too many open files", "CG007", "socats", "", "too many open files"},
		{"failed to create cgroup root: mkdir /sys/fs/cgroup/user: operation not permitted", "CG007", "", "", "operation not permitted"},
		{"failed to calculate host metrics: open /proc/meminfo: no such file or directory", "CG009", "", "", "open /proc/meminfo: no such file or directory"},
		{"falling back to no-op cgroup manager", "CG003", "", "", ""},
	} {
		log := scanAll(test.line + "\n")
		if len(log.Findings) != 1 {
			t.Errorf("%q: %d findings", test.line, len(log.Findings))
			continue
		}
		f := log.Findings[0]
		if f.Rule != test.rule || f.Group != test.group || f.Property != test.property || f.Errno != test.errno {
			t.Errorf("%q:\ngot  %s group %q property %q errno %q\nwant %s group %q property %q errno %q",
				test.line, f.Rule, f.Group, f.Property, f.Errno, test.rule, test.group, test.property, test.errno)
		}
	}
}

// TestNotFailures: lines with the words of a failure that are none, and must
// neither make a template red nor be passed over when they are trouble.
func TestNotFailures(t *testing.T) {
	const nothing = evidence.FindingClass("")
	for _, test := range []struct {
		name, message string
		want          evidence.FindingClass
	}{
		{"an unrelated failure", "failed to create sandbox: no capacity", nothing},
		{"an unrelated write", "failed to write file: no space left", nothing},
		{"an unrelated fallback", "falling back to polling", nothing},
		{"the word alone", "created cgroup for sandbox", nothing},
		{"the mended init's banner", "✓ Filesystems mounted (with cgroup delegation)", evidence.FindingControl},
		{"the banner, reworded", "Filesystems mounted with cgroup v2 delegation", nothing},
		{"the kernel", "[    0.010000] cgroup: Unknown subsys name 'foo'", evidence.FindingBenign},
		{"a memcg OOM kill", "[   99.1] Memory cgroup out of memory: Killed process 77 (stress)", evidence.FindingBenign},
		{"systemd", "[    2.5] systemd[1]: Failed to reset cgroup property: x", evidence.FindingBenign},
		{"the kernel's command line", "[    0.0] Kernel command line: init=/sbin/init cgroup_no_v1=all failover", evidence.FindingBenign},
		{
			"envd's logger quotes a command",
			`{"level":"info","event_type":"process_start","command":"grep -E 'falling back to no-op cgroup manager' /x","message":"Process with pid 9 started"}`, nothing,
		},
		{
			"envd's logger quotes output with a line's end",
			`{"level":"info","event_type":"stdout","data":"x\nfailed to create cgroup2 manager: y\n","message":"Streaming process event (flush)"}`, nothing,
		},
		// Damaged on its way, the same may be anything.
		{"a quoted command, cut in front", `grep falling back to no-op cgroup manager /x","message":"Process with pid 9 started"}`, evidence.FindingUnknown},
		{"a quoted command, cut behind", `{"level":"info","command":"grep falling back to no-op cgroup manager`, evidence.FindingUnknown},
		{"cut by a kernel line", "failed to create cgr[    1.23] random: crng init done", evidence.FindingUnknown},
		{"a line that was cut by any other", "failed to create socat cghandled", evidence.FindingUnknown},
		{"a line that was cut by any other", "failed to calculahandled", evidence.FindingUnknown},
		{"a line that was cut by any other", "failed to calculate host methandled", evidence.FindingUnknown},
		{"the rest of a cut line", "oup2 manager: failed to create groups", evidence.FindingUnknown},
		{"the rest of a cut line", "k to no-op cgr", evidence.FindingUnknown},
		{"the rest of a cut line", "ling back to no-", evidence.FindingUnknown},
		{"the rest of a cut line, cut by any other", "ling back to no-ophandled", evidence.FindingUnknown},
		{"the rest of a cut line, cut by another", "ling back to no-op [    1.23] random: crng init done", evidence.FindingUnknown},
		{"the rest of a cut line, cut by another", "ling back to no-INFO handled", evidence.FindingUnknown},
		{"the rest of a cut line", "led to create cgroup root", evidence.FindingUnknown},
		{"the rest of a cut line", "led to create cgro", evidence.FindingUnknown},
		{"the rest of a cut line", "led to create cgroups", evidence.FindingUnknown},
		{"the rest of a cut line", "ups disabled via --no-cgrou", evidence.FindingUnknown},
		{"the rest of a cut line", "cgroups disa", evidence.FindingUnknown},
		// Others' words that cannot be told from a part of envd's.
		{"a word that begins as envd's", "failed to create user cgi directory", evidence.FindingUnknown},
		{"the end of a line within envd's words", "falling back to no-op", evidence.FindingUnknown},
		{"a word that envd's failure goes on with", "will create cgroups for the job", evidence.FindingUnknown},
		{"a new text", "memory cgroup limits were not applied: device or resource busy", evidence.FindingUnknown},
		{"a new text", "Cgroup v3 unavailable", evidence.FindingUnknown},
		{"freezing", "freeze user cgroup: permission denied", evidence.FindingUnknown},
		{"the node's own cgroups", "failed to create cgroup directory: mkdir /sys/fs/cgroup/e2b/x: no space left on device", evidence.FindingUnknown},
		{"a boot line within another", "echo === Starting envd === again", nothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, shape := range shapes {
				if strings.HasPrefix(shape.name, "kernel") || strings.HasSuffix(shape.name, "kernel log") && strings.HasPrefix(test.message, "[") {
					continue // the message has that prefix already
				}
				log := scanAll(shape.wrap(test.message) + "\n")
				got := nothing
				if len(log.Findings) > 0 {
					got = log.Findings[0].Class
				}
				if got != test.want || len(log.Findings) > 1 {
					t.Errorf("%s: class %q, want %q: %+v", shape.name, got, test.want, log.Findings)
				}
			}
		})
	}
}

// TestFailuresBehindHarmless: a line that begins as a harmless one does hides no
// failure's words, and keeps its own.
func TestFailuresBehindHarmless(t *testing.T) {
	harmless := []string{
		"systemd[1]: Started envd.service (cgroup v2).", "systemd[1]: envd.service: cgroup", "cgroup: option",
		"Command line: console=ttyS0 cgroup_disable=memory", "Memory cgroup out of memory: Killed process 77 (stress)",
	}
	for _, rule := range rules {
		if rule.Class == evidence.FindingBenign {
			harmless = append(harmless, rule.Samples...)
		}
	}
	for _, rule := range rules {
		if rule.Class != evidence.FindingFailure {
			continue
		}
		for _, sample := range rule.Samples {
			for _, before := range harmless {
				for _, between := range []string{"", " ", ": "} {
					log := scanAll(before + between + sample + "\n")
					if len(log.Findings) != 1 || log.Findings[0].Class != evidence.FindingUnknown {
						t.Errorf("%s: %q: %+v, want one unknown finding", rule.ID, before+between+sample, log.Findings)
					}
				}
			}
		}
	}
	for _, message := range []string{
		"systemd[1]: envd.service: failed to create cgroup2 manager: permission denied", "systemd[1]: cgroup v2 is ready. back to no-op cgroup man",
	} {
		if log := scanAll(message + "\n"); len(log.Findings) != 1 || log.Findings[0].Class != evidence.FindingUnknown {
			t.Errorf("%q: %+v, want one unknown finding", message, log.Findings)
		}
	}
	for _, message := range []string{
		"systemd[1]: Failed to create cgroup /init.scope: Permission denied", "systemd[1]: Failed to reset cgroup property: x",
		"systemd[1]: Mounting a cgroup2 filesystem", kernelStamp + "Kernel command line: console=ttyS0 cgroup_no_v1=all failover",
	} {
		if log := scanAll(message + "\n"); len(log.Findings) != 1 || log.Findings[0].Class != evidence.FindingBenign {
			t.Errorf("%q: %+v, want one harmless finding", message, log.Findings)
		}
	}
}

// TestOtherOrder: a failure or an unknown trouble of which the words before and
// behind "cgroup" have changed places is trouble still.
func TestOtherOrder(t *testing.T) {
	for _, rule := range rules {
		if rule.Class != evidence.FindingFailure && rule.Class != evidence.FindingUnknown {
			continue
		}
		for _, sample := range rule.Samples {
			before, behind, ok := strings.Cut(sample, "cgroup")
			if !ok {
				continue
			}
			for _, shape := range shapes {
				text := strings.TrimSpace(behind + " cgroup " + before)
				log := scanAll(shape.wrap(text) + "\n")
				if len(log.Findings) != 1 || log.Findings[0].Class != evidence.FindingUnknown {
					t.Errorf("%s, %s: %q: %+v, want one unknown finding", rule.ID, shape.name, text, log.Findings)
				}
			}
		}
	}
}

// TestHarmless: lines that speak of cgroups as healthy guests and nodes print
// them, with words that are like those of trouble.
func TestHarmless(t *testing.T) {
	for _, message := range []string{
		"busybox init: mounting cgroup2 on /sys/fs/cgroup", "mounted cgroup2 by busybox", "Filesystems mounted with cgroup v2 delegation",
		"cgroup memory moving (move_charge_at_immigrate) is deprecated", "Memory cgroup stats for /user:",
		"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=user,mems_allowed=0,oom_memcg=/user,task_memcg=/user,task=stress,pid=77,uid=0",
		"? __mem_cgroup_charge+0x2e/0x90", "mem_cgroup_out_of_memory+0x13e/0x160",
		"cgroup: Disabling memory control group subsystem", "cgroup: Unknown subsys name 'net_cls'",
		`cgroup: cgroup2: unknown option "memory_recursiveprot"`,
		"systemd[1]: cgroup compatibility translation between legacy and unified hierarchy settings activated. See cgroup-compat debug messages for details.",
		"systemd[1]: Using unified cgroup hierarchy.", "created cgroup for sandbox", "Starting the cgroup helper",
		kernelStamp + "Kernel command line: root=/dev/vda cgroup_disable=memory audit=disabled",
		kernelStamp + "cgroup: fork rejected by pids controller in /user",
		"openrc: Mounting cgroup filesystem ... [ ok ]", "the setting and the limits of cgroup user are not yet read",
	} {
		for _, shape := range shapes {
			said := message
			if strings.Contains(shape.name, "kernel log") {
				said = strings.TrimPrefix(message, kernelStamp)
			}
			for _, f := range scanAll(shape.wrap(said) + "\n").Findings {
				if f.Class != evidence.FindingBenign && f.Class != evidence.FindingControl {
					t.Errorf("%s: %q is %s by %s", shape.name, message, f.Class, f.Rule)
				}
			}
		}
	}
}

// TestNotTheKernels: a line that begins as the kernel's or systemd's do, and is
// another's, hides no trouble beside a healthy boot.
func TestNotTheKernels(t *testing.T) {
	for _, message := range []string{
		"cgroup: failed to set up the hierarchy: permission denied", "envd[12]: cgroup: failed to set up the hierarchy: permission denied",
		"cgroup: cgroup2: permission denied, running without limits", "cgroup: option memory.high rejected: invalid argument",
		"cgroup: Disabling limits, since memory.high: permission denied", "cgroup: Disabling memory control group subsystem: permission denied",
		"systemd cgroup driver failed: permission denied", "systemd: cgroup of envd could not be created, limits disabled",
		"Memory cgroup out of memory: limits not applied", "envd[12]: Command line: cgroup limits disabled",
		"envd[12]: cgroup: fork rejected by pids controller in /user",
	} {
		wantUnknown(t, message, func(string) bool { return true })
	}
	// The kernel's words whole, without its stamp.
	for _, message := range []string{
		"cgroup: fork rejected by pids controller in /user", "Command line: echo; cgroup limits not applied: permission denied",
		"Kernel command line: cgroup limits not applied", `Unknown kernel command line parameters "cgroup limits disabled", will be passed to user space.`,
	} {
		wantUnknown(t, message, func(shape string) bool { return !strings.Contains(shape, "kernel log") })
	}
}

// wantUnknown wants one unknown finding beside a boot, in some shapes.
func wantUnknown(t *testing.T, message string, in func(shape string) bool) {
	t.Helper()
	for _, shape := range shapes {
		if !in(shape.name) {
			continue
		}
		log := scanAll(record("iours", boot[0]), shape.wrap(message)+"\n")
		if len(log.Findings) != 2 || log.Findings[1].Class != evidence.FindingUnknown {
			t.Errorf("%s: %q: %+v, want one unknown finding beside the boot", shape.name, message, log.Findings)
		}
	}
}

// TestFailuresWithinLines: a failure's words in the middle of a line make no
// failure, and are not passed over either.
func TestFailuresWithinLines(t *testing.T) {
	for _, rule := range rules {
		if rule.Class != evidence.FindingFailure {
			continue
		}
		for _, sample := range rule.Samples {
			log := scanAll("crng init done" + sample + "\n")
			if len(log.Findings) != 1 || log.Findings[0].Class != evidence.FindingUnknown {
				t.Errorf("%s within a line: %+v, want one unknown finding", rule.ID, log.Findings)
			}
			log = scanAll(sample + "[    1.23] random: crng init done\n")
			if len(log.Findings) != 1 || log.Findings[0].Class != evidence.FindingFailure {
				t.Errorf("%s with a kernel line behind it: %+v, want one failure", rule.ID, log.Findings)
			}
		}
	}
}

// TestJoinedErrors: the text of errors.Join is several lines, each of which
// is a record of its own.
func TestJoinedErrors(t *testing.T) {
	lines := []string{
		"failed to create cgroup2 manager: failed to create cgroups: failed to create user cgroup: failed to write cgroup property: open /sys/fs/cgroup/user/memory.high: permission denied",
		"failed to write cgroup property: open /sys/fs/cgroup/user/cpu.weight: permission denied",
		"failed to create pty cgroup: failed to write cgroup property: open /sys/fs/cgroup/ptys/cpu.weight: permission denied",
		"falling back to no-op cgroup manager",
	}
	var text strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&text, "2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  %s\r  %s\n", line, fields)
	}
	log := scanAll(text.String())
	got := make([]string, 0, len(lines))
	for _, f := range log.Findings {
		got = append(got, fmt.Sprintf("%s %s/%s by %s", f.Rule, f.Group, f.Property, f.Confidence))
	}
	want := []string{"CG002 user/memory.high by field", "CG002 user/cpu.weight by field", "CG002 ptys/cpu.weight by field", "CG003 / by field"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if log.OwnRecords != len(lines) {
		t.Errorf("%d own records, want %d", log.OwnRecords, len(lines))
	}
}

// TestStackTrace: zap prints stack traces on lines of their own; a package's
// name is no trouble.
func TestStackTrace(t *testing.T) {
	log := scanAll("2026-01-20T10:00:01.250Z  \x1b[31mERROR\x1b[0m  sandbox failed  " + fields + "\n" +
		"github.com/e2b-dev/infra/packages/orchestrator/pkg/sandbox/cgroup.(*managerImpl).failHandler\n" +
		"\t/build/packages/orchestrator/pkg/sandbox/cgroup/errors.go:63\n" +
		"runtime.goexit\n\t/usr/local/go/src/runtime/asm_amd64.s:1700\n")
	for _, f := range log.Findings {
		if f.Class != evidence.FindingBenign {
			t.Errorf("a stack trace made a finding: %+v", f)
		}
	}
}

// TestFindingsAreBounded: a guest that floods its console fills neither the
// findings nor the ledger, and the ledger says so.
func TestFindingsAreBounded(t *testing.T) {
	log := scanAll(strings.Repeat("falling back to no-op cgroup manager\n", 3*maxFindings))
	if len(log.Findings) != maxFindings || len(log.Holes) != 1 {
		t.Errorf("%d findings and %d holes, want %d and 1", len(log.Findings), len(log.Holes), maxFindings)
	}
	log = scanAll(strings.Repeat("systemd[1]: Detected cgroup v2 with unified hierarchy\n", 3*maxFindings) + "falling back to no-op cgroup manager\n")
	if n := len(log.Findings); n != maxHarmless+1 || log.Findings[n-1].Rule != "CG003" || len(log.Holes) != 0 {
		t.Errorf("harmless lines keep a failure out: %d findings, holes %q", n, log.Holes)
	}
	log = scanAll("falling back to no-op cgroup manager" + strings.Repeat("\xff!", maxLine) + "\n")
	for _, f := range log.Findings {
		if len(f.Raw) > 4*maxText || len(f.Message) > 4*maxText {
			t.Errorf("a finding of %d and %d bytes", len(f.Message), len(f.Raw))
		}
	}
}

// TestLongOutput: what a user's process of another sandbox printed, as an older
// envd escapes it, is that sandbox's however long it is.
func TestLongOutput(t *testing.T) {
	data := `{"level":"info","data":"` + strings.Repeat(`\u0000`, 96<<10) + `","message":"Streaming process event (flushed)"}`
	for name, text := range map[string]string{"console": record("iother", data), "JSON": strings.ReplaceAll(inJSON("message", "timestamp", data), "iours", "iother") + "\n"} {
		if log := scanAll(text); len(log.Findings) != 0 {
			t.Errorf("%s: %+v", name, log.Findings[0])
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, rule := range rules {
		for _, sample := range rule.Samples {
			f.Add(sample)
		}
	}
	f.Add("failed to create cgr[    1.23] random: crng init done")
	f.Add("failed to create user c[    1.23] random: crng init done")
	f.Add(`rty "io.weight" unavailable at "/x"`)
	f.Fuzz(func(t *testing.T, message string) {
		record := Record{Message: normalise(message)}
		rule := Classify(record)
		if rule == nil {
			return
		}
		found := rule.finding(record, []byte(message), redact.New())
		if found.Rule != rule.ID || found.Class == "" {
			t.Errorf("rule %s made %+v", rule.ID, found)
		}
		if rule.Class == evidence.FindingFailure && !strings.HasPrefix(record.Message, "f") && !strings.HasPrefix(record.Message, "cgroup") {
			t.Errorf("%q is a failure of %s although it does not begin as envd's lines do", record.Message, rule.ID)
		}
	})
}

// TestOthers: lines that look like a rule's and are not.
func TestOthers(t *testing.T) {
	for _, rule := range rules {
		if rule.Class == evidence.FindingFailure && (len(rule.Others) == 0 || len(rule.Says) == 0) {
			t.Errorf("%s has no lines that it must not match, or does not say what it means", rule.ID)
		}
		for _, other := range rule.Others {
			for _, shape := range shapes {
				for _, f := range scanAll(shape.wrap(other) + "\n").Findings {
					if f.Class == evidence.FindingFailure || f.Rule == rule.ID {
						t.Errorf("%s, %s: %q is %s by %s", rule.ID, shape.name, other, f.Class, f.Rule)
					}
				}
			}
		}
	}
}

// cutters are lines that come out in the midst of envd's: the kernel's,
// Firecracker's, which shares its standard output with the console (firecracker
// src/vmm/src/logger), and other programs'.
var cutters = []string{
	"[    1.234567] random: crng init done",
	"2026-01-20T10:00:01.250123456 [anonymous-instance:fc_api:INFO] The API server received a Get request on \"/\".",
	`{"level":"info","ts":1768903201.25,"msg":"handled"}`,
	"2026/01/20 10:00:01 handled", "Jan 20 10:00:01 node sshd[77]: handled", `time="2026-01-20T10:00:01Z" level=info msg=handled`,
	"level=info msg=handled", "<6>handled", "I0120 10:00:01.250123 77 main.go:7] handled", "INFO handled",
}

// TestTruncated: of a failure that is cut anywhere, as the kernel does that
// prints a message of its own into it, nothing but a failure or an unknown line
// is made, and one side at least is not silent.
func TestTruncated(t *testing.T) {
	for _, rule := range rules {
		if rule.Class != evidence.FindingFailure {
			continue
		}
		for _, sample := range rule.Samples {
			for cut := range len(sample) {
				for _, shape := range shapes {
					for _, cutter := range append([]string{""}, cutters...) {
						parts := []string{sample[:cut] + cutter, sample[cut:]}
						found := 0
						for _, part := range parts {
							log := scanAll(shape.wrap(part) + "\n")
							if len(log.Findings) > 1 {
								t.Fatalf("%s, %s: %q has %d findings", rule.ID, shape.name, part, len(log.Findings))
							}
							loud := strings.Contains(part, "cgroup2 manager") || strings.Contains(part, "cgroup property") || strings.Contains(part, "no-op cgroup")
							if loud && len(log.Findings) == 0 {
								t.Errorf("%s, %s: %q is silent", rule.ID, shape.name, part)
							}
							found += len(log.Findings)
							for _, f := range log.Findings {
								if f.Class != evidence.FindingFailure && f.Class != evidence.FindingUnknown {
									t.Errorf("%s, %s: %q is %s by %s", rule.ID, shape.name, part, f.Class, f.Rule)
								}
								// The error's text is all that a cut may take away unnoticed.
								if f.Property != "" && !strings.Contains(sample, f.Property) || f.Group != "" && !strings.Contains(sample, strings.TrimSuffix(f.Group, "s")) {
									t.Errorf("%s, %s: %q names %s of %s", rule.ID, shape.name, part, f.Property, f.Group)
								}
							}
						}
						if found == 0 {
							t.Errorf("%s, %s: nothing was heard of either of %q", rule.ID, shape.name, parts)
						}
					}
				}
			}
		}
	}
}

// TestNotTorn: what others print, whole or cut, is no part of envd's failures.
func TestNotTorn(t *testing.T) {
	for _, message := range []string{
		"failed to create user c3po: exists", "failed to create user c: exists", "failed to create user ck9f3Ab: exists", "failed to create user C: x",
		"failed to create pty connection", "failed to create socat command: x", "failed to create socat container", "failed to create user cK9: x",
		"failed to calculate CPU usage", "failed to calculate SHA256: x", "failed to calculate hash", "failed to calculate host memory: x",
		"failed to calculate 7 sums", "failed to calculate host CPU usage", "failed to calculate latency", "failed to calculate {x}",
		"failed to create user", "failed to create user config", "failed to create user context: x", "failed to create pty", "failed to create pty: x",
		"failed to create socat", "failed to create socket: x", "failed to create s[    1.23] random: crng init done",
		"failed to calculate the size", "failed to call home", "failed to c", "failed to ",
		"Telemetry disabled via DO_NOT_TRACK=1", "x86/fpu: xsave disabled via command line", "feature disabled via --no-color",
		"falling back to no-op tracer provider", "falling back to no-op meter", "switching back to no-cache mode", "falling back to no-op, as asked",
		"going back to no-8 of the list", "will create cgroup for the job", "will create cgroup: job 7", "created cgroup for the job",
		"failed to get host metrics", "failed to update host metrics: x", "host metrics: 5 CPUs", "service unavailable", `dashboard "x" available at "http://x"`,
	} {
		for _, shape := range shapes {
			if log := scanAll(shape.wrap(message) + "\n"); len(log.Findings) != 0 {
				t.Errorf("%s: %q: %+v", shape.name, message, log.Findings)
			}
		}
	}
}

// TestDocumented: every rule stands in docs/logs.md with its words.
func TestDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range append(slices.Clone(rules), fragmentRule, oversizeRule) {
		if rule.Class != evidence.FindingFailure && rule.Class != evidence.FindingUnknown {
			continue
		}
		if row := fmt.Sprintf("| `%s` | %s |", rule.ID, rule.Meaning); !strings.Contains(string(data), row) {
			t.Errorf("docs/logs.md has no row %s", row)
		}
	}
}

// TestBenignKeepsNoWaivedOut: what is waived is told, however many benign lines
// came before it.
func TestBenignKeepsNoWaivedOut(t *testing.T) {
	log := &evidence.Log{}
	waiver := Waiver{Match: regexp.MustCompile("frobnicate"), Reason: "TICKET-1", Expires: time.Now().Add(time.Hour)}
	s := newScan("iours", "", []Waiver{waiver}, redact.New(), log)
	s.feed("a", "a", 0, []byte(strings.Repeat("systemd[1]: Detected cgroup v2 with unified hierarchy\n", 2*maxHarmless)+"cgroup subsystem frobnicate failed\n"))
	s.finish()
	if n := len(log.Findings); n != maxHarmless+1 || log.Findings[n-1].Class != evidence.FindingWaived {
		t.Errorf("%d findings, the last is %+v", n, log.Findings[n-1])
	}
}

// TestNoHalfOfASecretInFindings: a secret is taken out before a line is cut, in
// the window, in what is shown live, and in what the API keeps.
func TestNoHalfOfASecretInFindings(t *testing.T) {
	const secret = "Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7"
	secrets := redact.New(secret)
	const says = "falling back to no-op cgroup manager "
	for before := maxText - 2*len(secret) - len(says); before <= maxText; before++ {
		text := says + strings.Repeat(".", before) + secret
		log := &evidence.Log{}
		s := newScan("iours", "", nil, secrets, log)
		s.feed("a", "a", 0, []byte(record("iours", text)))
		s.finish()
		found := slices.Concat(log.Findings, Said(text, time.Now(), secrets))
		showLine(record("iours", text), "iours", secrets, func(l Line) { found = append(found, evidence.Finding{Message: l.Message}) })
		if len(found) != 3 {
			t.Fatalf("%d findings after %d bytes, want 3", len(found), before)
		}
		for _, f := range found {
			if strings.Contains(f.Message+f.Raw, secret[:3]) {
				t.Fatalf("after %d bytes: %+v", before, f)
			}
		}
	}
}
