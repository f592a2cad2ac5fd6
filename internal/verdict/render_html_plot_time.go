package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"sandproof/internal/evidence"
)

// chartView is something drawn over the time of an experiment: lines over an
// axis of time, from the left edge at 0 to the right one at 100, and from the
// bottom at 100 to the top at 0, as SVG counts.
type chartView struct {
	Title string
	// Says tells in words what is drawn, for those who do not see it.
	Says string
	// Top is the value at the upper edge; the lower one is 0. Right is the time
	// at the right edge.
	Top, Right string
	Lines      []lineView
	Levels     []levelView
	// Head and Rows are what is drawn as a table: every Nth of its rows, from the
	// first on.
	Head []string
	Rows [][]string
	Nth  int
	// Notes say what could not be drawn as it was told.
	Notes []string
}

// lineView is one line, as the d of an SVG path.
type lineView struct{ What, Class, Path string }

// levelView is a value that does not change, such as a limit.
type levelView struct {
	What, Class string
	At          float64
}

// point is a value that was read at a moment, in seconds since the beginning; a
// share is that of the stretch between two moments.
type point struct{ from, at, value float64 }

// drawable are the times of samples that can be drawn, by their places in what
// the guest told: bounded in number, each after the one before, and none outside
// of the experiment. The notes say what was left out.
func drawable(times []int64, longest time.Duration) (places []int, notes []string) {
	told, last, astray := len(times), int64(-1), 0
	for i, at := range times[:min(told, evidence.MostSamples)] {
		if at <= last || at > longest.Microseconds() {
			astray++
			continue
		}
		places, last = append(places, i), at
	}
	if astray > 0 {
		notes = append(notes, fmt.Sprintf("%d samples are left out: their time is not after that of the one before, or outside of the experiment", astray))
	}
	if told > evidence.MostSamples {
		notes = append(notes, fmt.Sprintf("%d samples were told, of which the first %d are drawn", told, evidence.MostSamples))
	}
	return places, notes
}

// mostRows is how long a chart's table may be: the page is bounded, and whole
// samples stand in the raw evidence.
const mostRows = 50

// tabulate keeps so many rows that the table stays within its bound.
func (v *chartView) tabulate(rows [][]string) {
	v.Nth = (len(rows)-1)/mostRows + 1
	for i := 0; i < len(rows); i += v.Nth {
		v.Rows = append(v.Rows, rows[i])
	}
}

// seconds are a sample's microseconds.
func seconds(us int64) float64 { return (time.Duration(us) * time.Microsecond).Seconds() }

// rates turn a counter of microseconds into the share that it rose by in each
// stretch between two samples. A counter of the kernel's never falls: a stretch
// in which it did has no share, and falls counts it.
func rates(at []int64, counter []uint64) (points []point, falls int) {
	for i := 1; i < len(at); i++ {
		if counter[i] < counter[i-1] {
			falls++
			continue
		}
		points = append(points, point{seconds(at[i-1]), seconds(at[i]), float64(counter[i]-counter[i-1]) / float64(at[i]-at[i-1])})
	}
	return points, falls
}

// canvas places values on a chart, and counts those that it has to hold at the
// upper edge.
type canvas struct {
	wide, high float64
	beyond     int
	largest    float64
}

// tenth keeps a path short: a tenth of a hundredth is less than a pixel.
func tenth(place float64) float64 { return math.Round(place*10) / 10 }

func (c *canvas) x(at float64) float64 { return tenth(onAxis(at, 0, c.wide)) }

func (c *canvas) y(value float64) float64 {
	if value > c.high {
		c.beyond++
		c.largest = max(c.largest, value)
	}
	return tenth(100 - onAxis(min(value, c.high), 0, c.high))
}

// steps draws shares: level over each stretch, with a gap where one is missing.
func (c *canvas) steps(points []point) string {
	var d strings.Builder
	for i, p := range points {
		y := c.y(p.value)
		if i > 0 && points[i-1].at == p.from {
			fmt.Fprintf(&d, "V%g", y)
		} else {
			fmt.Fprintf(&d, "M%g %g", c.x(p.from), y)
		}
		fmt.Fprintf(&d, "H%g", c.x(p.at))
	}
	return d.String()
}

// slopes draws values that were read at moments.
func (c *canvas) slopes(points []point) string {
	var d strings.Builder
	for i, p := range points {
		fmt.Fprintf(&d, "%s%g %g", map[bool]string{true: "M", false: "L"}[i == 0], c.x(p.at), c.y(p.value))
	}
	return d.String()
}

