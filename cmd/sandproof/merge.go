package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

func merge() *cobra.Command {
	into := ""
	cmd := &cobra.Command{
		Use:   "merge --into DIR RUN...",
		Short: "Make one run directory of the run directories of shards",
		Long: "merge makes one run directory of those of shards (make e2e SHARD=1/3, SHARD=2/3 and so on), for sandproof gate.\n" +
			"It refuses runs that do not belong together. The templates of a shard that is not there are unproven.\n\n" +
			"Exit codes: 0 merged, all shards; 2 merged, and a shard is missing; 3 nothing was merged.",
		Example: "  sandproof merge --into runs/nightly shards/*\n  sandproof gate runs/nightly",
		RunE: func(cmd *cobra.Command, args []string) error {
			if into == "" {
				return errors.New("say where to: --into DIR")
			}
			run, err := rundir.MergeRuns(cmd.Context(), into, args, redactor())
			if err != nil {
				return err
			}
			missing := false
			for _, part := range run.Manifest.Shards {
				names := []string{}
				for _, name := range part.Templates {
					names = append(names, harmless(name))
				}
				state := "run " + harmless(part.Run)
				if part.Missing {
					state, missing = "MISSING, so unproven", true
				}
				fmt.Fprintf(cmd.OutOrStdout(), "shard %s: %s: %s\n", harmless(part.Shard), strings.Join(names, ", "), state)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "merged into %s: sandproof gate %s\n", run.Dir, into)
			if missing {
				return exitError(verdict.ExitUnproven)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "the run `directory` to make")
	return cmd
}
