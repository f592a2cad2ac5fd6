package rundir

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/config"
)

// Shard says which part of a run's templates one job judges.
type Shard struct {
	Number int `json:"number"` // from 1
	Of     int `json:"of"`
	// Expected are the templates of all shards, in the order in which they
	// were dealt out.
	Expected []string `json:"expected"`
}

func (s *Shard) String() string { return fmt.Sprintf("%d/%d", s.Number, s.Of) }

// Part is one shard of a merged run.
type Part struct {
	Shard     string    `json:"shard"`
	Run       string    `json:"run,omitempty"`
	Started   time.Time `json:"started,omitzero"`
	Command   []string  `json:"command,omitempty"`
	Templates []string  `json:"templates"`
	// Processes is how many suite processes of the shard record, each of which is
	// expected to record its end.
	Processes int `json:"processes,omitempty"`
	// Missing is true where no run of this shard was given: its templates are
	// expected all the same.
	Missing bool `json:"missing,omitempty"`
}

// belongs tells why two shards are not of one run; nil where they are.
func (r *Run) belongs(other *Run) error {
	a, b := r.Manifest, other.Manifest
	for _, same := range []struct{ what, a, b string }{
		{"target", a.Target, b.Target},
		{"profile", a.Profile, b.Profile},
		{"harness", a.Harness, b.Harness},
		{"number of shards", strconv.Itoa(a.Shard.Of), strconv.Itoa(b.Shard.Of)},
		{"list of templates", fmt.Sprint(a.Shard.Expected), fmt.Sprint(b.Shard.Expected)},
		{"number of sandboxes (repeat)", fmt.Sprint(a.Repeat), fmt.Sprint(b.Repeat)},
		{"catalogue of requirements", fmt.Sprint(a.Requirements), fmt.Sprint(b.Requirements)},
		{"configuration", a.ConfigHash, b.ConfigHash},
	} {
		if same.a != same.b {
			return fmt.Errorf("%s and %s do not belong together: the %s of the one is %s, of the other %s", r.Dir, other.Dir, same.what, same.a, same.b)
		}
	}
	if !slices.Equal(a.Waivers, b.Waivers) {
		return fmt.Errorf("%s and %s do not belong together: they were given different waivers, and those of the one would excuse failures of the other", r.Dir, other.Dir)
	}
	if a.Shard.Number == b.Shard.Number {
		return fmt.Errorf("%s and %s are both shard %s: give each shard once; of one that was run again, only the last", r.Dir, other.Dir, a.Shard)
	}
	return nil
}

// isShard tells why a run is no shard; nil where it is one.
func (r *Run) isShard() error {
	s := r.Manifest.Shard
	if s == nil {
		return fmt.Errorf("%s is no shard: it was run without -e2e.shard (make e2e SHARD=N/OF), so nothing is to be merged with it", r.Dir)
	}
	if _, _, err := config.Shard(s.String()).Parts(); err != nil || !slices.Equal(config.Cut(s.Expected, s.Number, s.Of), r.Manifest.Templates) {
		return fmt.Errorf("%s: its templates %q are not shard %s of its list %q: the manifest was edited, or is of another sandproof", r.Dir, r.Manifest.Templates, s, s.Expected)
	}
	if r.Manifest.ConfigHash == "" {
		return fmt.Errorf("%s: its %s does not tell its configuration (configHash), so nobody knows whether other shards had the same: it was edited, or is of another sandproof", r.Dir, manifestFile)
	}
	return nil
}

// farApart is how long after the first shard the last may begin before that is
// told: templates and clusters change meanwhile.
const farApart = 24 * time.Hour

// shardNotes tell what a verdict over shards, or over one of them, leaves open.
func (m *Manifest) shardNotes() []string {
	if s := m.Shard; s != nil {
		var others []string
		for _, template := range s.Expected {
			if !slices.Contains(m.Templates, template) {
				others = append(others, template)
			}
		}
		if len(others) == 0 {
			return nil
		}
		return []string{fmt.Sprintf("this is shard %s alone: nothing is said of %s, which other shards judge; sandproof merge makes one run of them all", s, strings.Join(others, ", "))}
	}
	var first, last Part
	for _, part := range m.Shards {
		if part.Missing {
			continue
		}
		if first.Shard == "" || part.Started.Before(first.Started) {
			first = part
		}
		if last.Shard == "" || part.Started.After(last.Started) {
			last = part
		}
	}
	if last.Started.Sub(first.Started) <= farApart {
		return nil
	}
	return []string{fmt.Sprintf("shard %s began on %s, and shard %s on %s: what was seen then is not what is there now; run all shards of one night",
		first.Shard, first.Started.UTC().Format(time.DateOnly), last.Shard, last.Started.UTC().Format(time.DateOnly))}
}

// parts are all shards of a run of which some are there; a shard on which no
// template falls is none.
func parts(shards []*Run) []Part {
	s := shards[0].Manifest.Shard
	var all []Part
	for n := range s.Of {
		part := Part{Shard: (&Shard{Number: n + 1, Of: s.Of}).String(), Templates: config.Cut(s.Expected, n+1, s.Of), Missing: true}
		if i := slices.IndexFunc(shards, func(r *Run) bool { return r.Manifest.Shard.Number == n+1 }); i >= 0 {
			m := shards[i].Manifest
			part.Run, part.Started, part.Command, part.Processes, part.Missing = m.Run, m.Started, m.Command, m.Processes, false
		}
		if len(part.Templates) > 0 {
			all = append(all, part)
		}
	}
	return all
}
