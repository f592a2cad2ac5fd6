package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/doctor"
	"sandproof/internal/fixtures/guestos"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/redact"
)

func doctorCommand() *cobra.Command {
	asJSON, noSandbox := false, false
	cmd := &cobra.Command{
		Use:   "doctor [--no-sandbox] [--json] [-- SUITE FLAGS]",
		Short: "Find out why a target cannot be used, or that it can",
		Long: "doctor shows where every setting comes from, then tries each hop on the way from here to a command in a\n" +
			"sandbox, and says what to fix first. It makes one sandbox, which it ends; on target lab it starts the\n" +
			"lab for that, where its cache is ready.\n\n" +
			"Exit codes: 0 all is fine, 2 something is not proven or will be regretted, 3 trouble.",
		Example: "  sandproof doctor\n  sandproof doctor --no-sandbox -- -e2e.config=cluster.yml",
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := sources(args)
			if err != nil {
				return err
			}
			code, err := examine(cmd.Context(), from, noSandbox, asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err == nil && code != doctor.ExitFine {
				err = exitError(code)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&noSandbox, "no-sandbox", false, "make no sandbox, and do not start the lab; what is not proven then is said")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	return cmd
}

// examine prints what is found as it is found, or all at once as JSON, and
// returns the exit code.
func examine(ctx context.Context, from config.Sources, noSandbox, asJSON bool, out, progress io.Writer) (int, error) {
	c, origins, wrong := config.Resolve(from)
	report := doctor.Report{
		Version: doctor.ReportVersion, Harness: version, Target: c.Target, File: c.File,
		Variables: config.Variables(from.Environ, c.Target), Settings: origins,
	}
	redactor := redact.New(append(config.Secrets(from.Environ), c.Live.APIKey, c.Live.AdminToken)...)
	show := func(text string) {
		if !asJSON {
			fmt.Fprint(out, redactor.String(text))
		}
	}
	show(report.Head() + "\n")
	found := func(f doctor.Finding) {
		f = f.Redact(redactor)
		report.Findings = append(report.Findings, f)
		show(f.Line())
	}
	for _, f := range doctor.Configuration(c.File, report.Variables, wrong) {
		found(f)
	}
	if wrong == nil {
		if err := tryAll(ctx, c, noSandbox, progress, found); err != nil {
			return 0, err
		}
	}
	report.Conclude()
	show(report.Tail())
	if asJSON {
		data, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return 0, fmt.Errorf("print the findings: %w", err)
		}
		if _, err := out.Write(append(plainJSON(redactor.Bytes(data)), '\n')); err != nil {
			return 0, fmt.Errorf("print the findings: %w", err)
		}
	}
	return report.Exit, nil
}

func tryAll(ctx context.Context, c config.Config, noSandbox bool, progress io.Writer, found func(doctor.Finding)) error {
	o := doctor.Options{Config: c, Harness: version, NoSandbox: noSandbox}
	if c.Target != config.TargetLab {
		doctor.Run(ctx, o, found)
		return nil
	}
	store, err := guestos.Open(c.Lab.Cache, func(string) {})
	if err != nil {
		return err
	}
	return inWorkdir(ctx, store.Dir(), progress, func(work *workdir) error {
		o.Source, o.Dir = sourceIn(c.Root), work.path
		o.StartLab = func(ctx context.Context, templates []lab.TemplateSpec) (lab.Endpoints, func(context.Context) error, error) {
			return startLab(ctx, c, templates, filepath.Join(work.path, "lab"), progress)
		}
		doctor.Run(ctx, o, found)
		return nil
	})
}

// sourceIn is the directory itself where it holds this module's source, else
// empty.
func sourceIn(root string) string {
	if _, err := os.Stat(filepath.Join(root, "cmd", "guestprobe")); err != nil {
		return ""
	}
	return root
}

// startLab starts the configuration's lab as a child of this command.
func startLab(ctx context.Context, c config.Config, templates []lab.TemplateSpec, logs string, progress io.Writer) (lab.Endpoints, func(context.Context) error, error) {
	self, err := os.Executable()
	if err != nil {
		return lab.Endpoints{}, nil, fmt.Errorf("start the lab: %w", err)
	}
	process, err := lab.Start(ctx, self, nil, []string{labEnv + "=1"}, lab.Spec{
		Templates: templates, CacheDir: c.Lab.Cache, StorageDir: c.Lab.Storage, LogDir: logs,
		MaxGuests: c.Lab.MaxGuests, JSONLog: c.Lab.LogFormat == config.LogJSON,
	}, progress)
	if err != nil {
		return lab.Endpoints{}, nil, err
	}
	return process.Endpoints, process.Stop, nil
}
