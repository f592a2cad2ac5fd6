package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func placeSpecs() {
	It("puts a command into the user cgroup", Requires(requirement.PlaceCommand), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.PlaceCommand))
	})

	It("keeps a command's child there", Requires(requirement.PlaceChild), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.PlaceChild))
	})

	It("keeps a daemonised grandchild there", Requires(requirement.PlaceGrandchild), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.PlaceGrandchild))
	})

	It("puts a terminal into the ptys cgroup", Requires(requirement.PlacePTY), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.PlacePTY))
	})

	It("puts the port forwarder into the socats cgroup", Requires(requirement.PlaceForwarder), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.PlaceForwarder))
	})
}
