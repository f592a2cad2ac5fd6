package collect

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/sandboxapi/envd"
)

// answers gives the answers of a proxy.
type answers func(path string) (status int, body string)

// RoundTrip implements http.RoundTripper.
func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a(r.URL.Path)
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

// portClosed is what E2B's proxy says of a sandbox on whose port nothing listens.
const portClosed = `{"sandboxId":"i1","message":"The sandbox is running but port is not open","port":49983,"code":502}`

// A call that finds the port closed is the guest's trouble where envd has died,
// and the way's where the machine has: the proxy tells them apart a moment later.
func TestEndUnderCall(t *testing.T) {
	t.Parallel()
	const (
		closed = portClosed
		gone   = `{"sandboxId":"i1","message":"The sandbox was not found","code":502}`
		lost   = "Failed to route request to sandbox"
	)
	for _, test := range []struct {
		name    string
		healths []string // one after the other, the last for ever; empty is well
		kind    evidence.ProblemKind
		says    string
		asks    int // after which it is sure; 0: it asks until its time is over
	}{
		{"the machine has ended, and the proxy knows", []string{gone}, evidence.ProblemInfra, "the proxy knows no such running sandbox", 1},
		{"the machine has ended, and the proxy notices", []string{closed, closed, gone}, evidence.ProblemInfra, "the proxy knows no such running sandbox", 3},
		{"the node has died", []string{closed, lost}, evidence.ProblemInfra, "no answer from the sandbox", 0},
		{"envd has died", []string{closed}, evidence.ProblemGuest, "envd is not up, or has died", 0},
		{"envd is back", []string{closed, ""}, evidence.ProblemGuest, "envd is not up, or has died", 2},
	} {
		for _, path := range []string{"/process.Process/Start", "/files"} {
			t.Run(test.name+" under "+path, func(t *testing.T) {
				t.Parallel()
				asked := 0
				s := newSession(t, healthyWorld())
				s.envd = envd.New(envd.Options{AccessToken: "token", Transport: answers(func(asks string) (int, string) {
					switch {
					case asks == path:
						return http.StatusBadGateway, closed
					case asks != "/health":
						return http.StatusOK, "[]"
					}
					said := test.healths[min(asked, len(test.healths)-1)]
					if asked++; said == "" {
						return http.StatusNoContent, ""
					}
					return http.StatusBadGateway, said
				})})
				began := time.Now()
				if s.upload(t.Context(), evidence.PieceSnapshot) {
					t.Fatal("a closed port took the probe")
				}
				p := s.Evidence().ProblemOf(evidence.PieceSnapshot)
				if p == nil || p.Kind != test.kind || !strings.Contains(p.Error, test.says) || !strings.Contains(p.Error, "port is not open") {
					t.Errorf("problem %+v, want one of kind %s", p, test.kind)
				}
				if test.asks > 0 && asked != test.asks || test.asks == 0 && time.Since(began) < sureOfEnd {
					t.Errorf("it was sure after %d asks and %s", asked, time.Since(began))
				}
			})
		}
	}
}
