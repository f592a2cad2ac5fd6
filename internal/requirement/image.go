package requirement

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"sandproof/internal/evidence"
)

// The requirements of stage image: that the guest is what was asked for, and
// that what is in its image is in force in its memory.
const (
	ImageTemplate ID = "image.template"
	ImageBuild    ID = "image.build"
	ImageBytes    ID = "image.bytes"
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
			ID: ImageBytes, Title: "the guest's init is byte for byte the one that the storage holds", Stage: StageImage, Level: LevelCore,
			Why: "Between the image that was patched and the guest there are caches and saved memories: a sandbox may be given the old " +
				"bytes long after the disk has the new ones, and a look at the disk proves nothing.",
			Next: "remove the build from every cache (live.caches in ginkgo.yml) on every node, restart the orchestrator, which keeps opened " +
				"builds in memory, and create a new sandbox",
			Reference: "e2b-dev/infra c7180fe2c packages/shared/pkg/storage/storage_cache.go: reads prefer the cached copy",
			Needs:     []evidence.Piece{evidence.PieceAPI, evidence.PieceSnapshot}, Helps: []evidence.Piece{evidence.PieceDisk},
			Inputs: []string{"disk/init/sha256", "disk/build", "snapshot/initProgram/sha256"},
			judge:  judgeBytes,
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

// judgeBytes compares the guest's init with that of the storage. Where the
// storage cannot be read from here nothing is claimed of it.
func judgeBytes(c *subject) Outcome {
	disk, guest := c.Disk, c.Snapshot.InitProgram
	switch {
	case disk == nil && c.ProblemOf(evidence.PieceDisk) != nil:
		return ofProblem(c.ProblemOf(evidence.PieceDisk), true)
	case disk == nil:
		return notApplicable("no storage of builds is configured (live.storage, or lab.storage), so what the disk holds is not known")
	case disk.Build == "":
		return unproven("the API did not say of which build the sandbox is, so the storage could not be asked for it")
	case disk.Missing != "":
		return unproven("the storage that is configured has no build %s, of which the sandbox is: %s", disk.Build, disk.Missing)
	case disk.Unreadable != "":
		return notApplicable("what the storage holds of build %s cannot be read: %s", disk.Build, disk.Unreadable)
	case disk.Init == nil || disk.Init.SHA256 == "":
		return unproven("%s has no init that could be read", disk.Image)
	case guest == nil || guest.SHA256 == "":
		return unproven("what PID 1 runs could not be read: %s", c.Snapshot.Errors["init program"])
	case disk.Changed.After(c.API.Requested):
		o := unproven("%s was changed at %s, after the sandbox was asked for at %s", disk.Image, disk.Changed.Format(timeOfDay), c.API.Requested.Format(timeOfDay))
		o.Next = "run again: a sandbox that is created now is of the image as it is now"
		return o
	}
	return compareBytes(c, disk, guest)
}

// timeOfDay is how moments of one run are told apart.
const timeOfDay = "15:04:05.000 MST"

func compareBytes(c *subject, disk *evidence.Disk, guest *evidence.Program) Outcome {
	read := fmt.Sprintf("%s in the guest: sha256 %s", guest.Path, guest.SHA256)
	wanted := fmt.Sprintf("%s in %s: sha256 %s", disk.Init.Path, disk.Image, disk.Init.SHA256)
	if guest.Path != disk.Init.Path && guest.Path != disk.Init.Real {
		o := notApplicable("PID 1 runs %s, and the image boots with %s: they are not compared", guest.Path, disk.Init.Path)
		o.Read, o.Wanted = read, wanted
		return o
	}
	if guest.SHA256 == disk.Init.SHA256 {
		lacking, known := lackingDropIns(c.Snapshot, disk)
		switch {
		case !known:
			return unproven("the init is the storage's; whether %s is in the guest too is not known, since envd's unit was not seen", words(disk.DropIns))
		case len(lacking) == 0:
			return pass(read, wanted, "the guest has the init that the storage holds for build %s", disk.Build)
		}
		read, wanted = "envd's unit without it", words(lacking)+" in "+disk.Image
	}
	o := fail(read, wanted, "the guest has other bytes than the disk holds for build %s: %s", disk.Build, whyOtherBytes(c, disk))
	if len(disk.Snapshots) > 0 {
		o.Next = "rebuild the template; or remove the saved memory, storage and caches alike, restart the orchestrator, and create a new sandbox, where the orchestrator can then boot the image"
	}
	return o
}

// lackingDropIns are those of the image that the guest's unit is not made of.
func lackingDropIns(s *evidence.Snapshot, disk *evidence.Disk) (lacking []string, known bool) {
	if len(disk.DropIns) == 0 {
		return nil, true
	}
	if s.Envd == nil || s.Envd.Unit == nil {
		return nil, false
	}
	for _, path := range disk.DropIns {
		if !slices.Contains(s.Envd.Unit.Files, path) {
			lacking = append(lacking, path)
		}
	}
	return lacking, true
}

// whyOtherBytes names what stands between the disk and the guest.
func whyOtherBytes(c *subject, disk *evidence.Disk) string {
	resumed, why, err := c.Sandbox.ResumedBefore()
	switch {
	case err == nil && resumed && len(disk.Snapshots) > 0:
		return fmt.Sprintf("it was resumed from an older snapshot (%s), which %s holds", why, words(disk.Snapshots))
	case err == nil && resumed:
		return fmt.Sprintf("it was resumed from an older snapshot (%s)", why)
	}
	return "it booted from a copy in a cache, or an orchestrator that had opened the build before the disk was changed goes on with what it had"
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
