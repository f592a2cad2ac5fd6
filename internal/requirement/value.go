package requirement

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"sandproof/internal/cgroup2"
	"sandproof/internal/evidence"
)

// The requirements of stage value: one for each property that some generation
// of envd sets.
const (
	ValueUserCPUWeight   ID = "value.user.cpu-weight"
	ValueUserMemoryHigh  ID = "value.user.memory-high"
	ValueUserMemoryMax   ID = "value.user.memory-max"
	ValueUserIOWeight    ID = "value.user.io-weight"
	ValuePtysCPUWeight   ID = "value.ptys.cpu-weight"
	ValuePtysMemoryHigh  ID = "value.ptys.memory-high"
	ValuePtysMemoryMax   ID = "value.ptys.memory-max"
	ValuePtysIOWeight    ID = "value.ptys.io-weight"
	ValueSocatsCPUWeight ID = "value.socats.cpu-weight"
	ValueSocatsMemoryMin ID = "value.socats.memory-min"
	ValueSocatsMemoryLow ID = "value.socats.memory-low"
	ValueSocatsIOWeight  ID = "value.socats.io-weight"
	ValueUnset           ID = "value.unset"
)

func valueRequirements() []Requirement {
	return []Requirement{
		value(ValueUserCPUWeight, "user", "cpu.weight", LevelCore, whyCPU),
		value(ValueUserMemoryHigh, "user", "memory.high", LevelCore, whyHigh),
		value(ValueUserMemoryMax, "user", "memory.max", LevelCore, whyMax),
		value(ValueUserIOWeight, "user", "io.weight", LevelExtended, whyIO),
		value(ValuePtysCPUWeight, "ptys", "cpu.weight", LevelCore, whyCPU),
		value(ValuePtysMemoryHigh, "ptys", "memory.high", LevelCore, whyHigh),
		value(ValuePtysMemoryMax, "ptys", "memory.max", LevelCore, whyMax),
		value(ValuePtysIOWeight, "ptys", "io.weight", LevelExtended, whyIO),
		value(ValueSocatsCPUWeight, "socats", "cpu.weight", LevelCore, whyCPU),
		value(ValueSocatsMemoryMin, "socats", "memory.min", LevelCore, whyProtect),
		value(ValueSocatsMemoryLow, "socats", "memory.low", LevelCore, whyProtect),
		value(ValueSocatsIOWeight, "socats", "io.weight", LevelExtended, whyIO),
		{
			ID: ValueUnset, Title: "what envd does not set is at the kernel's default", Stage: StageValue, Level: LevelExtended,
			Why: "A limit that somebody else set can be too tight: commands are slowed or killed long before the limits that envd sets, " +
				"and the template gets the blame.",
			Next:      "find what writes into envd's cgroups, such as another line of the init, and take it out unless it is meant",
			Reference: "Linux Documentation/admin-guide/cgroup-v2.rst, defaults of the interface files",
			Needs:     []evidence.Piece{evidence.PieceSnapshot},
			Inputs:    []string{"snapshot/envd/version", "snapshot/groups/user", "snapshot/groups/ptys", "snapshot/groups/socats"},
			judge:     judgeUnset,
		},
	}
}

const (
	whyCPU     = "Without its weight a busy command starves the terminal and the forwarded ports."
	whyHigh    = "Without memory.high nothing slows a process that eats the guest's memory."
	whyMax     = "Without memory.max a process can drive the whole guest, envd included, out of memory."
	whyProtect = "Without its protection the forwarder is reclaimed first when memory is short, and ports stop answering."
	whyIO      = "Without its weight heavy disk use of commands delays terminals and forwarded ports."
)

func value(id ID, group, property string, level Level, why string) Requirement {
	where := "snapshot/groups/" + group
	inputs := []string{"snapshot/envd/version", "snapshot/root/fsMagic", "snapshot/mounts", where, where + "/exists", where + "/fsMagic", where + "/files/" + property}
	switch property {
	case "memory.high", "memory.max":
		inputs = append(inputs, "snapshot/memTotal", "snapshot/pageSize")
	case "memory.min", "memory.low":
		inputs = append(inputs, where+"/above", where+"/above/files/"+property)
	case "io.weight":
		inputs = append(inputs, "snapshot/root/files/io.cost.qos")
	}
	return Requirement{
		ID: id, Title: fmt.Sprintf("%s of %s is exactly what envd sets", property, group), Stage: StageValue, Level: level,
		Why: why,
		Next: "see stage enable first; where the file exists with another value, find what wrote it: " +
			"an init that makes the cgroups itself, or controllers enabled after envd had started",
		Reference: "e2b-dev/infra c7180fe2c, baeb9772d, f4bd1b24b: packages/envd/main.go, createCgroupManager",
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
		Inputs:    inputs,
		judge:     func(c *subject) Outcome { return judgeValue(c, group, property) },
	}
}

