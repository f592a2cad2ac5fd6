// Command sandproof is the command line around the suites: it judges runs,
// gates releases, and prepares the lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/redact"
	"sandproof/internal/verdict"
)

// exitError ends the program with a code of the gate; what there is to say
// was said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	if os.Getenv(labEnv) != "" {
		os.Exit(lab.Main(os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // this process is the lab, and its exit code is the lab's
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) //nolint:forbidigo // a process's own root context
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo,gocritic // the gate's code is its answer, and nothing is left to defer
}

// run is the command line, with a redactor in front of everything that it says,
// and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out, errs := redact.NewWriter(stdout, redactor()), redact.NewWriter(stderr, redactor())
	cmd := root() //nolint:contextcheck // its commands take the context that they are executed with
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	err := cmd.ExecuteContext(ctx)
	err = errors.Join(err, out.Flush())
	code := verdict.ExitIsolated
	if exit, ok := errors.AsType[exitError](err); ok {
		code = int(exit)
	} else if err != nil {
		fmt.Fprintln(errs, "sandproof:", noCommand(redactor().String(err.Error())))
		code = verdict.ExitInfra
	}
	_ = errs.Flush()
	return code
}

// errorMost is how many bytes of an error are shown.
const errorMost = 64 << 10

// noCommand is an error's text, in which a server may have spoken, as it is shown
// to a person or in a GitHub workflow: without control characters, its further
// lines indented, and no line of it is a command of the workflow. GitHub's runner
// looks for "::" behind any space at a line's start, and for "##[" anywhere
// (actions/runner, src/Runner.Common/ActionCommand.cs).
func noCommand(text string) string {
	lines := strings.Split(strings.ReplaceAll(redact.Shown(text, errorMost), "##[", "# #["), "\n")
	for i, line := range lines[1:] {
		if strings.Contains(line, "::") {
			line = "| " + line
		}
		if !strings.HasPrefix(line, " ") {
			line = "  " + line
		}
		lines[i+1] = line
	}
	return strings.Join(lines, "\n")
}

// redactor knows the secrets of this process's environment. Whatever leaves the
// program goes through it: all that is said on both streams, and files.
func redactor() *redact.Redactor { return redact.New(config.Secrets(os.Environ())...) }

// writeText writes text where the program says things.
func writeText(out io.Writer, text []byte) error {
	_, err := out.Write(text)
	return err
}

// writeDocument writes a page or an XML document, of which the markup must stay,
// where the program says things.
func writeDocument(out io.Writer, text []byte) error {
	if w, ok := out.(*redact.Writer); ok {
		return w.WriteDocument(text)
	}
	_, err := out.Write(redactor().Document(text))
	return err
}

// parent makes a command of those below it. By itself it does nothing, and to be
// called so, or by a name that none of them has, is an error: cobra would show its
// help and answer 0, which a script takes for a green.
func parent(cmd *cobra.Command, below ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(below...)
	cmd.SuggestionsMinimumDistance = 2 // cobra's own for the root
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("say which command of %q: %s --help shows them", cmd.CommandPath(), cmd.CommandPath())
		}
		unknown := fmt.Sprintf("unknown command %q for %q: %s --help shows those there are", args[0], cmd.CommandPath(), cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			unknown += ", such as " + strings.Join(near, ", ")
		}
		return errors.New(unknown)
	}
	return cmd
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sandproof",
		Short: "Prove that E2B sandboxes are isolated",
		Long: "sandproof proves that E2B sandboxes are isolated. The suites do the work (make e2e, or ginkgo run ./e2e);\n" +
			"these commands judge what they recorded.",
		SilenceUsage: true, SilenceErrors: true,
	}
	cmd.AddCommand(gate(), judge(), diff(), report(), effectiveConfig(), labCommand(), verifyImage(), imageCommand(), logs(), doctorCommand(), shellCommand(), merge(), templates(), green())
	return cmd
}
