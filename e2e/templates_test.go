package e2e_test

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"

	"sandproof/internal/collect"
	"sandproof/internal/config"
)

// running is one template while its specs run.
type running struct {
	name    string
	session *collect.Session
}

// templates are the templates of this process by name.
var templates = map[string]*running{}

// currentTemplate finds the template of the current spec: the container below
// the root one carries its name.
func currentTemplate() *running {
	texts := CurrentSpecReport().ContainerHierarchyTexts
	if len(texts) < 2 || templates[texts[1]] == nil {
		panic("BUG: a spec outside of a template's container")
	}
	return templates[texts[1]]
}

// The tree: one ordered container for each template, with every stage in the
// order in which things can break. The list of templates is fixed before the
// tree is built and the same in every parallel process.
var _ = Describe("sandboxes", func() {
	for _, template := range suite.config.Templates {
		describeTemplate(template)
	}
})

func describeTemplate(template config.Template) {
	waits := suite.config.IntervalsFor(template)
	Describe(template.Name, Ordered, ContinueOnFailure, func() {
		BeforeAll(func(ctx SpecContext) { openSandbox(ctx, template) }, NodeTimeout(waits.Create+2*waits.Request))

		Describe("image", imageSpecs)
		Describe("boot", bootSpecs)
		Describe("mount", mountSpecs)
		Describe("offer", offerSpecs)
		Describe("enable", enableSpecs)
		Describe("create", createSpecs)
		Describe("value", valueSpecs)
		Describe("place", placeSpecs)
		Describe("bite", biteSpecs)
		// The second look comes after everything that could change what it sees.
		Describe("keep", keepSpecs)
		Describe("protect", protectSpecs)
		Describe("log", logSpecs)
		Describe("agree", agreeSpecs)
		Describe("lifecycle", lifecycleSpecs)
	})
}

// openSandbox creates the template's sandbox and registers its destruction in
// the same breath. Trouble becomes evidence: no node fails for it, each
// requirement says what it could not see.
func openSandbox(ctx SpecContext, template config.Template) {
	session := collect.New(suite.target.collectOptions(template))
	templates[template.Name] = &running{name: template.Name, session: session}
	DeferCleanup(closeSandbox, template.Name, NodeTimeout(suite.config.IntervalsFor(template).Destroy*2))
	progressf("%s: creating a sandbox", template.Name)
	session.Open(ctx)
	if api := session.Evidence().API; api != nil {
		progressf("%s: sandbox %s after %.1f s", template.Name, api.SandboxID, api.Answered.Sub(api.Requested).Seconds())
	}
}

// closeSandbox writes the evidence, then destroys the sandbox; both are done
// before either is asserted.
func closeSandbox(ctx SpecContext, name string) {
	session := templates[name].session
	destroyed := session.Close(ctx)
	written := suite.run.WriteEvidence(session.Evidence(), suite.redactor)
	if destroyed != nil {
		problemf("the sandbox of template %s may be left behind: %v", name, destroyed)
		Fail(fmt.Sprintf("infra: the sandbox of template %s may be left behind: %v", name, destroyed))
	}
	if written != nil {
		problemf("the evidence of template %s was not written: %v", name, written)
		Fail(fmt.Sprintf("infra: the evidence of template %s was not written: %v", name, written))
	}
}
