package logscan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"sandproof/internal/evidence"
	"sandproof/internal/redact"
)

// lokiServer is a Loki for the tests: the double, or a real one.
type lokiServer struct {
	address string
	via     http.RoundTripper // nil is the network
	delay   time.Duration     // the log-delay of the tests
}

// ask sends a request and returns the answer's status and body; 0 and an error
// where there was none.
func (s lokiServer) ask(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.address+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: s.via, Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}

// lokiLine is a line and when it was logged, in nanoseconds since 1970.
type lokiLine struct {
	at   int64
	text string
}

// pushed is what Loki takes: streams with their lines.
type pushed struct {
	Streams []lokiStream `json:"streams"`
}

type lokiStream struct {
	Stream map[string]string `json:"stream"`
	Values [][2]string       `json:"values"`
}

// push ships lines as one stream.
func (s lokiServer) push(t *testing.T, labels map[string]string, lines ...lokiLine) (int, string) {
	t.Helper()
	stream := lokiStream{Stream: labels}
	for _, l := range lines {
		stream.Values = append(stream.Values, [2]string{strconv.FormatInt(l.at, 10), l.text})
	}
	body, err := json.Marshal(pushed{[]lokiStream{stream}})
	if err != nil {
		return 0, err.Error()
	}
	return s.ask(t, http.MethodPost, "/loki/api/v1/push", string(body))
}

// lokiDouble answers as Loki 2.2.1 does, which TestLokiAnswers holds against the
// real one: queries are {service="NAME"}.
type lokiDouble struct {
	mu      sync.Mutex
	streams map[string]*lokiStream // by their labels
}

func newLokiDouble() lokiServer {
	d := &lokiDouble{streams: map[string]*lokiStream{}}
	return lokiServer{address: "http://loki.invalid", via: d, delay: 15 * time.Second}
}

// RoundTrip implements http.RoundTripper, so that nothing waits for a network
// and a bubble's clock can go on.
func (d *lokiDouble) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return w.Result(), nil
}

// lokiMost is how many lines Loki gives at once where nobody changed that.
const lokiMost = 5000

func (d *lokiDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "POST /loki/api/v1/push":
		d.take(w, r)
	case "GET /loki/api/v1/query_range":
		d.query(w, r)
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}

