package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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

// gateOptions are what a gate is asked for.
type gateOptions struct {
	demand    verdict.Demand
	templates []string // lists of names
	profile   string
	ginkgo    int
}

func gate() *cobra.Command {
	o := gateOptions{}
	cmd := &cobra.Command{
		Use:   "gate RUN",
		Short: "Show a run's verdicts and exit with the gate's code",
		Long: "gate merges what all processes of a run recorded, shows the verdicts, writes the reports into the run directory,\n" +
			"and exits with the gate's code. RUN is a run directory, such as runs/latest. Without --target the verdicts are of\n" +
			"the target that the run was made on, which each report names.\n\n" + exitCodes,
		Example: "  sandproof gate runs/latest\n  sandproof gate --target live --templates base,desktop --profile gate runs/nightly",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			run, err := rundir.Open(args[0], redactor())
			if err != nil {
				return err
			}
			var kept error
			if cmd.Flags().Changed("ginkgo-exit") {
				kept = run.SetGinkgoExit(o.ginkgo)
			}
			merged, err := run.Merge()
			if err != nil {
				return err
			}
			own := o.profile == "" || o.profile == run.Manifest.Profile
			if !own {
				run.Manifest.Profile = o.profile
			}
			report, err := reportOf(run, merged)
			if err != nil {
				return err
			}
			results := report.Verdicts
			report.Require(o.demand)
			kept = errors.Join(kept, writeReports(run, report))
			// What is kept as the run's own verdicts are those by its own profile.
			if own {
				if kept != nil {
					merged.Problems = append(merged.Problems, notKept(kept))
				}
				kept = errors.Join(kept, run.WriteResults(merged, results))
			}
			return conclude(cmd, report, kept)
		},
	}
	cmd.Flags().StringVar(&o.demand.Target, "target", "", "the `target` that must have been judged, live or lab: a run of another one is unproven")
	cmd.Flags().StringArrayVar(&o.templates, "templates", nil, "`names` of templates that must have been judged, comma-separated: one that was not is unproven")
	cmd.Flags().StringVar(&o.profile, "profile", "", "the `profile` to judge what was recorded by: core, gate or extended; default: the run's")
	cmd.Flags().IntVar(&o.ginkgo, "ginkgo-exit", 0, "ginkgo's own exit `code`: a failure that no record explains is trouble of the harness")
	return cmd
}

func (o *gateOptions) check(cmd *cobra.Command) error {
	for _, flag := range []string{"target", "templates", "profile"} {
		// A variable that is not set must not ask for nothing.
		if f := cmd.Flags().Lookup(flag); f.Changed && strings.Trim(f.Value.String(), `[]"`) == "" {
			return fmt.Errorf("--%s is empty: name what is asked for, or leave it out", flag)
		}
	}
	switch config.TargetKind(o.demand.Target) {
	case "", config.TargetLive, config.TargetLab:
	case config.TargetAuto:
		fallthrough
	default:
		return fmt.Errorf("--target %q: want live or lab", o.demand.Target)
	}
	switch config.Profile(o.profile) {
	case "", config.ProfileCore, config.ProfileGate, config.ProfileExtended:
	case config.ProfileAuto:
		fallthrough
	default:
		return fmt.Errorf("--profile %q: want core, gate or extended", o.profile)
	}
	o.demand.Templates = nil
	for _, list := range o.templates {
		for name := range strings.SplitSeq(list, ",") {
			o.demand.Templates = append(o.demand.Templates, strings.TrimSpace(name))
		}
	}
	if slices.Contains(o.demand.Templates, "") {
		return errors.New("--templates: a name is empty")
	}
	return nil
}

// writeReports writes all that can be written into the run directory, one file in
// each format.
func writeReports(run *rundir.Run, r verdict.Report) error {
	var trouble []error
	for _, format := range reportFormats() {
		data, err := format.render(r, nil)
		if err == nil {
			err = run.WriteReport(format.file, string(format.clean(redactor(), data)))
		}
		trouble = append(trouble, err)
	}
	return errors.Join(trouble...)
}

func judge() *cobra.Command {
	return &cobra.Command{
		Use:   "judge RUN",
		Short: "Judge a run's evidence anew, with this sandproof's rules",
		Long: "judge reads the evidence of a run and judges it by the requirements of this sandproof, offline.\n" +
			"A template without evidence is unproven.\n\n" + exitCodes,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := rundir.Open(args[0], redactor())
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
			report, err := reportOf(run, merged)
			if err != nil {
				return err
			}
			return conclude(cmd, report, nil)
		},
	}
}

// conclude shows the verdicts and ends with the gate's code. Trouble with keeping
// the reports is trouble of the harness, and hides no verdict that is worse.
func conclude(cmd *cobra.Command, report verdict.Report, kept error) error {
	if kept != nil {
		report.Problems = append(report.Problems, notKept(kept))
		report.Exit = verdict.WorseExit(report.Exit, verdict.ExitInfra)
	}
	showReport(cmd, report)
	if report.Exit != verdict.ExitIsolated {
		return exitError(report.Exit)
	}
	return nil
}

func notKept(err error) string {
	return redactor().String(fmt.Sprintf("the run's reports were not kept: %v", err))
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
	r.Waivers = verdict.Uses(m.Waivers, r.Verdicts, m.Latest())
	for _, w := range r.Waivers {
		if note := w.Note(); note != "" {
			r.Notes = append(r.Notes, note)
		}
	}
	for _, template := range m.Templates {
		for _, name := range m.Sandboxes(template) {
			s := verdict.Sandbox{Name: name, Template: template, Outcomes: merged.Outcomes[name], Attempts: merged.Attempts[name]}
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
