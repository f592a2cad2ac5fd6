package sandboxapi

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/redact"
)

func answer(status int, header http.Header, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestErrorKinds(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   Kind
	}{
		{"placement failed, old servers", 500, nil, `{"code":500,"message":"Failed to place sandbox: no nodes"}`, Capacity},
		{"no capacity", 503, nil, `{"code":503,"message":"x","error_code":"sandbox_capacity_unavailable"}`, Capacity},
		{"placement took too long", 504, nil, `{"code":504,"message":"x","error_code":"sandbox_placement_timeout"}`, Capacity},
		{"too many at once", 429, nil, `{"code":429,"message":"you have reached the maximum number of concurrent E2B sandboxes (20)"}`, Capacity},
		{"too many requests", 429, http.Header{"Retry-After": {"7"}}, `{"code":429,"message":"Rate limit exceeded"}`, RateLimited},
		{"server in trouble", 500, nil, `{"code":500,"message":"dial tcp: refused"}`, Transient},
		{"proxy in trouble", 502, nil, "<html>Bad Gateway</html>", Transient},
		{"another service", 404, nil, "<html>nothing here</html>", Protocol},
		{"a redirect", 301, http.Header{"Location": {"/x"}}, "", Protocol},
		{"no such method", 404, nil, `{"code":404,"message":"validation error: method not allowed"}`, Protocol},
		{"success that is no JSON", 201, nil, "<html>welcome</html>", Protocol},
		{"success without a sandbox", 201, nil, `{}`, Protocol},
		{"cut off", 201, http.Header{"Content-Length": {"100"}}, `{"sandboxID":`, Transient},
		{"a wrong type", 201, nil, `{"sandboxID":7}`, Protocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tries atomic.Int32
			c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tries.Add(1)
				answer(test.status, test.header, test.body)(w, r)
			}))
			_, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"})
			if KindOf(err) != test.want {
				t.Errorf("got %v (%q), want %q", err, KindOf(err), test.want)
			}
			if tries.Load() != 1 {
				t.Errorf("a create was tried %d times", tries.Load())
			}
			if err != nil && (!strings.Contains(err.Error(), "create a sandbox of template base") || strings.Contains(err.Error(), testKey)) {
				t.Errorf("the error does not name what was tried, or names the key: %v", err)
			}
		})
	}
}

func TestUnknownFieldsAreTolerated(t *testing.T) {
	c := testClient(t, answer(201, nil, `{"sandboxID":"i1","templateID":"t","envdVersion":"0.2.0","clientID":"x","envdURL":"http://10.11.0.2:49983","new":{"a":[1]}}`))
	s, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"})
	if err != nil || s.EnvdURL != "http://10.11.0.2:49983" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestIdempotentCallsAreRepeated(t *testing.T) {
	var tries atomic.Int32
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1:
			answer(502, nil, "oops")(w, r)
		case 2:
			answer(429, http.Header{"Retry-After": {"1"}}, `{"code":429,"message":"Rate limit exceeded"}`)(w, r)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	started := time.Now()
	existed, err := c.Delete(t.Context(), "i1")
	if err != nil || !existed || tries.Load() != 3 {
		t.Errorf("existed %v, error %v after %d tries", existed, err, tries.Load())
	}
	if waited := time.Since(started); waited < time.Second {
		t.Errorf("Retry-After of a second was honoured for %s", waited)
	}
}

func TestPersistentTroubleIsTold(t *testing.T) {
	var tries atomic.Int32
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tries.Add(1)
		answer(500, nil, `{"code":500,"message":"database down"}`)(w, r)
	}))
	_, err := c.Get(t.Context(), "i1")
	if KindOf(err) != Transient || tries.Load() != maxTries || !strings.Contains(err.Error(), "database down") {
		t.Errorf("got %v after %d tries", err, tries.Load())
	}
}

func TestDeleteOfWhatIsGoneIsNoError(t *testing.T) {
	c := testClient(t, answer(404, nil, `{"code":404,"message":"Sandbox \"i1\" doesn't exist or you don't have access to it"}`))
	if existed, err := c.Delete(t.Context(), "i1"); existed || err != nil {
		t.Errorf("existed %v, error %v", existed, err)
	}
}

func TestListWalksAllPages(t *testing.T) {
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := 0
		if token := r.URL.Query().Get("nextToken"); token != "" {
			_, _ = fmt.Sscan(token, &page)
		}
		if page < 4 {
			w.Header().Set("X-Next-Token", strconv.Itoa(page+1))
		}
		// The last one of a page comes again on the next, as when one was
		// added between.
		_, _ = fmt.Fprintf(w, `[{"sandboxID":"i%d"},{"sandboxID":"i%d"}]`, page, page+1)
	}))
	all, err := c.List(t.Context(), nil)
	if err != nil || len(all) != 6 {
		t.Errorf("got %d sandboxes, %v; want 6", len(all), err)
	}
}

func TestEndlessListEnds(t *testing.T) {
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Next-Token", "again")
		_, _ = io.WriteString(w, "[]")
	}))
	if _, err := c.List(t.Context(), nil); KindOf(err) != Protocol {
		t.Errorf("got %v", err)
	}
}

