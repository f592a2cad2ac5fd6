package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"sandproof/internal/image"
	"sandproof/internal/redact"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

const patchExits = "Exit codes: 0 done, or nothing to do; 1 refused; 3 trouble. Of several images the worst counts, in the order 3, 1, 0."

// runsDir is where runs lie below the configuration's root.
const runsDir = "runs"

func patchImage() *cobra.Command {
	var (
		o           image.Options
		dryRun, all bool
	)
	cmd := &cobra.Command{
		Use:   "patch ROOTFS|BUILD-DIR|TEMPLATE... | --all",
		Short: "Give an image the cgroup delegation that envd's limits need",
		Long: "patch puts the delegation into an image's init script, after the cgroup2 mount and before envd: each of cpu, memory,\n" +
			"io and pids that the kernel offers is enabled on its own, and what fails is said on the console. Images with systemd\n" +
			"get a drop-in for envd's unit. What is patched and verified is a copy; the original stays beside it as the backup until\n" +
			"sandproof image undo. Then the build's directories in the configured caches (live.caches) are removed.\n" +
			"An image that has the delegation, or enables the controllers in its own way, is left alone. With --all the inventory's\n" +
			"templates are patched by priority; one that is refused keeps none of the others from it.\n\n" + patchExits,
		Example: "  sandproof image patch --dry-run base\n  sandproof image patch rootfs.ext4\n  sandproof image init >init && sandproof image patch --init init base\n  sandproof image patch --all",
		Args:    imageArgs(&all),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachBuild(cmd, args, all, &o, func(ctx context.Context, b image.Build, out io.Writer) error {
				if dryRun {
					return dryRunPatch(ctx, b, o, out)
				}
				return patch(ctx, b, o, out)
			})
		},
	}
	cmd.Flags().StringVar(&o.Init, "init", "", "`path` of a program or script that becomes the whole init (mode 0755, owner root)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the difference and every step, and do nothing")
	cmd.Flags().BoolVar(&all, "all", false, "patch all templates of the inventory, by priority")
	return cmd
}

func undoImage() *cobra.Command {
	var (
		o   image.Options
		all bool
	)
	cmd := &cobra.Command{
		Use:   "undo ROOTFS|BUILD-DIR|TEMPLATE... | --all",
		Short: "Put the original of a patched image back",
		Long: "undo puts the original image back, after the backup was verified byte for byte against what the patch recorded, and\n" +
			"removes the build's directories in the configured caches. An image that was written to since the patch is not thrown\n" +
			"away: that is refused.\n\n" + patchExits,
		Example: "  sandproof image undo base",
		Args:    imageArgs(&all),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachBuild(cmd, args, all, &o, func(ctx context.Context, b image.Build, out io.Writer) error {
				return undo(ctx, b, o, out)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "undo all templates of the inventory, by priority")
	return cmd
}

func initImage() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Print a whole init with the delegation, for templates under a shell init",
		Long: "init prints the init that ships with sandproof: console, mounts, cgroup delegation, network, envd, and the waiting of\n" +
			"process 1. It runs under busybox, dash and bash. Install it with sandproof image patch --init.",
		Example: "  sandproof image init >init && sandproof image patch --init init base",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), image.ShippedInit())
			return err
		},
	}
}

// imageArgs wants images, or --all and none.
func imageArgs(all *bool) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if *all == (len(args) > 0) {
			return errors.New("give images (the file, the build's directory, or a template of ginkgo.yml), or --all")
		}
		return nil
	}
}

// eachBuild does something to each of the builds that are meant, and says what
// came of it. A refusal keeps none of the others from it.
func eachBuild(cmd *cobra.Command, args []string, all bool, o *image.Options, do func(context.Context, image.Build, io.Writer) error) error {
	storage, _, err := imageStorage(cmd)
	if err != nil {
		return err
	}
	o.Caches, o.Harness = storage.Caches, version
	if all {
		if len(storage.Templates) == 0 {
			return errors.New("--all: ginkgo.yml has no templates")
		}
		for _, t := range storage.Templates {
			args = append(args, t.Name)
		}
	}
	out, worst := cmd.OutOrStdout(), verdict.ExitIsolated
	for _, arg := range args {
		code := one(cmd, arg, all, storage, o, do, out)
		if code == verdict.ExitInfra || worst == verdict.ExitIsolated {
			worst = code
		}
		if cmd.Context().Err() != nil {
			break
		}
	}
	if worst != verdict.ExitIsolated {
		return exitError(worst)
	}
	return nil
}

