package logscan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"sandproof/internal/evidence"
)

// serveNomad answers as a Nomad agent does, from a node's files: with the status
// codes and words of command/agent/fs_endpoint.go and client/fs_endpoint.go of
// Nomad 1.6, the last under the MPL. A file that is missing is a bad request by
// those; the real agent of TestRealNomad says it with status 200.
func serveNomad(t *testing.T, n node, missing int) (Nomad, *requests) {
	t.Helper()
	asked := &requests{}
	refuse := func(w http.ResponseWriter, status int, words string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, words)
	}
	allowed := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Nomad-Token") == "token" {
			return true
		}
		refuse(w, http.StatusForbidden, "ACL token not found")
		return false
	}
	// known finds an allocation's directory. The servers list one for longer than
	// its node keeps it: one without the directory below was collected there.
	known := func(w http.ResponseWriter, r *http.Request) (dir string, ok bool) {
		if !allowed(w, r) {
			return "", false
		}
		dir = filepath.Join(n.root, "alloc", r.PathValue("alloc"))
		if _, err := os.Stat(filepath.Join(dir, "alloc")); err != nil {
			refuse(w, http.StatusNotFound, fmt.Sprintf("Unknown allocation %q", r.PathValue("alloc")))
			return "", false
		}
		return dir, true
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/job/{job}/allocations", func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r) {
			return
		}
		asked.looks.Add(1)
		list := []map[string]string{} // also of a job that it does not know
		dirs, _ := filepath.Glob(filepath.Join(n.root, "alloc", "*"))
		for _, dir := range dirs {
			if r.PathValue("job") == "orchestrator" {
				list = append(list, map[string]string{"ID": filepath.Base(dir), "ClientStatus": "running"})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /v1/client/fs/ls/{alloc}", func(w http.ResponseWriter, r *http.Request) {
		dir, ok := known(w, r)
		if !ok {
			return
		}
		entries, err := os.ReadDir(filepath.Join(dir, r.FormValue("path")))
		if err != nil {
			refuse(w, http.StatusNotFound, err.Error())
			return
		}
		list := []api.AllocFileInfo{}
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				list = append(list, api.AllocFileInfo{
					Name: e.Name(), IsDir: e.IsDir(), Size: info.Size(), FileMode: info.Mode().String(), ModTime: info.ModTime(),
				})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /v1/client/fs/readat/{alloc}", func(w http.ResponseWriter, r *http.Request) {
		dir, ok := known(w, r)
		if !ok {
			return
		}
		offset, err := strconv.Atoi(r.FormValue("offset"))
		if err != nil {
			refuse(w, http.StatusInternalServerError, "error parsing offset: "+err.Error())
			return
		}
		if offset > 0 {
			defer asked.reads.Add(1)
		}
		path := filepath.Join(dir, r.FormValue("path"))
		if _, err := os.Stat(path); err != nil {
			refuse(w, missing, err.Error())
			return
		}
		data, err := os.ReadFile(path)
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		size, _ := strconv.Atoi(r.FormValue("limit"))
		offset = min(offset, len(data)) // behind the end there is nothing, and no error
		_, _ = w.Write(data[offset:min(len(data), offset+size)])
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("NOMAD_ADDR", server.URL)
	t.Setenv("NOMAD_TOKEN", "token")
	// A look that comes late must not be one that was missed (missedLooks).
	return Nomad{Job: "orchestrator", Task: "orchestrator", Settle: 10 * time.Millisecond, Poll: 100 * time.Millisecond, Timeout: time.Minute}, asked
}

// requests counts what a Nomad is asked for: looks at the whole node, and reads
// of what was written since the mark.
type requests struct{ looks, reads atomic.Int32 }

// looked waits until the whole node was looked at once more: the first look may
// have begun before, and the third begins when the second has ended.
func (r *requests) looked(t *testing.T) { t.Helper(); more(t, &r.looks, 3) }

// read waits until something that was written since the mark is read.
func (r *requests) read(t *testing.T) { t.Helper(); more(t, &r.reads, 1) }

func more(t *testing.T, count *atomic.Int32, n int32) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for enough := count.Load() + n; count.Load() < enough; {
		if time.Now().After(deadline) {
			t.Errorf("after a minute Nomad was asked %d times, want %d", count.Load(), enough)
			return
		}
		pass(time.Millisecond)
	}
}

