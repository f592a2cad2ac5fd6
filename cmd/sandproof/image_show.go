package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"sandproof/internal/image"
	"sandproof/internal/redact"
)

// imageWidth is how wide the last column of an image's tables runs, in columns.
const imageWidth = 96

// imageTable is a table in the style of the others.
func imageTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	return t
}

// wrapped makes text of an image lines of which none is too wide.
func wrapped(s string) string { return text.WrapSoft(harmless(s), imageWidth) }

// harmless makes text of an image, or of somebody else's run, one line that does
// nothing to a terminal, nor inside of a line to a GitHub workflow.
func harmless(s string) string {
	return strings.Join(strings.Fields(noCommand(redact.Terminal(s))), " ")
}

func showInventory(out io.Writer, inv *image.Inventory) {
	t := imageTable()
	row := func(name, format string, args ...any) {
		t.AppendRow(table.Row{name, wrapped(fmt.Sprintf(format, args...))})
	}
	showBuild(row, inv)
	if inv.Unreadable != "" {
		row("not read", "%s", inv.Unreadable)
		fmt.Fprintln(out, t.Render())
		return
	}
	showInit(row, inv)
	for _, e := range inv.Envds {
		row("envd", "%s", envdText(e))
	}
	for _, tool := range inv.Tools {
		switch {
		case tool.File == nil:
			row(tool.Name, "none")
		case tool.Busybox:
			row(tool.Name, "%s (busybox)", tool.File.Path)
		default:
			row(tool.Name, "%s", tool.File.Path)
		}
	}
	for _, u := range inv.Users {
		row("user", "%s, %d, %s, %s", u.Name, u.UID, u.Home, u.Shell)
	}
	fmt.Fprintln(out, t.Render())
	showSteps(out, inv.Init.Script)
}

func showBuild(row func(name, format string, args ...any), inv *image.Inventory) {
	b := inv.Build
	row("image", "%s", b.RootFS)
	if b.ID != "" {
		row("build", "%s %s", b.ID, b.Template)
	}
	row("size", "%d bytes, of which %d on the disk", inv.Size, inv.Allocated)
	beside := []string{}
	for _, file := range append([]string{b.Header, b.Memfile, b.Snapfile, b.Metadata}, b.CachedSnapshots...) {
		if file != "" {
			beside = append(beside, file)
		}
	}
	row("beside it", "%s", cmp.Or(strings.Join(beside, ", "), "nothing"))
	if m := inv.Metadata; m != nil {
		row("metadata", "%s", cmp.Or(m.Problem, fmt.Sprintf("build %s, template %s, envd %s, kernel %s, Firecracker %s", cmp.Or(m.BuildID, "?"), cmp.Or(m.TemplateID, "?"),
			cmp.Or(m.EnvdVersion, "?"), cmp.Or(m.KernelVersion, "?"), cmp.Or(m.FirecrackerVersion, "?"))))
	}
	if fs := inv.FileSystem; fs != nil {
		state := "clean"
		for _, trouble := range []struct {
			is   bool
			text string
		}{{fs.Truncated, "truncated"}, {fs.Errors, "with errors"}, {fs.Dirty, "journal to be replayed"}} {
			if trouble.is {
				state = trouble.text
			}
		}
		row("file system", "%s, %d bytes, %d free, blocks of %d, %s", fs.UUID, fs.Size, fs.Free, fs.BlockSize, state)
		row("features", "%s", strings.Join(fs.Features, " "))
	}
}

