package envd

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sandproof/internal/sandboxapi/envd/processpb"
)

// Every call carries what leads it to its sandbox and opens it, over
// HTTP/1.1, under the harness's own name; what would crash an envd or end a
// process unasked is never sent.
func TestEveryCallIsRouted(t *testing.T) {
	got := make(chan *http.Request, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := New(Options{
		Route:       Route{BaseURL: server.URL + "/", Host: "49983-i1.e2b.example", Header: http.Header{"E2b-Sandbox-Id": {"i1"}, "E2b-Sandbox-Port": {"49983"}}},
		AccessToken: "t0ken", UserAgent: "sandproof/test",
	})
	t.Cleanup(c.Close)
	routed, ok := c.http.Transport.(*routed)
	if !ok {
		t.Fatalf("the transport is a %T", c.http.Transport)
	}
	transport, ok := routed.next.(*http.Transport)
	trusting, trusted := server.Client().Transport.(*http.Transport)
	if !ok || !trusted {
		t.Fatalf("the transports are %T and %T", routed.next, server.Client().Transport)
	}
	transport.TLSClientConfig = trusting.TLSClientConfig.Clone()
	transport.TLSClientConfig.NextProtos = nil
	for _, call := range every {
		_ = call.make(t.Context(), c)
		r := <-got
		for name, want := range map[string]string{
			"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "49983", "X-Access-Token": "t0ken", "User-Agent": "sandproof/test", "Keepalive-Ping-Interval": "",
		} {
			if r.Header.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", call.name, name, r.Header.Get(name), want)
			}
		}
		if r.Host != "49983-i1.e2b.example" || r.ProtoMajor != 1 || strings.HasPrefix(r.URL.Path, "//") {
			t.Errorf("%s: %s %s for %s", call.name, r.Proto, r.URL.Path, r.Host)
		}
	}
}

// A terminal's output is told from pipes', and each kind of output has the
// whole limit.
func TestKindsOfOutput(t *testing.T) {
	data := func(e *processpb.ProcessEvent_DataEvent) *processpb.ProcessEvent {
		return &processpb.ProcessEvent{Event: &processpb.ProcessEvent_Data{Data: e}}
	}
	text := []byte(strings.Repeat("x", command.OutputLimit))
	events := []*processpb.ProcessEvent{
		start(7), stdout(string(text)),
		data(&processpb.ProcessEvent_DataEvent{Output: &processpb.ProcessEvent_DataEvent_Stderr{Stderr: text}}),
		data(&processpb.ProcessEvent_DataEvent{Output: &processpb.ProcessEvent_DataEvent_Pty{Pty: text}}),
		end(&processpb.ProcessEvent_EndEvent{ExitCode: 3, Exited: true, Status: "exit status 3"}),
	}
	f := &fakeEnvd{events: events}
	cmd := command
	cmd.PTY, cmd.Env = &Size{Cols: 80, Rows: 24}, map[string]string{"A": "b"}
	result, err := f.client(t).Run(t.Context(), cmd)
	if err != nil || result.Truncated || result.ExitCode != 3 || result.Status != "exit status 3" {
		t.Errorf("got %+v, %v", result, err)
	}
	for kind, output := range map[string][]byte{"stdout": result.Stdout, "stderr": result.Stderr, "PTY": result.PTY} {
		if string(output) != string(text) {
			t.Errorf("%s has %d bytes", kind, len(output))
		}
	}
	if size := f.request.GetPty().GetSize(); size.GetCols() != 80 || size.GetRows() != 24 || f.request.GetProcess().GetEnvs()["A"] != "b" {
		t.Errorf("the request is %v", f.request)
	}
	// One byte more, then much more, of one kind: marked, and read to the end.
	f.events = append([]*processpb.ProcessEvent{stdout("y"), stdout(string(text))}, events...)
	if result, err = f.client(t).Run(t.Context(), cmd); err != nil || !result.Truncated || len(result.Stdout) != command.OutputLimit || result.ExitCode != 3 {
		t.Errorf("%d bytes, truncated %v, exit code %d, %v", len(result.Stdout), result.Truncated, result.ExitCode, err)
	}
}

// Files go up and come down as they are, whatever their name and size, and
// uncompressed: only so is their length known.
func TestFilesAreCarriedWhole(t *testing.T) {
	const path = `/tmp/with "quotes" & spaces?`
	files := map[string][]byte{}
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("username") + ":" + r.URL.Query().Get("path")
		if r.Method == http.MethodGet {
			if r.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("asked for %q", r.Header.Get("Accept-Encoding"))
			}
			_, _ = w.Write(files[name])
			return
		}
		form, err := r.MultipartReader()
		if err != nil {
			t.Error(err)
			return
		}
		part, err := form.NextPart()
		if err != nil || part.FormName() != "file" {
			t.Errorf("%v", err)
			return
		}
		if files[name], err = io.ReadAll(part); err != nil {
			t.Error(err)
		}
	}), "")
	for _, content := range []string{"", "\x00\r\n--boundary\xff", strings.Repeat("probe", 1<<18)} {
		if err := c.WriteFile(t.Context(), "root", path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.ReadFile(t.Context(), "root", path, int64(len(content))); err != nil || string(got) != content {
			t.Errorf("%d bytes became %d, %v", len(content), len(got), err)
		}
	}
	if _, err := c.ReadFile(t.Context(), "root", path, 1); err == nil || !strings.Contains(err.Error(), "longer than 1 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestMetricsThatAreNone(t *testing.T) {
	for _, body := range []string{"", "<html>", `{"mem_total":"much"}`, `{"mem_total":-1}`, `[1]`} {
		if m, err := serve(t, answering(http.StatusOK, nil, body), "").Metrics(t.Context()); err == nil {
			t.Errorf("%q was taken for %+v", body, m)
		}
	}
}
