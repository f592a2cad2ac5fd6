package requirement

import (
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"sandproof/internal/evidence"
)

// The requirements of stage protect: envd itself lives on when commands are
// greedy.
const (
	ProtectCPUWeight ID = "protect.cpu-weight"
	ProtectMemoryMin ID = "protect.memory-min"
	ProtectMemoryLow ID = "protect.memory-low"
	ProtectIOWeight  ID = "protect.io-weight"
	ProtectOOMScore  ID = "protect.oom-score"
	ProtectNice      ID = "protect.nice"
	ProtectUnit      ID = "protect.unit"
	ProtectSurvives  ID = "protect.survives"
)

// service is how envd is run, told from what the guest shows.
type service string

const (
	underSystemd service = "systemd"
	underOpenRC  service = "OpenRC"
	underShell   service = "a shell init"
)

// serviceOf tells how envd is run: as a systemd unit in a group of its own,
// under OpenRC's supervisor, or started by an init script.
func serviceOf(e *evidence.Envd) service {
	switch {
	case e.Unit != nil:
		return underSystemd
	case e.Parent != nil && filepath.Base(e.Parent.Exe) == "supervise-daemon":
		return underOpenRC
	}
	return underShell
}

// Protection is one setting with which E2B protects envd.
type Protection struct {
	// Setting is its name in a systemd unit.
	Setting string
	// File is the interface file of envd's own cgroup that shows it; empty for
	// what the process itself shows.
	File string
	// Want is E2B's value, as the unit has it.
	Want string
	// Since is when E2B's unit got it (packages/orchestrator,
	// template/build/core/rootfs/files/envd.service.tpl). The version is that of
	// the envd of the time; a template's unit may be older than its envd.
	Since Since
	// OpenRC is true where E2B's OpenRC service sets it too (1abece199).
	OpenRC bool
}

// memory tells whether it is memory that is kept for envd.
func (p Protection) memory() bool { return strings.HasPrefix(p.File, "memory.") }

// protections is the one table of how E2B protects envd.
var protections = map[ID]Protection{
	ProtectOOMScore:  {Setting: "OOMScoreAdjust", Want: "-1000", OpenRC: true, Since: Since{Version: "0.4.2", Commit: "03f1c233c", Shared: true}},
	ProtectCPUWeight: {Setting: "CPUWeight", File: "cpu.weight", Want: "1000", Since: Since{Version: "0.4.3", Commit: "c7180fe2c"}},
	ProtectMemoryMin: {Setting: "MemoryMin", File: "memory.min", Want: "50M", Since: Since{Version: "0.4.3", Commit: "c7180fe2c"}},
	ProtectMemoryLow: {Setting: "MemoryLow", File: "memory.low", Want: "100M", Since: Since{Version: "0.4.3", Commit: "c7180fe2c"}},
	ProtectNice:      {Setting: "Nice", Want: "-20", OpenRC: true, Since: Since{Version: "0.5.4", Commit: "017de2016"}},
	ProtectIOWeight:  {Setting: "IOWeight", File: "io.weight", Want: "10000", Since: Since{Version: "0.5.24", Commit: "f4bd1b24b", Shared: true}},
}

// protectionIDs are the table's keys in the order of the catalogue.
func protectionIDs() []ID {
	return []ID{ProtectCPUWeight, ProtectMemoryMin, ProtectMemoryLow, ProtectIOWeight, ProtectOOMScore, ProtectNice}
}

