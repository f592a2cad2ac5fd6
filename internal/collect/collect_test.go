package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/sandboxapi/envd/processpb"
	"sandproof/internal/sandboxapi/envd/processpb/processpbconnect"
)

// world is an API and an envd in one server, with trouble where a test puts
// it.
type world struct {
	processpbconnect.UnimplementedProcessHandler

	createStatus int
	healthStatus int
	healthBody   string
	uploadStatus int
	// pauseStatus answers a pause; 0 is a server that has no such call.
	pauseStatus int
	// handsOut is the sandbox that a connect answers with; empty is the one asked for.
	handsOut string
	// nodes are what each node says that runs on it; without any the server has
	// no such call.
	nodes map[string]string
	// logs is the API's own log of the sandbox; empty is a server that has none.
	logs string
	// start answers a command, or fails it; aside one that is started beside
	// envd's cgroups, where it is set.
	start, aside func(args []string, pty bool) (stdout string, exit int32, err error)

	// strangers are listed beside the sandbox, whatever is asked for; lost are
	// the calls that no test expects.
	strangers []sandboxapi.ListedSandbox
	lost      []string

	// deletesLost are how many deletes are answered as if there were no sandbox.
	deletesLost int

	mu       sync.Mutex
	metadata map[string]string
	deletes  int
	deleted  bool
	renewals int
	// ttl is the last time to live that was asked for, in seconds;
	// timeoutStatus answers that, 0 is success.
	ttl           int
	timeoutStatus int
	uploads       int
	started       [][]string
}

