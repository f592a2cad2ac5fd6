package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// runDay is when the runs of these tests began.
var runDay = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func waiver(template string, id requirement.ID, expires string) Waiver {
	return Waiver{Template: template, Requirement: id, Reason: "known since TICKET-1", Expires: expires}
}

// A waiver excuses the known failure of one requirement in one template until a
// day, and nothing else.
func TestWaivers(t *testing.T) {
	type results = map[requirement.ID]requirement.Result
	cpu := waiver("base", requirement.EnableCPU, "2026-11-28")
	onlyCPU := results{requirement.EnableCPU: requirement.Fail}
	for _, test := range []struct {
		name    string
		results results
		waivers []Waiver
		word    Word
		excused bool
		exit    int
		waived  int
	}{
		{"without it", onlyCPU, nil, Partial, false, ExitNotIsolated, 0},
		{"the known failure", onlyCPU, []Waiver{cpu}, Partial, true, ExitIsolated, 1},
		{"expired the day before", onlyCPU, []Waiver{waiver("base", requirement.EnableCPU, "2026-11-27")}, Partial, false, ExitNotIsolated, 0},
		{"a date that is none", onlyCPU, []Waiver{waiver("base", requirement.EnableCPU, "never")}, Partial, false, ExitNotIsolated, 0},
		{"of another template", onlyCPU, []Waiver{waiver("other", requirement.EnableCPU, "2099-01-01")}, Partial, false, ExitNotIsolated, 0},
		{"of another requirement", onlyCPU, []Waiver{waiver("base", requirement.EnableMemory, "2099-01-01")}, Partial, false, ExitNotIsolated, 0},
		{"another core failure beside it", results{requirement.EnableCPU: requirement.Fail, requirement.PlaceCommand: requirement.Fail}, []Waiver{cpu}, NotIsolated, false, ExitNotIsolated, 1},
		{"both known", results{requirement.EnableCPU: requirement.Fail, requirement.PlaceCommand: requirement.Fail}, []Waiver{cpu, waiver("base", requirement.PlaceCommand, "2099-01-01")}, NotIsolated, true, ExitIsolated, 2},
		{"something unproven beside it", results{requirement.EnableCPU: requirement.Fail, requirement.LogNoFailure: requirement.Unproven}, []Waiver{cpu}, Unproven, false, ExitUnproven, 1},
		{"trouble beside it", results{requirement.EnableCPU: requirement.Fail, requirement.PlacePTY: requirement.Infra}, []Waiver{cpu}, Unproven, false, ExitInfra, 1},
		{"unproven is not excused", results{requirement.EnableCPU: requirement.Unproven}, []Waiver{cpu}, Unproven, false, ExitUnproven, 0},
		{"trouble is not excused", results{requirement.EnableCPU: requirement.Infra}, []Waiver{cpu}, Unproven, false, ExitInfra, 0},
		{"another build than the one that was asked for", results{requirement.ImageBuild: requirement.Fail}, []Waiver{waiver("base", requirement.ImageBuild, "2099-01-01")}, NotIsolated, false, ExitNotIsolated, 0},
		{"an image that is not in force", results{requirement.ImageInForce: requirement.Fail}, []Waiver{waiver("base", requirement.ImageInForce, "2099-01-01")}, NotIsolated, false, ExitNotIsolated, 0},
		{"not needed", nil, []Waiver{cpu}, Isolated, false, ExitIsolated, 0},
		{"no cgroup support", results{requirement.BootEnvdKnown: requirement.NotApplicable}, []Waiver{cpu}, NotApplicable, false, ExitNotIsolated, 0},
		{"no cgroup support, known", results{requirement.BootEnvdKnown: requirement.NotApplicable}, []Waiver{waiver("base", requirement.BootEnvdKnown, "2099-01-01")}, NotApplicable, true, ExitIsolated, 1},
		{"no cgroup support, known, and more fails", results{requirement.BootEnvdKnown: requirement.NotApplicable, requirement.EnableCPU: requirement.Fail}, []Waiver{waiver("base", requirement.BootEnvdKnown, "2099-01-01")}, NotApplicable, false, ExitNotIsolated, 0},
		{"a failure that decides nothing", results{requirement.ValueUserIOWeight: requirement.Fail}, []Waiver{waiver("base", requirement.ValueUserIOWeight, "2099-01-01")}, Isolated, false, ExitIsolated, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := Of(Input{Template: "base", Profile: config.ProfileCore, Outcomes: outcomes(test.results), Waivers: test.waivers, At: runDay})
			if v.Word != test.word || v.Excused != test.excused || v.Exit() != test.exit || len(v.Waived) != test.waived {
				t.Errorf("got %s, excused %t, exit %d, waived %v", v.Word, v.Excused, v.Exit(), v.Waived)
			}
			if said := strings.Join(v.Notes, "\n"); strings.Count(said, "WAIVED: ") != test.waived {
				t.Errorf("notes %q", said)
			}
			if test.excused != strings.Contains(v.Label(), "WAIVED") {
				t.Errorf("label %q", v.Label())
			}
		})
	}
}

