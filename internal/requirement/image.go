package requirement

import (
	"fmt"
	"path"
	"strings"

	"sandproof/internal/evidence"
)

// The requirements of stage image: that the guest is what was asked for, and
// that what is in its image is in force in its memory.
const (
	ImageTemplate ID = "image.template"
	ImageBuild    ID = "image.build"
	ImageInForce  ID = "image.in-force"
)

func imageRequirements() []Requirement {
	return []Requirement{
		{
			ID: ImageTemplate, Title: "the sandbox is of the template that was asked for", Stage: StageImage, Level: LevelCore,
			Why:       "An alias may lead to another team's template, and a verdict on that one says nothing about yours.",
			Next:      "ask for the template by its ID, and look up which template the alias leads to",
			Reference: "e2b-dev/infra spec/openapi.yml, POST /sandboxes and GET /templates/aliases/{alias}",
			Needs:     []evidence.Piece{evidence.PieceAPI},
			Inputs:    []string{"api/templateID"},
			judge:     judgeTemplate,
		},
		{
			ID: ImageBuild, Title: "the build that was asked for is the build that was received", Stage: StageImage, Level: LevelCore,
			Why:       "Whoever patched one build must not be shown the verdict on another.",
			Next:      "patch the build that the template resolves to, or correct build-id in ginkgo.yml",
			Reference: "e2b-dev/infra spec/openapi.yml, GET /templates/{templateID}, builds",
			Needs:     []evidence.Piece{evidence.PieceAPI},
			judge:     judgeBuild,
		},
		{
			ID: ImageInForce, Title: "what the init in the image enables is in force in the guest", Stage: StageImage, Level: LevelCore,
			Why: "A sandbox that is resumed from memory never runs the init in its image: PID 1, envd and the cgroups are those " +
				"of the boot that was saved, whatever was patched since.",
			Next: "rebuild the template, so that it boots once with this init and a new snapshot is saved; " +
				"or remove the snapshot, where the orchestrator can then boot the image",
			Reference: "e2b-dev/infra packages/orchestrator/internal/server/sandboxes.go at c7180fe2c: every sandbox is resumed from a snapshot",
			Needs:     []evidence.Piece{evidence.PieceAPI, evidence.PieceSnapshot},
			judge:     judgeInForce,
		},
	}
}

func judgeTemplate(c *subject) Outcome {
	asked, _, _ := strings.Cut(c.Template, ":")
	asked = path.Base(asked) // "team/alias:tag" is the whole form
	read := "template " + c.API.TemplateID
	if c.API.Alias != "" {
		read += ", alias " + c.API.Alias
	}
	wanted := "template or alias " + asked
	switch {
	case c.API.TemplateID == "":
		return unproven("the API did not say of which template the sandbox is")
	case c.API.TemplateID == asked || path.Base(c.API.Alias) == asked:
		return pass(read, wanted, "the sandbox is of the template %s", asked)
	case c.API.Alias == "":
		return notApplicable("the API gave template %s and no alias, so it is open whether that is %s", c.API.TemplateID, asked)
	}
	o := infra("the sandbox is of template %s (alias %s) and not of the template asked for, %s", c.API.TemplateID, c.API.Alias, asked)
	o.Read, o.Wanted, o.Next = read, wanted, "" // the requirement's own next step fits better
	return o
}

func judgeBuild(c *subject) Outcome {
	got, want := c.API.BuildID, c.API.BuildWanted
	switch {
	case want == "" && got == "":
		return notApplicable("ginkgo.yml asks for no build, and the API did not say which it gave")
	case want == "":
		return notApplicable("ginkgo.yml asks for no build; the API gave build %s", got)
	case got == "":
		return unproven("ginkgo.yml asks for build %s, and the API did not say which build the sandbox is of", want)
	case !strings.EqualFold(got, want):
		return fail("build "+got, "build "+want, "the sandbox is of build %s, and not of the build that ginkgo.yml asks for, %s", got, want)
	}
	return pass("build "+got, "build "+want, "the sandbox is of build %s", got)
}

func judgeInForce(c *subject) Outcome {
	init := c.Snapshot.InitProgram
	if init == nil {
		return notApplicable("what PID 1 runs could not be read: %s", c.Snapshot.Errors["init program"])
	}
	steps := enablingSteps(init)
	if len(steps) == 0 {
		return notApplicable("%s is no script that enables controllers, so nothing of it can be out of force", init.Path)
	}
	resumed, why, err := c.Sandbox.ResumedBefore()
	if err != nil {
		return unproven("%v", err)
	}
	line := fmt.Sprintf("%s line %d: %s", init.Path, steps[0].Line, strings.Join(steps[0].Words, " "))
	if !resumed {
		return pass(line+", in a cold boot", "in force", "this guest booted for this sandbox, with the init that is in its image")
	}
	if o, decided := withoutMount(c); decided {
		return o
	}
	on, err := enabled(c.Sandbox)
	if err != nil {
		return unproven("%v", err)
	}
	read := line + "; cgroup.subtree_control: " + quoted(on)
	var lacking []string
	for _, controller := range []string{"cpu", "memory"} {
		if enables(steps, controller) && !has(on, controller) {
			lacking = append(lacking, controller)
		}
	}
	if len(lacking) == 0 {
		return pass(read, "in force", "the guest was resumed, and what its init enables is in force")
	}
	return fail(read, words(lacking)+" enabled",
		"your init is patched and not in force: this guest was resumed from an older snapshot (%s), so the init in its image never ran; "+
			"%s enables %s in line %d, and nothing of it is enabled in the guest", why, init.Path, words(lacking), steps[0].Line)
}

// enablingSteps are the writes of a script that enable controllers for envd's
// cgroups: those to the root's cgroup.subtree_control, not one level below.
func enablingSteps(p *evidence.Program) []evidence.Step {
	var found []evidence.Step
	for _, s := range p.Steps {
		if s.Kind == evidence.StepEnable && len(s.Words) > 0 && !tooDeep(s) {
			found = append(found, s)
		}
	}
	return found
}

// tooDeep tells a write to the cgroup.subtree_control of one of envd's own
// groups.
func tooDeep(s evidence.Step) bool {
	return s.Kind == evidence.StepEnable && has(groupNames(), path.Base(path.Dir(s.Target)))
}

// enables tells whether steps enable a controller by name, or by a variable
// that may be any.
func enables(steps []evidence.Step, controller string) bool {
	for _, s := range steps {
		for _, word := range s.Words {
			if word == "+"+controller || strings.Contains(word, "$") {
				return true
			}
		}
	}
	return false
}
