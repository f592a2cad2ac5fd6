package config

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
)

// Builds says where a target keeps the builds of its templates on disk.
type Builds struct {
	// Storage holds one directory a build; empty where it is not configured.
	Storage string
	// Caches hold copies of builds.
	Caches []string
	// Templates are those whose builds may lie there, with the ID of each that
	// is known.
	Templates []Template
}

// The directories below lab.storage, by the names that a deployment of the
// users' kind has for them (local-deploy/jobs/orchestrator.hcl of
// yankaili2006/infra: LOCAL_TEMPLATE_STORAGE_BASE_PATH, TEMPLATE_CACHE_DIR,
// SHARED_CHUNK_CACHE_PATH and, below ORCHESTRATOR_BASE_PATH, DEFAULT_CACHE_DIR).
const (
	LabTemplateStorage = "e2b-template-storage"
	LabTemplateCache   = "e2b-template-cache"
	LabChunkCache      = "e2b-chunk-cache"
	LabOpenedBuilds    = "e2b-orchestrator/build"
)

// Builds is where the target's builds lie: live.storage and live.caches of a
// live target, with the inventory's templates; and below lab.storage those of
// the lab, whose templates are its recipes.
func (c *Config) Builds() Builds {
	if c.Target != TargetLab {
		return Builds{Storage: c.Live.Storage, Caches: c.Live.Caches, Templates: c.Inventory}
	}
	var b Builds
	for _, name := range recipeNames(c.Lab.Recipes) {
		b.Templates = append(b.Templates, Template{Name: name, BuildID: LabBuildID(name)})
	}
	if c.Lab.Storage != "" {
		b.Storage = filepath.Join(c.Lab.Storage, LabTemplateStorage)
		b.Caches = []string{filepath.Join(c.Lab.Storage, LabTemplateCache), filepath.Join(c.Lab.Storage, LabChunkCache)}
	}
	return b
}

// LabBuildID is the ID of the one build that a template of the lab has in
// lab.storage: the same each time, so that a patch of it stays (a UUID of
// version 8, RFC 9562).
func LabBuildID(template string) string {
	b := sha256.Sum256([]byte("sandproof lab build of " + template))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
