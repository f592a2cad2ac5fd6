package envd

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sandproof/internal/redact"
	"sandproof/internal/sandboxapi/envd/processpb"
	"sandproof/internal/sandboxapi/envd/processpb/processpbconnect"
)

// fakeEnvd answers Start with the given events.
type fakeEnvd struct {
	processpbconnect.UnimplementedProcessHandler

	events  []*processpb.ProcessEvent
	err     error
	request *processpb.StartRequest
	header  http.Header
	signal  *processpb.SendSignalRequest
}

func (f *fakeEnvd) Start(_ context.Context, r *connect.Request[processpb.StartRequest], stream *connect.ServerStream[processpb.StartResponse]) error {
	f.request, f.header = r.Msg, r.Header()
	for _, event := range f.events {
		if err := stream.Send(&processpb.StartResponse{Event: event}); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeEnvd) List(context.Context, *connect.Request[processpb.ListRequest]) (*connect.Response[processpb.ListResponse], error) {
	tag := "mine"
	return connect.NewResponse(&processpb.ListResponse{Processes: []*processpb.ProcessInfo{
		{Pid: 7, Tag: &tag, Config: &processpb.ProcessConfig{Cmd: "/bin/sleep", Args: []string{"9"}}},
	}}), nil
}

func (f *fakeEnvd) SendSignal(_ context.Context, r *connect.Request[processpb.SendSignalRequest]) (*connect.Response[processpb.SendSignalResponse], error) {
	f.signal = r.Msg
	return connect.NewResponse(&processpb.SendSignalResponse{}), nil
}

func serve(t *testing.T, handler http.Handler, token string) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c := New(Options{
		Route:       Route{BaseURL: server.URL, Host: "49983-i1.e2b.example", Header: http.Header{"E2b-Sandbox-Id": {"i1"}, "E2b-Sandbox-Port": {"49983"}}},
		AccessToken: token, UserAgent: "sandproof/test",
	})
	t.Cleanup(c.Close)
	return c
}

func (f *fakeEnvd) client(t *testing.T) *Client {
	t.Helper()
	_, handler := processpbconnect.NewProcessHandler(f)
	return serve(t, handler, "")
}

func start(pid uint32) *processpb.ProcessEvent {
	return &processpb.ProcessEvent{Event: &processpb.ProcessEvent_Start{Start: &processpb.ProcessEvent_StartEvent{Pid: pid}}}
}

func stdout(text string) *processpb.ProcessEvent {
	return &processpb.ProcessEvent{Event: &processpb.ProcessEvent_Data{Data: &processpb.ProcessEvent_DataEvent{
		Output: &processpb.ProcessEvent_DataEvent_Stdout{Stdout: []byte(text)},
	}}}
}

func end(e *processpb.ProcessEvent_EndEvent) *processpb.ProcessEvent {
	return &processpb.ProcessEvent{Event: &processpb.ProcessEvent_End{End: e}}
}

var command = Command{Path: "/bin/true", User: "root", Lifetime: time.Minute, OutputLimit: 1 << 10}

func TestRun(t *testing.T) {
	f := &fakeEnvd{events: []*processpb.ProcessEvent{
		start(7), stdout("hello "),
		{Event: &processpb.ProcessEvent_Keepalive{Keepalive: &processpb.ProcessEvent_KeepAlive{}}},
		stdout("world"),
		// A zero exit code is left out of the message on the wire.
		end(&processpb.ProcessEvent_EndEvent{Exited: true, Status: "exit status 0"}),
	}}
	cmd := command
	cmd.Tag, cmd.Dir, cmd.Args = "mine", "/", []string{"-c"}
	result, err := f.client(t).Run(t.Context(), cmd)
	if err != nil || result.PID != 7 || result.ExitCode != 0 || !result.Exited || string(result.Stdout) != "hello world" || result.Truncated {
		t.Errorf("got %+v, %v", result, err)
	}
	if r := f.request; r.Stdin == nil || r.GetStdin() || r.GetTag() != "mine" || r.GetProcess().GetCwd() != "/" || r.GetPty() != nil {
		t.Errorf("the request is %v", r)
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("root:")); f.header.Get("Authorization") != want {
		t.Errorf("the user is %q", f.header.Get("Authorization"))
	}
	if f.header.Get("E2b-Sandbox-Id") != "i1" || f.header.Get("User-Agent") != "sandproof/test" {
		t.Errorf("headers %v", f.header)
	}
}

