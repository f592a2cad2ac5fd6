package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/sandboxapi/envd"
)

// side is which of the two ways a connection goes.
type side int

const (
	toAPI side = iota
	toSandboxes
)

// what names the setting that leads there.
func (s side) setting() string {
	if s == toAPI {
		return "E2B_API_URL or E2B_DOMAIN"
	}
	return "E2B_SANDBOX_URL or E2B_DOMAIN"
}

// network explains an error of the way: what came back, and what to do.
func network(err error, to side) (came, do string) {
	if came, do, ok := ofProxy(err); ok {
		return came, do
	}
	came = err.Error()
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsTimeout {
			return "the name server did not answer for " + dns.Name, "look at /etc/resolv.conf: is the name server reachable from here (VPN)?"
		}
		if to == toSandboxes {
			return "no address for " + dns.Name, "sandboxes need a wildcard record (*.DOMAIN) that leads to the client-proxy; without one set E2B_SANDBOX_URL to the client-proxy (port 3002 in local installations), which then tells sandboxes apart by Host and headers"
		}
		return "no address for " + dns.Name, "check " + to.setting() + ": a domain's API is api.DOMAIN"
	}
	if reason, ok := certificate(err); ok {
		return reason, "have a certificate that fits, trust its issuer (SSL_CERT_FILE=ca.pem), or use the name that the certificate has" + wildcard(to)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(came, "server gave HTTP response to HTTPS client") {
		return "it speaks no TLS", "say http:// in " + to.setting() + ", or name the port that speaks TLS"
	}
	port := "3000 for the API"
	if to == toSandboxes {
		port = "3002 for the client-proxy"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there", "is the service up, and the port right (" + port + " in local installations)?"
	case errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it", "is the network or VPN up?"
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time", "is there a firewall between, or does the service hang? Its own log says"
	case strings.Contains(came, "malformed HTTP") || strings.Contains(came, "readLoopPeekFailLocked"):
		// The second is net/http's word for a server that speaks before it is asked.
		return "it speaks something else than HTTP/1: " + came, "another service is on that port: check " + to.setting() + " (" + port + ")"
	case strings.Contains(came, "EOF") || strings.Contains(came, "server closed idle connection") || errors.Is(err, syscall.ECONNRESET):
		return "the connection was closed without an answer", "another service may be on that port, or a proxy before it is in trouble: check " + to.setting()
	}
	return came, "check " + to.setting()
}

// proxyVariables are what leads through a proxy, or around it.
const proxyVariables = "HTTP_PROXY, HTTPS_PROXY and NO_PROXY"

// ofProxy explains an error of the environment's proxy itself, which stands
// before everything that the settings of E2B name. net/http marks what it meets
// on the way to a proxy.
func ofProxy(err error) (came, do string, ok bool) {
	if strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)) {
		return "the proxy wants a login: " + http.StatusText(http.StatusProxyAuthRequired), wantsLogin, true
	}
	failed, marked := errors.AsType[*net.OpError](err)
	if !marked || failed.Op != "proxyconnect" {
		return "", "", false
	}
	proxy := "the proxy"
	if dial, dialled := errors.AsType[*net.OpError](failed.Err); dialled && dial.Addr != nil {
		proxy += " at " + dial.Addr.String()
	}
	do = "is the proxy up, and its address right? Check " + proxyVariables
	dns, unnamed := errors.AsType[*net.DNSError](failed.Err)
	reason, distrusted := certificate(failed.Err)
	switch {
	case unnamed && dns.IsTimeout:
		return "the proxy was not found: the name server did not answer for " + dns.Name, "is the name server reachable from here (/etc/resolv.conf, VPN)? Else check " + proxyVariables, true
	case unnamed:
		return "the proxy was not found: no address for " + dns.Name, "check " + proxyVariables + ", and escape what is special in a password (%2F for a slash)", true
	case distrusted:
		return "the proxy's own TLS: " + reason, "trust its issuer (SSL_CERT_FILE=ca.pem), or say http:// of it: check " + proxyVariables, true
	case errors.Is(err, syscall.ECONNREFUSED):
		return proxy + " refused the connection: nothing listens there", do, true
	case errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to " + proxy, do, true
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return proxy + " did not answer in time", do, true
	}
	return proxy + " was not reached: " + failed.Err.Error(), do, true
}

