package logscan

import (
	"encoding/json"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"sandproof/internal/evidence"
)

// fields are the trailing fields of a sandbox's console record, as the
// orchestrator's loggers write them (e2b-dev/infra
// packages/shared/pkg/logger/sandbox).
const fields = `{"service": "orchestrator", "internal": true, "pid": 4711, "sandbox.id": "iours", "template.id": "tpl", "team.id": "t", "instanceID": "iours", "envID": "tpl"}`

func TestParse(t *testing.T) {
	const stamp = "2026-01-20T10:00:01.250Z"
	at := time.Date(2026, 1, 20, 10, 0, 1, 250e6, time.UTC)
	for _, test := range []struct {
		name, line string
		want       Record
	}{
		{"raw", "=== Starting envd ===", Record{Message: "=== Starting envd ==="}},
		{"raw with carriage return", "=== Starting envd ===\r", Record{Message: "=== Starting envd ==="}},
		{"empty", "", Record{}},
		{"kernel", "[    1.234567] random: crng init done", Record{Message: "random: crng init done", Kernel: true}},
		{"journal on the console", "[    5.123456] envd[245]: falling back", Record{Message: "falling back"}},
		{"systemd keeps its name", "[    2.5] systemd[1]: Detected cgroup v2", Record{Message: "systemd[1]: Detected cgroup v2"}},
		{
			"console with colours", stamp + "  \x1b[34mINFO\x1b[0m  hello there\r  " + fields,
			Record{Time: at, Message: "hello there", SandboxID: "iours", TemplateID: "tpl"},
		},
		{
			"console with a time zone", "2026-01-20T18:00:01.250+0800  INFO  hello  " + fields,
			Record{Time: at, Message: "hello", SandboxID: "iours", TemplateID: "tpl"},
		},
		{
			"console, message with two blanks and a brace", stamp + `  INFO  set  {"a" broken  {x}  ` + fields,
			Record{Time: at, Message: `set {"a" broken {x}`, SandboxID: "iours", TemplateID: "tpl"},
		},
		{
			"console, a message that poses as fields", stamp + `  INFO  hi  {"sandbox.id": "iother"}  ` + fields,
			Record{Time: at, Message: `hi {"sandbox.id": "iother"}`, SandboxID: "iours", TemplateID: "tpl"},
		},
		{
			"console, a field that quotes fields", stamp + `  WARN  hi  {"error": "x  {\"sandbox.id\": \"iother\"}", "sandbox.id": "iours"}`,
			Record{Time: at, Message: "hi", SandboxID: "iours"},
		},
		{"console without message", stamp + "  INFO  " + fields, Record{Time: at, SandboxID: "iours", TemplateID: "tpl"}},
		{"console without fields", stamp + "  INFO  torn off  {\"sandb", Record{Time: at, Message: `torn off {"sandb`}},
		{
			"JSON", `{"level":"info","timestamp":"2026-01-20T10:00:01.25Z","message":"denied\r","sandbox.id":"iours"}`,
			Record{Time: at, Message: "denied", SandboxID: "iours"},
		},
		{
			"JSON, other names of the same", `{"level":"info","ts":"2026-01-20T10:00:01.250+0000","msg":"a \u001b[31mb\u001b[0m","sandboxID":"iours"}`,
			Record{Time: at, Message: "a b", SandboxID: "iours"},
		},
		{"JSON by instanceID", `{"message":"x","instanceID":"iours"}`, Record{Message: "x", SandboxID: "iours"}},
		{"JSON by sandbox_id", `{"message":"x","sandbox_id":"iours"}`, Record{Message: "x", SandboxID: "iours"}},
		{
			"envd's own logger, raw on the console",
			`{"level":"info","event_type":"process_start","command":"sh -c 'echo falling back'","message":"Process with pid 7 started"}`,
			Record{Message: "Process with pid 7 started"},
		},
		{
			"envd's own logger, in a console record", stamp + `  INFO  {"level":"info","command":"x","message":"m"}` + "\r  " + fields,
			Record{Time: at, Message: `{"level":"info","command":"x","message":"m"}`, SandboxID: "iours", TemplateID: "tpl", Structured: true},
		},
		{
			"envd's own logger, in a JSON record", `{"message":"{\"level\":\"info\",\"command\":\"x\"}\r","sandbox.id":"iours"}`,
			Record{Message: `{"level":"info","command":"x"}`, SandboxID: "iours", Structured: true},
		},
		{"a line of the orchestrator without fields", "-> [sandbox iours]: initialized new envd", Record{Message: "-> [sandbox iours]: initialized new envd", SandboxID: "iours", ByText: true}},
		{"the same words in a guest's mouth", "echo -> [sandbox iours]: x", Record{Message: "echo -> [sandbox iours]: x"}},
		{"damaged JSON is raw text", `{"level":"info","command":"x`, Record{Message: `{"level":"info","command":"x`}},
		{"NUL, bell and C1 controls are blanks", "a\x00b\x07c\u009bd", Record{Message: "a b c d"}},
		{"OSC title", "\x1b]0;title\x07text", Record{Message: "text"}},
		{"OSC without end", "\x1b]0;title text", Record{Message: "0;title text"}},
		{"a carriage return hides nothing", "secret\rvisible", Record{Message: "secret visible"}},
		{"invalid UTF-8", "a\xffb", Record{Message: "a\uFFFDb"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Parse([]byte(test.line))
			if !got.Time.IsZero() {
				got.Time = got.Time.UTC()
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Record{})); diff != "" {
				t.Errorf("Parse(%q), -want +got:\n%s", test.line, diff)
			}
		})
	}
}