func judgeValue(c *subject, groupName, property string) Outcome {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	formula, some, all := c.promise.wants(groupName, property)
	if !some {
		return notApplicable("envd %s (generation %s) sets no %s in %s", c.Snapshot.Envd.Version, c.promise.name(), property, groupName)
	}
	if formula.Limit && (c.Snapshot.MemTotal == 0 || c.Snapshot.PageSize == 0) {
		return unproven("the guest's MemTotal or page size was not read, so the limit cannot be computed")
	}
	group, seen := c.Snapshot.Groups[groupName]
	if !seen {
		return unproven("the snapshot does not hold the cgroup %s", groupName)
	}
	want := formula.Value(c.Snapshot.MemTotal, c.Snapshot.PageSize)
	wanted := wantedText(property, formula, want, c.Snapshot)
	where := path.Join(group.Path, property)

	if o, unknown := mountUntold(c); unknown {
		return o
	}
	if group.Exists && group.FSMagic == 0 {
		return unproven("the file system at %s could not be told: %s", group.Path, group.Error)
	}
	if !onCgroup2(c.Sandbox) || (group.Exists && group.FSMagic != evidence.CGroup2Magic) {
		return fail(fmt.Sprintf("file system 0x%x", group.FSMagic), wanted,
			"%s is not on cgroup2, so whatever it reads limits nothing", where)
	}
	if !group.Exists {
		if group.Error != "" {
			return unproven("%s: %s", group.Path, group.Error)
		}
		return fail("no cgroup "+group.Path, wanted, "the cgroup %s does not exist, so it has no %s", groupName, property)
	}
	switch over, err := mountedOver(c.Snapshot, where); {
	case err != nil:
		return unproven("%v", err)
	case over != "":
		return fail("a mount at "+over, wanted, "another mount lies over %s, at %s, so what is read there is not of the cgroup that envd's processes are in", where, over)
	}
	f, _ := file(group, property)
	if f.Errno == "ENOENT" && !all {
		return notApplicable("%s does not exist: envd %s may or may not set it, its version string does not tell", where, c.Snapshot.Envd.Version)
	}
	if f.Errno == "ENOENT" {
		return judgeAbsent(c, where, property, wanted)
	}
	if f.Errno != "" {
		return unproven("%s could not be read (%s)", where, f.Errno)
	}
	got, shown, err := parseValue(property, f.Text)
	if err != nil {
		return unproven("%s: %v", where, err)
	}
	read := where + ": " + shown
	if got.is(want) {
		good := pass(read, wanted, "reads exactly what envd sets")
		switch property {
		case "io.weight":
			return judgeIOCost(c, good)
		case "memory.min", "memory.low":
			return judgeReach(c.Snapshot, group, property, want, good)
		}
		return good
	}
	if !all {
		return notApplicable("%s reads %s: envd %s may or may not set it, its version string does not tell", where, shown, c.Snapshot.Envd.Version)
	}
	o := fail(read, wanted, "%s reads %s, and envd %s sets %s", where, shown, c.Snapshot.Envd.Version, wanted)
	if other := ownerOf(c, groupName, property, got.Value); other != "" {
		o.Reason += "; it is the value of " + other + ", so the values stand in the wrong groups"
	}
	return o
}

// ownerOf names the group for which envd promises a value that another group
// has.
func ownerOf(c *subject, group, property string, got cgroup2.Value) string {
	for _, p := range c.promise.sure() {
		if p.Group != group && p.File == property && !got.Max && got.Number == p.Want.Value(c.Snapshot.MemTotal, c.Snapshot.PageSize) {
			return p.Group
		}
	}
	return ""
}

