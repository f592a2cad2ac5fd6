package rundir

import (
	"fmt"
	"slices"
	"time"

	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// Origin is the run that something was written in. A name alone does not tell:
// each night's run may bear the same one.
type Origin struct {
	Run     string    `json:"run"`
	Started time.Time `json:"runStarted"`
}

func (o Origin) is(other Origin) bool { return o.Run == other.Run && o.Started.Equal(other.Started) }

func (o Origin) String() string {
	return fmt.Sprintf("%.100q of %s", o.Run, o.Started.UTC().Format(time.RFC3339))
}

// origin is the run itself: a shard's, or that of the merging.
func (r *Run) origin() Origin { return Origin{Run: r.Manifest.Run, Started: r.Manifest.Started} }

// originOf is the run that looked at a template: its shard's, in a merged one.
func (r *Run) originOf(template string) Origin {
	i := slices.IndexFunc(r.Manifest.Shards, func(p Part) bool { return slices.Contains(p.Templates, template) })
	if i < 0 {
		return r.origin()
	}
	return r.Manifest.Shards[i].origin()
}

func (p *Part) origin() Origin { return Origin{Run: p.Run, Started: p.Started} }

// written is the run that a sandbox's evidence was written in.
func written(s *evidence.Sandbox) Origin { return Origin{Run: s.Run, Started: s.RunStarted} }

// wrote tells whether evidence is of this run, as far as it tells: older
// sandproofs wrote the run's name alone.
func (r *Run) wrote(s *evidence.Sandbox) bool {
	own := r.originOf(s.Template)
	return written(s).is(own) || (s.Run == own.Run && s.RunStarted.IsZero())
}

// tellEvidence makes a problem of evidence that is not what the outcomes can
// rest on: it is not there, of another run, of another target, or of another
// template than they say. The files are read one by one: together they take much memory. Of
// which something is told are cleaned, which costs less than to clean all.
func (r *Run) tellEvidence(m *Merged) error {
	for _, sandbox := range r.Manifest.names() {
		s, err := r.evidenceOf(sandbox, nil)
		if err != nil {
			return err
		}
		switch outcomes := m.Outcomes[sandbox]; {
		case s != nil && len(r.contradictions(s, outcomes)) > 0:
			if s, err = r.evidenceOf(sandbox, r.redact); err != nil {
				return err
			}
			m.Problems = append(m.Problems, r.contradictions(s, outcomes)...)
		case s != nil:
		case len(outcomes) > 0:
			m.Problems = append(m.Problems, fmt.Sprintf("the evidence of %s is not there: what its outcomes rest on cannot be looked at", sandbox))
		}
	}
	return nil
}

func (r *Run) contradictions(s *evidence.Sandbox, outcomes []requirement.Outcome) []string {
	if !r.wrote(s) {
		return []string{fmt.Sprintf("the evidence of %s is of run %s, and not of run %s: it was left over, or carried here, and counts for nothing", s.Name(), written(s), r.originOf(s.Template))}
	}
	var all []string
	if s.RunStarted.IsZero() {
		all = append(all, fmt.Sprintf("the evidence of %s does not tell when its run began: an older sandproof wrote it, or it was edited: run again", s.Name()))
	}
	if s.Target != r.Manifest.Target {
		all = append(all, fmt.Sprintf("the evidence of %s is of target %.100q, and the run was made on target %s", s.Name(), s.Target, r.Manifest.Target))
	}
	for _, id := range []requirement.ID{requirement.ImageTemplate, requirement.ImageBuild} {
		i := slices.IndexFunc(outcomes, func(o requirement.Outcome) bool { return o.Requirement == id })
		asked, known := requirement.Lookup(id)
		if i < 0 || !known || !outcomes[i].Result.Green() {
			continue
		}
		if again := asked.Judge(s); !again.Result.Green() {
			all = append(all, fmt.Sprintf("%s of %s is recorded as %s, and by the evidence it is %s: %s", id, s.Name(), outcomes[i].Result, again.Result, again.Reason))
		}
	}
	return all
}
