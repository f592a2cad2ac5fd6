package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sandproof/internal/collect"
	"sandproof/internal/config"
	"sandproof/internal/logscan"
)

// logHops look at every source of the orchestrator's log.
func logHops(o Options) []hop {
	waits := o.Config.Intervals
	live := o.Config.Live
	if o.Config.Target == config.TargetLab {
		return []hop{{name: "logs[0]", tried: "look at the lab's own log", needs: begins(o), wait: waits.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
			return lookAtFiles(ctx, f.live.Logs[0], waits), f
		}}}
	}
	var all []hop
	for i, l := range live.Logs {
		tried := "look for " + logscan.Files{Dirs: l.Dirs, Task: l.Task}.Name()
		all = append(all, hop{name: fmt.Sprintf("logs[%d]", i), tried: tried, wait: waits.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
			return lookAtFiles(ctx, l, waits), f
		}})
	}
	remote := config.Live{Nomad: live.Nomad, Loki: live.Loki}
	for _, source := range collect.Sources(remote, waits) {
		name := "logs.loki"
		if _, ok := source.(logscan.Nomad); ok {
			name = "logs.nomad"
		}
		all = append(all, hop{name: name, tried: "ask " + source.Name(), wait: 2 * waits.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
			return askSource(ctx, source), f
		}})
	}
	if len(all) == 0 {
		all = append(all, hop{name: "logs", tried: "find the orchestrator's log in the configuration", wait: waits.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
			return Finding{State: Warning, Came: "no log is configured, so what envd says at its start is heard by nobody", Do: "name it in ginkgo.yml: live.logs on the node, live.nomad or live.loki from elsewhere (docs/logs.md)"}, f
		}})
	}
	return all
}

// askSource marks a log as a run does before every sandbox.
func askSource(ctx context.Context, source logscan.Source) Finding {
	window, err := logscan.Open(ctx, []logscan.Source{source})
	if err != nil {
		return judgeSource(err)
	}
	defer window.Close()
	if err := window.Missing(); err != nil {
		return Finding{State: Trouble, Came: err.Error(), Do: "see live.nomad in ginkgo.yml: upstream's task is called start"}
	}
	return Finding{State: Fine, Came: "it answers, and its end was marked as before a sandbox; whether lines arrive there, a run's canary proves"}
}

// judgeSource judges why a log could not be marked over HTTP.
func judgeSource(err error) Finding {
	f := Finding{State: Trouble, Came: err.Error(), Do: "check NOMAD_ADDR and NOMAD_TOKEN, or LOKI_ADDR and its credentials, and live.nomad or live.loki in ginkgo.yml"}
	if came, do, ok := ofProxy(err); ok {
		f.Came, f.Do = came, do
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		f = through(f, failed.URL)
	}
	return f
}

// lookAtFiles looks at the log files of one task.
func lookAtFiles(ctx context.Context, l config.LogGlob, waits config.Intervals) Finding {
	files := logscan.Files{Dirs: l.Dirs, Task: l.Task, Settle: waits.LogSettle, Poll: waits.Poll}
	tried := "look for " + files.Name()
	looks, err := files.Look(ctx)
	if err != nil {
		return Finding{State: Trouble, Tried: tried, Came: err.Error(), Do: "run sandproof as a user who may read the orchestrator's allocations (root, or the group of Nomad's data directory), or read the log through Nomad's API (live.nomad)"}
	}
	found := judgeLook(looks, l.Task, tasksIn(l.Dirs), time.Now())
	found.Tried = tried
	return found
}

