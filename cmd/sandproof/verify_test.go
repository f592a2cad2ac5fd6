package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/fixtures/guestos"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/requirement"
	"sandproof/internal/verdict"
)

// mainEnv tells this test binary to be sandproof itself.
const mainEnv = "SANDPROOF_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" || os.Getenv(labEnv) != "" {
		main()
		return
	}
	code := m.Run()
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code) //nolint:forbidigo // TestMain ends with the tests' exit code
}

// The versions of envd that the stand-in plays here: the last that starts
// commands by nice and knows no tmpfs, and one of today.
const (
	oldEnvd = "0.5.6"
	newEnvd = "0.6.13"
)

// built is a directory with the stand-ins, as envd-VERSION, and the probe.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sandproof-verify-test-")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) //nolint:forbidigo // shared by all tests of the package
	defer cancel()
	for _, version := range []string{oldEnvd, newEnvd} {
		if _, err := lab.BuildStandIn(ctx, "../..", version, dir); err != nil {
			return dir, err
		}
	}
	return dir, lab.BuildStatic(ctx, "../..", "./cmd/guestprobe", "-X main.version="+version, filepath.Join(dir, "guestprobe"))
})

func programs(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// guests lets two guests run at a time, on however many cores.
var guests = make(chan struct{}, 2)

// flavour is an image as the lab makes it, with a shell init or a unit.
func flavour(t *testing.T, name, init, unit, envd string) string {
	t.Helper()
	store, err := guestos.Open("", func(message string) { t.Log(message) })
	if err != nil {
		t.Fatal(err)
	}
	image, err := store.Image(t.Context(), guestos.Recipe{Flavour: name, Init: init, Unit: unit, Envd: filepath.Join(programs(t), "envd-"+envd)})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func initScript(t *testing.T) string {
	t.Helper()
	text, err := guestos.Init(guestos.InitDelegated, false)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// kernel is the lab's own kernel image.
func kernel(t *testing.T) string {
	t.Helper()
	store, err := guestos.Open("", func(message string) { t.Log(message) })
	if err != nil {
		t.Fatal(err)
	}
	k, err := store.Kernel(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return k.Image
}

// edited is a copy of an image after debugfs has done what it was asked to.
func edited(t *testing.T, image, requests string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "rootfs.ext4")
	if out, err := exec.CommandContext(t.Context(), "cp", "--sparse=always", "--reflink=auto", image, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-w", "-f", "-", copied)
	cmd.Stdin = strings.NewReader(requests)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return copied
}

// sum tells an image from itself after any change.
func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x of %d bytes, written to at %s", h.Sum32(), info.Size(), info.ModTime())
}

// sandproof runs a command line in this process and returns what it printed
// and its exit code.
func sandproof(ctx context.Context, args ...string) (out, said string, code int) {
	var stdout, stderr bytes.Buffer
	cmd := root() //nolint:contextcheck // the context comes with ExecuteContext
	cmd.SetArgs(args)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err := cmd.ExecuteContext(ctx)
	if exit, ok := errors.AsType[exitError](err); ok {
		return stdout.String(), stderr.String(), int(exit)
	}
	if err != nil {
		return stdout.String(), stderr.String() + err.Error(), verdict.ExitInfra
	}
	return stdout.String(), stderr.String(), verdict.ExitIsolated
}

// script is an init script that sets a guest up without cgroups, and goes on
// with the given lines.
func script(lines ...string) string {
	return "#!/bin/sh\nexec >/dev/ttyS0 2>&1\nmount -t proc none /proc\nmount -t sysfs sysfs /sys\n" +
		strings.Join(lines, "\n") + "\necho the init goes on\nwhile true; do sleep 60; done\n"
}

// Images of all kinds are given their verdict, with its stage, its reason and
// the gate's exit code, and are the same bytes afterwards.
func TestVerifyImage(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests")
	}
	type test struct {
		name string
		// image makes the image, args are the command line's options.
		image func(t *testing.T) string
		args  []string
		// exits are the codes that are right. Where there are two, other
		// requirements may yet tell more, and word and stage are left open.
		exits []int
		word  verdict.Word
		stage requirement.Stage
		// holds are requirements that must be met.
		holds []requirement.ID
		// says are parts of what is printed.
		says []string
	}
	busybox := func(t *testing.T) string { t.Helper(); return flavour(t, guestos.Busybox, initScript(t), "", newEnvd) }
	withInit := func(init, envd string) func(*testing.T) string {
		return func(t *testing.T) string { t.Helper(); return flavour(t, guestos.Busybox, init, "", envd) }
	}
	debian := func(t *testing.T) string {
		t.Helper()
		unit, _ := guestos.Unit(guestos.InitSystemd, false)
		return flavour(t, guestos.Debian, "", unit, newEnvd)
	}
	init := filepath.Join(t.TempDir(), "init with 'quotes'")
	if err := os.WriteFile(init, []byte(initScript(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	isolated, notIsolated := []int{verdict.ExitIsolated}, []int{verdict.ExitNotIsolated}
	down := func(test test) test {
		test.exits, test.word, test.stage = notIsolated, verdict.NotIsolated, requirement.StageBoot
		test.says = append(test.says, "boot (boot.envd-answers)", "the template's guest does not come up")
		return test
	}
	for _, test := range []test{
		{name: "as it should be", image: busybox, exits: isolated, word: verdict.Isolated, args: []string{"--memory=640", "--cpus=2", "--kernel-args=sandproof.mark=1"}},
		{
			name: "systemd", image: debian,
			// What envd says goes to the journal, and its log may not speak.
			exits: []int{verdict.ExitIsolated, verdict.ExitUnproven},
			holds: []requirement.ID{requirement.BootEnvdAnswers, requirement.BootEnvdKnown, requirement.ValueUserMemoryMax, requirement.PlaceCommand, requirement.PlacePTY},
		},
		{
			name: "an image with merged usr, with another init and another envd", image: debian, exits: isolated, word: verdict.Isolated,
			args: []string{"--init", init, "--envd", filepath.Join(programs(t), "envd-"+oldEnvd)}, says: []string{oldEnvd + " (B)"},
		},
		{
			name: "sbin is an absolute link", exits: isolated, word: verdict.Isolated, args: []string{"--init", init},
			image: func(t *testing.T) string {
				t.Helper()
				return edited(t, debian(t), "rm sbin\nsymlink sbin /usr/sbin\n")
			},
		},
		{
			name: "envd is in usr/local", exits: isolated, word: verdict.Isolated,
			image: func(t *testing.T) string {
				t.Helper()
				image := flavour(t, guestos.Busybox, strings.ReplaceAll(initScript(t), "/usr/bin/envd", "/usr/local/bin/envd"), "", newEnvd)
				return edited(t, image, "cd /usr/bin\nrm envd\ncd /usr/local/bin\nwrite "+filepath.Join(programs(t), "envd-"+newEnvd)+" envd\nsif envd mode 0100755\n")
			},
		},
		{
			name: "tmpfs on sys/fs/cgroup", exits: notIsolated, word: verdict.NotIsolated, stage: requirement.StageMount,
			image: withInit(strings.ReplaceAll(initScript(t), "mount -t cgroup2 none", "mount -t tmpfs none"), oldEnvd),
			says:  []string{"bad file descriptor", "not cgroup2"},
		},
		{
			name: "no nice", exits: notIsolated, word: verdict.NotIsolated, stage: requirement.StageCreate,
			image: func(t *testing.T) string {
				t.Helper()
				return edited(t, flavour(t, guestos.Busybox, initScript(t), "", oldEnvd), "rm /usr/bin/nice\nrm /usr/bin/ionice\n")
			},
			says: []string{"nice and ionice"},
		},
		{
			// The distribution's has virtio as modules, which go with it only
			// where it is the lab's own choice.
			name: "a kernel that does not suit the lab", image: busybox, args: []string{"--kernel", kernel(t)},
			exits: []int{verdict.ExitInfra},
			says:  []string{"sandproof-initramfs: no eth0", "this says nothing about the template"},
		},
		{
			name: "too little memory for any kernel", image: busybox, args: []string{"--memory=24"},
			exits: []int{verdict.ExitInfra},
		},
		down(test{
			name: "envd is never started", image: withInit(script("echo no envd here"), newEnvd),
			says: []string{"nothing in the guest answers on envd's port", "no envd here"},
		}),
		down(test{
			name:  "envd is missing",
			image: func(t *testing.T) string { t.Helper(); return edited(t, busybox(t), "rm /usr/bin/envd\n") },
			says:  []string{"nothing in the guest answers on envd's port", "/usr/bin/envd: not found"},
		}),
		down(test{
			name: "the init ends", image: withInit("#!/bin/sh\nset -e\nexec >/dev/ttyS0 2>&1\nmkdir /none/none\n", newEnvd),
			says: []string{"the image's init ended", "Attempted to kill init!", "mkdir: can't create directory"},
		}),
		down(test{
			name:  "the init is missing",
			image: func(t *testing.T) string { t.Helper(); return edited(t, busybox(t), "rm /sbin/init\n") },
			says:  []string{"no executable /sbin/init"},
		}),
		down(test{
			name:  "the init is not executable",
			image: func(t *testing.T) string { t.Helper(); return edited(t, busybox(t), "sif /sbin/init mode 0100644\n") },
			says:  []string{"no executable /sbin/init"},
		}),
		down(test{
			name: "the init's interpreter is missing", image: withInit("#!/bin/none\n", newEnvd),
			says: []string{"cannot be executed", "interpreter"},
		}),
		down(test{
			name:  "the file system is broken",
			image: func(t *testing.T) string { t.Helper(); return edited(t, busybox(t), "clri <2>\n") },
			says:  []string{"the kernel cannot mount the image"},
		}),
		down(test{
			name: "the guest powers off", image: withInit(script(`printf '\033[2J\033]0;evil\007'`, "echo going down", "poweroff -f"), newEnvd),
			says: []string{"powered off", "going down"},
		}),
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			guests <- struct{}{}
			defer func() { <-guests }()
			image := test.image(t)
			before := sum(t, image)
			args := append([]string{"verify-image", "--json", "--probe", filepath.Join(programs(t), "guestprobe"), image}, test.args...)
			out, said, code := sandproof(t.Context(), args...)
			var got verified
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v:\n%s%s", err, out, said)
			}
			as := test.word == "" || got.Verdict.Word == test.word && got.Verdict.Stage == test.stage
			if !as || !slices.Contains(test.exits, code) {
				t.Errorf("%s at stage %q (%s) with exit code %d, want %s at %q with one of %v\n%s",
					got.Verdict.Word, got.Verdict.Stage, got.Verdict.Reason, code, test.word, test.stage, test.exits, said)
			}
			for _, o := range got.Outcomes {
				if slices.Contains(test.holds, o.Requirement) && o.Result != requirement.Pass {
					t.Errorf("%s is %s: %s", o.Requirement, o.Result, o.Reason)
				}
			}
			if got.Image != image || len(got.Outcomes) != len(requirement.All()) || got.Evidence.Version != evidence.Version || len(got.Problems) > 0 {
				t.Errorf("image %s, %d outcomes, evidence %+v, problems %v", got.Image, len(got.Outcomes), got.Evidence, got.Problems)
			}
			table := show(t, &got)
			for _, part := range test.says {
				if !strings.Contains(table, part) {
					t.Errorf("the verdict does not say %q:\n%s", part, table)
				}
			}
			if strings.ContainsAny(table+out, "\x1b\a") {
				t.Errorf("what the guest wrote reaches the terminal: %q", table)
			}
			if after := sum(t, image); after != before {
				t.Errorf("the image was %s, and is %s", before, after)
			}
			if test.name == "as it should be" {
				if strings.Contains(table, "the API says") {
					t.Errorf("there is a claim about a file's envd, and nobody made one:\n%s", table)
				}
				if s := got.Evidence.Snapshot; s == nil || !strings.Contains(s.Kernel.Cmdline, "sandproof.mark=1") || s.MemTotal < 520<<20 || got.Evidence.API.CPUCount != 2 {
					t.Errorf("the guest is another one than was asked for: %+v", s)
				}
			}
		})
	}
}

// show is what people are shown of a result.
func show(t *testing.T, result *verified) string {
	t.Helper()
	shown := *result
	shown.Outcomes = nil
	c, err := load([]string{"-e2e.target=lab"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := verifyOptions{}
	if err := o.show(c, &shown, &out); err != nil {
		if _, ok := errors.AsType[exitError](err); !ok {
			t.Fatal(err)
		}
	}
	// Sentences are wrapped.
	return strings.Join(strings.Fields(out.String()), " ")
}

// Whatever cannot be judged says why, at once, and is never a verdict.
func TestVerifyImageRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := write("text", bytes.Repeat([]byte("no file system\n"), 1000))
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no file", []string{filepath.Join(dir, "none")}, "no such file"},
		{"a directory", []string{dir}, "is a directory"},
		{"empty", []string{write("empty", nil)}, "is empty"},
		{"a text", []string{text}, "is no ext4 file system"},
		{"a device", []string{os.DevNull}, "is no regular file but a device"},
		{"no image", nil, "accepts 1 arg"},
		{"no such init", []string{"--init", filepath.Join(dir, "none"), text}, "no such file"},
		{"a directory as envd", []string{"--envd", dir, text}, "is no regular file"},
		{"no memory", []string{"--memory=0", text}, "want 1 or more"},
		{"no CPU", []string{"--cpus=-1", text}, "want 1 or more"},
		{"an init in the kernel's arguments", []string{"--kernel-args", "quiet init=/etc/init", text}, "put another one there with --init"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, said, code := sandproof(t.Context(), append([]string{"verify-image"}, test.args...)...)
			if code != verdict.ExitInfra || out != "" || !strings.Contains(said, test.want) {
				t.Errorf("exit code %d, %s, %s", code, out, said)
			}
		})
	}
}

// Ctrl-C ends everything at once, and a kill as well; no copy of an image
// stays either way.
func TestVerifyImageInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests")
	}
	image := flavour(t, guestos.Busybox, script("echo no envd here"), "", newEnvd)
	for _, test := range []struct {
		name   string
		signal syscall.Signal
	}{{"kill", syscall.SIGKILL}, {"Ctrl-C", syscall.SIGINT}} {
		t.Run(test.name, func(t *testing.T) {
			guests <- struct{}{}
			defer func() { <-guests }()
			tmp := t.TempDir()
			init := filepath.Join(tmp, "init")
			if err := os.WriteFile(init, []byte(script("echo nor here")), 0o600); err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "verify-image", "--probe", filepath.Join(programs(t), "guestprobe"), "--init", init, image)
			cmd.Env = append(os.Environ(), mainEnv+"=1", "TMPDIR="+tmp)
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, 5*time.Minute, "a guest runs", func() bool { return len(processes(t, tmp, "qemu-system")) > 0 })
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err = cmd.Wait()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || test.signal == syscall.SIGINT && (exit.ExitCode() != verdict.ExitInfra || !strings.Contains(said.String(), "interrupted")) {
				t.Errorf("%v: %s", err, &said)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s to end", took)
			}
			eventually(t, 5*time.Second, "every process is gone", func() bool { return len(processes(t, tmp, "")) == 0 })
			if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) != 1 {
				t.Errorf("left in TMPDIR, beside the init: %v, %v", left, err)
			}
		})
	}
}

