package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

// The witnesses are compared when all of them have been heard.
func agreeSpecs() {
	It("has limits that act", Requires(requirement.BiteAgrees), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.BiteAgrees))
	})

	It("logs what the guest shows", Requires(requirement.LogAgrees), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogAgrees))
	})
}
