package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

const exitCodes = `Exit codes: 0 every template is isolated; 1 one is not, or only in part, or has
no limits at all; 2 one is unproven; 3 trouble of the infrastructure or the
harness. The worst counts, in the order 1, 3, 2, 0.`

func gate() *cobra.Command {
	ginkgo := 0
	cmd := &cobra.Command{
		Use:   "gate RUN",
		Short: "Show a run's verdicts and exit with the gate's code",
		Long:  "gate merges what all processes of a run recorded, shows the verdicts, and exits with the gate's code.\nRUN is a run directory, such as runs/latest.\n\n" + exitCodes,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := rundir.Open(args[0])
			if err != nil {
				return err
			}
			merged, err := run.Merge()
			if err != nil {
				return err
			}
			if ginkgo != 0 && merged.AllGreen() {
				merged.Problems = append(merged.Problems, fmt.Sprintf("ginkgo ended with %d, and nothing that was recorded explains it: see its own output", ginkgo))
			}
			return conclude(cmd, run, merged, true)
		},
	}
	cmd.Flags().IntVar(&ginkgo, "ginkgo-exit", 0, "ginkgo's own exit `code`: a failure that no record explains is trouble of the harness")
	return cmd
}

func judge() *cobra.Command {
	return &cobra.Command{
		Use:   "judge RUN",
		Short: "Judge a run's evidence anew, with this sandproof's rules",
		Long: "judge reads the evidence of a run and judges it by the requirements of this sandproof, offline.\n" +
			"A template without evidence is unproven.\n\n" + exitCodes,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := rundir.Open(args[0])
			if err != nil {
				return err
			}
			merged, err := run.Merge()
			if err != nil {
				return err
			}
			// What the run itself had trouble with stays true.
			merged.Outcomes = map[string][]requirement.Outcome{}
			all, err := run.Evidence()
			if err != nil {
				return err
			}
			for _, s := range all {
				for _, r := range requirement.All() {
					merged.Outcomes[s.Name()] = append(merged.Outcomes[s.Name()], r.Judge(s))
				}
			}
			return conclude(cmd, run, merged, false)
		},
	}
}

// conclude shows the verdicts and ends with the gate's code; the run's own
// verdicts are kept beside its records.
func conclude(cmd *cobra.Command, run *rundir.Run, merged rundir.Merged, keep bool) error {
	report, err := reportOf(run, merged)
	if err != nil {
		return err
	}
	text := verdict.Table(report)
	fmt.Fprint(cmd.OutOrStdout(), text)
	if keep {
		if err := run.WriteResults(merged, report.Verdicts); err != nil {
			return err
		}
	}
	if report.Exit != verdict.ExitIsolated {
		return exitError(report.Exit)
	}
	return nil
}

// reportOf is what is shown of a run, from what its processes recorded.
func reportOf(run *rundir.Run, merged rundir.Merged) (verdict.Report, error) {
	all, err := run.Evidence()
	if err != nil {
		return verdict.Report{}, err
	}
	m := run.Manifest
	r := verdict.Report{
		Run: m.Run, Target: m.Target, Profile: m.Profile, Harness: m.Harness, Started: m.Started,
		Verdicts: run.Verdicts(merged, inputs(run, all)), Problems: merged.Problems, Notes: merged.Notes,
	}
	for _, template := range m.Templates {
		for _, name := range m.Sandboxes(template) {
			s := verdict.Sandbox{Name: name, Template: template, Outcomes: merged.Outcomes[name]}
			if i := slices.IndexFunc(all, func(e *evidence.Sandbox) bool { return e.Name() == name }); i >= 0 {
				s.Evidence = all[i]
			}
			r.Sandboxes = append(r.Sandboxes, s)
		}
	}
	r.Exit = verdict.Exit(r.Verdicts, r.Problems)
	return r, nil
}

// inputs are what a run's verdicts are made from, beside the outcomes.
func inputs(run *rundir.Run, all []*evidence.Sandbox) func(template, sandbox string) verdict.Input {
	return func(template, sandbox string) verdict.Input {
		in := verdict.Input{Profile: config.Profile(run.Manifest.Profile), Reproduce: reproduce(run.Manifest.Target, template)}
		for _, s := range all {
			if s.Name() == sandbox {
				in.StandIn, in.Generation, in.Envd = s.StandIn, requirement.GenerationName(s), envdVersion(s)
				if s.API != nil {
					in.Node = s.API.NodeID
				}
			}
		}
		return in
	}
}

// reproduce is the command that looks at one template again.
func reproduce(target, template string) string {
	return fmt.Sprintf("make e2e TARGET=%s TEMPLATES=%s", target, template)
}

func envdVersion(s *evidence.Sandbox) string {
	if s.Snapshot == nil || s.Snapshot.Envd == nil {
		return ""
	}
	return s.Snapshot.Envd.Version
}
