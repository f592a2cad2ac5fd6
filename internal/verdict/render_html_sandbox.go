package verdict

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/cgroup2"
	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// templateView is a template with its sandboxes.
type templateView struct {
	ID, Name string
	Now      mark
	Was      *mark
	Changed  bool
	// Open is true where the details are to be seen at once.
	Open bool
	// Where is the stage at which it broke, with the requirement that decided.
	Where, Link, Why string
	// Next is what to do, Command what to run then.
	Next, Command string
	Notes         []string
	Groups        []changeGroup
	Seen          []string
	Sandboxes     []sandboxView
	// Brief says why details are missing, empty where none are.
	Brief string
}

// changeGroup is one kind of change, such as what was fixed.
type changeGroup struct {
	Name    string
	Changes []changeView
}

type changeView struct {
	Requirement, Link, Title string
	Was, Now                 mark
	Reason                   string
}

// sandboxView is everything that is shown of one sandbox.
type sandboxView struct {
	ID, Name, RawID string
	// Alone is true for the only sandbox of its template.
	Alone     bool
	Word      *mark
	Facts     []factView
	Absent    []absentView
	Groups    []groupView
	Unknown   string // why nothing can be expected of its cgroups
	Compared  bool   // there is a sandbox of the run before
	Timeline  timelineView
	CPU       *cpuView
	Memory    *memoryView
	Witnesses []witnessView
	Log       *logView
	Stages    []stageView
	// Brief is true where all but the outcomes is left out, Details where there
	// is more.
	Brief, Details bool
}

type factView struct{ Name, Value string }

// absentView is a piece of evidence that is not there.
type absentView struct{ Piece, Why string }

func (h *htmlReport) template(i int, name string, brief bool) templateView {
	now := verdictIn(h.Report, name)
	v := templateView{ID: templateID(i), Name: shown(name), Now: wordMark(now), Changed: h.changed(name), Open: h.needed(name)}
	if h.before != nil {
		m := wordMark(verdictIn(h.before, name))
		v.Was = &m
	}
	if brief {
		v.Brief = "only the outcomes are shown, to keep this page small; what was seen stands in the run's directory evidence/"
	}
	if now != nil {
		v.Why, v.Notes = told(now.Reason), someOf(now.Notes)
		v.Next, v.Command = nextOf(now.Next)
		if now.Stage != "" {
			v.Where, v.Link = shown(string(now.Stage)), stageID(i, now.Stage)
			if now.Requirement != "" {
				v.Where += " (" + shown(string(now.Requirement)) + ")"
			}
		}
	}
	if t := h.change(name); t != nil {
		for _, group := range diffGroups(*t) {
			if len(group.changes) > 0 {
				v.Groups = append(v.Groups, viewOfChanges(group))
			}
		}
		v.Seen = someOf(t.Seen)
	}
	all := h.sandboxesOf(name)
	for number, s := range all {
		one := h.sandboxView(i, number, s, brief)
		one.Alone = len(all) == 1
		if now != nil && number < len(now.Sandboxes) {
			m := wordMark(&Verdict{Word: now.Sandboxes[number]})
			one.Word = &m
		}
		v.Sandboxes = append(v.Sandboxes, one)
	}
	return v
}

// nextOf parts what to do from the command that looks again. A command is one
// line, whatever a name in it holds.
func nextOf(next string) (step, command string) {
	at := strings.LastIndex(next, runAgain)
	if at < 0 {
		return told(next), ""
	}
	return told(strings.TrimSuffix(next[:at], "; then ")), oneLine(next[at+len(runAgain):])
}

// oneLine keeps a text from being several lines.
func oneLine(text string) string { return strings.ReplaceAll(shown(text), "\n", `\x0a`) }

func viewOfChanges(group diffGroup) changeGroup {
	v := changeGroup{Name: group.name}
	for _, c := range group.changes {
		v.Changes = append(v.Changes, changeView{
			shown(string(c.Requirement)), requirementID(c.Requirement), shown(c.Title), markOf(c.Before), markOf(c.After), told(c.Reason),
		})
	}
	return v
}

