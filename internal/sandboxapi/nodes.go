package sandboxapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
)

// AdminHeader carries the admin token (e2b-dev/infra spec/openapi.yml).
const AdminHeader = "X-Admin-Token"

// adminVariable is where a person sets the admin token.
const adminVariable = "E2B_ADMIN_TOKEN"

// ErrNoAdminToken says that a call needs an admin token, and none is known.
var ErrNoAdminToken = errors.New("no admin token: set " + adminVariable + " to what the API server runs with as ADMIN_TOKEN")

// Nodes lists the cluster's nodes. It needs an admin token, and is
// ErrNoAdminToken without one.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	const op = "list nodes"
	admin, err := c.asAdmin()
	if err != nil {
		return nil, err
	}
	var nodes []Node
	_, err = admin.repeat(ctx, op, http.MethodGet, "/nodes", &nodes)
	if err == nil && slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == "" }) {
		err = nameless(op, http.StatusOK, "node in one of its entries")
	}
	return nodes, err
}

// Node looks at one node; it needs an admin token, as Nodes does.
func (c *Client) Node(ctx context.Context, id string) (NodeDetail, error) {
	op := "look at node " + id
	admin, err := c.asAdmin()
	if err != nil {
		return NodeDetail{}, err
	}
	var node NodeDetail
	_, err = admin.repeat(ctx, op, http.MethodGet, "/nodes/"+url.PathEscape(id), &node)
	// Of all objects an unknown node alone is a 404 without a body
	// (e2b-dev/infra packages/api/internal/handlers/admin.go).
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound && e.Message == "" {
		e.Kind = NotFound
	}
	if err == nil && node.ID == "" {
		err = nameless(op, http.StatusOK, "node")
	}
	return node, err
}

// asAdmin is the client with the admin token in the key's place, so that no
// other call can carry it.
func (c *Client) asAdmin() (*Client, error) {
	if c.options.AdminToken == "" {
		return nil, ErrNoAdminToken
	}
	admin := *c
	admin.credential = credential{AdminHeader, c.options.AdminToken, adminVariable}
	return &admin, nil
}
