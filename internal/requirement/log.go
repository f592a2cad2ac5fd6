package requirement

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sandproof/internal/evidence"
)

// The requirements of stage log.
const (
	LogNoFailure  ID = "log.no-failure"
	LogNoFallback ID = "log.no-fallback"
	LogJournal    ID = "log.journal"
	LogNoIOLoss   ID = "log.no-io-loss"
	LogAgrees     ID = "log.agrees"
)

// FallbackRule is the log rule of the line with which envd gives up its
// cgroups; every other failure rule is a cause or a loss of single limits.
const FallbackRule = "CG003"

// CanaryRule is the log rule of the line that the probe itself writes.
const CanaryRule = "BT010"

// skipRule is the log rule of the line with which envd leaves one limit out.
const skipRule = "CG004"

func logRequirements() []Requirement {
	needs := []evidence.Piece{evidence.PieceAPI}
	// The snapshot tells what silence means, and whether this boot could be in
	// the log at all; lines that are there speak for themselves.
	helps := []evidence.Piece{evidence.PieceSnapshot, evidence.PieceLog}
	inputs := []string{
		"log/coverage", "log/settled", "log/findings", "log/findings/class", "log/findings/confidence",
		"snapshot/envd/version", "snapshot/envd/process/stderr", "snapshot/init/stderr", "snapshot/boot/uptimeSeconds", "snapshot/received", "api/requested",
	}
	const reference = "e2b-dev/infra packages/envd/main.go, createCgroupManager: raw lines on standard error, silent on success"
	return []Requirement{
		{
			ID: LogNoFailure, Title: "the log holds no cgroup failure", Stage: StageLog, Level: LevelCore,
			Why:       "envd says on its standard error what it could not set up, and nothing else tells it from outside the guest.",
			Next:      "read the findings with their file and offset in the evidence; see the first failing stage for the mend",
			Reference: reference, Needs: needs, Helps: helps, Inputs: inputs,
			judge: func(c *subject) Outcome {
				return judgeLog(c, "a cgroup failure", func(f evidence.Finding) bool { return f.Rule != FallbackRule && !ioLoss(f) })
			},
		},
		{
			ID: LogNoFallback, Title: "the log holds no fallback to the no-op manager", Stage: StageLog, Level: LevelCore,
			Why:       "After this line envd starts every process without any limit.",
			Next:      "read the lines before it, which say why; see the first failing stage for the mend",
			Reference: reference, Needs: needs, Helps: helps, Inputs: inputs,
			judge: func(c *subject) Outcome {
				return judgeLog(c, "the fallback to the no-op cgroup manager", func(f evidence.Finding) bool { return f.Rule == FallbackRule })
			},
		},
		{
			ID: LogJournal, Title: "envd's own journal or log file holds no cgroup failure", Stage: StageLog, Level: LevelCore,
			Why: "Under systemd envd's standard error goes to the guest's journal, under OpenRC and some scripts to a file, and never to the orchestrator's log; " +
				"and where a sandbox is resumed, they alone still have the lines of the boot that was saved.",
			Next:      "read them in the guest: journalctl -b _PID=PID, or the file; see the first failing stage for the mend",
			Reference: reference + "; systemd.exec(5) StandardError=; systemd.journal-fields(7); proc_pid_fdinfo(5)", Needs: []evidence.Piece{evidence.PieceSnapshot},
			Inputs: []string{
				"snapshot/envd/version", "snapshot/envd/journal/control",
				"snapshot/envd/logFile/control", "snapshot/envd/logFile/mode", "snapshot/envd/logFile/position",
			},
			judge: judgeKept,
		},
		{
			ID: LogNoIOLoss, Title: "the log holds no loss of an IO weight", Stage: StageLog, Level: LevelExtended,
			Why:       "From f4bd1b24b on envd leaves out a limit whose file does not exist and says so in one line; the IO weights alone weigh less than the others.",
			Next:      "see enable.io and the IO weights of stage value",
			Reference: reference + "; f4bd1b24b", Needs: needs, Helps: helps, Inputs: inputs,
			judge: judgeIOLoss,
		},
		{
			ID: LogAgrees, Title: "the log and the guest say the same", Stage: StageLog, Level: LevelExtended,
			Why: "A log that complains of a guest that is right, or is clean about one that is wrong, misleads whoever reads only the log: " +
				"the usual search for \"cgroup\" or \"falling back\" was wrong on 31 of 206 boots of real envd.",
			Next:      "believe the guest's files and processes; find why the log tells another story",
			Reference: reference + "; f4bd1b24b", Needs: []evidence.Piece{evidence.PieceAPI, evidence.PieceSnapshot, evidence.PiecePlacement},
			Helps: []evidence.Piece{evidence.PieceLog}, Inputs: []string{"snapshot/envd/version"},
			judge: judgeLogAgrees,
		},
	}
}

