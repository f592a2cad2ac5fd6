package logscan

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"
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
	// Kernel is true where the kernel's stamp stood before the message, and no
	// program's name: every line of the kernel's own has one on a console.
	Kernel bool

	// bare is true for a JSON object without a message under any known name:
	// what it holds is looked at as it is.
	bare bool
}

// zapTime is the layout of the console encoding's time.
const zapTime = "2006-01-02T15:04:05.000Z0700"

// utcTime is how such a time looks in UTC, with "0" for any digit.
const utcTime = "0000-00-00T00:00:00.000Z"

// stampTime is the console encoding's time. In UTC it is RFC 3339 as well, which
// package time reads ten times as fast.
func stampTime(stamp string) time.Time {
	layout := zapTime
	if len(stamp) == len(utcTime) && startsLike(stamp, utcTime) {
		layout = time.RFC3339
	}
	t, _ := time.Parse(layout, stamp)
	return t
}

// beginsRecord tells whether a line is the beginning of a record, and not a raw
// line or a part of the record before.
func beginsRecord(line []byte) bool {
	return bytes.HasPrefix(line, []byte(`{"`)) || beginsConsole(line)
}

// beginsConsole tells whether a line begins as the console encoding does: with
// a date (logger of e2b-dev/infra, packages/shared/pkg/logger). Every line of a
// log is looked at, so nothing here is a regular expression.
func beginsConsole(line []byte) bool { return startsLike(line, "0000-00-00T") }

