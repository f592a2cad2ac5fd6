package logscan

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Record is one line of a log, decoded.
type Record struct {
	// Time is the record's own time, zero where it has none.
	Time time.Time
	// Message is the text, normalised: no colours, no control characters, no
	// kernel or syslog prefix, single blanks.
	Message string
	// SandboxID is the sandbox that the record names, empty where it names
	// none.
	SandboxID string
	// Structured is true where the message is itself a structured record of
	// envd's logger, which quotes what users ran: its words are not envd's.
	Structured bool
}

// The shapes of a record's beginning (logger of e2b-dev/infra,
// packages/shared/pkg/logger: zap's console encoding, or JSON).
var (
	consoleTime = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^ ]*)  `)
	level       = regexp.MustCompile(`^[A-Za-z]{4,6}  `)
)

// zapTime is the layout of the console encoding's time.
const zapTime = "2006-01-02T15:04:05.000Z0700"

// Parse decodes one line, without its line feed. It never fails: a line of no
// known shape is a raw one, as guests and stack traces print them.
func Parse(line []byte) Record {
	text := strings.TrimRight(string(line), "\r")
	plain := strings.TrimSpace(stripEscapes(text))
	var r Record
	switch {
	case strings.HasPrefix(plain, "{"):
		var object map[string]any
		if json.Unmarshal([]byte(plain), &object) != nil {
			r.Message = plain
			break
		}
		r.SandboxID = sandboxOf(object)
		r.Message = textOf(object, "message", "msg")
		r.Time = timeOf(object)
	case consoleTime.MatchString(plain):
		stamp := consoleTime.FindStringSubmatch(plain)[1]
		r.Time, _ = time.Parse(zapTime, stamp)
		// The fields come off before the escape sequences do: one that a guest
		// left unfinished at the end of its line would swallow their beginning,
		// and with it whose line this is.
		var body string
		body, r.SandboxID = splitFields(strings.TrimSpace(text))
		rest := strings.TrimPrefix(stripEscapes(body)+"  ", stamp+"  ")
		r.Message = rest[len(level.FindString(rest)):]
	default:
		r.Message = plain
	}
	r.Message = withoutPrefixes(normalise(r.Message))
	if strings.HasPrefix(r.Message, `{"`) {
		var object map[string]any
		r.Structured = json.Unmarshal([]byte(r.Message), &object) == nil
	}
	return r
}

// maxTries bounds how often the beginning of a record's fields is guessed:
// fields may quote two blanks and a brace a few times, a hostile message may
// hold thousands.
const maxTries = 16

// splitFields cuts the trailing object of fields off a console record: the
// last two blanks and brace from which the rest is one object.
func splitFields(text string) (message, sandbox string) {
	end := len(text)
	for range maxTries {
		at := strings.LastIndex(text[:end], "  {")
		if at < 0 {
			break
		}
		var object map[string]any
		if json.Unmarshal([]byte(text[at+2:]), &object) == nil {
			return text[:at], sandboxOf(object)
		}
		end = at
	}
	return text, ""
}

// sandboxFields are the names under which records carry the sandbox, surest
// first.
var sandboxFields = []string{"sandbox.id", "sandbox_id", "instanceID", "sandboxID"}

func sandboxOf(object map[string]any) string { return textOf(object, sandboxFields...) }

func textOf(object map[string]any, names ...string) string {
	for _, name := range names {
		if text, ok := object[name].(string); ok && text != "" {
			return text
		}
	}
	return ""
}

func timeOf(object map[string]any) time.Time {
	text := textOf(object, "timestamp", "ts", "time")
	for _, layout := range []string{time.RFC3339Nano, zapTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}

// escapes are terminal control sequences: CSI, OSC, and the short ones.
var escapes = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|\x1b[@-Z\\\\-_]")

func stripEscapes(text string) string {
	if !strings.ContainsRune(text, 0x1b) {
		return text
	}
	return escapes.ReplaceAllString(text, "")
}

// normalise makes control characters blanks and runs of blanks single. A
// carriage return hides text from terminals only, so it is a blank too.
func normalise(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, stripEscapes(text))
	return strings.Join(strings.Fields(text), " ")
}

// The prefixes of a line that came through the kernel's log, and of one that
// came through syslog.
var (
	kernelPrefix = regexp.MustCompile(`^\[ ?\d+\.\d+\] `)
	syslogPrefix = regexp.MustCompile(`^[A-Za-z0-9_./-]+\[\d+\]: `)
)

// withoutPrefixes leaves the text as the program printed it. Only systemd's
// name stays: what it says of cgroups is not of envd's.
func withoutPrefixes(text string) string {
	text = text[len(kernelPrefix.FindString(text)):]
	if strings.HasPrefix(text, "systemd[") {
		return text
	}
	return text[len(syslogPrefix.FindString(text)):]
}
