package e2e_test

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"

	"sandproof/internal/collect"
	"sandproof/internal/config"
	"sandproof/internal/evidence"
)

// running is one sandbox while its specs run.
type running struct {
	name    string
	session *collect.Session
	// red is true once a requirement was judged, and found not to hold.
	red bool
}

// sandboxes are those of this process by name.
var sandboxes = map[string]*running{}

// currentSandbox finds the sandbox of the current spec: the root container
// carries its name.
func currentSandbox() *running {
	texts := CurrentSpecReport().ContainerHierarchyTexts
	if len(texts) == 0 || sandboxes[texts[0]] == nil {
		panic("BUG: a spec outside of a sandbox's container")
	}
	return sandboxes[texts[0]]
}

// describeSandboxes makes the tree, before Ginkgo runs it: one ordered container
// for each sandbox, in the configuration's order, with every stage in the order
// in which things can break. Templates, and how many sandboxes each is judged by,
// are the same in every parallel process. No container holds them all: Ginkgo
// keeps a copy of each node around a spec for every spec, in slices that grow by
// doubling, so that a fifth node would take as much as four.
func describeSandboxes() {
	order := 0
	for _, template := range suite.config.Templates {
		for n := range suite.config.Sandboxes(template) {
			describeSandbox(template, n+1, SpecPriority(order))
			order-- // the highest comes first
		}
	}
}

// containers is how many sandboxes the tree has.
func containers() int {
	n := 0
	for _, template := range suite.config.Templates {
		n += suite.config.Sandboxes(template)
	}
	return n
}

func describeSandbox(template config.Template, number int, order SpecPriority) {
	waits := suite.config.IntervalsFor(template)
	Describe(evidence.NameOf(template.Name, number), Ordered, ContinueOnFailure, order, func() {
		BeforeAll(func(ctx SpecContext) { openSandbox(ctx, template, number) }, NodeTimeout(waits.Create+2*waits.Request))

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

// openSandbox creates a sandbox and registers its destruction in the same
// breath. Trouble becomes evidence: no node fails for it, each requirement says
// what it could not see.
func openSandbox(ctx SpecContext, template config.Template, number int) {
	name := evidence.NameOf(template.Name, number)
	session := collect.New(suite.target.collectOptions(template, number))
	sandboxes[name] = &running{name: name, session: session}
	DeferCleanup(closeSandbox, name, NodeTimeout(suite.config.IntervalsFor(template).Destroy*2))
	progressf("%s: creating a sandbox", name)
	session.Open(ctx)
	if api := session.Evidence().API; api != nil {
		progressf("%s: sandbox %s after %.1f s", name, api.SandboxID, api.Answered.Sub(api.Requested).Seconds())
	}
}

// closeSandbox writes the evidence, then destroys the sandbox; both are done
// before either is asserted.
func closeSandbox(ctx SpecContext, name string) {
	session := sandboxes[name].session
	// Its evidence is on disk from here on, and a run may have many.
	defer delete(sandboxes, name)
	destroyed := endOrKeep(ctx, sandboxes[name])
	written := suite.run.WriteEvidence(session.Evidence(), suite.redactor)
	if destroyed != nil {
		problemf("the sandbox of %s may be left behind: %v", name, destroyed)
		fail(fmt.Sprintf("infra: the sandbox of %s may be left behind: %v", name, destroyed))
	}
	if written != nil {
		problemf("the evidence of %s was not written: %v", name, written)
		fail(fmt.Sprintf("infra: the evidence of %s was not written: %v", name, written))
	}
}
