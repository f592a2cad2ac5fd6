package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func valueSpecs() {
	It("gives commands their CPU weight", Requires(requirement.ValueUserCPUWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueUserCPUWeight))
	})

	It("throttles the memory of commands", Requires(requirement.ValueUserMemoryHigh), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueUserMemoryHigh))
	})

	It("limits the memory of commands", Requires(requirement.ValueUserMemoryMax), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueUserMemoryMax))
	})

	It("gives commands their IO weight", Requires(requirement.ValueUserIOWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueUserIOWeight))
	})

	It("gives terminals their CPU weight", Requires(requirement.ValuePtysCPUWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValuePtysCPUWeight))
	})

	It("throttles the memory of terminals", Requires(requirement.ValuePtysMemoryHigh), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValuePtysMemoryHigh))
	})

	It("limits the memory of terminals", Requires(requirement.ValuePtysMemoryMax), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValuePtysMemoryMax))
	})

	It("gives terminals their IO weight", Requires(requirement.ValuePtysIOWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValuePtysIOWeight))
	})

	It("gives forwarders their CPU weight", Requires(requirement.ValueSocatsCPUWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueSocatsCPUWeight))
	})

	It("guarantees forwarders their memory", Requires(requirement.ValueSocatsMemoryMin), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueSocatsMemoryMin))
	})

	It("protects the memory of forwarders", Requires(requirement.ValueSocatsMemoryLow), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueSocatsMemoryLow))
	})

	It("gives forwarders their IO weight", Requires(requirement.ValueSocatsIOWeight), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueSocatsIOWeight))
	})

	It("limits nothing beyond what envd sets", Requires(requirement.ValueUnset), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.ValueUnset))
	})
}