func protectRequirements() []Requirement {
	var all []Requirement
	for _, id := range protectionIDs() {
		all = append(all, protect(id, protections[id]))
	}
	return append(
		all,
		Requirement{
			ID: ProtectUnit, Title: "envd is started with the protection that E2B gives it", Stage: StageProtect, Level: LevelExtended,
			Why: "envd answers the API for the sandbox. Where it has no more weight, memory or luck with the out-of-memory killer than a command, " +
				"a greedy command takes the sandbox away.",
			Next:      "give envd.service the missing settings of E2B's unit",
			Reference: "e2b-dev/infra, template/build/core/rootfs/files/envd.service.tpl since c7180fe2c, envd.openrc.tpl since 1abece199",
			Needs:     []evidence.Piece{evidence.PieceSnapshot},
			judge:     judgeUnit,
		},
		Requirement{
			ID: ProtectSurvives, Title: "envd is still the same process", Stage: StageProtect, Level: LevelCore,
			Why:       "An envd that was killed and started again has lost every process that it had started, and whoever waited for them.",
			Next:      "look at the kernel's log in the guest for an out-of-memory kill, and at the service's log for a crash",
			Reference: "proc_pid_stat(5), starttime",
			Needs:     []evidence.Piece{evidence.PieceSnapshot, evidence.PieceLater},
			Inputs: []string{
				"snapshot/envd", "later/envd", "snapshot/envd/process/pid", "later/envd/process/pid",
				"snapshot/envd/process/startTicks", "later/envd/process/startTicks",
			},
			judge: judgeSurvives,
		},
	)
}

func protect(id ID, p Protection) Requirement {
	inputs, level := []string{"snapshot/envd/process/oomScoreAdj"}, LevelCore
	switch {
	case id == ProtectNice:
		inputs = []string{"snapshot/envd/process/nice"}
	case p.File != "":
		inputs = []string{"snapshot/envd/group/files/" + p.File}
	}
	if p.memory() {
		inputs = append(inputs, "snapshot/mounts", "snapshot/envd/group/above", "snapshot/envd/group/above/files/"+p.File)
	}
	if id == ProtectIOWeight {
		level = LevelExtended
	}
	return Requirement{
		ID: id, Title: "envd has the protection that its service promises: " + p.Setting, Stage: StageProtect, Level: level,
		Why: "A setting in a unit's file that is not in force protects nothing: a greedy command starves envd, or has it killed, " +
			"and the sandbox no longer answers.",
		Next: "compare the unit's files with what systemd uses (systemctl show envd, systemctl daemon-reload), " +
			"and see that the controller is enabled in the unit's slice",
		Reference: "systemd.resource-control(5), systemd.exec(5); e2b-dev/infra " + p.Since.Commit + ", envd.service.tpl",
		Needs:     []evidence.Piece{evidence.PieceSnapshot},
		Inputs:    inputs,
		judge:     func(c *subject) Outcome { return judgeProtection(c, p) },
	}
}

// judgeProtection holds the guest to what its own service says.
func judgeProtection(c *subject, p Protection) Outcome {
	envd := c.Snapshot.Envd
	if envd == nil {
		return unproven("the running envd was not found in the guest")
	}
	promised, by := "", ""
	switch serviceOf(envd) {
	case underSystemd:
		promised, by = envd.Unit.Settings[p.Setting], "the unit "+envd.Unit.Name
		if promised == "" {
			return notApplicable("the unit %s does not set %s", envd.Unit.Name, p.Setting)
		}
	case underOpenRC:
		if !p.OpenRC {
			return notApplicable("E2B's OpenRC service does not set %s", p.Setting)
		}
		promised, by = p.Want, "E2B's OpenRC service"
	case underShell:
		return notApplicable("envd is started by a shell init, which promises no %s", p.Setting)
	}
	want, err := parseSetting(p, promised, c.Snapshot.PageSize)
	if err != nil {
		return unproven("%s of %s: %v", p.Setting, by, err)
	}
	read, got, err := protectionOf(envd, p)
	if err != nil {
		return unproven("%v", err)
	}
	wanted := fmt.Sprintf("%d, as %s=%s of %s", want, p.Setting, promised, by)
	if got != want {
		return fail(read, wanted, "%s, and %s promises %s=%s", read, by, p.Setting, promised)
	}
	good := pass(read, wanted, "in force as %s promises", by)
	if p.memory() {
		return judgeReach(c.Snapshot, *envd.Group, p.File, uint64(max(want, 0)), good)
	}
	return good
}