func (h *htmlReport) sandboxView(i, number int, s Sandbox, brief bool) sandboxView {
	v := sandboxView{ID: sandboxID(i, number), RawID: rawID(i, number), Name: shown(s.Name), Brief: brief}
	outcomes := outcomesOf(s.Outcomes)
	var was map[requirement.ID]requirement.Outcome
	before := sandboxNamed(h.before, s.Name)
	if before != nil {
		was, v.Compared = outcomesOf(before.Outcomes), true
	}
	v.Stages = stageViews(config.Profile(h.Profile), i, number, outcomes, was, h.before != nil, brief)
	if s.Evidence == nil {
		v.Absent = []absentView{{"all", "no evidence of this sandbox was recorded: it was never created, or the process that looked at it was lost"}}
		return v
	}
	v.Absent = absentOf(s.Evidence)
	if brief {
		return v
	}
	v.Details = true
	v.Facts = factsOf(s.Evidence)
	var earlier *evidence.Sandbox
	if before != nil {
		earlier = before.Evidence
	}
	v.Groups, v.Unknown = cgroupTree(s.Evidence, earlier, outcomes)
	v.Timeline = bootTimeline(s.Evidence)
	v.CPU = cpuPlot(s.Evidence, earlier, outcomes)
	v.Memory = memoryPlot(s.Evidence, outcomes)
	v.Witnesses = witnesses(s.Evidence, outcomes)
	v.Log = logSlice(s.Evidence)
	return v
}

func outcomesOf(outcomes []requirement.Outcome) map[requirement.ID]requirement.Outcome {
	byID := map[requirement.ID]requirement.Outcome{}
	for _, o := range outcomes {
		byID[o.Requirement] = o
	}
	return byID
}

// absentOf names the evidence that is not there, and why.
func absentOf(s *evidence.Sandbox) []absentView {
	var absent []absentView
	for _, piece := range evidence.Pieces() {
		if requirement.Present(s, piece) {
			continue
		}
		why := "there is no record of why"
		switch p := s.ProblemOf(piece); {
		case p != nil:
			why = told(problemText(*p))
		case slices.Contains(s.NotAsked, piece):
			why = "this run did not ask for it"
		case piece == evidence.PieceDisk:
			why = "no storage is configured"
		case len(s.Problems) > 0:
			why = "it was not reached: see " + shown(string(s.Problems[0].Piece))
		}
		absent = append(absent, absentView{string(piece), why})
	}
	for i, p := range s.Problems {
		if i == mostNotes {
			break
		}
		if requirement.Present(s, p.Piece) {
			absent = append(absent, absentView{shown(string(p.Piece)) + ", in part", told(problemText(p))})
		}
	}
	return absent
}

func problemText(p evidence.Problem) string {
	text := fmt.Sprintf("%s: %s", p.Call, p.Error)
	if p.Meaning != "" {
		text += "; " + p.Meaning
	}
	return text
}

// factsOf identify the sandbox. What was not seen is left out here, and told
// among what is absent.
func factsOf(s *evidence.Sandbox) []factView {
	var facts []factView
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, factView{name, shown(value)})
		}
	}
	if a := s.API; a != nil {
		add("sandbox", a.SandboxID)
		add("template", strings.TrimSpace(a.TemplateID+" "+parens(a.Alias)))
		add("build", a.BuildID)
		add("node", a.NodeID)
	}
	if n := s.Snapshot; n != nil {
		if e := n.Envd; e != nil {
			text := strings.TrimSpace(e.Version + " " + parens(e.Commit))
			if s.API != nil && s.API.EnvdVersion != "" && s.API.EnvdVersion != e.Version {
				text += "; the API says " + s.API.EnvdVersion
			}
			add("envd", text)
			add("generation", requirement.GenerationName(s))
		}
		add("kernel", strings.TrimSpace(n.Kernel.Release+" "+n.Kernel.Machine))
		if n.MemTotal > 0 {
			add("memory", fmt.Sprintf("%s (MemTotal %d)", human(n.MemTotal), n.MemTotal))
		}
		if p := n.InitProgram; p != nil {
			add("init", fmt.Sprintf("%s, SHA-256 %.12s…", p.Path, p.SHA256))
		}
		add("boot", bootText(s))
	}
	return facts
}

