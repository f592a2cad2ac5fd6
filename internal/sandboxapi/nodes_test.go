package sandboxapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// asked is what a server was asked.
type asked struct {
	path   string
	query  url.Values
	header http.Header
}

// recorder answers every request with the body, and keeps the last one.
func recorder(t *testing.T, status int, body string) (*Client, *asked) {
	t.Helper()
	last := &asked{}
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*last = asked{r.URL.Path, r.URL.Query(), r.Header}
		answer(status, nil, body)(w, r)
	}))
	return c, last
}

// The admin token opens the calls about nodes and goes nowhere else; the key
// does not go there.
func TestTheAdminTokenGoesToNodesAlone(t *testing.T) {
	for _, call := range every {
		c, last := recorder(t, http.StatusOK, "{}")
		_ = call.make(t.Context(), c)
		forNodes := strings.HasPrefix(last.path, "/nodes")
		if got := last.header.Get(AdminHeader); (got == testToken) != forNodes || (got != "" && !forNodes) {
			t.Errorf("%s carries the admin token %q", last.path, got)
		}
		if got := last.header.Get("X-Api-Key"); (got == testKey) == forNodes {
			t.Errorf("%s carries the key %q", last.path, got)
		}
	}
}

// Without a token no call about nodes is made, and the error says what to set.
func TestNodesNeedAToken(t *testing.T) {
	c, last := recorder(t, http.StatusOK, "[]")
	c.options.AdminToken = ""
	_, err := c.Nodes(t.Context())
	_, errOne := c.Node(t.Context(), "n1")
	if !errors.Is(err, ErrNoAdminToken) || !errors.Is(errOne, ErrNoAdminToken) || !strings.Contains(err.Error(), "E2B_ADMIN_TOKEN") || last.path != "" {
		t.Errorf("got %v and %v after asking for %q", err, errOne, last.path)
	}
}

// A refused admin token is not blamed on the key.
func TestARefusedTokenIsNamed(t *testing.T) {
	c, _ := recorder(t, http.StatusUnauthorized, `{"code":401,"message":"Invalid Access token."}`)
	if _, err := c.Nodes(t.Context()); KindOf(err) != Unauthorised || !strings.Contains(err.Error(), "check E2B_ADMIN_TOKEN") || strings.Contains(err.Error(), "E2B_API_KEY") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Get(t.Context(), "i1"); !strings.Contains(err.Error(), "check E2B_API_KEY") {
		t.Errorf("got %v", err)
	}
}

// An unknown node is a 404 without a body, which for any other object is no
// answer of E2B's.
func TestUnknownNode(t *testing.T) {
	c, _ := recorder(t, http.StatusNotFound, "")
	if _, err := c.Node(t.Context(), "n1"); KindOf(err) != NotFound || !strings.Contains(err.Error(), "node n1") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Get(t.Context(), "i1"); KindOf(err) != Protocol {
		t.Errorf("got %v", err)
	}
}

// What servers of 2025 tell of a node is read too.
func TestNodeWithItsSandboxes(t *testing.T) {
	c, _ := recorder(t, http.StatusOK, `{"id":"n1","nodeID":"n","status":"ready","sandboxes":[{"sandboxID":"i1"}],"cachedBuilds":["b"]}`)
	node, err := c.Node(t.Context(), "n1")
	if err != nil || len(node.Sandboxes) != 1 || node.Sandboxes[0].SandboxID != "i1" || node.Status != "ready" {
		t.Errorf("got %+v, %v", node, err)
	}
}

// A question for logs says what it means and leaves out what is not asked.
func TestLogQuestions(t *testing.T) {
	at := time.UnixMilli(1795440904483)
	for _, test := range []struct {
		name string
		q    LogQuery
		want url.Values
	}{
		{"nothing", LogQuery{}, url.Values{}},
		{
			"all",
			LogQuery{Cursor: at, Limit: 7, Direction: Forward, Level: LevelWarn, Search: "a b&c=d"},
			url.Values{"cursor": {"1795440904483"}, "limit": {"7"}, "direction": {"forward"}, "level": {"warn"}, "search": {"a b&c=d"}},
		},
	} {
		c, last := recorder(t, http.StatusOK, `{"logs":[{"timestamp":"2026-11-23T13:35:09.483Z","level":"info","message":"hello","fields":{"pid":"42"}}]}`)
		lines, err := c.SandboxLogs(t.Context(), "i1", test.q)
		if diff := cmp.Diff(test.want, last.query); diff != "" || last.path != "/v2/sandboxes/i1/logs" {
			t.Errorf("%s: asked %s for (-want +got)\n%s", test.name, last.path, diff)
		}
		want := []LogEntry{{Timestamp: time.Date(2026, 11, 23, 13, 35, 9, 483e6, time.UTC), Level: LevelInfo, Message: "hello", Fields: map[string]string{"pid": "42"}}}
		if diff := cmp.Diff(want, lines); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", test.name, err, diff)
		}
	}
}

