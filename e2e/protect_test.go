package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func protectSpecs() {
	It("gives envd the CPU weight that its service promises", Requires(requirement.ProtectCPUWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectCPUWeight))
	})

	It("guarantees envd the memory that its service promises", Requires(requirement.ProtectMemoryMin), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectMemoryMin))
	})

	It("protects envd's memory as its service promises", Requires(requirement.ProtectMemoryLow), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectMemoryLow))
	})

	It("gives envd the IO weight that its service promises", Requires(requirement.ProtectIOWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectIOWeight))
	})

	It("keeps the out-of-memory killer away from envd as its service promises", Requires(requirement.ProtectOOMScore), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectOOMScore))
	})

	It("runs envd at the niceness that its service promises", Requires(requirement.ProtectNice), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectNice))
	})

	It("starts envd with the protection that E2B gives it", Requires(requirement.ProtectUnit), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectUnit))
	})

	It("does not lose envd", Requires(requirement.ProtectSurvives), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ProtectSurvives))
	})
}
