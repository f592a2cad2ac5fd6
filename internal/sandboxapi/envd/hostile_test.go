package envd

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"sandproof/internal/sandboxapi/envd/processpb"
	"sandproof/internal/sandboxapi/envd/processpb/processpbconnect"
)

// every makes each call of the client, by name.
var every = []struct {
	name string
	make func(ctx context.Context, c *Client) error
}{
	{"health", func(ctx context.Context, c *Client) error {
		status, err := c.Health(ctx)
		if err == nil && status != http.StatusNoContent {
			err = &Error{Where: AtEnvd, Status: status}
		}
		return err
	}},
	{"metrics", func(ctx context.Context, c *Client) error {
		_, err := c.Metrics(ctx)
		return err
	}},
	{"init", func(ctx context.Context, c *Client) error { return c.Init(ctx, InitRequest{}) }},
	{"upload", func(ctx context.Context, c *Client) error { return c.WriteFile(ctx, "root", "/tmp/x", []byte("x")) }},
	{"download", func(ctx context.Context, c *Client) error {
		_, err := c.ReadFile(ctx, "root", "/tmp/x", 10)
		return err
	}},
	{"run", func(ctx context.Context, c *Client) error {
		_, err := c.Run(ctx, command)
		return err
	}},
	{"list", func(ctx context.Context, c *Client) error {
		_, err := c.List(ctx)
		return err
	}},
	{"signal", func(ctx context.Context, c *Client) error { return c.Signal(ctx, "mine", syscall.SIGKILL) }},
}

// answering answers the same to everything.
func answering(status int, header http.Header, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// Whoever stands between the harness and envd is told from envd itself, in
// every call alike: a proxy's refusal must not count against a guest, nor a
// dead envd as trouble of the network.
func TestTheRefuserIsKnownInEveryCall(t *testing.T) {
	html, text := http.Header{"Content-Type": {"text/html"}}, http.Header{"Content-Type": {"text/plain"}}
	object := http.Header{"Content-Type": {"application/json"}}
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		where  Where
		text   string
	}{
		{"no such sandbox", 502, object, `{"sandboxId":"i1","message":"The sandbox was not found","code":502}`, AtProxy, "not found"},
		{"a closed port", 502, object, `{"sandboxId":"i1","message":"The sandbox is running but port is not open","port":49983,"code":502}`, AtPort, "port is not open"},
		{"an unreachable node", 502, text, "Failed to route request to sandbox\n", AtNetwork, "Failed to route"},
		{"a Host without a dot", 400, text, "Invalid host\n", AtNetwork, "Invalid host"},
		{"half of the routing headers", 400, text, "missing header\n", AtNetwork, "missing header"},
		{"a port that is none", 500, text, "Unexpected error when routing request: invalid sandbox port\n", AtNetwork, "invalid sandbox port"},
		{"a sandbox between two states", 409, object, `{"sandboxId":"i1","message":"The sandbox is still transitioning","code":409}`, AtNetwork, "transitioning"},
		{"too many connections", 429, object, `{"sandboxId":"i1","message":"Too many connections","connectionLimit":5,"code":429}`, AtNetwork, "Too many"},
		{"the traffic token", 403, object, `{"sandboxId":"i1","message":"Sandbox is secured with traffic access token","code":403}`, AtNetwork, "traffic access token"},
		{"an ingress in trouble", 503, html, "<html>busy</html>", AtNetwork, "busy"},
		{"another site", 404, html, "<html>nothing here</html>", AtNetwork, "nothing here"},
		{"a login page", 302, http.Header{"Location": {"/login"}}, "", AtNetwork, "302"},
		{"a gateway's limit", 429, object, `{"message":"API rate limit exceeded"}`, AtNetwork, "rate limit exceeded"},
		{"a gateway's limit with a code", 429, object, `{"code":429,"message":"slow down"}`, AtNetwork, "slow down"},
		{"a gateway's authoriser", 403, object, `{"message":"Forbidden"}`, AtNetwork, "Forbidden"},
		{"a gateway without a route", 404, object, `{"message":"no Route matched with those values"}`, AtNetwork, "no Route matched"},
		{"a gateway in trouble", 500, object, `{"message":"An unexpected error occurred","code":"E1"}`, AtNetwork, "unexpected"},
		{"a code of another status", 500, object, `{"message":"boom","code":13}`, AtNetwork, "boom"},
		{"a wrong token", 401, object, `{"code":401,"message":"unauthorized access, please provide a valid access token"}`, AtEnvd, "access token"},
	} {
		for _, call := range every {
			t.Run(test.name+"/"+call.name, func(t *testing.T) {
				err := call.make(t.Context(), serve(t, answering(test.status, test.header, test.body), ""))
				e, ok := errors.AsType[*Error](err)
				if !ok || e.Where != test.where || e.Status != test.status {
					t.Fatalf("got %#v, want %s with %d", err, test.where, test.status)
				}
				if call.name != "health" && !strings.Contains(err.Error(), test.text) {
					t.Errorf("the error does not say what came back: %v", err)
				}
			})
		}
	}
}