func one(cmd *cobra.Command, arg string, byName bool, storage image.Storage, o *image.Options, do func(context.Context, image.Build, io.Writer) error, out io.Writer) int {
	build, err := locate(arg, byName, storage)
	if err == nil {
		fmt.Fprintf(out, "%s\n", harmless(titleOf(build)))
		var end func()
		o.Progress, end = progress(cmd.ErrOrStderr())
		err = do(cmd.Context(), build, out)
		end()
	}
	refusal, refused := errors.AsType[*image.RefusedError](err)
	code, said := errors.AsType[exitError](err)
	switch {
	case err == nil:
		return verdict.ExitIsolated
	case said:
		return int(code)
	case refused:
		fmt.Fprintf(out, "  refused: %s\n  way out: %s\n", harmless(refusal.Reason), harmless(refusal.WayOut))
		return verdict.ExitNotIsolated
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sandproof: %s: %s\n", harmless(arg), harmless(err.Error()))
	return verdict.ExitInfra
}

// locate finds a build; names of the inventory are no paths.
func locate(arg string, byName bool, storage image.Storage) (image.Build, error) {
	if byName {
		for _, t := range storage.Templates {
			if t.Name == arg {
				return storage.Build(t)
			}
		}
	}
	return image.Locate(arg, storage)
}

func titleOf(b image.Build) string {
	if b.Template != "" {
		return fmt.Sprintf("%s (build %s): %s", b.Template, b.ID, b.RootFS)
	}
	return b.RootFS
}

func patch(ctx context.Context, b image.Build, o image.Options, out io.Writer) error {
	result, err := image.Patch(ctx, b, o, func(p *image.Plan) error {
		showChanges(out, p)
		showPurge(out, p.Purge)
		return nil
	})
	notes(out, result.Notes)
	if err != nil {
		return err
	}
	if result.Nothing != "" {
		fmt.Fprintf(out, "  nothing to do: %s\n", harmless(result.Nothing))
		return nil
	}
	fmt.Fprintf(out, "  patched and verified; undo with: sandproof image undo %s\n  %s\n", harmless(nameOf(b)), image.Restart)
	return nil
}

func undo(ctx context.Context, b image.Build, o image.Options, out io.Writer) error {
	result, err := image.Undo(ctx, b, o, func(p *image.UndoPlan) error {
		notes(out, p.Notes)
		if p.Nothing == "" {
			showPurge(out, p.Purge)
		}
		return nil
	})
	notes(out, result.Notes)
	if err != nil {
		return err
	}
	if result.Nothing != "" {
		fmt.Fprintf(out, "  nothing to do: %s\n", harmless(result.Nothing))
		return nil
	}
	fmt.Fprintf(out, "  the original is back, verified byte for byte\n  %s\n", image.Restart)
	return nil
}

// dryRunPatch shows what a patch would do.
func dryRunPatch(ctx context.Context, b image.Build, o image.Options, out io.Writer) error {
	p, err := image.PlanPatch(ctx, b, o)
	if err != nil {
		return err
	}
	for _, r := range p.Refusals {
		fmt.Fprintf(out, "  would be refused: %s\n  way out: %s\n", harmless(r.Reason), harmless(r.WayOut))
	}
	showChanges(out, p)
	for i, s := range p.Steps {
		fmt.Fprintf(out, "  %2d. %s\n", i+1, harmless(s))
	}
	switch {
	case len(p.Refusals) > 0:
		return exitError(verdict.ExitNotIsolated)
	case p.Nothing != "":
		fmt.Fprintf(out, "  nothing to do: %s\n", harmless(p.Nothing))
	default:
		fmt.Fprintf(out, "  nothing was done (--dry-run)\n  Afterwards: %s\n", image.Restart)
	}
	return nil
}

// nameOf is what an image can be called by on the command line.
func nameOf(b image.Build) string {
	if b.Template != "" {
		return b.Template
	}
	return b.RootFS
}

func showChanges(out io.Writer, p *image.Plan) {
	notes(out, p.Notes)
	for _, c := range p.Changes {
		fmt.Fprintf(out, "  %s: %s\n", harmless(c.Path), harmless(c.Why))
		for line := range strings.Lines(c.Diff) {
			fmt.Fprintf(out, "    %s\n", harmlessLine(line))
		}
	}
}

// harmlessLine is a line of an image with its indentation.
func harmlessLine(line string) string {
	line = strings.TrimRight(line, "\n")
	trimmed := strings.TrimLeft(line, " \t+-")
	return strings.ReplaceAll(line[:len(line)-len(trimmed)], "\t", "    ") + redact.Terminal(trimmed)
}

func showPurge(out io.Writer, purge []image.Cached) {
	for _, c := range purge {
		fmt.Fprintf(out, "  removes from the caches: %s\n", harmless(c.Path()))
	}
}

func notes(out io.Writer, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(out, "  note: %s\n", harmless(n))
	}
}