// When it is not known when a run began, no waiver is known to hold.
func TestWaiverWithoutABeginning(t *testing.T) {
	failed := outcomes(map[requirement.ID]requirement.Result{requirement.EnableCPU: requirement.Fail})
	v := Of(Input{Template: "base", Profile: config.ProfileCore, Outcomes: failed, Waivers: []Waiver{waiver("base", requirement.EnableCPU, "2099-01-01")}})
	if v.Exit() != ExitNotIsolated || len(v.Waived) != 0 {
		t.Errorf("got %s, exit %d", v.Label(), v.Exit())
	}
}

// Without an outcome a waiver excuses nothing: a requirement that was filtered
// out is unproven.
func TestWaiverOfWhatWasNotExecuted(t *testing.T) {
	for i, r := range requirement.All() {
		all := outcomes(nil)
		all = append(all[:i], all[i+1:]...)
		v := Of(Input{Template: "base", Profile: config.ProfileGate, Outcomes: all, Waivers: []Waiver{waiver("base", r.ID, "2099-01-01")}, At: runDay})
		if r.Decides(config.ProfileGate) && v.Exit() == ExitIsolated {
			t.Errorf("without an outcome for %s, which is waived, the exit code is 0", r.ID)
		}
	}
}

// Of several sandboxes one that fails unexcused, or is unproven, decides, and
// what is waived in any is told.
func TestWaiversOverSandboxes(t *testing.T) {
	of := func(results map[requirement.ID]requirement.Result) Verdict {
		return Of(Input{
			Template: "base", Profile: config.ProfileCore, Outcomes: outcomes(results), At: runDay,
			Waivers: []Waiver{waiver("base", requirement.EnableCPU, "2099-01-01")},
		})
	}
	excused := of(map[requirement.ID]requirement.Result{requirement.EnableCPU: requirement.Fail})
	for _, test := range []struct {
		name  string
		other Verdict
		exit  int
		label string
	}{
		{"isolated", of(nil), ExitIsolated, "partial, WAIVED"},
		{"excused", excused, ExitIsolated, "partial, WAIVED"},
		{"unproven", of(map[requirement.ID]requirement.Result{requirement.PlacePTY: requirement.Unproven}), ExitUnproven, "unproven"},
		{"failed", of(map[requirement.ID]requirement.Result{requirement.PlacePTY: requirement.Fail}), ExitNotIsolated, "partial"},
	} {
		for _, each := range [][]Verdict{{excused, test.other}, {test.other, excused}} {
			v := Over(each)
			if v.Exit() != test.exit || v.Label() != test.label || len(v.Waived) != 1 {
				t.Errorf("%s: exit %d, %s, waived %v", test.name, v.Exit(), v.Label(), v.Waived)
			}
			if n := strings.Count(strings.Join(v.Notes, "\n"), "WAIVED: "); n != 1 {
				t.Errorf("%s: told %d times: %q", test.name, n, v.Notes)
			}
		}
	}
}

// Waivers that have expired or were not needed are told.
func TestWaiverUses(t *testing.T) {
	waivers := []Waiver{
		waiver("base", requirement.EnableCPU, "2099-01-01"), waiver("base", requirement.EnableIO, "2099-01-01"), waiver("base", requirement.EnableCPU, "2026-11-27"),
	}
	v := Of(Input{
		Template: "base", Profile: config.ProfileCore, Waivers: waivers, At: runDay,
		Outcomes: outcomes(map[requirement.ID]requirement.Result{requirement.EnableCPU: requirement.Fail}),
	})
	uses := Uses(waivers, []Verdict{v}, runDay)
	var states []WaiverState
	for _, u := range uses {
		states = append(states, u.State)
		if (u.Note() == "") != (u.State == WaiverUsed) {
			t.Errorf("%s: note %q", u.State, u.Note())
		}
	}
	if !slices.Equal(states, []WaiverState{WaiverUsed, WaiverUnused, WaiverExpired}) {
		t.Errorf("got %v", states)
	}
}

// A typing error in a requirement's ID is no waiver.
func TestWaiversOfTheConfiguration(t *testing.T) {
	all := []config.Waiver{
		{Line: "a", Reason: "r", Expires: "2026-12-31"},
		{Template: "base", Requirements: []string{"enable.cpu", "enable.io"}, Reason: "r", Expires: "2026-12-31"},
	}
	got, err := Waivers(all)
	if err != nil || len(got) != 2 || got[1] != (Waiver{Template: "base", Requirement: requirement.EnableIO, Reason: "r", Expires: "2026-12-31"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	all[1].Requirements = []string{"enable.gpu"}
	if _, err := Waivers(all); err == nil || !strings.Contains(err.Error(), "there is no requirement enable.gpu") {
		t.Errorf("got %v", err)
	}
	for _, id := range []string{"image.template", "image.build", "image.bytes", "image.in-force"} {
		all[1].Requirements = []string{"enable.cpu", id}
		if _, err := Waivers(all); err == nil || !strings.Contains(err.Error(), "waivers: "+id+" cannot be waived") {
			t.Errorf("%s: got %v", id, err)
		}
	}
}
