// Package redact stands in front of everything that leaves the harness: it
// takes secrets out, and makes text that a guest or a log wrote harmless to
// show.
package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// mask stands where a secret was.
const mask = "[redacted]"

// shortest is how long a given secret must be to be looked for: a secret of
// two letters would turn every report into masks.
const shortest = 6

// Redactor removes secrets: the given ones wherever they stand, and what has
// the shape of one. It may be used by several goroutines.
type Redactor struct {
	mu      sync.RWMutex
	secrets [][]byte
}

// New makes a redactor for the given secrets, in plain, URL-escaped,
// JSON-escaped and HTML-escaped form. Space around a secret, such as a key
// file's line end, is no part of it. Very short ones are passed over, and pieces
// of the mask, which would grow with each pass.
func New(secrets ...string) *Redactor {
	r := &Redactor{}
	r.Learn(secrets...)
	return r
}

// Learn adds secrets that were not known when the redactor was made, such as the
// token of a sandbox.
func (r *Redactor) Learn(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.secrets)
	for _, secret := range secrets {
		secret = strings.TrimSpace(secret)
		if len(secret) < shortest || strings.Contains(mask, secret) {
			continue
		}
		for _, form := range forms(secret) {
			all = append(all, []byte(form))
		}
	}
	// A secret that is part of another must not break it up.
	slices.SortFunc(all, func(a, b []byte) int { return len(b) - len(a) })
	r.secrets = slices.CompactFunc(all, bytes.Equal)
}

// forms are the ways in which a secret is written: as it is, escaped, and
// escaped twice, as in a log line that is JSON in a record that is JSON.
func forms(secret string) []string {
	all := []string{secret}
	for range 2 {
		for _, form := range slices.Clone(all) {
			for _, escape := range []func(string) string{url.QueryEscape, url.PathEscape, jsonEscape, jsonEscapeNoHTML, html.EscapeString, pageEscape} {
				if escaped := escape(form); !slices.Contains(all, escaped) {
					all = append(all, escaped)
				}
			}
		}
	}
	return all
}

// The parts of what a credential is carried by: names, what closes a name and
// separates it from its value, the space between words of one line, and what goes
// on after a line's end in an indented list, in text and in JSON in it.
const (
	names    = `(?:authorization|(?:api|admin)[-_]?key|(?:access|admin|supabase)[-_]?token)`
	ofLogs   = `(?:(?:nomad|bearer)[-_]?token)`
	closed   = `((?:\\*["']|%22|%27)?)\s*(?:[:=]|%3a|%3d)` + blank + `*`
	blank    = `(?:[ \t]|%20|\+)`
	indented = `(?:\s|\\+[nrt])`
)

// value is what stands behind a name. It does not begin with what may follow a
// closing quote in JSON: a text that ends in "apiKey:" has no value, and what
// comes after it must stay.
const value = `(?:(?:apikey|basic|bearer|token)` + blank + `+)*[^\s"'\\,;&\[\]{}:][^\s"'\\,;&\[\]{}]*`

// What secrets look like in E2B: keys by their prefix, credentials by the
// header or field that carries them. No word boundary is asked for before
// them: after an escape, as in "\ne2b_…", there is none.
var (
	// prefixed may begin within an escape of JSON, which keeps its digits: Go
	// writes > as \u003e, and to others an â is \u00e2.
	prefixed = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(\\u[0-9a-fA-F]{1,3}e2b_)[0-9a-fA-F]{8,}|(?:sk_)?e2b_[0-9a-fA-F]{8,}`)
	})
	bearer = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(bearer` + blank + `+)(?:bearer` + blank + `+)*[A-Za-z0-9._~+/=%-]{6,}`)
	})
	// named is a name, the quote that closes it, the separator, what opens the
	// value, and the value, in text, JSON and URLs. The value stands on the name's
	// own line, or the next header would be taken for it.
	named       = sync.OnceValue(func() *regexp.Regexp { return carried(names) })
	namedOfLogs = sync.OnceValue(func() *regexp.Regexp { return carried(ofLogs) })
	// listed is a name and the first value of its list, which is indented.
	listed = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)((?:` + names + `|` + ofLogs + `)` + closed + `\[` + indented + `+\\*["'])` + value)
	})
	// parameters are what follows a scheme that takes more than one word, to the
	// line's end: over quotes that are escaped or stand as in a="b", and not over
	// one that may end a text in JSON.
	parameters = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(authorization` + closed + `(?:\[` + indented + `*|%5b)?(?:\\*["']|%22|%27)?)(?:digest|negotiate)` + blank + `+` +
			`(?:="(?:[^\s"\\,:}\]][^"\\\r\n]*)?"|[^"\\\r\n]|(?:\\\\)*\\"|\\+[/tu])+`)
	})
	// userInfo is what stands in a URL before its host: a password, or a token in
	// the place of a name. It may hold an @ itself, and the last one ends it.
	userInfo = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(:(?:\\*/){2})(?:[^\s/?#"'<>\\]|'[^\s/?#"'<>\\,)]|\\+u00[0-9a-f]{2})+@`)
	})
	escapedUserInfo = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(%3a%2f%2f)(?:[^\s/?#"'<>\\&%]|%(?:[013-9a-f][0-9a-f]|2[0-9a-e]))+%40`)
	})
	// nothing is what keeps no secret in a value's place: the mask too, or the
	// quote before it.
	nothing = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:null|true|false|redacted|%22|%27)$`) })
)

// carried is what finds the values of names.
func carried(names string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)(` + names + closed + `(?:\[|%5b)?)((?:\\*["']|%22|%27)?)(` + value + `)`)
}

