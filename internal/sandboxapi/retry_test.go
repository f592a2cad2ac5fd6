package sandboxapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/cenkalti/backoff/v5"
)

// every makes each call of the client, by name.
var every = []struct {
	name string
	// repeated is true for calls that may be made twice without harm.
	repeated bool
	// object is what an error of the call must name.
	object string
	make   func(ctx context.Context, c *Client) error
}{
	{"create", false, "template base", func(ctx context.Context, c *Client) error {
		_, err := c.Create(ctx, NewSandbox{TemplateID: "base"})
		return err
	}},
	{"get", true, "sandbox i1", func(ctx context.Context, c *Client) error {
		_, err := c.Get(ctx, "i1")
		return err
	}},
	{"list", true, "list sandboxes", func(ctx context.Context, c *Client) error {
		_, err := c.List(ctx, map[string]string{"k": "v"})
		return err
	}},
	{"delete", true, "sandbox i1", func(ctx context.Context, c *Client) error {
		existed, err := c.Delete(ctx, "i1")
		if err == nil && !existed {
			return errors.New("a success that deleted nothing")
		}
		return err
	}},
	{"set the time-out", false, "sandbox i1", func(ctx context.Context, c *Client) error { return c.SetTimeout(ctx, "i1", time.Minute) }},
	{"refresh", false, "sandbox i1", func(ctx context.Context, c *Client) error { return c.Refresh(ctx, "i1", time.Minute) }},
	{"pause", false, "sandbox i1", func(ctx context.Context, c *Client) error { return c.Pause(ctx, "i1") }},
	{"resume", false, "sandbox i1", func(ctx context.Context, c *Client) error {
		_, err := c.Resume(ctx, "i1", time.Minute)
		return err
	}},
	{"connect", false, "sandbox i1", func(ctx context.Context, c *Client) error {
		_, err := c.Connect(ctx, "i1", time.Minute)
		return err
	}},
	{"logs", true, "sandbox i1", func(ctx context.Context, c *Client) error {
		_, err := c.SandboxLogs(ctx, "i1", LogQuery{})
		return err
	}},
	{"nodes", true, "list nodes", func(ctx context.Context, c *Client) error {
		_, err := c.Nodes(ctx)
		return err
	}},
	{"node", true, "node n1", func(ctx context.Context, c *Client) error {
		_, err := c.Node(ctx, "n1")
		return err
	}},
	{"templates", true, "templates", func(ctx context.Context, c *Client) error {
		_, err := c.ListTemplates(ctx)
		return err
	}},
	{"template", true, "template t", func(ctx context.Context, c *Client) error {
		_, err := c.GetTemplate(ctx, "t")
		return err
	}},
	{"alias", true, "alias base", func(ctx context.Context, c *Client) error {
		_, err := c.ResolveAlias(ctx, "base")
		return err
	}},
	{"health", false, "http://127.0.0.1", func(ctx context.Context, c *Client) error { return c.Health(ctx) }},
}

// Only what may be done twice is done twice, and only when it may help.
func TestWhatIsRepeated(t *testing.T) {
	for _, answered := range []struct {
		name   string
		status int
		header http.Header
		body   string
		kind   Kind
		helps  bool
	}{
		{"a server in trouble", 500, nil, `{"code":500,"message":"database down"}`, Transient, true},
		{"a proxy in trouble", 502, nil, "<html>Bad Gateway</html>", Transient, true},
		{"a rate limit without a wish", 429, nil, `{"code":429,"message":"Rate limit exceeded"}`, RateLimited, true},
		{"no room", 503, nil, `{"code":503,"message":"x","error_code":"sandbox_no_compatible_node"}`, Capacity, false},
		{"a bad key", 401, nil, `{"code":401,"message":"authorization header is malformed"}`, Unauthorised, false},
		{"another team's", 403, nil, `{"code":403,"message":"You don't have access to this sandbox template (t)"}`, Unauthorised, false},
		{"a bad request", 400, nil, `{"code":400,"message":"Invalid sandbox ID"}`, Validation, false},
		{"a conflict", 409, nil, `{"code":409,"message":"Sandbox i1 is already running"}`, Validation, false},
		{"no E2B at all", 404, nil, "<html>nginx</html>", Protocol, false},
		{"a request limit of many minutes", 429, http.Header{"Retry-After": {"3600"}}, `{"code":429,"message":"Rate limit exceeded"}`, RateLimited, false},
	} {
		for _, call := range every {
			t.Run(answered.name+"/"+call.name, func(t *testing.T) {
				var tries atomic.Int32
				c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					tries.Add(1)
					answer(answered.status, answered.header, answered.body)(w, r)
				}))
				want := int32(1)
				if call.repeated && answered.helps {
					want = maxTries
				}
				err := call.make(t.Context(), c)
				if KindOf(err) != answered.kind || tries.Load() != want {
					t.Fatalf("got %v (%q) after %d tries, want %q after %d", err, KindOf(err), tries.Load(), answered.kind, want)
				}
				if !strings.Contains(err.Error(), call.object) || !strings.Contains(err.Error(), fmt.Sprintf("answered %d", answered.status)) {
					t.Errorf("the error does not say what was tried and what came back: %v", err)
				}
				if strings.Contains(err.Error(), "wait 0s") {
					t.Errorf("the error gives advice that is none: %v", err)
				}
			})
		}
	}
}

