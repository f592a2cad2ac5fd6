package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sandproof/internal/collect"
	"sandproof/internal/config"
	"sandproof/internal/redact"
	"sandproof/internal/sandboxapi"
)

const secret = "e2b_" + "0123456789abcdef" + "0123456789abcdef"

// waits are short, so that what hangs is given up soon.
func waits() config.Intervals {
	return config.Intervals{
		SandboxTTL: time.Minute, Create: 2 * time.Second, EnvdReady: 2 * time.Second, Command: time.Second,
		Hop: 2 * time.Second, Destroy: 5 * time.Second, Request: time.Second, Poll: 10 * time.Millisecond, LogSettle: time.Millisecond,
	}
}

func liveOptions(api, proxy string) Options {
	return Options{Harness: "test", NoSandbox: true, Config: config.Config{
		Target: config.TargetLive, Intervals: waits(), Templates: []config.Template{{Name: "base"}},
		Live: config.Live{APIURL: api, SandboxURL: proxy, APIKey: secret},
	}}
}

// cluster is a double of an API and its proxy, of which a test spoils a part.
type cluster struct {
	mu sync.Mutex
	// sandboxes are those that run, with their metadata; it lists all of them,
	// whatever filter it is given.
	sandboxes map[string]map[string]string
	// spoil answers in place of the double where it returns true.
	spoil func(w http.ResponseWriter, r *http.Request) bool
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.spoil != nil && c.spoil(w, r) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Header.Get("E2b-Sandbox-Id") != "":
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintf(w, `{"sandboxId":%q,"message":"The sandbox was not found","code":502}`, r.Header.Get("E2b-Sandbox-Id"))
	case r.URL.Path == "/health":
		fmt.Fprint(w, "Health check successful")
	case r.Header.Get("X-API-Key") != secret:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"code":401,"message":"Invalid API key"}`)
	case r.URL.Path == "/templates":
		fmt.Fprint(w, `[{"templateID":"t1","buildID":"9ac9c8b9-9b8b-476c-9238-8266af308c32","aliases":["base"],"envdVersion":"0.6.13","buildStatus":"ready"}]`)
	case r.URL.Path == "/v2/sandboxes":
		list := []sandboxapi.ListedSandbox{}
		for id, metadata := range c.sandboxes {
			list = append(list, sandboxapi.ListedSandbox{SandboxID: id, TemplateID: "t1", Metadata: metadata})
		}
		_ = json.NewEncoder(w).Encode(list) //nolint:errchkjson // its times are zero
	case r.Method == http.MethodPost && r.URL.Path == "/sandboxes":
		c.sandboxes["i1"] = metadataOf(r)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"sandboxID":"i1","templateID":"t1","envdVersion":"0.6.13"}`)
	case r.Method == http.MethodDelete:
		delete(c.sandboxes, strings.TrimPrefix(r.URL.Path, "/sandboxes/"))
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"code":404,"message":"not found"}`)
	}
}

// metadataOf reads what a create call gives its sandbox.
func metadataOf(r *http.Request) map[string]string {
	var request sandboxapi.NewSandbox
	_ = json.NewDecoder(r.Body).Decode(&request)
	return request.Metadata
}

// left is how many sandboxes of the doctor's are left, and whether the one that
// was there before is, too.
func (c *cluster) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sandboxes[stranger] == nil {
		return -1
	}
	return len(c.sandboxes) - 1
}

// unheard is where nothing listens: a port that was free a moment ago may be
// somebody's now.
const unheard = "http://127.0.0.1:1"

// stranger is somebody else's sandbox.
const stranger = "stranger"

func serve(t *testing.T, spoil func(http.ResponseWriter, *http.Request) bool) (*cluster, string) {
	t.Helper()
	c := &cluster{sandboxes: map[string]map[string]string{stranger: {"owner": "production"}}, spoil: spoil}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return c, server.URL
}

// always answers every request of a path, empty for all, in one way.
func always(path string, status int, header map[string]string, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if path != "" && r.URL.Path != path {
			return false
		}
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}
}

// toSandbox spoils what is asked of sandboxes.
func toSandbox(status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("E2b-Sandbox-Id") == "" {
			return false
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}
}

// raw serves connections with a function.
func raw(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	var c net.ListenConfig
	listener, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		var open []net.Conn // one that nobody has any more is closed when memory is collected
		for {
			conn, err := listener.Accept()
			if err != nil {
				break
			}
			open = append(open, conn)
			handle(conn)
		}
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

func find(t *testing.T, all []Finding, hop string) Finding {
	t.Helper()
	i := slices.IndexFunc(all, func(f Finding) bool { return f.Hop == hop })
	if i < 0 {
		t.Fatalf("there is no hop %s in %+v", hop, all)
	}
	return all[i]
}

// examine runs everything, and looks that no secret is shown.
func examine(ctx context.Context, t *testing.T, o Options) []Finding {
	t.Helper()
	redactor := redact.New(o.Config.Live.APIKey)
	all := Run(ctx, o, func(f Finding) {
		if line := f.Redact(redactor).Line(); strings.Contains(line, o.Config.Live.APIKey) || strings.Contains(line, "\x1b") {
			t.Errorf("a line that must not be shown: %q", line)
		}
	})
	return all
}

// Whatever is wrong with the servers, the first hop that can know it says so,
// with what to do, and what rests on it is not tried.
func TestServersThatMisbehave(t *testing.T) {
	_, plain := serve(t, nil)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	closed := raw(t, func(c net.Conn) { _ = c.Close() })
	silent := raw(t, func(net.Conn) {})
	other := raw(t, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n"); _ = c.Close() })
	spoilt := func(f func(http.ResponseWriter, *http.Request) bool) string {
		_, at := serve(t, f)
		return at
	}
	const page = "<!DOCTYPE html><html><title>Dashboard</title>"
	for _, test := range []struct {
		name, api string
		change    func(*Options)
		hop       string
		state     State
		came, do  string
		notTried  string // a hop that rests on it
	}{
		{"all is well", plain, nil, "proxy.route", Fine, "knows no such sandbox", "", ""},
		{"nothing listens", unheard, nil, "api.connect", Trouble, "nothing listens there", "is the service up, and the port right (3000", "api.health"},
		{"no such host", "http://api.e2b.invalid:3000", nil, "api.address", Trouble, "no address for api.e2b.invalid", "E2B_API_URL or E2B_DOMAIN", "api.connect"},
		{"TLS where none is spoken", strings.Replace(plain, "http:", "https:", 1), nil, "api.tls", Trouble, "it speaks no TLS", "say http://", "api.health"},
		{"a certificate of nobody", secure.URL, nil, "api.tls", Trouble, "signed by nobody known here", "SSL_CERT_FILE", "api.health"},
		{"no TLS where it is spoken", strings.Replace(secure.URL, "https:", "http:", 1), nil, "api.health", Trouble, "400", "say https://", "api.key"},
		{"a page of some other server", spoilt(always("", 200, map[string]string{"Content-Type": "text/html"}, page)), nil, "api.health", Trouble, "a web page", "another server answers there", "api.key"},
		{"a page without its type", spoilt(always("", 200, map[string]string{"Content-Type": "text/plain"}, "\n "+page)), nil, "api.health", Trouble, "a web page", "another server answers there", "api.key"},
		{"404", spoilt(always("", 404, nil, "404 \x1b[31mpage not found")), nil, "api.health", Trouble, "404", "no E2B API", "api.key"},
		{"the proxy in the API's place", spoilt(always("", 400, nil, "Invalid host\n")), nil, "api.health", Trouble, "Invalid host", "client-proxy", "api.key"},
		{"a redirect", spoilt(always("", 301, map[string]string{"Location": "https://elsewhere.example/"}, "")), nil, "api.health", Trouble, "a redirect to", "set E2B_API_URL to where it leads", "api.key"},
		{"an API that is not well", spoilt(always("/health", 503, nil, "Service is unavailable")), nil, "api.health", Trouble, "503", "not well", "api.key"},
		{"a proxy without an API", spoilt(always("", 502, nil, "bad gateway")), nil, "api.health", Trouble, "502", "is the API up", "api.key"},
		{"half-open", silent, nil, "api.health", Trouble, "no answer in time", "firewall", "api.key"},
		{"closed at once", closed, nil, "api.health", Trouble, "", "another service", "api.key"},
		{"another service", other, nil, "api.health", Trouble, "something else than HTTP", "another service is on that port", "api.key"},
		{"a clock that is wrong", spoilt(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(-90*time.Second).UTC().Format(http.TimeFormat))
			return false
		}), nil, "api.clock", Warning, "ahead of the API's", "NTP", ""},
		{"a wrong key", spoilt(always("/templates", 401, nil, `{"code":401,"message":"Invalid API key `+secret+`"}`)), nil, "api.key", Trouble, "401", "a key of this very deployment's team", "template.base"},
		{"half a key", plain, func(o *Options) { o.Config.Live.APIKey = "not-a-key-of-e2b" }, "api.key", Trouble, "401", "has not the form", "sandbox.create"},
		{"a blocked team", spoilt(always("/templates", 403, nil, `{"code":403,"message":"team is blocked"}`)), nil, "api.key", Trouble, "403", "team blocked", "template.base"},
		{"a list that breaks off", spoilt(always("/templates", 200, nil, `[{"templateID":`)), nil, "api.key", Trouble, "not the JSON", "no E2B API", "template.base"},
		{"a template that is not there", plain, func(o *Options) { o.Config.Templates[0].Name = "bse" }, "template.bse", Trouble, "knows no such template", "base", ""},
		{"another build", plain, func(o *Options) { o.Config.Templates[0].BuildID = "11111111-9b8b-476c-9238-8266af308c32" }, "template.base", Trouble, "9ac9c8b9", "expects build 11111111", ""},
		{"a template that was never built", spoilt(always("/templates", 200, nil, `[{"templateID":"t1","buildID":"`+zeroBuild+`","aliases":["base"],"buildStatus":"error"}]`)), nil, "template.base", Trouble, zeroBuild, "no build of it has succeeded yet", ""},
		{"a proxy that answers for dead sandboxes", spoilt(toSandbox(204, "")), nil, "proxy.route", Trouble, "as if that sandbox were there", "client-proxy", ""},
		{"a proxy that knows the dead", spoilt(toSandbox(502, `{"sandboxId":"i","message":"port","port":49983,"code":502}`)), nil, "proxy.route", Trouble, "nothing answers on the port", "should not exist", ""},
		{"a gateway that rewrites Host", spoilt(toSandbox(400, "Invalid host")), nil, "proxy.route", Trouble, "Invalid host", "rewrites Host", ""},
		{"a gateway without the proxy", spoilt(toSandbox(502, "<html>bad gateway")), nil, "proxy.route", Trouble, "502", "is the client-proxy up", ""},
		{"the API in the proxy's place", spoilt(toSandbox(404, page)), nil, "proxy.route", Trouble, "404", "another server answers there", ""},
		{"the API itself in the proxy's place", spoilt(toSandbox(200, "Health check successful")), nil, "proxy.route", Trouble, "200", "3000 is the API, 3002 the client-proxy", ""},
		{"a proxy that is not there", plain, func(o *Options) { o.Config.Live.SandboxURL = unheard }, "proxy.route", Trouble, "nothing listens there", "3002", ""},
		{"no wildcard", plain, func(o *Options) { o.Config.Live.SandboxURL, o.Config.Live.Domain = "", "e2b.invalid" }, "proxy.route", Trouble, "no address for 49983-i", "wildcard record", ""},
		{"no way to sandboxes", plain, func(o *Options) { o.Config.Live.SandboxURL = "" }, "proxy.route", Unproven, "no way", "E2B_SANDBOX_URL", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := liveOptions(test.api, test.api)
			if test.change != nil {
				test.change(&o)
			}
			began := time.Now()
			all := examine(t.Context(), t, o)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			f := find(t, all, test.hop)
			if f.State != test.state || !strings.Contains(f.Came, test.came) || !strings.Contains(f.Do, test.do) {
				t.Errorf("want %s, %q, %q; got %+v", test.state, test.came, test.do, f)
			}
			if test.notTried != "" && find(t, all, test.notTried).State != NotTried && !strings.HasPrefix(test.notTried, "sandbox.") {
				t.Errorf("%s was tried: %+v", test.notTried, find(t, all, test.notTried))
			}
			for _, f := range all {
				if (f.State == Trouble || f.State == Warning) && f.Do == "" {
					t.Errorf("nothing to do about %+v", f)
				}
			}
		})
	}
}

// A sandbox is ended whatever happens, also one whose create call was cut off.
func TestNoSandboxIsLeft(t *testing.T) {
	t.Run("envd does not answer", func(t *testing.T) {
		c, at := serve(t, nil)
		o := liveOptions(at, at)
		o.NoSandbox = false
		all := examine(t.Context(), t, o)
		if f := find(t, all, "sandbox.envd"); f.State != Trouble || !strings.Contains(f.Do, "same cluster") {
			t.Errorf("got %+v", f)
		}
		if find(t, all, "sandbox.command").State != NotTried || find(t, all, "sandbox.end").State != Fine || c.left() != 0 {
			t.Errorf("%d are left, and found was %+v", c.left(), all)
		}
	})
	t.Run("the create call is interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var c *cluster
		spoil := func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			metadata := metadataOf(r)
			c.mu.Lock()
			c.sandboxes["i1"] = metadata
			c.mu.Unlock()
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client is gone
			cancel()
			<-r.Context().Done()
			return true
		}
		var at string
		c, at = serve(t, spoil)
		o := liveOptions(at, at)
		o.NoSandbox = false
		all := examine(ctx, t, o)
		if f := find(t, all, "sandbox.end"); f.State != Fine || !strings.Contains(f.Came, "made one after all") || c.left() != 0 {
			t.Errorf("%d are left, and found was %+v", c.left(), f)
		}
		if f := find(t, all, "sandbox.envd"); f.State != NotTried || f.Came != "interrupted" {
			t.Errorf("got %+v", f)
		}
	})
	for _, test := range []struct {
		name string
		lost int // deletes that are answered as if there were no sandbox
		made *sandboxapi.Sandbox
		wait time.Duration
		came string
	}{
		{"a delete finds none, and the create call failed", 2, nil, time.Minute, "made one after all; it has ended"},
		{"a delete finds none", 2, &sandboxapi.Sandbox{SandboxID: "i1"}, time.Minute, "sandbox i1 has ended, none is left"},
		{"no delete finds one, and the create call failed", 1 << 20, nil, 200 * time.Millisecond, "sandbox i1 is still listed"},
		{"no delete finds one", 1 << 20, &sandboxapi.Sandbox{SandboxID: "i1"}, 200 * time.Millisecond, "sandbox i1 is still listed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			deletes := 0
			c, at := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodDelete {
					return false
				}
				if deletes++; deletes > test.lost {
					return false
				}
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"code":404,"message":"there is no such sandbox"}`)
				return true
			})
			c.sandboxes["i1"] = map[string]string{collect.MetadataSession: "s"}
			client, err := sandboxapi.New(sandboxapi.Options{APIURL: at, APIKey: secret, UserAgent: "test", CreateTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			f := destroy(t.Context(), liveOptions(at, at), facts{client: client, sandbox: test.made}, "s", test.wait)
			if fine := c.left() == 0; fine != (f.State == Fine) || fine != (test.lost == 2) || !strings.Contains(f.Came, test.came) {
				t.Errorf("%d are left, and found was %+v", c.left(), f)
			}
		})
	}
	t.Run("the delete fails", func(t *testing.T) {
		_, at := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodDelete {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"code":403,"message":"no"}`)
			return true
		})
		o := liveOptions(at, at)
		o.NoSandbox = false
		if f := find(t, examine(t.Context(), t, o), "sandbox.end"); f.State != Trouble || !strings.Contains(f.Do, "e2b sandbox kill") {
			t.Errorf("got %+v", f)
		}
	})
}

// What hangs, and cannot be interrupted, costs its own time and no more.
func TestHopsThatHang(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	hops := []hop{
		{name: "stuck", wait: 20 * time.Millisecond, try: func(_ context.Context, f facts) (Finding, facts) {
			<-release
			f.usable = "changed"
			return Finding{State: Fine}, f
		}},
		{name: "rests", needs: []string{"stuck"}, wait: time.Second, try: func(_ context.Context, f facts) (Finding, facts) {
			t.Error("it was tried")
			return Finding{}, f
		}},
		{name: "beside", wait: time.Second, try: func(_ context.Context, f facts) (Finding, facts) { return Finding{State: Fine}, f }},
	}
	all, f := run(t.Context(), hops, facts{}, func(Finding) {})
	states := []State{all[0].State, all[1].State, all[2].State}
	if diff := cmp.Diff([]State{Trouble, NotTried, Fine}, states); diff != "" || f.usable != "" {
		t.Errorf("%s, facts %+v", diff, f)
	}
	if !strings.Contains(all[0].Came, "it hangs") || all[1].Came != "stuck is in trouble" {
		t.Errorf("got %+v", all)
	}
}

func TestConclude(t *testing.T) {
	for _, test := range []struct {
		name   string
		states []State
		first  []string
		exit   int
	}{
		{"all fine", []State{Fine, NotNeeded}, []string{}, ExitFine},
		{"trouble before what was regretted earlier", []State{Warning, Trouble, NotTried, Unproven}, []string{"1", "0", "3"}, ExitTrouble},
		{"not proven", []State{Fine, Unproven}, []string{"1"}, ExitUnproven},
		{"a warning", []State{Warning}, []string{"0"}, ExitUnproven},
		{"interrupted", []State{Fine, NotTried}, []string{}, ExitUnproven},
	} {
		r := Report{}
		for i, s := range test.states {
			r.Findings = append(r.Findings, Finding{Hop: strconv.Itoa(i), State: s})
		}
		r.Conclude()
		if diff := cmp.Diff(test.first, r.FixFirst); diff != "" || r.Exit != test.exit {
			t.Errorf("%s: exit %d, %s", test.name, r.Exit, diff)
		}
		if r.Exit != ExitFine && strings.Contains(r.Tail(), "is fine") {
			t.Errorf("%s: %s", test.name, r.Tail())
		}
	}
}

func TestNoSandboxSaysWhatIsNotProven(t *testing.T) {
	c, at := serve(t, nil)
	all := examine(t.Context(), t, liveOptions(at, at))
	if f := find(t, all, "sandbox.create"); f.State != Unproven || !strings.Contains(f.Came, "--no-sandbox") || c.left() != 0 {
		t.Errorf("got %+v", f)
	}
	if slices.ContainsFunc(all, func(f Finding) bool { return f.Hop == "sandbox.end" }) {
		t.Error("a sandbox was ended where none was made")
	}
}

// Whoever interrupts reads what was not tried.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, logs := range [][]config.LogGlob{nil, {{Dirs: "/opt/nomad/alloc/*/logs", Task: "start"}}} {
		o := liveOptions(unheard, unheard)
		o.Config.Live.Logs, o.Config.Live.Nomad.Job, o.Config.Live.Loki.Query = logs, "orchestrator", `{service="orchestrator"}`
		o.Config.Live.Storage, o.NoSandbox = "/storage", false
		for _, f := range examine(ctx, t, o) {
			if f.State != NotTried || f.Came != "interrupted" || f.Tried == "" {
				t.Errorf("got %+v", f)
			}
			if f.Hop == "logs[0]" && !strings.Contains(f.Tried, "/opt/nomad/alloc/*/logs/start") {
				t.Errorf("got %+v", f)
			}
		}
	}
}

func TestKeyIsNeverSentToARedirect(t *testing.T) {
	strayed := make(chan string, 8)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { strayed <- r.Header.Get("X-API-Key") }))
	t.Cleanup(elsewhere.Close)
	_, at := serve(t, always("", 307, map[string]string{"Location": elsewhere.URL}, ""))
	examine(t.Context(), t, liveOptions(at, at))
	if len(strayed) != 0 {
		t.Errorf("a redirect was followed, with the key %q", <-strayed)
	}
}

func TestKindsOfCreateErrors(t *testing.T) {
	for kind, want := range map[sandboxapi.Kind]string{
		sandboxapi.Capacity: "no room", sandboxapi.Transient: "orchestrator's log", sandboxapi.NotFound: "not this team's",
	} {
		if f := judgeCreate(&sandboxapi.Error{Kind: kind, Op: "create", Status: 500}); f.State != Trouble || !strings.Contains(f.Do, want) {
			t.Errorf("%s: %+v", kind, f)
		}
	}
}