func parens(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

func bootText(s *evidence.Sandbox) string {
	if s.API == nil {
		return ""
	}
	resumed, why, err := s.ResumedBefore()
	switch {
	case err != nil:
		return "not known: " + err.Error()
	case resumed:
		return "resumed from a snapshot: " + why
	}
	return "cold, within the create call"
}

// human shows bytes in the unit that people use for them.
func human(bytes uint64) string {
	const kibi, mebi, gibi = 1 << 10, 1 << 20, 1 << 30
	switch {
	case bytes >= gibi:
		return fmt.Sprintf("%.2f GiB", float64(bytes)/gibi)
	case bytes >= mebi:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/mebi)
	case bytes >= kibi:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/kibi)
	}
	return strconv.FormatUint(bytes, 10) + " B"
}

// groupView is one node of the cgroup tree.
type groupView struct {
	Path       string
	Root       bool
	State      string
	Mark       mark
	Properties []propertyView
	Processes  []processView
}

// propertyView is an interface file: what is expected of it beside what it
// reads. Was is what it read in the run before.
type propertyView struct {
	File, Wanted, Was, Read, Human string
	Mark                           mark
	Changed                        bool
}

// processView is a process where it really lives.
type processView struct {
	What, Detail string
	// Wanted is where it should be, empty where nobody promises that. Astray is
	// true for one that is elsewhere.
	Wanted string
	Astray bool
	Mark   *mark
}

// cgroupTree is the root and the groups below it, with the processes in place.
// The second result says why nothing can be expected.
func cgroupTree(s, before *evidence.Sandbox, outcomes map[requirement.ID]requirement.Outcome) ([]groupView, string) {
	expected, err := requirement.Expectations(s)
	unknown := ""
	if err != nil {
		unknown = told(err.Error())
	}
	if s.Snapshot == nil && s.Placement == nil {
		return nil, unknown
	}
	tree := []groupView{rootGroup(s.Snapshot, snapshotOf(before), expected, outcomes)}
	for _, name := range []string{"user", "ptys", "socats"} {
		group, state := groupOf(s.Snapshot, name)
		earlier, _ := groupOf(snapshotOf(before), name)
		g := groupView{Path: "/" + name, State: state}
		decisive := []requirement.ID{requirement.CreateGroups}
		for _, e := range expected {
			if e.Group != name {
				continue
			}
			result := outcomes[e.Requirement].Result
			if !result.Green() {
				decisive = append(decisive, e.Requirement)
			}
			g.Properties = append(g.Properties, property(e.File, e.Wanted, earlier, group, before != nil, result))
		}
		g.Mark = markOf(worstOf(outcomes, decisive))
		tree = append(tree, g)
	}
	return placeProcesses(s, tree, outcomes), unknown
}

// worstOf is the worst result of those requirements that were judged; empty
// where none was.
func worstOf(outcomes map[requirement.ID]requirement.Outcome, ids []requirement.ID) requirement.Result {
	var worst requirement.Result
	for _, id := range ids {
		if o, judged := outcomes[id]; judged && (worst == "" || Worse(o.Result, worst)) {
			worst = o.Result
		}
	}
	return worst
}

func snapshotOf(s *evidence.Sandbox) *evidence.Snapshot {
	if s == nil {
		return nil
	}
	return s.Snapshot
}

