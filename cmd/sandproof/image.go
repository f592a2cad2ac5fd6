package main

import (
	"slices"

	"github.com/spf13/cobra"

	"sandproof/internal/image"
	"sandproof/internal/verdict"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Look into a template's image",
		Long: "These commands work on the ext4 image of a template's build: given as the file, as the build's directory, or as the\n" +
			"name of a template to which ginkgo.yml gives a build-id below live.storage (or lab.storage,\n" +
			"where the lab is the target). Nothing is mounted, and no root is needed.",
	}
	cmd.PersistentFlags().String("config", "", "configuration `file`; default: ginkgo.yml of the module or repository")
	return parent(cmd, inspectImage(), lintImage(), patchImage(), undoImage(), imageStatus(), initImage())
}

// imageStorage is where the configuration has builds: those of the target that
// it names, or the deployment's where that target keeps none. Root is the
// directory from which the configuration's paths count.
func imageStorage(cmd *cobra.Command) (s image.Storage, root string, err error) {
	var args []string
	if file, err := cmd.Flags().GetString("config"); err == nil && file != "" {
		args = []string{"-e2e.config=" + file}
	}
	c, err := load(args)
	if err != nil {
		// Whether an API can be reached, and by which key, does not matter here.
		if c, err = load(append(args, "-e2e.target=lab")); err != nil {
			return image.Storage{}, "", err
		}
		c.Lab.Storage = ""
	}
	if b := c.Builds(); b.Storage != "" {
		return image.Storage{Dir: b.Storage, Caches: b.Caches, Templates: b.Templates}, c.Root, nil
	}
	return image.Storage{Dir: c.Live.Storage, Caches: c.Live.Caches, Templates: c.Inventory}, c.Root, nil
}

// inspected finds what an argument means, and inspects it.
func inspected(cmd *cobra.Command, arg string) (*image.Inventory, error) {
	storage, _, err := imageStorage(cmd)
	if err != nil {
		return nil, err
	}
	build, err := image.Locate(arg, storage)
	if err != nil {
		return nil, err
	}
	return image.Inspect(cmd.Context(), build)
}

func inspectImage() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "inspect ROOTFS|BUILD-DIR|TEMPLATE",
		Short: "Show what an image boots, what that does about cgroups, and which envd it has",
		Long: "inspect reads an image and what lies beside it, without changing or running anything: file system, init, the init's\n" +
			"steps about cgroups and envd, envd's version and generation by its bytes, and the programs and users that it needs.\n\n" +
			"Exit codes: 0 inspected, whatever was found; 3 trouble.",
		Example: "  sandproof image inspect rootfs.ext4\n  sandproof image inspect --json base",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := inspected(cmd, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), inv, true)
			}
			showInventory(cmd.OutOrStdout(), inv)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the inventory as JSON")
	return cmd
}

// linted is what image lint --json prints. Later versions may add fields;
// version rises when one changes its meaning.
type linted struct {
	Version  int             `json:"version"`
	Build    image.Build     `json:"build"`
	Findings []image.Finding `json:"findings"`
}

const lintedVersion = 1

func lintImage() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "lint ROOTFS|BUILD-DIR|TEMPLATE",
		Short: "Find what keeps an image's sandboxes from being isolated, without booting it",
		Long: "lint inspects an image and says what is wrong with it, where, why that matters and what to do. docs/image.md has\n" +
			"all findings. That it finds nothing proves nothing: a sandbox does (sandproof verify-image, make e2e).\n\n" +
			"Exit codes: 0 nothing of severity error; 1 errors; 3 trouble.",
		Example: "  sandproof image lint rootfs.ext4\n  sandproof image lint --json base | jq '.findings[].id'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := inspected(cmd, args[0])
			if err != nil {
				return err
			}
			findings := image.Lint(inv)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), linted{lintedVersion, inv.Build, append([]image.Finding{}, findings...)}, true)
			} else {
				showFindings(cmd.OutOrStdout(), inv, findings)
			}
			if err == nil && slices.ContainsFunc(findings, func(f image.Finding) bool { return f.Severity == image.SeverityError }) {
				return exitError(verdict.ExitNotIsolated)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}
