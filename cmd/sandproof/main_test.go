package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sandproof/internal/verdict"
)

// A command of which only those below it do something is not green by itself: a
// script that misspells one of them, or gives none, is told so.
func TestUnknownCommandsAreErrors(t *testing.T) {
	parents := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, below := range cmd.Commands() {
			walk(below)
		}
		if !cmd.HasSubCommands() {
			return
		}
		parents++
		path := strings.Fields(cmd.CommandPath())[1:]
		below := cmd.Commands()[0].Name()
		for misspelt, says := range map[string]string{"nonsense": `unknown command "nonsense"`, below + "x": below} {
			if exit, said := command(t, append(slices.Clone(path), misspelt, "x")...); exit != verdict.ExitInfra || !strings.Contains(said, says) {
				t.Errorf("%s %s: exit %d, want %q:\n%s", cmd.CommandPath(), misspelt, exit, says, said)
			}
		}
		if exit, said := command(t, append(slices.Clone(path), "--help")...); exit != verdict.ExitIsolated || !strings.Contains(said, below) {
			t.Errorf("%s --help: exit %d:\n%s", cmd.CommandPath(), exit, said)
		}
		if !cmd.HasParent() {
			return
		}
		if exit, said := command(t, path...); exit != verdict.ExitInfra || !strings.Contains(said, "say which command") {
			t.Errorf("%s: exit %d:\n%s", cmd.CommandPath(), exit, said)
		}
	}
	walk(root())
	if parents < 4 {
		t.Errorf("%d commands with others below them were found", parents)
	}
}