// rootGroup is the root of the tree: what the kernel offers, and what is
// enabled for the groups below.
func rootGroup(s, before *evidence.Snapshot, expected []requirement.Expectation, outcomes map[requirement.ID]requirement.Outcome) groupView {
	g := groupView{Path: "/", Root: true, Mark: markOf(outcomes[requirement.MountCgroup2].Result), State: "the guest was not seen"}
	var needed []string
	for _, e := range expected {
		if controller, _, _ := strings.Cut(e.File, "."); !slices.Contains(needed, controller) {
			needed = append(needed, controller)
		}
	}
	var root, earlier evidence.Group
	if s != nil {
		root, g.State = s.Root, shown(s.Root.Path)+", file system "+fileSystem(s.Root.FSMagic)
	}
	if before != nil {
		earlier = before.Root
	}
	for _, row := range []struct {
		file string
		ids  []requirement.ID
	}{
		{"cgroup.controllers", []requirement.ID{requirement.OfferCPU, requirement.OfferMemory, requirement.OfferIO}},
		{"cgroup.subtree_control", []requirement.ID{requirement.EnableCPU, requirement.EnableMemory, requirement.EnableIO}},
	} {
		wanted := strings.Join(needed, " ")
		if wanted == "" {
			wanted = "nothing"
		}
		g.Properties = append(g.Properties, property(row.file, wanted, earlier, root, before != nil, worstOf(outcomes, row.ids)))
	}
	return g
}

func fileSystem(magic uint64) string {
	switch magic {
	case evidence.CGroup2Magic:
		return "cgroup2"
	case 0:
		return "not known"
	}
	return fmt.Sprintf("0x%x, which is not cgroup2", magic)
}

// groupOf is a group of a snapshot, with its state in words.
func groupOf(s *evidence.Snapshot, name string) (evidence.Group, string) {
	if s == nil {
		return evidence.Group{}, "the guest was not seen"
	}
	g, looked := s.Groups[name]
	switch {
	case !looked:
		return g, "not looked at"
	case g.Error != "":
		return g, told(g.Error)
	case !g.Exists:
		return g, "does not exist"
	case g.FSMagic != evidence.CGroup2Magic:
		return g, "exists on file system " + fileSystem(g.FSMagic)
	}
	return g, "exists"
}

func property(file, wanted string, before, now evidence.Group, compared bool, result requirement.Result) propertyView {
	p := propertyView{File: file, Wanted: shown(wanted), Read: readText(now, file), Mark: markOf(result)}
	if wanted == "" {
		p.Wanted = "not known: the guest's memory was not read"
	}
	if compared {
		p.Was = readText(before, file)
		p.Changed = p.Was != p.Read
	}
	if n, err := strconv.ParseUint(wanted, 10, 64); err == nil && strings.HasPrefix(file, "memory.") {
		p.Human = human(n)
	}
	return p
}

// readText is what an interface file reads, or why it has no text.
func readText(g evidence.Group, file string) string {
	f, looked := g.Files[file]
	switch {
	case !looked:
		return "not seen"
	case f.Errno == "ENOENT":
		return "no such file"
	case f.Errno != "":
		return shown(f.Errno)
	case strings.TrimSpace(f.Text) == "":
		return "empty"
	}
	return shown(strings.TrimSpace(f.Text))
}

// placeProcesses puts every process that was seen where the kernel says that it
// lives; another group than those of the tree gets a node of its own.
func placeProcesses(s *evidence.Sandbox, tree []groupView, outcomes map[requirement.ID]requirement.Outcome) []groupView {
	add := func(where string, p processView) {
		i := slices.IndexFunc(tree, func(g groupView) bool { return g.Path == where })
		if i < 0 {
			tree = append(tree, groupView{Path: shown(where), State: "another group", Mark: mark{"none", "·", "not envd's"}})
			i = len(tree) - 1
		}
		tree[i].Processes = append(tree[i].Processes, p)
	}
	if n := s.Snapshot; n != nil {
		add(whereText(n.Init), processView{What: "init", Detail: processText(n.Init)})
		if n.Envd != nil {
			add(whereText(n.Envd.Process), processView{What: "envd", Detail: processText(n.Envd.Process)})
		}
	}
	for _, kind := range placedKinds(s.Placement) {
		result := markOf(outcomes[kind.id].Result)
		p := processView{What: kind.what, Wanted: "/" + kind.group, Mark: &result}
		switch {
		case kind.placed == nil:
			p.Detail = "was not tried"
			add(p.Wanted, p)
		case kind.placed.Process == nil:
			p.Detail = "was not seen: " + told(kind.placed.Error)
			add(p.Wanted, p)
		default:
			p.Detail = processText(*kind.placed.Process)
			where := whereText(*kind.placed.Process)
			// A group below another mount's root has a longer path, and is the one
			// that envd made all the same.
			if outcomes[kind.id].Result == requirement.Pass {
				where = p.Wanted
			}
			p.Astray = where != p.Wanted
			add(where, p)
		}
	}
	return tree
}

