package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sandproof/internal/config"
	"sandproof/internal/redact"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/sandboxapi/envd"
)

// shellLife bounds one shell; the sandbox's own end comes sooner.
const shellLife = 24 * time.Hour

func shellCommand() *cobra.Command {
	user := "root"
	cmd := &cobra.Command{
		Use:   "shell SANDBOX [-- SUITE FLAGS]",
		Short: "Open a shell in a sandbox, such as one that -e2e.keep-on-failure kept",
		Long: "shell opens a terminal with a shell in a running sandbox, through its envd, as E2B's own command line does.\n" +
			"API, key and domain are those of the configuration and of E2B's variables. The sandbox's time to live stays\n" +
			"as it is, and it lives on when the shell ends. Input that is no terminal is typed into the shell.\n" +
			"On a terminal everything is shown as the guest writes it, with the secrets that it shows.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// The templates do not matter here, and a configuration must name one.
			c, err := load(append(args[1:], "-e2e.target="+string(config.TargetLive), "-e2e.templates=any"))
			if err != nil {
				return err
			}
			code, err := openShell(cmd.Context(), c, args[0], user, cmd.InOrStdin(), screen(cmd.OutOrStdout()), cmd.ErrOrStderr())
			if err == nil && code != 0 {
				err = exitError(code)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", user, "the guest's `user` whose shell it is")
	return cmd
}

// screen is the terminal behind the program's output, where it is one: a prompt
// has no line end, for which the redactor would wait.
func screen(out io.Writer) io.Writer {
	if file := terminalFile(out); file != nil {
		return file
	}
	return out
}

// openShell runs a login shell in the sandbox and returns its exit code.
func openShell(ctx context.Context, c config.Config, id, user string, in io.Reader, out, progress io.Writer) (int, error) {
	client, err := sandboxapi.New(sandboxapi.Options{
		APIURL: c.Live.APIURL, Domain: c.Live.Domain, SandboxURL: c.Live.SandboxURL, APIKey: c.Live.APIKey,
		UserAgent: "sandproof/" + version + " (shell)", CreateTimeout: c.Intervals.Create, RequestTimeout: c.Intervals.Request,
	})
	if err != nil {
		return 0, err
	}
	detail, err := client.Get(ctx, id)
	if err != nil {
		return 0, err
	}
	if detail.State == sandboxapi.StatePaused {
		return 0, fmt.Errorf("sandbox %s is paused: a shell would resume it, and change what is to be looked at; resume it with e2b sandbox resume %s", id, id)
	}
	fmt.Fprintf(progress, "sandproof: shell in sandbox %s, which ends at %s\n", redact.Terminal(id), detail.EndAt.Local().Format(time.DateTime))
	guest, err := client.Envd(sandboxapi.Sandbox{SandboxID: detail.SandboxID, EnvdAccessToken: detail.EnvdAccessToken, Domain: detail.Domain})
	if err != nil {
		return 0, err
	}
	defer guest.Close()
	size, resized, restore, err := takeTerminal(in)
	if err != nil {
		return 0, err
	}
	code, err := guest.Terminal(ctx, envd.Command{
		Path: "/bin/sh", Args: []string{"-l"}, Env: map[string]string{"TERM": terminalName()}, User: user, PTY: &size, Lifetime: shellLife,
	}, in, out, resized)
	return int(code), errors.Join(err, restore())
}

func terminalName() string {
	if name := os.Getenv("TERM"); name != "" {
		return name
	}
	return "dumb"
}

// usualSize is that of a terminal that nobody looks at.
var usualSize = envd.Size{Cols: 80, Rows: 24}

// takeTerminal hands the keys of a terminal, unread, to the guest, where the
// input is one: Ctrl-C too is for the shell then.
func takeTerminal(in io.Reader) (size envd.Size, resized <-chan envd.Size, restore func() error, err error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return usualSize, nil, func() error { return nil }, nil
	}
	look := func() envd.Size {
		cols, rows, err := term.GetSize(int(file.Fd()))
		if err != nil || cols <= 0 || rows <= 0 {
			return usualSize
		}
		return envd.Size{Cols: uint32(cols), Rows: uint32(rows)} //nolint:gosec // they are positive, and small
	}
	before, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return size, nil, nil, fmt.Errorf("take over the terminal: %w", err)
	}
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	sizes, stop := make(chan envd.Size), make(chan struct{})
	go func() {
		for {
			select {
			case <-changes:
			case <-stop:
				return
			}
			select {
			case sizes <- look():
			case <-stop:
				return
			}
		}
	}()
	return look(), sizes, func() error {
		signal.Stop(changes)
		close(stop)
		return term.Restore(int(file.Fd()), before)
	}, nil
}
