package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/image"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/sandboxapi/envd"
)

// Options are what a doctor needs beside the configuration.
type Options struct {
	Config config.Config
	// Harness is the harness's version.
	Harness string
	// NoSandbox leaves out what needs a sandbox.
	NoSandbox bool
	// Source is the directory of this module's source, empty where there is none,
	// and Dir a directory for what is built of it.
	Source, Dir string
	// StartLab starts the lab with the templates; stop ends it.
	StartLab func(ctx context.Context, templates []lab.TemplateSpec) (endpoints lab.Endpoints, stop func(context.Context) error, err error)
}

// facts are what later hops need of earlier ones.
type facts struct {
	live   config.Live
	client *sandboxapi.Client
	health answer
	own    []sandboxapi.Template
	// usable is the first template of which a sandbox can be made.
	usable  string
	sandbox *sandboxapi.Sandbox
	envd    *envd.Client
	specs   []lab.TemplateSpec
	accel   string
	stopLab func(context.Context) error
}

// apiURL is the API's base URL.
func apiURL(l config.Live) string {
	if l.APIURL != "" {
		return strings.TrimSuffix(l.APIURL, "/")
	}
	return "https://api." + l.Domain
}

// Run tries every hop of the configuration's target, tells of each, and ends
// the sandbox and the lab that it has made, whatever happens.
func Run(ctx context.Context, o Options, each func(Finding)) []Finding {
	session := rand.Text()
	first := facts{live: o.Config.Live}
	all, f := run(ctx, hops(o, session), first, each)
	for _, found := range end(ctx, o, f, session, all) {
		all = append(all, found)
		each(found)
	}
	return all
}

// hops is the table of everything that is tried, in the order of what rests on
// what.
func hops(o Options, session string) []hop {
	var all []hop
	if o.Config.Target == config.TargetLab {
		all = append(all, machineHops(o)...)
		all = append(all, labHops(o)...)
	}
	all = append(all, apiHops(o)...)
	for _, t := range o.Config.Templates {
		all = append(all, templateHop(o, t))
	}
	all = append(all, routeHop(o))
	all = append(all, sandboxHops(o, session)...)
	all = append(all, logHops(o)...)
	all = append(all, storageHops(o)...)
	return all
}

// begins is the hop that the API's hops rest on: in the lab its start.
func begins(o Options) []string {
	if o.Config.Target == config.TargetLab {
		return []string{"lab.start"}
	}
	return nil
}

func apiHops(o Options) []hop {
	waits := o.Config.Intervals
	return []hop{
		{name: "api.address", tried: "look up the API's host", needs: begins(o), wait: waits.Hop, try: lookUpAPI},
		{name: "api.connect", tried: "connect to the API's port", needs: []string{"api.address"}, wait: waits.Hop, try: connectToAPI},
		{name: "api.tls", tried: "TLS handshake", needs: []string{"api.connect"}, wait: waits.Hop, try: shakeHands},
		{name: "api.health", tried: "GET /health", needs: []string{"api.tls"}, wait: waits.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
			at := apiURL(f.live) + "/health"
			f.health = get(ctx, at, agent(o))
			found := through(judgeHealth(f.health), at)
			found.Tried = "GET " + at
			return found, f
		}},
		{name: "api.clock", tried: "compare this machine's clock with the API's", needs: []string{"api.health"}, wait: waits.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
			return judgeClock(f.health), f
		}},
		{name: "api.key", tried: "list the team's templates with the key", needs: []string{"api.health"}, wait: waits.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
			return tryKey(ctx, o, f)
		}},
		{name: "api.nodes", tried: "list the cluster's nodes with the admin token", needs: []string{"api.key"}, wait: waits.Hop, try: tryNodes},
	}
}

func agent(o Options) string { return "sandproof/" + o.Harness + " (doctor)" }

// endpoint is the host and port of a URL, and whether it is reached through a
// proxy of the environment.
func endpoint(text string) (host, port string, proxy *url.URL, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", "", nil, err
	}
	port = u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	proxy, err = http.ProxyFromEnvironment(&http.Request{URL: u})
	return u.Hostname(), port, proxy, err
}

