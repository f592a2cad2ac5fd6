package logscan

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

const stampedInfo = "2026-01-20T10:00:01.250Z  \x1b[34mINFO\x1b[0m  "

// TestSeveralLines: a message of several lines has its fields at the end of the
// last, and they are of all its lines.
func TestSeveralLines(t *testing.T) {
	const causes = "failed to create cgroup2 manager: failed to create cgroups: failed to create user cgroup: " + failure + "\n" + failure + "\n"
	for _, test := range []struct {
		name, text string
		want       []string
		foreign    int
	}{
		{"console", stampedInfo + causes + fallback + "  " + fields + "\n", []string{"CG002 field", "CG002 field", "CG003 field"}, 0},
		{
			"console, of another sandbox",
			stampedInfo + causes + fallback + `  {"sandbox.id": "iother"}` + "\n" + record("iours", "hello"), nil, 3,
		},
		{
			"console, with braces in its first line",
			stampedInfo + fallback + " {x}\n" + failure + "  " + fields + "\n",
			[]string{"CG003 field", "CG002 field"},
			0,
		},
		{
			"torn before its fields came", stampedInfo + causes + record("iother", "hello"), []string{"CG002 window", "CG002 window"}, 0,
		},
		{
			"an end that does not come", stampedInfo + fallback + strings.Repeat("\nmore", 2*maxOpenLines) + "  " + fields + "\n", []string{"CG003 window"}, 0,
		},
		{"JSON", inJSON("message", "timestamp", causes+fallback+"\n") + "\n", []string{"CG002 field", "CG002 field", "CG003 field"}, 0},
		{
			"two records of two sandboxes", stampedInfo + "a\nb  {\"sandbox.id\": \"iother\"}\n" + stampedInfo + fallback + "\nb  " + fields + "\n",
			[]string{"CG003 field"},
			0,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for cut := range len(test.text) {
				log := scanAll(test.text[:cut], test.text[cut:])
				var got []string
				for _, f := range log.Findings {
					got = append(got, fmt.Sprintf("%s %s", f.Rule, f.Confidence))
				}
				if diff := cmp.Diff(test.want, got); diff != "" || log.Foreign != test.foreign {
					t.Fatalf("cut at %d: %d foreign lines, want %d; findings, -want +got:\n%s", cut, log.Foreign, test.foreign, diff)
				}
			}
		})
	}
}

// TestWhose: how surely a line that names nobody is ours.
func TestWhose(t *testing.T) {
	ours, raw := records("iours", boot[0], "hello"), fallback+"\n"
	const theirs = `  {"sandbox.id": "iother"}` + "\n"
	const unfinished = stampedInfo + fallback + "\r  " + `{"service": "orchestrator", "sandbox.id": "ioth`
	for _, test := range []struct {
		name, text string
		want       evidence.Confidence
	}{
		{"named", record("iours", fallback), evidence.ByField},
		{"named by the orchestrator's words", "-> [sandbox iours]: cgroup v9 failed\n", evidence.ByOrigin},
		{"nobody else was there", ours + raw, evidence.ByExclusion},
		{"nobody else was there, seen afterwards", raw + ours, evidence.ByExclusion},
		{"somebody else was there", ours + raw + record("iother", "hello"), evidence.ByWindow},
		{"somebody else was there, in JSON", ours + raw + `{"msg":"x","sandboxID":"iother"}` + "\n", evidence.ByWindow},
		{"somebody else was there, in words", ours + raw + "-> [sandbox iother]: x\n", evidence.ByWindow},
		{"nobody was there", raw, evidence.ByWindow},
		{"nobody else was there, and the line has a time", ours + "2026-01-20T10:00:00.000Z  INFO  " + fallback + "  {}\n", evidence.ByExclusion},
		{"a record that ends in the midst of its fields", ours + unfinished, evidence.ByWindow},
		{"a record that ends before its fields", ours + stampedInfo + fallback, evidence.ByWindow},
		{"a record that ends at a line's end before its fields", ours + stampedInfo + fallback + "\n", evidence.ByWindow},
		{"a record of several lines that ends at a line's end before its fields", ours + stampedInfo + "x\n" + fallback + "\n", evidence.ByWindow},
		{"a record that ends behind a brace within its fields", ours + unfinished + `er", "x": {"a": 1}`, evidence.ByWindow},
		{"a record of several lines that ends in the midst of its fields", ours + stampedInfo + failure + "\n" + unfinished[len(stampedInfo):], evidence.ByWindow},
		{"a raw line that has no end", ours + fallback, evidence.ByExclusion},
		{"the rest of another's record, which the window cut", fallback + theirs + ours, evidence.ByWindow},
		{"the rest of another's record of too many lines", ours + stampedInfo + "x" + strings.Repeat("\nmore", 2*maxOpenLines) + "\n" + fallback + theirs, evidence.ByWindow},
		{"the rest of another's record of which the first line looks whole", ours + stampedInfo + "mount options:  {ro}\n" + fallback + theirs, evidence.ByWindow},
		{"the rest of a record of ours", fallback + "  " + fields + "\n" + ours, evidence.ByExclusion},
		{"a raw line that ends in braces", fallback + "  {\"a\": 1}\n" + ours, evidence.ByExclusion},
		{"a line of an earlier time", ours + "1999-12-31T23:58:30.000Z  INFO  " + fallback + "  {}\n", evidence.ByWindow},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := window(t, nil, func(n node) { n.write("a", "orchestrator.stdout.0", test.text) })
			last := evidence.Finding{}
			for _, f := range log.Findings {
				if f.Class != evidence.FindingControl {
					last = f
				}
			}
			if last.Confidence != test.want {
				t.Errorf("confidence %q, want %q: %+v", last.Confidence, test.want, log)
			}
		})
	}
	log := window(t, func(n node) { n.write("a", "orchestrator.stdout.4", "old\n") }, func(n node) {
		n.write("a", "orchestrator.stdout.6", ours+raw)
	})
	if got := reading(log); got != "unproven" {
		t.Errorf("where a file is missing others may have been named: read as %s, %+v", got, log)
	}
}

