package sandboxapi

import (
	"strings"
	"time"
)

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
	Network   *Network          `json:"network,omitempty"`
}

// Network says who may reach a sandbox, and what it may reach.
type Network struct {
	// AllowPublicTraffic false makes every port but envd's ask for the
	// sandbox's traffic token; nil is the server's default, true. Only a
	// secure sandbox may have it false (400 otherwise).
	AllowPublicTraffic *bool    `json:"allowPublicTraffic,omitempty"`
	AllowOut           []string `json:"allowOut,omitempty"`
	DenyOut            []string `json:"denyOut,omitempty"`
}

// Sandbox is a created sandbox.
type Sandbox struct {
	SandboxID       string `json:"sandboxID"`
	TemplateID      string `json:"templateID"`
	ClientID        string `json:"clientID"`
	EnvdVersion     string `json:"envdVersion"`
	Alias           string `json:"alias,omitempty"`
	EnvdAccessToken string `json:"envdAccessToken,omitempty"`
	// TrafficAccessToken opens the ports of a sandbox without public traffic.
	// Only the answers to a create, a connect and a resume have it: a look at
	// the sandbox does not tell it again.
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
	Network         *Network   `json:"network,omitempty"`
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

// Unbuilt tells whether the list has the ID of no build, which is how E2B's
// server lists a template of which no build has ended well yet.
func (t Template) Unbuilt() bool { return t.BuildID != "" && strings.Trim(t.BuildID, "0-") == "" }

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

// The levels of a sandbox's log lines, from low to high.
const (
	LevelDebug = "debug"
	LevelInfo  = "info"
	LevelWarn  = "warn"
	LevelError = "error"
)

// The directions in which log lines are told.
const (
	Forward  = "forward"
	Backward = "backward"
)

// LogEntry is a line of a sandbox's log.
type LogEntry struct {
	Timestamp time.Time         `json:"timestamp"`
	Level     string            `json:"level"`
	Message   string            `json:"message"`
	Fields    map[string]string `json:"fields"`
}

// SandboxLogs is the answer to a question for logs (e89e1cca0).
type SandboxLogs struct {
	Logs []LogEntry `json:"logs"`
}

// Node is a machine that runs sandboxes.
type Node struct {
	ID                   string      `json:"id"`
	ServiceInstanceID    string      `json:"serviceInstanceID"`
	ClusterID            string      `json:"clusterID"`
	Status               string      `json:"status"` // ready, draining, connecting, unhealthy or standby
	SandboxCount         uint32      `json:"sandboxCount"`
	SandboxStartingCount int         `json:"sandboxStartingCount"`
	CreateSuccesses      uint64      `json:"createSuccesses"`
	CreateFails          uint64      `json:"createFails"`
	Version              string      `json:"version"`
	Commit               string      `json:"commit"`
	MachineInfo          MachineInfo `json:"machineInfo"`
	Metrics              NodeMetrics `json:"metrics"`
}

// NodeDetail is one node looked at.
type NodeDetail struct {
	ID                string   `json:"id"`
	ServiceInstanceID string   `json:"serviceInstanceID"`
	ClusterID         string   `json:"clusterID"`
	Status            string   `json:"status"`
	SandboxCount      uint32   `json:"sandboxCount"`
	CachedBuilds      []string `json:"cachedBuilds"`
	CreateSuccesses   uint64   `json:"createSuccesses"`
	CreateFails       uint64   `json:"createFails"`
	Version           string   `json:"version"`
	Commit            string   `json:"commit"`
	// Sandboxes are those that run on the node. Servers of 2025 tell them;
	// newer ones only count.
	Sandboxes   []ListedSandbox `json:"sandboxes,omitempty"`
	MachineInfo MachineInfo     `json:"machineInfo"`
	Metrics     NodeMetrics     `json:"metrics"`
}

// MachineInfo is a node's processor.
type MachineInfo struct {
	CPUFamily       string `json:"cpuFamily"`
	CPUModel        string `json:"cpuModel"`
	CPUModelName    string `json:"cpuModelName"`
	CPUArchitecture string `json:"cpuArchitecture"`
}

// NodeMetrics are what a node has, what of it is promised to sandboxes, and
// what is used.
type NodeMetrics struct {
	CPUCount             uint32        `json:"cpuCount"`
	AllocatedCPU         uint32        `json:"allocatedCPU"`
	CPUPercent           uint32        `json:"cpuPercent"`
	MemoryTotalBytes     uint64        `json:"memoryTotalBytes"`
	AllocatedMemoryBytes uint64        `json:"allocatedMemoryBytes"`
	MemoryUsedBytes      uint64        `json:"memoryUsedBytes"`
	Disks                []DiskMetrics `json:"disks"`
}

// DiskMetrics are one file system of a node.
type DiskMetrics struct {
	MountPoint     string `json:"mountPoint"`
	Device         string `json:"device"`
	FilesystemType string `json:"filesystemType"`
	UsedBytes      uint64 `json:"usedBytes"`
	TotalBytes     uint64 `json:"totalBytes"`
}