// judgeUnset looks at the files that no candidate generation sets. A file or a
// group that does not exist has no value; that is for other requirements.
func judgeUnset(c *subject) Outcome {
	if c.promise.unknown != "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	if c.promise.none() {
		return notApplicable("envd %s makes no cgroups", c.Snapshot.Envd.Version)
	}
	var changed []string
	for _, name := range groupNames() {
		group, seen := c.Snapshot.Groups[name]
		if !seen {
			return unproven("the snapshot does not hold the cgroup %s", name)
		}
		if !group.Exists {
			continue
		}
		for _, s := range settable {
			f, where := file(group, s.file)
			if _, some, _ := c.promise.wants(name, s.file); some || f.Errno == "ENOENT" {
				continue
			}
			if f.Errno != "" {
				return unproven("%s could not be read (%s)", where, f.Errno)
			}
			if text := strings.TrimSpace(f.Text); text != s.fallback {
				changed = append(changed, fmt.Sprintf("%s %s, default %s", where, text, s.fallback))
			}
		}
	}
	wanted := "the kernel's defaults in what envd does not set"
	if len(changed) > 0 {
		return fail(strings.Join(changed, "; "), wanted, "envd %s does not set this, and somebody did: %s", c.Snapshot.Envd.Version, strings.Join(changed, "; "))
	}
	return pass("at their defaults in user, ptys and socats", wanted, "nothing else is set in envd's cgroups")
}

// judgeAbsent explains a missing interface file: the controller is not
// enabled, or the kernel has no such file though it is.
func judgeAbsent(c *subject, where, property, wanted string) Outcome {
	controller, _, _ := strings.Cut(property, ".")
	on, err := enabled(c.Sandbox)
	if err != nil {
		return unproven("%s does not exist, and %v", where, err)
	}
	if has(on, controller) {
		if property == "io.weight" {
			return notApplicable("%s does not exist although io is enabled: this kernel has no io cost controller (CONFIG_BLK_CGROUP_IOCOST)", where)
		}
		return fail("no file "+where, wanted, "%s does not exist although %s is enabled in the root", where, controller)
	}
	return fail("no file "+where, wanted, "%s does not exist, because the %s controller is not enabled", where, controller)
}

// judgeIOCost tells an io.weight that is set and acts from one that is set and
// cannot: it does nothing until the root's io.cost.qos enables it for a device.
func judgeIOCost(c *subject, good Outcome) Outcome {
	inert := good
	inert.Result = Inert
	qos, _ := file(c.Snapshot.Root, "io.cost.qos")
	switch {
	case qos.Errno == "ENOENT":
		inert.Reason = "the value is set, and this kernel has no io.cost.qos to make it act"
		return inert
	case qos.Errno != "":
		return unproven("io.cost.qos could not be read (%s), so it is open whether io.weight acts", qos.Errno)
	}
	devices, err := cgroup2.ParseIOCostQoS(qos.Text)
	switch {
	case err != nil:
		return unproven("%v, so it is open whether io.weight acts", err)
	case len(devices) == 0:
		inert.Reason = "the value is set, and cannot act: io.cost.qos enables it for no device"
		return inert
	}
	good.Reason += "; io.cost.qos lets it act on " + words(devices) + " alone"
	return good
}

// setting is the value of an interface file.
type setting struct {
	cgroup2.Value
	// uneven is true where io.weight gives a device another weight than the
	// default.
	uneven bool
}

// is tells whether a number is set, and for every device.
func (s setting) is(want uint64) bool { return !s.Max && s.Number == want && !s.uneven }

// parseValue reads an interface file's value and shows it as the file has it.
func parseValue(property, text string) (setting, string, error) {
	if property == "io.weight" {
		w, err := cgroup2.ParseIOWeight(text)
		if err != nil {
			return setting{}, "", err
		}
		s, shown := setting{Value: cgroup2.Value{Number: w.Default}}, []string{fmt.Sprintf("default %d", w.Default)}
		for _, device := range slices.Sorted(maps.Keys(w.Devices)) {
			shown = append(shown, fmt.Sprintf("%s %d", device, w.Devices[device]))
			s.uneven = s.uneven || w.Devices[device] != w.Default
		}
		return s, strings.Join(shown, ", "), nil
	}
	v, err := cgroup2.ParseValue(text)
	if err != nil {
		return setting{}, "", err
	}
	return setting{Value: v}, v.String(), nil
}

func wantedText(property string, f Formula, want uint64, s *evidence.Snapshot) string {
	switch {
	case f.Limit:
		return fmt.Sprintf("%d bytes (MemTotal %d less min(1/8, 128 MiB), rounded down to a page of %d)", want, s.MemTotal, s.PageSize)
	case property == "io.weight":
		return "default " + strconv.FormatUint(want, 10)
	}
	return strconv.FormatUint(want, 10)
}
