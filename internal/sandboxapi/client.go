// Package sandboxapi speaks E2B's REST API over net/http: the calls that the
// harness needs, the types on the wire, and errors that say what a caller can
// do about them. It also knows how a sandbox's own ports are reached.
//
// Source: e2b-dev/infra spec/openapi.yml, and the measured behaviour of its
// server at 54693ff35.
package sandboxapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"sandproof/internal/redact"
)

// Options configure a client.
type Options struct {
	// APIURL is the API's base URL; empty means https://api.<Domain>.
	APIURL string
	// Domain is the deployment's domain, used where URLs are not given.
	Domain string
	// SandboxURL is one base URL for all sandboxes, which are then told apart
	// by headers; empty means https://<port>-<id>.<Domain>.
	SandboxURL string
	APIKey     string
	// AdminToken opens the calls about nodes; empty means that they cannot be
	// made. No other call carries it.
	AdminToken string
	UserAgent  string
	// CreateTimeout bounds a create call, RequestTimeout every other one. The
	// server's own bound is 75 s (e2b-dev/infra packages/api/main.go), so a
	// create should be given more.
	CreateTimeout, RequestTimeout time.Duration
}

// Client is safe for concurrent use.
type Client struct {
	options    Options
	base       *url.URL
	http       *http.Client
	credential credential
	// secrets takes the key and the token out of what a server echoes.
	secrets *redact.Redactor
	// retry makes the pauses between attempts; tests make them short.
	retry func() backoff.BackOff
}

// credential is what opens a call: a header, its value, and the environment
// variable that a person sets it with.
type credential struct{ header, value, variable string }

// How often and how long a GET or DELETE is tried.
const (
	maxTries   = 5
	maxElapsed = 40 * time.Second
)

// What is read of an answer, in bytes: 100 sandboxes with their metadata are
// far below the one, an error's few words below the other.
const (
	maxBody      = 16 << 20
	maxErrorBody = 64 << 10
)

// New makes a client.
func New(options Options) (*Client, error) {
	if options.APIKey == "" {
		return nil, errors.New("no API key: set E2B_API_KEY")
	}
	text := options.APIURL
	if text == "" {
		if options.Domain == "" {
			return nil, errors.New("neither an API URL nor a domain: set E2B_API_URL or E2B_DOMAIN")
		}
		text = "https://api." + options.Domain
	}
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("API URL %q: want http(s)://host[:port]", text)
	}
	if options.CreateTimeout <= 0 || options.RequestTimeout <= 0 {
		return nil, errors.New("BUG: a client without time-outs")
	}
	return &Client{
		options: options, base: base, secrets: redact.New(options.APIKey, options.AdminToken),
		credential: credential{"X-API-Key", options.APIKey, "E2B_API_KEY"},
		http:       &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		retry:      func() backoff.BackOff { return backoff.NewExponentialBackOff() },
	}, nil
}

// Create creates a sandbox. It is tried once: a create that failed may have
// had effects, and a blind second one leaves a sandbox behind.
func (c *Client) Create(ctx context.Context, request NewSandbox) (Sandbox, error) {
	op := "create a sandbox of template " + request.TemplateID
	ctx, cancel := context.WithTimeout(ctx, c.options.CreateTimeout)
	defer cancel()
	var sandbox Sandbox
	_, err := c.once(ctx, op, http.MethodPost, "/sandboxes", request, &sandbox)
	if err == nil && sandbox.SandboxID == "" {
		err = nameless(op, http.StatusCreated, "sandbox")
	}
	return sandbox, err
}

// Get looks at a sandbox, running or paused.
func (c *Client) Get(ctx context.Context, id string) (SandboxDetail, error) {
	op := "look at sandbox " + id
	var detail SandboxDetail
	_, err := c.repeat(ctx, op, http.MethodGet, "/sandboxes/"+url.PathEscape(id), &detail)
	if err == nil && detail.SandboxID == "" {
		err = nameless(op, http.StatusOK, "sandbox")
	}
	return detail, err
}

// maxPages bounds the walk over a list: a server that always names a next
// page must not hold the harness for ever.
const maxPages = 1000

