package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"sandproof/internal/redact"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

// reportFormat is one way of showing a run. The run before is nil where there
// is none to compare with.
type reportFormat struct {
	name string
	// file is what the gate calls it in a run directory.
	file   string
	render func(r verdict.Report, before *verdict.Report) ([]byte, error)
	// clean takes secrets out of it, and write does so on the way to a stream.
	clean func(*redact.Redactor, []byte) []byte
	write func(io.Writer, []byte) error
}

// reportFormats lists them, the default first.
func reportFormats() []reportFormat {
	text, document := (*redact.Redactor).Bytes, (*redact.Redactor).Document
	return []reportFormat{
		{"text", "report.txt", alone(func(r verdict.Report) ([]byte, error) { return []byte(verdict.Table(r)), nil }), text, writeProse},
		{"html", "report.html", func(r verdict.Report, before *verdict.Report) ([]byte, error) { return r.HTML(before) }, document, writeDocument},
		{"markdown", "report.md", alone(func(r verdict.Report) ([]byte, error) { return []byte(r.Markdown(verdict.SummaryMost)), nil }), text, writeText},
		{"junit", "junit.xml", alone(asBytes((*verdict.Report).JUnit)), document, writeDocument},
		{"json", "report.json", alone(asBytes((*verdict.Report).JSON)), text, writeText},
	}
}

// alone makes a format of one that shows no comparison.
func alone(render func(verdict.Report) ([]byte, error)) func(verdict.Report, *verdict.Report) ([]byte, error) {
	return func(r verdict.Report, before *verdict.Report) ([]byte, error) {
		if before != nil {
			return nil, errors.New("this format shows one run: use --format html, or sandproof diff BEFORE AFTER")
		}
		return render(r)
	}
}

// asBytes makes a renderer of one that gives a string.
func asBytes(render func(*verdict.Report) (string, error)) func(verdict.Report) ([]byte, error) {
	return func(r verdict.Report) ([]byte, error) {
		text, err := render(&r)
		return []byte(text), err
	}
}

// reportFormatNames are for help and errors: "text or html".
func reportFormatNames() string {
	var names []string
	for _, f := range reportFormats() {
		names = append(names, f.name)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func report() *cobra.Command {
	before, format, output := "", reportFormats()[0].name, ""
	cmd := &cobra.Command{
		Use:   "report RUN",
		Short: "Show a run, or what changed since another one: text, one HTML file, Markdown, JUnit or JSON",
		Long: "report shows what a run recorded. As HTML it is one file that needs no network: the matrix of templates and\n" +
			"stages, and of each template the reason, the next command, the control groups, the boot, the experiments, the\n" +
			"three witnesses, the log and the raw evidence. With --before the page compares two runs.\n\n" +
			"It shows and does not judge: it exits with 0 whatever the verdicts are, and with 3 where it cannot show them.",
		Example: "  sandproof report runs/latest\n  sandproof report --format html -o report.html runs/latest\n" +
			"  sandproof report --format html -o report.html --before runs/before runs/after",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, f := range reportFormats() {
				if f.name == format {
					return writeReport(cmd, f, args[0], before, output)
				}
			}
			return fmt.Errorf("--format %q: want %s", format, reportFormatNames())
		},
	}
	cmd.Flags().StringVar(&before, "before", "", "the `RUN` before, which the report compares with")
	cmd.Flags().StringVar(&format, "format", format, reportFormatNames())
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this `file` instead of the standard output")
	return cmd
}

// writeReport renders a run and puts it where it was asked for. A file is
// replaced whole, or left as it was.
func writeReport(cmd *cobra.Command, format reportFormat, run, before, output string) error {
	r, err := readReport(run)
	if err != nil {
		return err
	}
	var earlier *verdict.Report
	if before != "" {
		b, err := readReport(before)
		if err != nil {
			return err
		}
		earlier = &b
	}
	data, err := format.render(r, earlier)
	if err != nil {
		return fmt.Errorf("--format %s: %w", format.name, err)
	}
	if output == "" {
		return format.write(cmd.OutOrStdout(), data)
	}
	if err := renameio.WriteFile(output, format.clean(redactor(), data), 0o644); err != nil {
		return fmt.Errorf("write the report to %s: %w", output, err)
	}
	return nil
}

// readReport reads a run directory.
func readReport(dir string) (verdict.Report, error) {
	run, err := rundir.Open(dir, redactor())
	if err != nil {
		return verdict.Report{}, err
	}
	merged, err := run.Merge()
	if err != nil {
		return verdict.Report{}, err
	}
	return reportOf(run, merged)
}