// judgeLook judges what was found of a task's log.
func judgeLook(looks []logscan.Look, task string, others []string, now time.Time) Finding {
	if len(looks) == 0 {
		f := Finding{State: Trouble, Came: "no file of that name", Do: "check the glob in live.logs: DATA_DIR/alloc/*/alloc/logs of Nomad (nomad agent-info, or its configuration's data_dir), on the node on which sandboxes run"}
		if len(others) > 0 {
			f.Came = fmt.Sprintf("no file of task %s; the directories have logs of %s", task, shorten(others))
			f.Do = "set task in live.logs to the orchestrator's: upstream's is called start"
		}
		return f
	}
	count, newest, rotated := 0, looks[0], false
	for _, l := range looks {
		count += l.Files
		if l.Last.After(newest.Last) {
			newest = l
		}
		rotated = rotated || l.Index > 0
	}
	came := fmt.Sprintf("%d file(s) of %d stream(s), readable; ", count, len(looks))
	if rotated {
		came += "they are rotated, which is followed; "
	} else {
		came += "not rotated yet; "
	}
	if newest.Last.IsZero() {
		return Finding{State: Warning, Came: came + "all are empty", Do: "an orchestrator that runs has logged something: is it another task, or another node's?"}
	}
	age := now.Sub(newest.Last).Round(time.Second)
	came += fmt.Sprintf("the last line is %s old (%s)", age, newest.Path)
	if age > mostSilence {
		return Finding{State: Warning, Came: came, Do: "does the orchestrator still log there? An old allocation may be all that the glob finds"}
	}
	if age < -mostSkew {
		return Finding{State: Warning, Came: came, Do: "its time lies in the future: the writer's clock is wrong, or its time zone"}
	}
	return Finding{State: Fine, Came: came}
}

// mostSilence is how old the last line of a working orchestrator may be: it
// logs its metrics and its sandboxes far more often.
const mostSilence = time.Hour

// tasksIn lists the tasks that have logs in the directories.
func tasksIn(dirs string) []string {
	paths, err := filepath.Glob(filepath.Join(dirs, "*.stdout.*"))
	if err != nil {
		return nil
	}
	var tasks []string
	for _, path := range paths {
		task, _, _ := strings.Cut(filepath.Base(path), ".stdout.")
		tasks = append(tasks, task)
	}
	slices.Sort(tasks)
	return slices.Compact(tasks)
}

// storageHops look at the directories in which builds lie.
func storageHops(o Options) []hop {
	b := o.Config.Builds()
	if b.Storage == "" {
		return []hop{{name: "storage", tried: "find where builds are stored in the configuration", wait: o.Config.Intervals.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
			return Finding{State: NotNeeded, Came: "none is configured (live.storage, lab.storage): it is for patching, and for comparing a guest with its image"}, f
		}}}
	}
	var all []hop
	if o.Config.Target == config.TargetLive {
		all = append(all, toolHops(o)...)
	}
	all = append(all, directoryHop(o, "storage", b.Storage))
	for i, cache := range b.Caches {
		all = append(all, directoryHop(o, fmt.Sprintf("caches[%d]", i), cache))
	}
	return all
}

func directoryHop(o Options, name, dir string) hop {
	return hop{name: name, tried: "look at " + dir, wait: o.Config.Intervals.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
		return judgeDirectory(lookAtDirectory(dir), o.Config.Target), f
	}}
}

// directory is what was seen of a directory.
type directory struct {
	err      error
	entries  int
	writable bool
	// free and size are those of its file system, in bytes.
	free, size uint64
	// reflinks is true where a copy can share its blocks with the original;
	// cloned says what trying it came to, where it is false.
	reflinks bool
	cloned   error
}

func lookAtDirectory(dir string) directory {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return directory{err: err}
	}
	d := directory{entries: len(entries), writable: unix.Access(dir, unix.W_OK|unix.X_OK) == nil}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err == nil {
		d.free, d.size = s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize) //nolint:gosec // a block's size is positive
	}
	if d.writable {
		d.cloned = tryReflink(dir)
		d.reflinks = d.cloned == nil
	}
	return d
}

// tryReflink lets two files without a name share a block; they are gone with
// their descriptors.
func tryReflink(dir string) error {
	nameless := func() (*os.File, error) { return os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600) }
	from, err := nameless()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := nameless()
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := from.Write(make([]byte, mostBody)); err != nil {
		return err
	}
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
}

// leastRoom is what one copy of a usual template's image takes, in bytes.
const leastRoom = 2 << 30