// List lists the sandboxes that carry all of the metadata, running and
// paused, over all pages. A server, or a proxy before it, may not heed the
// filter: what it lists beside is left out by what each entry says of itself,
// and an entry that does not say its metadata is an error, since its sandbox may
// be anybody's.
func (c *Client) List(ctx context.Context, metadata map[string]string) ([]ListedSandbox, error) {
	const op = "list sandboxes"
	query := url.Values{}
	if len(metadata) > 0 {
		query.Set("metadata", encodeMetadata(metadata))
	}
	var all []ListedSandbox
	seen := map[string]bool{}
	for range maxPages {
		var page []ListedSandbox
		header, err := c.repeat(ctx, op, http.MethodGet, "/v2/sandboxes?"+query.Encode(), &page)
		if err != nil {
			return nil, err
		}
		for _, s := range page {
			if s.SandboxID == "" {
				return nil, nameless(op, http.StatusOK, "sandbox in one of its entries")
			}
			if s.Metadata == nil && len(metadata) > 0 {
				return nil, nameless(op, http.StatusOK, "metadata of sandbox "+s.SandboxID+", so that it may be anybody's")
			}
			if !seen[s.SandboxID] && carries(s.Metadata, metadata) {
				seen[s.SandboxID] = true
				all = append(all, s)
			}
		}
		next := header.Get("X-Next-Token")
		if next == "" {
			return all, nil
		}
		query.Set("nextToken", next)
	}
	return nil, &Error{Kind: Protocol, Op: op, Message: fmt.Sprintf("the list does not end after %d pages", maxPages)}
}

// carries tells whether the metadata holds all that was asked for.
func carries(has, asked map[string]string) bool {
	for key, value := range asked {
		if found, ok := has[key]; !ok || found != value {
			return false
		}
	}
	return true
}

// encodeMetadata encodes a filter as the server decodes it: it unescapes the
// whole string once more than the query and then each key and value again,
// so each of them is escaped twice
// (e2b-dev/infra packages/api/internal/utils/sandboxes_list.go).
func encodeMetadata(metadata map[string]string) string {
	escape := func(s string) string { return url.QueryEscape(url.QueryEscape(s)) }
	pairs := make([]string, 0, len(metadata))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		pairs = append(pairs, escape(key)+"="+escape(metadata[key]))
	}
	return strings.Join(pairs, "&")
}

// Delete ends a sandbox. One that is gone already is no error: existed tells.
func (c *Client) Delete(ctx context.Context, id string) (existed bool, err error) {
	_, err = c.repeat(ctx, "delete sandbox "+id, http.MethodDelete, "/sandboxes/"+url.PathEscape(id), nil)
	if KindOf(err) == NotFound {
		return false, nil
	}
	return err == nil, err
}

// SetTimeout sets a sandbox's time to live, counted from now; it may shorten
// it, and zero ends the sandbox. The server counts in seconds, of which one
// that has begun is a whole one, and cuts what exceeds the team's maximum.
func (c *Client) SetTimeout(ctx context.Context, id string, ttl time.Duration) error {
	body := map[string]int32{"timeout": int32(math.Ceil(ttl.Seconds()))}
	_, err := c.bounded(ctx, "set the time-out of sandbox "+id, http.MethodPost, "/sandboxes/"+url.PathEscape(id)+"/timeout", body, nil)
	return err
}

// ListTemplates lists the team's own templates.
func (c *Client) ListTemplates(ctx context.Context) ([]Template, error) {
	const op = "list templates"
	var templates []Template
	_, err := c.repeat(ctx, op, http.MethodGet, "/templates", &templates)
	if err == nil && slices.ContainsFunc(templates, func(t Template) bool { return t.TemplateID == "" }) {
		err = nameless(op, http.StatusOK, "template in one of its entries")
	}
	return templates, err
}

// GetTemplate looks at one of the team's templates by its ID, not its alias.
func (c *Client) GetTemplate(ctx context.Context, id string) (TemplateWithBuilds, error) {
	op := "look at template " + id
	var template TemplateWithBuilds
	_, err := c.repeat(ctx, op, http.MethodGet, "/templates/"+url.PathEscape(id), &template)
	if err == nil && template.TemplateID == "" {
		err = nameless(op, http.StatusOK, "template")
	}
	return template, err
}

