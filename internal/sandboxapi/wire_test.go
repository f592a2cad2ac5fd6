package sandboxapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wireTypes says which type each route's answer is.
var wireTypes = []struct {
	method string
	path   *regexp.Regexp
	fresh  func() any
}{
	{"POST", regexp.MustCompile(`^/sandboxes$`), func() any { return new(Sandbox) }},
	{"GET", regexp.MustCompile(`^/sandboxes/[^/?]+$`), func() any { return new(SandboxDetail) }},
	{"GET", regexp.MustCompile(`^/(?:v2/)?sandboxes(?:\?.*)?$`), func() any { return new([]ListedSandbox) }},
	{"GET", regexp.MustCompile(`^/(?:v2/)?templates(?:\?.*)?$`), func() any { return new([]Template) }},
	{"GET", regexp.MustCompile(`^/templates/aliases/[^?]+$`), func() any { return new(AliasTarget) }},
	{"GET", regexp.MustCompile(`^/templates/[^/?]+(?:\?.*)?$`), func() any { return new(TemplateWithBuilds) }},
	{"GET", regexp.MustCompile(`^/v2/sandboxes/[^/?]+/logs(?:\?.*)?$`), func() any { return new(SandboxLogs) }},
}

// unread are the fields of real answers that the wire types leave out.
var unread = []string{"allowInternetAccess"}

// What a real server said is encoded again with the same keys and values, but
// for those that are left out on purpose: the lab answers with these types,
// and whatever they invent or drop, its clients would see.
func TestWireTypesEncodeAsTheServerDoes(t *testing.T) {
	compared := 0
	for _, r := range recordings(t) {
		for _, wire := range wireTypes {
			if r.Method != wire.method || r.Status > 299 || !wire.path.MatchString(r.Path) || string(r.bytes(t)) == omitted {
				continue
			}
			compared++
			value := wire.fresh()
			if err := json.Unmarshal(r.Body, value); err != nil {
				t.Errorf("%s: %v", r.Name, err)
				break
			}
			again, err := json.Marshal(value)
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				break
			}
			if diff := cmp.Diff(plain(t, r.Body), plain(t, again)); diff != "" {
				t.Errorf("%s %s %s is encoded differently (-server +wire type):\n%s", r.Name, r.Method, r.Path, diff)
			}
			break
		}
	}
	if compared < 20 {
		t.Errorf("only %d answers were compared", compared)
	}
}

// plain decodes JSON without types, and without what the wire types leave out:
// the unread fields, and empty metadata, which the server shows or not by the
// sandbox's history.
func plain(t *testing.T, data []byte) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	strip := func(value any) {
		object, ok := value.(map[string]any)
		if !ok {
			return
		}
		for _, key := range unread {
			delete(object, key)
		}
		if metadata, ok := object["metadata"].(map[string]any); ok && len(metadata) == 0 {
			delete(object, "metadata")
		}
	}
	strip(value)
	if list, ok := value.([]any); ok {
		for _, element := range list {
			strip(element)
		}
	}
	return value
}

// seen is what a server got.
type seen struct {
	method, path, contentType, key, agent string
	body                                  string
}

// spying is a client of a server that keeps what it got and answers the same
// to everything.
func spying(t *testing.T, status int, body string) (*Client, func() []seen) {
	t.Helper()
	got := make(chan seen, 100)
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- seen{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), r.Header.Get("X-Api-Key"), r.UserAgent(), string(data)}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	return c, func() []seen {
		var all []seen
		for {
			select {
			case s := <-got:
				all = append(all, s)
			default:
				return all
			}
		}
	}
}

