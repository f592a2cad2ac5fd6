package e2e_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/requirement"
)

func mountSpecs() {
	It("has cgroup2 really mounted where envd looks", Requires(requirement.MountCgroup2), func(ctx SpecContext) {
		Expect(sandbox(ctx)).To(Hold(requirement.MountCgroup2))
	})
}
