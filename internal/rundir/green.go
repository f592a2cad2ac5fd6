package rundir

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/verdict"
)

// Greens are the builds that were last judged isolated, kept from run to run,
// so that only what is new or was rebuilt need be judged again.
type Greens struct {
	Version int `json:"version"`
	// Target is where they were judged; one target says nothing of another.
	Target string `json:"target"`
	// Builds are by template ID: names can move.
	Builds map[string]Green `json:"builds"`
	// Reds are when a template was last judged and not found isolated, by its ID,
	// or by its name where nothing was seen of it: no older run makes it green.
	Reds map[string]time.Time `json:"reds,omitempty"`
}

// Green is a build of a template that was judged isolated.
type Green struct {
	Template string         `json:"template"` // as it was asked for
	BuildID  string         `json:"buildID"`
	Profile  config.Profile `json:"profile"`
	// Sandboxes is by how many it was judged, one after the other; 0, as a file of
	// an older sandproof green has it, is 1.
	Sandboxes int    `json:"sandboxes,omitempty"`
	Harness   string `json:"harness"`
	Run       string `json:"run"`
	// Judged is when its first sandbox began, by the server's clock where that
	// is known.
	Judged time.Time `json:"judged"`
}

// greensVersion is the format of the file.
const greensVersion = 1

// LoadGreens reads a file that Save wrote.
func LoadGreens(path string) (Greens, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Greens{}, fmt.Errorf("read what was green: %w", err)
	}
	var g Greens
	if err := json.Unmarshal(data, &g); err != nil {
		return Greens{}, fmt.Errorf("%s is neither a run directory nor a file of sandproof green: %w", path, err)
	}
	if g.Version != greensVersion || g.Target == "" || g.Builds == nil {
		return Greens{}, fmt.Errorf("%s is not a file that this sandproof green wrote (version %d, want %d); a run's report is read by naming the run's directory",
			path, g.Version, greensVersion)
	}
	return g, nil
}

// NewGreens is the state before any run on a target.
func NewGreens(target string) Greens {
	return Greens{Version: greensVersion, Target: target, Builds: map[string]Green{}}
}

