package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
)

// barView is a row of a plot: a stretch of its axis, from 0 to 100, beside the
// number that it stands for. One that is not Drawn has no number: an absent
// reading is never drawn as zero.
type barView struct {
	What, Value, Class string
	Drawn              bool
	From, Width        float64
	// Ticks are marks on the row, such as the share that was promised.
	Ticks []float64
}

// leastBar is how wide the narrowest stretch is drawn, so that a moment is
// seen.
const leastBar = 0.8

// bar draws from one value to another on an axis, where both are on it.
func bar(what, value, class string, from, to, low, high float64) barView {
	b := barView{What: what, Value: value, Class: class}
	a, z := onAxis(from, low, high), onAxis(to, low, high)
	if math.IsNaN(a) || math.IsNaN(z) || z < a {
		return b
	}
	b.Drawn, b.From, b.Width = true, a, max(z-a, leastBar)
	b.From = min(b.From, 100-b.Width)
	return b
}

// onAxis is where a value stands on an axis from 0 to 100; not a number where it
// is not on it.
func onAxis(value, low, high float64) float64 {
	if high <= low || !(value >= low && value <= high) { // what is no number is on no axis
		return math.NaN()
	}
	return math.Round((value-low)/(high-low)*10000) / 100
}

// timelineView is the boot, from the create call to the answer.
type timelineView struct {
	Rows []timelineRow
	// Axis is how long it is, in seconds.
	Axis string
	// Notes say what could not be drawn.
	Notes []string
}

type timelineRow struct {
	barView
	Clock string
	Bad   bool
}

// moment is something that was observed at a time, or between two.
type moment struct {
	what, clock, class string
	from, to           time.Time
	detail             string
	bad                bool
	// latest is true where only its latest time is known.
	latest bool
}

// farthest is how far from the create call a moment may be for the axis to be
// of use; a guest's clock, or a log's, may say anything.
const farthest = time.Hour

// bootTimeline orders what was observed of the boot by time. Each row names its
// clock: the clocks are not the same, and nobody set them right.
func bootTimeline(s *evidence.Sandbox) timelineView {
	if s.API == nil || s.API.Requested.IsZero() {
		return timelineView{Notes: []string{"when the sandbox was asked for is not known, so no boot is drawn"}}
	}
	origin := s.API.Requested
	moments, notes := bootMoments(s)
	v := timelineView{Notes: notes}
	low, high := 0.0, 0.0
	for _, m := range moments {
		if near(m, origin) {
			low, high = min(low, m.from.Sub(origin).Seconds()), max(high, m.to.Sub(origin).Seconds())
		}
	}
	for _, m := range moments {
		from, to := m.from.Sub(origin).Seconds(), m.to.Sub(origin).Seconds()
		value := fmt.Sprintf("%+.2f s", from)
		switch {
		case m.latest:
			value += " at the latest"
		case to > from:
			value = fmt.Sprintf("%+.2f to %+.2f s", from, to)
		}
		if !near(m, origin) {
			value, from = m.from.UTC().Format(time.RFC3339)+", off this axis", math.NaN()
		}
		if m.detail != "" {
			value += ", " + m.detail
		}
		v.Rows = append(v.Rows, timelineRow{bar(m.what, value, m.class, from, to, low, high), m.clock, m.bad})
	}
	v.Axis = fmt.Sprintf("%.2f s", high-low)
	return v
}

func near(m moment, origin time.Time) bool {
	return m.from.Sub(origin).Abs() <= farthest && m.to.Sub(origin).Abs() <= farthest
}

