package sandboxapi

import "time"

// The types on the wire, as e2b-dev/infra 54693ff35 has them
// (spec/openapi.yml) and as its server was measured to answer. Fields that
// are not here are tolerated and lost.

// ClientID is the constant that stands where a node's ID once stood.
const ClientID = "6532622b"

// NewSandbox asks for a sandbox.
type NewSandbox struct {
	// TemplateID is an alias or an ID.
	TemplateID string `json:"templateID"`
	// Timeout is the time to live in seconds; nil means the server's 15 s.
	Timeout   *int32            `json:"timeout,omitempty"`
	AutoPause bool              `json:"autoPause,omitempty"`
	Secure    bool              `json:"secure,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	EnvVars   map[string]string `json:"envVars,omitempty"`
}

// Sandbox is a created sandbox.
type Sandbox struct {
	SandboxID          string  `json:"sandboxID"`
	TemplateID         string  `json:"templateID"`
	ClientID           string  `json:"clientID"`
	EnvdVersion        string  `json:"envdVersion"`
	Alias              string  `json:"alias,omitempty"`
	EnvdAccessToken    string  `json:"envdAccessToken,omitempty"`
	TrafficAccessToken *string `json:"trafficAccessToken,omitempty"`
	// Domain overrides the configured one, on clusters of their own.
	Domain *string `json:"domain,omitempty"`
	// EnvdURL is a public fork's direct address of envd.
	EnvdURL string `json:"envdURL,omitempty"`
}

// The states of a sandbox.
const (
	StateRunning = "running"
	StatePaused  = "paused"
)

// ListedSandbox is a sandbox in a list.
type ListedSandbox struct {
	SandboxID    string            `json:"sandboxID"`
	TemplateID   string            `json:"templateID"`
	Alias        string            `json:"alias,omitempty"`
	ClientID     string            `json:"clientID"`
	StartedAt    time.Time         `json:"startedAt"`
	EndAt        time.Time         `json:"endAt"`
	CPUCount     int               `json:"cpuCount"`
	MemoryMB     int               `json:"memoryMB"`
	DiskSizeMB   int               `json:"diskSizeMB"`
	Metadata     map[string]string `json:"metadata,omitzero"`
	State        string            `json:"state"`
	EnvdVersion  string            `json:"envdVersion"`
	VolumeMounts []any             `json:"volumeMounts,omitzero"`
}

// SandboxDetail is one sandbox looked at.
type SandboxDetail struct {
	ListedSandbox
	EnvdAccessToken string     `json:"envdAccessToken,omitempty"`
	Domain          *string    `json:"domain,omitempty"`
	Lifecycle       *Lifecycle `json:"lifecycle,omitempty"`
}

// Lifecycle says what happens at the end of a sandbox's time.
type Lifecycle struct {
	AutoResume bool   `json:"autoResume"`
	OnTimeout  string `json:"onTimeout"` // "kill" or "pause"
}

// Template is a template in a list.
type Template struct {
	TemplateID    string         `json:"templateID"`
	BuildID       string         `json:"buildID"`
	CPUCount      int            `json:"cpuCount"`
	MemoryMB      int            `json:"memoryMB"`
	DiskSizeMB    int            `json:"diskSizeMB"`
	Public        bool           `json:"public"`
	Aliases       []string       `json:"aliases"`
	Names         []string       `json:"names"`
	CreatedAt     time.Time      `json:"createdAt"`
	UpdatedAt     time.Time      `json:"updatedAt"`
	CreatedBy     map[string]any `json:"createdBy"`
	LastSpawnedAt *time.Time     `json:"lastSpawnedAt"`
	SpawnCount    int64          `json:"spawnCount"`
	BuildCount    int32          `json:"buildCount"`
	EnvdVersion   string         `json:"envdVersion"`
	BuildStatus   string         `json:"buildStatus"`
}

// TemplateWithBuilds is one template looked at.
type TemplateWithBuilds struct {
	TemplateID    string     `json:"templateID"`
	Public        bool       `json:"public"`
	Aliases       []string   `json:"aliases"`
	Names         []string   `json:"names"`
	CreatedAt     time.Time  `json:"createdAt"`
	UpdatedAt     time.Time  `json:"updatedAt"`
	LastSpawnedAt *time.Time `json:"lastSpawnedAt"`
	SpawnCount    int64      `json:"spawnCount"`
	Builds        []Build    `json:"builds"`
}

// Build is one build of a template.
type Build struct {
	BuildID     string     `json:"buildID"`
	Status      string     `json:"status"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   time.Time  `json:"updatedAt"`
	FinishedAt  *time.Time `json:"finishedAt,omitempty"`
	CPUCount    int        `json:"cpuCount"`
	MemoryMB    int        `json:"memoryMB"`
	DiskSizeMB  int        `json:"diskSizeMB,omitempty"`
	EnvdVersion string     `json:"envdVersion,omitempty"`
}

// AliasTarget is what an alias stands for.
type AliasTarget struct {
	TemplateID string `json:"templateID"`
	Public     bool   `json:"public"`
}
