package collect

import (
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
)

func TestSources(t *testing.T) {
	live := config.Live{
		Logs:  []config.LogGlob{{Dirs: "/opt/*/alloc/logs", Task: "start"}},
		Nomad: config.NomadLog{Job: "orchestrator", Task: "start"}, Loki: config.LokiLog{Query: `{service="orchestrator"}`},
	}
	var names []string
	for _, s := range Sources(live, config.Intervals{}) {
		names = append(names, s.Name())
	}
	const want = `/opt/*/alloc/logs/start.{stdout,stderr}.N, Nomad job orchestrator, start.{stdout,stderr}.N, Loki, {service="orchestrator"}`
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("sources %s, want %s", got, want)
	}
	if none := Sources(config.Live{}, config.Intervals{}); len(none) != 0 {
		t.Errorf("of nothing there are %d sources", len(none))
	}
}

func TestDeadWaivers(t *testing.T) {
	used := &evidence.Sandbox{Log: &evidence.Log{Findings: []evidence.Finding{{Class: evidence.FindingWaived, Message: "cgroup io.max: no"}}}}
	waivers := []config.Waiver{
		{Line: `^cgroup io\.max`, Expires: "2026-12-31"}, {Line: "^never", Expires: "2026-12-31"}, {Line: `^cgroup io`, Expires: "2026-11-23"},
	}
	now := time.Date(2026, 11, 24, 1, 0, 0, 0, time.UTC)
	dead := DeadWaivers(waivers, []*evidence.Sandbox{{}, used}, now)
	if len(dead) != 2 || !strings.Contains(dead[0], `"^never" excused nothing`) || !strings.Contains(dead[1], "has expired on 2026-11-23") {
		t.Errorf("dead waivers: %q", dead)
	}
	if on := DeadWaivers(waivers[2:], []*evidence.Sandbox{used}, now.Add(-2*time.Hour)); len(on) != 0 {
		t.Errorf("on its last day: %q", on)
	}
	if all, err := Waivers(waivers); err != nil || len(all) != 3 || !all[0].Match.MatchString("cgroup io.max: x") {
		t.Errorf("%v, %v", all, err)
	}
}