// TestCanary: the session's own canary shows that the console comes out of the
// log; no other does.
func TestCanary(t *testing.T) {
	const nonce = "OURNONCE"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"ours", record("iours", evidence.CanaryLine(nonce)), []string{"BT010 field 0"}},
		{"an older one", record("iours", evidence.CanaryLine("OLDNONCE")), nil},
		{"ours, of another sandbox", record("iother", evidence.CanaryLine(nonce)), nil},
		{"ours, in somebody's command", record("iours", `{"command":"echo `+evidence.CanaryLine(nonce)+`"}`), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &evidence.Log{}
			s := newScan("iours", evidence.CanaryLine(nonce), nil, redact.New(), log)
			s.feed("stream", "file", 0, []byte(test.text))
			s.finish()
			if diff := cmp.Diff(append([]string{}, test.want...), found(log)); diff != "" {
				t.Errorf("findings, -want +got:\n%s", diff)
			}
		})
	}
}

func TestWaivers(t *testing.T) {
	const line = "cgroup io.max: operation not supported"
	until := func(d time.Duration) []Waiver {
		return []Waiver{{Match: regexp.MustCompile(`^cgroup io\.max: `), Reason: "the node's disk", Expires: time.Now().Add(d)}}
	}
	for _, test := range []struct {
		name, message string
		waivers       []Waiver
		want          evidence.FindingClass
	}{
		{"no waiver", line, nil, evidence.FindingUnknown},
		{"a waiver", line, until(time.Hour), evidence.FindingWaived},
		{"an expired one", line, until(-time.Hour), evidence.FindingUnknown},
		{"another line", "cgroup pids.max: operation not supported", until(time.Hour), evidence.FindingUnknown},
		{"what envd says of itself", fallback, []Waiver{{Match: regexp.MustCompile(``), Expires: time.Now().Add(time.Hour)}}, evidence.FindingFailure},
		{"envd's words behind a prefix", "<warn> T1 " + fallback, []Waiver{{Match: regexp.MustCompile(`cgroup`), Expires: time.Now().Add(time.Hour)}}, evidence.FindingUnknown},
		{"envd's words in capitals", "Warning: Failed to write cgroup property", []Waiver{{Match: regexp.MustCompile(`cgroup`), Expires: time.Now().Add(time.Hour)}}, evidence.FindingUnknown},
		{"the rest of a skipped limit", `rty "io.weight" unavailable at "/sys/fs/cgroup/user", skipping`, []Waiver{{Match: regexp.MustCompile(`cgroup`), Expires: time.Now().Add(time.Hour)}}, evidence.FindingUnknown},
		{"envd's words far behind others", "cgroup io.max: operation not supported " + strings.Repeat(".", maxText) + " " + fallback, until(time.Hour), evidence.FindingUnknown},
		{"a damaged line", "k to no-op cgr", []Waiver{{Match: regexp.MustCompile(``), Expires: time.Now().Add(time.Hour)}}, evidence.FindingUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &evidence.Log{}
			s := newScan("iours", "", test.waivers, redact.New(), log)
			s.feed("stream", "file", 0, []byte(record("iours", test.message)))
			s.finish()
			if len(log.Findings) != 1 || log.Findings[0].Class != test.want || (log.Findings[0].Waiver != "") != (test.want == evidence.FindingWaived) {
				t.Errorf("want one finding, %s: %+v", test.want, log.Findings)
			}
		})
	}
}

