package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func keepSpecs() {
	It("keeps its cgroups", Requires(requirement.KeepGroups), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.KeepGroups))
	})

	It("keeps its controllers enabled", Requires(requirement.KeepControllers), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.KeepControllers))
	})

	It("keeps its limits", Requires(requirement.KeepValues), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.KeepValues))
	})
}