// A server that does not heed the filter makes nobody else's sandbox ours.
func TestListIsOfWhatWasAskedFor(t *testing.T) {
	mine := `{"sandboxID":"mine","metadata":{"sandproof.run":"r","more":"1"}}`
	for _, test := range []struct {
		name, others string
		kind         Kind
	}{
		{"heeded", "", ""},
		{"another owner's", `,{"sandboxID":"other","metadata":{"owner":"production"}}`, ""},
		{"another run's", `,{"sandboxID":"other","metadata":{"sandproof.run":"r2"}}`, ""},
		{"one without metadata", `,{"sandboxID":"other","metadata":{}}`, ""},
		{"one that does not say its metadata", `,{"sandboxID":"other"}`, Protocol},
	} {
		c := testClient(t, answer(200, nil, "["+mine+test.others+"]"))
		all, err := c.List(t.Context(), map[string]string{"sandproof.run": "r"})
		if KindOf(err) != test.kind || err == nil && (len(all) != 1 || all[0].SandboxID != "mine") {
			t.Errorf("%s: %+v, %v", test.name, all, err)
		}
	}
}

// The filter comes out as it was put in when it is decoded as the server
// does: the query, the whole, then each key and value.
func TestMetadataFilterSurvivesTheServersDecoding(t *testing.T) {
	want := map[string]string{"sandproof.run": "a b&c=d%2F+ü", "x": ""}
	var got map[string]string
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = map[string]string{}
		whole, err := url.QueryUnescape(r.URL.Query().Get("metadata"))
		if err != nil {
			t.Error(err)
		}
		for pair := range strings.SplitSeq(whole, "&") {
			parts := strings.Split(pair, "=")
			if len(parts) != 2 {
				t.Errorf("pair %q", pair)
				continue
			}
			key, keyErr := url.QueryUnescape(parts[0])
			value, valueErr := url.QueryUnescape(parts[1])
			if err := errors.Join(keyErr, valueErr); err != nil {
				t.Error(err)
			}
			got[key] = value
		}
		_, _ = io.WriteString(w, "[]")
	}))
	if _, err := c.List(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRoute(t *testing.T) {
	domain := "own.example"
	for _, test := range []struct {
		name       string
		options    Options
		sandbox    Sandbox
		port       int
		base       string
		host       string
		headers    bool
		impossible bool
	}{
		{
			name: "one URL for all sandboxes", options: Options{APIURL: "http://localhost:3000", SandboxURL: "http://localhost:3002", Domain: "e2b.example"},
			port: EnvdPort, base: "http://localhost:3002", host: "49983-i1.e2b.example", headers: true,
		},
		{
			name: "one URL, no domain: the Host has a dot all the same", options: Options{APIURL: "http://localhost:3000", SandboxURL: "http://localhost:3002"},
			port: 8080, base: "http://localhost:3002", host: "8080-i1.sandbox.local", headers: true,
		},
		{name: "by domain", options: Options{Domain: "e2b.example"}, port: EnvdPort, base: "https://49983-i1.e2b.example"},
		{name: "the sandbox's own domain wins", options: Options{Domain: "e2b.example"}, sandbox: Sandbox{Domain: &domain}, port: EnvdPort, base: "https://49983-i1.own.example"},
		{
			name: "a fork's own address", options: Options{APIURL: "http://localhost:3000"}, sandbox: Sandbox{EnvdURL: "http://10.11.0.2:49983"},
			port: EnvdPort, base: "http://10.11.0.2:49983",
		},
		{name: "a fork's address is for envd alone", options: Options{APIURL: "http://localhost:3000"}, sandbox: Sandbox{EnvdURL: "http://10.11.0.2:49983"}, port: 80, impossible: true},
		{name: "no way", options: Options{APIURL: "http://localhost:3000"}, port: EnvdPort, impossible: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.options.APIKey, test.options.CreateTimeout, test.options.RequestTimeout = testKey, time.Second, time.Second
			c, err := New(test.options)
			if err != nil {
				t.Fatal(err)
			}
			test.sandbox.SandboxID = "i1"
			route, err := c.Route(test.sandbox, test.port)
			if (err != nil) != test.impossible {
				t.Fatalf("error %v", err)
			}
			if route.Header.Get(TrafficHeader) != "" {
				t.Errorf("a traffic token out of nowhere: %v", route.Header)
			}
			if route.BaseURL != test.base || route.Host != test.host || (route.Header["E2b-Sandbox-Id"] != nil && route.Header["E2b-Sandbox-Port"] != nil) != test.headers {
				t.Errorf("got %+v", route)
			}
		})
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{APIURL: "http://x"}, "E2B_API_KEY"},
		{Options{APIKey: testKey}, "E2B_API_URL"},
		{Options{APIKey: testKey, APIURL: "localhost:3000"}, "want http(s)://"},
	} {
		if _, err := New(test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

// A server that says the token back does so without a part of it, also where
// its words are cut.
func TestNoHalfOfASecretInErrors(t *testing.T) {
	for _, form := range []string{`{"code":401,"message":"%s"}`, "%s"} {
		for before := maxMessage - 2*len(testToken); before < maxMessage+2; before++ {
			body := fmt.Sprintf(form, strings.Repeat(".", before)+testToken)
			c := testClient(t, answer(401, nil, body))
			if _, err := c.Nodes(t.Context()); err == nil || strings.Contains(err.Error(), testToken[:4]) {
				t.Fatalf("after %d bytes: %v", before, err)
			}
		}
	}
}

func FuzzErrorOf(f *testing.F) {
	f.Add(500, []byte(`{"code":500,"message":"Failed to place sandbox"}`))
	f.Add(404, []byte("\x00<html>"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := errorOf("try", status, http.Header{}, body, redact.New())
		if e.Kind == "" || len(e.Error()) > 10*maxMessage {
			t.Errorf("kind %q, %d bytes", e.Kind, len(e.Error()))
		}
	})
}
