package verdict

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

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

// seen is what the harness saw of a guest once, with the experiments.
func seen(tb testing.TB, file, template string) *evidence.Sandbox {
	tb.Helper()
	return readEvidence(tb, filepath.Join("testdata", file+".json"), template)
}

// sampleRuns are a run before a patch and one after it, of recorded guests: two
// templates are mended, two are still broken, one is as it was.
func sampleRuns(tb testing.TB) (before, after Report) {
	tb.Helper()
	templates := []string{"base", "code-interpreter", "desktop", "legacy", "nightly"}
	guests := func(mended string) map[string]*evidence.Sandbox {
		return map[string]*evidence.Sandbox{
			"base": seen(tb, mended, "base"), "code-interpreter": seen(tb, mended, "code-interpreter"),
			"desktop": recorded(tb, "enabled-late", "desktop"), "legacy": recorded(tb, "base-b", "legacy"), "nightly": recorded(tb, "tmpfs-a", "nightly"),
		}
	}
	before, after = reportedRun("before-patch", templates, guests("base-unpatched")), reportedRun("after-patch", templates, guests("base"))
	after.Started = before.Started.Add(7 * time.Minute)
	return before, after
}

func render(tb testing.TB, r Report, before *Report) string {
	tb.Helper()
	page, err := r.HTML(before)
	if err != nil {
		tb.Fatal(err)
	}
	return string(page)
}

func BenchmarkHTML(b *testing.B) {
	for _, n := range []int{20, 200} {
		b.Run(fmt.Sprintf("templates=%d", n), func(b *testing.B) {
			r := manyTemplates(b, n)
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(render(b, r, nil))
			}
			b.ReportMetric(float64(size), "bytes/page")
		})
	}
}