// Whoever says the token back does so without a part of it, also where the words
// are cut.
func TestNoHalfOfASecretInErrors(t *testing.T) {
	const token = "t0kent0kent0ken"
	for before := 180; before < 202; before++ {
		for _, body := range []string{strings.Repeat(".", before) + token, fmt.Sprintf(`{"code":401,"message":%q}`, strings.Repeat(".", before)+token)} {
			for _, call := range every {
				err := call.make(t.Context(), serve(t, answering(401, http.Header{"Content-Type": {"application/json"}}, body), token))
				if err == nil || strings.Contains(err.Error(), token[:4]) {
					t.Fatalf("%s after %d bytes: %v", call.name, before, err)
				}
			}
		}
	}
}

// What envd says of itself through Connect stays envd's word, in unary calls
// and in streams.
func TestEnvdsOwnRefusals(t *testing.T) {
	for _, test := range []struct {
		code connect.Code
		text string
	}{
		{connect.CodeInvalidArgument, "error starting process '/bin/true': fork/exec /bin/sh: bad file descriptor"},
		{connect.CodeInvalidArgument, "error starting process '/bin/true': fork/exec /bin/sh: device or resource busy"},
		{connect.CodeUnauthenticated, "invalid username: 'nobody-there'"},
		{connect.CodeUnavailable, "try again"},
		{connect.CodeUnimplemented, "no"},
	} {
		f := &refusing{err: connect.NewError(test.code, errors.New(test.text))}
		_, handler := processpbconnect.NewProcessHandler(f)
		for _, call := range every[5:] {
			err := call.make(t.Context(), serve(t, handler, ""))
			if e, ok := errors.AsType[*Error](err); !ok || e.Where != AtEnvd || e.Code != test.code.String() || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s, %s: got %v", call.name, test.code, err)
			}
		}
	}
}

type refusing struct {
	processpbconnect.UnimplementedProcessHandler

	err error
}

func (r *refusing) Start(context.Context, *connect.Request[processpb.StartRequest], *connect.ServerStream[processpb.StartResponse]) error {
	return r.err
}

func (r *refusing) List(context.Context, *connect.Request[processpb.ListRequest]) (*connect.Response[processpb.ListResponse], error) {
	return nil, r.err
}

func (r *refusing) SendSignal(context.Context, *connect.Request[processpb.SendSignalRequest]) (*connect.Response[processpb.SendSignalResponse], error) {
	return nil, r.err
}