// wantsLogin is what to do about a proxy's 407.
const wantsLogin = "put name and password into the proxy's URL, http://NAME:PASSWORD@HOST:PORT, or go around it: check " + proxyVariables

func wildcard(to side) string {
	if to == toSandboxes {
		return "; sandboxes need a wildcard certificate for *.DOMAIN"
	}
	return ""
}

// certificate explains why a server's certificate was not taken.
func certificate(err error) (string, bool) {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for other names: " + name.Error(), true
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is signed by nobody known here: " + unknown.Error(), true
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "its certificate is not valid: " + invalid.Error(), true
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failed.Error(), true
	}
	return "", false
}

// answer is what came of an HTTP request.
type answer struct {
	status   int
	header   http.Header
	body     []byte // its beginning
	sent, at time.Time
	err      error
}

// looksLikePage tells a web page, which no route of E2B's API answers with.
func (a answer) looksLikePage() bool {
	text := strings.ToLower(strings.TrimSpace(string(a.body)))
	return strings.HasPrefix(text, "<!doctype") || strings.HasPrefix(text, "<html") || strings.HasPrefix(a.header.Get("Content-Type"), "text/html")
}

// judgeHealth judges the answer of the API's /health: any 2xx, with or
// without a few plain words (e2b-dev/infra packages/api/internal/handlers/store.go).
func judgeHealth(a answer) Finding {
	if a.err != nil {
		came, do := network(a.err, toAPI)
		return Finding{State: Trouble, Came: came, Do: do}
	}
	came := fmt.Sprintf("%d %.80q", a.status, a.body)
	switch {
	case a.status >= 300 && a.status < 400:
		return Finding{State: Trouble, Came: fmt.Sprintf("%d, a redirect to %.200q", a.status, a.header.Get("Location")), Do: "set E2B_API_URL to where it leads; redirects are not followed, since the key would go along"}
	case a.status == http.StatusBadRequest && strings.Contains(string(a.body), "HTTP request to an HTTPS server"):
		return Finding{State: Trouble, Came: came, Do: "that port speaks TLS: say https:// in E2B_API_URL"}
	case a.status == http.StatusBadRequest && strings.HasPrefix(string(a.body), "Invalid host"):
		return Finding{State: Trouble, Came: came, Do: "this is how E2B's client-proxy answers: E2B_API_URL wants the API (port 3000 in local installations), E2B_SANDBOX_URL the proxy (3002)"}
	case a.status == http.StatusProxyAuthRequired:
		return Finding{State: Trouble, Came: fmt.Sprintf("%d: a proxy wants a login", a.status), Do: wantsLogin}
	case a.looksLikePage():
		return Finding{State: Trouble, Came: fmt.Sprintf("%d and a web page, %.80q", a.status, a.body), Do: "another server answers there (a dashboard, a proxy's default page): check E2B_API_URL; the API's port is 3000 in local installations"}
	case a.status == http.StatusNotFound:
		return Finding{State: Trouble, Came: came, Do: "that server has no /health, so it is no E2B API: check E2B_API_URL, its port and its path (3002 is the client-proxy, 3000 the API in local installations)"}
	case a.status == http.StatusServiceUnavailable:
		return Finding{State: Trouble, Came: came, Do: "the API says itself that it is not well: look at its log, and whether its database and Nomad are up"}
	case a.status == http.StatusBadGateway || a.status == http.StatusGatewayTimeout:
		return Finding{State: Trouble, Came: came, Do: "a proxy answers, and the API behind it does not: is the API up?"}
	case a.status < 200 || a.status > 299:
		return Finding{State: Trouble, Came: came, Do: "check E2B_API_URL: an E2B API answers 200 there"}
	}
	return Finding{State: Fine, Came: came}
}

