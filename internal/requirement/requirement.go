// Package requirement is the catalogue of what must hold in an isolated
// sandbox, and the judges: pure functions from evidence to outcome. It talks
// to nothing and nobody.
package requirement

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
)

// ID names a requirement for ever: it is never reused for another meaning.
type ID string

// Stage is where in the life of a sandbox a requirement belongs.
type Stage string

// The stages, in the order in which things can break.
const (
	StageImage     Stage = "image"
	StageBoot      Stage = "boot"
	StageMount     Stage = "mount"
	StageOffer     Stage = "offer"
	StageEnable    Stage = "enable"
	StageCreate    Stage = "create"
	StageValue     Stage = "value"
	StageKeep      Stage = "keep"
	StagePlace     Stage = "place"
	StageBite      Stage = "bite"
	StageProtect   Stage = "protect"
	StageLog       Stage = "log"
	StageLifecycle Stage = "lifecycle"
)

// Stages lists all stages in their order.
func Stages() []Stage {
	return []Stage{
		StageImage, StageBoot, StageMount, StageOffer, StageEnable, StageCreate, StageValue,
		StageKeep, StagePlace, StageBite, StageProtect, StageLog, StageLifecycle,
	}
}

// Level says how much a requirement weighs.
type Level string

// The levels. Core decides a verdict; extended is a note on it, unless the
// profile is extended; advisory never decides.
const (
	LevelCore     Level = "core"
	LevelExtended Level = "extended"
	LevelAdvisory Level = "advisory"
)

// Result is the one-word outcome of one requirement.
type Result string

// The results.
const (
	Pass          Result = "pass"
	Fail          Result = "fail"
	Unproven      Result = "unproven"       // evidence missing, or its channel not shown to be alive
	Inert         Result = "inert"          // set, but cannot act on this kernel
	NotApplicable Result = "not-applicable" // nothing of the kind is promised here
	Infra         Result = "infra"          // trouble of API, capacity, network or harness
)

// Green tells whether a result is no reason to worry: pass, inert and
// not-applicable.
func (r Result) Green() bool {
	switch r {
	case Pass, Inert, NotApplicable:
		return true
	case Fail, Unproven, Infra:
		return false
	}
	return false
}

// Known tells whether it is one of the results.
func (r Result) Known() bool {
	return slices.Contains([]Result{Pass, Fail, Unproven, Inert, NotApplicable, Infra}, r)
}

// Requirement is one thing that must hold.
type Requirement struct {
	ID    ID
	Title string
	Stage Stage
	Level Level
	// Why says what goes wrong for people when it does not hold.
	Why string
	// Next says what to do when it does not hold.
	Next string
	// Reference is the public source of the promise.
	Reference string
	// Needs are the pieces of evidence without which nothing can be judged.
	Needs []evidence.Piece
	// Helps are pieces that are collected for it as well, and without which it
	// may still be judged, to a failure above all.
	Helps []evidence.Piece
	// Inputs are the fields without which it cannot pass, as paths through the
	// evidence's JSON: "snapshot/root/fsMagic".
	Inputs []string

	judge func(c *subject) Outcome
}

// Outcome is what came of one requirement for one sandbox.
type Outcome struct {
	Requirement ID     `json:"requirement"`
	Result      Result `json:"result"`
	// Reason is one sentence for a person.
	Reason string `json:"reason"`
	// Read is what was observed and Wanted what the promise is, as parsed
	// values with their file.
	Read   string `json:"read,omitempty"`
	Wanted string `json:"wanted,omitempty"`
	// Next overrides the requirement's own next step where the judge knows
	// better.
	Next string `json:"next,omitempty"`
	// Mute is true for an unproven outcome whose witness surely cannot speak in
	// this guest, so that the other witnesses decide without it: a log that
	// envd's standard error does not go to.
	Mute bool `json:"mute,omitempty"`
	// Untried is true for a not-applicable outcome of what the run did not ask
	// for. Under a profile in which the requirement decides, it proves nothing.
	Untried bool `json:"untried,omitempty"`
	// Advice is a note for the verdict although nothing is red: what nobody
	// promised here, and is worth knowing.
	Advice string `json:"advice,omitempty"`
}