// A guest does not choose where the harness goes: a redirect is followed by
// nobody, so that neither the token leaves nor another's answer counts.
func TestAGuestDoesNotRedirect(t *testing.T) {
	var strayed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		strayed.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(elsewhere.Close)
	for _, call := range every {
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			for _, body := range []string{"", `{"code":"unknown","message":"in the words of Connect"}`} {
				c := serve(t, answering(status, http.Header{"Location": {elsewhere.URL}}, body), "t0ken")
				if err := call.make(t.Context(), c); err == nil {
					t.Errorf("%s: a redirect is taken for a success", call.name)
				}
			}
		}
	}
	if strayed.Load() != 0 {
		t.Errorf("%d calls went elsewhere", strayed.Load())
	}
}

// No error names the sandbox's token, not even where the guest echoes it, and
// none is harmful to a terminal or too long for a report.
func TestErrorsNeverNameTheTokenAndAreHarmless(t *testing.T) {
	const token = "opensesame-opensesame"
	evil := "\x1b[2J\x00\u202e\r" + token + strings.Repeat("\x07", 100_000)
	for _, test := range []struct {
		status      int
		contentType string
		body        string
	}{
		{401, "application/json", `{"code":401,"message":"not ` + token + ` \u001b[2J"}`},
		{400, "application/json", `{"code":"invalid_argument","message":"not ` + token + ` \u001b[2J"}`},
		{502, "application/json", `{"sandboxId":"i1","message":"` + token + `"}`},
		{500, "text/plain", evil},
		{200, "application/connect+proto", frame(2, `{"error":{"code":"unknown","message":"not `+token+` \u001b[2J"}}`)},
		{200, "application/connect+proto", frame(2, evil)},
		{200, strings.Repeat("x", 100_000), "{}"},
	} {
		for _, call := range every {
			c := serve(t, answering(test.status, http.Header{"Content-Type": {test.contentType}}, test.body), token)
			text := fmt.Sprint(call.make(t.Context(), c))
			if strings.Contains(text, token) || len(text) > 40_000 || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
				t.Errorf("%s, %d %.60q: %d bytes: %.300q", call.name, test.status, test.body, len(text), text)
			}
		}
	}
}

// A process's fate is told in words that a guest wrote.
func TestStatusIsHarmlessToShow(t *testing.T) {
	f := &fakeEnvd{events: []*processpb.ProcessEvent{end(&processpb.ProcessEvent_EndEvent{ExitCode: 1, Exited: true, Status: "\x1b[2J" + strings.Repeat("x", 100_000)})}}
	result, err := f.client(t).Run(t.Context(), command)
	if err != nil || strings.ContainsRune(result.Status, 0x1b) || len(result.Status) > 40_000 {
		t.Errorf("got %d bytes: %.100q, %v", len(result.Status), result.Status, err)
	}
}

func frame(flag byte, payload string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(payload)))) + payload
}

func event(tb testing.TB, e *processpb.ProcessEvent) string {
	tb.Helper()
	data, err := proto.Marshal(&processpb.StartResponse{Event: e})
	if err != nil {
		tb.Fatal(err)
	}
	return frame(0, string(data))
}

