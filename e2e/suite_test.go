// Package e2e_test is the suites: what `ginkgo run ./e2e` runs. For each
// template it creates a sandbox, or several, collects evidence on demand, and asks each
// requirement in a spec of its own.
package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"sandproof/internal/collect"
	"sandproof/internal/config"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/redact"
	"sandproof/internal/requirement"
	"sandproof/internal/rundir"
	"sandproof/internal/verdict"
)

// suite is the state of this process's suite.
var suite struct {
	config   config.Config
	redactor *redact.Redactor
	// run is the run directory; process 1 makes it, the others open it.
	run      *rundir.Run
	recorder *rundir.Recorder
	target   *target
}

// flags are the suite's own, beside the configuration's.
var flags struct {
	config.Flags
	probe, run, runs string
	keep             bool
}

func init() {
	flags.Register(flag.CommandLine)
	flag.StringVar(&flags.probe, "e2e.probe", "", "`path` of the guest probe; default: built from this source")
	flag.StringVar(&flags.run, "e2e.run", "", "`name` of the run; default: the time")
	flag.StringVar(&flags.runs, "e2e.runs", "", "`directory` for runs; default: runs, beside ginkgo.yml")
	flag.BoolVar(&flags.keep, "e2e.keep-on-failure", false, "keep a sandbox of which a requirement is red, for as long as intervals.keep, to look at it; in the lab the run waits for that")
}