// placedKind is a kind of process that was provoked, and where it belongs.
type placedKind struct {
	id          requirement.ID
	what, group string
	placed      *evidence.Placed
}

func placedKinds(p *evidence.Placement) []placedKind {
	if p == nil {
		return nil
	}
	return []placedKind{
		{requirement.PlaceCommand, "command", "user", p.Command},
		{requirement.PlaceChild, "its child", "user", p.Child},
		{requirement.PlaceGrandchild, "daemonised grandchild", "user", p.Grandchild},
		{requirement.PlacePTY, "terminal", "ptys", p.PTY},
		{requirement.PlaceForwarder, "port forwarder", "socats", p.Forwarder},
	}
}

func whereText(p evidence.Process) string {
	where, err := cgroup2.ParseProcCgroup(p.Cgroup)
	if err != nil {
		return "not known"
	}
	return where
}

func processText(p evidence.Process) string {
	text := fmt.Sprintf("PID %d", p.PID)
	if p.Comm != "" {
		text += " " + shown(p.Comm)
	}
	if p.OOMScoreAdj != nil {
		text += fmt.Sprintf(", oom_score_adj %d", *p.OOMScoreAdj)
	}
	if p.Nice != nil {
		text += fmt.Sprintf(", nice %d", *p.Nice)
	}
	return text
}

// witnessView is one limit, with what each of the three witnesses says of it.
type witnessView struct {
	Limit            string
	Log, Guest, Bite testimony
	// Verdict says whether they agree.
	Agree string
}

type testimony struct {
	Mark mark
	Says string
}

// witnesses hear the log, the guest and the experiments about each promised
// limit.
func witnesses(s *evidence.Sandbox, outcomes map[requirement.ID]requirement.Outcome) []witnessView {
	expected, err := requirement.Expectations(s)
	if err != nil {
		return nil
	}
	var all []witnessView
	for _, e := range expected {
		o := outcomes[e.Requirement]
		w := witnessView{
			Limit: "/" + e.Group + "/" + e.File,
			Log:   logSays(s, e, outcomes),
			Guest: testimony{markOf(o.Result), cmpOr(told(o.Read), told(o.Reason))},
			Bite:  biteSays(e, outcomes),
		}
		w.Agree = agreement(w.Log.Mark, w.Guest.Mark, w.Bite.Mark)
		all = append(all, w)
	}
	return all
}

