// Package cgroup2 parses the kernel's text formats around cgroup v2: the
// interface files, /proc/PID/cgroup and mountinfo. It is pure: text in,
// values out. The text comes from a guest and is hostile, so nothing here
// panics and nothing is guessed.
//
// Sources: Linux Documentation/admin-guide/cgroup-v2.rst and
// Documentation/accounting/psi.rst, cgroups(7) and proc_pid_mountinfo(5).
package cgroup2

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Value is the value of an interface file that holds one number or "max".
type Value struct {
	// Max is true where the file says "max": no limit.
	Max bool
	// Number is the number otherwise; bytes for memory files.
	Number uint64
}

// String shows the value as the file has it.
func (v Value) String() string {
	if v.Max {
		return "max"
	}
	return strconv.FormatUint(v.Number, 10)
}

// ParseValue parses memory.high, memory.max, cpu.weight, pids.max and their
// like: one unsigned number or "max".
func ParseValue(text string) (Value, error) {
	word := strings.TrimSuffix(text, "\n")
	if word == "max" {
		return Value{Max: true}, nil
	}
	n, err := parseNumber(word)
	if err != nil {
		return Value{}, fmt.Errorf("want one number or \"max\", got %s", shorten(text))
	}
	return Value{Number: n}, nil
}

// IOWeight is the content of io.weight.
type IOWeight struct {
	Default uint64
	// Devices holds the weights of single devices by "major:minor".
	Devices map[string]uint64
}

// ParseIOWeight parses io.weight: a line "default N", and lines
// "major:minor N".
func ParseIOWeight(text string) (IOWeight, error) {
	w := IOWeight{}
	seenDefault := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return IOWeight{}, fmt.Errorf("io.weight: want lines of a name and a number, got %s", shorten(line))
		}
		n, err := parseNumber(fields[1])
		if err != nil {
			return IOWeight{}, fmt.Errorf("io.weight: %w", err)
		}
		switch {
		case fields[0] == "default" && !seenDefault:
			w.Default, seenDefault = n, true
		case deviceNumber().MatchString(fields[0]):
			if w.Devices == nil {
				w.Devices = map[string]uint64{}
			}
			w.Devices[fields[0]] = n
		default:
			return IOWeight{}, fmt.Errorf("io.weight: unexpected line %s", shorten(line))
		}
	}
	if !seenDefault {
		return IOWeight{}, fmt.Errorf("io.weight: no default in %s", shorten(text))
	}
	return w, nil
}

// ParseIOCostQoS parses io.cost.qos and returns the devices, "major:minor", for
// which it enables io.weight: lines of a device and of keys with values, of
// which one is enable.
func ParseIOCostQoS(text string) (enabled []string, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if !deviceNumber().MatchString(fields[0]) {
			return nil, fmt.Errorf("io.cost.qos: want lines of a device and its settings, got %s", shorten(line))
		}
		if slices.Contains(fields[1:], "enable=1") {
			enabled = append(enabled, fields[0])
		}
	}
	return enabled, nil
}

var (
	deviceNumber   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{1,10}:[0-9]{1,10}$`) })
	controllerName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`) })
)

// ParseControllers parses cgroup.controllers and cgroup.subtree_control:
// names between blanks on one line, which may be empty.
func ParseControllers(text string) ([]string, error) {
	if strings.Contains(strings.TrimSuffix(text, "\n"), "\n") {
		return nil, fmt.Errorf("want one line of controller names, got %s", shorten(text))
	}
	names := strings.Fields(text)
	for i, name := range names {
		if !controllerName().MatchString(name) {
			return nil, fmt.Errorf("%s is no controller name", shorten(name))
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("controller %s stands twice in %s", name, shorten(text))
		}
	}
	return names, nil
}

// ParseFlatKeyed parses cgroup.events, memory.events and their like: lines of
// a key and a number.
func ParseFlatKeyed(text string) (map[string]uint64, error) {
	values := map[string]uint64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("want lines of a key and a number, got %s", shorten(line))
		}
		n, err := parseNumber(fields[1])
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", shorten(fields[0]), err)
		}
		if _, twice := values[fields[0]]; twice {
			return nil, fmt.Errorf("key %s stands twice", shorten(fields[0]))
		}
		values[fields[0]] = n
	}
	return values, nil
}

// Pressure is how long tasks were stalled in total, in microseconds: Some at
// least one of them, Full all that would run.
type Pressure struct{ Some, Full uint64 }

// ParsePressure parses memory.pressure and io.pressure: a line "some" and a
// line "full", each with averages over 10, 60 and 300 seconds and the total
// (Documentation/accounting/psi.rst).
func ParsePressure(text string) (Pressure, error) {
	totals := map[string]uint64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "some" && fields[0] != "full" {
			return Pressure{}, fmt.Errorf("want lines of some and full, got %s", shorten(line))
		}
		if _, twice := totals[fields[0]]; twice {
			return Pressure{}, fmt.Errorf("line %s stands twice", fields[0])
		}
		total, err := pressureTotal(fields[1:])
		if err != nil {
			return Pressure{}, fmt.Errorf("line %s: %w", fields[0], err)
		}
		totals[fields[0]] = total
	}
	if len(totals) != 2 {
		return Pressure{}, fmt.Errorf("want a line of some and one of full, got %s", shorten(text))
	}
	return Pressure{Some: totals["some"], Full: totals["full"]}, nil
}

