package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func createSpecs() {
	It("has the user, ptys and socats cgroups", Requires(requirement.CreateGroups), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.CreateGroups))
	})

	It("has domain cgroups", Requires(requirement.CreateDomain), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.CreateDomain))
	})

	It("has thawed cgroups", Requires(requirement.CreateThawed), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.CreateThawed))
	})

	It("has cgroups that enable no domain controller below themselves", Requires(requirement.CreateLeaf), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.CreateLeaf))
	})

	It("lets envd start a process", Requires(requirement.CreateStarts), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.CreateStarts))
	})
}
