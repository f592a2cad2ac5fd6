package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func bootSpecs() {
	It("envd answers", Requires(requirement.BootEnvdAnswers), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BootEnvdAnswers))
	})

	It("runs an envd whose promises are known", Requires(requirement.BootEnvdKnown), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BootEnvdKnown))
	})

	It("is a boot that is identified, with its init", Requires(requirement.BootIdentity), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BootIdentity))
	})
}
