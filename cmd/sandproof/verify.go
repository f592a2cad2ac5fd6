package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sandproof/internal/collect"
	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/fixtures/guestos"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/image"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/verdict"
)

// version names this command in metadata, User-Agent and evidence.
const version = "0.1.0"

// labEnv tells a re-executed sandproof that it is the lab.
const labEnv = "SANDPROOF_LAB"

// verifyOptions are what the command line says of one verification.
type verifyOptions struct {
	with   image.Replacements
	recipe config.Recipe
	probe  string
	json   bool
	// reproduce is the command line itself.
	reproduce string
}

func verifyImage() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify-image ROOTFS",
		Short: "Boot a root filesystem in the lab and judge it",
		Long: "verify-image boots an ext4 root filesystem with its own init and its own envd as a guest of the lab, asks\n" +
			"every requirement, and shows the verdict. The image is never modified: the guest writes to a copy, and\n" +
			"what is replaced is replaced in a copy. A guest that does not come up is the image's failure, and shown\n" +
			"with the last lines of its console. Profile, waits and the lab's cache are those of ginkgo.yml.\n\n" + exitCodes +
			"\nA file that is no ext4 root filesystem is not judged, and counts as trouble.",
		Example: "  sandproof verify-image rootfs.ext4\n  sandproof verify-image --envd ./envd --memory 1024 --json rootfs.ext4 >verdict.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			o.reproduce = commandLine(cmd, args)
			// The lab says what it does beside this command.
			err := o.run(cmd.Context(), args[0], cmd.OutOrStdout(), &shared{w: cmd.ErrOrStderr()})
			if cmd.Context().Err() != nil {
				return fmt.Errorf("interrupted, and nothing was judged: %w", err)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.recipe.Kernel, "kernel", "", "`path` of a kernel with virtio (PCI) and ext4 built in; default: the distribution's")
	f.StringVar(&o.recipe.KernelArgs, "kernel-args", "", "kernel `arguments`, appended to the lab's own")
	f.IntVar(&o.recipe.MemoryMB, "memory", 512, "the guest's memory in `MiB`")
	f.IntVar(&o.recipe.CPUs, "cpus", 1, "the guest's `number` of CPUs")
	f.StringVar(&o.with.Envd, "envd", "", "`path` of an envd that replaces the one inside, in a copy")
	f.StringVar(&o.with.Init, "init", "", "`path` of a program or script that replaces /sbin/init, in a copy")
	f.StringVar(&o.probe, "probe", "", "`path` of the guest probe; default: built from this source")
	f.BoolVar(&o.json, "json", false, "print verdict, outcomes and evidence as JSON")
	return cmd
}