// TestGateLosesNothing: what the gate holds back has nothing to say.
func TestGateLosesNothing(t *testing.T) {
	for _, rule := range rules {
		for _, sample := range rule.Samples {
			for _, shape := range shapes {
				checkGate(t, []byte(shape.wrap(sample)))
			}
		}
	}
	for text := range fragments() {
		checkGate(t, []byte("x "+text+" y"))
	}
	for _, text := range ownWords {
		checkGate(t, []byte("x "+text+" y"))
	}
	for _, text := range beginnings {
		for end := range len(text.own) {
			checkGate(t, []byte(text.common+text.own[:end]))
			for _, cutter := range cutters {
				checkGate(t, []byte(text.common+text.own[:end]+cutter))
			}
		}
	}
	checkGate(t, []byte(strings.ToUpper(fallback)))
	// What stands where a console record's coloured level does, and is none.
	for _, line := range notLevels {
		checkGate(t, []byte(line))
	}
	g := gate{sandbox: []byte("iours")}
	if g.passes([]byte(stampedInfo+"handled request 17 in 12.5 ms\r  "+`{"sandbox.id": "iother"}`), false) {
		t.Error("the gate lets everybody's lines pass")
	}
}

var notLevels = []string{
	"2026-01-20T10:00:01.250Z  \x1b[34mcgroup failed\x1b[0m  x", "2026-01-20T10:00:01.250Z  cgroup failed  \x1b[34mINFO\x1b[0m  x",
	"2026-01-20T10:00:01.250Z  \x1b[34mcgroup: EPERM  \x1b[0m  x", "2026-01-20T:cgroup:failed  \x1b[34mINFO\x1b[0m  x",
}

func checkGate(t *testing.T, line []byte) {
	t.Helper()
	for _, strangers := range []bool{false, true} {
		g := gate{sandbox: []byte("iours")}
		if g.passes(line, strangers) {
			continue
		}
		if _, named, _ := CutFields(line); strangers && named.SandboxID != "" {
			t.Errorf("the gate holds back a line of which the fields name %s: %q", named.SandboxID, line)
		}
		for _, r := range Records(line) {
			if rule := Classify(r); rule != nil && r.SandboxID == "" {
				t.Errorf("the gate holds back a line of %s: %q", rule.ID, line)
			}
			if r.SandboxID == "iours" || strangers && r.SandboxID != "" {
				t.Errorf("the gate holds back a line that names %s: %q", r.SandboxID, line)
			}
		}
	}
}

func FuzzGate(f *testing.F) {
	for _, rule := range rules {
		for _, sample := range rule.Samples {
			for _, shape := range shapes {
				f.Add([]byte(shape.wrap(sample)))
			}
		}
	}
	f.Add([]byte(stampedInfo + "k to no-\x00op c  " + fields))
	f.Add([]byte(`the rest of a record  {"sandbox.id": "iother"}`))
	for _, line := range notLevels {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if !bytes.ContainsAny(line, "\n") {
			checkGate(t, line)
		}
	})
}

// TestSaid: of the API's log failures and unknown trouble count alone, so that it
// can never show a channel to be alive.
func TestSaid(t *testing.T) {
	at := time.Date(2026, 1, 20, 10, 0, 0, 0, time.UTC)
	for message, want := range map[string]string{
		"": "", "hello": "", boot[0]: "", boot[1]: "", boot[4]: "", evidence.CanaryLine("X"): "",
		fallback:                         "CG003 failure field",
		"cgroup: no such device, really": "CG0U0 unknown field",
		boot[0] + "\n" + failure + "\n" + fallback: "CG002 failure field, CG003 failure field",
	} {
		var got []string
		for _, f := range Said(message, at, redact.New()) {
			got = append(got, fmt.Sprintf("%s %s %s", f.Rule, f.Class, f.Confidence))
			if !f.Time.Equal(at) || f.Source == "" {
				t.Errorf("%q: at %s, from %q", message, f.Time, f.Source)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q says %q, want %q", message, got, want)
		}
	}
}