// remote reads a window over a source behind HTTP, in which a canary is waited
// for where one is named.
func remote(t *testing.T, source Source, nonce string, during func()) *evidence.Log {
	t.Helper()
	w, err := Open(t.Context(), []Source{source})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Watch(t.Context(), "iours", Settling{Quiet: 50 * time.Millisecond, Cap: time.Minute, Poll: 5 * time.Millisecond})
	during()
	w.Expect(nonce)
	log, err := w.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestNomad(t *testing.T) {
	for _, missing := range []int{http.StatusBadRequest, http.StatusOK} {
		t.Run(strconv.Itoa(missing), func(t *testing.T) { testNomad(t, missing) })
	}
}

func testNomad(t *testing.T, missing int) {
	t.Helper()
	failed := records("iours", append(slices.Clone(boot), fallback)...)
	for _, test := range []struct {
		name, want, hole string
		during           func(n node, asked *requests)
	}{
		{"healthy", "green", "", func(n node, _ *requests) { n.write("a", "orchestrator.stdout.3", records("iours", boot...)) }},
		{"failed, split over a rotation", "red", "", func(n node, _ *requests) {
			n.write("a", "orchestrator.stdout.3", failed[:len(failed)-100])
			n.write("a", "orchestrator.stdout.4", failed[len(failed)-100:])
		}},
		{"failed in a new allocation", "red", "", func(n node, _ *requests) { n.write("b", "orchestrator.stdout.0", failed) }},
		{"failed before the mark only", "unproven", "", func(node, *requests) {}},
		{"an index that was never seen", "unproven", "came and were removed unseen", func(n node, _ *requests) { n.write("a", "orchestrator.stdout.6", records("iours", boot...)) }},
		{"the newest removed, and none after it", "unproven", "the newest of its allocation, was removed", func(n node, asked *requests) {
			n.write("a", "orchestrator.stdout.3", records("iours", boot...))
			asked.read(t)
			n.remove(n.path("a", "orchestrator.stdout.3"))
		}},
		{"the allocation replaced and collected", "unproven", `Unknown allocation "a"`, func(n node, _ *requests) {
			n.write("b", "orchestrator.stdout.0", records("iours", boot...))
			n.remove(filepath.Join(n.root, "alloc", "a", "alloc"))
		}},
		{"an allocation collected, and failed in the one after it", "red", `Unknown allocation "a"`, func(n node, asked *requests) {
			n.remove(filepath.Join(n.root, "alloc", "a", "alloc"))
			asked.looked(t)
			n.write("b", "orchestrator.stdout.0", failed)
		}},
		{"removed before it was read", "unproven", "is listed no more", func(n node, _ *requests) {
			n.write("a", "orchestrator.stdout.3", records("iours", boot...))
			n.remove(n.path("a", "orchestrator.stdout.3"))
			n.write("a", "orchestrator.stdout.4", records("iours", boot...))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			n.write("a", "orchestrator.stdout.2", failed)
			n.write("a", "orchestrator.stdout.3", failed)
			source, asked := serveNomad(t, n, missing)
			log := remote(t, source, "", func() { test.during(n, asked) })
			if got := reading(log); got != test.want {
				t.Errorf("read as %s, want %s: %+v", got, test.want, log)
			}
			if holes := strings.Join(log.Holes, "; "); !strings.Contains(holes, test.hole) || test.want == "green" && holes != "" {
				t.Errorf("holes %q, want one that says %q", holes, test.hole)
			}
		})
	}
	n := newNode(t)
	n.write("a", "orchestrator.stdout.0", failed)
	source, _ := serveNomad(t, n, missing)
	unknown := source
	unknown.Job = "orchestrater"
	if _, err := unknown.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "live.nomad.job") {
		t.Errorf("a job that Nomad does not know: %v", err)
	}
	place := &nomadPlace{source: source, client: newClient(t), sizes: map[string]int64{}, shed: map[string]bool{}}
	noText(t, place.file(t.Context(), "a/alloc/logs/orchestrator.stdout.7"))
	t.Setenv("NOMAD_TOKEN", "wrong-and-secret")
	if _, err := source.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "give a token") || strings.Contains(err.Error(), "wrong-and-secret") {
		t.Errorf("a wrong token: %v", err)
	}
}

func newClient(t *testing.T) *api.Client {
	t.Helper()
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// noText: a file that is gone has no text, whatever length it is asked for.
func noText(t *testing.T, gone *nomadFile) {
	t.Helper()
	for length := 1; length < 1<<9; length++ {
		data := make([]byte, length)
		if n, err := gone.ReadAt(data, 0); n > 0 || !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%d bytes of a file that is gone are read as %q, %v", length, data[:n], err)
		}
	}
}

// freePorts are ports of loopback on which nobody listens.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	return slices.Collect(func(yield func(int) bool) {
		for range n {
			var config net.ListenConfig
			free, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = free.Close() }()
			if !yield(free.Addr().(*net.TCPAddr).Port) { //nolint:errcheck // it listens on TCP
				return
			}
		}
	})
}

// startServer starts a real server, which ends with the test, and with this
// process however that ends; it tells once how the server ended.
func startServer(t *testing.T, command *exec.Cmd) (gone <-chan error) {
	t.Helper()
	started, ended, told := make(chan error, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		// Pdeathsig comes with the end of the thread that started it.
		runtime.LockOSThread()
		err := command.Start()
		if started <- err; err == nil {
			told <- command.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
	})
	return told
}