// TestMain plays the lab when the suite re-executed itself for that.
func TestMain(m *testing.M) {
	if os.Getenv(labEnv) != "" {
		os.Exit(lab.Main(os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // this process is the lab, and its exit code is the lab's
	}
	os.Exit(m.Run()) //nolint:forbidigo // TestMain ends with the tests' exit code
}

// TestE2E settles everything that must be the same in all parallel processes,
// then hands over to Ginkgo.
func TestE2E(t *testing.T) {
	suite.redactor = redact.New(config.Secrets(os.Environ())...)
	RegisterFailHandler(fail)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{Flags: flags.Flags, Environ: os.Environ(), Dir: dir})
	if err != nil {
		t.Fatal(suite.redactor.String(fmt.Sprintf("configuration: %v", err)))
	}
	suite.config = cfg
	suite.redactor.Learn(cfg.Live.APIKey, cfg.Live.AdminToken)
	suiteConfig, reporterConfig := GinkgoConfiguration()
	EnforceDefaultTimeoutsWhenUsingContexts()
	if !suiteConfig.DryRun && GinkgoParallelProcess() == 1 {
		if suite.run, err = createRun(cfg, suiteConfig.ParallelTotal); err != nil {
			t.Fatal(suite.redactor.String(err.Error()))
		}
		defeatTestCache(t, suite.run)
		tellf("sandproof %s: target %s, configuration %s, run %s\n", version, cfg.Target, orDefaults(cfg.File), suite.run.Dir)
	}
	if flags.keep {
		listenForInterruptions()
	}
	endWithParent()
	debug.SetGCPercent(gcPercent)
	describeSandboxes()
	RunSpecs(t, "sandproof", suiteConfig, reporterConfig)
}

// gcPercent is how much garbage may lie beside what is in use, in percent of
// that. Nearly all of that is Ginkgo's tree of specs and its reports of them,
// which live as long as the run: Go's 100 would double them.
const gcPercent = 25

func orDefaults(file string) string {
	if file == "" {
		return "the built-in defaults"
	}
	return file
}

// createRun makes the run directory, in process 1.
func createRun(cfg config.Config, processes int) (*rundir.Run, error) {
	effective, err := cfg.Effective()
	if err != nil {
		return nil, err
	}
	waivers, err := verdict.Waivers(cfg.Waivers)
	if err != nil {
		return nil, err
	}
	m := rundir.Manifest{
		Run: flags.run, Started: time.Now().UTC(), Harness: version, Target: string(cfg.Target), Profile: string(cfg.Profile), Command: os.Args,
		Waivers: waivers, Processes: processes,
	}
	if m.Run == "" {
		m.Run = fmt.Sprintf("%s-%d", m.Started.Format("20060102T150405Z"), os.Getpid())
	}
	if m.ConfigHash, err = cfg.Hash(); err != nil {
		return nil, err
	}
	if cfg.Shard != "" {
		number, of, err := cfg.Shard.Parts()
		if err != nil {
			return nil, err
		}
		m.Shard = &rundir.Shard{Number: number, Of: of}
	}
	for _, t := range cfg.Templates {
		m.Templates = append(m.Templates, t.Name)
	}
	for _, t := range cfg.Whole {
		if m.Shard != nil {
			m.Shard.Expected = append(m.Shard.Expected, t.Name)
		}
		if n := cfg.Sandboxes(t); n > 1 {
			if m.Repeat == nil {
				m.Repeat = map[string]int{}
			}
			m.Repeat[t.Name] = n
		}
	}
	for _, r := range requirement.All() {
		m.Requirements = append(m.Requirements, r.ID)
	}
	runs := flags.runs
	if runs == "" {
		runs = filepath.Join(cfg.Root, "runs")
	}
	if runs, err = filepath.Abs(runs); err != nil {
		return nil, err
	}
	if m, err = redact.Value(suite.redactor, m); err != nil {
		return nil, err
	}
	return rundir.Create(runs, m, suite.redactor.Bytes(effective))
}

// shared is what process 1 tells the others.
type shared struct {
	RunDir string
	Target targetSettings
}

var _ = SynchronizedBeforeSuite(openRun, joinRun)

// openRun runs in process 1: it opens the target and looks that everything is
// in place before any spec runs.
func openRun(ctx SpecContext) []byte {
	if err := compareWithCatalogue(required, containers()); err != nil {
		giveUp(err)
	}
	settings, err := openTarget(ctx)
	if err != nil {
		giveUp(err)
	}
	data, err := json.Marshal(shared{RunDir: suite.run.Dir, Target: settings})
	if err != nil {
		giveUp(fmt.Errorf("tell the other processes of the target: %w", err))
	}
	return data
}

// joinRun runs in every process.
func joinRun(ctx SpecContext, data []byte) {
	var told shared
	Expect(json.Unmarshal(data, &told)).To(Succeed())
	suite.redactor.Learn(told.Target.APIKey, told.Target.AdminToken)
	if suite.run == nil {
		run, err := rundir.Open(told.RunDir, suite.redactor)
		Expect(err).NotTo(HaveOccurred())
		suite.run = run
	}
	recorder, err := suite.run.Recorder(GinkgoParallelProcess(), suite.redactor)
	Expect(err).NotTo(HaveOccurred())
	suite.recorder = recorder
	DeferCleanup(recorder.Close)
	suite.target, err = joinTarget(ctx, told.Target)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(suite.target.leave)
}

var _ = SynchronizedAfterSuite(func() {}, func(ctx SpecContext) {
	if suite.target == nil {
		// The run was given up before its first spec; only the lab may be up.
		if err := stopLab(ctx); err != nil {
			fail(fmt.Sprintf("infra: %v", err))
		}
		return
	}
	tellDeadWaivers()
	kept := keptSandboxes()
	if labProcess != nil {
		awaitLooks(ctx, kept)
		kept = nil // they end with the lab
	}
	// Whoever interrupts the waiting must not interrupt what comes after it.
	after := context.WithoutCancel(ctx)
	leaks, err := suite.target.leftovers(after, suite.run.Manifest.Run, kept)
	stopped := stopLab(after)
	if err != nil {
		problemf("the run could not be searched for sandboxes left behind: %v", err)
	}
	for _, leak := range leaks {
		problemf("leak: %s", leak)
	}
	if stopped != nil {
		problemf("the lab did not stop cleanly: %v", stopped)
	}
	if err != nil || len(leaks) > 0 || stopped != nil {
		Fail("infra: the run did not leave the target as it found it; the run's problems say what is left")
	}
})

// A run that executes no requirement proves nothing, and Ginkgo alone would
// call it a success. It is asked before the first spec: asked after the last
// one, Ginkgo would gather the reports of all processes in one.
var _ = ReportBeforeSuite(func(_ SpecContext, report Report) {
	if suite.run != nil && report.PreRunStats.SpecsThatWillRun == 0 {
		Fail("no spec was executed: a filter (--label-filter, --focus, --skip) that matches nothing")
	}
})

// giveUp ends the run before its first spec, with one readable sentence that
// is also recorded.
func giveUp(err error) {
	GinkgoHelper()
	problemf("%v", err)
	fail(fmt.Sprintf("infra: %v", err))
}

// fail fails a node as Ginkgo's Fail does, without a secret in its message.
func fail(message string, callerSkip ...int) {
	skip := 1
	if len(callerSkip) > 0 {
		skip += callerSkip[0]
	}
	Fail(suite.redactor.String(message), skip)
}

// tellf is what is said to the person at the terminal.
func tellf(format string, args ...any) {
	fmt.Fprint(os.Stderr, suite.redactor.String(fmt.Sprintf(format, args...)))
}

// progressf tells the person at the terminal what takes its time.
func progressf(format string, args ...any) { tellf("\n    "+format+"\n", args...) }

// tellDeadWaivers notes the waivers that no line needed, and those that have
// expired: they are to be taken out before they excuse something else.
func tellDeadWaivers() {
	if len(suite.config.Waivers) == 0 {
		return // the evidence of a whole run takes much memory
	}
	all, err := suite.run.Evidence()
	if err != nil {
		problemf("the evidence could not be searched for waived lines: %v", err)
		return
	}
	for _, dead := range collect.DeadWaivers(suite.config.Waivers, all, time.Now()) {
		record(rundir.Record{Note: dead})
	}
}

// problemf records trouble of the run itself.
func problemf(format string, args ...any) {
	record(rundir.Record{Problem: fmt.Sprintf(format, args...)})
}

// record writes a record that is of no sandbox.
func record(r rundir.Record) {
	recorder := suite.recorder
	if recorder == nil {
		var err error
		recorder, err = suite.run.Recorder(GinkgoParallelProcess(), suite.redactor)
		Expect(err).NotTo(HaveOccurred())
		defer func() { Expect(recorder.Close()).To(Succeed()) }()
	}
	Expect(recorder.Record(r)).To(Succeed())
}
