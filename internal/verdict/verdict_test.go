package verdict

import (
	"strings"
	"testing"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// outcomes gives every requirement the result pass but for the given ones.
func outcomes(differing map[requirement.ID]requirement.Result) []requirement.Outcome {
	all := make([]requirement.Outcome, 0, len(requirement.All()))
	for _, r := range requirement.All() {
		o := requirement.Outcome{Requirement: r.ID, Result: requirement.Pass, Reason: "as promised"}
		if result, differs := differing[r.ID]; differs {
			o.Result, o.Reason, o.Next = result, "because of "+string(r.ID), "mend it"
		}
		all = append(all, o)
	}
	return all
}

func TestVerdicts(t *testing.T) {
	type results = map[requirement.ID]requirement.Result
	for _, test := range []struct {
		name    string
		results results
		word    Word
		stage   requirement.Stage
		exit    int
	}{
		{"all pass", nil, Isolated, "", ExitIsolated},
		{"inert and not-applicable never demote", results{
			requirement.ValueUserIOWeight: requirement.Inert, requirement.LogNoFailure: requirement.NotApplicable,
		}, Isolated, "", ExitIsolated},
		{"a failed extended requirement is a note", results{requirement.ValueUserIOWeight: requirement.Fail}, Isolated, "", ExitIsolated},
		{"one wrong value is partial", results{requirement.ValuePtysCPUWeight: requirement.Fail}, Partial, requirement.StageValue, ExitNotIsolated},
		{"nothing in force", results{
			requirement.ValueUserCPUWeight: requirement.Fail, requirement.ValueUserMemoryHigh: requirement.Fail, requirement.ValueUserMemoryMax: requirement.Fail,
		}, NotIsolated, requirement.StageValue, ExitNotIsolated},
		{"a promised value that is not applicable is not in force", results{
			requirement.ValueUserCPUWeight: requirement.Fail, requirement.ValueUserMemoryHigh: requirement.Fail, requirement.ValueUserMemoryMax: requirement.NotApplicable,
		}, NotIsolated, requirement.StageValue, ExitNotIsolated},
		{"command elsewhere", results{requirement.PlaceCommand: requirement.Fail}, NotIsolated, requirement.StagePlace, ExitNotIsolated},
		{"the first stage is named", results{
			requirement.ValueUserCPUWeight: requirement.Fail, requirement.EnableCPU: requirement.Fail,
		}, Partial, requirement.StageEnable, ExitNotIsolated},
		{"a failure outranks what is unproven", results{
			requirement.BootEnvdAnswers: requirement.Infra, requirement.PlaceCommand: requirement.Fail,
		}, NotIsolated, requirement.StagePlace, ExitNotIsolated},
		{"unproven", results{requirement.LogNoFailure: requirement.Unproven}, Unproven, requirement.StageLog, ExitUnproven},
		{"infra", results{requirement.PlacePTY: requirement.Infra, requirement.BootEnvdKnown: requirement.Unproven}, Unproven, requirement.StagePlace, ExitInfra},
		{"another template than the one asked for", results{
			requirement.ImageTemplate: requirement.Infra, requirement.PlaceCommand: requirement.Fail,
		}, Unproven, requirement.StageImage, ExitInfra},
		{"envd's own protection is gone", results{requirement.ProtectCPUWeight: requirement.Fail}, Partial, requirement.StageProtect, ExitNotIsolated},
		{"reset later", results{requirement.KeepValues: requirement.Fail}, Partial, requirement.StageKeep, ExitNotIsolated},
		{"resumed from before the patch", results{
			requirement.ImageInForce: requirement.Fail, requirement.EnableCPU: requirement.Fail, requirement.PlaceCommand: requirement.Fail,
		}, NotIsolated, requirement.StageImage, ExitNotIsolated},
		{"no cgroup support", results{
			requirement.BootEnvdKnown: requirement.NotApplicable, requirement.CreateGroups: requirement.NotApplicable,
		}, NotApplicable, requirement.StageCreate, ExitNotIsolated},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := Of(Input{Template: "base", Profile: config.ProfileCore, Outcomes: outcomes(test.results), Reproduce: "make e2e TEMPLATES=base"})
			if v.Word != test.word || v.Stage != test.stage {
				t.Errorf("verdict %s at stage %q, want %s at %q", v.Word, v.Stage, test.word, test.stage)
			}
			if got := Exit([]Verdict{v}, nil); got != test.exit {
				t.Errorf("exit code %d, want %d", got, test.exit)
			}
			if v.Word != Isolated && (v.Reason == "" || !strings.HasSuffix(v.Next, "make e2e TEMPLATES=base")) {
				t.Errorf("a verdict needs a reason and the next command: %+v", v)
			}
		})
	}
}

// A requirement that was filtered out, or lost with its process, is not
// assumed to hold.
func TestMissingOutcomeIsUnproven(t *testing.T) {
	for i, r := range requirement.All() {
		all := outcomes(nil)
		all = append(all[:i], all[i+1:]...)
		v := Of(Input{Profile: config.ProfileCore, Outcomes: all})
		if r.Decides(config.ProfileCore) && v.Word != Unproven {
			t.Errorf("without an outcome for %s the verdict is %s", r.ID, v.Word)
		}
	}
	if v := Of(Input{Profile: config.ProfileCore}); v.Word != Unproven {
		t.Errorf("without any outcome the verdict is %s", v.Word)
	}
}

