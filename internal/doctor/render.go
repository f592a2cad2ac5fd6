package doctor

import (
	"cmp"
	"fmt"
	"strings"

	"sandproof/internal/config"
)

// Head is what is shown before the hops: the configuration and where it comes
// from.
func (r *Report) Head() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sandproof %s, configuration %s\n\nEnvironment\n", r.Harness, cmp.Or(r.File, "the built-in defaults"))
	for _, v := range r.Variables {
		mark := " "
		if v.Suspect {
			mark = "!"
		}
		fmt.Fprintf(&b, " %s %-26s %s: %s\n", mark, v.Name, cmp.Or(v.Shown, "not set"), v.Use)
	}
	b.WriteString("\nSettings\n")
	var usual []string
	for _, o := range r.Settings {
		switch {
		case o.Layer != config.LayerDefault:
			fmt.Fprintf(&b, "   %-26s %s, from %s\n", o.Key, cmp.Or(o.Value, "none"), o.From)
		case o.Value != "":
			usual = append(usual, o.Key+" "+o.Value)
		}
	}
	if len(usual) > 0 {
		b.WriteString("   By default:\n")
		wrap(&b, usual)
	}
	return b.String()
}

// width is how wide the settings are shown, in characters.
const width = 100

func wrap(b *strings.Builder, words []string) {
	line := ""
	for _, word := range words {
		if line != "" && len(line)+len(word)+2 > width-5 {
			fmt.Fprintf(b, "     %s,\n", line)
			line = ""
		}
		if line != "" {
			line += ", "
		}
		line += word
	}
	fmt.Fprintf(b, "     %s\n", line)
}

// Line is a finding for people.
func (f Finding) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-11s %-18s %s", f.State, f.Hop, f.Tried)
	if f.Came != "" {
		fmt.Fprintf(&b, ": %s", indent(f.Came))
	}
	if f.TookMS >= 50 {
		fmt.Fprintf(&b, " (%.1f s)", float64(f.TookMS)/1000)
	}
	b.WriteString("\n")
	if f.Do != "" {
		fmt.Fprintf(&b, "%-30s -> %s\n", "", indent(f.Do))
	}
	return b.String()
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 34)) }

// Tail is what is shown after the hops: what to fix first.
func (r *Report) Tail() string {
	if len(r.FixFirst) == 0 {
		if r.Exit == ExitFine {
			return "\nEverything that was tried is fine.\n"
		}
		return "\nNot everything was tried.\n"
	}
	var b strings.Builder
	b.WriteString("\nFix first\n")
	for i, name := range r.FixFirst {
		for _, f := range r.Findings {
			if f.Hop == name {
				fmt.Fprintf(&b, "%3d. %s (%s): %s\n", i+1, f.Hop, f.State, indent(cmp.Or(f.Do, f.Came)))
			}
		}
	}
	return b.String()
}