// take takes lines in, but for those that are older than the newest of their
// stream; a line that it has already is dropped.
func (d *lokiDouble) take(w http.ResponseWriter, r *http.Request) {
	var body pushed
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ignored := 0
	for _, s := range body.Streams {
		labels := fmt.Sprint(s.Stream) // sorted by name
		known := d.streams[labels]
		if known == nil {
			known = &lokiStream{Stream: s.Stream}
			d.streams[labels] = known
		}
		for _, v := range s.Values {
			switch last := len(known.Values) - 1; {
			case last >= 0 && moment(v) < moment(known.Values[last]):
				ignored++
			case last >= 0 && known.Values[last] == v:
			default:
				known.Values = append(known.Values, v)
			}
		}
	}
	if ignored > 0 {
		http.Error(w, fmt.Sprintf("reason: 'entry out of order', total ignored: %d", ignored), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func moment(v [2]string) int64 {
	at, _ := strconv.ParseInt(v[0], 10, 64)
	return at
}

// query gives lines from start on and before end, the oldest first over all
// streams, and each stream with its own.
func (d *lokiDouble) query(w http.ResponseWriter, r *http.Request) {
	start, _ := strconv.ParseInt(r.FormValue("start"), 10, 64)
	end, _ := strconv.ParseInt(r.FormValue("end"), 10, 64)
	limit, _ := strconv.Atoi(cmp.Or(r.FormValue("limit"), "100"))
	query := r.FormValue("query")
	service, isStream := strings.CutPrefix(query, `{service="`)
	service, closed := strings.CutSuffix(service, `"}`)
	refuse := func(words string) { http.Error(w, words, http.StatusBadRequest) }
	switch {
	case limit <= 0:
		refuse("limit must be a positive value")
		return
	case limit > lokiMost:
		refuse(fmt.Sprintf("max entries limit per query exceeded, limit > max_entries_limit (%d > %d)", limit, lokiMost))
		return
	case end < start:
		refuse("end timestamp must not be before or equal to start time")
		return
	case strings.HasPrefix(query, "rate("):
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
		return
	case !isStream || !closed:
		refuse("parse error at line 1, col 10: syntax error: unexpected $end, expecting STRING")
		return
	}
	type found struct {
		stream *lokiStream
		value  [2]string
	}
	var all []found
	for _, s := range d.streams {
		for _, v := range s.Values {
			if s.Stream["service"] == service && moment(v) >= start && moment(v) < end {
				all = append(all, found{s, v})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(moment(a.value), moment(b.value)) })
	result := []*lokiStream{}
	given := map[*lokiStream]*lokiStream{}
	for _, f := range all[:min(limit, len(all))] {
		if given[f.stream] == nil {
			given[f.stream] = &lokiStream{Stream: f.stream.Stream}
			result = append(result, given[f.stream])
		}
		given[f.stream].Values = append(given[f.stream].Values, f.value)
	}
	text, err := json.Marshal(result)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintf(w, `{"status":"success","data":{"resultType":"streams","result":%s}}`, text)
}

// realLoki starts the Loki of SANDPROOF_LOKI on loopback, with its data in a
// directory of the test, or skips the test.
func realLoki(t *testing.T, tenants bool) lokiServer {
	t.Helper()
	program := os.Getenv("SANDPROOF_LOKI")
	if program == "" {
		t.Skip("SANDPROOF_LOKI names no Loki: make real-servers builds one and runs this")
	}
	dir := t.TempDir()
	ports := freePorts(t, 2)
	// JSON is YAML, too.
	settings, err := json.Marshal(map[string]any{
		"auth_enabled": tenants,
		"server": map[string]any{
			"http_listen_address": "127.0.0.1", "http_listen_port": ports[0],
			"grpc_listen_address": "127.0.0.1", "grpc_listen_port": ports[1], "log_level": "warn",
		},
		"ingester": map[string]any{"lifecycler": map[string]any{
			"address": "127.0.0.1", "min_ready_duration": "0s", "final_sleep": "0s",
			"ring": map[string]any{"kvstore": map[string]any{"store": "inmemory"}, "replication_factor": 1},
		}},
		"schema_config": map[string]any{"configs": []any{map[string]any{
			"from": "2020-10-24", "store": "boltdb", "object_store": "filesystem", "schema": "v11",
			"index": map[string]any{"prefix": "index_", "period": "168h"},
		}}},
		"storage_config": map[string]any{
			"boltdb":     map[string]any{"directory": filepath.Join(dir, "index")},
			"filesystem": map[string]any{"directory": filepath.Join(dir, "chunks")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "loki.yaml")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	said := &bytes.Buffer{}
	command := exec.CommandContext(t.Context(), program, "-config.file="+file)
	command.Stdout, command.Stderr = said, said
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	gone := startServer(t, command)
	server := lokiServer{address: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), delay: 2 * time.Second}
	deadline := time.After(time.Minute)
	for {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.address+"/ready", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return server
			}
		}
		select {
		case end := <-gone:
			t.Fatalf("%s ended (%v): %s", program, end, said)
		case <-deadline:
			t.Fatalf("%s is not ready after a minute", program)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// nonce is the canary's of the tests.
const nonce = "QWERTY"

// shipped is what a shipper brings to Loki, and when.
type shipped struct {
	name string
	// at once, half of log-delay after the end of the sandbox, and after the
	// window was read.
	first, late, after []string
	want, hole         string
	own                int // records of this sandbox, where they are all counted
}

func shipments() []shipped {
	const (
		unordered = "does not keep the order"
		waiting   = "may still be on its way"
	)
	canary := evidence.CanaryLine(nonce)
	hello := slices.Repeat([]string{"hello"}, 2*lokiPage+7)
	return []shipped{
		{name: "pages", first: slices.Concat(boot, hello, []string{canary}), want: "green", own: len(boot) + len(hello) + 1},
		{name: "failed", first: slices.Concat(boot, []string{fallback, canary}), want: "red", own: len(boot) + 2},
		{name: "empty", want: "unproven", hole: waiting},
		{name: "no boot and no canary", first: []string{"hello"}, want: "unproven", hole: waiting},
		{name: "boot lines, and the rest does not come", first: boot, after: []string{fallback, canary}, want: "unproven", hole: waiting, own: len(boot)},
		{name: "all of it late, healthy", late: slices.Concat(boot, []string{canary}), want: "green", own: len(boot) + 1},
		{name: "all of it late, failed", late: slices.Concat(boot, []string{fallback, canary}), want: "red", own: len(boot) + 2},
		{name: "the failure is late, and the canary after it", first: boot, late: []string{fallback, canary}, want: "red"},
		{name: "the failure is late, the canary was not", first: slices.Concat(boot, []string{canary}), late: []string{"\x00" + fallback}, want: "red", hole: unordered},
		{name: "a harmless line is late, the canary was not", first: slices.Concat(boot, []string{canary}), late: []string{"\x00hello"}, want: "unproven", hole: unordered},
	}
}

// ship delivers the lines of a shipment and reads the window over them. A line
// that begins with NUL was logged before all others, and comes in a stream of its
// own: within a stream this Loki refuses it.
func (s lokiServer) ship(t *testing.T, service string, what shipped) *evidence.Log {
	t.Helper()
	logged := time.Now().UnixNano()
	n := 0
	deliver := func(messages []string) {
		labels := map[string]string{"service": service}
		var lines []lokiLine
		for _, message := range messages {
			message, early := strings.CutPrefix(message, "\x00")
			// Three lines of one moment, so that pages end within it.
			at := logged + int64(n/3)
			if early {
				labels["level"], at = "error", logged-1
			}
			text := strings.Replace(strings.TrimSuffix(record("iours", message), "\n"), `"service"`, fmt.Sprintf(`"n": %d, "service"`, n), 1)
			lines = append(lines, lokiLine{at, text})
			n++
		}
		if len(lines) == 0 {
			return
		}
		if status, said := s.push(t, labels, lines...); status != http.StatusNoContent {
			t.Errorf("push: %d %s", status, said)
		}
	}
	source := Loki{Query: fmt.Sprintf(`{service=%q}`, service), Delay: s.delay, Timeout: 30 * time.Second, via: s.via}
	var shipper sync.WaitGroup
	log := remote(t, source, nonce, func() {
		deliver(what.first)
		shipper.Go(func() {
			pass(s.delay / 2)
			deliver(what.late)
		})
	})
	shipper.Wait()
	deliver(what.after)
	return log
}

func (what shipped) check(t *testing.T, log *evidence.Log) {
	t.Helper()
	if got := reading(log); got != what.want || what.own > 0 && log.OwnRecords != what.own {
		t.Errorf("read as %s with %d own records, want %s with %d; holes %q", got, log.OwnRecords, what.want, what.own, log.Holes)
	}
	if holes := strings.Join(log.Holes, "; "); !strings.Contains(holes, what.hole) || what.hole == "" && holes != "" {
		t.Errorf("holes %q, want one that says %q", holes, what.hole)
	}
}

// TestLoki: pages are joined without loss or repetition, what is late is waited
// for, and silence counts only where the canary came and nothing came after it
// that was logged before.
func TestLoki(t *testing.T) {
	for _, what := range shipments() {
		t.Run(what.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newLokiDouble()
				t.Setenv("LOKI_ADDR", server.address)
				what.check(t, server.ship(t, "orchestrator", what))
			})
		})
	}
}

// TestRealLoki is TestLoki with a real one, on a clock that cannot be turned.
func TestRealLoki(t *testing.T) {
	server := realLoki(t, false)
	t.Setenv("LOKI_ADDR", server.address)
	for i, what := range shipments() {
		t.Run(what.name, func(t *testing.T) { what.check(t, server.ship(t, fmt.Sprintf("orchestrator-%d", i), what)) })
	}
	t.Run("tenants", func(t *testing.T) {
		server := realLoki(t, true)
		t.Setenv("LOKI_ADDR", server.address)
		source := Loki{Query: `{service="orchestrator"}`, Timeout: 10 * time.Second}
		if _, err := source.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "no org id") || !strings.Contains(err.Error(), "give a token") {
			t.Errorf("without a tenant: %v", err)
		}
		t.Setenv("LOKI_ORG_ID", "ours")
		stretch, err := source.Open(t.Context())
		if err != nil {
			t.Fatalf("with a tenant: %v", err)
		}
		stretch.Close()
	})
}

// TestLokiBesideFiles: where the files have the boot, a Loki that the guest's
// console never gets to takes nothing away; files without it prove nothing.
func TestLokiBesideFiles(t *testing.T) {
	for want, lines := range map[string][]string{"green": boot, "unproven": {"hello"}} {
		synctest.Test(t, func(t *testing.T) {
			defer letGo()
			server := newLokiDouble()
			t.Setenv("LOKI_ADDR", server.address)
			n := newNode(t)
			n.write("a", "orchestrator.stdout.0", "x\n")
			w, err := Open(t.Context(), []Source{n.source(), Loki{Query: `{service="orchestrator"}`, Delay: server.delay, Timeout: time.Second, via: server.via}})
			if err != nil {
				t.Fatal(err)
			}
			n.write("a", "orchestrator.stdout.0", records("iours", lines...))
			log := n.read(w)
			w.Close()
			if got := reading(log); got != want || (len(log.Holes) == 0) != (want == "green") {
				t.Errorf("read as %s, want %s; holes %q", got, want, log.Holes)
			}
		})
	}
}

// TestLokiForgets: lines that were there and are no more are a hole.
func TestLokiForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newLokiDouble()
		t.Setenv("LOKI_ADDR", server.address)
		double, _ := server.via.(*lokiDouble)
		labels := map[string]string{"service": "orchestrator"}
		var retention sync.WaitGroup
		source := Loki{Query: `{service="orchestrator"}`, Delay: server.delay, Timeout: time.Second, via: server.via}
		log := remote(t, source, nonce, func() {
			now := time.Now().UnixNano()
			server.push(t, labels, lokiLine{now, record("iours", boot[0])}, lokiLine{now + 1, record("iours", fallback)},
				lokiLine{now + 2, record("iours", evidence.CanaryLine(nonce))})
			retention.Go(func() {
				pass(server.delay / 2)
				double.mu.Lock()
				defer double.mu.Unlock()
				for _, s := range double.streams {
					s.Values = slices.Delete(s.Values, 1, 2)
				}
			})
		})
		retention.Wait()
		if got := reading(log); got != "unproven" || !strings.Contains(strings.Join(log.Holes, ""), "gives 1 lines of this sandbox no more") {
			t.Errorf("read as %s; holes %q", got, log.Holes)
		}
	})
}