// ioLoss tells a line that leaves out an IO weight.
func ioLoss(f evidence.Finding) bool {
	return f.Rule == skipRule && strings.HasPrefix(f.Property, "io.")
}

// judgeIOLoss knows that a kernel without io cost control has no io.weight to
// set.
func judgeIOLoss(c *subject) Outcome {
	o := judgeLog(c, "the loss of an IO weight", ioLoss)
	if k := keptOf(c.Sandbox); k.speaks() && o.Result != Fail {
		if lost, _ := journalLosses(k.lines); len(lost) > 0 {
			o = fail(fmt.Sprintf("%q", lost[0]), "no such line", "%s holds the loss of an IO weight (%s)", k.name, count(len(lost), "line"))
		}
	}
	if o.Result != Fail || c.Snapshot == nil || !onCgroup2(c.Sandbox) {
		return o
	}
	if on, err := enabled(c.Sandbox); err == nil && has(on, "io") {
		return notApplicable("envd left io.weight out, and io is enabled: this kernel has no io cost controller (CONFIG_BLK_CGROUP_IOCOST)")
	}
	return o
}

// guestState sums up what the guest's files and processes say of the core
// promises of this envd, without the log: all in force, something wrong, or
// open.
func guestState(c *subject) (Result, Outcome) {
	state, first := Pass, Outcome{}
	for _, r := range slices.Concat(mountRequirements(), enableRequirements(), valueRequirements(), placeRequirements()) {
		if r.Level != LevelCore {
			continue
		}
		switch o := r.Judge(c.Sandbox); o.Result {
		case Fail:
			return Fail, o
		case Unproven, Infra:
			if state == Pass {
				state, first = Unproven, o
			}
		case Pass, Inert, NotApplicable:
		}
	}
	return state, first
}

// judgeLogAgrees compares the two witnesses.
func judgeLogAgrees(c *subject) Outcome {
	k := keptOf(c.Sandbox)
	if c.Log == nil && !k.speaks() {
		return missing(c.Sandbox, evidence.PieceLog)
	}
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	if c.promise.none() {
		return notApplicable("envd %s has no cgroup code and says nothing about it", c.Snapshot.Envd.Version)
	}
	said := judgeLog(c, "a cgroup failure", func(f evidence.Finding) bool { return !ioLoss(f) })
	if said.Result != Fail && k.speaks() {
		said = judgeKept(c)
	}
	switch {
	case said.Result == NotApplicable || said.Mute:
		return notApplicable("the log cannot speak of this envd: %s", said.Reason)
	case said.Result != Pass && said.Result != Fail:
		return said
	}
	guest, first := guestState(c)
	read := fmt.Sprintf("log: %s; guest: %s", said.Result, guest)
	const wanted = "the same of both"
	switch {
	case guest == Unproven:
		return unproven("the guest was not seen whole, so there is nothing to compare the log with: %s", first.Reason)
	case guest == Pass && said.Result == Fail:
		return fail(read, wanted, "the log says that envd's cgroups failed, and the guest holds every promised value with every process in its place: %s", said.Read)
	case guest == Fail && said.Result == Pass:
		return fail(read, wanted, "the log is alive and clean, and the guest is wrong all the same: %s", first.Reason)
	}
	return pass(read, wanted, "the log and the guest agree")
}