// held says what the chart had to hold at its edge; none says nothing.
func (c *canvas) held(show func(float64) string) []string {
	if c.beyond == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d values lie beyond the upper edge, up to %s, and are drawn at it", c.beyond, show(c.largest))}
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", share*100) }

func milliseconds(at float64) string { return fmt.Sprintf("%.0f ms", at*1000) }

// span shows what shares are, from the least to the largest.
func span(points []point) string {
	low, high := points[0].value, points[0].value
	for _, p := range points {
		low, high = min(low, p.value), max(high, p.value)
	}
	return fmt.Sprintf("between %s and %s", percent(low), percent(high))
}

// untold is why an experiment is not drawn over time.
func untold(what, why string) string {
	if why == "" {
		return what + " was not sampled over time, so its totals alone are drawn"
	}
	return what + " is not drawn over time: " + shown(why)
}

// endsEarly is why what is drawn is not the whole time.
func endsEarly(what, why string) string {
	return "the samples of " + what + " end early: " + shown(why)
}

// cgroupRoot is where a guest's cgroups are.
const cgroupRoot = "/sys/fs/cgroup"

// competitor is one of two groups that compete for a CPU.
type competitor struct {
	what, class string
	burn        *evidence.Burn
	promised    float64
	points      []point
}

// cpuOverTime draws how much of one CPU each group got between two samples; nil,
// with the reasons, where neither was sampled.
func cpuOverTime(s *evidence.Sandbox) (*chartView, []string) {
	e := s.CPU
	command, terminal := promisedShares(s)
	both := []competitor{{"the command's group", "command", e.Command, command, nil}, {"the terminal's group", "terminal", e.PTY, terminal, nil}}
	var notes []string
	if e.Command != nil && e.PTY != nil && e.Command.Group != "" && e.Command.Group == e.PTY.Group {
		return nil, []string{"both ran in one cgroup, " + shown(e.Command.Group) + ", so what each of them got is not told by its group's CPU time over time"}
	}
	c := canvas{high: 1}
	for i := range both {
		one := &both[i]
		if one.burn == nil {
			continue
		}
		if group, ok := strings.CutPrefix(one.burn.Group, cgroupRoot); ok {
			one.what += ", " + shown(cmp.Or(group, "/"))
		}
		points, missing := groupShares(one.what, one.burn)
		one.points, notes = points, append(notes, missing...)
		if len(points) > 0 {
			c.wide = max(c.wide, points[len(points)-1].at, one.burn.To-one.burn.From)
		}
	}
	v := &chartView{Title: "Share of one CPU between two samples, by cgroup", Top: "100 %", Head: []string{"who", "from", "to", "share"}}
	var says []string
	var rows [][]string
	for _, one := range both {
		if len(one.points) == 0 {
			continue
		}
		v.Lines = append(v.Lines, lineView{one.what, one.class, c.steps(one.points)})
		if at := onAxis(one.promised, 0, 1); !math.IsNaN(at) {
			v.Levels = append(v.Levels, levelView{fmt.Sprintf("promised %.0f %%", one.promised*100), one.class, tenth(100 - at)})
		}
		says = append(says, one.what+": "+span(one.points))
		for _, p := range one.points {
			rows = append(rows, []string{one.what, milliseconds(p.from), milliseconds(p.at), percent(p.value)})
		}
	}
	if len(v.Lines) == 0 {
		return nil, notes
	}
	v.tabulate(rows)
	v.Says = strings.Join(says, "; ")
	v.Right = milliseconds(c.wide)
	v.Notes = slices.Concat(notes, c.held(percent))
	return v, nil
}

// groupShares are the shares that a group got, stretch by stretch.
func groupShares(what string, b *evidence.Burn) ([]point, []string) {
	stretch := b.To - b.From
	if !(stretch > 0 && stretch <= farthest.Seconds()) {
		return nil, []string{what + " is not drawn over time: for how long it burnt is not known"}
	}
	// The last sample is taken when its process gets the CPU again.
	const late = 2
	var times []int64
	for _, one := range b.Samples {
		times = append(times, one.AtUS)
	}
	places, notes := drawable(times, time.Duration(late*stretch*float64(time.Second)))
	var at []int64
	var used []uint64
	for _, i := range places {
		at, used = append(at, b.Samples[i].AtUS), append(used, b.Samples[i].UsageUS)
	}
	points, falls := rates(at, used)
	if falls > 0 {
		notes = append(notes, fmt.Sprintf("the CPU time fell %d times between two samples, which the kernel's never does: there is a gap in the line", falls))
	}
	switch {
	case len(points) == 0:
		notes = append(notes, untold(what, b.NoSamples))
	case b.NoSamples != "":
		notes = append(notes, endsEarly(what, b.NoSamples))
	}
	for i := range notes {
		if !strings.HasPrefix(notes[i], what) {
			notes[i] = what + ": " + notes[i]
		}
	}
	return points, notes
}

// memoryOverTime draws what the group used and, below, for which share of the
// time its tasks were stalled; either is nil, with the reasons, where there are
// no samples of it.
func memoryOverTime(s *evidence.Sandbox, r *evidence.HogReport) (used, stalled *chartView, notes []string) {
	if r.Hog == nil && len(r.Samples) == 0 && r.NoSamples == "" {
		return nil, nil, nil // nothing was let loose
	}
	var times []int64
	for _, one := range r.Samples {
		times = append(times, one.AtUS)
	}
	places, notes := drawable(times, farthest)
	if len(places) < 2 {
		return nil, nil, append(notes, untold("the group's memory", r.NoSamples))
	}
	if r.NoSamples != "" {
		notes = append(notes, endsEarly("the group's memory", r.NoSamples))
	}
	wide := seconds(times[places[len(places)-1]])
	used = usedOverTime(s, r, places, wide)
	stalled, missing := stalledOverTime(r, places, wide)
	used.Notes = append(notes, used.Notes...)
	return used, stalled, missing
}

func usedOverTime(s *evidence.Sandbox, r *evidence.HogReport, places []int, wide float64) *chartView {
	v := &chartView{Title: "memory.current of the group", Right: milliseconds(wide), Head: []string{"at", "memory.current"}}
	limit, limited := bytesOf(r.Limit)
	high, throttled := bytesOf(r.Throttle)
	var points []point
	var rows [][]string
	axis, largest := uint64(0), uint64(0)
	for _, i := range places {
		one := r.Samples[i]
		points = append(points, point{at: seconds(one.AtUS), value: float64(one.Current)})
		largest = max(largest, one.Current)
		rows = append(rows, []string{milliseconds(seconds(one.AtUS)), human(one.Current)})
	}
	v.tabulate(rows)
	if s.Snapshot != nil {
		axis = s.Snapshot.MemTotal // no group can use more
	}
	if axis == 0 {
		axis = max(limit, high, largest, 1)
	}
	c := canvas{wide: wide, high: float64(axis)}
	v.Top = human(axis)
	v.Lines = []lineView{{"memory.current", "command", c.slopes(points)}}
	for _, level := range []struct {
		name  string
		bytes uint64
		there bool
	}{{"memory.high", high, throttled}, {"memory.max", limit, limited}} {
		if at := onAxis(float64(level.bytes), 0, float64(axis)); level.there && !math.IsNaN(at) {
			v.Levels = append(v.Levels, levelView{level.name + " " + human(level.bytes), strings.TrimPrefix(level.name, "memory."), tenth(100 - at)})
		}
	}
	v.Says = fmt.Sprintf("from %s at the beginning to %s at the most and %s at the end",
		human(r.Samples[places[0]].Current), human(largest), human(r.Samples[places[len(places)-1]].Current))
	v.Notes = c.held(func(bytes float64) string { return human(uint64(min(bytes, math.MaxInt64))) })
	return v
}

func stalledOverTime(r *evidence.HogReport, places []int, wide float64) (*chartView, []string) {
	var at []int64
	var some, full []uint64
	for _, i := range places {
		if one := r.Samples[i]; one.Stalled != nil {
			at, some, full = append(at, one.AtUS), append(some, one.Stalled.SomeUS), append(full, one.Stalled.FullUS)
		}
	}
	var notes []string
	switch why := r.NoPressure; {
	case why != "" && len(at) >= 2:
		notes = append(notes, endsEarly("memory.pressure", why))
	case why == "ENOENT" || why == "EOPNOTSUPP":
		notes = append(notes, "no pressure is drawn: this guest's kernel counts no stalls of the group ("+why+" of memory.pressure: no CONFIG_PSI, psi=0, or cgroup.pressure 0)")
	case why != "":
		notes = append(notes, untold("memory.pressure", why))
	case len(at) < 2:
		notes = append(notes, untold("memory.pressure", ""))
	}
	somePoints, falls := rates(at, some)
	fullPoints, moreFalls := rates(at, full)
	if len(somePoints) == 0 || len(fullPoints) == 0 {
		return nil, notes
	}
	c := canvas{wide: wide, high: 1}
	v := &chartView{
		Title: "Pressure: share of the time between two samples in which tasks of the group were stalled for lack of memory",
		Top:   "100 %", Right: milliseconds(wide), Head: []string{"from", "to", "some", "full"}, Notes: notes,
	}
	v.Lines = []lineView{{"some: at least one task", "some", c.steps(somePoints)}, {"full: all of them", "full", c.steps(fullPoints)}}
	v.Says = "some " + span(somePoints) + "; full " + span(fullPoints)
	shares := map[float64][2]string{}
	for i, points := range [][]point{somePoints, fullPoints} {
		for _, p := range points {
			row := shares[p.at]
			row[i] = percent(p.value)
			shares[p.at] = row
		}
	}
	var rows [][]string
	for i := 1; i < len(at); i++ {
		from, to := seconds(at[i-1]), seconds(at[i])
		rows = append(rows, []string{milliseconds(from), milliseconds(to), cmp.Or(shares[to][0], "not told"), cmp.Or(shares[to][1], "not told")})
	}
	v.tabulate(rows)
	if falls+moreFalls > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("the stall times fell %d times between two samples, which the kernel's never do: there is a gap in the line", falls+moreFalls))
	}
	v.Notes = append(v.Notes, c.held(percent)...)
	return v, nil
}
