package logscan

import (
	stdcmp "cmp"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// reference decodes records as one would write it without a thought for speed,
// by regular expressions and maps. Parse must say the same of every line.
type reference struct{}

var (
	refTime    = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^ ]*)  `)
	refLevel   = regexp.MustCompile(`^[A-Za-z]{4,6}  `)
	refText    = regexp.MustCompile(`^-> \[sandbox ([0-9A-Za-z-]{1,64})\]`)
	refEscape  = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|\x1b(?:[0-Z\\\\-_]|[ -/]+[0-~])")
	refKernel  = regexp.MustCompile(`^\[ ?\d+\.\d+\](?: ?\[ ?[TC]\d+\])? `)
	refWrapped = regexp.MustCompile(`^(?:\{"|\d{4}-\d\d-\d\dT)`)
	refSyslog  = regexp.MustCompile(`^[A-Za-z0-9_./-]+\[\d+\]: `)
)

func (reference) parse(line []byte) Record {
	r, message := reference{}.decode(line)
	message = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, refEscape.ReplaceAllString(message, ""))
	message = strings.Join(strings.Fields(message), " ")
	said := message
	stamp := refKernel.FindString(message)
	message = message[len(stamp):]
	r.Kernel = stamp != "" && !strings.HasPrefix(message, "systemd[") && !refSyslog.MatchString(message)
	if !strings.HasPrefix(message, "systemd[") {
		message = message[len(refSyslog.FindString(message)):]
	}
	r.Message = message
	if !r.bare && strings.HasPrefix(message, `{"`) {
		values, ok := reference{}.object(message)
		_, _, told := reference{}.message(values)
		r.Structured = ok && (told || message == said)
	}
	if match := refText.FindStringSubmatch(message); r.SandboxID == "" && match != nil {
		r.SandboxID, r.ByText = match[1], true
	}
	return r
}

func (reference) decode(line []byte) (Record, string) {
	r, message, wrapped := reference{}.once(string(line))
	if !wrapped || !refWrapped.MatchString(strings.TrimSpace(message)) {
		return r, message
	}
	inner, text, _ := reference{}.once(message)
	inner.SandboxID, inner.TemplateID = stdcmp.Or(inner.SandboxID, r.SandboxID), stdcmp.Or(inner.TemplateID, r.TemplateID)
	if inner.Time.IsZero() {
		inner.Time = r.Time
	}
	return inner, text
}

func (reference) once(text string) (Record, string, bool) {
	text = strings.TrimRight(text, "\r")
	plain := strings.TrimSpace(refEscape.ReplaceAllString(text, ""))
	if strings.HasPrefix(plain, "{") {
		values, ok := reference{}.object(plain)
		if !ok {
			return Record{}, plain, false
		}
		r := reference{}.named(values)
		for _, name := range []string{"timestamp", "ts", "time", "__REALTIME_TIMESTAMP"} {
			if r.Time.IsZero() {
				r.Time = reference{}.time(fmt.Sprint(values[name]))
			}
		}
		if text, name, ok := (reference{}).message(values); ok {
			return r, text, name == "log" || name == "MESSAGE"
		}
		r.bare = true
		return r, plain, false
	}
	if !refTime.MatchString(plain) {
		trimmed := strings.TrimSpace(text)
		prefix := refSyslog.FindString(trimmed)
		if record := trimmed[len(prefix):]; prefix != "" && !strings.HasPrefix(prefix, "systemd[") && refWrapped.MatchString(record) {
			return Record{}, record, true
		}
		return Record{}, plain, false
	}
	stamp := refTime.FindStringSubmatch(plain)[1]
	body, values, end := strings.TrimSpace(text), map[string]any(nil), len(strings.TrimSpace(text))
	for range maxTries {
		at := strings.LastIndex(body[:end], "  {")
		if at < 0 {
			break
		}
		if found, ok := (reference{}).object(body[at+2:]); ok {
			body, values = body[:at], found
			break
		}
		end = at
	}
	r := reference{}.named(values)
	r.Time, _ = time.Parse(zapTime, stamp)
	rest := strings.TrimPrefix(refEscape.ReplaceAllString(body, "")+"  ", stamp+"  ")
	return r, rest[len(refLevel.FindString(rest)):], false
}

