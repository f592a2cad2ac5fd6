package logscan

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// serveNomad answers as a Nomad agent does, from a node's files.
func serveNomad(t *testing.T, n node) Nomad {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/job/orchestrator/allocations", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Nomad-Token") != "token" {
			http.Error(w, "Permission denied", http.StatusForbidden)
			return
		}
		dirs, _ := filepath.Glob(filepath.Join(n.root, "alloc", "*"))
		list := []map[string]string{}
		for _, dir := range dirs {
			list = append(list, map[string]string{"ID": filepath.Base(dir), "ClientStatus": "running"})
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /v1/client/fs/ls/{alloc}", func(w http.ResponseWriter, r *http.Request) {
		entries, err := os.ReadDir(filepath.Join(n.root, "alloc", r.PathValue("alloc"), r.FormValue("path")))
		if err != nil {
			http.Error(w, "no such allocation", http.StatusNotFound)
			return
		}
		list := []map[string]any{}
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				list = append(list, map[string]any{"Name": e.Name(), "FileMode": info.Mode().String(), "Size": info.Size()})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /v1/client/fs/readat/{alloc}", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(filepath.Join(n.root, "alloc", r.PathValue("alloc"), r.FormValue("path")))
		if err != nil {
			http.Error(w, "no such file", http.StatusNotFound)
			return
		}
		offset, _ := strconv.Atoi(r.FormValue("offset"))
		size, _ := strconv.Atoi(r.FormValue("limit"))
		offset = min(offset, len(data))
		_, _ = w.Write(data[offset:min(len(data), offset+size)])
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("NOMAD_ADDR", server.URL)
	t.Setenv("NOMAD_TOKEN", "token")
	return Nomad{
		Job: "orchestrator", Task: "orchestrator",
		Settle: 10 * time.Millisecond, Poll: 5 * time.Millisecond, Timeout: 10 * time.Second,
	}
}

// remote reads a window over a source behind HTTP.
func remote(t *testing.T, source Source, during func()) *evidence.Log {
	t.Helper()
	w, err := Open(t.Context(), []Source{source})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	during()
	w.Watch(t.Context(), "iours", Settling{Quiet: 50 * time.Millisecond, Cap: time.Minute, Poll: 5 * time.Millisecond})
	log, err := w.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestNomad(t *testing.T) {
	failed := records("iours", append(slices.Clone(boot), fallback)...)
	for _, test := range []struct {
		name, want string
		during     func(n node)
	}{
		{"healthy", "green", func(n node) { n.write("a", "orchestrator.stdout.3", records("iours", boot...)) }},
		{"failed, split over a rotation", "red", func(n node) {
			n.write("a", "orchestrator.stdout.3", failed[:len(failed)-100])
			n.write("a", "orchestrator.stdout.4", failed[len(failed)-100:])
		}},
		{"failed in a new allocation", "red", func(n node) { n.write("b", "orchestrator.stdout.0", failed) }},
		{"failed before the mark only", "unproven", func(node) {}},
		{"an index that was never seen", "unproven", func(n node) { n.write("a", "orchestrator.stdout.6", records("iours", boot...)) }},
		{"removed before it was read", "unproven", func(n node) {
			n.write("a", "orchestrator.stdout.3", records("iours", boot...))
			n.remove(n.path("a", "orchestrator.stdout.3"))
			n.write("a", "orchestrator.stdout.4", records("iours", boot...))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			n.write("a", "orchestrator.stdout.2", failed)
			n.write("a", "orchestrator.stdout.3", failed)
			log := remote(t, serveNomad(t, n), func() { test.during(n) })
			if got := reading(log); got != test.want {
				t.Errorf("read as %s, want %s: %+v", got, test.want, log)
			}
		})
	}
	source := serveNomad(t, newNode(t))
	t.Setenv("NOMAD_TOKEN", "wrong-and-secret")
	if _, err := source.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "give a token") || strings.Contains(err.Error(), "wrong-and-secret") {
		t.Errorf("a wrong token: %v", err)
	}
}

// TestLoki: pages are joined without loss or repetition, and a log that lacks
// the boot lines proves nothing.
func TestLoki(t *testing.T) {
	for name, test := range map[string]struct {
		lines []string
		want  string
		own   int
	}{
		"pages":   {slices.Concat(slices.Repeat([]string{record("iours", "hello")}, 2*lokiPage+7), strings.SplitAfter(strings.TrimSpace(records("iours", boot...)), "\n")), "green", 2*lokiPage + 7 + len(boot)},
		"failed":  {[]string{record("iours", fallback)}, "red", 1},
		"no boot": {[]string{record("iours", "hello")}, "unproven", 1},
		"empty":   {nil, "unproven", 0},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now().UnixNano()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				start, _ := strconv.ParseInt(r.FormValue("start"), 10, 64)
				end, _ := strconv.ParseInt(r.FormValue("end"), 10, 64)
				limit, _ := strconv.Atoi(r.FormValue("limit"))
				values := [][2]string{}
				for i, line := range test.lines {
					// Three lines of one moment, so that pages end within it.
					if at := began + int64(i/3); at >= start && at < end && len(values) < limit {
						values = append(values, [2]string{strconv.FormatInt(at, 10), strings.Replace(line, `"service"`, `"n": `+strconv.Itoa(i)+`, "service"`, 1)})
					}
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{
					"resultType": "streams", "result": []any{map[string]any{"stream": map[string]string{"service": "orchestrator"}, "values": values}},
				}})
			}))
			t.Cleanup(server.Close)
			t.Setenv("LOKI_ADDR", server.URL)
			log := remote(t, Loki{Query: `{service="orchestrator"}`, Timeout: 10 * time.Second}, func() {})
			if got := reading(log); got != test.want || log.OwnRecords != test.own {
				t.Errorf("read as %s with %d own records, want %s with %d; holes %q", got, log.OwnRecords, test.want, test.own, log.Holes)
			}
		})
	}
}