// mostSkew is how far clocks may be apart: times of the log, of the API and of
// guests are compared in seconds.
const mostSkew = 5 * time.Second

// judgeClock compares this machine's clock with the Date of an answer, which
// counts in whole seconds.
func judgeClock(a answer) Finding {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return Finding{State: Unproven, Came: "the answer has no Date header", Do: "compare the clocks yourself: run date on both machines"}
	}
	middle := a.sent.Add(a.at.Sub(a.sent) / 2)
	skew := middle.Sub(date.Add(500 * time.Millisecond)).Round(100 * time.Millisecond)
	if skew.Abs() <= mostSkew+a.at.Sub(a.sent)/2 {
		return Finding{State: Fine, Came: fmt.Sprintf("the clocks are no more than %s apart", max(skew.Abs(), time.Second))}
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	return Finding{
		State: Warning, Came: fmt.Sprintf("this machine's clock is %s %s the API's", skew.Abs(), way),
		Do: "set both by NTP (chronyc tracking, timedatectl): lines of the log and sandboxes' times are compared with this clock",
	}
}

// keyForm is the form of E2B's own keys; forks may have another one.
var keyForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^e2b_[0-9a-f]+$`) })

// judgeKey judges what a call with the key came to.
func judgeKey(templates int, err error, key string) Finding {
	if err == nil {
		return Finding{State: Fine, Came: fmt.Sprintf("the key is taken; its team has %d template(s) of its own", templates)}
	}
	f := Finding{State: Trouble, Came: err.Error()}
	e, typed := errors.AsType[*sandboxapi.Error](err)
	if !typed || (e.Status == 0 && e.Err != nil) {
		f.Came, f.Do = network(err, toAPI)
		return f
	}
	switch e.Kind {
	case sandboxapi.Unauthorised:
		f.Do = "take a key of this very deployment's team (the dashboard, or the seed's output); a key of another deployment or domain is refused in the same words"
		if !keyForm().MatchString(key) {
			f.Do = "E2B_API_KEY has not the form e2b_ and hexadecimal digits: is it whole, and no access token (sk_e2b_...)? Else " + f.Do
		}
		if e.Status == http.StatusForbidden {
			f.Do = "the key is known and its team blocked, or a gateway before the API refuses this machine"
		}
	case sandboxapi.Protocol:
		f.Do = "what answers is no E2B API: check E2B_API_URL, its port and its path"
	case sandboxapi.RateLimited:
		f.Do = "wait, and try again: others use the same key"
	case sandboxapi.Transient, sandboxapi.Capacity, sandboxapi.NotFound, sandboxapi.Validation:
		f.Do = "look at the API's own log"
	}
	return f
}

// known are what is known of one template of the configuration.
type known struct {
	want config.Template
	// own is the team's entry; nil where it has none.
	own *sandboxapi.Template
	// resolved is the answer for the alias, where own is nil.
	resolved error
	listed   []string
	disk     *evidence.Disk
}

// judgeTemplate judges what is known of a template.
func judgeTemplate(k known) Finding {
	if k.own == nil {
		return judgeForeign(k)
	}
	t := k.own
	generation := generationOf(t.EnvdVersion)
	said := []string{fmt.Sprintf("template %s, build %s (%s)", t.TemplateID, cmp.Or(t.BuildID, "none"), cmp.Or(t.BuildStatus, "status not told"))}
	said = append(said, fmt.Sprintf("envd %s by the API's record, generation %s", cmp.Or(t.EnvdVersion, "not told"), generation))
	said = append(said, resumes(k.disk))
	f := Finding{State: Fine, Came: strings.Join(said, "; ")}
	switch {
	case t.BuildID == "" || t.Unbuilt():
		f.State, f.Do = Trouble, "no build of it has succeeded yet: "+whatToBuild(t.BuildStatus)
	case k.want.BuildID != "" && !strings.EqualFold(t.BuildID, k.want.BuildID):
		f.State, f.Do = Trouble, fmt.Sprintf("ginkgo.yml expects build %s: it is not the build you patched, or the entry is old", k.want.BuildID)
	case t.BuildStatus == "error":
		f.State, f.Do = Warning, "its last build failed, so sandboxes are of an older one: look at the build's log"
	case t.BuildStatus == "building" || t.BuildStatus == "waiting":
		f.State, f.Do = Warning, "a build is under way: judge it when that is ready"
	case generation == noGeneration:
		f.State, f.Do = Warning, "an envd before 0.4.3 sets no limits, so the verdict will be not-applicable: build the template anew"
	}
	return f
}

// whatToBuild is what to do about a template without a build, by the status of
// its last one.
func whatToBuild(status string) string {
	switch status {
	case "error":
		return "look at the log of the one that failed, and build it again (e2b template build)"
	case "building", "waiting":
		return "wait for the one under way, or look at its log"
	}
	return "build it (e2b template build)"
}

// noGeneration is the name of the envds that set no limits.
const noGeneration = "none"

// generationOf names what a version of envd promises.
func generationOf(version string) string {
	fits, err := requirement.Generations(version, "")
	if err != nil || len(fits) == 0 {
		return "not known"
	}
	names := make([]string, len(fits))
	for i, g := range fits {
		names[i] = g.Name
	}
	return strings.Join(names, " or ")
}

func judgeForeign(k known) Finding {
	switch kind := sandboxapi.KindOf(k.resolved); {
	case k.want.BuildID != "":
		return Finding{State: Trouble, Came: "the API does not list it for this team, so its build cannot be compared with " + k.want.BuildID, Do: "leave build-id out of ginkgo.yml, or use a key of the template's team"}
	case k.resolved == nil:
		return Finding{State: Fine, Came: "not the team's own; the API resolves its alias, and tells no build and no envd version"}
	case kind == sandboxapi.NotFound:
		return Finding{State: Trouble, Came: "the API knows no such template", Do: "name one that it has: " + cmp.Or(shorten(k.listed), "the team has none of its own, so build one (e2b template build)")}
	case kind == sandboxapi.Unauthorised:
		return Finding{State: Trouble, Came: k.resolved.Error(), Do: "it belongs to another team and is not public: use that team's key"}
	case kind == sandboxapi.Protocol:
		return Finding{State: Unproven, Came: "the team has none of that name, and this server does not resolve aliases (it is older than 67f51931b)", Do: "if it is no public template, name one that the team has: " + shorten(k.listed)}
	}
	return Finding{State: Trouble, Came: k.resolved.Error(), Do: "look at the API's own log"}
}

// mostListed bounds how many names are listed.
const mostListed = 12

func shorten(names []string) string {
	if more := len(names) - mostListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostListed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// resumes tells from the storage whether sandboxes resume a snapshot.
func resumes(disk *evidence.Disk) string {
	switch {
	case disk == nil:
		return "whether its sandboxes boot or resume a snapshot is not told by the API (E2B's own resume)"
	case disk.Missing != "" || disk.Image == "":
		return "the storage has no such build"
	case len(disk.Snapshots) > 0:
		return "sandboxes resume a snapshot (" + disk.Snapshots[0] + "), so envd's first lines were logged when it was built"
	}
	return "sandboxes boot: the storage has no snapshot of it"
}

// judgeRoute judges what is answered for a sandbox that does not exist: by
// E2B's proxies a 502 that names it.
func judgeRoute(status int, err error) Finding {
	if err == nil {
		return Finding{
			State: Trouble, Came: fmt.Sprintf("%d, as if that sandbox were there", status),
			Do: "what answers is no E2B proxy, or leads every name to one sandbox (a direct address of envd, a catch-all backend): set E2B_SANDBOX_URL to the client-proxy (port 3002 in local installations)",
		}
	}
	f := judgeWay(err)
	if e, ok := errors.AsType[*envd.Error](err); ok && e.Where == envd.AtProxy {
		return Finding{State: Fine, Came: fmt.Sprintf("%d: an E2B proxy answers, and knows no such sandbox, which is right", e.Status)}
	}
	if e, ok := errors.AsType[*envd.Error](err); ok && e.Where == envd.AtPort {
		f.State, f.Do = Trouble, "a sandbox answers that should not exist: does the proxy look at Host or at the headers at all?"
	}
	return f
}

// judgeWay judges an error on the way to a sandbox.
func judgeWay(err error) Finding {
	f := Finding{State: Trouble, Came: err.Error(), Do: "check E2B_SANDBOX_URL or E2B_DOMAIN"}
	e, ok := errors.AsType[*envd.Error](err)
	if !ok {
		return f
	}
	switch e.Where {
	case envd.AtProxy:
		f.Do = "the sandbox was made, and the proxy does not know it: do the API and this proxy belong to the same cluster, and does the proxy see the API's catalogue (Redis)?"
	case envd.AtPort:
		f.Do = "the guest runs and its envd does not answer: run make e2e, which looks at the boot"
	case envd.AtEnvd:
		f.Do = "run make e2e, which looks at what envd refuses"
	case envd.AtNetwork:
		switch {
		case e.Status == 0 && e.Err != nil:
			f.Came, f.Do = network(e.Err, toSandboxes)
		case e.Status == http.StatusBadRequest:
			f.Do = "the proxy does not find a sandbox's name in Host: a Host without a dot, or a gateway before it that rewrites Host. Pass Host on as it is (49983-ID.DOMAIN), or set E2B_DOMAIN beside E2B_SANDBOX_URL"
		case e.Status == http.StatusNotFound, e.Status/100 == 2 && e.Err == nil:
			// The API answers /health with 200 whatever the Host.
			f.Do = "another server answers there (3000 is the API, 3002 the client-proxy in local installations), or a gateway has no wildcard route for *.DOMAIN: check E2B_SANDBOX_URL or E2B_DOMAIN"
		case e.Status == http.StatusProxyAuthRequired:
			f.Do = wantsLogin
		case e.Status >= 300 && e.Status < 400:
			f.Do = "a gateway redirects, perhaps to https: set E2B_SANDBOX_URL to where it leads"
		case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
			f.Do = "a gateway before the proxy asks for a login of its own: let this machine through"
		case e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout:
			f.Do = "a gateway answers, and E2B's proxy behind it does not: is the client-proxy up, and does the gateway lead to its port (3002)?"
		}
	}
	return f
}

// judgeCreate judges a create call that failed.
func judgeCreate(err error) Finding {
	f := Finding{State: Trouble, Came: err.Error()}
	e, ok := errors.AsType[*sandboxapi.Error](err)
	if !ok {
		return f
	}
	switch e.Kind {
	case sandboxapi.Capacity:
		f.Do = "end sandboxes, or wait: the cluster or the team has no room. Is an orchestrator up and its node ready (nomad node status)?"
	case sandboxapi.Transient:
		f.Do = "look at the orchestrator's log: the node could not start the sandbox, or no node is there"
		if e.Status == 0 {
			f.Do = "no answer came to the create call: what it may have made is looked for and ended; look at the API's log"
		}
	case sandboxapi.NotFound, sandboxapi.Unauthorised:
		f.Do = "the template is not this team's, or has no build"
	case sandboxapi.RateLimited, sandboxapi.Validation, sandboxapi.Protocol:
		f.Do = "look at what the API says"
	}
	return f
}