// Muted tells whether the other witnesses decide without this outcome. Only what
// reads a log can be mute, whatever a record says.
func (o Outcome) Muted() bool {
	r, known := Lookup(o.Requirement)
	return o.Mute && o.Result == Unproven && known && r.Stage == StageLog
}

// subject is what a judge sees: the evidence, and what was derived from it
// once.
type subject struct {
	*evidence.Sandbox
	promise promise
}

// All returns the whole catalogue, in stage order.
func All() []Requirement {
	return slices.Concat(
		imageRequirements(), bootRequirements(), mountRequirements(), offerRequirements(), enableRequirements(),
		createRequirements(), valueRequirements(), keepRequirements(), placeRequirements(), biteRequirements(), agreeRequirements(), protectRequirements(), logRequirements(),
		lifecycleRequirements(),
	)
}

// byID is the catalogue for looking things up, made once: a report of hundreds
// of templates asks for each of their outcomes.
var byID = sync.OnceValue(func() map[ID]Requirement {
	all := map[ID]Requirement{}
	for _, r := range All() {
		all[r.ID] = r
	}
	return all
})

// Lookup returns the requirement of an ID.
func Lookup(id ID) (Requirement, bool) {
	r, known := byID()[id]
	return r, known
}

// Decides tells whether the requirement decides the verdict under a profile.
func (r Requirement) Decides(profile config.Profile) bool {
	switch profile {
	case config.ProfileExtended:
		return r.Level != LevelAdvisory
	case config.ProfileGate:
		return r.Level == LevelCore
	case config.ProfileCore:
		return r.Level == LevelCore && r.Stage != StageBite && r.Stage != StageLifecycle
	case config.ProfileAuto: // settled when the configuration is loaded
	}
	return r.Level == LevelCore
}

// Judge turns evidence into the requirement's outcome. Evidence that is
// missing is never a pass: it is infra where the world around the sandbox
// failed, else unproven.
func (r Requirement) Judge(s *evidence.Sandbox) Outcome {
	if problem := bootProblem(s); problem != nil && r.ID == BootEnvdAnswers {
		return r.stamp(judgeBoot(problem))
	}
	for _, piece := range r.Needs {
		if Present(s, piece) {
			continue
		}
		if slices.Contains(s.NotAsked, piece) {
			return r.stamp(untried())
		}
		return r.stamp(missing(s, piece))
	}
	if another := anotherGuest(s); another != "" && slices.Contains(r.Needs, evidence.PieceSnapshot) {
		return r.stamp(notThisGuest(s, another))
	}
	return r.stamp(r.judge(&subject{Sandbox: s, promise: promiseOf(s)}))
}

// anotherGuest is the sandbox that a guest says it is, where that is another
// than the one that was created; else empty. An old client ID may stand behind
// either ID.
func anotherGuest(s *evidence.Sandbox) string {
	for _, look := range []*evidence.Snapshot{s.Snapshot, s.Later} {
		if look == nil || look.SandboxID == "" || s.API == nil {
			continue
		}
		said, _, _ := strings.Cut(look.SandboxID, "-")
		created, _, _ := strings.Cut(s.API.SandboxID, "-")
		if said != created {
			return look.SandboxID
		}
	}
	return ""
}

// notThisGuest is the outcome of whatever is read in a guest that is another
// sandbox's.
func notThisGuest(s *evidence.Sandbox, another string) Outcome {
	o := infra("the guest that was looked at is sandbox %s, and not the one that was created, %s: the way to sandboxes mixes them up", another, s.API.SandboxID)
	o.Read, o.Wanted = "E2B_SANDBOX_ID="+another, "sandbox "+s.API.SandboxID
	o.Next = "see where the sandbox URL (E2B_SANDBOX_URL) and each proxy behind it lead"
	return o
}