// bootMoments are what was seen, in the order of time, and what was not.
func bootMoments(s *evidence.Sandbox) ([]moment, []string) {
	var all []moment
	var notes []string
	a := s.API
	if a.Answered.IsZero() {
		notes = append(notes, "when the API answered is not known")
	} else {
		all = append(all, moment{what: "create call", clock: "harness", class: "call", from: a.Requested, to: a.Answered})
	}
	if a.StartedAt != nil {
		all = append(all, moment{what: "started, says the server", clock: "server", class: "point", from: *a.StartedAt, to: *a.StartedAt})
	}
	guest, missing := guestMoments(s)
	all, notes = append(all, guest...), append(notes, missing...)
	if s.Log == nil {
		notes = append(notes, "no log window, so no log line is drawn")
	} else {
		all = append(all, logMoments(s.Log)...)
	}
	if h := s.Health; h == nil {
		notes = append(notes, "envd was not seen to answer")
	} else {
		all = append(all, moment{
			what: "envd answers", clock: "harness", class: "answer", from: h.At, to: h.At, detail: fmt.Sprintf("GET /health: %d", h.Status),
		})
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.from.Compare(b.from) })
	return all, notes
}

// guestMoments place the guest's own clock, which counts from its kernel's
// start, on the harness's: the uptime was read between the probe's start and its
// answer, so that each moment is known within these two.
func guestMoments(s *evidence.Sandbox) ([]moment, []string) {
	n := s.Snapshot
	if n == nil || n.Received.IsZero() || n.Boot.UptimeSeconds <= 0 {
		return nil, []string{"the guest's uptime was not seen, so neither its kernel nor its processes are drawn"}
	}
	if resumed, why, err := s.ResumedBefore(); err == nil && resumed {
		return nil, []string{"the guest did not boot for this sandbox: " + told(why)}
	}
	asked, latest := n.Asked, n.Asked.IsZero()
	if latest {
		asked = n.Received
	}
	at := func(what string, seconds float64, detail string) moment {
		back := time.Duration((seconds - n.Boot.UptimeSeconds) * float64(time.Second))
		return moment{what: what, clock: "guest", class: "guest", from: asked.Add(back), to: n.Received.Add(back), detail: detail, latest: latest}
	}
	all := []moment{at("kernel starts", 0, "")}
	if ticks := n.Init.StartTicks; ticks > 0 {
		all = append(all, at("init starts", float64(ticks)/ticksPerSecond, fmt.Sprintf("%.2f s after the kernel", float64(ticks)/ticksPerSecond)))
	}
	if n.Envd == nil || n.Envd.Process.StartTicks == 0 {
		return all, []string{"the running envd was not seen in the guest"}
	}
	ticks := float64(n.Envd.Process.StartTicks) / ticksPerSecond
	return append(all, at("envd starts", ticks, fmt.Sprintf("%.2f s after the kernel", ticks))), nil
}

// mostMoments is how many log lines are drawn one by one.
const mostMoments = 8

// logMoments are the boot's lines one by one, and the complaints in one row.
func logMoments(l *evidence.Log) []moment {
	var all []moment
	var bad []time.Time
	for _, f := range l.Findings {
		switch {
		case f.Time.IsZero():
		case f.Class == evidence.FindingFailure:
			bad = append(bad, f.Time)
		case f.Class == evidence.FindingControl && len(all) < mostMoments && !strings.HasPrefix(f.Message, evidence.CanarySign):
			all = append(all, moment{what: "“" + oneLine(strings.TrimSpace(f.Message)) + "”", clock: "log", class: "point", from: f.Time, to: f.Time})
		}
	}
	if len(bad) > 0 {
		first, last := slices.MinFunc(bad, time.Time.Compare), slices.MaxFunc(bad, time.Time.Compare)
		all = append(all, moment{
			what: fmt.Sprintf("envd complains, %d times", len(bad)), clock: "log", class: "bad", from: first, to: last, bad: true,
		})
	}
	return all
}

// cpuView is the experiment with the CPU: who got how much of it.
type cpuView struct {
	Mark    mark
	Reason  string
	Rows    []barView
	Missing []string
	Earlier int
	// OverTime is nil where there are no samples; Missing says why.
	OverTime *chartView
}

