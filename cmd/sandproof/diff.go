package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

func diff() *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Compare two runs: what a patch fixed, what it made worse, what nobody looked at",
		Long: "diff shows what changed from one run directory to another, and nothing else: what is fixed first, then what\n" +
			"got worse, side effects, and what was judged before and was not judged now.\n\n" +
			"Exit codes: 0 nothing got worse, and every template is isolated now; 1 something got worse or is not fixed;\n" +
			"2 something that was judged before was not judged now, or is unproven; 3 trouble of the infrastructure or the\n" +
			"harness. The worst counts, in the order 1, 3, 2, 0.",
		Example: "  sandproof diff runs/before runs/after\n  sandproof diff --format markdown runs/before runs/after >comment.md",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := side(args[0])
			if err != nil {
				return err
			}
			after, err := side(args[1])
			if err != nil {
				return err
			}
			d := verdict.Compare(before, after)
			var text string
			switch format {
			case "text":
				text = d.Text()
			case "markdown":
				text = d.Markdown(verdict.CommentMost)
			case "json":
				if text, err = d.JSON(); err != nil {
					return err
				}
			case "html":
				if text, err = diffPage(args[0], args[1]); err != nil {
					return err
				}
			default:
				return fmt.Errorf("--format %q: want text, markdown, json or html", format)
			}
			write := writeText
			switch format {
			case "text":
				write = writeProse
			case "html":
				write = writeDocument
			}
			if err := write(cmd.OutOrStdout(), []byte(text)); err != nil {
				return err
			}
			if d.Exit != verdict.ExitIsolated {
				return exitError(d.Exit)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text for a terminal, markdown, json or html")
	return cmd
}

// diffPage is the report of the second run, with what changed since the first.
func diffPage(before, after string) (string, error) {
	earlier, err := readReport(before)
	if err != nil {
		return "", err
	}
	r, err := readReport(after)
	if err != nil {
		return "", err
	}
	page, err := r.HTML(&earlier)
	return string(page), err
}

// side reads one of the two runs that are compared.
func side(dir string) (verdict.Side, error) {
	run, err := rundir.Open(dir, redactor())
	if err != nil {
		return verdict.Side{}, err
	}
	merged, err := run.Merge()
	if err != nil {
		return verdict.Side{}, err
	}
	all, err := run.Evidence()
	if err != nil {
		return verdict.Side{}, err
	}
	m := run.Manifest
	s := verdict.Side{
		Run: m.Run, Target: m.Target, Profile: config.Profile(m.Profile), Harness: m.Harness, Problems: merged.Problems, Evidence: all,
		Verdicts: run.Verdicts(merged, inputs(run, all)), Sandboxes: map[string][][]requirement.Outcome{},
	}
	for _, template := range m.Templates {
		for _, sandbox := range m.Sandboxes(template) {
			s.Sandboxes[template] = append(s.Sandboxes[template], merged.Outcomes[sandbox])
		}
	}
	return s, nil
}
