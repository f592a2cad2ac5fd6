package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sandproof/internal/verdict"
)

// showReport writes a report where a person reads it: on the terminal, and in a GitHub
// workflow as annotations and the step's summary as well.
func showReport(cmd *cobra.Command, report verdict.Report) {
	out := cmd.OutOrStdout()
	_ = writeProse(out, []byte(report.Text(terminalOf(out))))
	if !inWorkflow() {
		return
	}
	for _, line := range report.Annotations() {
		fmt.Fprintln(out, line)
	}
	if err := appendSummary(os.Getenv("GITHUB_STEP_SUMMARY"), report); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "sandproof: no summary of the step: %v\n", err)
	}
}

// inWorkflow tells whether GitHub's runner reads what is said.
func inWorkflow() bool { return os.Getenv("GITHUB_ACTIONS") == "true" }

// writeProse writes lines for people where the program says things. In a GitHub
// workflow no line of it, which a guest may have written, is taken for a command.
// https://docs.github.com/actions/reference/workflow-commands-for-github-actions#stopping-and-starting-workflow-commands
func writeProse(out io.Writer, text []byte) error {
	if !inWorkflow() {
		return writeText(out, text)
	}
	token := rand.Text()
	_, err := fmt.Fprintf(out, "::stop-commands::%s\n%s::%s::\n", token, text, token)
	return err
}

// appendSummary adds the report to the step's summary, as long as that may be:
// of one that is longer, GitHub shows nothing.
func appendSummary(name string, report verdict.Report) error {
	if name == "" {
		return nil
	}
	used := 0
	switch info, err := os.Stat(name); {
	case err == nil:
		used = int(info.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// A mask may be longer than what it stands for.
	text := redactor().String(report.Markdown(verdict.SummaryMost - used))
	if used+len(text) > verdict.SummaryMost {
		return fmt.Errorf("%s has no room left: GitHub takes %d bytes", name, verdict.SummaryMost)
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// terminalOf is what is known of the terminal behind a writer. Colours are for
// terminals, but for what NO_COLOR (no-color.org) and CLICOLOR_FORCE
// (bixense.com/clicolors) say.
func terminalOf(out io.Writer) verdict.Terminal {
	t := verdict.Terminal{}
	if file := terminalFile(out); file != nil {
		t.Color = os.Getenv("TERM") != "dumb" && os.Getenv("CLICOLOR") != "0"
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			t.Width = width
		}
	}
	switch force := os.Getenv("CLICOLOR_FORCE"); {
	case os.Getenv("NO_COLOR") != "":
		t.Color = false
	case force != "" && force != "0":
		t.Color = true
	}
	return t
}

// terminalFile is the terminal behind a writer, nil where there is none.
func terminalFile(out io.Writer) *os.File {
	if wrapper, ok := out.(interface{ Unwrap() io.Writer }); ok {
		out = wrapper.Unwrap()
	}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return file
}
