package requirement

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/requirements.md anew")

const documentPath = "../../docs/requirements.md"

// The page is made from the catalogue and the tables, and is never older than
// they are.
func TestDocumentIsCurrent(t *testing.T) {
	want := document()
	if *update {
		if err := os.WriteFile(documentPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(documentPath)
	if err != nil || string(got) != want {
		t.Errorf("docs/requirements.md is not what the catalogue says now (%v); renew it: go test ./internal/requirement -run TestDocumentIsCurrent -update", err)
	}
}

// document renders the catalogue, the generations and the protections.
func document() string {
	var b strings.Builder
	b.WriteString(`# What must hold

This page is made from the catalogue; it is renewed by ` + "`go test ./internal/requirement -run TestDocumentIsCurrent -update`" + `. Why each check is
there is told in [how-it-knows.md](how-it-knows.md).

A requirement of level core decides the verdict; extended ones are notes on it, unless the profile is extended; advisory ones
never decide. The stages stand in the order in which things can break, and a verdict names the first that did. "Reads" are the
fields of the evidence without which the requirement cannot pass.
`)
	for _, stage := range Stages() {
		of := slices.DeleteFunc(All(), func(r Requirement) bool { return r.Stage != stage })
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n", stage)
		for _, r := range of {
			fmt.Fprintf(&b, "\n### %s (%s)\n\n%s.\n\n- Why: %s\n- Next: %s\n- Reference: %s\n- Evidence: %s\n", r.ID, r.Level, capital(r.Title),
				r.Why, r.Next, r.Reference, pieces(r))
			if len(r.Inputs) > 0 {
				fmt.Fprintf(&b, "- Reads: %s\n", code(r.Inputs))
			}
		}
	}
	writeGenerations(&b)
	writeProtections(&b)
	return b.String()
}

func pieces(r Requirement) string {
	var names []string
	for _, p := range slices.Concat(r.Needs, r.Helps) {
		names = append(names, string(p))
	}
	text := strings.Join(names[:len(r.Needs)], ", ")
	if len(r.Helps) > 0 {
		text += "; where there is some: " + strings.Join(names[len(r.Needs):], ", ")
	}
	return text
}

func writeGenerations(b *strings.Builder) {
	b.WriteString(`
## What each envd promises

Versions are those that the running binary prints (` + "`/proc/PID/exe -version`" + `), commits those of e2b-dev/infra. A shared version is
one that builds before the commit print too: the commit that the binary prints (` + "`-commit`" + `) decides where it is listed, else both
are accepted, and the outcome says so. The limit is MemTotal − min(MemTotal/8, 128 MiB), rounded down to a page.
A version after ` + newestVersion + ` is unknown: its outcome is unproven and shows what was read as rows for this table.

| generation | since | sets | how it fails | what it says |
|---|---|---|---|---|
`)
	for _, g := range generations {
		var sets []string
		for _, p := range g.Properties {
			sets = append(sets, fmt.Sprintf("%s/%s %s", p.Group, p.File, formulaText(p)))
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", g.Name, sinceText(g.Since), strings.Join(sets, "; "), g.Fails, code(g.Messages))
	}
	b.WriteString("\nBeside the limits:\n\n| since | change |\n|---|---|\n")
	for _, c := range changes() {
		fmt.Fprintf(b, "| %s | %s |\n", sinceText(c.Since), c.What)
	}
}

func writeProtections(b *strings.Builder) {
	b.WriteString(`
## How envd itself is protected

Under systemd envd runs in ` + "`system.slice/envd.service`" + `, and the guest is held to what the unit's own files say; under OpenRC it runs
below supervise-daemon, which sets no cgroup values; under a shell init it runs in the root cgroup, and nothing is promised.

| setting | E2B's value | where it shows | since | under OpenRC |
|---|---|---|---|---|
`)
	for _, id := range protectionIDs() {
		p := protections[id]
		where, openRC := p.File, "no"
		if where == "" {
			where = "the process"
		}
		if p.OpenRC {
			openRC = "yes (1abece199)"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", p.Setting, p.Want, where, sinceText(p.Since), openRC)
	}
}

func sinceText(s Since) string {
	text := s.Version
	if s.Commit == "" {
		return "the beginning"
	}
	text += " (" + s.Commit + ")"
	if s.Shared {
		text += ", shared"
	}
	if len(s.Before) > 0 {
		text += "; without it: " + strings.Join(s.Before, ", ")
	}
	if len(s.After) > 0 {
		text += "; with it: " + strings.Join(s.After, ", ")
	}
	return text
}

func formulaText(p Property) string {
	switch {
	case p.Want.Limit:
		return "limit"
	case p.File == "io.weight":
		return fmt.Sprintf("default %d", p.Want.Number)
	}
	return strconv.FormatUint(p.Want.Number, 10)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func code(texts []string) string {
	quoted := make([]string, len(texts))
	for i, s := range texts {
		quoted[i] = "`" + strings.TrimSpace(s) + "`"
	}
	return strings.Join(quoted, ", ")
}