// ResolveAlias says which template an alias stands for. Servers before
// 67f51931b do not have the call, which is a Protocol error.
func (c *Client) ResolveAlias(ctx context.Context, alias string) (AliasTarget, error) {
	op := "resolve the alias " + alias
	var target AliasTarget
	_, err := c.repeat(ctx, op, http.MethodGet, "/templates/aliases/"+url.PathEscape(alias), &target)
	if err == nil && target.TemplateID == "" {
		err = nameless(op, http.StatusOK, "template")
	}
	return target, err
}

// Health asks whether the API is there; it needs no key and tells little.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.bounded(ctx, "ask for the API's health at "+c.base.Redacted(), http.MethodGet, "/health", nil, nil)
	return err
}

// nameless is the error for a success that lacks what every one has.
func nameless(op string, status int, what string) *Error {
	return &Error{Kind: Protocol, Op: op, Status: status, Message: "the answer names no " + what}
}

// repeat tries an idempotent call until it succeeds, fails for good, or was
// tried often enough; it waits as long as the server asks for. Its error is
// that of the last try, also when the context ended while it waited.
func (c *Client) repeat(ctx context.Context, op, method, path string, out any) (http.Header, error) {
	var last error
	try := func() (http.Header, error) {
		var header http.Header
		header, last = c.bounded(ctx, op, method, path, nil, out)
		e, typed := errors.AsType[*Error](last)
		switch {
		case last == nil:
			return header, nil
		case ctx.Err() != nil, !typed:
			return nil, backoff.Permanent(last)
		case e.Kind != Transient && e.Kind != RateLimited:
			return nil, backoff.Permanent(last)
		case e.RetryAfter > 0:
			return nil, backoff.RetryAfter(int(e.RetryAfter.Seconds()))
		}
		return nil, last
	}
	header, err := backoff.Retry(ctx, try, backoff.WithBackOff(c.retry()), backoff.WithMaxTries(maxTries), backoff.WithMaxElapsedTime(maxElapsed))
	if err == nil {
		return header, nil
	}
	if e, ok := errors.AsType[*Error](last); ok && e.Err == nil {
		e.Err = context.Cause(ctx)
	}
	return nil, last
}

func (c *Client) bounded(ctx context.Context, op, method, path string, in, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.RequestTimeout)
	defer cancel()
	return c.once(ctx, op, method, path, in, out)
}

// once makes one call.
func (c *Client) once(ctx context.Context, op, method, path string, in, out any) (http.Header, error) {
	var body io.Reader = http.NoBody
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	request.Header.Set(c.credential.header, c.credential.value)
	request.Header.Set("User-Agent", c.options.UserAgent)
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, &Error{Kind: Transient, Op: op, Err: err, idle: idle(method, err)}
	}
	defer response.Body.Close()
	refused := response.StatusCode < 200 || response.StatusCode > 299
	bound := int64(maxBody)
	if refused {
		bound = maxErrorBody
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, bound+1))
	switch {
	case err != nil:
		return nil, &Error{Kind: Transient, Op: op, Status: response.StatusCode, Message: "the answer broke off", Err: err, idle: idle(method, nil)}
	case refused:
		failed := errorOf(op, response.StatusCode, response.Header, data, c.secrets)
		failed.idle, failed.variable = idle(method, nil), c.credential.variable
		return nil, failed
	case len(data) > maxBody:
		return nil, &Error{Kind: Protocol, Op: op, Status: response.StatusCode, Message: fmt.Sprintf("the answer is longer than %d bytes", maxBody)}
	}
	if out == nil {
		if method != http.MethodGet && len(data) > 0 && !json.Valid(data) {
			return nil, &Error{Kind: Protocol, Op: op, Status: response.StatusCode, Message: "the answer is a page where none should be"}
		}
		return response.Header, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, &Error{Kind: Protocol, Op: op, Status: response.StatusCode, Message: "the answer is not the JSON that it should be", Err: err}
	}
	return response.Header, nil
}

// idle tells that a call cannot have changed anything: it only reads, or it
// never reached the server.
func idle(method string, err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return method == http.MethodGet || (ok && dial.Op == "dial")
}
