package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/config"
	"sandproof/internal/doctor"
)

// diagnose runs doctor on a configuration in a directory of its own.
func diagnose(t *testing.T, file string, environ []string, asJSON bool) (code int, shown string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ginkgo.yml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code, err := examine(t.Context(), config.Sources{Dir: dir, Environ: environ}, true, asJSON, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String()
}

func TestDoctorExplainsAConfigurationThatIsWrong(t *testing.T) {
	code, shown := diagnose(t, "target: live\nlive: {domain: e2b.example}\ntemplates: [{name: base}]\n", []string{"E2B_APIKEY=e2b_0123456789abcdef"}, false)
	for _, part := range []string{
		"! E2B_APIKEY", "is E2B_API_KEY meant?", "live.domain                e2b.example, from ginkgo.yml:2", "target live needs a key",
		"Fix first\n  1. configuration (trouble)", "2. environment (warning)",
	} {
		if !strings.Contains(shown, part) {
			t.Errorf("%q is missing in:\n%s", part, shown)
		}
	}
	if code != doctor.ExitTrouble || strings.Contains(shown, "0123456789abcdef") || strings.Contains(shown, "api.health") {
		t.Errorf("exit code %d, shown:\n%s", code, shown)
	}
}

func TestDoctorAsJSON(t *testing.T) {
	const key = "e2b_0123456789abcdef0123"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"code":401,"message":"not `+r.Header.Get("X-API-Key")+`"}`)
	}))
	t.Cleanup(server.Close)
	code, shown := diagnose(t, "templates: [{name: base}]\n", []string{"E2B_API_KEY=" + key, "E2B_API_URL=" + server.URL, "E2B_SANDBOX_URL=" + server.URL}, true)
	var report doctor.Report
	if err := json.Unmarshal([]byte(shown), &report); err != nil {
		t.Fatalf("%v in:\n%s", err, shown)
	}
	if strings.Contains(shown, key) {
		t.Errorf("the key is shown:\n%s", shown)
	}
	if code != doctor.ExitTrouble || report.Exit != code || report.Version != doctor.ReportVersion || report.FixFirst[0] != "api.key" {
		t.Errorf("exit code %d, report %+v", code, report)
	}
	if o, _ := report.Settings.Of("live.api-url"); o.From != "E2B_API_URL" || o.Value != server.URL {
		t.Errorf("got %+v", o)
	}
}
