package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func biteSpecs() {
	It("gives a command the share of a CPU that its weight gives it", Requires(requirement.BiteCPU), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BiteCPU))
	})

	It("stops a command that takes too much memory", Requires(requirement.BiteMemory), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BiteMemory))
	})

	It("keeps envd alive meanwhile", Requires(requirement.BiteEnvd), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BiteEnvd))
	})
}