func cmpOr(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// logSays is what the log, or the guest's own journal, says of one limit.
// A failure that names no limit is of all.
func logSays(s *evidence.Sandbox, e requirement.Expectation, outcomes map[requirement.ID]requirement.Outcome) testimony {
	if s.Log != nil {
		for _, f := range s.Log.Findings {
			if f.Class != evidence.FindingFailure {
				continue
			}
			named := f.Property != "" || f.Group != ""
			ours := (f.Property == "" || f.Property == e.File) && (f.Group == "" || path.Base(f.Group) == e.Group)
			if !named || ours {
				return testimony{markOf(requirement.Fail), told(f.Message)}
			}
		}
	}
	quiet := outcomes[requirement.LogNoFailure]
	if kept := outcomes[requirement.LogJournal]; kept.Result == requirement.Pass || kept.Result == requirement.Fail {
		quiet = kept
	}
	if strings.HasPrefix(e.File, "io.") && quiet.Result != requirement.Fail {
		quiet = outcomes[requirement.LogNoIOLoss]
	}
	switch quiet.Result {
	case requirement.Pass:
		return testimony{markOf(requirement.Pass), "no complaint, and the log is alive"}
	case requirement.Fail:
		return testimony{markOf(requirement.NotApplicable), "complains, and not of this limit"}
	case requirement.Unproven, requirement.Inert, requirement.NotApplicable, requirement.Infra:
	}
	return testimony{markOf(quiet.Result), told(quiet.Reason)}
}

// biteSays is what became of a process that wanted more than this limit.
func biteSays(e requirement.Expectation, outcomes map[requirement.ID]requirement.Outcome) testimony {
	id := requirement.ID("")
	switch {
	case e.File == "cpu.weight" && e.Group != "socats":
		id = requirement.BiteCPU
	case e.Group == "user" && (e.File == "memory.high" || e.File == "memory.max"):
		id = requirement.BiteMemory
	}
	if id == "" {
		return testimony{mark{"none", "·", "not tried"}, "no experiment tries this limit"}
	}
	o := outcomes[id]
	if o.Untried {
		return testimony{mark{"none", "·", "not tried"}, "this run made no experiments"}
	}
	return testimony{markOf(o.Result), cmpOr(told(o.Reason), "no outcome was recorded")}
}

// agreement compares those witnesses that speak.
func agreement(marks ...mark) string {
	good, bad := 0, 0
	for _, m := range marks {
		switch m {
		case markOf(requirement.Pass):
			good++
		case markOf(requirement.Fail):
			bad++
		}
	}
	switch {
	case good > 0 && bad > 0:
		return "they disagree"
	case good+bad == 0:
		return "nobody speaks"
	case good+bad == 1:
		return "one speaks"
	}
	return "they agree"
}

// logView is the slice of the log in which the sandbox was made.
type logView struct {
	From, To        string
	Facts, Coverage []string
	Lines           []logLine
	Omitted         int
	// Own are lines of envd that the guest itself keeps.
	Own []string
}

type logLine struct {
	At, Class, Rule, Message string
	Bad                      bool
}

// The bounds of a log slice.
const (
	mostLines   = 40
	mostSources = 10
)

// logSlice is what the log window found, failures first to be kept and all in
// the order of the log; nil where there was no window.
func logSlice(s *evidence.Sandbox) *logView {
	l := s.Log
	if l == nil {
		return nil
	}
	v := &logView{From: clock(l.Start), To: clock(l.End)}
	v.Facts = append(v.Facts, fmt.Sprintf("%d records name this sandbox", l.OwnRecords))
	if l.Foreign > 0 {
		v.Facts = append(v.Facts, fmt.Sprintf("%d findings are of other sandboxes and do not count", l.Foreign))
	}
	if !l.Settled {
		v.Facts = append(v.Facts, "the log was not quiet when the window was closed")
	}
	if c := l.Canary; c != nil {
		text := "a line was written to " + shown(c.Device) + " to see whether it comes out of the log"
		if c.Error != "" {
			text = "no line could be written to the console: " + told(c.Error)
		}
		v.Facts = append(v.Facts, text)
	}
	if l.API != nil {
		text := fmt.Sprintf("the API's own log of the sandbox has %d entries", l.API.Entries)
		if l.API.Error != "" {
			text = "the API's own log of the sandbox could not be read: " + told(l.API.Error)
		}
		v.Facts = append(v.Facts, text)
	}
	for i, c := range l.Coverage {
		if i == mostSources {
			v.Coverage = append(v.Coverage, fmt.Sprintf("… and %d more", len(l.Coverage)-i))
			break
		}
		v.Coverage = append(v.Coverage, fmt.Sprintf("%s: bytes %d to %d", shown(c.Source), c.From, c.To))
	}
	if len(l.Coverage) == 0 {
		v.Coverage = append(v.Coverage, "nothing was read, so silence proves nothing")
	}
	for i, hole := range l.Holes {
		if i == mostSources {
			break
		}
		v.Coverage = append(v.Coverage, "HOLE: "+told(hole))
	}
	bad := func(f evidence.Finding) bool {
		return f.Class == evidence.FindingFailure || f.Class == evidence.FindingUnknown
	}
	room := mostLines
	keep := make([]bool, len(l.Findings))
	for _, wanted := range []bool{true, false} {
		for i, f := range l.Findings {
			if bad(f) == wanted && room > 0 {
				keep[i] = true
				room--
			}
		}
	}
	for i, f := range l.Findings {
		if !keep[i] {
			v.Omitted++
			continue
		}
		v.Lines = append(v.Lines, logLine{clock(f.Time), shown(string(f.Class)), shown(f.Rule), shown(strings.TrimSpace(f.Message)), bad(f)})
	}
	v.Own = ownLines(s)
	return v
}

// ownLines are those of envd that speak of cgroups, and that the guest's
// journal or log file has.
func ownLines(s *evidence.Sandbox) []string {
	if s.Snapshot == nil || s.Snapshot.Envd == nil {
		return nil
	}
	var lines []string
	if j := s.Snapshot.Envd.Journal; j != nil {
		lines = append(lines, j.Lines...)
	}
	if f := s.Snapshot.Envd.LogFile; f != nil {
		lines = append(lines, f.Lines...)
	}
	return someOf(lines)
}

// clock is a time of day to the millisecond.
func clock(t time.Time) string {
	if t.IsZero() {
		return "time not known"
	}
	return t.UTC().Format("15:04:05.000")
}

// stageView is one stage's requirements with their outcomes.
type stageView struct {
	// ID is empty in all but the template's first sandbox, which the matrix
	// leads to.
	ID    string
	Stage string
	Mark  mark
	Rows  []outcomeView
	// Held names the requirements that hold, where their rows are left out.
	Held []string
}

type outcomeView struct {
	ID, Link, Level            string
	Now                        mark
	Was                        *mark
	Changed                    bool
	Reason, Read, Wanted, Next string
}

// stageViews lists every requirement: also one that was never executed, and one
// that only another version of sandproof knows.
func stageViews(profile config.Profile, i, number int, outcomes, was map[requirement.ID]requirement.Outcome, compared, brief bool) []stageView {
	var views []stageView
	known := map[requirement.ID]bool{}
	worst := worstByStage(profile, slices.Collect(maps.Values(outcomes)))
	all := requirement.All()
	for _, stage := range requirement.Stages() {
		v := stageView{Stage: string(stage), Mark: markOf(worst[stage])}
		if number == 0 {
			v.ID = stageID(i, stage)
		}
		for _, r := range all {
			if r.Stage != stage {
				continue
			}
			known[r.ID] = true
			o := outcomes[r.ID]
			if brief && o.Result.Green() {
				v.Held = append(v.Held, string(r.ID))
				continue
			}
			v.Rows = append(v.Rows, outcomeRow(r.ID, string(r.Level), o, was[r.ID], compared))
		}
		views = append(views, v)
	}
	var gone []requirement.ID
	for id := range outcomes {
		if !known[id] {
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return views
	}
	slices.Sort(gone)
	other := stageView{Stage: "of another sandproof", Mark: mark{"none", "·", "not judged"}}
	for _, id := range gone[:min(len(gone), mostNotes)] {
		other.Rows = append(other.Rows, outcomeRow(id, "not known", outcomes[id], was[id], compared))
	}
	return append(views, other)
}

func outcomeRow(id requirement.ID, level string, o, was requirement.Outcome, compared bool) outcomeView {
	v := outcomeView{
		ID: shown(string(id)), Link: requirementID(id), Level: level, Now: markOf(o.Result),
		Reason: told(o.Reason), Read: told(o.Read), Wanted: told(o.Wanted),
	}
	switch {
	case o.Result == "":
		v.Reason = "it was not executed: it was filtered out, or the run ended before it"
	case !o.Result.Green():
		v.Next = told(o.Next)
	}
	if o.Muted() {
		v.Reason += " (this witness cannot speak here, so the others decide)"
	}
	if compared {
		m := markOf(was.Result)
		v.Was, v.Changed = &m, was.Result != o.Result
	}
	return v
}
