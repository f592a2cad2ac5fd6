package config

import (
	"strings"
	"time"
)

// StandIn begins the envd of a recipe that uses the lab's stand-in.
const StandIn = "stand-in "

// defaults is the configuration without file, environment and flags.
func defaults() Config {
	return Config{
		Target:      TargetAuto,
		Profile:     ProfileAuto,
		Experiments: SwitchAuto,
		Repeat:      1,
		Lab: Lab{
			Templates: []string{"base"},
			MaxGuests: 4,
			LogFormat: LogConsole,
			Recipes: map[string]Recipe{
				"base":           {Flavour: "busybox", Init: "delegated", Envd: StandIn + "0.6.13"},
				"base-unpatched": {Flavour: "busybox", Init: "unpatched", Envd: StandIn + "0.6.13"},
			},
		},
		Intervals: Intervals{
			SandboxTTL: 5 * time.Minute,
			Create:     90 * time.Second,
			EnvdReady:  30 * time.Second,
			Command:    30 * time.Second,
			Forwarder:  6 * time.Second,
			Burn:       500 * time.Millisecond,
			Pressure:   25 * time.Second,
			Settle:     2 * time.Second,
			LogQuiet:   600 * time.Millisecond,
			LogCap:     15 * time.Second,
			LogSettle:  150 * time.Millisecond,
			LogDelay:   15 * time.Second,
			Request:    80 * time.Second,
			Destroy:    90 * time.Second,
			Hop:        10 * time.Second,
			Keep:       30 * time.Minute,
			Poll:       100 * time.Millisecond,
		},
	}
}

// IntervalsFor returns the intervals for one template: its own where it sets
// them, else the run's.
func (c *Config) IntervalsFor(t Template) Intervals {
	merged := c.Intervals
	for i, own := range t.Intervals.all() {
		if *own != 0 {
			*merged.all()[i] = *own
		}
	}
	return merged
}

// intervalNames are the keys of the waits, in the order of all.
var intervalNames = []string{
	"sandbox-ttl", "create", "envd-ready", "command", "forwarder", "burn", "pressure", "settle",
	"log-quiet", "log-cap", "log-settle", "log-delay", "request", "destroy", "hop", "keep", "poll",
}

// all lists the fields in a fixed order.
func (i *Intervals) all() []*time.Duration {
	return []*time.Duration{
		&i.SandboxTTL, &i.Create, &i.EnvdReady, &i.Command, &i.Forwarder, &i.Burn, &i.Pressure, &i.Settle,
		&i.LogQuiet, &i.LogCap, &i.LogSettle, &i.LogDelay, &i.Request, &i.Destroy, &i.Hop, &i.Keep, &i.Poll,
	}
}

// IsPath tells a path from a name in a recipe: it has a slash.
func IsPath(s string) bool { return strings.Contains(s, "/") }

// StandInVersion returns the version of a recipe's stand-in, and false where
// the recipe names a binary.
func StandInVersion(envd string) (string, bool) { return strings.CutPrefix(envd, StandIn) }