func (reference) time(text string) time.Time {
	for _, layout := range []string{zapTime, time.RFC3339Nano} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	number, _ := strconv.ParseFloat(text, 64)
	for _, per := range []float64{1, 1e3, 1e6, 1e9} {
		if seconds, fraction := math.Modf(number / per); number >= 1e9*per && number < 7.2e9*per {
			return time.Unix(int64(seconds), int64(fraction*1e9)).Round(time.Microsecond)
		}
	}
	return time.Time{}
}

func (reference) message(values map[string]any) (text, name string, ok bool) {
	for _, name := range []string{"message", "msg", "log", "MESSAGE", "M"} {
		if text, ok := values[name].(string); ok {
			return text, name, true
		}
		if text := (reference{}).bytes(values[name]); name == "MESSAGE" && text != "" {
			return text, name, true
		}
	}
	return "", "", false
}

// bytes is the text of a list of bytes.
func (reference) bytes(value any) string {
	list, _ := value.([]any)
	text := make([]byte, 0, len(list))
	for _, item := range list {
		number, ok := item.(json.Number)
		b, err := strconv.ParseUint(string(number), 10, 8)
		if !ok || err != nil {
			return ""
		}
		text = append(text, byte(b))
	}
	return string(text)
}

// object reads any JSON object. A number that no float64 can hold is one of
// JSON's all the same.
func (reference) object(text string) (map[string]any, bool) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var values map[string]any
	return values, json.Valid([]byte(text)) && decoder.Decode(&values) == nil
}

func (reference) named(values map[string]any) Record {
	return Record{
		SandboxID:  reference{}.first(values, "sandbox.id", "sandbox_id", "instanceID", "sandboxID"),
		TemplateID: reference{}.first(values, "template.id", "envID"),
	}
}

func (reference) first(values map[string]any, names ...string) string {
	for _, name := range names {
		if text, ok := values[name].(string); ok && text != "" {
			return text
		}
	}
	return ""
}

func FuzzParseEqualsTheReference(f *testing.F) {
	for _, shape := range shapes {
		for _, text := range []string{failure, "a  {b}  {\"c\": 1}", "-> [sandbox i1-x]: y", `{"a": "\ud800\u0041"}`, "[ 1.5] envd[7]: x", "\x1b]0;t\x1b\\\x1b[1;2", "\u009b\xff\u2028"} {
			f.Add([]byte(shape.wrap(text)))
		}
	}
	f.Add([]byte(`{"message":"a","message":1,"Message":"b","sandbox.id":"\ud800\u0041","n":1e999,"ts":"2026-01-20T10:00:01.250+0100"}`))
	for _, number := range []string{"1795856401.25", "1795856401250", "1795856401250000", "1795856401250000000", "1e999", "5.5", "null", `"1795856401250000"`} {
		f.Add([]byte(`{"msg":"m","ts":` + number + `,"time":"2026-01-20T10:00:01.250Z"}`))
	}
	for _, text := range wrapped {
		f.Add([]byte(text))
	}
	for _, test := range prefixed {
		f.Add([]byte(test.line))
	}
	f.Add([]byte("[0.0]C0] 0"))
	f.Add([]byte(`{"log":"\u000b{\"msg\":\"x\"}"}`))
	f.Add([]byte(`{"log":"\u00a02026-01-20T10:00:01.250Z  INFO  x"}`))
	f.Add([]byte("2026-01-20T10:00:01.2Z  INFO  m  {\"envID\": \"\xff\", \"instanceID\": \"\"}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if diff := cmp.Diff(reference{}.parse(line), Parse(line), cmp.AllowUnexported(Record{})); diff != "" {
			t.Errorf("%q: -reference +Parse:\n%s", line, diff)
		}
	})
}
