package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

// A pause comes last: one that fails may end the sandbox.
func lifecycleSpecs() {
	It("comes back from a pause with its cgroups thawed", Requires(requirement.LifecycleThawed), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LifecycleThawed))
	})

	It("comes back with its limits", Requires(requirement.LifecycleValues), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LifecycleValues))
	})

	It("puts new processes into their cgroups after a pause", Requires(requirement.LifecyclePlacement), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LifecyclePlacement))
	})

	It("keeps an old process where it was", Requires(requirement.LifecycleSurvivor), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LifecycleSurvivor))
	})
}