// judgeLog looks for failures that are surely this sandbox's. Their absence
// counts only when the channel is shown to be alive from envd's standard
// error to the file: the boot lines came out, the read has no hole, and
// envd's descriptor 2 is the console whose lines were read.
func judgeLog(c *subject, what string, ours func(evidence.Finding) bool) Outcome {
	if c.Log == nil {
		if k := keptOf(c.Sandbox); k.live() {
			return notApplicable("envd's standard error goes to %s, where %s reads it", k.name, LogJournal)
		}
		if c.Snapshot != nil {
			if resumed, why, err := c.ResumedBefore(); err == nil && resumed {
				return notApplicable("resumed: %s, so envd's start-up lines were printed before this sandbox was created", why)
			}
		}
		return missing(c.Sandbox, evidence.PieceLog)
	}
	var hits, doubtful, controls, waived []evidence.Finding
	for _, f := range c.Log.Findings {
		sure := slices.Contains([]evidence.Confidence{evidence.ByField, evidence.ByOrigin, evidence.ByExclusion}, f.Confidence)
		switch {
		case f.Class == evidence.FindingFailure && !ours(f):
		case f.Class == evidence.FindingFailure && sure:
			hits = append(hits, f)
		case f.Class == evidence.FindingFailure, f.Class == evidence.FindingUnknown:
			doubtful = append(doubtful, f)
		case f.Class == evidence.FindingControl && sure:
			controls = append(controls, f)
		case f.Class == evidence.FindingWaived:
			waived = append(waived, f)
		}
	}
	var former []evidence.Finding
	if ofFormerEnvd(c, hits) {
		former, hits = hits, nil
	}
	if len(hits) > 0 {
		return fail(sample(hits), "no such line", "the orchestrator's log holds %s of this sandbox (%s)%s", what, count(len(hits), "line"), means(c, hits[0]))
	}
	if c.Snapshot == nil {
		return missing(c.Sandbox, evidence.PieceSnapshot)
	}
	if k := keptOf(c.Sandbox); k.live() {
		return notApplicable("envd's standard error goes to %s, where %s reads it", k.name, LogJournal)
	}
	if c.promise.none() {
		return notApplicable("envd %s has no cgroup code and says nothing about it", c.Snapshot.Envd.Version)
	}
	resumed, why, err := c.ResumedBefore()
	if resumed {
		return notApplicable("resumed: %s, so envd's start-up lines were printed before this sandbox was created", why)
	}
	switch {
	case err != nil:
		return unproven("%v", err)
	case c.promise.unknown != "":
		return unproven("what this envd says when its cgroups fail is not known: %s", c.promise.unknown)
	case len(c.Log.Holes) > 0:
		return unproven("the log window was not read whole: %s", strings.Join(c.Log.Holes, "; "))
	case !slices.ContainsFunc(c.Log.Coverage, func(read evidence.Coverage) bool { return read.To > read.From }):
		return unproven("nothing came into the log while this sandbox lived, so its silence proves nothing: %s", idle(c.Log.Coverage))
	case len(doubtful) > 0:
		return unproven("a line speaks of cgroup trouble and cannot be placed: %s", sample(doubtful))
	}
	stderr := c.Snapshot.Envd
	if stderr == nil {
		return unproven("the running envd was not found, so it is open whether its standard error reaches the log")
	}
	if target := stderr.Process.Stderr; target == "" {
		return unproven("where envd's standard error goes could not be read, so it is open whether it reaches the log")
	} else if !evidence.IsConsole(target) || target != c.Snapshot.Init.Stderr {
		o := unproven("envd's standard error goes to %s and not to the console that carries the init's own lines into this log, "+
			"so it could not have complained here", target)
		o.Mute = true
		return o
	}
	canary := c.Log.Canary
	switch {
	case canary != nil && canary.Error != "":
		return unproven("the probe could not write to %s, where envd's standard error goes (%s): what envd said there after the boot's lines "+
			"need not have come out either", canary.Device, canary.Error)
	case canary != nil && !slices.ContainsFunc(controls, func(f evidence.Finding) bool { return f.Rule == CanaryRule }):
		return unproven("the probe wrote a line to %s, where envd's standard error goes, and it did not come out of this log: "+
			"what was said there need not have either", canary.Device)
	case len(controls) == 0:
		return unproven("the log window holds no boot line of this sandbox, so its console may not reach this log at all")
	case !sinceStart(c, controls):
		return unproven("the log is alive, and holds nothing of this sandbox that was surely said before envd was started: " +
			"where its beginning is missing, what envd said then is missing as well")
	case !c.Log.Settled:
		return unproven("the log was not quiet before the wait for it ended, so the window may be short of its last lines")
	}
	o := pass(fmt.Sprintf("%s of this sandbox, among them those that show that the channel is alive: %s", count(c.Log.OwnRecords, "record"), rules(controls)),
		"no such line, with the channel shown to be alive", "the log carried this boot and holds no trace of %s", what)
	if len(former) > 0 {
		o = o.advise("the log holds %s of an earlier envd of this boot, and the guest is right: %s", what, sample(former))
	}
	if len(waived) > 0 {
		o = o.advise("%s is waived: %s", sample(waived), waived[0].Waiver)
	}
	return o
}