// progress shows how far long steps have come, on a terminal; elsewhere it
// shows nothing. The bars go past the redactor, which waits for whole lines:
// they hold the names that the program gives its steps, and numbers.
func progress(w io.Writer) (show func(step string, done, total int64), end func()) {
	f := terminalFile(w)
	if f == nil {
		return nil, func() {}
	}
	bars := mpb.New(mpb.WithOutput(f), mpb.WithWidth(60))
	var (
		bar *mpb.Bar
		of  string
	)
	finish := func() {
		if bar != nil {
			bar.Abort(true)
		}
	}
	return func(step string, done, total int64) {
			if step != of {
				finish()
				of, bar = step, bars.AddBar(total, mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Name("  "+step+" ")), mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))
			}
			bar.SetCurrent(done)
		}, func() {
			finish()
			bars.Wait()
		}
}

// templateStatus is one row of image status.
type templateStatus struct {
	image.Status
	// Last is the template's verdict in the latest run that has one.
	Last *rundir.Last `json:"last,omitempty"`
}

// statusReport is what image status --json prints. Later versions may add
// fields; version rises when one changes its meaning.
type statusReport struct {
	Version int              `json:"version"`
	Images  []templateStatus `json:"images"`
}

const statusVersion = 1

func imageStatus() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status [ROOTFS|BUILD-DIR|TEMPLATE...]",
		Short: "Show which templates are patched, and their last verdicts",
		Long: "status shows the inventory of ginkgo.yml, or the images that are named: what became of each image (original, patched,\n" +
			"patched and changed since, undone, interrupted, fixed in another way, not found), and the template's last verdict among\n" +
			"the runs below runs/. Nothing is modified.\n\nExit codes: 0 shown, whatever was found; 3 trouble.",
		Example: "  sandproof image status\n  sandproof image status --json base",
		RunE: func(cmd *cobra.Command, args []string) error {
			storage, root, err := imageStorage(cmd)
			if err != nil {
				return err
			}
			last, err := rundir.LastVerdicts(filepath.Join(root, runsDir), redactor())
			if err != nil {
				return err
			}
			report, err := statuses(cmd.Context(), storage, args)
			if err != nil {
				return err
			}
			for i, s := range report.Images {
				if l, ok := last[s.Template]; ok && s.Template != "" {
					report.Images[i].Last = &l
				}
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), report, true)
			}
			showStatus(cmd.OutOrStdout(), report)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the table as JSON")
	return cmd
}

func statuses(ctx context.Context, storage image.Storage, args []string) (statusReport, error) {
	report := statusReport{Version: statusVersion, Images: []templateStatus{}}
	for _, arg := range args {
		b, err := image.Locate(arg, storage)
		if err != nil {
			return report, err
		}
		report.Images = append(report.Images, templateStatus{Status: image.StatusOf(ctx, b)})
	}
	if len(args) > 0 {
		return report, nil
	}
	for _, t := range storage.Templates {
		s := templateStatus{Status: image.Status{Build: image.Build{Template: t.Name, ID: t.BuildID, Priority: t.Priority}, State: image.StateNotFound}}
		if b, err := storage.Build(t); err != nil {
			s.Detail = err.Error()
		} else {
			s.Status = image.StatusOf(ctx, b)
		}
		report.Images = append(report.Images, s)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
	}
	return report, nil
}

func showStatus(out io.Writer, report statusReport) {
	if len(report.Images) == 0 {
		fmt.Fprintln(out, "ginkgo.yml has no templates; give images, or list the templates there (docs/configuration.md)")
		return
	}
	t := imageTable()
	t.AppendHeader(table.Row{"template", "build", "priority", "state", "last verdict", "remarks"})
	for _, s := range report.Images {
		state, priority, last := string(s.State), "", ""
		if s.Version > 0 {
			state += " v" + strconv.Itoa(s.Version)
		}
		if s.Priority > 0 {
			priority = strconv.Itoa(s.Priority)
		}
		if s.Last != nil {
			last = fmt.Sprintf("%s (%s, %s)", s.Last.Verdict.Word, s.Last.Verdict.Target, s.Last.Run)
		}
		name := s.Template
		if name == "" {
			name = s.RootFS
		}
		t.AppendRow(table.Row{harmless(name), harmless(s.ID), priority, state, harmless(last), harmless(s.Detail)})
	}
	fmt.Fprintln(out, t.Render())
}