// envd kills a process when the time in Connect-Timeout-Ms is over, so that
// header is the lifetime that was chosen, and never a deadline that a context
// happened to have.
func TestLifetimeIsChosenOnPurpose(t *testing.T) {
	f := &fakeEnvd{events: []*processpb.ProcessEvent{end(&processpb.ProcessEvent_EndEvent{Exited: true})}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command
	cmd.Lifetime = time.Hour
	if _, err := f.client(t).Run(ctx, cmd); err != nil {
		t.Fatal(err)
	}
	ms, err := strconv.Atoi(f.header.Get("Connect-Timeout-Ms"))
	if err != nil || ms < 59*60_000 || ms > 60*60_000 {
		t.Errorf("Connect-Timeout-Ms is %q", f.header.Get("Connect-Timeout-Ms"))
	}
	if _, err := f.client(t).Run(t.Context(), Command{Path: "x", User: "root", OutputLimit: 1}); err == nil {
		t.Error("a command without a lifetime was run")
	}
}

func TestCancelledContextEndsTheCall(t *testing.T) {
	blocked := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	cmd := command
	cmd.Lifetime = time.Hour
	started := time.Now()
	if _, err := serve(t, blocked, "").Run(ctx, cmd); err == nil || time.Since(started) > time.Minute {
		t.Errorf("got %v after %s", err, time.Since(started))
	}
}

func TestOutputIsBounded(t *testing.T) {
	f := &fakeEnvd{events: []*processpb.ProcessEvent{
		stdout(strings.Repeat("x", 1000)), stdout(strings.Repeat("y", 1000)), end(&processpb.ProcessEvent_EndEvent{Exited: true}),
	}}
	result, err := f.client(t).Run(t.Context(), command)
	if err != nil || len(result.Stdout) != command.OutputLimit || !result.Truncated {
		t.Errorf("%d bytes, truncated %v, %v", len(result.Stdout), result.Truncated, err)
	}
}

func TestSignalledProcess(t *testing.T) {
	f := &fakeEnvd{events: []*processpb.ProcessEvent{end(&processpb.ProcessEvent_EndEvent{ExitCode: -1, Status: "signal: killed"})}}
	result, err := f.client(t).Run(t.Context(), command)
	if err != nil || result.Exited || result.ExitCode != -1 {
		t.Errorf("got %+v, %v", result, err)
	}
}

// What is no proper end is no success, whatever came before.
func TestBrokenStreamsAreErrors(t *testing.T) {
	frame := func(flag byte, text string) string {
		return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(text)))) + text
	}
	raw := func(body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/connect+proto")
			_, _ = io.WriteString(w, body)
		})
	}
	_, ended := processpbconnect.NewProcessHandler(&fakeEnvd{events: []*processpb.ProcessEvent{start(7)}})
	_, refused := processpbconnect.NewProcessHandler(&fakeEnvd{err: connect.NewError(connect.CodeInvalidArgument, errors.New("cwd '/x' does not exist"))})
	for _, test := range []struct {
		name    string
		handler http.Handler
		where   Where
		text    string
	}{
		{"no end event", ended, AtEnvd, "without saying how the process did"},
		{"no end frame", raw(frame(0, "")), AtNetwork, ""},
		{"nothing at all", raw(""), AtNetwork, ""},
		{"half a frame", raw("\x00\x00\x00\x00\xff12"), AtNetwork, ""},
		{"garbage", raw(frame(0, "\xff\xff\xff\xff") + frame(2, "{}")), AtNetwork, ""},
		{"an error in the end frame", refused, AtEnvd, "cwd '/x' does not exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := serve(t, test.handler, "").Run(t.Context(), command)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Where != test.where || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The proxy's 502 has two meanings, told apart by the body alone.
func TestWhoRefused(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		where  Where
	}{
		{502, `{"sandboxId":"i1","message":"The sandbox was not found","code":502}`, AtProxy},
		{502, `{"sandboxId":"i1","message":"The sandbox is running but port is not open","port":49983,"code":502}`, AtPort},
		{502, "Failed to route request to sandbox", AtNetwork},
		{503, "<html>busy</html>", AtNetwork},
		{401, `{"message":"unauthorized access","code":401}`, AtEnvd},
		{507, `{"message":"no space","code":507}`, AtEnvd},
	} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}), "")
		err := c.WriteFile(t.Context(), "root", "/tmp/x", []byte("x"))
		if e, ok := errors.AsType[*Error](err); !ok || e.Where != test.where || e.Status != test.status {
			t.Errorf("%d %s: got %v", test.status, test.body, err)
		}
	}
}

