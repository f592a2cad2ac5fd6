package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"sandproof/internal/rundir"
)

func green() *cobra.Command {
	state := ""
	cmd := &cobra.Command{
		Use:   "green --state FILE RUN...",
		Short: "Keep which builds were judged isolated, for sandproof templates --changed-since",
		Long: "green takes over what gated runs say into a file that is kept from run to run: a build that was judged isolated is\n" +
			"green, and a template that a run did not find isolated no longer is. A file that is not there yet is made.",
		Example: "  sandproof gate runs/nightly && sandproof green --state last-green.json runs/nightly",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if state == "" {
				return errors.New("say which file: --state FILE")
			}
			var greens rundir.Greens
			_, err := os.Stat(state)
			known := !errors.Is(err, fs.ErrNotExist)
			if known {
				if greens, err = rundir.LoadGreens(state); err != nil {
					return err
				}
			}
			for _, dir := range args {
				run, err := rundir.Open(dir, redactor())
				if err != nil {
					return err
				}
				if !known {
					greens, known = rundir.NewGreens(run.Manifest.Target), true
				}
				if err := greens.Update(run); err != nil {
					return err
				}
			}
			if err := greens.Save(state); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d builds are green on target %s\n", state, len(greens.Builds), greens.Target)
			return nil
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "the `file` that is kept")
	return cmd
}