// cpuPlot draws the shares; nil where the experiment was not made.
func cpuPlot(s, before *evidence.Sandbox, outcomes map[requirement.ID]requirement.Outcome) *cpuView {
	e := s.CPU
	if e == nil {
		return nil
	}
	o := outcomes[requirement.BiteCPU]
	v := &cpuView{Mark: markOf(o.Result), Reason: told(o.Reason), Earlier: len(e.Earlier)}
	command, terminal := promisedShares(s)
	v.add("command, in /user", "command", e.Command, command)
	if before != nil && before.CPU != nil && before.CPU.Command != nil {
		v.add("the same, before", "before", before.CPU.Command, command)
	}
	v.add("terminal, in /ptys", "terminal", e.PTY, terminal)
	if before != nil && before.CPU != nil && before.CPU.PTY != nil {
		v.add("the same, before", "before", before.CPU.PTY, terminal)
	}
	const pair = 2
	for i := range pair {
		var burn *evidence.Burn
		if i < len(e.Control) {
			burn = e.Control[i]
		}
		v.add(fmt.Sprintf("control: equal command %d", i+1), "control", burn, 0.5)
	}
	overTime, missing := cpuOverTime(s)
	v.OverTime, v.Missing = overTime, append(v.Missing, missing...)
	return v
}

// promisedShares are what the weights give a command and a terminal that
// compete; not a number where nothing is promised.
func promisedShares(s *evidence.Sandbox) (command, terminal float64) {
	expected, err := requirement.Expectations(s)
	weight := func(group string) float64 {
		for _, e := range expected {
			if e.Group == group && e.File == "cpu.weight" && e.Sure {
				if n, err := strconv.ParseFloat(e.Wanted, 64); err == nil {
					return n
				}
			}
		}
		return math.NaN()
	}
	user, ptys := weight("user"), weight("ptys")
	if err != nil {
		return math.NaN(), math.NaN()
	}
	return user / (user + ptys), ptys / (user + ptys)
}

func (v *cpuView) add(what, class string, b *evidence.Burn, promised float64) {
	if b == nil || b.To <= b.From {
		v.Missing = append(v.Missing, what+" did not report")
		return
	}
	stretch := b.To - b.From
	share := b.CPUSeconds / stretch
	value := fmt.Sprintf("%.1f %% (%.0f of %.0f ms)", share*100, b.CPUSeconds*1000, stretch*1000)
	row := bar(what, value, class, 0, share, 0, 1)
	if at := onAxis(promised, 0, 1); !math.IsNaN(at) {
		row.Ticks = []float64{at}
		row.Value += fmt.Sprintf(", promised %.0f %%", promised*100)
	}
	v.Rows = append(v.Rows, row)
}

// memoryView is the over-allocation: how far it came, and what it did to the
// guest.
type memoryView struct {
	Mark, Envd         mark
	Reason, EnvdReason string
	Ended              string
	Axis               string
	Rows               []barView
	Events             []eventView
	Health             string
	Kernel             []string
	Missing            string
	// Used and Stalled are nil where there are no samples; NotDrawn says why.
	Used, Stalled *chartView
	NotDrawn      []string
}

// eventView is one counter of memory.events.
type eventView struct {
	Name          string
	Before, After string
	Rose          bool
}