// TestLokiAnswers holds the double to the real one: both pass the same table,
// but the real one only where there is one.
func TestLokiAnswers(t *testing.T) {
	t.Run("double", func(t *testing.T) { lokiAnswers(t, newLokiDouble()) })
	t.Run("real", func(t *testing.T) { lokiAnswers(t, realLoki(t, false)) })
}

func lokiAnswers(t *testing.T, server lokiServer) {
	t.Helper()
	now := time.Now().UnixNano()
	labels := map[string]string{"service": "o"}
	value := func(at int64, text string) string { return fmt.Sprintf(`["%d",%q]`, at, text) }
	expect := func(name string, status int, body string, wantStatus int, want ...string) {
		t.Helper()
		if status != wantStatus {
			t.Errorf("%s: status %d, want %d: %s", name, status, wantStatus, body)
		}
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s: %s\nwant in it %s", name, body, text)
			}
		}
	}
	push := func(name string, wantStatus int, want string, labels map[string]string, lines ...lokiLine) {
		t.Helper()
		status, body := server.push(t, labels, lines...)
		expect(name, status, body, wantStatus, want)
	}
	push("push", http.StatusNoContent, "", labels, lokiLine{now, "a"}, lokiLine{now, "b"}, lokiLine{now + 1, "c"}, lokiLine{now + 2, "d"})
	push("a line once more", http.StatusNoContent, "", labels, lokiLine{now + 2, "d"})
	push("an older line", http.StatusBadRequest, "entry out of order", labels, lokiLine{now - 5, "late"})
	push("an older line of another stream", http.StatusNoContent, "", map[string]string{"service": "o", "level": "error"}, lokiLine{now - 5, "late"})

	const streams = `{"status":"success","data":{"resultType":"streams","result":[`
	for _, test := range []struct {
		name, query string
		from, to    int64
		limit       int
		status      int
		want        []string
	}{
		{"nothing", `{service="x"}`, 0, 9, 10, http.StatusOK, []string{streams + "]"}},
		{"start counts, end does not", `{service="o"}`, 0, 2, 10, http.StatusOK, []string{"[" + value(now, "a") + "," + value(now, "b") + "," + value(now+1, "c") + "]"}},
		{"the oldest first, and no line twice", `{service="o"}`, 1, 9, 10, http.StatusOK, []string{"[" + value(now+1, "c") + "," + value(now+2, "d") + "]"}},
		{
			"the limit is one of all streams together", `{service="o"}`, -9, 9, 3, http.StatusOK,
			[]string{"[" + value(now-5, "late") + "]", "[" + value(now, "a") + "," + value(now, "b") + "]"},
		},
		{"an empty stretch", `{service="o"}`, 0, 0, 10, http.StatusOK, []string{streams + "]"}},
		{"end before start", `{service="o"}`, 0, -20, 10, http.StatusBadRequest, []string{"end timestamp must not be before"}},
		{"a limit that is too large", `{service="o"}`, 0, 9, lokiMost + 1, http.StatusBadRequest, []string{"max entries limit per query exceeded", "(5001 > 5000)"}},
		{"no limit", `{service="o"}`, 0, 9, 0, http.StatusBadRequest, []string{"limit must be a positive value"}},
		{"no query", `{service=`, 0, 9, 10, http.StatusBadRequest, []string{"parse error at line 1, col 10"}},
		{"a query for numbers", `rate({service="o"}[1m])`, 0, 9, 10, http.StatusOK, []string{`"resultType":"matrix"`}},
	} {
		status, body := server.ask(t, http.MethodGet, "/loki/api/v1/query_range?"+url.Values{
			"query": {test.query}, "direction": {"forward"}, "limit": {strconv.Itoa(test.limit)},
			"start": {strconv.FormatInt(now+test.from, 10)}, "end": {strconv.FormatInt(now+test.to, 10)},
		}.Encode(), "")
		expect(test.name, status, body, test.status, test.want...)
	}
	status, body := server.ask(t, http.MethodGet, "/loki/api/v2/x", "")
	expect("an unknown path", status, body, http.StatusNotFound)

	// What people make wrong is told before a sandbox is made.
	t.Setenv("LOKI_ADDR", server.address)
	for query, want := range map[string]string{`{service=`: "parse error", `rate({service="o"}[1m])`: "give a query for log lines"} {
		if _, err := (Loki{Query: query, Timeout: 10 * time.Second, via: server.via}).Open(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("query %s: %v, want %q", query, err, want)
		}
	}
}

