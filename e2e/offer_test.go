package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func offerSpecs() {
	It("is offered the cpu controller", Requires(requirement.OfferCPU), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.OfferCPU))
	})

	It("is offered the memory controller", Requires(requirement.OfferMemory), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.OfferMemory))
	})

	It("is offered the io controller", Requires(requirement.OfferIO), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.OfferIO))
	})
}