// One message of a guest does not fill the memory, neither by its size nor by
// what it unpacks to.
func TestMessagesAreBounded(t *testing.T) {
	const size = maxMessage + 1
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	data, err := proto.Marshal(&processpb.StartResponse{Event: stdout(strings.Repeat("x", size))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	finish := event(t, end(&processpb.ProcessEvent_EndEvent{Exited: true})) + frame(2, "{}")
	for name, body := range map[string]string{
		"a long message":                  frame(0, string(data)) + finish,
		"a short one that unpacks to one": frame(1, packed.String()) + finish,
	} {
		header := http.Header{"Content-Type": {"application/connect+proto"}, "Connect-Content-Encoding": {"gzip"}}
		if result, err := serve(t, answering(http.StatusOK, header, body), "").Run(t.Context(), command); err == nil {
			t.Errorf("%s was taken: %d bytes of output", name, len(result.Stdout))
		}
	}
}

// Whichever end notices first that a lifetime is over: a process that had
// started is the guest's trouble, and one that was never heard of is not. It
// rests on a bubble's clock, in which what comes at once does.
func TestAnOverlongProcess(t *testing.T) {
	const over = "lifetime"
	started := event(t, start(9))
	timedOut := frame(2, `{"error":{"code":"deadline_exceeded","message":"context deadline exceeded"}}`)
	client := func(transport http.RoundTripper) *Client {
		return New(Options{Route: Route{BaseURL: "http://envd.example"}, Transport: transport})
	}
	for _, test := range []struct {
		name      string
		transport http.RoundTripper
		where     Where
		text      string
	}{
		{"seen here", hanging(started), AtEnvd, "process 9 had not ended"},
		{"seen by envd", scripted(started + timedOut), AtEnvd, "process 9 had not ended"},
		{"never started", hanging(""), AtNetwork, "nothing was heard"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cmd := command
				cmd.Lifetime = 100 * time.Millisecond
				_, err := client(test.transport).Run(t.Context(), cmd)
				if e, ok := errors.AsType[*Error](err); !ok || e.Where != test.where || !strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), over+" of 100ms") {
					t.Errorf("got %v, want it to be at %s", err, test.where)
				}
			})
		})
	}
	t.Run("the caller does not wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := client(hanging(started)).Run(ctx, command)
			if e, ok := errors.AsType[*Error](err); !ok || e.Where != AtNetwork || strings.Contains(err.Error(), over) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// hanging answers with a stream's bytes, and with nothing more until whoever
// asked gives up.
type hanging string

func (h hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	body, more := io.Pipe()
	go func() {
		_, _ = io.WriteString(more, string(h))
		<-r.Context().Done()
		_ = more.CloseWithError(r.Context().Err())
	}()
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{"Content-Type": {"application/connect+proto"}}, Body: body, Request: r,
	}, nil
}

// Nothing that a guest can send is a success without an end event and the
// stream's end frame.
func FuzzRun(f *testing.F) {
	good := event(f, start(7)) + event(f, stdout("hello"))
	ended := good + event(f, end(&processpb.ProcessEvent_EndEvent{Exited: true}))
	for _, seed := range []string{
		"", good, ended, ended + frame(2, "{}"), good + frame(2, "{}"), ended + frame(2, `{"error":{"code":"internal"}}`), ended + frame(2, "no"),
		frame(2, "{}") + ended, ended + frame(3, "{}"), ended + "\x02\x00\x00", frame(1, "\xff") + frame(2, "{}"), "\x00\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := New(Options{Route: Route{BaseURL: "http://envd.example"}, Transport: scripted(body)})
		result, err := c.Run(t.Context(), command)
		if err == nil && !proper(body) {
			t.Errorf("%q is taken for a process that ended: %+v", body, result)
		}
		if max(len(result.Stdout), len(result.Stderr), len(result.PTY)) > command.OutputLimit {
			t.Errorf("%q exceeds the output limit", body)
		}
		if _, typed := errors.AsType[*Error](err); err != nil && !typed {
			t.Errorf("%q: %v is no typed error", body, err)
		}
	})
}

// scripted answers every request with a stream's bytes, without a network.
type scripted []byte

func (s scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{"Content-Type": {"application/connect+proto"}},
		Body: io.NopCloser(bytes.NewReader(s)), Request: r,
	}, nil
}

// proper tells, by its own reading of the frames, whether a stream holds an
// end event and after it an end frame.
func proper(stream []byte) bool {
	ended := false
	for len(stream) >= 5 {
		flag, size := stream[0], uint64(binary.BigEndian.Uint32(stream[1:5]))
		stream = stream[5:]
		if uint64(len(stream)) < size {
			return false
		}
		payload := stream[:size]
		stream = stream[size:]
		if flag&2 != 0 {
			return ended
		}
		var message processpb.StartResponse
		if proto.Unmarshal(payload, &message) == nil && message.GetEvent().GetEnd() != nil {
			ended = true
		}
	}
	return false
}