// TestParseHostile: what a guest can put on one line must not stop the reader.
func TestParseHostile(t *testing.T) {
	const stamp = "2026-01-20T10:00:01.250Z  INFO  "
	for name, unit := range map[string]string{
		"objects within objects": `  {"a":`, "open braces": "  {", "blanks": "  ", "escapes": "\x1b[", "brackets": "[ 1.", "quotes": `"`,
	} {
		t.Run(name, func(t *testing.T) {
			line := stamp + strings.Repeat(unit, maxLine/len(unit))
			// By the clock of this thread alone, whatever else the machine does.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started := threadTime(t)
			Classify(Parse([]byte(line)))
			// Some ms, or some hundred with the race detector; a parser that
			// tries every brace takes very much longer.
			if took := threadTime(t) - started; took > 2*time.Second {
				t.Errorf("one line of %d bytes took %s", len(line), took)
			}
		})
	}
}

// threadTime is the CPU time that this thread has used.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "=== Starting envd ===\r", "[    1.2] envd[7]: x", "2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  m\r  " + fields,
		`{"message":"m","sandbox.id":"i"}`, `{"message":"{\"a\":1}"}`, `{"msg":"m","ts":1768903201.25}`, `{"log":"{\"MESSAGE\":[10,27,93,48]}"}`, "\x1b]0;t\x07\x00\xff\u009b", "2026-01-20T10:00:01.250Z  INFO  {",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r := Parse(line)
		if !utf8.ValidString(r.Message) {
			t.Errorf("the message is no valid UTF-8: %q", r.Message)
		}
		if strings.ContainsFunc(r.Message, unicode.IsControl) {
			t.Errorf("the message holds control characters: %q", r.Message)
		}
		if strings.Contains(r.Message, "  ") || strings.TrimSpace(r.Message) != r.Message {
			t.Errorf("the message holds runs of blanks: %q", r.Message)
		}
		if again := normalise(r.Message); again != r.Message {
			t.Errorf("normalising twice changes the message: %q, then %q", r.Message, again)
		}
		Classify(r)
	})
}

// A guest cannot hide whose line it is behind an escape sequence that it does
// not finish.
func TestUnfinishedEscapeHidesNothing(t *testing.T) {
	for _, tail := range []string{"\x1b", "\x1b[", "\x1b[1;3", "\x1b]0;title", "\x1b[\r"} {
		line := "2026-11-23T12:00:00.000Z  \x1b[34mINFO\x1b[0m  falling back to no-op cgroup manager" + tail + `  {"sandbox.id":"i1","service":"orchestrator"}`
		r := Parse([]byte(line))
		if rule := Classify(r); r.SandboxID != "i1" || rule == nil || (rule.ID != "CG003" && rule.Class != "unknown") {
			t.Errorf("%q gave %+v, %+v", tail, r, rule)
		}
	}
}