// Save writes the file, whole or not at all.
func (g *Greens) Save(path string) error {
	data, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Merge adds what another file knows. Of two judgements of a template the later
// counts.
func (g *Greens) Merge(other Greens) {
	for key, at := range other.Reds {
		g.redden(key, at)
	}
	for id, green := range other.Builds {
		if old, had := g.Builds[id]; !had || old.Judged.Before(green.Judged) {
			g.Builds[id] = green
		}
	}
	maps.DeleteFunc(g.Builds, g.outdated)
}

// redden keeps when a template was last not found isolated.
func (g *Greens) redden(key string, at time.Time) {
	if g.Reds == nil {
		g.Reds = map[string]time.Time{}
	}
	if g.Reds[key].Before(at) {
		g.Reds[key] = at
	}
}

// outdated tells whether a template was not found isolated later than it was
// green.
func (g *Greens) outdated(id string, green Green) bool {
	return green.Judged.Before(g.Reds[id]) || green.Judged.Before(g.Reds[plainName(green.Template)])
}

// Update takes over what a gated run says: a build that it found isolated is
// green, and a template that it did not find isolated no longer is, by
// whichever run it had been. A waived template is not green either, by a failure or
// a line of the log: a waiver ends. Nor is what the lab's stand-in played in a live
// run, nor anything of a run that had trouble of its own, as its gate saw it or as
// it lies there now.
func (g *Greens) Update(run *Run) error {
	m := run.Manifest
	if m.Target != g.Target {
		return fmt.Errorf("run %s was made on target %s, which says nothing of target %s", run.Dir, m.Target, g.Target)
	}
	all, err := run.Evidence()
	if err != nil {
		return err
	}
	verdicts, problems, err := run.gated(all)
	if err != nil {
		return err
	}
	before, red := maps.Clone(g.Builds), map[string]bool{}
	for _, v := range verdicts {
		if strings.Contains(plainName(v.Template), ":") {
			// The build of a tag is not the one that the API lists.
			continue
		}
		of := slices.DeleteFunc(slices.Clone(all), func(s *evidence.Sandbox) bool { return s.Template != v.Template })
		isolated := v.Word == verdict.Isolated && v.Proves(m.Target) && len(problems) == 0 && !slices.ContainsFunc(of, lineWaived)
		of = slices.DeleteFunc(of, func(s *evidence.Sandbox) bool { return s.API == nil || s.API.TemplateID == "" })
		if len(of) == 0 {
			// Which template it is was not seen, so that what it was called is all there is.
			if !isolated {
				g.redden(plainName(v.Template), m.Started)
				maps.DeleteFunc(g.Builds, func(id string, green Green) bool {
					return id == plainName(v.Template) || plainName(green.Template) == plainName(v.Template)
				})
			}
			continue
		}
		green := Green{
			Template: v.Template, BuildID: oneBuild(of), Profile: config.Profile(m.Profile), Sandboxes: len(m.Sandboxes(v.Template)),
			Harness: m.Harness, Run: m.Run, Judged: began(of[0].API),
		}
		isolated = isolated && green.BuildID != ""
		// A name that moved meanwhile stood for several templates.
		for _, s := range of {
			id := s.API.TemplateID
			old, had := g.Builds[id]
			switch {
			case green.Judged.Before(before[id].Judged):
			case !isolated:
				red[id] = true
				g.redden(id, green.Judged)
			case g.outdated(id, green):
			case had && old.BuildID == green.BuildID && old.covers(green) && !green.covers(old):
				// The older run asked for more.
			default:
				g.Builds[id] = green
			}
		}
	}
	// A template may be judged by several names, and one that is red decides.
	maps.DeleteFunc(g.Builds, func(id string, _ Green) bool { return red[id] })
	return nil
}

// plainName is a template's name without the tag that it has anyway.
func plainName(template string) string { return strings.TrimSuffix(template, ":default") }

// covers tells whether one judgement asked for all that another did.
func (g Green) covers(other Green) bool {
	return g.Profile.Covers(other.Profile) && g.Sandboxes >= other.Sandboxes
}

// lineWaived tells whether a waiver excuses a line of a sandbox's log.
func lineWaived(s *evidence.Sandbox) bool {
	return s.Log != nil && slices.ContainsFunc(s.Log.Findings, func(f evidence.Finding) bool { return f.Class == evidence.FindingWaived })
}

// gated judges a run that the gate has seen once more, by its own profile: since
// then its files may have changed. The problems are those of both, for there is
// some that the gate alone saw.
func (r *Run) gated(all []*evidence.Sandbox) (verdicts []verdict.Verdict, problems []string, err error) {
	if _, err := os.Stat(filepath.Join(r.Dir, verdictsFile)); err != nil {
		return nil, nil, fmt.Errorf("run %s was not gated, so nothing of it is known to be green: sandproof gate %s", r.Dir, r.Dir)
	}
	name := filepath.Join(r.Dir, outcomesFile)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, fmt.Errorf("what the gate made of a run: %w", err)
	}
	var before Merged
	if err := json.Unmarshal(data, &before); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	merged, err := r.Merge()
	if err != nil {
		return nil, nil, err
	}
	verdicts = r.Verdicts(merged, func(_, sandbox string) verdict.Input {
		standIn := slices.ContainsFunc(all, func(s *evidence.Sandbox) bool { return s.Name() == sandbox && s.StandIn })
		return verdict.Input{Profile: config.Profile(r.Manifest.Profile), StandIn: standIn}
	})
	return verdicts, slices.Concat(before.Problems, merged.Problems), nil
}

// oneBuild is the build of all sandboxes of a template; empty where it is not
// known of one, or they differ.
func oneBuild(of []*evidence.Sandbox) string {
	for _, s := range of {
		if s.API.BuildID != of[0].API.BuildID {
			return ""
		}
	}
	return of[0].API.BuildID
}

func began(api *evidence.API) time.Time {
	if api.StartedAt != nil {
		return *api.StartedAt
	}
	return api.Requested
}
