package rundir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sandproof/internal/redact"
	"sandproof/internal/verdict"
)

// Last is the last verdict of a template among all runs.
type Last struct {
	Run     string          `json:"run"`
	Started time.Time       `json:"started"`
	Verdict verdict.Verdict `json:"verdict"`
}

// LastVerdicts returns the verdict of each template in the latest run below
// root that has one; runs without results, and what is no run, are passed over.
// No directory means no verdicts. The redactor takes secrets out of them.
func LastVerdicts(root string, redactor *redact.Redactor) (map[string]Last, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last := map[string]Last{}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		run, err := Open(filepath.Join(root, e.Name()), redactor)
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(run.Dir, verdictsFile))
		if err != nil {
			continue
		}
		verdicts, err := read[[]verdict.Verdict](text, redactor)
		if err != nil {
			continue
		}
		for _, v := range verdicts {
			if old, ok := last[v.Template]; !ok || old.Started.Before(run.Manifest.Started) {
				last[v.Template] = Last{Run: run.Manifest.Run, Started: run.Manifest.Started, Verdict: v}
			}
		}
	}
	return last, nil
}
