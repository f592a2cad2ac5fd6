package verdict

import (
	"fmt"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// reportedRun judges sandboxes as a run does under the profile gate, for the
// page. A nil one stands for a sandbox of which nothing was recorded.
func reportedRun(name string, templates []string, all map[string]*evidence.Sandbox) Report {
	r := Report{Run: name, Target: "lab", Profile: string(config.ProfileGate), Harness: "0.1.0", Started: time.Date(2026, 11, 28, 5, 51, 31, 0, time.UTC)}
	for _, template := range templates {
		s := all[template]
		one := Sandbox{Name: template, Template: template, Evidence: s}
		in := Input{Template: template, Target: "lab", Profile: config.ProfileGate, Reproduce: "make e2e TARGET=lab TEMPLATES=" + template}
		if s != nil {
			for _, q := range requirement.All() {
				one.Outcomes = append(one.Outcomes, q.Judge(s))
			}
			in.StandIn, in.Generation = s.StandIn, requirement.GenerationName(s)
			if s.Snapshot != nil && s.Snapshot.Envd != nil {
				in.Envd = s.Snapshot.Envd.Version
			}
		}
		in.Outcomes = one.Outcomes
		r.Sandboxes = append(r.Sandboxes, one)
		r.Verdicts = append(r.Verdicts, Of(in))
	}
	r.Exit = Exit(r.Verdicts, r.Problems)
	return r
}

// sampleRuns are a run before a patch and one after it, of recorded guests: one
// template is mended, one is still broken, the others are as they were.
func sampleRuns(t *testing.T) (before, after Report) {
	t.Helper()
	templates := []string{"base", "code-interpreter", "desktop", "legacy", "nightly"}
	guests := func(files ...string) map[string]*evidence.Sandbox {
		all := map[string]*evidence.Sandbox{}
		for i, file := range files {
			all[templates[i]] = recorded(t, file, templates[i])
		}
		return all
	}
	before = reportedRun("before-patch", templates, guests("base-unpatched", "base-unpatched", "enabled-late", "base-b", "tmpfs-a"))
	after = reportedRun("after-patch", templates, guests("base", "base", "enabled-late", "base-b", "tmpfs-a"))
	return before, after
}

func render(t testing.TB, r Report, before *Report) string {
	t.Helper()
	page, err := r.HTML(before)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func BenchmarkHTML(b *testing.B) {
	for _, n := range []int{20, 200} {
		b.Run(fmt.Sprintf("templates=%d", n), func(b *testing.B) {
			var r Report
			for i := range n {
				template := fmt.Sprintf("template-%d", i)
				file := "base"
				if i%10 == 0 {
					file = "base-unpatched"
				}
				one := reportedRun("bench", []string{template}, map[string]*evidence.Sandbox{template: recorded(b, file, template)})
				r.Verdicts, r.Sandboxes = append(r.Verdicts, one.Verdicts...), append(r.Sandboxes, one.Sandboxes...)
			}
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(render(b, r, nil))
			}
			b.ReportMetric(float64(size), "bytes/page")
		})
	}
}