// checkLokiLine: what Loki's labels name says the same as the lines do by
// themselves, of the sandbox that the labels name.
func checkLokiLine(t *testing.T, text string) {
	t.Helper()
	e := entry{at: time.Date(2026, 1, 20, 10, 0, 0, 0, time.UTC).UnixNano(), line: text, sandbox: "iours"}
	plain := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if first := Parse([]byte(plain[0])).SandboxID; first != "" {
		e.sandbox = first
	}
	lines := e.lines()
	if len(lines) != len(plain) {
		t.Fatalf("%q: %d lines, want %d", text, len(lines), len(plain))
	}
	for i, line := range lines {
		want, got := Records([]byte(plain[i])), Records(bytes.TrimSuffix(line, []byte("\n")))
		if len(want) != len(got) {
			t.Errorf("%q: %d records, want %d: %+v", plain[i], len(got), len(want), got)
			continue
		}
		for j, w := range want {
			w.SandboxID = cmp.Or(w.SandboxID, e.sandbox)
			w.Time, w.TemplateID, w.bare = got[j].Time, got[j].TemplateID, got[j].bare
			if w != got[j] || Classify(want[j]) != Classify(got[j]) {
				t.Errorf("%q by labels is\n%+v, want\n%+v; by %+v, want %+v", plain[i], got[j], w, Classify(got[j]), Classify(want[j]))
			}
		}
	}
}