// pressureTotal finds the one total among the fields of a line.
func pressureTotal(fields []string) (uint64, error) {
	words := slices.DeleteFunc(slices.Clone(fields), func(field string) bool { return !strings.HasPrefix(field, "total=") })
	if len(words) != 1 {
		return 0, fmt.Errorf("want one total, got %s", shorten(strings.Join(fields, " ")))
	}
	return parseNumber(strings.TrimPrefix(words[0], "total="))
}

// ErrNoV2 means that a /proc/PID/cgroup has no line of the v2 hierarchy: it
// was never mounted.
var ErrNoV2 = errors.New("no line of the cgroup v2 hierarchy (0::)")

// ParseProcCgroup returns the v2 path in /proc/PID/cgroup, "/user" for
// "0::/user". The lines of v1 hierarchies are passed over. A deleted cgroup
// keeps the mark " (deleted)" that the kernel appends, since a process in it
// is not where its name says.
func ParseProcCgroup(text string) (string, error) {
	found := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		number, rest, ok := strings.Cut(line, ":")
		if !ok {
			return "", fmt.Errorf("want lines ID:CONTROLLERS:PATH, got %s", shorten(line))
		}
		controllers, where, ok := strings.Cut(rest, ":")
		if !ok || !strings.HasPrefix(where, "/") {
			return "", fmt.Errorf("want lines ID:CONTROLLERS:PATH, got %s", shorten(line))
		}
		if number != "0" || controllers != "" {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("two lines of the v2 hierarchy: %s", shorten(text))
		}
		found = where
	}
	if found == "" {
		return "", ErrNoV2
	}
	return found, nil
}

// Mount is one line of mountinfo.
type Mount struct {
	// Root is the directory of the file system that is mounted, Point where.
	Root, Point string
	// Type is the file system's type, "cgroup2".
	Type string
	// Options are those of this mount, SuperOptions those of the file system.
	Options, SuperOptions []string
}

// ParseMount parses one line of /proc/PID/mountinfo.
func ParseMount(line string) (Mount, error) {
	// One blank stands between fields: an empty source leaves two, and other
	// white space may be part of a name.
	fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	separator := slices.Index(fields, "-")
	if len(fields) < 10 || separator < 6 || len(fields)-separator < 4 {
		return Mount{}, fmt.Errorf("not a line of mountinfo: %s", shorten(line))
	}
	m := Mount{
		Root: unescape(fields[3]), Point: unescape(fields[4]), Type: fields[separator+1],
		Options: strings.Split(fields[5], ","), SuperOptions: strings.Split(fields[separator+3], ","),
	}
	if !path.IsAbs(m.Point) {
		return Mount{}, fmt.Errorf("mount point %s is not absolute", shorten(m.Point))
	}
	return m, nil
}

// ReadOnly tells whether nothing can be written through this mount.
func (m Mount) ReadOnly() bool {
	return slices.Contains(m.Options, "ro") || slices.Contains(m.SuperOptions, "ro")
}

// Covers tells whether a path lies at or below the mount point.
func (m Mount) Covers(p string) bool {
	return m.Point == "/" || p == m.Point || strings.HasPrefix(p, m.Point+"/")
}

// MountAt finds the mount that is seen at a path: the last one whose mount
// point is the path or the nearest directory above it.
func MountAt(lines []string, p string) (Mount, error) {
	var found Mount
	for _, line := range lines {
		mount, err := ParseMount(line)
		if err != nil {
			return Mount{}, fmt.Errorf("/proc/self/mountinfo: %w", err)
		}
		if mount.Covers(p) && len(mount.Point) >= len(found.Point) {
			found = mount
		}
	}
	if found.Point == "" {
		return Mount{}, fmt.Errorf("no mount covers %s in the guest's mountinfo", p)
	}
	return found, nil
}

var octal = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\\[0-7]{3}`) })

// unescape undoes the octal escapes of blanks and backslashes in mountinfo.
func unescape(s string) string {
	return octal().ReplaceAllStringFunc(s, func(escape string) string {
		n, err := strconv.ParseUint(escape[1:], 8, 8)
		if err != nil {
			return escape
		}
		return string([]byte{byte(n)})
	})
}

// parseNumber accepts plain decimal digits only, as the kernel prints them.
func parseNumber(word string) (uint64, error) {
	if word == "" || word[0] < '0' || word[0] > '9' {
		return 0, fmt.Errorf("%s is no number", shorten(word))
	}
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no number", shorten(word))
	}
	return n, nil
}

// shorten quotes hostile text for an error.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
