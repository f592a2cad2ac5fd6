package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
)

// net/http reads the proxy's variables once per process, so that each setting of
// them has a process of its own, which finds its API and its way to sandboxes in
// these variables, and prints what was found.
const (
	childAPI       = "DOCTOR_TEST_API"
	childSandboxes = "DOCTOR_TEST_SANDBOXES"
)

func TestMain(m *testing.M) {
	if api := os.Getenv(childAPI); api != "" {
		o := liveOptions(api, os.Getenv(childSandboxes))
		o.Config.Intervals.Hop = time.Second
		o.Config.Live.Nomad = config.NomadLog{Job: "orchestrator", Task: "start"}
		o.Config.Live.Loki = config.LokiLog{Query: `{service="orchestrator"}`}
		all := Run(context.Background(), o, func(Finding) {}) //nolint:forbidigo // this process is not the test
		if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // this process is not the test
		}
		return
	}
	os.Exit(m.Run()) //nolint:forbidigo // TestMain ends with the tests' exit code
}

// behind is what a doctor finds whose environment has a proxy.
func behind(t *testing.T, proxy, api, sandboxes string) []Finding {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, childAPI+"="+api, childSandboxes+"="+sandboxes, "HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy,
		"NOMAD_ADDR=http://10.9.8.5:4646", "LOKI_ADDR=http://10.9.8.4:3100")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "hunter") || strings.Contains(string(out), ":7007") {
		t.Errorf("the proxy's password is shown in %s", out)
	}
	var all []Finding
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// What a proxy of the environment refuses, or leaves unanswered, is told of the
// proxy, and its password is not told.
func TestThroughAProxy(t *testing.T) {
	const far, farther = "http://10.9.8.7:3000", "http://10.9.8.6:3002" // loopback is never asked for through a proxy
	_, near := serve(t, nil)
	answering := func(status int, body string) string {
		_, at := serve(t, always("", status, nil, body))
		return strings.Replace(at, "//", "//me:hunter2hunter2@", 1)
	}
	closed := strings.TrimPrefix(unheard, "http://")
	silent := strings.TrimPrefix(raw(t, func(net.Conn) {}), "http://")
	refused := "the proxy at " + closed + " refused the connection"
	for _, test := range []struct {
		name, proxy, api, sandboxes string
		came                        map[string]string // by the hop
	}{
		{"nothing listens there", "http://me:hunter2hunter2@" + closed, far, farther, map[string]string{"api.health": refused, "logs.nomad": refused, "logs.loki": refused}},
		{"nothing listens there, and a tunnel is asked for", "http://me:hunter2hunter2@" + closed, "https://10.9.8.7", farther, map[string]string{"api.health": refused}},
		{"nothing listens there, on the way to sandboxes only", closed, near, farther, map[string]string{"api.health": "200", "api.key": "the key is taken", "proxy.route": refused}},
		{"it never answers", "http://me:hunter2hunter2@" + silent, near, farther, map[string]string{"proxy.route": "no answer in time", "logs.nomad": "deadline", "logs.loki": "deadline"}},
		{"it never answers for the API", "http://me:hunter2hunter2@" + silent, far, farther, map[string]string{"api.health": "no answer in time"}},
		{"it wants a login", answering(http.StatusProxyAuthRequired, ""), far, farther, map[string]string{"api.health": "407"}},
		{"it wants a login for a tunnel", answering(http.StatusProxyAuthRequired, ""), "https://10.9.8.7", farther, map[string]string{"api.health": "Proxy Authentication Required"}},
		{"it wants a login on the way to sandboxes", answering(http.StatusProxyAuthRequired, ""), near, farther, map[string]string{"proxy.route": "407"}},
		{"it does not reach what is behind it", answering(http.StatusServiceUnavailable, "<html>"), far, farther, map[string]string{"api.health": "503"}},
		{"it wants a login on the way to Loki", answering(http.StatusProxyAuthRequired, ""), near, near, map[string]string{"logs.loki": "the proxy wants a login"}},
		{"it is read as another than was meant", "http://me:hunter2/hunter2@127.0.0.1:3128", far, farther, map[string]string{"api.address": "has an @ after its host", "api.health": "the proxy was not found"}},
		{"it is read as another, which is a part of its password", "http://me:7007/hunter2@127.0.0.1:3128", far, farther, map[string]string{"api.address": "has an @ after its host"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			all := behind(t, test.proxy, test.api, test.sandboxes)
			for hop, came := range test.came {
				f := find(t, all, hop)
				if !strings.Contains(f.Came, came) {
					t.Errorf("want %q, got %+v", came, f)
				}
				if f.State == Trouble && strings.Count(f.Do, "HTTP_PROXY, HTTPS_PROXY and NO_PROXY") != 1 {
					t.Errorf("the proxy's variables are not named once in %+v", f)
				}
			}
			if test.api == near && slices.ContainsFunc(all, func(f Finding) bool {
				return strings.HasPrefix(f.Hop, "api.") && strings.Contains(f.Came+f.Do, "_PROXY")
			}) {
				t.Errorf("the API is not asked through the proxy: %+v", all)
			}
		})
	}
}