// shownProxy is a proxy for people, without its name and password. Where these
// have a slash that is not escaped, the host is a part of them.
func shownProxy(proxy *url.URL) string {
	if strings.Contains(proxy.Path+proxy.RawQuery+proxy.Fragment, "@") {
		return "of the environment, whose address has an @ after its host: escape what is special in its password (%2F for a slash)"
	}
	return proxy.Scheme + "://" + proxy.Host
}

// byProxy is the finding of a hop that a proxy makes in this machine's place.
func byProxy(proxy *url.URL) Finding {
	return Finding{State: NotNeeded, Came: "the way goes through the proxy " + shownProxy(proxy) + " (HTTP_PROXY, HTTPS_PROXY); NO_PROXY takes hosts out of it"}
}

// through adds to trouble with what a URL leads to that a proxy stands before
// it, where that was not said: a time-out or a page may be the proxy's own.
func through(found Finding, at string) Finding {
	_, _, proxy, err := endpoint(at)
	if err == nil && proxy != nil && found.State == Trouble && !strings.Contains(found.Do, proxyVariables) {
		found.Do += "; the way goes through the proxy " + shownProxy(proxy) + ", which may be what is in trouble: check " + proxyVariables
	}
	return found
}

func lookUpAPI(ctx context.Context, f facts) (Finding, facts) {
	host, _, proxy, err := endpoint(apiURL(f.live))
	if err != nil {
		return Finding{State: Trouble, Came: err.Error(), Do: "check E2B_API_URL"}, f
	}
	if proxy != nil {
		return byProxy(proxy), f
	}
	return lookUp(ctx, host, toAPI), f
}

func lookUp(ctx context.Context, host string, to side) Finding {
	tried := "look up " + host
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		came, do := network(err, to)
		return Finding{State: Trouble, Tried: tried, Came: came, Do: do}
	}
	return Finding{State: Fine, Tried: tried, Came: shorten(addresses)}
}

func connectToAPI(ctx context.Context, f facts) (Finding, facts) {
	host, port, proxy, err := endpoint(apiURL(f.live))
	if err != nil || proxy != nil {
		return Finding{State: NotNeeded, Came: "a proxy makes the connection"}, f
	}
	at := net.JoinHostPort(host, port)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		came, do := network(err, toAPI)
		return Finding{State: Trouble, Tried: "connect to " + at, Came: came, Do: do}, f
	}
	came := "connected from " + conn.LocalAddr().String()
	_ = conn.Close() // nothing was sent on it
	return Finding{State: Fine, Tried: "connect to " + at, Came: came}, f
}

func shakeHands(ctx context.Context, f facts) (Finding, facts) {
	if strings.HasPrefix(apiURL(f.live), "http://") {
		return Finding{State: NotNeeded, Came: "the API's URL says http://"}, f
	}
	host, port, proxy, err := endpoint(apiURL(f.live))
	if err != nil || proxy != nil {
		return Finding{State: NotNeeded, Came: "a proxy makes the connection; the next hop goes through it"}, f
	}
	at := net.JoinHostPort(host, port)
	tried := "TLS handshake with " + at
	d := tls.Dialer{Config: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		came, do := network(err, toAPI)
		return Finding{State: Trouble, Tried: tried, Came: came, Do: do}, f
	}
	defer conn.Close()
	found := Finding{State: Fine, Tried: tried, Came: "the certificate is taken"}
	if secure, ok := conn.(*tls.Conn); ok {
		if chain := secure.ConnectionState().PeerCertificates; len(chain) > 0 {
			found = judgeCertificate(chain[0].NotAfter, time.Now())
			found.Tried = tried
		}
	}
	return found, f
}

// mostSoon is how long before its end a certificate is spoken of.
const mostSoon = 7 * 24 * time.Hour

func judgeCertificate(end, now time.Time) Finding {
	came := "the certificate is taken, and valid until " + end.UTC().Format(time.DateOnly)
	if end.Sub(now) < mostSoon {
		return Finding{State: Warning, Came: came, Do: "renew it before then"}
	}
	return Finding{State: Fine, Came: came}
}