// memoryPlot draws the over-allocation; nil where it was not made.
func memoryPlot(s *evidence.Sandbox, outcomes map[requirement.ID]requirement.Outcome) *memoryView {
	m := s.Memory
	if m == nil {
		return nil
	}
	bite, envd := outcomes[requirement.BiteMemory], outcomes[requirement.BiteEnvd]
	v := &memoryView{Mark: markOf(bite.Result), Reason: told(bite.Reason), Envd: markOf(envd.Result), EnvdReason: told(envd.Reason)}
	v.Health = fmt.Sprintf("meanwhile envd answered %d times, the slowest after %d ms; %d answers failed, %d were lost on the way",
		m.HealthAnswered, m.HealthSlowestMS, m.HealthFailed, m.HealthLost)
	if m.HealthError != "" {
		v.Health += ": " + told(m.HealthError)
	}
	r := m.Report
	if r == nil {
		v.Missing = "the probe did not report, so nothing is drawn"
		return v
	}
	v.Ended = shown(string(r.Ended))
	if r.Detail != "" {
		v.Ended += " (" + shown(r.Detail) + ")"
	}
	v.Used, v.Stalled, v.NotDrawn = memoryOverTime(s, r)
	v.Rows, v.Axis = memoryRows(s, r)
	v.Events = memoryEvents(r)
	v.Kernel = someOf(r.KernelLog)
	return v
}

// memoryRows are sizes on one axis, which is as long as the guest's memory or
// the largest of them.
func memoryRows(s *evidence.Sandbox, r *evidence.HogReport) ([]barView, string) {
	type size struct {
		what, class string
		bytes       uint64
		seen        bool
	}
	tried := r.Hog != nil
	limit, limited := bytesOf(r.Limit)
	high, throttled := bytesOf(r.Throttle)
	sizes := []size{
		{"memory.max", "limit", limit, limited},
		{"memory.high", "limit", high, throttled},
		{"in the group before", "before", r.Used, r.Used > 0},
		{"wanted by the command", "wanted", r.Wanted, tried},
		{"touched by the command", "command", r.Allocated, tried},
		{"free in the guest, before", "guest", r.Available, r.Available > 0},
		{"free in the guest, at the least", "guest", r.AvailableLeast, r.AvailableLeast > 0},
	}
	axis := uint64(0)
	if s.Snapshot != nil {
		axis = s.Snapshot.MemTotal
		sizes = slices.Insert(sizes, 0, size{"the guest's memory", "guest", axis, axis > 0})
	}
	for _, one := range sizes {
		if one.seen {
			axis = max(axis, one.bytes)
		}
	}
	var rows []barView
	for _, one := range sizes {
		if !one.seen {
			why := "not seen"
			switch {
			case one.class == "limit":
				why = "not set"
				if f := map[string]evidence.File{"memory.max": r.Limit, "memory.high": r.Throttle}[one.what]; f.Errno != "" {
					why = cmp.Or(map[string]string{"ENOENT": "no such file"}[f.Errno], shown(f.Errno))
				}
			case !tried && one.class != "before":
				why = "not tried"
			}
			rows = append(rows, barView{What: one.what, Value: why})
			continue
		}
		row := bar(one.what, human(one.bytes), one.class, 0, float64(one.bytes), 0, float64(axis))
		if at := onAxis(float64(limit), 0, float64(axis)); limited && !math.IsNaN(at) {
			row.Ticks = []float64{at}
		}
		rows = append(rows, row)
	}
	return rows, human(axis)
}

// bytesOf is a limit that is a number.
func bytesOf(f evidence.File) (uint64, bool) {
	if f.Errno != "" {
		return 0, false
	}
	v, err := cgroup2.ParseValue(f.Text)
	return v.Number, err == nil && !v.Max
}

// memoryEvents are the group's counters before and after, in the kernel's
// order.
func memoryEvents(r *evidence.HogReport) []eventView {
	before, errBefore := cgroup2.ParseFlatKeyed(r.Before.Text)
	after, errAfter := cgroup2.ParseFlatKeyed(r.After.Text)
	if errBefore != nil || errAfter != nil || r.Before.Errno != "" || r.After.Errno != "" {
		return nil
	}
	var events []eventView
	for _, name := range []string{"low", "high", "max", "oom", "oom_kill", "oom_group_kill"} {
		b, seenBefore := before[name]
		a, seenAfter := after[name]
		if seenBefore && seenAfter {
			events = append(events, eventView{name, strconv.FormatUint(b, 10), strconv.FormatUint(a, 10), a > b})
		}
	}
	return events
}
