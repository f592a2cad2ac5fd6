package sandboxapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"sandproof/internal/sandboxapi/envd"
)

// EnvdPort is the port on which envd listens in every guest.
const EnvdPort = 49983

// TrafficHeader carries the traffic token to a sandbox without public traffic
// (e2b-dev/infra 5e97a459e).
const TrafficHeader = "E2b-Traffic-Access-Token"

// routingDomain stands in the Host where only headers decide: the servers
// want a dot in it.
const routingDomain = "sandbox.local"

// Route says how a port of a sandbox is reached, as E2B's SDK finds it: the
// one URL for all sandboxes with routing headers and a matching Host, else
// https://<port>-<id>.<domain>, where a domain that came with the sandbox wins, else
// the address that a fork's API gave. The traffic token of a sandbox without
// public traffic goes to every port but envd's, which does not ask for it.
func (c *Client) Route(sandbox Sandbox, port int) (envd.Route, error) {
	domain := c.options.Domain
	if sandbox.Domain != nil && *sandbox.Domain != "" {
		domain = *sandbox.Domain
	}
	header := http.Header{}
	if token := sandbox.TrafficAccessToken; token != nil && *token != "" && port != EnvdPort {
		header.Set(TrafficHeader, *token)
	}
	host := func(domain string) string { return fmt.Sprintf("%d-%s.%s", port, sandbox.SandboxID, domain) }
	switch {
	case c.options.SandboxURL != "":
		if domain == "" {
			domain = routingDomain
		}
		header.Set("E2b-Sandbox-Id", sandbox.SandboxID)
		header.Set("E2b-Sandbox-Port", strconv.Itoa(port))
		return envd.Route{BaseURL: c.options.SandboxURL, Host: host(domain), Header: header}, nil
	case domain != "":
		return envd.Route{BaseURL: "https://" + host(domain), Header: header}, nil
	case sandbox.EnvdURL != "" && port == EnvdPort:
		if u, err := url.Parse(sandbox.EnvdURL); err != nil || u.Host == "" {
			return envd.Route{}, &Error{Kind: Protocol, Op: "reach sandbox " + sandbox.SandboxID, Message: fmt.Sprintf("envdURL %q is no URL", sandbox.EnvdURL)}
		}
		return envd.Route{BaseURL: sandbox.EnvdURL}, nil
	}
	return envd.Route{}, &Error{
		Kind: Protocol, Op: "reach sandbox " + sandbox.SandboxID,
		Message: "no way to its ports is known: set E2B_SANDBOX_URL, or E2B_DOMAIN",
	}
}

// Envd returns a client of a sandbox's envd.
func (c *Client) Envd(sandbox Sandbox) (*envd.Client, error) {
	route, err := c.Route(sandbox, EnvdPort)
	if err != nil {
		return nil, err
	}
	return envd.New(envd.Options{Route: route, AccessToken: sandbox.EnvdAccessToken, UserAgent: c.options.UserAgent}), nil
}
