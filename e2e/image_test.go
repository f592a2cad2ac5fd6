package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func imageSpecs() {
	It("is of the template that was asked for", Requires(requirement.ImageTemplate), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ImageTemplate))
	})

	It("is of the build that was asked for", Requires(requirement.ImageBuild), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ImageBuild))
	})

	It("has the init that the storage holds", Requires(requirement.ImageBytes), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ImageBytes))
	})

	It("has in force what its init enables", Requires(requirement.ImageInForce), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ImageInForce))
	})
}