// holds tells whether a text holds one of the words, which are in small letters:
// the expressions are some twenty times slower than to look for these.
func holds(text []byte, words ...string) bool {
	lower := bytes.ToLower(text)
	return slices.ContainsFunc(words, func(word string) bool { return bytes.Contains(lower, []byte(word)) })
}

// Bytes returns text without secrets; the given slice is not changed.
func (r *Redactor) Bytes(text []byte) []byte {
	text = r.Document(text)
	if bytes.IndexByte(text, '@') >= 0 {
		text = userInfo().ReplaceAll(text, []byte("${1}"+mask+"@"))
	}
	if bytes.Contains(text, []byte("%40")) {
		text = escapedUserInfo().ReplaceAll(text, []byte("${1}"+mask+"%40"))
	}
	if bytes.Contains(text, []byte("e2b_")) {
		text = prefixed().ReplaceAll(text, []byte("${1}"+mask))
	}
	if !holds(text, "key", "token", "authorization", "bearer") { // one of which each name of a credential holds
		return text
	}
	if holds(text, "digest", "negotiate") {
		text = parameters().ReplaceAll(text, []byte("${1}"+mask))
	}
	text = hide(named(), text)
	if bytes.Contains(text, []byte("[\n")) || bytes.Contains(text, []byte("[\r")) || bytes.Contains(text, []byte(`[\`)) {
		text = listed().ReplaceAll(text, []byte("${1}"+mask))
	}
	if !holds(text, "nomad", "bearer") {
		return text
	}
	return bearer().ReplaceAll(hide(namedOfLogs(), text), []byte("${1}"+mask))
}

// hide puts the mask in the place of the values that an expression finds (carried).
func hide(carrier *regexp.Regexp, text []byte) []byte {
	return carrier.ReplaceAllFunc(text, func(match []byte) []byte {
		parts := carrier.FindSubmatch(match)
		name, closing, opening, value := parts[1], parts[2], parts[3], parts[4]
		if nothing().Match(value) {
			return match
		}
		hidden := string(opening) + mask
		if len(opening) == 0 {
			// A bare number in JSON becomes a string, so that it stays JSON. An
			// even number of backslashes ends the name and escapes no quote.
			if bytes.Count(closing, []byte(`\`))%2 == 0 {
				closing = bytes.TrimLeft(closing, `\`)
			}
			hidden = string(closing) + mask + string(closing)
		}
		return append(slices.Clone(name), hidden...)
	})
}

// Document returns a page or an XML document without the given secrets. What has
// the shape of one was taken out of what the document was made of: in markup a
// value would seem to go on over its end, and take tags and quotes with it.
func (r *Redactor) Document(text []byte) []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, secret := range r.secrets {
		text = bytes.ReplaceAll(text, secret, []byte(mask))
	}
	return text
}

// String returns text without secrets.
func (r *Redactor) String(text string) string { return string(r.Bytes([]byte(text))) }

// Value returns a copy of what can be written as JSON, without secrets. It is
// for what will be escaped, wrapped or cut before anybody reads it: no secret is
// found in that any more.
func Value[T any](r *Redactor, v T) (T, error) {
	var clean T
	data, err := json.Marshal(v)
	if err != nil {
		return clean, err
	}
	return clean, json.Unmarshal(r.Bytes(data), &clean)
}

func jsonEscape(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return string(quoted[1 : len(quoted)-1])
}

// jsonEscapeNoHTML is what others than Go write for the characters of HTML.
func jsonEscapeNoHTML(s string) string {
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(jsonEscape(s))
}

// pageEscape is what html/template writes, which escapes the plus sign of a
// base64 text, too.
func pageEscape(s string) string { return strings.ReplaceAll(html.EscapeString(s), "+", "&#43;") }

// mostShown is how much of one text is shown to a person, in bytes.
const mostShown = 4096

// Terminal makes untrusted text harmless for a terminal or a report: control
// characters, escape sequences, bidirectional overrides, what is no character,
// and invalid UTF-8 become visible escapes, and what is too long is cut with a
// note. Line feeds and tabs stay. All that is left may stand in XML.
func Terminal(text string) string { return Shown(text, mostShown) }

// Shown is Terminal for a text of which more or less than usual is shown: at
// most so many of its bytes.
func Shown(text string, most int) string {
	cut := 0
	if len(text) > most {
		end := most
		for end > 0 && end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		text, cut = text[:end], len(text)-end
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n' || r == '\t' || r == utf8.RuneError:
			b.WriteRune(r)
		case unicode.IsControl(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case (unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Noncharacter_Code_Point, r)) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Co, r) || unicode.Is(unicode.Noncharacter_Code_Point, r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	if cut > 0 {
		fmt.Fprintf(&b, "… (%d more bytes)", cut)
	}
	return b.String()
}
