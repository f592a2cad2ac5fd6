package requirement

import (
	"fmt"
	"net/http"

	"sandproof/internal/evidence"
)

// The requirements of stage boot.
const (
	BootEnvdAnswers ID = "boot.envd-answers"
	BootEnvdKnown   ID = "boot.envd-known"
)

func bootRequirements() []Requirement {
	return []Requirement{
		{
			ID: BootEnvdAnswers, Title: "envd answers", Stage: StageBoot, Level: LevelCore,
			Why:       "A guest whose envd does not answer cannot be used, and nothing else about it can be seen.",
			Next:      "read the guest's console in the run's artifacts; boot the image by itself and watch /sbin/init",
			Reference: "e2b-dev/infra packages/envd/spec/envd.yaml, GET /health",
			Needs:     []evidence.Piece{evidence.PieceAPI, evidence.PieceHealth},
			judge:     judgeEnvdAnswers,
		},
		{
			ID: BootEnvdKnown, Title: "the running envd is of a known generation", Stage: StageBoot, Level: LevelCore,
			Why:       "What is right depends on the envd that runs, which the API's record does not tell.",
			Next:      "look at the snapshot's envd section; a version newer than this sandproof needs a newer sandproof",
			Reference: "e2b-dev/infra packages/envd/main.go, pkg/version.go",
			Needs:     []evidence.Piece{evidence.PieceSnapshot},
			judge:     judgeEnvdKnown,
		},
	}
}

func judgeEnvdAnswers(c *subject) Outcome {
	read, wanted := fmt.Sprintf("GET /health: %d", c.Health.Status), "GET /health: 204"
	if c.Health.Status != http.StatusNoContent {
		return fail(read, wanted, "envd answers its health route with %d", c.Health.Status)
	}
	return pass(read, wanted, "envd answered %.1f s after the sandbox was created", float64(c.Health.AfterMS)/1000)
}

func judgeEnvdKnown(c *subject) Outcome {
	if c.promise.unknown != "" {
		return unproven("%s", c.promise.unknown)
	}
	version := c.Snapshot.Envd.Version
	read := "envd " + version
	wanted := "a version that the generation table knows"
	if c.promise.none() {
		return notApplicable("envd %s has no cgroup code: no version before 0.4.3 sets any limit", version)
	}
	if len(c.promise.generations) > 1 {
		return pass(read, wanted, "envd %s may be generation %s: its version string did not change with its behaviour", version, c.promise.name())
	}
	return pass(read, wanted, "envd %s is generation %s", version, c.promise.name())
}
