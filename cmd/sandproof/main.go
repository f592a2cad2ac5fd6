// Command sandproof is the command line around the suites: it judges runs,
// gates releases, and prepares the lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sandproof/internal/fixtures/lab"
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
	err := root().ExecuteContext(ctx)
	if code, ok := errors.AsType[exitError](err); ok {
		os.Exit(int(code)) //nolint:forbidigo,gocritic // the gate's code is its answer, and nothing is left to defer
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandproof:", err)
		os.Exit(verdict.ExitInfra) //nolint:forbidigo // an error of the harness itself
	}
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