// processes are those that have this TMPDIR in their environment and run a
// program of that name.
func processes(t *testing.T, tmp, name string) []string {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		environ, err := os.ReadFile(entry)
		if err != nil || !bytes.Contains(environ, []byte("TMPDIR="+tmp+"\x00")) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(entry), "cmdline"))
		if err == nil && bytes.Contains(cmdline, []byte(name)) {
			found = append(found, string(cmdline))
		}
	}
	return found
}

// eventually waits until a condition holds.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// What a guest wrote stays what it is, and no terminal obeys it.
func TestPlainJSON(t *testing.T) {
	want := map[string]string{"ü": "\x1b[2J\u009b2J\u202e\x7f\r\n\\\"\u2028🙂 <&>", "b": "\ufffd"}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	plain := plainJSON(data)
	if i := bytes.IndexFunc(plain, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		t.Errorf("byte %d of %s", i, plain)
	}
	got := map[string]string{}
	if err := json.Unmarshal(plain, &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// The command that a verdict ends with can be pasted into a shell.
func TestCommandLine(t *testing.T) {
	cmd := root()
	var got string
	for _, c := range cmd.Commands() {
		if c.Name() == "verify-image" {
			c.RunE = func(c *cobra.Command, args []string) error {
				got = commandLine(c, args)
				return nil
			}
		}
	}
	cmd.SetArgs([]string{"verify-image", "it's $HOME/rootfs.ext4", "--json", "--kernel-args", "quiet a=b", "--memory=1024"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := `sandproof verify-image --json '--kernel-args=quiet a=b' --memory=1024 'it'\''s $HOME/rootfs.ext4'`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A verdict as text holds no piece of a secret, and gives GitHub's runner no
// command, whatever the guest said.
func TestVerdictOfAnImageAsText(t *testing.T) {
	secret := strings.Repeat("a_b-9", 40)
	t.Setenv("E2B_ADMIN_TOKEN", secret)
	t.Setenv("GITHUB_ACTIONS", "true")
	said := strings.Repeat("y", 87) + " ::error::pwned by a guest\n" + secret
	o := verifyOptions{}
	result := &verified{Version: verifiedVersion, Image: "rootfs.ext4", Problems: []string{said}, Evidence: &evidence.Sandbox{
		Version: evidence.Version, Problems: []evidence.Problem{{Piece: evidence.PieceAPI, Kind: evidence.ProblemBoot, Error: strings.Repeat("z", 4000) + said}},
	}}
	var out bytes.Buffer
	if err := o.show(config.Config{Profile: config.ProfileCore}, result, &out); !errors.Is(err, exitError(verdict.ExitInfra)) && !errors.Is(err, exitError(verdict.ExitNotIsolated)) {
		t.Errorf("%v", err)
	}
	text := out.String()
	if piece := pieceOf(text, secret); piece != "" || !strings.Contains(text, "[redacted]") || !strings.Contains(text, "::error::pwned") {
		t.Errorf("%q of the secret in %s", piece, text)
	}
	commandLess(t, unfenced(t, text))
}
