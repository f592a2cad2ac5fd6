package logscan

import (
	"bytes"
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
	// none; TemplateID is that sandbox's template, where it is told.
	SandboxID, TemplateID string
	// ByText is true where the sandbox is named in the text alone, by a line of
	// the orchestrator that has no fields.
	ByText bool
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

// beginsRecord tells whether a line is the beginning of a record, and not a raw
// line or a part of the record before.
func beginsRecord(line []byte) bool {
	return bytes.HasPrefix(line, []byte(`{"`)) || beginsConsole(line)
}

// beginsConsole tells whether a line begins as the console encoding does: with
// a date, which is looked at without a regular expression, since every line is.
func beginsConsole(line []byte) bool {
	const date = "0000-00-00T"
	if len(line) < len(date) {
		return false
	}
	for i := range date {
		if b := line[i]; date[i] == '0' && (b < '0' || b > '9') || date[i] != '0' && b != date[i] {
			return false
		}
	}
	return true
}

// endsInFields tells whether a line may end in a record's fields.
func endsInFields(line []byte) bool {
	return bytes.HasSuffix(trimEnd(line), []byte("}")) && (line[0] == '{' || bytes.Contains(line, []byte("  {")))
}

// trimEnd takes blanks and carriage returns off a line's end.
func trimEnd(line []byte) []byte { return bytes.TrimRight(line, " \t\r") }

// Records decodes one line, without its line feed: one record, or several where
// its message has several lines, as joined errors do in JSON.
func Records(line []byte) []Record {
	first, message := decode(line)
	texts := strings.Split(strings.TrimRight(message, "\r\n"), "\n")
	records := make([]Record, len(texts))
	for i, text := range texts {
		records[i] = first
		records[i].say(text)
	}
	return records
}

// Parse decodes one line, without its line feed, as one record. It never fails:
// a line of no known shape is a raw one, as guests and stack traces print them.
func Parse(line []byte) Record {
	r, message := decode(line)
	r.say(message)
	return r
}

// TimeOf is a line's own time, zero where it has none.
func TimeOf(line []byte) time.Time {
	if !beginsRecord(line) {
		return time.Time{}
	}
	r, _ := decode(line)
	return r.Time
}

// say sets what a record says.
func (r *Record) say(message string) {
	r.Message = withoutPrefixes(normalise(message))
	if strings.HasPrefix(r.Message, `{"`) {
		var object map[string]any
		r.Structured = json.Unmarshal([]byte(r.Message), &object) == nil
	}
	if match := sandboxText.FindStringSubmatch(r.Message); r.SandboxID == "" && match != nil {
		r.SandboxID, r.ByText = match[1], true
	}
}

// sandboxText is how the orchestrator names a sandbox in lines that it prints
// without fields (e2b-dev/infra packages/orchestrator, trace events printed
// where OTEL_TRACING_PRINT is on).
var sandboxText = regexp.MustCompile(`^-> \[sandbox ([0-9A-Za-z-]{1,64})\]`)

// decode takes a line apart; the message is as it stood there.
func decode(line []byte) (r Record, message string) {
	text := strings.TrimRight(string(line), "\r")
	plain := strings.TrimSpace(stripEscapes(text))
	switch {
	case strings.HasPrefix(plain, "{"):
		var object map[string]any
		if json.Unmarshal([]byte(plain), &object) != nil {
			return r, plain
		}
		r = named(object)
		r.Time = timeOf(object)
		return r, textOf(object, "message", "msg")
	case consoleTime.MatchString(plain):
		stamp := consoleTime.FindStringSubmatch(plain)[1]
		// The fields come off before the escape sequences do: one that a guest
		// left unfinished at the end of its line would swallow their beginning,
		// and with it whose line this is.
		body, fields := splitFields(strings.TrimSpace(text))
		r = named(fields)
		r.Time, _ = time.Parse(zapTime, stamp)
		rest := strings.TrimPrefix(stripEscapes(body)+"  ", stamp+"  ")
		return r, rest[len(level.FindString(rest)):]
	default:
		return r, plain
	}
}

// named makes a record of what fields name.
func named(fields map[string]any) Record {
	return Record{SandboxID: textOf(fields, sandboxFields...), TemplateID: textOf(fields, "template.id", "envID")}
}

// maxTries bounds how often the beginning of a record's fields is guessed:
// fields may quote two blanks and a brace a few times, a hostile message may
// hold thousands.
const maxTries = 16

// splitFields cuts the trailing object of fields off a console record: the
// last two blanks and brace from which the rest is one object.
func splitFields(text string) (message string, fields map[string]any) {
	end := len(text)
	for range maxTries {
		at := strings.LastIndex(text[:end], "  {")
		if at < 0 {
			break
		}
		var object map[string]any
		if json.Unmarshal([]byte(text[at+2:]), &object) == nil {
			return text[:at], object
		}
		end = at
	}
	return text, nil
}

// sandboxFields are the names under which records carry the sandbox, surest
// first.
var sandboxFields = []string{"sandbox.id", "sandbox_id", "instanceID", "sandboxID"}

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
