package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func enableSpecs() {
	It("has the cpu controller enabled", Requires(requirement.EnableCPU), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.EnableCPU))
	})

	It("has the memory controller enabled", Requires(requirement.EnableMemory), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.EnableMemory))
	})

	It("has the io controller enabled", Requires(requirement.EnableIO), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.EnableIO))
	})

	It("had its controllers enabled before envd started", Requires(requirement.EnableOrder), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.EnableOrder))
	})
}