func TestHTTPRoutes(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Access-Token") != "t0ken" || r.Host != "49983-i1.e2b.example" {
			t.Errorf("%s %s came with token %q for %s", r.Method, r.URL, r.Header.Get("X-Access-Token"), r.Host)
		}
		switch r.Method + " " + r.URL.Path {
		case "GET /health", "POST /init":
			w.WriteHeader(http.StatusNoContent)
		case "GET /metrics":
			_, _ = io.WriteString(w, `{"cpu_count":2,"mem_total":491421696,"new":1}`)
		case "POST /files":
			file, header, err := r.FormFile("file")
			if err != nil || header.Filename != "x" || r.URL.Query().Get("path") != "/tmp/x" || r.URL.Query().Get("username") != "root" {
				t.Errorf("%v %+v %s", err, header, r.URL)
				return
			}
			content, err := io.ReadAll(file)
			if err != nil || string(content) != "content" {
				t.Errorf("%q, %v", content, err)
			}
		case "GET /files":
			_, _ = io.WriteString(w, "content")
		}
	}), "t0ken")
	if status, err := c.Health(t.Context()); err != nil || status != http.StatusNoContent {
		t.Errorf("health %d, %v", status, err)
	}
	if m, err := c.Metrics(t.Context()); err != nil || m.MemTotal != 491421696 {
		t.Errorf("metrics %+v, %v", m, err)
	}
	if err := c.Init(t.Context(), InitRequest{AccessToken: "t0ken"}); err != nil {
		t.Error(err)
	}
	if err := c.WriteFile(t.Context(), "root", "/tmp/x", []byte("content")); err != nil {
		t.Error(err)
	}
	if data, err := c.ReadFile(t.Context(), "root", "/tmp/x", 100); err != nil || string(data) != "content" {
		t.Errorf("read %q, %v", data, err)
	}
	if _, err := c.ReadFile(t.Context(), "root", "/tmp/x", 3); err == nil || !strings.Contains(err.Error(), "longer than 3 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestListAndSignal(t *testing.T) {
	f := &fakeEnvd{}
	c := f.client(t)
	if all, err := c.List(t.Context()); err != nil || len(all) != 1 || all[0].PID != 7 || all[0].Tag != "mine" {
		t.Errorf("got %+v, %v", all, err)
	}
	if err := c.Signal(t.Context(), "mine", syscall.SIGTERM); err != nil || f.signal.GetSignal() != processpb.Signal_SIGNAL_SIGTERM || f.signal.GetProcess().GetTag() != "mine" {
		t.Errorf("got %v, %v", f.signal, err)
	}
}

func TestErrorsAreHarmlessToShow(t *testing.T) {
	err := answerError("try", 500, []byte(`{"message":"\u001b[2Jevil"}`), redact.New())
	if strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("got %q", err)
	}
}

func FuzzAnswerError(f *testing.F) {
	f.Add(502, []byte(`{"sandboxId":"i1","port":1}`))
	f.Add(500, []byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if e := answerError("try", status, body, redact.New()); e.Where == "" || e.Error() == "" {
			t.Errorf("%+v", e)
		}
	})
}
