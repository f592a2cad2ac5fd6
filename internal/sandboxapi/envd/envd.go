// Package envd speaks to the envd of one sandbox: its HTTP routes and the
// process service over Connect. What it starts and receives is bounded, since
// everything that comes back is a guest's word.
//
// Source: e2b-dev/infra packages/envd/spec, as of 54693ff35.
package envd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"sandproof/internal/redact"
	"sandproof/internal/sandboxapi/envd/processpb/processpbconnect"
)

// Route is the way to one port of one sandbox.
type Route struct {
	BaseURL string
	// Host overrides the Host header, Header is added; both only where the
	// base URL does not name the sandbox.
	Host   string
	Header http.Header
}

// Options configure a client.
type Options struct {
	Route Route
	// AccessToken is that of a secure sandbox, else empty.
	AccessToken string
	UserAgent   string
	// Transport is used in place of the default one, where it is set.
	Transport http.RoundTripper
}

// Client is safe for concurrent use.
type Client struct {
	base    string
	http    *http.Client
	process processpbconnect.ProcessClient
	// secrets takes the token out of what a guest echoes.
	secrets *redact.Redactor
}

// maxMessage bounds one message of the process service, unpacked, in bytes:
// envd sends output in pieces of at most 32 KiB.
const maxMessage = 4 << 20

// New makes a client. envd speaks HTTP/1.1, and redirects nobody: a guest that
// does is not followed.
func New(options Options) *Client {
	next := options.Transport
	if next == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // it is one
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
		next = transport
	}
	routed := &routed{options: options, next: next}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{
		base:    strings.TrimSuffix(options.Route.BaseURL, "/"),
		http:    &http.Client{Transport: routed, CheckRedirect: stay},
		secrets: redact.New(options.AccessToken),
	}
	process := &http.Client{Transport: &refusals{routed, c.secrets}, CheckRedirect: stay}
	c.process = processpbconnect.NewProcessClient(process, c.base, connect.WithReadMaxBytes(maxMessage))
	return c
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// routed puts on every request what leads it to its sandbox.
type routed struct {
	options Options
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r *routed) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	if r.options.Route.Host != "" {
		request.Host = r.options.Route.Host
	}
	maps.Copy(request.Header, r.options.Route.Header)
	if r.options.AccessToken != "" {
		request.Header.Set("X-Access-Token", r.options.AccessToken)
	}
	request.Header.Set("User-Agent", r.options.UserAgent)
	return r.next.RoundTrip(request)
}