// The profiles beyond core promise to try the limits; as long as nothing does,
// they prove nothing.
func TestProfilesPromiseNothingUntried(t *testing.T) {
	for _, profile := range []config.Profile{config.ProfileGate, config.ProfileExtended} {
		v := Of(Input{Profile: profile, Outcomes: outcomes(nil)})
		tried := map[requirement.Stage]bool{}
		for _, r := range requirement.All() {
			tried[r.Stage] = tried[r.Stage] || r.Level == requirement.LevelCore
		}
		if all := tried[requirement.StageBite] && tried[requirement.StageLifecycle]; (v.Word == Isolated) != all {
			t.Errorf("under %s all passes give %s (%s), and everything is tried: %v", profile, v.Word, v.Reason, all)
		}
	}
}

// A witness that surely cannot speak leaves the verdict to the others, and is
// never silently passed over.
func TestMuteWitnessIsANote(t *testing.T) {
	all := outcomes(map[requirement.ID]requirement.Result{requirement.LogNoFailure: requirement.Unproven})
	for i := range all {
		all[i].Mute = all[i].Requirement == requirement.LogNoFailure
	}
	v := Of(Input{Profile: config.ProfileCore, Outcomes: all})
	if v.Word != Isolated || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "log.no-failure: unproven") {
		t.Errorf("got %+v", v)
	}
}

// Only what reads a log can be mute: a record that says so of anything else
// leaves it unproven.
func TestOnlyLogsAreMute(t *testing.T) {
	for _, r := range requirement.All() {
		all := outcomes(map[requirement.ID]requirement.Result{r.ID: requirement.Unproven})
		for i := range all {
			all[i].Mute = true
		}
		v := Of(Input{Profile: config.ProfileExtended, Outcomes: all})
		if want := r.Stage == requirement.StageLog || !r.Decides(config.ProfileExtended); (v.Word == Isolated) != want {
			t.Errorf("with a mute %s it is %s", r.ID, v.Word)
		}
	}
}

// What is worth knowing stands in the verdict although nothing is red.
func TestAdviceIsANote(t *testing.T) {
	all := outcomes(nil)
	for i := range all {
		if all[i].Requirement == requirement.ProtectUnit {
			all[i].Result, all[i].Advice = requirement.NotApplicable, "envd is not protected"
		}
	}
	v := Of(Input{Profile: config.ProfileCore, Outcomes: all})
	if v.Word != Isolated || len(v.Notes) != 1 || v.Notes[0] != "envd is not protected" {
		t.Errorf("got %+v", v)
	}
}

func TestExitOrder(t *testing.T) {
	word := func(w Word, infra bool) Verdict { return Verdict{Word: w, Infra: infra} }
	for _, test := range []struct {
		name     string
		verdicts []Verdict
		problems []string
		want     int
	}{
		{"nothing judged", nil, nil, ExitInfra},
		{"isolated with a problem of the run", []Verdict{word(Isolated, false)}, []string{"leak"}, ExitInfra},
		{"not isolated outranks infra", []Verdict{word(Unproven, true), word(NotIsolated, false)}, []string{"leak"}, ExitNotIsolated},
		{"infra outranks unproven", []Verdict{word(Unproven, false), word(Unproven, true)}, nil, ExitInfra},
		{"unproven outranks isolated", []Verdict{word(Isolated, false), word(Unproven, false)}, nil, ExitUnproven},
		{"an unknown word is no success", []Verdict{word("fine", false)}, nil, ExitInfra},
	} {
		if got := Exit(test.verdicts, test.problems); got != test.want {
			t.Errorf("%s: exit code %d, want %d", test.name, got, test.want)
		}
	}
}

func TestTableIsHarmlessAndComplete(t *testing.T) {
	v := Of(Input{
		Template: "base", Target: "lab", Profile: config.ProfileCore, StandIn: true, Envd: "0.6.13\x1b[2J", Generation: "C",
		Outcomes: outcomes(map[requirement.ID]requirement.Result{requirement.EnableCPU: requirement.Fail, requirement.PlaceCommand: requirement.Fail}),
	})
	text := Table(Report{Run: "r1", Target: "lab", Profile: "core", Verdicts: []Verdict{v}, Problems: []string{"leak: i123"}})
	for _, want := range []string{"base", "NOT-ISOLATED", "first broken stage: enable", "because of enable.cpu", "mend it", "stand-in", "leak: i123"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	if strings.ContainsRune(text, 0x1b) {
		t.Errorf("an escape sequence of the guest reached the terminal: %q", text)
	}
	hostile := "x\x1b[2J\n::error::y"
	r := Report{Run: hostile, Target: hostile, Profile: hostile, Harness: hostile, Verdicts: []Verdict{v}, Demand: Demand{Target: hostile + "2"}}
	for name, text := range map[string]string{"conclusion": r.Conclusion(), "table": Table(r), "markdown": r.Markdown(SummaryMost)} {
		if strings.ContainsRune(text, 0x1b) || strings.Contains(text, "\n::error") || !strings.Contains(text, "x1b") {
			t.Errorf("what a manifest says reached the %s: %q", name, text)
		}
	}
}