func (w *world) Start(_ context.Context, r *connect.Request[processpb.StartRequest], stream *connect.ServerStream[processpb.StartResponse]) error {
	args := append([]string{r.Msg.GetProcess().GetCmd()}, r.Msg.GetProcess().GetArgs()...)
	w.mu.Lock()
	w.started = append(w.started, args)
	w.mu.Unlock()
	pty := r.Msg.GetPty() != nil
	start := w.start
	if w.aside != nil && r.Msg.GetTag() == systemTag {
		start = w.aside
	}
	out, exit, err := start(args, pty)
	if err != nil {
		return err
	}
	send := func(e *processpb.ProcessEvent) error { return stream.Send(&processpb.StartResponse{Event: e}) }
	data := &processpb.ProcessEvent_DataEvent{Output: &processpb.ProcessEvent_DataEvent_Stdout{Stdout: []byte(out)}}
	if pty {
		data.Output = &processpb.ProcessEvent_DataEvent_Pty{Pty: []byte(out)}
	}
	return errors.Join(
		send(&processpb.ProcessEvent{Event: &processpb.ProcessEvent_Start{Start: &processpb.ProcessEvent_StartEvent{Pid: 7}}}),
		send(&processpb.ProcessEvent{Event: &processpb.ProcessEvent_Data{Data: data}}),
		send(&processpb.ProcessEvent{Event: &processpb.ProcessEvent_End{End: &processpb.ProcessEvent_EndEvent{
			ExitCode: exit, Exited: true, Status: fmt.Sprintf("exit status %d", exit),
		}}}),
	)
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "POST /sandboxes":
		var request sandboxapi.NewSandbox
		_ = json.NewDecoder(r.Body).Decode(&request)
		w.metadata = request.Metadata
		rw.WriteHeader(w.createStatus)
		if w.createStatus == http.StatusBadGateway {
			_, _ = rw.Write([]byte("the proxy lost the answer"))
			return
		}
		_, _ = rw.Write([]byte(`{"sandboxID":"i1","templateID":"t1","envdVersion":"0.2.0","clientID":"x","code":0,"message":"Failed to place sandbox"}`))
	case "GET /v2/sandboxes":
		if !w.deleted && strings.Contains(r.URL.Query().Get("metadata"), w.metadata[MetadataSession]) {
			_ = json.NewEncoder(rw).Encode(append(slices.Clone(w.strangers), sandboxapi.ListedSandbox{SandboxID: "i1", Metadata: w.metadata})) //nolint:errchkjson // its times are zero
			return
		}
		_, _ = rw.Write([]byte("[]"))
	case "GET /sandboxes/i1":
		_, _ = rw.Write([]byte(`{"sandboxID":"i1","cpuCount":2,"memoryMB":512,"startedAt":"2026-11-23T12:00:00Z","endAt":"2026-11-23T12:05:00Z"}`))
	case "DELETE /sandboxes/i1":
		if w.deletes++; w.deletes <= w.deletesLost {
			rw.WriteHeader(http.StatusNotFound)
			_, _ = rw.Write([]byte(`{"code":404,"message":"Sandbox \"i1\" doesn't exist"}`))
			return
		}
		w.deleted = true
		rw.WriteHeader(http.StatusNoContent)
	case "POST /sandboxes/i1/pause":
		if w.pauseStatus == 0 {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		rw.WriteHeader(w.pauseStatus)
	case "POST /sandboxes/i1/connect":
		rw.WriteHeader(http.StatusCreated)
		fmt.Fprintf(rw, `{"sandboxID":%q,"templateID":"t1"}`, cmp.Or(w.handsOut, "i1"))
	case "GET /nodes":
		if w.nodes == nil {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		var all []string
		for id := range w.nodes {
			all = append(all, fmt.Sprintf(`{"id":%q}`, id))
		}
		fmt.Fprintf(rw, "[%s]", strings.Join(all, ","))
	case "GET /nodes/n1", "GET /nodes/n2":
		id := strings.TrimPrefix(r.URL.Path, "/nodes/")
		fmt.Fprintf(rw, `{"id":%q,"sandboxes":[{"sandboxID":%q}]}`, id, w.nodes[id])
	case "GET /v2/sandboxes/i1/logs":
		if w.logs == "" {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = rw.Write([]byte(w.logs))
	case "POST /sandboxes/i1/timeout":
		w.renewals++
		var asked struct{ Timeout int }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		w.ttl = asked.Timeout
		rw.WriteHeader(cmp.Or(w.timeoutStatus, http.StatusNoContent))
	case "GET /health":
		rw.WriteHeader(w.healthStatus)
		_, _ = rw.Write([]byte(w.healthBody))
	case "GET /metrics":
		_, _ = rw.Write([]byte(`{"mem_total":536870912}`))
	case "POST /files":
		w.uploads++
		rw.WriteHeader(w.uploadStatus)
		_, _ = rw.Write([]byte(`{"code":507,"message":"not enough disk space available"}`))
	default:
		w.lost = append(w.lost, r.Method+" "+r.URL.Path)
		rw.WriteHeader(http.StatusNotFound)
	}
}

// probeOutputs answers as the guest probe would.
func probeOutputs(args []string, _ bool) (string, int32, error) {
	frame := func(v any) string {
		data, err := evidence.FrameProbe(v)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	switch args[len(args)-1] {
	case probePath:
		return "", 0, nil // chmod
	case "snapshot":
		return frame(evidence.Snapshot{MemTotal: 42}), 0, nil
	case "self":
		return "motd\r\n" + frame(evidence.Process{PID: 9, Cgroup: "0::/ptys\n"}), 0, nil
	}
	return frame(evidence.PlacementReport{Self: evidence.Process{PID: 8, Cgroup: "0::/user\n"}}), 0, nil
}

// patience is how long is waited for what comes at once, but on a machine that
// has more to do.
const patience = time.Minute

func newSession(t *testing.T, w *world) *Session {
	t.Helper()
	mux := http.NewServeMux()
	path, handler := processpbconnect.NewProcessHandler(w)
	mux.Handle(path, handler)
	mux.Handle("/", w)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	client, err := sandboxapi.New(sandboxapi.Options{
		APIURL: server.URL, SandboxURL: server.URL, APIKey: "e2b_0123456789", AdminToken: "admin_0123456789", UserAgent: "test", CreateTimeout: patience, RequestTimeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	wait := 300 * time.Millisecond
	return New(Options{
		Run: "r", Process: "r.1", Version: "v", Target: "live", Template: config.Template{Name: "base", BuildID: "b"}, Client: client, Probe: []byte("probe"),
		Intervals: config.Intervals{
			SandboxTTL: time.Minute, EnvdReady: patience, Command: patience, Forwarder: wait, LogQuiet: wait, LogCap: wait, Destroy: patience, Poll: 10 * time.Millisecond,
			Burn: 10 * time.Millisecond, Pressure: time.Second,
		},
	})
}

func healthyWorld() *world {
	return &world{createStatus: http.StatusCreated, healthStatus: http.StatusNoContent, uploadStatus: http.StatusOK, start: probeOutputs}
}

func TestEverythingIsCollected(t *testing.T) {
	w := healthyWorld()
	s := newSession(t, w)
	s.Open(t.Context())
	s.Collect(t.Context(), evidence.PieceSnapshot, evidence.PiecePlacement)
	s.Collect(t.Context(), evidence.PieceSnapshot, evidence.PieceHealth)
	e := s.Evidence()
	if e.API == nil || e.API.SandboxID != "i1" || e.API.MemoryMB != 512 || e.API.BuildWanted != "b" || e.API.StartedAt == nil {
		t.Errorf("API %+v", e.API)
	}
	if e.Health == nil || e.Health.Status != 204 || e.Health.MemTotal != 512<<20 {
		t.Errorf("health %+v", e.Health)
	}
	if e.Snapshot == nil || e.Snapshot.MemTotal != 42 || e.Snapshot.Received.IsZero() {
		t.Errorf("snapshot %+v", e.Snapshot)
	}
	if p := e.Placement; p == nil || p.Command.Process.PID != 8 || p.PTY.Process.PID != 9 {
		t.Errorf("placement %+v", p)
	}
	if len(e.Problems) != 0 || e.Log != nil {
		t.Errorf("problems %+v, log %+v", e.Problems, e.Log)
	}
	if w.uploads != 1 || len(w.started) != 4 {
		t.Errorf("the probe was uploaded %d times, and %q started: nothing is done twice", w.uploads, w.started)
	}
	if w.metadata[MetadataRun] != "r" || w.metadata[MetadataProcess] != "r.1" || w.metadata[MetadataExpires] == "" {
		t.Errorf("metadata %v", w.metadata)
	}
	if err := s.Close(t.Context()); err != nil || !w.deleted {
		t.Errorf("close: %v, deleted %v", err, w.deleted)
	}
}

func TestNothingIsRunThatNobodyAskedFor(t *testing.T) {
	w := healthyWorld()
	s := newSession(t, w)
	s.Open(t.Context())
	s.Collect(t.Context(), evidence.PieceHealth)
	if w.uploads != 0 || len(w.started) != 0 || s.Evidence().Snapshot != nil {
		t.Errorf("asked for health, and %q was started", w.started)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Trouble becomes a problem of its piece, of the right kind and with what it
// means; it never becomes evidence, and the sandbox ends all the same.
func TestTroubleIsEvidenceOfItsOwn(t *testing.T) {
	const piece = evidence.PieceSnapshot
	failing := func(message string) func([]string, bool) (string, int32, error) {
		return func([]string, bool) (string, int32, error) {
			return "", 0, connect.NewError(connect.CodeInvalidArgument, errors.New(message))
		}
	}
	for _, test := range []struct {
		name    string
		harm    func(*world)
		piece   evidence.Piece
		kind    evidence.ProblemKind
		error   string
		meaning string
	}{
		// A placement that failed may have made a sandbox all the same.
		{"no capacity", func(w *world) { w.createStatus = 500 }, evidence.PieceAPI, evidence.ProblemInfra, "Failed to place sandbox", ""},
		{"no log source", func(*world) {}, evidence.PieceLog, evidence.ProblemGuest, "no log source is configured", "live.logs"},
		{"the image is full", func(w *world) { w.uploadStatus = 507 }, piece, evidence.ProblemGuest, "not enough disk space", ""},
		{"no cgroup2 mount", func(w *world) { w.start = failing("error starting process: bad file descriptor") }, piece, evidence.ProblemGuest, "bad file descriptor", "not cgroup2"},
		{
			"controllers one level too deep", func(w *world) { w.start = failing("error starting process: device or resource busy") }, piece,
			evidence.ProblemGuest, "busy", "one level too deep",
		},
		{"no nice", func(w *world) {
			w.start = func([]string, bool) (string, int32, error) { return "", 127, nil }
		}, piece, evidence.ProblemGuest, "exit code 127", "nice and ionice"},
		{"a probe that lies", func(w *world) {
			w.start = func([]string, bool) (string, int32, error) { return "all is well\n", 0, nil }
		}, piece, evidence.ProblemGuest, "printed no frame", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := healthyWorld()
			test.harm(w)
			s := newSession(t, w)
			s.Open(t.Context())
			s.Collect(t.Context(), test.piece)
			p := s.Evidence().ProblemOf(test.piece)
			if p == nil || p.Kind != test.kind || !strings.Contains(p.Error, test.error) || !strings.Contains(p.Meaning, test.meaning) {
				t.Errorf("problem %+v", p)
			}
			if s.Evidence().Snapshot != nil {
				t.Error("there is a snapshot all the same")
			}
			if err := s.Close(t.Context()); err != nil || !w.deleted {
				t.Errorf("close: %v, deleted %v", err, w.deleted)
			}
		})
	}
}

// A create call whose answer never came may have made a sandbox: it is looked
// for by the session's own metadata, and ended.
func TestLostCreateIsEnded(t *testing.T) {
	w := healthyWorld()
	w.createStatus = http.StatusBadGateway
	// Nobody else's sandbox is ended, also where the server lists them all.
	w.strangers = []sandboxapi.ListedSandbox{{SandboxID: "stranger", Metadata: map[string]string{"owner": "production"}}}
	s := newSession(t, w)
	s.Open(t.Context())
	if s.Evidence().API != nil {
		t.Fatalf("API %+v", s.Evidence().API)
	}
	if err := s.Close(t.Context()); err != nil || !w.deleted || len(w.lost) > 0 {
		t.Errorf("close: %v, deleted %v, and asked for what is not ours: %q", err, w.deleted, w.lost)
	}
}

// A server answers a delete as if there were no such sandbox while its store is
// down: one that is listed is there, until no list has it, and is told if it stays.
func TestLostCreateIsNotCalledEndedWhileListed(t *testing.T) {
	for _, test := range []struct {
		lost    int
		deletes int // at least
		says    string
	}{{0, 1, ""}, {2, 3, ""}, {1 << 20, 2, "delete sandbox i1, whose create call was cut off: 200ms later it is still listed"}} {
		w := healthyWorld()
		w.createStatus, w.deletesLost = http.StatusBadGateway, test.lost
		s := newSession(t, w)
		s.Open(t.Context())
		wait := 200 * time.Millisecond
		if test.says == "" {
			wait = patience
		}
		err := s.endLost(t.Context(), wait)
		if said := fmt.Sprint(err); (err == nil) != (test.says == "") || !strings.Contains(said, test.says) || w.deletes < test.deletes || w.deleted == (err != nil) {
			t.Errorf("%d deletes lost: %v, after %d, deleted %v", test.lost, err, w.deletes, w.deleted)
		}
	}
}

func TestUnhealthyEnvdIsSeen(t *testing.T) {
	w := healthyWorld()
	w.healthStatus = http.StatusServiceUnavailable
	s := newSession(t, w)
	s.options.Intervals.EnvdReady = 300 * time.Millisecond
	s.Open(t.Context())
	s.Collect(t.Context(), evidence.PieceSnapshot)
	if s.Evidence().Health != nil || s.Evidence().ProblemOf(evidence.PieceHealth) == nil || s.Evidence().Snapshot != nil {
		t.Errorf("got %+v", s.Evidence())
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheSandboxIsKeptAlive(t *testing.T) {
	w := healthyWorld()
	s := newSession(t, w)
	s.options.Intervals.SandboxTTL = 40 * time.Millisecond
	s.Open(t.Context())
	deadline := time.After(patience)
	for renewed := 0; renewed < 2; {
		select {
		case <-deadline:
			t.Fatal("nothing was renewed")
		case <-time.After(5 * time.Millisecond):
		}
		w.mu.Lock()
		renewed = w.renewals
		w.mu.Unlock()
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