// startsLike tells whether a text begins like a pattern, in which "0" stands for
// any digit.
func startsLike[T string | []byte](text T, pattern string) bool {
	if len(text) < len(pattern) {
		return false
	}
	for i := range len(pattern) {
		if b := text[i]; pattern[i] == '0' && !isDigit(b) || pattern[i] != '0' && b != pattern[i] {
			return false
		}
	}
	return true
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// cutStamp takes the time off a console record: it ends at two blanks.
func cutStamp(text string) (stamp, rest string, ok bool) {
	if !startsLike(text, "0000-00-00T00:00:00") {
		return "", text, false
	}
	stamp, rest, ok = strings.Cut(text, " ")
	if !ok || !strings.HasPrefix(rest, " ") {
		return "", text, false
	}
	return stamp, rest[1:], true
}

// withoutLevel takes the level off a console record: four to six letters and two
// blanks.
func withoutLevel(text string) string {
	n := 0
	for n < len(text) && isLetter(text[n]) {
		n++
	}
	if n < len("INFO") || n > len("DPANIC") || !strings.HasPrefix(text[n:], "  ") {
		return text
	}
	return text[n+2:]
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

// say sets what a record says. Behind a prefix an object without a message is no
// record of a logger: what it holds is looked at as it is.
func (r *Record) say(message string) {
	text := normalise(message)
	r.Message, r.Kernel = withoutPrefixes(text)
	r.Structured = !r.bare && strings.HasPrefix(r.Message, `{"`) && json.Valid([]byte(r.Message)) &&
		(len(r.Message) == len(text) || hasMessage(r.Message))
	if id := sandboxInText(r.Message); r.SandboxID == "" && id != "" {
		r.SandboxID, r.ByText = id, true
	}
}

// sandboxInText returns the sandbox that a text names as the orchestrator does
// in lines that it prints without fields (e2b-dev/infra packages/orchestrator,
// trace events printed where OTEL_TRACING_PRINT is on); empty where it names
// none.
func sandboxInText(text string) string {
	const longest = 64
	text, ok := strings.CutPrefix(text, "-> [sandbox ")
	if !ok {
		return ""
	}
	id, _, ok := strings.Cut(text, "]")
	if !ok || len(id) > longest {
		return ""
	}
	for i := range len(id) {
		if b := id[i]; !isDigit(b) && !isLetter(b) && b != '-' {
			return ""
		}
	}
	return id
}

// decode takes a line apart; the message is as it stood there. A record that
// Docker or journald wrapped in one of their own, or syslog put its prefix before,
// is taken out, once.
func decode(line []byte) (r Record, message string) {
	r, message, wrapped := decodeText(string(line))
	if !wrapped || !beginsRecord([]byte(strings.TrimSpace(message))) {
		return r, message
	}
	inner, message, _ := decodeText(message)
	if inner.SandboxID == "" {
		inner.SandboxID = r.SandboxID
	}
	if inner.TemplateID == "" {
		inner.TemplateID = r.TemplateID
	}
	if inner.Time.IsZero() {
		inner.Time = r.Time
	}
	return inner, message
}

// decodeText takes a text apart that may be a record; wrapped is true where the
// message is what a collector took down, word for word.
func decodeText(text string) (r Record, message string, wrapped bool) {
	text = strings.TrimRight(text, "\r")
	plain := strings.TrimSpace(stripEscapes(text))
	if strings.HasPrefix(plain, "{") {
		known, ok := decodeObject(plain)
		if !ok {
			return r, plain, false
		}
		r = known.record()
		r.Time = known.time()
		message, field := known.message()
		if field == "" {
			r.bare = true
			return r, plain, false
		}
		return r, message, field == dockerField || field == journalField
	}
	stamp, _, ok := cutStamp(plain)
	if !ok {
		if record, ok := behindSyslog(strings.TrimSpace(text)); ok {
			return r, record, true
		}
		return r, plain, false
	}
	// The fields come off before the escape sequences do: one that a guest
	// left unfinished at the end of its line would swallow their beginning,
	// and with it whose line this is.
	body, known := splitFields(strings.TrimSpace(text))
	r = known.record()
	r.Time = stampTime(stamp)
	return r, withoutLevel(strings.TrimPrefix(stripEscapes(body)+"  ", stamp+"  ")), false
}

// object holds the strings of a record's object whose names are of use here.
type object map[string]string

// usedFields are those names: of the sandbox, surest first, of its template, of
// the message and of the time.
var usedFields = func() map[string]bool {
	used := map[string]bool{}
	for _, names := range [][]string{sandboxFields, templateFields, messageFields, timeFields} {
		for _, name := range names {
			used[name] = true
		}
	}
	return used
}()

// The names under which records carry the sandbox, surest first, the
// sandbox's template, the message (zap's, Docker's json-file, journald's), and
// the time.
var (
	sandboxFields  = []string{"sandbox.id", "sandbox_id", "instanceID", "sandboxID"}
	templateFields = []string{"template.id", "envID"}
	messageFields  = []string{"message", "msg", dockerField, journalField, "M"}
	timeFields     = []string{"timestamp", "ts", "time", "__REALTIME_TIMESTAMP"}
)

// The messages of Docker's json-file and of journalctl -o json.
const (
	dockerField  = "log"
	journalField = "MESSAGE"
)

// decodeObject reads a JSON object; false where the text is none. encoding/json
// says which, since it bounds how deep objects lie within objects.
func decodeObject(text string) (object, bool) {
	if !json.Valid([]byte(text)) {
		return nil, false
	}
	known := object{}
	gjson.Parse(text).ForEach(func(key, value gjson.Result) bool {
		if name := unquoted(key); usedFields[name] {
			// The last of a name counts, as in encoding/json.
			delete(known, name)
			switch {
			case value.Type == gjson.String:
				known[name] = unquoted(value)
			case value.Type == gjson.Number && slices.Contains(timeFields, name):
				known[name] = value.Raw
			case name == journalField:
				if text := bytesOf(value); text != "" {
					known[name] = text
				}
			}
		}
		return true
	})
	return known, true
}

// bytesOf is the text of an array of byte numbers, as journalctl writes a text
// with control characters (systemd, Journal JSON Format); empty for all else.
func bytesOf(value gjson.Result) string {
	if !value.IsArray() {
		return ""
	}
	var text []byte
	whole := true
	value.ForEach(func(_, number gjson.Result) bool {
		b, err := strconv.ParseUint(number.Raw, 10, 8)
		text, whole = append(text, byte(b)), err == nil
		return whole
	})
	if !whole {
		return ""
	}
	return string(text)
}

// unquoted is a JSON string's value, as encoding/json reads it.
func unquoted(value gjson.Result) string {
	if !strings.Contains(value.Raw, `\`) && utf8.ValidString(value.Raw) {
		return value.Str
	}
	var text string
	if json.Unmarshal([]byte(value.Raw), &text) != nil {
		return value.Str
	}
	return text
}

// first is the first of some fields that is there and not empty.
func (o object) first(names ...string) string {
	for _, name := range names {
		if text := o[name]; text != "" {
			return text
		}
	}
	return ""
}

// record is a record of what fields name.
func (o object) record() Record {
	return Record{SandboxID: o.first(sandboxFields...), TemplateID: o.first(templateFields...)}
}

// message is what is said, and the field that says it; none where no field is
// known to.
func (o object) message() (text, field string) {
	for _, name := range messageFields {
		if text, told := o[name]; told {
			return text, name
		}
	}
	return "", ""
}

// hasMessage tells whether a text is an object that says something in a known field.
func hasMessage(text string) bool {
	known, _ := decodeObject(text)
	_, field := known.message()
	return field != ""
}

// time is the first time that a field tells.
func (o object) time() time.Time {
	for _, name := range timeFields {
		if t := timeOf(o[name]); !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// timeOf reads a time as loggers write it in JSON, zero where it is none: a
// text, or a number since 1970, as zap's production encoder and journald do.
func timeOf(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339Nano, zapTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return sinceEpoch(text)
}

// sinceEpoch reads a number of seconds, milliseconds, microseconds or nanoseconds
// since 1970: its size tells which. Zero for one that is none of these from 2001
// to 2200, as the seconds since a boot are not, or how long something took: to
// take it for a time would make a record an old one. A float64 holds microseconds.
func sinceEpoch(text string) time.Time {
	const from, to = 1e9, 7.2e9 // seconds
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.Time{}
	}
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond, time.Nanosecond} {
		if perSecond := float64(time.Second / unit); number >= from*perSecond && number < to*perSecond {
			seconds, fraction := math.Modf(number / perSecond)
			return time.Unix(int64(seconds), int64(fraction*float64(time.Second))).Round(time.Microsecond)
		}
	}
	return time.Time{}
}

// maxTries bounds how often the beginning of a record's fields is guessed:
// fields may quote two blanks and a brace a few times, a hostile message may
// hold thousands.
const maxTries = 16

// splitFields cuts the trailing object of fields off a console record: the
// last two blanks and brace from which the rest is one object.
func splitFields(text string) (message string, known object) {
	end := len(text)
	for range maxTries {
		at := strings.LastIndex(text[:end], "  {")
		if at < 0 {
			break
		}
		if known, ok := decodeObject(text[at+2:]); ok {
			return text[:at], known
		}
		end = at
	}
	return text, nil
}

// stripEscapes takes terminal control sequences out of a text: CSI, OSC, and the
// short ones.
func stripEscapes(text string) string {
	at := strings.IndexByte(text, 0x1b)
	if at < 0 {
		return text
	}
	var b strings.Builder
	for at >= 0 {
		b.WriteString(text[:at])
		n := escapeLen(text[at:])
		if n == 0 {
			b.WriteByte(0x1b) // it begins no sequence, and is a control character
			n = 1
		}
		text = text[at+n:]
		at = strings.IndexByte(text, 0x1b)
	}
	b.WriteString(text)
	return b.String()
}

// escapeLen is how long the control sequence is that a text begins with, 0
// where it begins none (ECMA-48, 5.3 and 5.4; xterm's OSC ends in BEL or ST).
func escapeLen(text string) int {
	const introducer = 2
	if len(text) < introducer {
		return 0
	}
	switch text[1] {
	case '[':
		n := introducer
		for n < len(text) && '0' <= text[n] && text[n] <= '?' {
			n++
		}
		for n < len(text) && ' ' <= text[n] && text[n] <= '/' {
			n++
		}
		if n < len(text) && '@' <= text[n] && text[n] <= '~' {
			return n + 1
		}
		return 0
	case ']':
		end := strings.IndexAny(text[introducer:], "\x07\x1b")
		switch rest := text[introducer+max(end, 0):]; {
		case end < 0:
		case rest[0] == 0x07:
			return introducer + end + 1
		case strings.HasPrefix(rest, "\x1b\\"):
			return introducer + end + 2
		}
		return introducer
	}
	// ESC ( B and the like, ESC 7, ESC M.
	n := 1
	for n < len(text) && ' ' <= text[n] && text[n] <= '/' {
		n++
	}
	if n < len(text) && '0' <= text[n] && (text[n] <= '_' || n > 1 && text[n] <= '~') {
		return n + 1
	}
	return 0
}

// normalise makes control characters blanks and runs of blanks single. A
// carriage return hides text from terminals only, so it is a blank too.
func normalise(text string) string {
	if isNormal(text) {
		return text
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, stripEscapes(text))
	return strings.Join(strings.Fields(text), " ")
}

// isNormal tells whether a text is ASCII and as normalise would leave it.
func isNormal(text string) bool {
	before := byte(' ')
	for i := range len(text) {
		b := text[i]
		if b < ' ' || b >= 0x7f || b == ' ' && before == ' ' {
			return false
		}
		before = b
	}
	return before != ' ' || text == ""
}

// withoutPrefixes leaves the text as the program printed it: without the prefix
// of a line that came through the kernel's log, and of one that came through
// syslog; kernel tells whether it had the first alone. Only systemd's name stays:
// what it says of cgroups is not of envd's.
func withoutPrefixes(text string) (message string, kernel bool) {
	message = withoutKernelPrefix(text)
	kernel = len(message) < len(text)
	if strings.HasPrefix(message, "systemd[") {
		return message, false
	}
	rest := withoutSyslogPrefix(message)
	return rest, kernel && len(rest) == len(message)
}

// withoutKernelPrefix takes "[ 1.234567] " off a text, and "[ 1.234567][ T1] ",
// as a kernel with CONFIG_PRINTK_CALLER has it.
func withoutKernelPrefix(text string) string {
	rest, ok := strings.CutPrefix(text, "[")
	if !ok {
		return text
	}
	seconds, rest, ok := strings.Cut(strings.TrimPrefix(rest, " "), ".")
	if !ok || !isNumber(seconds) {
		return text
	}
	fraction, rest, ok := strings.Cut(rest, "]")
	if !ok || !isNumber(fraction) {
		return text
	}
	if caller, ok := strings.CutPrefix(strings.TrimPrefix(rest, " "), "["); ok {
		caller, after, ok := strings.Cut(strings.TrimPrefix(caller, " "), "] ")
		if ok && (strings.HasPrefix(caller, "T") || strings.HasPrefix(caller, "C")) && isNumber(caller[1:]) {
			return after
		}
	}
	if rest, ok := strings.CutPrefix(rest, " "); ok {
		return rest
	}
	return text
}

// withoutSyslogPrefix takes "name[123]: " off a text.
func withoutSyslogPrefix(text string) string {
	name, rest, ok := strings.Cut(text, "[")
	if !ok || name == "" {
		return text
	}
	for i := range len(name) {
		if b := name[i]; !isDigit(b) && !isLetter(b) && strings.IndexByte("_./-", b) < 0 {
			return text
		}
	}
	pid, rest, ok := strings.Cut(rest, "]: ")
	if !ok || !isNumber(pid) {
		return text
	}
	return rest
}

// behindSyslog is the record behind syslog's prefix; false where there is none. What
// systemd says is its own.
func behindSyslog(text string) (record string, ok bool) {
	record = withoutSyslogPrefix(text)
	ok = len(record) < len(text) && beginsRecord([]byte(record)) && !strings.HasPrefix(text, "systemd[")
	return record, ok
}

func isNumber(text string) bool {
	for i := range len(text) {
		if !isDigit(text[i]) {
			return false
		}
	}
	return text != ""
}
