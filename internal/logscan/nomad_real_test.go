package logscan

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
)

// realAgent is a Nomad agent of the tests, server and client in one.
type realAgent struct {
	client *api.Client
	dir    string // jobs print what lies in it
	allocs string // where the client keeps allocations
}

// startNomad starts the Nomad of SANDPROOF_NOMAD on loopback, or skips the test.
func startNomad(t *testing.T) realAgent {
	t.Helper()
	program := os.Getenv("SANDPROOF_NOMAD")
	if program == "" {
		t.Skip("SANDPROOF_NOMAD names no Nomad: make real-servers builds one and runs this")
	}
	// Not with the rights of root: the agent would make cgroups on this machine.
	// It is the first process of a PID namespace, so that its tasks end with it,
	// however it ends.
	const nobody = 65534
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		attributes.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	} else {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	dir := t.TempDir()
	// The agent's user must come to it.
	for _, way := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(way, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	// And to the program, which lies in somebody's cache, and starts itself again.
	whole, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "nomad")
	if err := os.WriteFile(program, whole, 0o755); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	agent := realAgent{dir: dir, allocs: filepath.Join(dir, "data", "alloc")}
	settings, err := json.Marshal(map[string]any{
		"data_dir": filepath.Join(dir, "data"), "bind_addr": "127.0.0.1", "log_level": "WARN", "disable_update_check": true,
		"advertise": map[string]any{"http": "127.0.0.1", "rpc": "127.0.0.1", "serf": "127.0.0.1"},
		"ports":     map[string]any{"http": ports[0], "rpc": ports[1], "serf": ports[2]},
		"server":    map[string]any{"enabled": true, "bootstrap_expect": 1, "raft_multiplier": 1},
		"client": map[string]any{
			"enabled": true, "servers": []string{fmt.Sprintf("127.0.0.1:%d", ports[1])}, "network_interface": "lo",
			"options": map[string]any{
				"driver.allowlist":     "raw_exec",
				"fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean,bridge,cni,consul,vault,cgroup",
			},
		},
		"acl": map[string]any{"enabled": true},
		"plugin": []any{map[string]any{"raw_exec": []any{map[string]any{
			"config": []any{map[string]any{"enabled": true, "no_cgroups": true}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "agent.json")
	if err := os.WriteFile(file, settings, 0o644); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = said.Close() }()
	command := exec.CommandContext(t.Context(), program, "agent", "-config="+file)
	command.Stdout, command.Stderr, command.SysProcAttr = said, said, attributes
	command.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	gone := startServer(t, command)
	address := "http://127.0.0.1:" + strconv.Itoa(ports[0])
	t.Setenv("NOMAD_ADDR", address)
	if agent.client, err = api.NewClient(api.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	agent.await(t, "a token and a ready node", func() bool {
		select {
		case end := <-gone:
			words, _ := os.ReadFile(said.Name())
			t.Fatalf("%s ended (%v): %s", program, end, words)
		default:
		}
		if os.Getenv("NOMAD_TOKEN") == "" {
			token, _, err := agent.client.ACLTokens().Bootstrap(nil)
			if err != nil {
				return false
			}
			t.Setenv("NOMAD_TOKEN", token.SecretID)
			agent.client.SetSecretID(token.SecretID)
		}
		nodes, _, err := agent.client.Nodes().List(nil)
		return err == nil && len(nodes) == 1 && nodes[0].Status == api.NodeStatusReady
	})
	return agent
}

func (a realAgent) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 600 {
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // a real server is waited for
	}
	words, _ := os.ReadFile(filepath.Join(a.dir, "said"))
	t.Fatalf("%s does not come: %.5000s", what, words)
}

// realJob is a job whose one task prints what is written to a file of the test.
type realJob struct {
	realAgent

	t        *testing.T
	id, feed string
}

// run registers a job, and waits until it logged a first line.
func (a realAgent) run(t *testing.T, id string) realJob {
	t.Helper()
	j := realJob{realAgent: a, t: t, id: id, feed: filepath.Join(a.dir, id)}
	j.print(records("iold", fallback))
	task := api.NewTask("orchestrator", "raw_exec")
	task.Config = map[string]any{"command": "/usr/bin/tail", "args": []string{"-n", "+1", "-F", j.feed}}
	task.LogConfig = &api.LogConfig{MaxFiles: new(2), MaxFileSizeMB: new(1)}
	task.Resources = &api.Resources{CPU: new(20), MemoryMB: new(20)}
	job := api.NewServiceJob(id, id, "global", 50).AddDatacenter("*").AddTaskGroup(api.NewTaskGroup("group", 1).AddTask(task))
	if _, _, err := a.client.Jobs().Register(job, nil); err != nil {
		t.Fatal(err)
	}
	j.await(j.t, "the first line of "+id, func() bool {
		all := j.files()
		return len(all) == 1 && sizeOf(all[0]) > 0
	})
	return j
}

// print appends a text to what the task prints.
func (j realJob) print(text string) {
	j.t.Helper()
	file, err := os.OpenFile(j.feed, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = file.WriteString(text)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		j.t.Fatal(err)
	}
}

// allocations are those of the job, the newest first.
func (j realJob) allocations() []*api.AllocationListStub {
	j.t.Helper()
	all, _, err := j.client.Jobs().Allocations(j.id, true, nil)
	if err != nil {
		j.t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b *api.AllocationListStub) int { return cmp.Compare(b.CreateIndex, a.CreateIndex) })
	return all
}

// files are the log files of the newest allocation's standard output, by index.
func (j realJob) files() []string {
	j.t.Helper()
	all := j.allocations()
	if len(all) == 0 {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(j.allocs, all[0].ID, logDirectory, "orchestrator.stdout.*"))
	if err != nil {
		j.t.Fatal(err)
	}
	return found
}

func sizeOf(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// TestRealNomad: what the double promises of Nomad's API holds of a real agent.
func TestRealNomad(t *testing.T) {
	agent := startNomad(t)
	failed := records("iours", append(slices.Clone(boot), fallback)...)
	others := func(bytes int) string {
		return strings.Repeat(record("iother", "hello"), bytes/len(record("iother", "hello"))+1)
	}
	for n, test := range []struct {
		name, want, hole string
		during           func(j realJob)
	}{
		{"healthy", "green", "", func(j realJob) { j.print(records("iours", boot...)) }},
		{"failed", "red", "", func(j realJob) { j.print(failed) }},
		{"failed before the mark only", "unproven", "", func(realJob) {}},
		{"failed, around a rotation", "red", "", func(j realJob) {
			j.print(others(1<<20-len(failed)-200) + failed + others(1<<10))
			j.await(j.t, "a second file", func() bool { return len(j.files()) == 2 })
		}},
		{"healthy, after a rotation", "green", "", func(j realJob) { j.print(others(1<<20) + records("iours", boot...)) }},
		{"failed, and purged by two rotations", "unproven", "removed", func(j realJob) {
			first := j.files()[0]
			j.print(failed)
			// A rotator whose purge is under way may let one rotation pass.
			j.await(j.t, "the removal of "+first, func() bool {
				j.print(others(1 << 20))
				return !slices.Contains(j.files(), first)
			})
		}},
		{"failed in the allocation after a stopped one", "red", "", func(j realJob) {
			if _, err := j.client.Allocations().Stop(&api.Allocation{ID: j.allocations()[0].ID}, nil); err != nil {
				j.t.Fatal(err)
			}
			j.print(failed)
			j.await(j.t, "the next allocation's log", func() bool {
				all := j.files()
				return len(j.allocations()) == 2 && len(all) == 1 && sizeOf(all[0]) > int64(len(failed))
			})
		}},
		{"removed before it was read", "unproven", "removed", func(j realJob) {
			j.print(failed)
			all := j.files()
			j.await(j.t, "the lines", func() bool { return sizeOf(all[0]) > int64(len(failed)) })
			if err := os.Remove(all[0]); err != nil {
				j.t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := agent.run(t, "orchestrator-"+strconv.Itoa(n))
			w, err := Open(t.Context(), []Source{j.source()})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			test.during(j)
			// Nomad's logmon hands on what it has each 100 ms.
			w.Watch(t.Context(), "iours", Settling{Quiet: 500 * time.Millisecond, Cap: time.Minute, Poll: 50 * time.Millisecond})
			log, err := w.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := reading(log); got != test.want {
				t.Errorf("read as %s, want %s: %+v", got, test.want, log)
			}
			if holes := strings.Join(log.Holes, "; "); !strings.Contains(holes, test.hole) || test.want == "green" && holes != "" {
				t.Errorf("holes %q, want one that says %q", holes, test.hole)
			}
		})
	}
	j := agent.run(t, "orchestrator")
	unknown := j.source()
	unknown.Job = "orchestrater"
	if _, err := unknown.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "live.nomad.job") {
		t.Errorf("a job that Nomad does not know: %v", err)
	}
	place := &nomadPlace{source: j.source(), client: j.client, sizes: map[string]int64{}, shed: map[string]bool{}}
	noText(t, place.file(t.Context(), path.Join(j.allocations()[0].ID, logDirectory, "orchestrator.stdout.7")))
	// Of the right form, so that Nomad looks for it.
	const wrong = "00000000-1111-2222-3333-444444444444"
	t.Setenv("NOMAD_TOKEN", wrong)
	if _, err := j.source().Open(t.Context()); err == nil || !strings.Contains(err.Error(), "give a token") || strings.Contains(err.Error(), wrong) {
		t.Errorf("a wrong token: %v", err)
	}
}

func (j realJob) source() Nomad {
	return Nomad{Job: j.id, Task: "orchestrator", Settle: 300 * time.Millisecond, Poll: 50 * time.Millisecond, Timeout: 10 * time.Second}
}
