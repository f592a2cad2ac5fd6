package collect

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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
			var looked atomic.Int32 // in the server and here
			closing, enough := context.WithCancel(t.Context())
			defer enough()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					looked.Add(1)
					_, _ = w.Write([]byte("[]"))
					enough() // else it would look for a while
					return
				}
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write([]byte(test.answer))
			}))
			defer server.Close()
			client, err := sandboxapi.New(sandboxapi.Options{
				APIURL: server.URL, SandboxURL: server.URL, APIKey: "e2b_0123456789", UserAgent: "test", CreateTimeout: patience, RequestTimeout: patience,
			})
			if err != nil {
				t.Fatal(err)
			}
			s := New(Options{
				Run: "r", Target: test.target, Template: config.Template{Name: "base"}, Client: client,
				Intervals: config.Intervals{SandboxTTL: time.Minute, Destroy: patience, Poll: time.Millisecond},
			})
			s.Open(t.Context())
			p := s.Evidence().ProblemOf(evidence.PieceAPI)
			if p == nil || p.Kind != test.kind {
				t.Fatalf("problem %+v, want %s", p, test.kind)
			}
			closed := s.Close(closing)
			if test.kind == evidence.ProblemBoot {
				// The server's words stand by themselves: no advice about the server.
				if p.Error != "failed to create sandbox: it panicked\nlast lines" || closed != nil || looked.Load() > 0 {
					t.Errorf("%q; close: %v after %d looks", p.Error, closed, looked.Load())
				}
			} else if looked.Load() == 0 {
				t.Error("a sandbox that may have been made was not looked for")
			}
		})
	}
}

// Which build a sandbox is of is asked for, whether ginkgo.yml expects one or
// not; an API that does not tell leaves it open.
func TestBuildIsAskedFor(t *testing.T) {
	for _, test := range []struct{ name, wanted, templates, want string }{
		{"expected and told", "b1", `[{"templateID":"other","buildID":"b0"},{"templateID":"t1","buildID":"b1"}]`, "b1"},
		{"expected, and another", "b1", `[{"templateID":"t1","buildID":"b2"}]`, "b2"},
		{"another team's", "b1", `[]`, ""},
		{"no list of templates", "b1", `{`, ""},
		{"not expected", "", `[{"templateID":"t1","buildID":"b1"}]`, "b1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPost:
					w.WriteHeader(http.StatusCreated)
					_, _ = w.Write([]byte(`{"sandboxID":"i1","templateID":"t1"}`))
				case r.URL.Path == "/templates":
					_, _ = w.Write([]byte(test.templates))
				case r.Method == http.MethodGet:
					_, _ = w.Write([]byte(`{"sandboxID":"i1","templateID":"t1","state":"running"}`))
				default:
					w.WriteHeader(http.StatusNoContent)
				}
			}))
			defer server.Close()
			client, err := sandboxapi.New(sandboxapi.Options{
				APIURL: server.URL, SandboxURL: server.URL, APIKey: "e2b_0123456789", UserAgent: "test", CreateTimeout: patience, RequestTimeout: patience,
			})
			if err != nil {
				t.Fatal(err)
			}
			s := New(Options{
				Run: "r", Target: "live", Template: config.Template{Name: "base", BuildID: test.wanted}, Client: client,
				Intervals: config.Intervals{SandboxTTL: time.Minute, Destroy: patience, Poll: time.Millisecond},
			})
			s.Open(t.Context())
			if api := s.Evidence().API; api == nil || api.BuildID != test.want || api.BuildWanted != test.wanted {
				t.Errorf("%+v, want build %q", api, test.want)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