// mostBody bounds what is read of an answer that is shown, in bytes.
const mostBody = 4 << 10

// get asks once and follows no redirect.
func get(ctx context.Context, at, agent string) answer {
	a := answer{sent: time.Now()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		a.err = err
		return a
	}
	request.Header.Set("User-Agent", agent)
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // it is one
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		a.err = err
		return a
	}
	defer response.Body.Close()
	a.at, a.status, a.header = time.Now(), response.StatusCode, response.Header
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, mostBody)); err != nil {
		a.err = err
	}
	return a
}

func tryKey(ctx context.Context, o Options, f facts) (Finding, facts) {
	tried := fmt.Sprintf("GET %s/templates with the key of E2B_API_KEY (set, %d characters)", apiURL(f.live), len(f.live.APIKey))
	if o.Config.Target == config.TargetLab {
		tried = fmt.Sprintf("GET %s/templates with the lab's own key", apiURL(f.live))
	}
	client, err := sandboxapi.New(sandboxapi.Options{
		APIURL: f.live.APIURL, Domain: f.live.Domain, SandboxURL: f.live.SandboxURL, APIKey: f.live.APIKey, AdminToken: f.live.AdminToken,
		UserAgent: agent(o), CreateTimeout: o.Config.Intervals.Create, RequestTimeout: o.Config.Intervals.Hop,
	})
	if err != nil {
		return Finding{State: Trouble, Tried: tried, Came: err.Error()}, f
	}
	own, err := client.ListTemplates(ctx)
	found := judgeKey(len(own), err, f.live.APIKey)
	found.Tried = tried
	if err == nil {
		f.client, f.own = client, own
	}
	return found, f
}

func tryNodes(ctx context.Context, f facts) (Finding, facts) {
	if f.live.AdminToken == "" {
		return Finding{State: NotNeeded, Came: "E2B_ADMIN_TOKEN is not set: reports do not name nodes"}, f
	}
	nodes, err := f.client.Nodes(ctx)
	if err != nil {
		return Finding{State: Warning, Came: err.Error(), Do: "set E2B_ADMIN_TOKEN to what the API server runs with as ADMIN_TOKEN, or leave it out: reports do not name nodes then"}, f
	}
	ready := 0
	for _, n := range nodes {
		if n.Status == "ready" {
			ready++
		}
	}
	found := Finding{State: Fine, Came: fmt.Sprintf("%d node(s), %d of them ready", len(nodes), ready)}
	if ready == 0 {
		found.State, found.Do = Trouble, "no node takes sandboxes: is an orchestrator up and registered (nomad node status, its own /health on port 5008)?"
	}
	return found, f
}

// templateHop looks one template of the configuration up.
func templateHop(o Options, want config.Template) hop {
	name := "template." + want.Name
	return hop{
		name: name, tried: "look template " + want.Name + " up", needs: []string{"api.key"}, wait: o.Config.Intervals.Hop,
		try: func(ctx context.Context, f facts) (Finding, facts) {
			k := known{want: want}
			plain, _, _ := strings.Cut(want.Name, ":")
			for _, t := range f.own {
				names := slices.Concat([]string{t.TemplateID}, t.Aliases, t.Names)
				if slices.Contains(names, plain) {
					k.own = &t
				}
				k.listed = append(k.listed, append(slices.Clone(t.Aliases), t.TemplateID)[0])
			}
			if k.own == nil {
				_, k.resolved = f.client.ResolveAlias(ctx, plain)
			} else if b := o.Config.Builds(); b.Storage != "" && k.own.BuildID != "" {
				// What cannot be read is said by the hop of the storage.
				if disk, err := (image.Storage{Dir: b.Storage, Caches: b.Caches, Templates: b.Templates}).Disk(ctx, k.own.BuildID); err == nil {
					k.disk = disk
				}
			}
			found := judgeTemplate(k)
			if f.usable == "" && found.State != Trouble {
				f.usable = want.Name
			}
			return found, f
		},
	}
}
