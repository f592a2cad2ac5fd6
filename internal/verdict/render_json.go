package verdict

import (
	"encoding/json"
	"fmt"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
)

// ReportVersion is the version of the JSON report's format. It grows when a
// field goes away or means something else; docs/report.schema.json describes it.
const ReportVersion = 1

// document is a report as JSON, with what its outcomes mean.
type document struct {
	Version int `json:"version"`
	Report
	Requirements []described `json:"requirements"`
}

// described is a requirement of the catalogue.
type described struct {
	ID    requirement.ID    `json:"id"`
	Title string            `json:"title"`
	Stage requirement.Stage `json:"stage"`
	Level requirement.Level `json:"level"`
	// Decides tells whether it decides the verdict under the report's profile.
	Decides bool `json:"decides"`
}

// JSON renders a report whole, for programs.
func (r *Report) JSON() (string, error) {
	d := document{Version: ReportVersion, Report: *r}
	if d.Verdicts == nil {
		d.Verdicts = []Verdict{}
	}
	for _, q := range requirement.All() {
		d.Requirements = append(d.Requirements, described{ID: q.ID, Title: q.Title, Stage: q.Stage, Level: q.Level, Decides: q.Decides(config.Profile(r.Profile))})
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write the JSON report: %w", err)
	}
	return string(data) + "\n", nil
}