// CloseIdleConnections lets http.Client reach the transport below.
func (r *routed) CloseIdleConnections() {
	if closer, ok := r.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// refusals makes errors of the answers that are not Connect's: connect-go
// throws their bodies away, and only these tell who refused.
type refusals struct {
	next    http.RoundTripper
	secrets *redact.Redactor
}

// RoundTrip implements http.RoundTripper.
func (r *refusals) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(request)
	if err != nil || response.StatusCode == http.StatusOK {
		return response, err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	// Only Connect's codes are words; those of envd's other routes and of the
	// proxies are numbers.
	var parsed struct {
		Code connect.Code `json:"code"`
	}
	if json.Unmarshal(data, &parsed) == nil && parsed.Code != 0 {
		response.Body = io.NopCloser(bytes.NewReader(data))
		return response, nil
	}
	return nil, answerError("", response.StatusCode, data, r.secrets)
}

// Where says which of the parties on the way answered with trouble.
type Where string

// The parties.
const (
	// AtNetwork: no answer, or one that broke off.
	AtNetwork Where = "network"
	// AtProxy: the proxy knows no such running sandbox.
	AtProxy Where = "proxy"
	// AtPort: the sandbox runs, and nothing listens on the port.
	AtPort Where = "port"
	// AtEnvd: envd itself refused, or answered what it should not.
	AtEnvd Where = "envd"
)

// Error is a failed call to a sandbox.
type Error struct {
	Where Where
	Op    string
	// Status is the HTTP status, 0 where none came; Code the Connect code.
	Status  int
	Code    string
	Message string
	Err     error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", redact.Terminal(e.Op))
	switch e.Where {
	case AtNetwork:
		b.WriteString("no answer from the sandbox")
	case AtProxy:
		b.WriteString("the proxy knows no such running sandbox; it has ended, or the route to it is wrong")
	case AtPort:
		b.WriteString("the sandbox runs, and nothing answers on the port; envd is not up, or has died")
	case AtEnvd:
		b.WriteString("envd refused")
	}
	for _, part := range []string{e.Code, e.Message} {
		if part != "" {
			fmt.Fprintf(&b, ": %s", redact.Terminal(part))
		}
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %s", redact.Terminal(e.Err.Error()))
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// maxError bounds the body of an error, in bytes.
const maxError = 64 << 10

// do makes a request and checks its status; the caller closes the body.
func (c *Client) do(ctx context.Context, op, method, path string, header http.Header, body io.Reader, want ...int) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	maps.Copy(request.Header, header)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, &Error{Where: AtNetwork, Op: op, Err: err}
	}
	if slices.Contains(want, response.StatusCode) {
		return response, nil
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	if err != nil {
		return nil, &Error{Where: AtNetwork, Op: op, Status: response.StatusCode, Err: err}
	}
	return nil, answerError(op, response.StatusCode, data, c.secrets)
}

// answerError tells the proxies' refusals from envd's own, which are JSON with
// a message and the status as its code, and never name the sandbox
// (e2b-dev/infra packages/envd/spec/envd.yaml). A gateway in front of it may
// answer JSON with a message, too. The proxy answers 502 for a dead sandbox and
// for a closed port alike; only its body has the difference (e2b-dev/infra
// packages/shared/pkg/proxy).
func answerError(op string, status int, body []byte, secrets *redact.Redactor) *Error {
	e := &Error{Where: AtEnvd, Op: op, Status: status}
	var parsed struct {
		SandboxID string          `json:"sandboxId"`
		Message   string          `json:"message"`
		Code      json.RawMessage `json:"code"`
		Port      json.RawMessage `json:"port"`
	}
	own := json.Unmarshal(body, &parsed) == nil && parsed.Message != "" && string(parsed.Code) == strconv.Itoa(status)
	e.Message = secrets.String(parsed.Message)
	if !own {
		// Half a secret would be known to nobody any more.
		e.Message = fmt.Sprintf("%d with the body %.200q", status, secrets.Bytes(body))
	}
	switch {
	case status == http.StatusBadGateway && parsed.Port != nil:
		e.Where = AtPort
	case status == http.StatusBadGateway && parsed.SandboxID != "":
		e.Where = AtProxy
	case !own, parsed.SandboxID != "", status == http.StatusTooManyRequests,
		status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		e.Where = AtNetwork
	}
	return e
}

// Health asks envd for its health and returns the HTTP status: 204 when it is
// up. Only an answer of envd itself is a status.
func (c *Client) Health(ctx context.Context) (int, error) {
	response, err := c.do(ctx, "GET /health", http.MethodGet, "/health", nil, http.NoBody, http.StatusNoContent)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Where == AtEnvd {
			return e.Status, nil
		}
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// Metrics are what envd tells of its guest.
type Metrics struct {
	CPUCount int `json:"cpu_count"`
	// MemTotal is in bytes, and the very input of envd's memory formula; 0
	// where this envd does not tell.
	MemTotal uint64 `json:"mem_total"`
}

// Metrics asks envd for its metrics.
func (c *Client) Metrics(ctx context.Context) (Metrics, error) {
	const op = "GET /metrics"
	response, err := c.do(ctx, op, http.MethodGet, "/metrics", nil, http.NoBody, http.StatusOK)
	if err != nil {
		return Metrics{}, err
	}
	defer response.Body.Close()
	var metrics Metrics
	if err := json.NewDecoder(io.LimitReader(response.Body, maxError)).Decode(&metrics); err != nil {
		return Metrics{}, &Error{Where: AtEnvd, Op: op, Status: response.StatusCode, Message: "the answer is no metrics", Err: err}
	}
	return metrics, nil
}

// InitRequest is what the orchestrator tells a fresh envd.
type InitRequest struct {
	AccessToken string            `json:"accessToken,omitempty"`
	EnvVars     map[string]string `json:"envVars,omitempty"`
	DefaultUser string            `json:"defaultUser,omitempty"`
	// Timestamp is the time that the guest's clock is set to; a guest that
	// goes on from a snapshot has lost it.
	Timestamp time.Time `json:"timestamp,omitzero"`
}

// Init tells a fresh envd its token, environment and default user. Real
// proxies refuse this route from outside.
func (c *Client) Init(ctx context.Context, request InitRequest) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("POST /init: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	response, err := c.do(ctx, "POST /init", http.MethodPost, "/init", header, bytes.NewReader(body), http.StatusNoContent, http.StatusOK)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// WriteFile uploads a file as a user, as a multipart form, which every
// version of envd takes.
func (c *Client) WriteFile(ctx context.Context, user, path string, content []byte) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", path)
	if err == nil {
		_, err = part.Write(content)
	}
	if err := errors.Join(err, form.Close()); err != nil {
		return fmt.Errorf("upload %s: %w", path, err)
	}
	header := http.Header{"Content-Type": {form.FormDataContentType()}}
	response, err := c.do(ctx, "upload "+path, http.MethodPost, "/files?"+fileQuery(user, path), header, &body, http.StatusOK)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// ReadFile downloads a file as a user. A file longer than limit bytes is an
// error.
func (c *Client) ReadFile(ctx context.Context, user, path string, limit int64) ([]byte, error) {
	op := "download " + path
	header := http.Header{"Accept-Encoding": {"identity"}}
	response, err := c.do(ctx, op, http.MethodGet, "/files?"+fileQuery(user, path), header, http.NoBody, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, &Error{Where: AtNetwork, Op: op, Status: response.StatusCode, Err: err}
	}
	if int64(len(data)) > limit {
		return nil, &Error{Where: AtEnvd, Op: op, Status: response.StatusCode, Message: fmt.Sprintf("the file is longer than %d bytes", limit)}
	}
	return data, nil
}

func fileQuery(user, path string) string {
	return url.Values{"path": {path}, "username": {user}}.Encode()
}

// basic is the header by which envd chooses the user; it ignores the
// password.
func basic(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"))
}