// TestTimes: times of JSON records, and what is none: a record that is taken for
// an old one is passed over.
func TestTimes(t *testing.T) {
	at := time.Date(2026, 1, 20, 10, 0, 1, 250e6, time.UTC)
	for _, test := range []struct {
		fields string
		want   time.Time
	}{
		{`"ts":"2026-01-20T10:00:01.25Z"`, at},
		{`"ts":1768903201.25`, at},
		{`"ts":1.76890320125e9`, at},
		{`"ts":1768903201250`, at},
		{`"ts":1768903201250.0`, at},
		{`"timestamp":1768903201250000`, at},
		{`"time":1768903201250000000`, at},
		{`"__REALTIME_TIMESTAMP":"1768903201250000"`, at},
		{`"ts":"soon","time":1768903201.25`, at},
		{`"ts":5.123456,"time":"2026-01-20T10:00:01.25Z"`, at},
		{`"ts":0`, time.Time{}},
		{`"ts":-1768903201`, time.Time{}},
		{`"ts":12.5`, time.Time{}},
		{`"ts":999999999`, time.Time{}},
		{`"ts":1e999`, time.Time{}},
		{`"ts":1768903201250000000000`, time.Time{}},
		{`"ts":true`, time.Time{}},
		{`"ts":[1768903201]`, time.Time{}},
		{`"n":1768903201.25`, time.Time{}},
	} {
		if r := Parse([]byte(`{"message":"x",` + test.fields + `}`)); !r.Time.Equal(test.want) || r.Message != "x" {
			t.Errorf("%s: %v, want %v", test.fields, r.Time.UTC(), test.want)
		}
	}
}

// TestNoMessage: a JSON record without a message under a known key is not
// known to be harmless.
func TestNoMessage(t *testing.T) {
	ours := records("iours", boot...)
	for _, line := range []string{
		`{"log":"falling back to no-op cgroup manager\n","stream":"stdout"}`,
		`{"MESSAGE":"falling back to no-op cgroup manager","sandbox.id":"iours"}`,
		`{"M":"falling back to no-op cgroup manager","sandbox.id":"iours"}`,
	} {
		log := window(t, nil, func(n node) { n.write("a", "orchestrator.stdout.0", ours+line+"\n") })
		if got := reading(log); got == "green" {
			t.Errorf("%s: read as %s", line, got)
		}
	}
}

// inBytes is a text as journalctl -o json writes one with control characters.
func inBytes(text string) string {
	numbers := make([]string, len(text))
	for i := range len(text) {
		numbers[i] = strconv.Itoa(int(text[i]))
	}
	return "[" + strings.Join(numbers, ",") + "]"
}

// wrapped are records with fallback of the sandbox iours that a collector wrapped
// in its own.
var wrapped = []string{
	`{"log":"{\"level\":\"info\",\"message\":\"falling back to no-op cgroup manager\",\"sandbox.id\":\"iours\"}\n","stream":"stdout","time":"2026-01-20T10:00:01.250Z"}`,
	`{"MESSAGE":"{\"level\":\"info\",\"msg\":\"falling back to no-op cgroup manager\\r\",\"sandbox.id\":\"iours\"}","_PID":"7"}`,
	`{"log":"2026-01-20T10:00:01.250Z  INFO  falling back to no-op cgroup manager\r  {\"sandbox.id\": \"iours\"}\n","stream":"stdout"}`,
	`{"MESSAGE":` + inBytes("2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  falling back to no-op cgroup manager\r  "+`{"sandbox.id": "iours"}`) + `}`,
	`{"MESSAGE": ` + inBytes("falling back to no-op cgroup manager\r") + `, "sandbox.id":"iours"}`,
}

