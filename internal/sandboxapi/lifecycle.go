package sandboxapi

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"time"
)

// Refresh gives a running sandbox at least so much more time, up to an hour;
// it never shortens.
func (c *Client) Refresh(ctx context.Context, id string, more time.Duration) error {
	body := map[string]int32{"duration": int32(math.Ceil(more.Seconds()))}
	_, err := c.bounded(ctx, "refresh sandbox "+id, http.MethodPost, "/sandboxes/"+url.PathEscape(id)+"/refreshes", body, nil)
	return err
}

// Pause pauses a running sandbox, with its memory. One that is paused already
// is a Validation error with status 409. A failed pause of a real server has
// been seen to end the sandbox all the same.
func (c *Client) Pause(ctx context.Context, id string) error {
	_, err := c.bounded(ctx, "pause sandbox "+id, http.MethodPost, "/sandboxes/"+url.PathEscape(id)+"/pause", struct{}{}, nil)
	return err
}

// Connect hands out a running sandbox, or resumes a paused one. It never
// shortens a running one's time. Like a create it takes its time, and is
// tried once.
func (c *Client) Connect(ctx context.Context, id string, ttl time.Duration) (Sandbox, error) {
	return c.wake(ctx, "connect to sandbox "+id, "/sandboxes/"+url.PathEscape(id)+"/connect", ttl)
}

// Resume resumes a paused sandbox, with a new time to live. One that runs is
// a Validation error with status 409. The call is deprecated and Connect
// stands in its place; it is here for servers and tests that know no other.
// It is tried once, as a create is.
func (c *Client) Resume(ctx context.Context, id string, ttl time.Duration) (Sandbox, error) {
	return c.wake(ctx, "resume sandbox "+id, "/sandboxes/"+url.PathEscape(id)+"/resume", ttl)
}

// wake makes a call that takes as long as a create.
func (c *Client) wake(ctx context.Context, op, path string, ttl time.Duration) (Sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.CreateTimeout)
	defer cancel()
	var sandbox Sandbox
	body := map[string]int32{"timeout": int32(math.Ceil(ttl.Seconds()))}
	_, err := c.once(ctx, op, http.MethodPost, path, body, &sandbox)
	if err == nil && sandbox.SandboxID == "" {
		err = nameless(op, http.StatusCreated, "sandbox")
	}
	return sandbox, err
}