// A caller that stops waiting is told what the server had said, and gets a
// typed error: an error of no kind reads like a success in a switch of kinds.
func TestWhoeverStopsWaitingIsToldWhy(t *testing.T) {
	for name, header := range map[string]http.Header{"a wish": {"Retry-After": {"30"}}, "no wish": nil} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			c := testClient(t, answer(http.StatusTooManyRequests, header, `{"code":429,"message":"Rate limit exceeded"}`))
			c.retry = func() backoff.BackOff { return hangUp(cancel) }
			_, err := c.Get(ctx, "i1")
			if KindOf(err) != RateLimited || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v of kind %q", err, KindOf(err))
			}
			if text := fmt.Sprint(err); !strings.Contains(text, "look at sandbox i1") || !strings.Contains(text, "Rate limit exceeded") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// hangUp ends a context when a client begins to wait.
type hangUp context.CancelFunc

func (h hangUp) NextBackOff() time.Duration {
	h()
	return maxElapsed / 2
}

func (h hangUp) Reset() {}

// A try that hangs is given up at its own time-out, and the next one counts.
func TestAHangingTryIsGivenUp(t *testing.T) {
	var hangs atomic.Bool
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hangs.Load() {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"sandboxID":"i1"}`)
	}))
	hangs.Store(true)
	c.options.RequestTimeout = 50 * time.Millisecond
	waits := 0
	c.retry = func() backoff.BackOff {
		return before(func() {
			hangs.Store(false)
			c.options.RequestTimeout = time.Minute
			waits++
		})
	}
	if s, err := c.Get(t.Context(), "i1"); err != nil || s.SandboxID != "i1" || waits != 1 {
		t.Errorf("got %+v, %v after %d waits", s, err, waits)
	}
}

// before does something before a client tries once more.
type before func()

func (b before) NextBackOff() time.Duration {
	b()
	return time.Millisecond
}

func (b before) Reset() {}

// A create has a time-out of its own, longer than that of other calls.
func TestACreateHasItsOwnTimeout(t *testing.T) {
	var hangs atomic.Bool
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client is gone
		if hangs.Load() {
			<-r.Context().Done()
			return
		}
		<-time.After(100 * time.Millisecond)
		answer(http.StatusCreated, nil, `{"sandboxID":"i1"}`)(w, r)
	}))
	c.options.RequestTimeout = 20 * time.Millisecond
	if _, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"}); err != nil {
		t.Error(err)
	}
	hangs.Store(true)
	c.options.CreateTimeout = 20 * time.Millisecond
	_, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"})
	if KindOf(err) != Transient || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAnAPIThatIsNotThere(t *testing.T) {
	// A port that was free a moment ago may be somebody's now; this one is nobody's.
	c, err := New(Options{APIURL: "http://127.0.0.1:1", APIKey: testKey, AdminToken: testToken, CreateTimeout: time.Minute, RequestTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c.retry = func() backoff.BackOff { return &backoff.ZeroBackOff{} }
	for _, call := range every {
		err := call.make(t.Context(), c)
		if KindOf(err) != Transient || !strings.Contains(err.Error(), call.object) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: got %v (%q)", call.name, err, KindOf(err))
		}
	}
}

// A proxy's page in place of an answer is no success of any call, whatever
// status it comes with.
func TestAPageIsNoSuccess(t *testing.T) {
	for _, call := range every {
		if call.name == "health" {
			continue // It answers in plain text.
		}
		c := testClient(t, answer(http.StatusOK, nil, "<html>please log in</html>"))
		if err := call.make(t.Context(), c); KindOf(err) != Protocol {
			t.Errorf("%s: got %v", call.name, err)
		}
	}
}

// An answer that lacks what every answer of its kind has is none.
func TestAnswersThatNameNothing(t *testing.T) {
	for _, call := range every {
		body := `{"new":1}`
		switch call.name {
		case "delete", "set the time-out", "refresh", "pause", "health":
			continue // Their answers hold nothing.
		case "list", "templates", "nodes":
			body = `[{"new":1}]`
		}
		c := testClient(t, answer(http.StatusOK, nil, body))
		if err := call.make(t.Context(), c); KindOf(err) != Protocol || !strings.Contains(err.Error(), call.object) {
			t.Errorf("%s: got %v", call.name, err)
		}
	}
}

// Redirects are not followed: they would carry the key to wherever a server
// says.
func TestTheKeyDoesNotFollowRedirects(t *testing.T) {
	var strayed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, call := range every {
		c := testClient(t, answer(http.StatusTemporaryRedirect, http.Header{"Location": {elsewhere.URL}}, ""))
		if err := call.make(t.Context(), c); KindOf(err) != Protocol {
			t.Errorf("%s: got %v", call.name, err)
		}
	}
	if strayed.Load() != 0 {
		t.Errorf("%d calls went elsewhere", strayed.Load())
	}
}

// No error names the key or the admin token, not even where a server echoes what it was sent and
// the key has no shape by which it would be known.
func TestErrorsNeverNameTheKey(t *testing.T) {
	const odd, token = "opensesame-opensesame", "openbarley-openbarley"
	for _, key := range []string{testKey, odd} {
		for _, status := range []int{200, 301, 401, 413, 502} {
			for _, format := range []string{"%s", `{"code":1,"message":"you sent %s"}`, "<html>X-Api-Key: %s</html>"} {
				for _, call := range every {
					c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						answer(status, nil, fmt.Sprintf(format, r.Header.Get("X-Api-Key")+r.Header.Get(AdminHeader)))(w, r)
					}))
					c, err := New(Options{APIURL: strings.Replace(c.base.String(), "://", "://user:"+odd+"@", 1), APIKey: key, AdminToken: token, CreateTimeout: time.Second, RequestTimeout: time.Second})
					if err != nil {
						t.Fatal(err)
					}
					c.retry = func() backoff.BackOff { return &backoff.StopBackOff{} }
					err = call.make(t.Context(), c)
					if err != nil && (strings.Contains(err.Error(), key) || strings.Contains(err.Error(), odd) || strings.Contains(err.Error(), token)) {
						t.Fatalf("%s, %d %s: %v", call.name, status, format, err)
					}
				}
			}
		}
	}
}

// Whatever a server writes, an error is short enough for a report, harmless to
// a terminal, and still ends in the advice.
func TestErrorsAreHarmlessToShow(t *testing.T) {
	evil := "\x1b[2J\x00\u202e\r" + strings.Repeat("\x07", 2*maxMessage)
	for _, body := range []string{evil, `{"code":400,"message":"\u001b[2Jevil"}`, `{"code":400,"message":"` + strings.Repeat("x", 2*maxMessage) + `"}`} {
		c := testClient(t, answer(http.StatusBadRequest, nil, body))
		_, err := c.Get(t.Context(), "i1")
		text := fmt.Sprint(err)
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) || len(text) > 10*maxMessage || !strings.HasSuffix(text, ")") {
			t.Errorf("%d bytes: %.100q … %q", len(text), text, text[max(0, len(text)-100):])
		}
	}
	c := testClient(t, answer(http.StatusBadRequest, nil, `{"code":400,"message":"no"}`))
	if _, err := c.Get(t.Context(), "i\x1b[2J"); err == nil || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("got %q", err)
	}
}

// An answer without an end does not fill the memory.
func TestAnswersAreBounded(t *testing.T) {
	for _, test := range []struct {
		status int
		kind   Kind
		bound  int
	}{{http.StatusOK, Protocol, maxBody}, {http.StatusBadGateway, Transient, maxErrorBody}} {
		c := testClient(t, http.NotFoundHandler())
		body := &endless{status: test.status}
		c.http = &http.Client{Transport: body}
		_, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"})
		if KindOf(err) != test.kind || body.read > test.bound+1 {
			t.Errorf("%d: got %v after %d bytes", test.status, err, body.read)
		}
	}
}

// endless answers with a status and a body without an end, and counts how
// much of it is read.
type endless struct {
	status, read int
}

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: e.status, Header: http.Header{}, Body: io.NopCloser(e), Request: r}, nil
}

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.read += len(p)
	return len(p), nil
}