func judgeDirectory(d directory, target config.TargetKind) Finding {
	switch {
	case errors.Is(d.err, fs.ErrNotExist) && target == config.TargetLab:
		return Finding{State: Unproven, Came: "it is not there yet", Do: "the lab makes it: run sandproof lab prepare"}
	case errors.Is(d.err, fs.ErrNotExist):
		return Finding{State: Trouble, Came: d.err.Error(), Do: "check live.storage and live.caches in ginkgo.yml; run this on the machine that has the builds"}
	case errors.Is(d.err, fs.ErrPermission):
		return Finding{State: Trouble, Came: d.err.Error(), Do: "run sandproof as a user who may read it (root, or the orchestrator's group)"}
	case d.err != nil:
		return Finding{State: Trouble, Came: d.err.Error(), Do: "look at the file system behind it"}
	}
	said := []string{fmt.Sprintf("%d entries", d.entries), fmt.Sprintf("%s free of %s", bytesText(d.free), bytesText(d.size))}
	f := Finding{State: Fine}
	switch {
	case !d.writable:
		said = append(said, "readable, not writable")
		f.State, f.Do = Warning, "judging works; for patching run sandproof as a user who may write there"
	case d.reflinks:
		said = append(said, "writable", "copies share their blocks (reflink)")
	default:
		said = append(said, "writable", fmt.Sprintf("no reflinks (%v): a patch copies the whole image", d.cloned))
	}
	if d.free < leastRoom && d.writable {
		f.State, f.Do = Warning, "make room: a patch works on a copy of the image, of which it keeps the original"
	}
	f.Came = strings.Join(said, ", ")
	return f
}

func bytesText(n uint64) string {
	const giB = 1 << 30
	if n >= giB {
		return fmt.Sprintf("%.1f GiB", float64(n)/giB)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// tools are the programs that make and edit images.
var tools = []string{"debugfs", "e2fsck", "mke2fs"}

// leastE2fsprogs is the oldest release with which this is tested (Debian 11's).
const leastE2fsprogs = "1.46"

// toolHops look for e2fsprogs.
func toolHops(o Options) []hop {
	return []hop{{name: "e2fsprogs", tried: "ask " + strings.Join(tools, ", ") + " for their version", wait: o.Config.Intervals.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
		said := map[string]string{}
		for _, tool := range tools {
			said[tool] = versionOf(ctx, tool, "-V")
		}
		return judgeE2fsprogs(said), f
	}}}
}

var e2fsprogsVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\b(\d+\.\d+)(?:\.\d+)?`) })

// judgeE2fsprogs judges what each tool said of its version, empty where it is
// not there.
func judgeE2fsprogs(said map[string]string) Finding {
	var missing, versions []string
	for _, tool := range tools {
		version := e2fsprogsVersion().FindString(said[tool])
		if version == "" {
			missing = append(missing, tool)
			continue
		}
		versions = append(versions, tool+" "+version)
	}
	if len(missing) > 0 {
		return Finding{State: Trouble, Came: "not found, or it tells no version: " + strings.Join(missing, ", "), Do: "run scripts/lab-deps.sh, or install e2fsprogs with the package manager"}
	}
	for _, tool := range tools {
		if older(e2fsprogsVersion().FindString(said[tool]), leastE2fsprogs) {
			return Finding{State: Warning, Came: strings.Join(versions, ", "), Do: "this is older than " + leastE2fsprogs + ": patching was never tried with it, so update e2fsprogs"}
		}
	}
	return Finding{State: Fine, Came: strings.Join(versions, ", ")}
}

// older compares two versions by their first two numbers.
func older(a, b string) bool {
	var aMajor, aMinor, bMajor, bMinor int
	_, errA := fmt.Sscanf(a, "%d.%d", &aMajor, &aMinor)
	_, errB := fmt.Sscanf(b, "%d.%d", &bMajor, &bMinor)
	if errA != nil || errB != nil {
		return false
	}
	return aMajor < bMajor || (aMajor == bMajor && aMinor < bMinor)
}

// versionOf runs a program for its version; empty where it is not there.
func versionOf(ctx context.Context, tool, flag string) string {
	path, err := exec.LookPath(tool)
	if err != nil {
		// A plain user of Debian has the tools of e2fsprogs, but not on the path.
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", tool)); err != nil {
			return ""
		}
	}
	out, err := exec.CommandContext(ctx, path, flag).CombinedOutput()
	if err != nil && len(out) == 0 {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out[:min(len(out), mostBody)])), "\n")
	return first
}
