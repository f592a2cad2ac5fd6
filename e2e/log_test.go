package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func logSpecs() {
	It("logs no cgroup failure", Requires(requirement.LogNoFailure), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogNoFailure))
	})

	It("logs no fallback to the no-op cgroup manager", Requires(requirement.LogNoFallback), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogNoFallback))
	})

	It("has a journal without a cgroup failure", Requires(requirement.LogJournal), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogJournal))
	})

	It("logs no loss of an IO weight", Requires(requirement.LogNoIOLoss), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogNoIOLoss))
	})
}
