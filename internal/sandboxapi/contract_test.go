package sandboxapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// recording is one request to a real E2B API server, and its answer.
type recording struct {
	Name        string
	Method      string
	Path        string
	RequestBody string `json:"request_body"`
	Status      int
	Headers     map[string]string
	Body        json.RawMessage
}

// omitted marks a body that was too long to be kept.
const omitted = "(long body omitted)"

func recordings(t *testing.T) []recording {
	t.Helper()
	files, err := filepath.Glob("testdata/recordings/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	var all []recording
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var r recording
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, r)
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// bytes is the body as it went over the wire: JSON as it is, text unquoted.
func (r recording) bytes(t *testing.T) []byte {
	t.Helper()
	if len(r.Body) == 0 || r.Body[0] != '"' {
		return r.Body
	}
	var text string
	if err := json.Unmarshal(r.Body, &text); err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// call makes the client's call for a recorded request; what it returns is
// what must be in the answer.
type call struct {
	method string
	path   *regexp.Regexp
	make   func(ctx context.Context, c *Client, object string) (id string, err error)
}

var calls = []call{
	{"POST", regexp.MustCompile(`^/sandboxes$`), func(ctx context.Context, c *Client, _ string) (string, error) {
		s, err := c.Create(ctx, NewSandbox{TemplateID: "base"})
		return s.SandboxID, err
	}},
	{"GET", regexp.MustCompile(`^/v2/sandboxes(?:\?.*)?$`), func(ctx context.Context, c *Client, _ string) (string, error) {
		all, err := c.List(ctx, nil)
		if len(all) == 0 {
			return "", err
		}
		return all[0].SandboxID, err
	}},
	{"GET", regexp.MustCompile(`^/sandboxes/([^/?]+)$`), func(ctx context.Context, c *Client, id string) (string, error) {
		s, err := c.Get(ctx, id)
		return s.SandboxID, err
	}},
	{"DELETE", regexp.MustCompile(`^/sandboxes/([^/?]+)$`), func(ctx context.Context, c *Client, id string) (string, error) {
		existed, err := c.Delete(ctx, id)
		if err == nil && !existed {
			err = &Error{Kind: NotFound}
		}
		return "", err
	}},
	{"POST", regexp.MustCompile(`^/sandboxes/([^/?]+)/timeout$`), func(ctx context.Context, c *Client, id string) (string, error) {
		return "", c.SetTimeout(ctx, id, time.Minute)
	}},
	{"POST", regexp.MustCompile(`^/sandboxes/([^/?]+)/pause$`), func(ctx context.Context, c *Client, id string) (string, error) {
		return "", c.Pause(ctx, id)
	}},
	{"POST", regexp.MustCompile(`^/sandboxes/([^/?]+)/refreshes$`), func(ctx context.Context, c *Client, id string) (string, error) {
		return "", c.Refresh(ctx, id, time.Minute)
	}},
	{"POST", regexp.MustCompile(`^/sandboxes/([^/?]+)/connect$`), func(ctx context.Context, c *Client, id string) (string, error) {
		s, err := c.Connect(ctx, id, time.Minute)
		return s.SandboxID, err
	}},
	{"POST", regexp.MustCompile(`^/sandboxes/([^/?]+)/resume$`), func(ctx context.Context, c *Client, id string) (string, error) {
		s, err := c.Resume(ctx, id, time.Minute)
		return s.SandboxID, err
	}},
	{"GET", regexp.MustCompile(`^/v2/sandboxes/([^/?]+)/logs(?:\?.*)?$`), func(ctx context.Context, c *Client, id string) (string, error) {
		_, err := c.SandboxLogs(ctx, id, LogQuery{})
		return "", err
	}},
	{"GET", regexp.MustCompile(`^/nodes$`), func(ctx context.Context, c *Client, _ string) (string, error) {
		_, err := c.Nodes(ctx)
		return "", err
	}},
	{"GET", regexp.MustCompile(`^/templates(?:\?.*)?$`), func(ctx context.Context, c *Client, _ string) (string, error) {
		_, err := c.ListTemplates(ctx)
		return "", err
	}},
	{"GET", regexp.MustCompile(`^/templates/aliases/([^?]+)$`), func(ctx context.Context, c *Client, alias string) (string, error) {
		_, err := c.ResolveAlias(ctx, alias)
		return "", err
	}},
	{"GET", regexp.MustCompile(`^/templates/([^/?]+)(?:\?.*)?$`), func(ctx context.Context, c *Client, id string) (string, error) {
		_, err := c.GetTemplate(ctx, id)
		return "", err
	}},
}

// wantKind is what a recorded answer means to a client.
func wantKind(r recording, message string) Kind {
	switch {
	case r.Status < 300:
		return ""
	case r.Status == 401, r.Status == 403:
		return Unauthorised
	case r.Status == 404 && strings.HasPrefix(message, "validation error"):
		return Protocol
	case r.Status == 404:
		return NotFound
	case r.Status == 429:
		return Capacity
	}
	return Validation
}

// testClient is a client of a test server that does not wait long.
func testClient(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := New(Options{
		APIURL: server.URL, APIKey: testKey, AdminToken: testToken, UserAgent: "test", CreateTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.retry = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) }
	return c
}

const (
	testKey   = "e2b_5ec5e75ec5e75ec5e7"
	testToken = "rig-admin-token"
)

// The client understands every recorded answer of a real server to the calls
// that it makes.
func TestClientUnderstandsRecordedAnswers(t *testing.T) {
	understood := 0
	for _, r := range recordings(t) {
		for _, call := range calls {
			match := call.path.FindStringSubmatch(r.Path)
			if match == nil || call.method != r.Method {
				continue
			}
			body := r.bytes(t)
			if string(body) == omitted {
				break
			}
			understood++
			t.Run(r.Name, func(t *testing.T) {
				asked := 0
				c := testClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if asked++; asked > 1 && r.Status < 300 {
						_, _ = w.Write([]byte("[]")) // the page after a recorded one
						return
					}
					for name, value := range r.Headers {
						if name != "Transfer-Encoding" && name != "Connection" {
							w.Header().Set(name, value)
						}
					}
					w.WriteHeader(r.Status)
					_, _ = w.Write(body)
				}))
				object := ""
				if len(match) > 1 {
					object = match[1]
				}
				id, err := call.make(t.Context(), c, object)
				var parsed struct{ Message, SandboxID string }
				_ = json.Unmarshal(body, &parsed)
				if kind := KindOf(err); kind != wantKind(r, parsed.Message) || (kind == "" && err != nil) {
					t.Fatalf("%d %.200s: got %v (%q), want kind %q", r.Status, body, err, kind, wantKind(r, parsed.Message))
				}
				if id != "" && parsed.SandboxID != "" && id != parsed.SandboxID {
					t.Errorf("got sandbox %s of %.200s", id, body)
				}
				if e, ok := errors.AsType[*Error](err); ok && e.Status == 0 && e.Message == "" && r.Method != http.MethodDelete {
					t.Errorf("the error says nothing: %v", err)
				}
			})
			break
		}
	}
	if understood < 60 {
		t.Errorf("only %d recordings were replayed", understood)
	}
}