// A server without the newer call is told from a sandbox without logs.
func TestServersWithoutLogs(t *testing.T) {
	c, _ := recorder(t, http.StatusNotFound, `{"code":404,"message":"validation error: no matching operation was found"}`)
	if _, err := c.SandboxLogs(t.Context(), "i1", LogQuery{}); KindOf(err) != Protocol {
		t.Errorf("got %v", err)
	}
}

// The traffic token of a sandbox goes to its ports, and not to envd, which
// does not need it and would only learn it.
func TestTrafficTokenGoesToPorts(t *testing.T) {
	token := "tr4ffic"
	for _, options := range []Options{{APIURL: "http://x", SandboxURL: "http://localhost:3002"}, {Domain: "e2b.example"}} {
		options.APIKey, options.CreateTimeout, options.RequestTimeout = testKey, time.Second, time.Second
		c, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		for port, want := range map[int]string{8080: token, EnvdPort: ""} {
			route, err := c.Route(Sandbox{SandboxID: "i1", TrafficAccessToken: &token}, port)
			if got := route.Header.Get(TrafficHeader); err != nil || got != want {
				t.Errorf("port %d of %q: %q, %v, want %q", port, route.BaseURL, got, err, want)
			}
		}
	}
}

// An error tells what is known and what is not: whether anything may have been
// done, and by whose fault.
func TestErrorsSayWhatIsKnown(t *testing.T) {
	const unsure = "look before asking again"
	for _, test := range []struct {
		name, call     string
		status         int
		header         http.Header
		body           string
		says, saysNone []string
	}{
		{"a delete that may have worked", "delete", 500, nil, `{"code":500,"message":"Error killing sandbox"}`, []string{"may have had effects", unsure}, nil},
		{"a pause that may have ended the sandbox", "pause", 500, nil, `{"code":500,"message":"Error pausing sandbox"}`, []string{unsure}, nil},
		{"a look has no effects", "get", 500, nil, `{"code":500,"message":"x"}`, []string{"server's side"}, []string{"effects", unsure}},
		{"a 404 of an outage", "get", 404, nil, `{"code":404,"message":"Sandbox \"i1\" doesn't exist"}`, []string{"store is down", "lists fail"}, nil},
		{"a valid key, and a database that is down", "list", 401, nil, `{"code":401,"message":"Invalid API key"}`, []string{"E2B_API_KEY", "database"}, nil},
		{"another team's template", "template", 403, nil, `{"code":403,"message":"You don't have access"}`, []string{"another team's"}, []string{"check E2B_API_KEY", "database"}},
		{
			"the team's limit", "create", 429, nil, `{"code":429,"message":"you have reached the maximum number of concurrent E2B sandboxes (20)"}`,
			[]string{"nothing was started", "the team's limit"},
			[]string{"too many requests"},
		},
		{"the rate limit", "create", 429, http.Header{"Retry-After": {"3"}}, `{"code":429,"message":"Rate limit exceeded"}`, []string{"nothing was done", "wait 3s"}, []string{"limit is reached"}},
		{"a full cluster", "create", 500, nil, `{"code":500,"message":"Failed to place sandbox"}`, []string{"no room"}, []string{"the team's"}},
		{"a paused one", "pause", 409, nil, `{"code":409,"message":"already paused"}`, []string{"another state"}, []string{"does not suit"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testClient(t, answer(test.status, test.header, test.body))
			for _, call := range every {
				if call.name != test.call {
					continue
				}
				text := call.make(t.Context(), c).Error()
				for _, words := range test.says {
					if !strings.Contains(text, words) {
						t.Errorf("it does not say %q: %s", words, text)
					}
				}
				for _, words := range test.saysNone {
					if strings.Contains(text, words) {
						t.Errorf("it says %q: %s", words, text)
					}
				}
			}
		})
	}
}

// Where no answer comes, a create may have been done, a look cannot have done
// anything, and neither can what never reached the server.
func TestNoAnswerIsNoKnowledge(t *testing.T) {
	c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}))
	const unsure = "whether it was done is not known"
	if _, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"}); err == nil || !strings.Contains(err.Error(), unsure) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Get(t.Context(), "i1"); err == nil || strings.Contains(err.Error(), unsure) {
		t.Errorf("got %v", err)
	}
	c.base.Host = "127.0.0.1:1"
	if _, err := c.Create(t.Context(), NewSandbox{TemplateID: "base"}); err == nil || strings.Contains(err.Error(), unsure) {
		t.Errorf("got %v", err)
	}
}
