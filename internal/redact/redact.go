// Package redact stands in front of everything that leaves the harness: it
// takes secrets out, and makes text that a guest or a log wrote harmless to
// show.
package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mask stands where a secret was.
const mask = "[redacted]"

// shortest is how long a given secret must be to be looked for: a secret of
// two letters would turn every report into masks.
const shortest = 6

// Redactor removes secrets: the given ones wherever they stand, and what has
// the shape of one.
type Redactor struct {
	secrets [][]byte
}

// New makes a redactor for the given secrets, in plain, URL-escaped and
// JSON-escaped form. Empty and very short ones are passed over.
func New(secrets ...string) *Redactor {
	r := &Redactor{}
	for _, secret := range secrets {
		if len(secret) < shortest {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), jsonEscape(secret)} {
			if !slices.ContainsFunc(r.secrets, func(have []byte) bool { return string(have) == form }) {
				r.secrets = append(r.secrets, []byte(form))
			}
		}
	}
	// A secret that is part of another must not break it up.
	slices.SortFunc(r.secrets, func(a, b []byte) int { return len(b) - len(a) })
	return r
}

// shapes are what secrets look like in E2B: keys and access tokens by their
// prefix, credentials by the header or field that carries them.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`\b(?:sk_)?e2b_[0-9a-fA-F]{8,}`),
	regexp.MustCompile(`(?i)((?:authorization|x-api-key|x-access-token|e2b-traffic-access-token|x-admin-token)(?:\\?["'])?\s*[:=]\s*(?:\\?["'])?)(?:(?:bearer|basic)\s+)?[^\s"'\\,;&\[]+`),
	regexp.MustCompile(`(?i)((?:envdAccessToken|trafficAccessToken|accessToken|apiKey)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&\[]+`),
	regexp.MustCompile(`(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{6,}`),
}

// Bytes returns text without secrets; the given slice is not changed.
func (r *Redactor) Bytes(text []byte) []byte {
	for _, secret := range r.secrets {
		text = bytes.ReplaceAll(text, secret, []byte(mask))
	}
	for _, shape := range shapes {
		replacement := []byte(mask)
		if shape.NumSubexp() == 1 {
			replacement = []byte("${1}" + mask)
		}
		text = shape.ReplaceAll(text, replacement)
	}
	return text
}

// String returns text without secrets.
func (r *Redactor) String(text string) string { return string(r.Bytes([]byte(text))) }

func jsonEscape(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return string(quoted[1 : len(quoted)-1])
}

// mostShown is how much of one text is shown to a person, in bytes.
const mostShown = 4096

// Terminal makes untrusted text harmless for a terminal or a report: control
// characters, escape sequences, bidirectional overrides and invalid UTF-8
// become visible escapes, and what is too long is cut with a note. Line feeds
// and tabs stay.
func Terminal(text string) string {
	cut := 0
	if len(text) > mostShown {
		end := mostShown
		for end > mostShown-utf8.UTFMax && !utf8.RuneStart(text[end]) {
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
		case unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Co, r):
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