func showInit(row func(name, format string, args ...any), inv *image.Inventory) {
	in := inv.Init
	row("init", "%s", fileText(in.File)+", "+string(in.InitKind))
	if in.Interpreter != nil {
		row("interpreter", "%s %s", fileText(*in.Interpreter), in.InterpreterArgs)
	}
	if s := in.Script; s != nil {
		var facts []string
		if s.CRLF {
			facts = append(facts, "lines end in CR LF")
		}
		if s.NoNewline {
			facts = append(facts, "no newline at its end")
		}
		if s.Patched > 0 {
			facts = append(facts, fmt.Sprintf("has sandproof's delegation %d", s.Patched))
		}
		if s.Syntax != "" {
			facts = append(facts, s.Syntax)
		}
		if facts != nil {
			row("script", "%s", strings.Join(facts, "; "))
		}
	}
	if s := inv.Systemd; s != nil {
		row("unit", "%s, enabled: %t", fileText(s.Unit), s.Enabled)
		for _, d := range s.DropIns {
			row("drop-in", "%s", fileText(d))
		}
		for _, setting := range s.Settings {
			row("setting", "%s=%s (%s:%d)", setting.Key, setting.Value, setting.Path, setting.Line)
		}
	}
	if rc := inv.OpenRC; rc != nil {
		row("service", "%s, in a runlevel: %t; cgroups in one: %t", fileText(rc.Service), rc.Envd, rc.Cgroups)
	}
}

// fileText tells what the image has at a path.
func fileText(f image.File) string {
	way := []string{f.Path}
	for _, link := range f.Links {
		way = append(way, fmt.Sprintf("(%s → %s)", link.Path, link.Target))
	}
	text := strings.Join(way, " ")
	switch {
	case f.Problem != "":
		return text + ": " + f.Problem
	case f.Kind == "":
		return text + ": not there"
	case f.Real != f.Path:
		text += ", that is " + f.Real
	}
	text += fmt.Sprintf(", %s, mode %s of %d:%d, %d bytes", f.Kind, f.Mode, f.UID, f.GID, f.Size)
	if f.SHA256 != "" {
		text += ", SHA-256 " + f.SHA256
	}
	return text
}

func envdText(e image.Envd) string {
	text := fmt.Sprintf("%s; version %s, commit %s, generation %s", fileText(e.File), cmp.Or(e.Version, "not told"), cmp.Or(e.Commit, "not told"), cmp.Or(e.Generation, "unknown"))
	if e.Unknown != "" {
		text += ": " + e.Unknown
	}
	if e.Started {
		text += "; the init starts it"
	}
	return text
}

func showSteps(out io.Writer, s *image.Text) {
	if s == nil || len(s.Steps) == 0 {
		return
	}
	t := imageTable()
	t.AppendHeader(table.Row{"line", "step", "target", "controllers", "errors"})
	for _, step := range s.Steps {
		errs := cmp.Or(step.Stderr, "to the console that the kernel opened")
		if step.Quiet {
			errs = "thrown away"
		}
		if step.Fatal {
			errs += ", end the script"
		}
		names := strings.Join(step.Controllers, " ")
		if step.Open {
			names = strings.TrimSpace(names + " (only a run knows)")
		}
		t.AppendRow(table.Row{step.Line, step.Kind, harmless(step.Target), harmless(names), harmless(errs)})
	}
	fmt.Fprintln(out, t.Render())
}

func showFindings(out io.Writer, inv *image.Inventory, findings []image.Finding) {
	counts := map[image.Severity]int{}
	if len(findings) > 0 {
		t := imageTable()
		t.Style().Options.SeparateRows = true
		t.AppendHeader(table.Row{"severity", "finding", "where", "what"})
		for _, f := range findings {
			counts[f.Severity]++
			where := f.Path
			if f.Line > 0 {
				where += fmt.Sprintf(":%d", f.Line)
			}
			t.AppendRow(table.Row{f.Severity, f.ID, harmless(where), strings.Join([]string{
				wrapped(f.Title + ": " + f.Text), wrapped("why: " + f.Why), wrapped("do: " + f.WayOut),
			}, "\n")})
		}
		fmt.Fprintln(out, t.Render())
	}
	fmt.Fprintf(out, "%s: %d errors, %d warnings, %d notes\n", harmless(inv.Build.RootFS),
		counts[image.SeverityError], counts[image.SeverityWarning], counts[image.SeverityNote])
}
