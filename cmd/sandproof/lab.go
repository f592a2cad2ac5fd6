package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/fixtures/lab"
)

// load reads the configuration as the suites do, from the same flags.
func load(args []string) (config.Config, error) {
	from, err := sources(args)
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(from)
}

// sources are where the configuration comes from besides its file. All flags of
// the suites may stand there, those of the run itself and Ginkgo's too, and have
// no meaning here; whatever else stands there was meant to choose something, and
// must not be passed over.
func sources(args []string) (config.Sources, error) {
	var flags config.Flags
	set := flag.NewFlagSet("sandproof", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags.Register(set)
	for _, name := range []string{"e2e.run", "e2e.runs", "e2e.probe"} {
		set.String(name, "", "")
	}
	set.Bool("e2e.keep-on-failure", false, "")
	ofSuites := slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		name, dashed := strings.CutPrefix(arg, "-")
		name = strings.TrimPrefix(name, "-")
		return dashed && (strings.HasPrefix(name, "ginkgo.") || strings.HasPrefix(name, "test."))
	})
	if err := set.Parse(ofSuites); err != nil {
		return config.Sources{}, fmt.Errorf("flags of the suites: %w", err)
	}
	if set.NArg() > 0 {
		return config.Sources{}, fmt.Errorf("flags of the suites: %q is none: want those such as -e2e.templates=A,B, or -ginkgo.NAME=VALUE in one word", set.Arg(0))
	}
	dir, err := os.Getwd()
	if err != nil {
		return config.Sources{}, err
	}
	return config.Sources{Flags: flags, Environ: os.Environ(), Dir: dir}, nil
}

func effectiveConfig() *cobra.Command {
	targetOnly := false
	cmd := &cobra.Command{
		Use:   "config [--target] [-- SUITE FLAGS]",
		Short: "Show the effective configuration",
		Long:  "config shows what ginkgo.yml, the environment and the suites' flags (such as -e2e.target=lab) come to.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(args)
			if err != nil {
				return err
			}
			if targetOnly {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), c.Target)
				return err
			}
			data, err := c.Effective()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	cmd.Flags().BoolVar(&targetOnly, "target", false, "show only where sandboxes come from: live or lab")
	return cmd
}

func labCommand() *cobra.Command {
	return parent(&cobra.Command{Use: "lab", Short: "The embedded lab of real guests"}, &cobra.Command{
		Use:   "prepare [-- SUITE FLAGS]",
		Short: "Fetch the guests' kernel and build the images of the lab's templates",
		Long:  "prepare makes everything that the lab's start needs and that is not in its cache yet, and shows its progress.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(append(args, "-e2e.target=lab"))
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "sandproof-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			specs, _, err := lab.Templates(cmd.Context(), c, c.Root, dir)
			if err != nil {
				return err
			}
			return lab.Prepare(cmd.Context(), c.Lab.Cache, c.Lab.Storage, specs, func(message string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "lab: %s\n", message)
			})
		},
	})
}
