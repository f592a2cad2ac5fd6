package collect

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/sandboxapi"
)

// The lab knows when a template's guest is to blame for a failed create; a
// cluster's server uses the same code for its own trouble, and is not taken at
// its word. No lost sandbox is looked for where none can be.
func TestCreateFailedByTheTemplate(t *testing.T) {
	const failed = `{"code":500,"message":"failed to create sandbox: it panicked\nlast lines","error_code":"sandbox_create_failed"}`
	for _, test := range []struct {
		target, answer string
		kind           evidence.ProblemKind
	}{
		{"lab", failed, evidence.ProblemBoot},
		{"live", failed, evidence.ProblemInfra},
		{"lab", strings.Replace(failed, "sandbox_create_failed", "internal_server_error", 1), evidence.ProblemInfra},
		{"lab", strings.Replace(failed, "error_code", "errorCode", 1), evidence.ProblemInfra},
		{"lab", "sandbox_create_failed", evidence.ProblemInfra},
	} {
		t.Run(test.target+" "+test.answer, func(t *testing.T) {
			var looked int
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					looked++
					_, _ = w.Write([]byte("[]"))
					return
				}
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write([]byte(test.answer))
			}))
			defer server.Close()
			client, err := sandboxapi.New(sandboxapi.Options{
				APIURL: server.URL, SandboxURL: server.URL, APIKey: "e2b_0123456789", UserAgent: "test", CreateTimeout: time.Second, RequestTimeout: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			s := New(Options{
				Run: "r", Target: test.target, Template: config.Template{Name: "base"}, Client: client,
				Intervals: config.Intervals{SandboxTTL: time.Minute, Destroy: 50 * time.Millisecond, Poll: time.Millisecond},
			})
			s.Open(t.Context())
			p := s.Evidence().ProblemOf(evidence.PieceAPI)
			if p == nil || p.Kind != test.kind {
				t.Fatalf("problem %+v, want %s", p, test.kind)
			}
			closed := s.Close(t.Context())
			if test.kind == evidence.ProblemBoot {
				// The server's words stand by themselves: no advice about the server.
				if p.Error != "failed to create sandbox: it panicked\nlast lines" || closed != nil || looked > 0 {
					t.Errorf("%q; close: %v after %d looks", p.Error, closed, looked)
				}
			} else if looked == 0 {
				t.Error("a sandbox that may have been made was not looked for")
			}
		})
	}
}
