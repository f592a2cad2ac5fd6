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

	It("keeps no cgroup failure in a journal or log file of its own", Requires(requirement.LogJournal), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogJournal))
	})

	It("logs no loss of an IO weight", Requires(requirement.LogNoIOLoss), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.LogNoIOLoss))
	})
}