func (r Requirement) stamp(o Outcome) Outcome {
	o.Requirement = r.ID
	if o.Next == "" && !o.Result.Green() {
		o.Next = r.Next
	}
	return o
}

// Present tells whether a piece of evidence was collected, whatever it says.
func Present(s *evidence.Sandbox, piece evidence.Piece) bool {
	switch piece {
	case evidence.PieceAPI:
		return s.API != nil
	case evidence.PieceDisk:
		return s.Disk != nil
	case evidence.PieceHealth:
		return s.Health != nil
	case evidence.PieceSnapshot:
		return s.Snapshot != nil
	case evidence.PiecePlacement:
		return s.Placement != nil
	case evidence.PieceCPU:
		return s.CPU != nil
	case evidence.PieceMemory:
		return s.Memory != nil
	case evidence.PieceLater:
		return s.Later != nil
	case evidence.PieceLifecycle:
		return s.Lifecycle != nil
	case evidence.PieceLog:
		return s.Log != nil
	}
	return false
}

// untried is the outcome where a run did not ask for an experiment.
func untried() Outcome {
	o := notApplicable("not tried: this run made no experiments, which are for the profiles gate and extended, or for experiments: on in ginkgo.yml")
	o.Untried = true
	return o
}

// missing explains the absence of a piece, by its own problem or by the first
// earlier one: without a sandbox there is no snapshot.
func missing(s *evidence.Sandbox, piece evidence.Piece) Outcome {
	if own := s.ProblemOf(piece); own != nil {
		return ofProblem(own, true)
	}
	for _, earlier := range evidence.Pieces() {
		problem := s.ProblemOf(earlier)
		if problem != nil {
			return ofProblem(problem, false)
		}
		if earlier == piece {
			break
		}
	}
	o := unproven("there is no %s evidence and no record of why", piece)
	o.Next = "run the whole suite again with this sandproof: this evidence was never collected, or was recorded by an older one"
	return o
}

// ofProblem tells a problem whole where it is the piece's own, else by its
// first line: what could not be seen for the lack of a sandbox need not tell
// the sandbox's whole story each time, and why a guest does not come up is told
// by the requirement that it does.
func ofProblem(p *evidence.Problem, own bool) Outcome {
	text := p.Error
	if first, _, more := strings.Cut(text, "\n"); more && (!own || p.Kind == evidence.ProblemBoot) {
		text = first + " …"
	}
	reason := fmt.Sprintf("%s: %s", p.Call, text)
	if p.Meaning != "" {
		reason += "; " + p.Meaning
	}
	if p.Kind == evidence.ProblemInfra {
		return infra("%s", reason)
	}
	return Outcome{Result: Unproven, Reason: reason}
}

func infra(reason string, args ...any) Outcome {
	return Outcome{
		Result: Infra, Reason: fmt.Sprintf(reason, args...),
		Next: "mend the way to the sandbox and run again; this says nothing about the template",
	}
}

func pass(read, wanted, reason string, args ...any) Outcome {
	return Outcome{Result: Pass, Reason: fmt.Sprintf(reason, args...), Read: read, Wanted: wanted}
}

func fail(read, wanted, reason string, args ...any) Outcome {
	return Outcome{Result: Fail, Reason: fmt.Sprintf(reason, args...), Read: read, Wanted: wanted}
}

func unproven(reason string, args ...any) Outcome {
	return Outcome{Result: Unproven, Reason: fmt.Sprintf(reason, args...)}
}

// advise adds a note for the verdict.
func (o Outcome) advise(advice string, args ...any) Outcome {
	o.Advice = fmt.Sprintf(advice, args...)
	return o
}

func notApplicable(reason string, args ...any) Outcome {
	return Outcome{Result: NotApplicable, Reason: fmt.Sprintf(reason, args...)}
}

// words joins names for a sentence: "cpu and memory".
func words(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