// protectionOf reads what is in force.
func protectionOf(envd *evidence.Envd, p Protection) (read string, got int64, err error) {
	if p.File == "" {
		value, name := envd.Process.OOMScoreAdj, "oom_score_adj"
		if p.Setting == "Nice" {
			value, name = envd.Process.Nice, "nice"
		}
		if value == nil {
			return "", 0, fmt.Errorf("%s of envd was not read", name)
		}
		return fmt.Sprintf("%s of envd is %d", name, *value), int64(*value), nil
	}
	if envd.Group == nil {
		return "", 0, fmt.Errorf("envd's own cgroup was not read, so its %s is not known", p.File)
	}
	where := path.Join(envd.Group.Path, p.File)
	text, err := textOf(*envd.Group, p.File)
	if err != nil {
		return "", 0, err
	}
	v, shown, err := parseValue(p.File, text)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", where, err)
	}
	if v.Max || v.uneven || v.Number > 1<<62 { // what no unit promises
		return fmt.Sprintf("%s reads %s", where, shown), -1, nil
	}
	return fmt.Sprintf("%s reads %s", where, shown), int64(v.Number), nil
}

// parseSetting reads a number as systemd does, with K, M, G for powers of 1024
// (systemd.resource-control(5)). Memory is in bytes, rounded down to a page, as
// the kernel stores it. What else systemd takes, such as a percentage of what
// the memory was when it started, is an error.
func parseSetting(p Protection, text string, pageSize uint64) (int64, error) {
	number, unit := text, int64(1)
	for suffix, bytes := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, bytes
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > 1<<40 || n < -1<<40 {
		return 0, fmt.Errorf("%q is no number that is known here", text)
	}
	n *= unit
	if page := int64(pageSize); p.memory() && page > 0 { //nolint:gosec // page sizes are small
		n = n / page * page
	}
	return n, nil
}

// judgeUnit compares how envd is started with how E2B does it.
func judgeUnit(c *subject) Outcome {
	envd := c.Snapshot.Envd
	if envd == nil {
		return unproven("the running envd was not found in the guest")
	}
	if c.promise.version == "" {
		return unproven("what this envd promises is not known: %s", c.promise.unknown)
	}
	how := serviceOf(envd)
	if how != underSystemd {
		where, err := whereIs(envd.Process)
		if err != nil {
			where = "a cgroup that could not be read"
		}
		o := notApplicable("envd is started by %s, which gives it no cgroup of its own to protect", how)
		return o.advise("envd was started by %s and runs in %s%s, without a weight or memory of its own: it competes with everything else there as an equal",
			how, where, processProtection(envd.Process))
	}
	var missing []string
	for _, id := range protectionIDs() {
		p := protections[id]
		if p.Since.in(c.promise.version, c.promise.commit) == there && envd.Unit.Settings[p.Setting] == "" {
			missing = append(missing, p.Setting+"="+p.Want)
		}
	}
	read := "unit " + strings.Join(envd.Unit.Files, ", ")
	wanted := "the settings of E2B's unit of envd " + envd.Version
	if len(missing) > 0 {
		return fail(read+" without "+words(missing), wanted, "the unit %s lacks %s, which E2B's own unit has", envd.Unit.Name, words(missing))
	}
	return pass(read, wanted, "the unit %s has every setting of E2B's", envd.Unit.Name)
}

// processProtection shows what the process itself has.
func processProtection(p evidence.Process) string {
	text := ""
	if p.OOMScoreAdj != nil {
		text += fmt.Sprintf(", oom_score_adj %d", *p.OOMScoreAdj)
	}
	if p.Nice != nil {
		text += fmt.Sprintf(", nice %d", *p.Nice)
	}
	return text
}

func judgeSurvives(c *subject) Outcome {
	before, after := c.Snapshot.Envd, c.Later.Envd
	if before == nil || after == nil {
		return unproven("the running envd was not found at one of the two looks")
	}
	if before.Process.PID == 0 || after.Process.PID == 0 || before.Process.StartTicks == 0 || after.Process.StartTicks == 0 {
		return unproven("envd's PID or start time was not read")
	}
	read := fmt.Sprintf("PID %d, started at tick %d", after.Process.PID, after.Process.StartTicks)
	wanted := fmt.Sprintf("PID %d, started at tick %d", before.Process.PID, before.Process.StartTicks)
	if read != wanted {
		return fail(read, wanted, "envd ended and was started again %s: it was PID %d and is PID %d", c.between(), before.Process.PID, after.Process.PID)
	}
	return pass(read, wanted, "envd is still PID %d, %s", after.Process.PID, c.between())
}