// parsed is a page as a browser's parser sees it.
func parsed(t *testing.T, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// byID finds an element; the test ends where there is none.
func byID(t *testing.T, root *html.Node, id string) *html.Node {
	t.Helper()
	for n := range root.Descendants() {
		for _, a := range n.Attr {
			if a.Key == "id" && a.Val == id {
				return n
			}
		}
	}
	t.Fatalf("the page has no element %q", id)
	return nil
}

// textOf is what is read in an element, with single spaces.
func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// noPressure takes the pressure out of samples, as a kernel without it does.
func noPressure(s *evidence.Sandbox) *evidence.Sandbox {
	for i := range s.Memory.Report.Samples {
		s.Memory.Report.Samples[i].Stalled = nil
	}
	s.Memory.Report.NoPressure = "ENOENT"
	return s
}

// What is shown of recorded guests, by the part of the page that shows it.
func TestHTMLShows(t *testing.T) {
	base := func(change func(*evidence.Sandbox)) *evidence.Sandbox {
		s := seen(t, "base", "base")
		change(s)
		return s
	}
	for _, test := range []struct {
		name  string
		guest *evidence.Sandbox
		part  string
		says  []string
		lacks []string
	}{
		{
			"a healthy guest", seen(t, "base", "base"), "t1-s1",
			[]string{
				"cgroup.subtree_control cpu memory io cpu io memory pids ✓ pass", "cpu.weight 50 50 ✓ pass", "memory.max 431226880 411.2 MiB 431226880 ✓ pass",
				"command ✓ pass PID 125", "terminal ✓ pass PID 126", "port forwarder ✓ pass PID 148", "envd PID 103", "create call harness +0.00 to +3.23 s",
				"kernel starts guest +0.50 to +1.29 s", "envd starts guest +2.57 to +3.36 s, 2.07 s after the kernel", "envd answers harness +3.24 s, GET /health: 204",
				"command, in /user 19.7 % (98 of 500 ms), promised 20 %", "touched by the command 408.0 MiB", "free in the guest, at the least 25.1 MiB",
				"after 0 0 31 ↑ 1 ↑ 1 ↑ 0", "envd answered 31 times", "/user/cpu.weight ✓ pass no complaint, and the log is alive ✓ pass", "they agree",
				"=== E2B Init Starting ===", "bytes 0 to 3843", "boot cold, within the create call",
				"The group's memory was not sampled over time, so its totals alone are drawn", // this run is older
			},
			[]string{"✗", "not drawn", "they disagree", "belongs in"},
		},
		{
			"a healthy guest, sampled over time", seen(t, "base-sampled", "base"), "t1-s1",
			[]string{
				"Share of one CPU between two samples, by cgroup", "the command's group, /user", "the terminal's group, /ptys", "promised 80 %", "from to share the command's group, /user",
				"memory.current of the group 470.0 MiB", "memory.max 411.2 MiB", "Pressure: share of the time", "some: at least one task", "The same as a table, one row of each 3",
			},
			[]string{"✗", "not drawn", "left out", "beyond the upper edge"},
		},
		{
			"a guest whose kernel counts no stalls", noPressure(seen(t, "base-sampled", "base")), "t1-s1",
			[]string{"memory.current of the group 470.0 MiB", "No pressure is drawn: this guest's kernel counts no stalls of the group (ENOENT of memory.pressure"},
			[]string{"Pressure: share of the time"},
		},
		{
			"an unpatched guest", seen(t, "base-unpatched", "base"), "t1",
			[]string{
				"✗ not isolated First broken stage: enable (enable.cpu)", "Then run: make e2e TARGET=lab TEMPLATES=base", "cgroup.subtree_control cpu memory io empty ✗ fail",
				"cpu.weight 50 no such file ✗ fail", "memory.max no such file not drawn", "touched by the command not tried not drawn", "in the group before not seen not drawn",
				"The group's memory.events could not be read", "envd complains", `✗ fail cgroup property "cpu.weight" unavailable at "/sys/fs/cgroup/user", skipping ✗ fail no file`,
			},
			[]string{"they disagree", "touched by the command 0 B"},
		},
		{
			"an older envd, without a memory.max", recorded(t, "base-a", "base"), "t1-s1",
			[]string{"memory.high 431226880", "memory.max not set not drawn", "throttled"},
			[]string{"io.weight default"},
		},
		{
			"no experiments", recorded(t, "debian-systemd", "base"), "t1-s1",
			[]string{"CPU share The experiment was not made", "Memory pressure The experiment was not made", "/system.slice/envd.service", "kernel starts"},
			[]string{"promised 20 %"},
		},
		{
			"a guest that cannot be looked into", recorded(t, "tmpfs-a", "base"), "t1-s1",
			[]string{"the guest was not seen", "What should be set is not known", "The guest's uptime was not seen", "snapshot : "},
			[]string{"cpu.weight 50", "kernel starts"},
		},
		{
			"processes beside their groups", base(func(s *evidence.Sandbox) { s.Placement.Command.Process.Cgroup = "0::/elsewhere\n" }), "t1-s1",
			[]string{"/elsewhere · not envd's another group command ✗ fail PID 125 sandproof-guest, oom_score_adj 100, nice 0; belongs in /user"},
			nil,
		},
		{
			"a process that was not seen", base(func(s *evidence.Sandbox) { s.Placement.PTY = &evidence.Placed{Error: "no terminal today"} }), "t1-s1",
			[]string{"terminal ? unproven was not seen: no terminal today"},
			nil,
		},
		{
			"witnesses that disagree", base(func(s *evidence.Sandbox) {
				s.Log.Findings = append(s.Log.Findings, evidence.Finding{
					Class: evidence.FindingFailure, Confidence: evidence.ByField, Message: "failed to create cgroup2 manager: no", Time: s.API.Answered,
				})
			}), "t1-s1",
			[]string{"/user/cpu.weight ✗ fail failed to create cgroup2 manager: no ✓ pass", "they disagree"},
			nil,
		},
		{
			"an envd that nobody knows", base(func(s *evidence.Sandbox) { s.Snapshot.Envd.Version = "99.0.0" }), "t1-s1",
			[]string{"What should be set is not known: envd version 99.0.0 is newer"},
			[]string{"promised 20 %", "they agree"},
		},
		{
			"a resumed guest", base(func(s *evidence.Sandbox) { s.Snapshot.Boot.UptimeSeconds = 5000 }), "t1-s1",
			[]string{"The guest did not boot for this sandbox", "resumed from a snapshot"},
			[]string{"kernel starts"},
		},
		{
			"a log with a clock of its own", base(func(s *evidence.Sandbox) {
				for i := range s.Log.Findings {
					s.Log.Findings[i].Time = s.Log.Findings[i].Time.AddDate(100, 0, 0)
				}
			}), "t1-s1",
			[]string{"2126-11-28T05:51:36Z, off this axis not drawn", "create call harness +0.00 to +3.23 s"},
			nil,
		},
		{
			"a terminal that did not report", base(func(s *evidence.Sandbox) { s.CPU.PTY = nil }), "t1-s1",
			[]string{"terminal, in /ptys did not report"},
			[]string{"terminal, in /ptys 0"},
		},
		{
			"a hog that did not report", base(func(s *evidence.Sandbox) { s.Memory.Report = nil }), "t1-s1",
			[]string{"The probe did not report, so nothing is drawn"},
			[]string{"touched by the command"},
		},
		{
			"no log", base(func(s *evidence.Sandbox) {
				s.Log = nil
				s.Problems = []evidence.Problem{{Piece: evidence.PieceLog, Kind: evidence.ProblemInfra, Call: "read the log", Error: "gone"}}
			}), "t1-s1",
			[]string{"No log window: the log is no witness here", "log : read the log: gone", "No log window, so no log line is drawn"},
			[]string{"the log is alive"},
		},
		{
			"nothing recorded", nil, "t1",
			[]string{"? unproven", "no evidence of this sandbox was recorded", "image.template core · not executed"},
			[]string{"✓", "Boot", "CPU share"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := reportedRun("r", []string{"base"}, map[string]*evidence.Sandbox{"base": test.guest})
			text := textOf(byID(t, parsed(t, render(t, r, nil)), test.part))
			for _, want := range test.says {
				if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
					t.Errorf("it lacks %q", want)
				}
			}
			for _, bad := range test.lacks {
				if strings.Contains(text, bad) {
					t.Errorf("it has %q", bad)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// The head says what the run is worth, and with which trouble.
func TestHTMLHead(t *testing.T) {
	r := reportedRun("r", []string{"base"}, map[string]*evidence.Sandbox{"base": seen(t, "base", "base")})
	r.Problems, r.Notes = []string{"a sandbox leaked"}, []string{"a template was flaky"}
	r.Exit = Exit(r.Verdicts, r.Problems)
	text := textOf(parsed(t, render(t, r, nil)))
	for _, want := range []string{
		"! exit code 3 trouble of the infrastructure or of the harness", "1 ✓ isolated", "run r target lab profile gate started 2026-11-28 05:51:31 UTC harness sandproof 0.1.0",
		"Not a cluster. the lab's stand-in plays envd", "Problem of the run. a sandbox leaked", "Note. a template was flaky",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%.1500s", want, text)
		}
	}
	empty := textOf(parsed(t, render(t, Report{Exit: ExitInfra}, nil)))
	if !strings.Contains(empty, "no template was judged") || strings.Contains(empty, "✓ isolated") {
		t.Errorf("a run without templates: %.1000s", empty)
	}
}

// A template of several sandboxes shows each, with its own verdict.
func TestHTMLOfSeveralSandboxes(t *testing.T) {
	one := reportedRun("r", []string{"base"}, map[string]*evidence.Sandbox{"base": seen(t, "base", "base")})
	two := reportedRun("r", []string{"base"}, map[string]*evidence.Sandbox{"base": seen(t, "base-unpatched", "base")})
	two.Sandboxes[0].Name = "base@2"
	r := one
	r.Verdicts = []Verdict{Over([]Verdict{one.Verdicts[0], two.Verdicts[0]})}
	r.Sandboxes = append(r.Sandboxes, two.Sandboxes...)
	root := parsed(t, render(t, r, nil))
	for id, want := range map[string]string{"t1-s1": "Sandbox base ✓ isolated", "t1-s2": "Sandbox base@2 ✗ not isolated"} {
		if text := textOf(byID(t, root, id)); !strings.HasPrefix(text, want) {
			t.Errorf("%s begins with %.60q, want %q", id, text, want)
		}
	}
}

// Before and after: cells are split where they changed, and what changed is
// told by template, also of one that only one of the runs has.
func TestHTMLCompares(t *testing.T) {
	before, after := sampleRuns(t)
	drop := func(r *Report, i int) {
		r.Verdicts, r.Sandboxes = slices.Delete(r.Verdicts, i, i+1), slices.Delete(r.Sandboxes, i, i+1)
	}
	drop(&before, 1) // code-interpreter is new
	drop(&after, 4)  // nightly is gone
	root := parsed(t, render(t, after, &before))
	for id, wants := range map[string][]string{
		"matrix": {"base before: ✗ not isolated → now: ✓ isolated", "code-interpreter before: · not in this run → now: ✓ isolated", "before: ✗ not isolated → now: · not in this run"},
		"t1":     {"What changed", "fixed enable.cpu ✗ fail → ✓ pass", "cpu.weight 50 no such file 50 ✓ pass", "the same, before 42.7 %"},
		"t5":     {"nightly", "No sandbox of this template was expected in this run"},
	} {
		text := textOf(byID(t, root, id))
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%.3000s", id, want, text)
			}
		}
	}
	same := 0
	for n := range byID(t, root, "matrix").Descendants() {
		if n.Data == "tr" && slices.Contains(n.Attr, html.Attribute{Key: "class", Val: "same"}) {
			same++
		}
	}
	if same != 2 { // desktop and legacy
		t.Errorf("%d rows are as they were, want 2", same)
	}
}

// manyTemplates are a run of so many templates, every tenth of them broken.
func manyTemplates(tb testing.TB, n int) Report {
	tb.Helper()
	guests := map[bool]*evidence.Sandbox{true: seen(tb, "base", "base"), false: seen(tb, "base-unpatched", "base")}
	var r Report
	for i := range n {
		template := fmt.Sprintf("template-%d", i)
		s := *guests[i%10 != 0]
		api := *s.API
		api.Alias, s.Template, s.API = template, template, &api
		one := reportedRun("many", []string{template}, map[string]*evidence.Sandbox{template: &s})
		one.Verdicts = slices.Concat(r.Verdicts, one.Verdicts)
		one.Sandboxes = slices.Concat(r.Sandboxes, one.Sandboxes)
		r = one
	}
	r.Exit = Exit(r.Verdicts, nil)
	return r
}

// A page stays of a size that can be mailed, and says what it left out: never
// the verdict of a template.
func TestHTMLIsBounded(t *testing.T) {
	for n, most := range map[int]int{50: htmlMost, 200: 2 * htmlMost} {
		page := render(t, manyTemplates(t, n), nil)
		if len(page) > most {
			t.Errorf("%d templates make %d bytes, want up to %d", n, len(page), most)
		}
		ids := map[string]*html.Node{}
		for node := range parsed(t, page).Descendants() {
			for _, a := range node.Attr {
				if a.Key == "id" {
					ids[a.Val] = node
				}
			}
		}
		for i := range n {
			text := textOf(ids[fmt.Sprintf("t%d", i+1)])
			word := "✓ isolated"
			if i%10 == 0 {
				word = "✗ not isolated"
			}
			if want := fmt.Sprintf("template-%d %s", i, word); !strings.HasPrefix(text, want) {
				t.Fatalf("of %d, template %d begins with %.60q, want %q", n, i, text, want)
			}
			// Of 50 templates the broken ones are shown whole; of 200 no page has room.
			if whole := strings.Contains(text, "Three witnesses"); n == 50 && i%10 == 0 && !whole || !whole && !strings.Contains(text, "Cut:") {
				t.Errorf("of %d, template %d lacks its details, and does not say so", n, i)
			}
			raw := textOf(ids[fmt.Sprintf("t%d-s1-raw", i+1)])
			if !strings.Contains(raw, `"version": 1`) && !strings.Contains(raw, "left out to keep this page small") {
				t.Errorf("of %d, template %d lacks its evidence, and does not say so: %.100q", n, i, raw)
			}
		}
		t.Logf("%d templates: %d bytes", n, len(page))
	}
}

// hostile is what a guest says that wants to be more than text.
const hostile = `</script></style></title></textarea><script>window.pwned=1</script><img src=x onerror=window.pwned=2>` +
	`"><svg onload=window.pwned=3>' onmouseover='window.pwned=4' x='{{.Title}}<!--` + "\u202e\u2066\x00\x1b[2J\xff\u2028`${window.pwned=5}`" +
	`javascript:window.pwned=6 <a href="javascript:alert(1)">x</a><meta http-equiv=refresh content=0;url=http://127.0.0.1:9/>`

// fill sets every text below a value, and makes one of what is absent.
func fill(v reflect.Value, text string) {
	switch v.Kind() { //nolint:exhaustive // what holds no text stays
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		if v.IsNil() && v.Type() != reflect.TypeFor[*evidence.CPUExperiment]() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		if !v.IsNil() {
			fill(v.Elem(), text)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Earlier" {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		filled := reflect.MakeMap(v.Type())
		keys := append(v.MapKeys(), reflect.New(v.Type().Key()).Elem())
		for _, key := range keys {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value, text)
			if key.Kind() == reflect.String && key.Len() == 0 {
				key.SetString(text)
			}
			filled.SetMapIndex(key, value)
		}
		v.Set(filled)
	default:
	}
}

// saying is a report in which everything that is text says the same.
func saying(t *testing.T, text string) Report {
	t.Helper()
	s := seen(t, "base", "base")
	fill(reflect.ValueOf(s).Elem(), text)
	for i := range s.Log.Findings {
		s.Log.Findings[i].Class = evidence.FindingFailure
	}
	r := reportedRun("r", []string{"base"}, map[string]*evidence.Sandbox{"base": seen(t, "base-unpatched", "base")})
	r.Sandboxes[0].Evidence = s
	fill(reflect.ValueOf(&r.Verdicts).Elem(), text)
	for i := range r.Sandboxes[0].Outcomes {
		id, result := r.Sandboxes[0].Outcomes[i].Requirement, r.Sandboxes[0].Outcomes[i].Result
		fill(reflect.ValueOf(&r.Sandboxes[0].Outcomes[i]).Elem(), text)
		r.Sandboxes[0].Outcomes[i].Requirement, r.Sandboxes[0].Outcomes[i].Result = id, result
	}
	r.Sandboxes[0].Outcomes = append(r.Sandboxes[0].Outcomes, requirement.Outcome{
		Requirement: requirement.ID(text), Result: requirement.Result(text), Reason: text,
	})
	r.Sandboxes[0].Template, r.Sandboxes[0].Name = text, text
	r.Run, r.Target, r.Profile, r.Harness = text, text, text, text
	r.Problems, r.Notes = []string{text}, []string{text}
	return r
}

// shape is a page's elements and the names of their attributes.
func shape(root *html.Node) []string {
	var all []string
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		one := []string{n.Data}
		for _, a := range n.Attr {
			one = append(one, a.Key)
		}
		all = append(all, strings.Join(one, " "))
	}
	return all
}

// Whatever a guest, a log or a name says is text: the page has the elements and
// attributes that it has for a harmless word, leads nowhere but into itself, and
// shows no character that would change how it reads.
func TestHTMLOfHostileText(t *testing.T) {
	evil, good := saying(t, hostile), saying(t, "harmless")
	for name, pages := range map[string][2]string{
		"alone":    {render(t, evil, nil), render(t, good, nil)},
		"compared": {render(t, evil, &evil), render(t, good, &good)},
	} {
		t.Run(name, func(t *testing.T) {
			root := parsed(t, pages[0])
			got, want := shape(root), shape(parsed(t, pages[1]))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("hostile text changes the page (-harmless +hostile):\n%.3000s", diff)
			}
			for n := range root.Descendants() {
				for _, a := range n.Attr {
					switch {
					case a.Key == "href" && !strings.HasPrefix(a.Val, "#"):
						t.Errorf("a link leads to %.100q", a.Val)
					case strings.HasPrefix(a.Key, "on"), a.Key == "src", a.Key == "style", a.Key == "srcdoc", a.Key == "action":
						t.Errorf("<%s> has the attribute %s=%.100q", n.Data, a.Key, a.Val)
					}
				}
			}
			for _, r := range pages[0] {
				if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || r == utf8.RuneError) {
					t.Fatalf("the page holds the character %U", r)
				}
			}
		})
	}
}

// A guest cannot blow the page up.
func TestHTMLOfHugeText(t *testing.T) {
	r := saying(t, strings.Repeat(`"<&`, 3000))
	for range 3 {
		r.Sandboxes[0].Evidence.Log.Findings = append(r.Sandboxes[0].Evidence.Log.Findings, r.Sandboxes[0].Evidence.Log.Findings...)
	}
	for range 5000 {
		r.Notes, r.Problems = append(r.Notes, r.Notes[0]), append(r.Problems, r.Problems[0])
		r.Verdicts[0].Notes = append(r.Verdicts[0].Notes, r.Verdicts[0].Notes[0])
	}
	const most = htmlMost
	if page := render(t, r, &r); len(page) > most {
		t.Errorf("the page has %d bytes, want up to %d", len(page), most)
	}
}