// idle names the sources that nothing came into.
func idle(coverage []evidence.Coverage) string {
	if len(coverage) == 0 {
		return "there is no log file"
	}
	names := make([]string, len(coverage))
	for i, c := range coverage {
		names[i] = c.Source
		if !c.Written.IsZero() {
			names[i] += " was last written to at " + c.Written.Format(time.RFC3339)
		}
	}
	return strings.Join(names, "; ") + "; see that this is the log of the allocation that runs, and of the node on which the sandbox did"
}

// beforeEnvd are the rules of the lines that an init prints before it starts
// envd. Its last one comes after that.
var beforeEnvd = []string{"BT001", "BT002", "BT003", "BT004"}

// sinceStart tells whether the log carried this sandbox since before its envd
// was started. What is alive by the canary may have begun a moment ago: a log
// that somebody attached after the boot, or a reader of it that was away. Where
// the init says nothing that is known, the first record of the sandbox must be
// older than envd. The log's clock may be set wrong: the canary tells by how
// much.
func sinceStart(c *subject, controls []evidence.Finding) bool {
	if slices.ContainsFunc(controls, func(f evidence.Finding) bool { return slices.Contains(beforeEnvd, f.Rule) }) {
		return true
	}
	i := slices.IndexFunc(controls, func(f evidence.Finding) bool { return f.Rule == CanaryRule })
	if i < 0 || controls[i].Time.IsZero() || c.Log.Canary == nil || c.Log.Canary.Written.IsZero() || c.Log.First.IsZero() ||
		c.Snapshot.Asked.IsZero() || c.Snapshot.Envd.Process.StartTicks == 0 {
		return false
	}
	behind := c.Log.Canary.Written.Sub(controls[i].Time)
	return c.Log.First.Add(behind).Before(c.Snapshot.Asked.Add(-ageOf(c.Snapshot)))
}

// ageOf is how long envd had run when the snapshot was taken.
func ageOf(s *evidence.Snapshot) time.Duration {
	const ticksPerSecond = 100 // USER_HZ (proc_pid_stat(5), starttime)
	return time.Duration((s.Boot.UptimeSeconds - float64(s.Envd.Process.StartTicks)/ticksPerSecond) * float64(time.Second))
}

// means says what a failure means to the envd that runs, and warns of a line
// that this one never prints.
func means(c *subject, f evidence.Finding) string {
	generation := GenerationName(c.Sandbox)
	switch says, known := f.Says[generation]; {
	case known:
		return ": " + says
	case len(f.Says) > 0 && c.promise.unknown == "" && len(c.promise.generations) == 1:
		return fmt.Sprintf(": an envd of generation %s never says so, so another one printed it", generation)
	}
	return ""
}

// ofFormerEnvd tells whether there are lines, all of them logged before the
// running envd was started, in a guest that is right: an init or a person
// started envd again. The start is reckoned back from when the snapshot arrived,
// which is late by the way of the answer.
//
// The lines have the log's clock, and the start has the harness's. The canary
// was written after the snapshot arrived, so a log that gives it an earlier time
// runs behind by that much at least; without a canary nobody can tell.
func ofFormerEnvd(c *subject, hits []evidence.Finding) bool {
	const slack = 3 * time.Second
	if len(hits) == 0 || c.Snapshot == nil || c.Snapshot.Envd == nil || c.Snapshot.Envd.Process.StartTicks == 0 || c.Snapshot.Received.IsZero() || c.Placement == nil {
		return false
	}
	canary := slices.IndexFunc(c.Log.Findings, func(f evidence.Finding) bool { return f.Rule == CanaryRule && !f.Time.IsZero() })
	if canary < 0 {
		return false
	}
	behind := max(0, c.Snapshot.Received.Sub(c.Log.Findings[canary].Time))
	started := c.Snapshot.Received.Add(-behind).Add(-ageOf(c.Snapshot))
	for _, f := range hits {
		if f.Time.IsZero() || !f.Time.Before(started.Add(-slack)) {
			return false
		}
	}
	state, _ := guestState(c)
	return state == Pass
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sample shows the first finding whole, and how many there are.
func sample(findings []evidence.Finding) string {
	text := fmt.Sprintf("%s at %s:%d: %q", findings[0].Rule, findings[0].Source, findings[0].Offset, findings[0].Message)
	if len(findings) > 1 {
		text += fmt.Sprintf(" and %d more", len(findings)-1)
	}
	return text
}

// rules lists the distinct rules of findings.
func rules(findings []evidence.Finding) string {
	var ids []string
	for _, f := range findings {
		if !slices.Contains(ids, f.Rule) {
			ids = append(ids, f.Rule)
		}
	}
	return strings.Join(ids, ", ")
}