// shared is a writer for more than one goroutine.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// check refuses what the lab could not do, or would do differently.
func (o *verifyOptions) check() error {
	if o.recipe.MemoryMB < 1 || o.recipe.CPUs < 1 {
		return fmt.Errorf("--memory %d --cpus %d: want 1 or more of each", o.recipe.MemoryMB, o.recipe.CPUs)
	}
	for arg := range strings.FieldsSeq(o.recipe.KernelArgs) {
		if strings.HasPrefix(arg, "init=") || strings.HasPrefix(arg, "rdinit=") {
			return fmt.Errorf("--kernel-args %s: the lab always hands over to /sbin/init; put another one there with --init PATH", arg)
		}
	}
	for _, path := range []*string{&o.recipe.Kernel, &o.with.Envd, &o.with.Init, &o.probe} {
		if *path == "" {
			continue
		}
		info, err := os.Stat(*path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no regular file", *path)
		}
		// The lab is a process of its own, wherever that runs.
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// commandLine is the command as it was given, for a shell.
func commandLine(cmd *cobra.Command, args []string) string {
	words := strings.Fields(cmd.CommandPath())
	cmd.Flags().Visit(func(f *pflag.Flag) {
		word := "--" + f.Name
		if f.NoOptDefVal == "" {
			word += "=" + f.Value.String()
		}
		words = append(words, shellWord(word))
	})
	for _, arg := range args {
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// plainWord is what no shell reads as anything but itself.
var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_=+./:,@%-]+$`) })

func shellWord(word string) string {
	if plainWord().MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// verified is what --json prints. Later versions may add fields; version rises
// when one changes its meaning.
type verified struct {
	Version int `json:"version"`
	// Image is the path as it was given, Replaced the paths inside at which
	// its copy had other files.
	Image    string                `json:"image"`
	Replaced []string              `json:"replaced,omitempty"`
	Verdict  verdict.Verdict       `json:"verdict"`
	Outcomes []requirement.Outcome `json:"outcomes"`
	Evidence *evidence.Sandbox     `json:"evidence"`
	// Problems are trouble of the harness with the guest's end.
	Problems []string `json:"problems,omitempty"`
}

const verifiedVersion = 1

// run verifies an image, shows the verdict, and ends with the gate's code.
func (o *verifyOptions) run(ctx context.Context, rootFS string, out, progress io.Writer) error {
	if err := image.Check(rootFS); err != nil {
		return err
	}
	c, err := load([]string{"-e2e.target=lab"})
	if err != nil {
		return err
	}
	store, err := guestos.Open(c.Lab.Cache, func(string) {})
	if err != nil {
		return err
	}
	return inWorkdir(ctx, store.Dir(), progress, func(work *workdir) error {
		return o.verify(ctx, c, rootFS, work, out, progress)
	})
}

// verify does so with a directory to work in.
func (o *verifyOptions) verify(ctx context.Context, c config.Config, rootFS string, work *workdir, out, progress io.Writer) error {
	probe, err := o.readProbe(ctx, c.Root, work.path)
	if err != nil {
		return err
	}
	result := verified{Version: verifiedVersion, Image: rootFS}
	recipe := o.recipe
	if recipe.RootFS, err = filepath.Abs(rootFS); err != nil {
		return err
	}
	if o.with != (image.Replacements{}) {
		copied, replaced, err := image.Replace(ctx, rootFS, o.with)
		if err != nil {
			return err
		}
		defer copied.Close()
		fmt.Fprintf(progress, "sandproof: replaced in a copy: %s\n", strings.Join(replaced, ", "))
		// The copy has no name; the lab finds it through this process.
		recipe.RootFS, result.Replaced = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), copied.Fd()), replaced
	}
	if err := observe(ctx, c, recipe, probe, work.path, progress, &result); err != nil {
		return err
	}
	return o.show(c, &result, out)
}

// observe boots the image in a lab of its own and gathers all evidence.
func observe(ctx context.Context, c config.Config, recipe config.Recipe, probe []byte, dir string, progress io.Writer, result *verified) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	// No record claims a version of a file's envd: what runs, the guest tells.
	template := lab.TemplateSpec{Name: "image", Recipe: recipe}
	process, err := lab.Start(ctx, self, nil, []string{labEnv + "=1"}, lab.Spec{
		Templates: []lab.TemplateSpec{template}, CacheDir: c.Lab.Cache, LogDir: filepath.Join(dir, "lab"), MaxGuests: 1,
	}, progress)
	if err != nil {
		return err
	}
	endpoints := process.Endpoints
	client, err := sandboxapi.New(sandboxapi.Options{
		APIURL: endpoints.APIURL, SandboxURL: endpoints.SandboxURL, APIKey: endpoints.APIKey, UserAgent: "sandproof/" + version + " (verify-image)",
		CreateTimeout: c.Intervals.Create, RequestTimeout: c.Intervals.Request,
	})
	if err != nil {
		return errors.Join(err, process.Stop(context.WithoutCancel(ctx)))
	}
	run := fmt.Sprintf("%s-%d", time.Now().UTC().Format("20060102T150405Z"), os.Getpid())
	session := collect.New(collect.Options{
		Run: run, Process: run, Version: version, Target: string(config.TargetLab),
		Template: config.Template{Name: template.Name}, Intervals: c.Intervals, Client: client, Probe: probe, Experiments: c.WantsExperiments(), Again: requirement.CPUAgain,
		Logs: collect.Sources(config.Live{Logs: []config.LogGlob{{Dirs: endpoints.LogDirs, Task: endpoints.LogTask}}}, c.Intervals),
		Live: func(text string) {
			fmt.Fprintf(progress, "sandproof: log: %s\n", noCommand(redact.Terminal(redactor().String(text))))
		},
	})
	fmt.Fprintf(progress, "sandproof: booting %s\n", redact.Terminal(result.Image))
	session.Open(ctx)
	session.Collect(ctx, wanted()...)
	closed := session.Close(ctx)
	stopped := process.Stop(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), stopped)
	}
	for _, trouble := range []error{closed, stopped} {
		if trouble != nil {
			result.Problems = append(result.Problems, trouble.Error())
		}
	}
	result.Evidence = session.Evidence()
	return nil
}

// wanted are the pieces of evidence that the whole catalogue asks for.
func wanted() []evidence.Piece {
	var pieces []evidence.Piece
	for _, r := range requirement.All() {
		pieces = append(pieces, slices.Concat(r.Needs, r.Helps)...)
	}
	return pieces
}

// readProbe returns the guest probe: the given one, else one that is built
// from the source.
func (o *verifyOptions) readProbe(ctx context.Context, root, dir string) ([]byte, error) {
	path := o.probe
	if path == "" {
		if _, err := os.Stat(filepath.Join(root, "cmd", "guestprobe")); err != nil {
			return nil, errors.New("no guest probe: sandproof runs outside of its source, so say where the probe is with --probe PATH")
		}
		path = filepath.Join(dir, "guestprobe")
		if err := lab.BuildStatic(ctx, root, "./cmd/guestprobe", "-X main.version="+version, path); err != nil {
			return nil, err
		}
	}
	probe, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the guest probe: %w", err)
	}
	return probe, nil
}

// show judges the evidence and prints the verdict.
func (o *verifyOptions) show(c config.Config, result *verified, out io.Writer) error {
	seen := result.Evidence
	for _, r := range requirement.All() {
		result.Outcomes = append(result.Outcomes, r.Judge(seen))
	}
	result.Verdict = verdict.Of(verdict.Input{
		Template: result.Image, Target: string(config.TargetLab), Profile: c.Profile, Outcomes: result.Outcomes, Reproduce: o.reproduce,
		StandIn: seen.StandIn, Envd: envdVersion(seen), Generation: requirement.GenerationName(seen),
	})
	clean, err := redact.Value(redactor(), *result)
	if err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	write, data := writeProse, clean.text(c, terminalOf(out))
	if o.json {
		if data, err = json.MarshalIndent(clean, "", "  "); err != nil {
			return fmt.Errorf("print the verdict: %w", err)
		}
		write, data = writeText, append(plainJSON(data), '\n')
	}
	if err := write(out, data); err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	if code := result.exit(); code != verdict.ExitIsolated {
		return exitError(code)
	}
	return nil
}

// exit is the gate's code.
func (r *verified) exit() int { return verdict.Exit([]verdict.Verdict{r.Verdict}, r.Problems) }

// text is the verdict as people read it, and of a guest that did not come up what
// it said last.
func (r *verified) text(c config.Config, t verdict.Terminal) []byte {
	report := verdict.Report{
		Run: r.Evidence.Run, Target: string(config.TargetLab), Profile: string(c.Profile), Verdicts: []verdict.Verdict{r.Verdict}, Problems: r.Problems,
		Exit: r.exit(),
	}
	text := report.Text(t)
	if down := r.Evidence.ProblemOf(evidence.PieceAPI); down != nil && down.Kind == evidence.ProblemBoot {
		said, _, _ := strings.Cut(down.Error, "\n  command: ")
		text += fmt.Sprintf("\n%s\n", redact.Terminal(said))
	}
	return []byte(text)
}

// plainJSON is the same JSON in ASCII: what a guest wrote may hold characters
// that a terminal obeys, and JSON has an escape for each.
func plainJSON(data []byte) []byte {
	var plain []byte
	for _, r := range string(data) {
		if r < 0x7f {
			plain = utf8.AppendRune(plain, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			plain = fmt.Appendf(plain, `\u%04x`, unit)
		}
	}
	return plain
}
