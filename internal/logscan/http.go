package logscan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// endpoint is an HTTP server that holds logs, and what it is asked with.
type endpoint struct {
	client *http.Client
	header http.Header
}

// newEndpoint gives every request the same bound, since a server that never
// answers must not hold a run. Without via they go over the network.
func newEndpoint(timeout time.Duration, header http.Header, via http.RoundTripper) endpoint {
	return endpoint{&http.Client{Timeout: timeout, Transport: via}, header}
}

// maxAnswer bounds what a server may answer, and maxSaid what an error shows of
// it, in bytes.
const (
	maxAnswer = 64 << 20
	maxSaid   = 300
)

// get returns the body of a good answer, which the caller closes. What the
// server does not know is os.ErrNotExist.
func (e endpoint) get(ctx context.Context, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody) //nolint:gosec // the address is the user's own
	if err != nil {
		return nil, err
	}
	request.Header = e.header.Clone()
	answer, err := e.client.Do(request) //nolint:gosec // the address is the user's own
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxSaid))
	_ = answer.Body.Close()
	err = fmt.Errorf("GET %s: %s: %q", url, answer.Status, strings.TrimSpace(string(said)))
	switch answer.StatusCode {
	case http.StatusNotFound:
		return nil, errors.Join(err, os.ErrNotExist)
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("%w; give a token that may read this", err)
	}
	return nil, err
}