// TestWrapped: a record that a collector wrapped in its own is read as it is
// without that, and what it wraps itself is not.
func TestWrapped(t *testing.T) {
	for _, line := range wrapped {
		log := scanAll(line + "\n")
		if len(log.Findings) != 1 || log.Findings[0].Rule != "CG003" || log.Findings[0].Confidence != evidence.ByField {
			t.Errorf("%s: %+v", line, log.Findings)
		}
		if !Holds([]byte(line), SandboxSigns) && !strings.Contains(line, "[") {
			t.Errorf("%s: no sign that it names a sandbox", line)
		}
	}
	quoting, err := json.Marshal(map[string]string{"log": `{"message":"{\"level\":\"info\",\"command\":\"echo falling back to no-op cgroup manager\"}","sandbox.id":"iours"}`})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		string(quoting),
		`{"log":"{\"level\":\"info\",\"command\":\"echo falling back to no-op cgroup manager\",\"message\":\"Process with pid 7 started\"}\n","sandbox.id":"iours"}`,
	} {
		if log := scanAll(line + "\n"); len(log.Findings) != 0 {
			t.Errorf("%s: envd's own words are not what users ran: %+v", line, log.Findings)
		}
	}
	outer := `{"log":"{\"message\":\"x\"}","sandbox.id":"i1","template.id":"t1","time":"2026-01-20T10:00:01.250Z"}`
	if r := Parse([]byte(outer)); r.Message != "x" || r.SandboxID != "i1" || r.TemplateID != "t1" || r.Time.IsZero() {
		t.Errorf("what the wrapping record alone says is lost: %+v", r)
	}
	for _, line := range []string{`{"MESSAGE":[]}`, `{"MESSAGE":[1,256]}`, `{"MESSAGE":["a"]}`, `{"MESSAGE":[102,[97]]}`, `{"MESSAGE":{"1":2}}`} {
		if r := Parse([]byte(line)); r.Message != line {
			t.Errorf("%s is no text, and is not read as it is: %+v", line, r)
		}
	}
}

// prefixed are lines of which an object or a record stands behind a prefix.
var prefixed = []struct{ line, want string }{
	{`[    1.5] {"error":"failed to create cgroup2 manager: x"}`, "CG0U0 window 0"},
	{`envd[7]: {"error":"failed to create cgroup2 manager: x"}`, "CG0U0 window 0"},
	{stampedInfo + `envd[7]: {"error":"failed to create cgroup2 manager: x"}` + "\r  " + fields, "CG0U0 field 0"},
	{`orchestrator[12]: {"message":"falling back to no-op cgroup manager","sandbox.id":"iours"}`, "CG003 field 0"},
	{`orchestrator[12]: {"error":"failed to create cgroup2 manager: x","sandbox.id":"iours"}`, "CG0U0 field 0"},
	{"orchestrator[12]: " + stampedInfo + "falling back to no-op cgroup manager\r  " + fields, "CG003 field 0"},
	{`orchestrator[12]: {"message":"falling back to no-op cgroup manager","sandbox.id":"iother"}`, ""},
	{`orchestrator[12]: {"message":"{\"command\":\"echo falling back to no-op cgroup manager\"}","sandbox.id":"iours"}`, ""},
	// What envd's logger quotes of users' commands is not envd's, behind no prefix.
	{`[    1.5] {"command":"echo falling back to no-op cgroup manager","message":"Process with pid 7 started"}`, ""},
	{`envd[7]: {"command":"echo falling back to no-op cgroup manager","message":"Process with pid 7 started"}`, ""},
	{`[    1.5] envd[7]: {"command":"echo falling back to no-op cgroup manager","message":"Process with pid 7 started"}`, ""},
	{stampedInfo + `envd[7]: {"message":"falling back to no-op cgroup manager","sandbox.id":"iother"}` + "  " + fields, ""},
	{`systemd[1]: {"message":"falling back to no-op cgroup manager","sandbox.id":"iours"}`, "CG0F0 window 0"},
}

// TestBehindPrefixes: a record behind syslog's prefix is one, and an object without
// a message behind any is looked at as it is.
func TestBehindPrefixes(t *testing.T) {
	for _, test := range prefixed {
		if got := strings.Join(found(scanAll(test.line+"\n")), ", "); got != test.want {
			t.Errorf("%s: found %q, want %q", test.line, got, test.want)
		}
		checkGate(t, []byte(test.line))
	}
}

// TestPrefixes: escape sequences of three bytes, and the kernel's prefix with
// its caller (CONFIG_PRINTK_CALLER), hide no beginning.
func TestPrefixes(t *testing.T) {
	for _, prefix := range []string{"\x1b(B\x1b[m", "\x1b7", "\x1b=", "[    1.234567][    T1] ", "[    1.234567] [    T1] "} {
		if log := scanAll(record("iours", prefix+fallback)); len(log.Findings) != 1 || log.Findings[0].Rule != "CG003" {
			t.Errorf("%q: %+v", prefix, log.Findings)
		}
	}
}