// The client asks for a sandbox in the words in which it was asked of a real
// server.
func TestCreateSendsWhatWasRecorded(t *testing.T) {
	const name = "021-create-metadata-env"
	all := recordings(t)
	i := slices.IndexFunc(all, func(r recording) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("no recording %s", name)
	}
	timeout := int32(300)
	c, sent := spying(t, http.StatusCreated, `{"sandboxID":"i1"}`)
	_, err := c.Create(t.Context(), NewSandbox{
		TemplateID: "base", Timeout: &timeout, Metadata: map[string]string{"user": "abc", "app": "prod"}, EnvVars: map[string]string{"FOO": "bar"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := sent()
	if len(got) != 1 || got[0].method != "POST" || got[0].path != "/sandboxes" || got[0].key != testKey || got[0].agent != "test" || got[0].contentType != "application/json" {
		t.Fatalf("sent %+v", got)
	}
	if diff := cmp.Diff(plain(t, []byte(all[i].RequestBody)), plain(t, []byte(got[0].body))); diff != "" {
		t.Errorf("the request differs (-recorded +sent):\n%s", diff)
	}
}

// A time-out call without a body, or with 0 in it, ends the sandbox: what is
// asked for must arrive, and never be rounded down to nothing.
func TestSetTimeoutNeverEndsASandboxByAccident(t *testing.T) {
	for _, test := range []struct {
		ttl  time.Duration
		want string
	}{
		{2 * time.Minute, `{"timeout":120}`},
		{1500 * time.Millisecond, `{"timeout":2}`},
		{time.Millisecond, `{"timeout":1}`},
		{0, `{"timeout":0}`},
	} {
		c, sent := spying(t, http.StatusNoContent, "")
		if err := c.SetTimeout(t.Context(), "i1", test.ttl); err != nil {
			t.Fatal(err)
		}
		got := sent()
		if len(got) != 1 || got[0].path != "/sandboxes/i1/timeout" || got[0].contentType != "application/json" || got[0].body != test.want {
			t.Errorf("%s was sent as %+v, want %s", test.ttl, got, test.want)
		}
	}
}

// The API is where its URL says, below a path as well, else where the domain
// says; a name in a path is one segment of it, whatever is in the name.
func TestWhereCallsGo(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.EscapedPath())
		_, _ = io.WriteString(w, `{"templateID":"t"}`)
	}))
	t.Cleanup(server.Close)
	for _, base := range []string{server.URL, server.URL + "/", server.URL + "/e2b", server.URL + "/e2b/"} {
		c, err := New(Options{APIURL: base, APIKey: testKey, CreateTimeout: time.Second, RequestTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ResolveAlias(t.Context(), "team/a b?"); err != nil {
			t.Error(err)
		}
	}
	const alias = "/templates/aliases/team%2Fa%20b%3F"
	if diff := cmp.Diff([]string{alias, alias, "/e2b" + alias, "/e2b" + alias}, got); diff != "" {
		t.Error(diff)
	}
	c, err := New(Options{Domain: "e2b.example", APIKey: testKey, CreateTimeout: time.Second, RequestTimeout: time.Second})
	if err != nil || c.base.String() != "https://api.e2b.example" {
		t.Errorf("got %v, %v", c, err)
	}
}

// A sandbox is always reached over TLS by its domain, as E2B's SDK does it,
// also when the API is asked over plain HTTP from inside.
func TestDomainsAreReachedOverTLS(t *testing.T) {
	c, err := New(Options{APIURL: "http://10.0.0.1:3000", Domain: "e2b.example", APIKey: testKey, CreateTimeout: time.Second, RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	route, err := c.Route(Sandbox{SandboxID: "i1"}, EnvdPort)
	if err != nil || route.BaseURL != "https://49983-i1.e2b.example" {
		t.Errorf("got %+v, %v", route, err)
	}
}

// The client of a sandbox's envd carries the sandbox's token and route, and
// the caller's name.
func TestEnvdIsReachedThroughTheRoute(t *testing.T) {
	reached := make(chan *http.Request, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- r
		_, _ = io.WriteString(w, `{"mem_total":1}`)
	}))
	t.Cleanup(proxy.Close)
	c, err := New(Options{APIURL: "http://10.0.0.1:3000", SandboxURL: proxy.URL, APIKey: testKey, UserAgent: "sandproof/test", CreateTimeout: time.Second, RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Envd(Sandbox{SandboxID: "i1", EnvdAccessToken: "t0ken"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	if _, err := e.Metrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := <-reached
	if r.Host != "49983-i1.sandbox.local" || r.Header.Get("E2b-Sandbox-Id") != "i1" || r.Header.Get("E2b-Sandbox-Port") != "49983" ||
		r.Header.Get("X-Access-Token") != "t0ken" || r.UserAgent() != "sandproof/test" || r.Header.Get("X-Api-Key") != "" {
		t.Errorf("reached for %s with %v", r.Host, r.Header)
	}
	if _, err := c.Envd(Sandbox{SandboxID: "i1", EnvdURL: "http://other:49983"}); err != nil {
		t.Error(err)
	}
}

// fixed answers every request with the same body, without a network.
type fixed struct {
	status int
	body   []byte
}

func (f fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: f.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(f.body))), Request: r}, nil
}

// Whatever comes as a list: it is a list of sandboxes that have names, or an
// error of kind Protocol.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`[]`, `null`, `[{"sandboxID":"i1","templateID":"t","new":1}]`, `[{}]`, `[null]`, `{"sandboxID":"i1"}`, `[{"sandboxID":"i1","endAt":"yesterday"}]`,
		`[{"sandboxID":1}]`, `[{"sandboxID":"i1"}`, "<html>", "\xff", `{"templateID":"t"}`,
	} {
		f.Add([]byte(seed))
	}
	c, err := New(Options{APIURL: "http://api.example", APIKey: testKey, AdminToken: testToken, CreateTimeout: time.Minute, RequestTimeout: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := *c
		c.http = &http.Client{Transport: fixed{http.StatusOK, body}}
		check := func(what string, err error, named bool) {
			if kind := KindOf(err); err != nil && kind != Protocol {
				t.Errorf("%s: %q is an error of kind %q: %v", what, body, kind, err)
			}
			if err == nil && !named {
				t.Errorf("%s: %q is taken for one, and names nothing", what, body)
			}
		}
		all, err := c.List(t.Context(), nil)
		check("list", err, !slices.ContainsFunc(all, func(s ListedSandbox) bool { return s.SandboxID == "" }))
		templates, err := c.ListTemplates(t.Context())
		check("templates", err, !slices.ContainsFunc(templates, func(t Template) bool { return t.TemplateID == "" }))
		sandbox, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"})
		check("create", err, sandbox.SandboxID != "")
		detail, err := c.Get(t.Context(), "i1")
		check("get", err, detail.SandboxID != "")
		template, err := c.GetTemplate(t.Context(), "t")
		check("template", err, template.TemplateID != "")
		target, err := c.ResolveAlias(t.Context(), "base")
		check("alias", err, target.TemplateID != "")
		resumed, err := c.Resume(t.Context(), "i1", time.Minute)
		check("resume", err, resumed.SandboxID != "")
		lines, err := c.SandboxLogs(t.Context(), "i1", LogQuery{})
		check("logs", err, lines != nil)
		nodes, err := c.Nodes(t.Context())
		check("nodes", err, !slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == "" }))
		node, err := c.Node(t.Context(), "n1")
		check("node", err, node.ID != "")
	})
}

func TestUnbuilt(t *testing.T) {
	for id, want := range map[string]bool{
		"00000000-0000-0000-0000-000000000000": true,
		"00000000-0000-0000-0000-000000000001": false,
		"9ac9c8b9-9b8b-476c-9238-8266af308c32": false,
		"":                                     false, // it is not told
	} {
		if got := (Template{BuildID: id}).Unbuilt(); got != want {
			t.Errorf("build %q: want %t, got %t", id, want, got)
		}
	}
}
