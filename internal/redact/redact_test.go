package redact

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestGivenSecretsGo(t *testing.T) {
	const secret = `s3cr3t/with "quotes"&more`
	r := New(secret, "", "ab")
	for _, text := range []string{
		secret, "key=" + url.QueryEscape(secret), `{"key":` + string(must(json.Marshal(secret))) + `}`, secret + secret,
	} {
		got := r.String(text)
		if strings.Contains(got, "s3cr3t") || !strings.Contains(got, mask) {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := r.String("about nothing"); got != "about nothing" {
		t.Errorf("a short secret hid plain text: %q", got)
	}
}

func TestShapesOfSecretsGo(t *testing.T) {
	r := New()
	for _, text := range []string{
		"the key e2b_0123456789abcdef is", "sk_e2b_0123456789abcdef",
		"X-API-Key: hunter2hunter2", `"x-access-token":"hunter2hunter2"`, `{\"Authorization\":\"Basic hunter2hunter2=\"}`,
		"Authorization: Bearer hunter2hunter2", "e2b-traffic-access-token=hunter2hunter2&x=1",
		`"envdAccessToken":"hunter2hunter2"`, "curl -H 'X-API-KEY: hunter2hunter2'", "bearer hunter2hunter2",
	} {
		got := r.String(text)
		if strings.Contains(got, "hunter2") || strings.Contains(got, "0123456789") {
			t.Errorf("%q became %q", text, got)
		}
		if again := r.String(got); again != got {
			t.Errorf("redacting twice changed %q to %q", got, again)
		}
	}
	for _, text := range []string{"the user's authorization failed", "cgroup.controllers: cpu", "i0123456789abcdefghi"} {
		if got := r.String(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestTerminal(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"plain\ttext\n", "plain\ttext\n"},
		{"\x1b[31mred\x1b[0m\r\n", `\x1b[31mred\x1b[0m\x0d` + "\n"},
		{"a\x00b\xffc", `a\x00b\xffc`},
		{"\u202eevil", `\u202eevil`},
		{"zero\u200bwidth", `zero\u200bwidth`},
		{"\u009b31m", `\x9b31m`},
		{"✓ Größe", "✓ Größe"},
		{"real \uFFFD", "real \uFFFD"},
	} {
		if got := Terminal(test.text); got != test.want {
			t.Errorf("Terminal(%q) = %q, want %q", test.text, got, test.want)
		}
	}
	long := Terminal(strings.Repeat("ü", mostShown))
	if len(long) > mostShown+100 || !strings.Contains(long, "more bytes") {
		t.Errorf("a long text became %d bytes", len(long))
	}
}

// FuzzRedact plants a secret in every form in which it may be written, once and
// twice escaped, by encoders that are not the redactor's own list.
func FuzzRedact(f *testing.F) {
	f.Add("before", "Tops3cret!", "after")
	f.Add("Authorization: Bearer ", "abcdef", "\r\n")
	f.Add("?token=", "pass word/<&>+%41", "&x=1")
	f.Add(`{"key":"`, "quote\"back\\slash", `"}`)
	f.Add("00", "00\x00000", "000")
	f.Add("", "]01234", "01234")
	f.Add("x", "x[redac", "")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if secret = strings.TrimSpace(secret); len(secret) < shortest || strings.Contains(mask, secret) || !utf8.ValidString(secret) {
			t.Skip()
		}
		redactor := New(secret)
		inJSON := func(s string) string {
			quoted := string(must(json.Marshal(s)))
			return quoted[1 : len(quoted)-1]
		}
		encoders := map[string]func(string) string{
			"plain": func(s string) string { return s }, "query": url.QueryEscape, "path": url.PathEscape, "JSON": inJSON,
		}
		for outer, wrap := range encoders {
			for inner, encode := range encoders {
				written := wrap(encode(secret))
				text := redactor.String(before + written + after)
				if strings.Contains(strings.ReplaceAll(text, mask, "\xff"), written) {
					t.Errorf("the secret %q, written as %q (%s in %s), survived in %q", secret, written, inner, outer, text)
				}
				if again := redactor.String(text); again != text && !fitsMask(secret) {
					t.Errorf("a second pass made %q of %q", again, text)
				}
			}
		}
	})
}

// fitsMask tells whether a secret may come about again where a mask meets what
// stands beside it. Each pass then takes more of that away, and leaves no more
// of the secret: to leave masks alone would keep one that a text holds behind a
// mask's beginning.
func fitsMask(secret string) bool {
	for i := 1; i < len(mask); i++ {
		if strings.HasPrefix(secret, mask[i:]) || strings.HasSuffix(secret, mask[:i]) {
			return true
		}
	}
	return strings.Contains(secret, mask)
}

func FuzzTerminal(f *testing.F) {
	f.Add("\x1b]0;title\x07\u202e\xff")
	f.Fuzz(func(t *testing.T, text string) {
		shown := Terminal(text)
		if !utf8.ValidString(shown) {
			t.Errorf("%q became invalid UTF-8 %q", text, shown)
		}
		for _, r := range shown {
			if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Cf, r) {
				t.Errorf("%q kept %U: %q", text, r, shown)
			}
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A value loses the secrets in its texts and keeps all else; the given one stays.
func TestValue(t *testing.T) {
	type value struct {
		Text   string            `json:"text"`
		Header map[string]string `json:"header"`
		N      int               `json:"n"`
	}
	given := value{Text: "a super_secret_ü\n", Header: map[string]string{"X-Api-Key": hunter}, N: 123456}
	got, err := Value(New("super_secret_ü"), given)
	if err != nil || got.Text != "a "+mask+"\n" || got.Header["X-Api-Key"] != mask || got.N != given.N {
		t.Errorf("got %+v, %v", got, err)
	}
	if given.Text != "a super_secret_ü\n" || given.Header["X-Api-Key"] != hunter {
		t.Errorf("the given value became %+v", given)
	}
}
