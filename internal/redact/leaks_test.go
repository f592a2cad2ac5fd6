package redact

import (
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// hunter stands where a credential would.
const hunter = "hunter2hunter2"

// Credentials that nobody told the redactor, in the forms in which logs,
// errors and records carry them.
func TestShapesInEveryForm(t *testing.T) {
	header := http.Header{"X-Api-Key": {hunter}, "Authorization": {"Bearer " + hunter}, "X-Access-Token": {hunter}}
	inJSON := string(must(json.Marshal(header)))
	record := string(must(json.Marshal(map[string]string{"line": inJSON})))
	const digest = `Authorization: Digest username="hunter's", realm="a&<b>: c", nonce="", uri="/x?y", qop=auth, response="` + hunter + `", opaque="hunter2"`
	for name, text := range map[string]string{
		"a printed header map":              fmt.Sprint(header),
		"a header map as JSON":              inJSON,
		"JSON in JSON":                      record,
		"JSON in JSON in JSON":              string(must(json.Marshal(record))),
		"a quoted error":                    strconv.Quote(`header "X-API-Key": "` + hunter + `"`),
		"a URL's query":                     "https://api/x?x-access-token=" + hunter + "&y=1",
		"a header in a query":               "?h=" + url.QueryEscape("X-API-Key: "+hunter) + "&y=1",
		"a header in a path":                "/h/" + url.PathEscape("Authorization: Bearer "+hunter),
		"bearer in a query":                 "?h=Bearer+" + hunter,
		"bearer in a path":                  "/Bearer%20" + hunter,
		"an escaped JSON object":            "?h=" + url.QueryEscape(`{"apiKey":"`+hunter+`"}`),
		"environment":                       "E2B_API_KEY=" + hunter + " E2B_ACCESS_TOKEN='" + hunter + "'",
		"YAML":                              "apiKey: " + hunter + "\naccess_token: \"" + hunter + "\"\n",
		"a Python dictionary":               "{'X-API-Key': '" + hunter + "', 'e2b-traffic-access-token': '" + hunter + "'}",
		"another scheme":                    "Authorization: token " + hunter,
		"bearer after a JSON line break":    string(must(json.Marshal("x\nbearer " + hunter))),
		"an empty header before":            "Authorization: \r\nX-Access-Token: " + hunter,
		"an empty token before":             "X-Access-Token: \nAuthorization: Basic " + hunter,
		"a scheme without a value before":   "Authorization: Bearer\r\nX-Access-Token: " + hunter,
		"a scheme twice":                    "Authorization: " + strings.Repeat("Bearer ", 2) + hunter + " and " + strings.Repeat("bearer ", 2) + hunter,
		"Nomad and Loki":                    "X-Nomad-Token: " + hunter + "\nNOMAD_TOKEN=" + hunter + " LOKI_BEARER_TOKEN=" + hunter,
		"an API key's scheme":               "Authorization: ApiKey " + hunter,
		"Negotiate":                         "Proxy-Authorization: Negotiate abc/+== " + hunter + "\n",
		"Digest":                            digest,
		"Digest in JSON":                    string(must(json.Marshal(map[string]string{"line": digest, "Authorization": digest[len("Authorization: "):]}))),
		"Digest in JSON in JSON":            string(must(json.Marshal(string(must(json.Marshal(digest)))))),
		"Digest for curl":                   "curl -H '" + digest + "'",
		"an indented header map":            string(must(json.MarshalIndent(header, "", "  "))),
		"an indented header map in JSON":    string(must(json.Marshal(string(must(json.MarshalIndent(header, "", "\t")))))),
		"a token of digits, without quotes": `{"apiKey":` + strings.Repeat("27", 9) + `}`,
	} {
		got := New().String(text)
		if strings.Contains(got, "hunter") || strings.Contains(got, "2727") || !strings.Contains(got, mask) {
			t.Errorf("%s: %s became %s", name, text, got)
		}
		if again := New().String(got); again != got {
			t.Errorf("%s: redacting twice changed %s to %s", name, got, again)
		}
	}
}

// A key is known by its prefix whatever letter an escape puts before it.
func TestKeysAfterEscapesGo(t *testing.T) {
	key := "e2b_" + strings.Repeat("0123456789", 4)
	for _, text := range []string{
		"line\n" + key, "tab\t" + key, "sk_" + key, "x=" + key + "," + key, "key_" + key, "…" + key + "…",
	} {
		for form, text := range map[string]string{
			"plain": text, "JSON": string(must(json.Marshal(text))), "quoted": strconv.Quote(text), "query": url.QueryEscape(text), "path": url.PathEscape(text),
		} {
			if got := New().String(text); strings.Contains(got, "0123456789") {
				t.Errorf("%s: %s became %s", form, text, got)
			}
		}
	}
}

// Every form of a given secret goes, even of one with characters that are
// escaped, and in a record that holds a log line that is JSON itself.
func TestGivenSecretsGoInEveryForm(t *testing.T) {
	const secret = "p@ss word/\"<&>\\\u00fc"
	marshal := func(s string) string { return string(must(json.Marshal(s))) }
	unescaped := func(s string) string {
		var b strings.Builder
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(s); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"plain": secret, "query": url.QueryEscape(secret), "path": url.PathEscape(secret), "JSON": marshal(secret), "JSON without HTML escapes": unescaped(secret),
		"JSON in JSON": marshal(marshal(secret)), "a foreign line in a record": marshal(unescaped(secret)), "query in JSON": marshal(url.QueryEscape(secret)),
	} {
		if got := New(secret + "\n").String("<" + text + ">"); strings.Contains(got, "word") {
			t.Errorf("%s: %s became %s", name, text, got)
		}
	}
}

// A secret that is a piece of the mask would grow with each pass.
func TestTheMaskIsNoSecret(t *testing.T) {
	r := New("redacted", hunter)
	if got := r.String(r.String("x " + hunter)); got != "x "+mask {
		t.Errorf("got %q", got)
	}
}

// Secrets of blanks, or of little more, would mask every indentation.
func TestBlankSecretsHideNothing(t *testing.T) {
	const text = "{\n        \"a\":      1\n}\t\t\t\t\t\t\t\t"
	if got := New("        ", "\t\t\t\t\t\t\t\t", "  a    ", "\n").String(text); got != text {
		t.Errorf("got %q", got)
	}
}

// A secret that is the beginning of another leaves nothing of the longer one.
func TestNestedSecretsGo(t *testing.T) {
	if got := New("abcdef", "abcdefghijkl").String("1 abcdefghijkl 2 abcdef 3"); got != "1 "+mask+" 2 "+mask+" 3" {
		t.Errorf("got %q", got)
	}
}

// What is not secret stays readable.
func TestPlainTextStays(t *testing.T) {
	for _, text := range []string{
		`{"trafficAccessToken":null,"envdAccessToken":"","secure":true}`,
		"Authorization: \nX-Other: x", "authorization=\r\nx", "apiKey:\n  other: x", "apiKey: [\nother: x",
		"authorization header is missing", "Invalid API key, please visit", "0::/user\n", "Authorization:", `{"a":"X-API-Key:","b":"c"}`,
		"failed to write cgroup property: open /sys/fs/cgroup/user/memory.high: permission denied", "the bearer of bad news", "e2b_short",
	} {
		if got := New("", "a", "user").String(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// Records and evidence are redacted as JSON text: whatever a guest wrote into
// them, they stay JSON.
func TestJSONStaysJSON(t *testing.T) {
	for _, text := range hostileJSON() {
		checkJSON(t, text)
	}
	for _, text := range []string{
		`{"apiKey":null}`, `{"apiKey":true,"x":[1]}`, `{"accessToken":123}`, `{"accessToken": -1.5e3 }`, `{"x-api-key":{"text":"x"}}`,
		`{"authorization":[]}`, `{"authorization":["Bearer abcdefgh"]}`, `{"authorization":[null,7]}`, `{"apiKey":[[{"a":1}]]}`, `["authorization:",{"a":1}]`,
	} {
		if got := New().String(text); !json.Valid([]byte(got)) {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func hostileJSON() []string {
	return []string{
		"X-API-Key:", "authorization=", "Authorization: Bearer ", "x-api-key:\\", `x-api-key":`, `x-api-key':'`, "apiKey:[", "apiKey=[\"", "bearer abcdef",
		"e2b_0123456789", "\x00e2b_0123456789", ">2b_0123456789", "\x1e2b_0123456789", "\x0e2b_01234567", "\x1bearer abcdefgh", "authorization: digest a=", "authorization: digest a=\"", "authorization: digest a=\"\"", `authorization: negotiate a=\`, `authorization: digest a="b\`, "authorization: digest \u2028<\n",
		"apiKey: [\n", "apiKey: [ \"", "\napiKey:x", "\u2028bearer abcdefgh", "x-access-token: \x1b", "apiKey%22%3A%22", "accessToken:\u00a0x", "apiKey=a\\", "apiKey\\", "apiKey\\\\", "bearer aaaaaa\\",
	}
}

func checkJSON(t *testing.T, text string) {
	t.Helper()
	value := []any{text, map[string]any{text: text}, map[string]any{"text": text, text: 7, "z" + text: nil}, []string{text, text}, map[string]any{"file": map[string]string{text: ""}}}
	for name, data := range map[string][]byte{"compact": must(json.Marshal(value)), "indented": must(json.MarshalIndent(value, "", "  "))} {
		got := New().Bytes(data)
		if !json.Valid(got) {
			t.Errorf("%s: %s became %s", name, data, got)
		}
	}
}

// What looks like a key because an escape of JSON ends in a key's first letters
// is none, and the escape stays whole; what follows goes as a key's would.
func TestEscapesStayWhole(t *testing.T) {
	for text, want := range map[string]string{
		`"\u003e2b_0123456789"`: ">2b_" + mask, `"\u001E2b_01234567"`: "\x1e2b_01234567", `"\u00e2b_0123456789"`: "âb_" + mask, `"\u0e2b_0123456789"`: "ห_" + mask,
		`"\u003ee2b_0123456789"`: ">" + mask, `"\u003esk_e2b_0123456789"`: ">" + mask, `"\\u003e2b_0123456789"`: `\u003e2b_` + mask,
	} {
		var got string
		if err := json.Unmarshal(New().Bytes([]byte(text)), &got); err != nil || got != want {
			t.Errorf("%s became %q, want %q: %v", text, got, want, err)
		}
	}
}

func FuzzJSONStaysJSON(f *testing.F) {
	for _, text := range hostileJSON() {
		f.Add(text)
	}
	f.Fuzz(checkJSON)
}

// FuzzHeadersGo plants a credential in every header and form, among anything.
func FuzzHeadersGo(f *testing.F) {
	f.Add("GET /\r\n", hunter, "\r\n")
	f.Add(`{"a":"`, "0123456789abcdef", `"}`)
	f.Add("e2b_", "abcdefgh", "[")
	f.Add("apiKey=", "zzzzzzzzzz", "")
	f.Add("bearer", "zzzzzzzzzz", "")
	f.Add("authorization: digest a=\"", "zzzzzzzzzz", "\"")
	// Words of the planted headers themselves, and of the mask, stay.
	ours := []string{"authorization", "response", "x-nomad-token", "redacted", "x-api-key", "x-access-token", "envdaccesstoken", "e2b-traffic-access-token"}
	f.Fuzz(func(t *testing.T, before, token, after string) {
		const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.~"
		if len(token) < 8 || strings.Trim(token, allowed) != "" || strings.Contains(before+after, token) ||
			slices.ContainsFunc(ours, func(word string) bool { return strings.Contains(word, strings.ToLower(token)) }) {
			t.Skip()
		}
		for _, planted := range []string{
			"X-API-Key: " + token, "X-Nomad-Token: " + token, "Authorization: ApiKey " + token, `Authorization: Digest a="b", response="` + token + `"`, "X-Access-Token=" + token, "Authorization: Bearer " + token, "Authorization: Basic " + token, `"apiKey": "` + token + `"`,
			"e2b-traffic-access-token%3A%20" + token, "Bearer " + token, `\"envdAccessToken\":\"` + token,
		} {
			// What follows begins after a line's end, so that it is not part of
			// the token; what stands before ends likewise.
			got := New().String(before + "\n" + planted + "\n" + after)
			if strings.Contains(got, token) {
				t.Errorf("%q survived in %q", planted, got)
			}
		}
	})
}

// Text in any state, bounded, can be shown.
func TestTerminalBoundsAndNames(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"\U000e0041", `\U000e0041`},
		{"a\u2066b\u2069", `a\u2066b\u2069`},
		{"\x1b]8;;http://evil\x1b\\click\x1b]8;;\x07", `\x1b]8;;http://evil\x1b\click\x1b]8;;\x07`},
		{"\u2028\u2029\ufeff", `\u2028\u2029\ufeff`},
		{"\xc3", `\xc3`},
		{"\ufffe\uffff\U0001ffff", `\ufffe\uffff\U0001ffff`},
		{"", ""},
	} {
		if got := Terminal(test.text); got != test.want {
			t.Errorf("Terminal(%q) = %q, want %q", test.text, got, test.want)
		}
	}
	for name, text := range map[string]string{"control": "\x00", "invalid": "\xff", "tags": "\U000e0041", "letters": "x"} {
		text = strings.Repeat(text, 1<<20)
		shown := Terminal(text)
		if len(shown) > 10*mostShown || !utf8.ValidString(shown) {
			t.Errorf("%s: %d bytes", name, len(shown))
		}
		if want := fmt.Sprintf("… (%d more bytes)", len(text)-mostShown); !strings.HasSuffix(shown, want) {
			t.Errorf("%s: it ends in %q, want %q", name, shown[len(shown)-40:], want)
		}
	}
}

func BenchmarkBytes(b *testing.B) {
	text := []byte(strings.Repeat(`{"text":"open /sys/fs/cgroup/user/memory.high: permission denied","apiKey":"x"}`+"\n", 1000))
	r := New("e2b_0123456789abcdef")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r.Bytes(text)
	}
}

// What stands before a URL's host goes, whether it is a password or a token in
// the place of a name; the host stays.
func TestUserInfoGoes(t *testing.T) {
	for _, address := range []string{
		"https://user:" + hunter + "@api.example.com:3000/x?y=1", "http://" + hunter + "@h/", "https://u:p@ss" + hunter + "@h", "postgres://u:" + hunter + "&x@h/db", "https://u:it's" + hunter + "@h",
	} {
		for name, text := range map[string]string{
			"plain": "GET " + address + " failed", "JSON": string(must(json.Marshal(address))), "JSON in JSON": string(must(json.Marshal(string(must(json.Marshal(address)))))),
			"PHP's JSON": `"` + strings.ReplaceAll(address, "/", `\/`) + `"`, "quoted": strconv.Quote(address), "query": "?to=" + url.QueryEscape(address),
		} {
			got := New().String(text)
			if strings.Contains(got, "hunter") || !strings.Contains(got, mask) {
				t.Errorf("%s: %s became %s", name, text, got)
			}
			if again := New().String(got); again != got {
				t.Errorf("%s: redacting twice changed %s to %s", name, got, again)
			}
		}
	}
	for _, text := range []string{
		"http://localhost:3000/a@b", "see https://e2b.dev, or mail a@b.c", "http://[::1]:49983/", `{"url":"http://h","mail":"a@b"}`, "://", "proxy=http://h?x=a@b", "'http://h', 'a@b'", "'http://h','a@b'", "('http://h') a@b",
	} {
		if got := New().String(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// A secret that is learned later goes from then on.
func TestLearnedSecretsGo(t *testing.T) {
	r := New(hunter)
	r.Learn("abcdefgh", "", "a", hunter)
	if got := r.String("abcdefgh " + hunter + " a"); got != mask+" "+mask+" a" {
		t.Errorf("got %q", got)
	}
}

// A page keeps its markup whatever a guest's text ends in, and loses what is
// known to be secret, however a page writes it.
func TestDocumentsKeepTheirMarkup(t *testing.T) {
	const secret = `a+b/c<d>"e'&f`
	const page = `<td title="apiKey:">x</td><td>Authorization: </td>`
	for name, escape := range map[string]func(string) string{"html": html.EscapeString, "html/template": template.HTMLEscapeString, "a page": pageEscape} {
		if got := string(New(secret).Document([]byte(page + escape(secret)))); got != page+mask {
			t.Errorf("%s: %s", name, got)
		}
	}
}