// lokiLines are lines that name no sandbox, as shippers send them that make a
// label of it.
var lokiLines = []struct{ text, want string }{
	{fallback, "CG003 field 0"},
	{"goroutine 1 [running]:\n" + fallback, "CG003 field 1"},
	{`{"message":"cannot go on\n` + fallback + `"}`, "CG003 field 0"},
	{`{"body":"falling back to no-op cgroup manager","severity":"INFO"}`, "CG0U0 field 0"},
	{`{"error":"failed to create cgroup2 manager: permission denied"}`, "CG0U0 field 0"},
	{`{ "error": "failed to create cgroup2 manager: permission denied"}`, "CG0U0 field 0"},
	{`{"log":"{\"error\":\"failed to create cgroup2 manager: x\"}\n","stream":"stdout"}`, "CG0U0 field 0"},
	{"[    1.234567] cgroup: fork rejected by pids controller in /user", "CGOK1 field 0"},
	{`[    0.000000] Unknown kernel command line parameters "cgroup_enable=memory audit=disabled", will be passed to user space.`, "CGOK1 field 0"},
	{stampedInfo + "[    1.234567][    T1] cgroup: Unknown subsys name 'net_cls'\r  {}", "CGOK1 field 0"},
	{"cgroup: fork rejected by pids controller in /user", "CG0U0 field 0"},
}

// TestLokiLines: a line that Loki's labels alone name is known as it would be in
// a file, and is the sandbox's.
func TestLokiLines(t *testing.T) {
	for _, test := range lokiLines {
		checkLokiLine(t, test.text)
		log := &evidence.Log{}
		s := newScan("iours", "", nil, redact.New(), log)
		for i, line := range (entry{line: test.text, sandbox: "iours"}).lines() {
			s.feed("stream", "Loki", int64(i), line)
		}
		s.finish()
		if got := strings.Join(found(log), ", "); got != test.want {
			t.Errorf("%q: found %q, want %q", test.text, got, test.want)
		}
	}
}

func FuzzLokiLine(f *testing.F) {
	for _, test := range lokiLines {
		f.Add(test.text)
	}
	for _, text := range wrapped {
		f.Add(text)
	}
	f.Add(`{"level":"info","command":"echo falling back to no-op cgroup manager","message":"Process with pid 7 started"}`)
	f.Add("-> [sandbox iother]: cgroup v9 failed\nx")
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) { // JSON brings no other
			checkLokiLine(t, text)
		}
	})
}
