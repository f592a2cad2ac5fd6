package main

import (
	"path/filepath"
	"strings"
	"testing"

	"sandproof/internal/config"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

// recordedShard is one of two shards of the templates one and two, in which
// every requirement has passed.
func recordedShard(t *testing.T, number int) string {
	t.Helper()
	expected := []string{"one", "two"}
	run, err := rundir.Create(t.TempDir(), rundir.Manifest{
		Run: "shard", Target: "lab", Profile: "core", Harness: version, ConfigHash: "abc", Templates: config.Cut(expected, number, 2),
		Shard: &rundir.Shard{Number: number, Of: 2, Expected: expected},
	}, []byte("target: lab\n"))
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := run.Recorder(1, redact.New())
	if err != nil {
		t.Fatal(err)
	}
	recordAll(t, recorder, run.Manifest.Templates[0], requirement.Outcome{})
	writeEvidence(t, run, run.Manifest.Templates[0])
	if err := recorder.Close(); err != nil {
		t.Fatal(err)
	}
	return run.Dir
}

// The gate of a merged run is that of all its shards; one that is missing
// leaves its templates unproven.
func TestGateOfAMergedRun(t *testing.T) {
	one, two := recordedShard(t, 1), recordedShard(t, 2)
	whole, part := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "part")
	for _, test := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"gate", one}, verdict.ExitIsolated, "this is shard 1/2 alone: nothing is said of two"},
		{[]string{"merge", "--into", whole, one, two}, verdict.ExitIsolated, "shard 2/2: two: run shard"},
		{[]string{"gate", whole}, verdict.ExitIsolated, "two"},
		{[]string{"merge", "--into", part, two}, verdict.ExitUnproven, "shard 1/2: one: MISSING, so unproven"},
		{[]string{"gate", part}, verdict.ExitUnproven, "shard 1/2 is not there: nothing is known of one"},
		{[]string{"merge", "--into", whole, one}, verdict.ExitInfra, "exists already"},
		{[]string{"merge", one, two}, verdict.ExitInfra, "--into DIR"},
		{[]string{"merge", "--into", filepath.Join(t.TempDir(), "x")}, verdict.ExitInfra, "not one shard left any"},
	} {
		if exit, says := command(t, test.args...); exit != test.exit || !strings.Contains(says, test.says) {
			t.Errorf("%q: exit %d, want %d and %q, got:\n%s", test.args, exit, test.exit, test.says, says)
		}
	}
}

// What the manifests of shards say is shown on its line, and gives no commands.
func TestMergeGivesNoCommands(t *testing.T) {
	hostile := []string{"one\x1b[2J\n::error::pwned", "two\r##[error]pwned\u202e"}
	var dirs []string
	for number := range 2 {
		run, err := rundir.Create(t.TempDir(), rundir.Manifest{
			Run: "shard", Target: "lab", Profile: "core", Harness: version, ConfigHash: "abc", Templates: hostile[number : number+1],
			Shard: &rundir.Shard{Number: number + 1, Of: 2, Expected: hostile},
		}, []byte("target: lab\n"))
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, run.Dir)
	}
	_, said := command(t, append([]string{"merge", "--into", filepath.Join(t.TempDir(), "x")}, dirs...)...)
	commandLess(t, said)
	if strings.Count(said, "pwned") != 2 || strings.Count(said, "\nshard ") != 1 {
		t.Errorf("it says:\n%q", said)
	}
}
