package requirement

import (
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

// tried is one change of an experiment's evidence, and what must be said of it.
type tried struct {
	name, version string
	harm          func(*evidence.Sandbox)
	id            ID
	want          Result
	reason        string
}

func judgeAll(t *testing.T, all []tried) {
	t.Helper()
	for _, test := range all {
		t.Run(string(test.id)+": "+test.name, func(t *testing.T) {
			version := test.version
			if version == "" {
				version = "0.6.13"
			}
			s := healthy(version)
			test.harm(s)
			if o := results(s)[test.id]; o.Result != test.want || !strings.Contains(o.Reason, test.reason) {
				t.Errorf("it is %s (%s), want %s that says %q", o.Result, o.Reason, test.want, test.reason)
			}
		})
	}
}

func share(ratio float64) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) { s.CPU = competed(ratio) }
}

// both harms evidence twice.
func both(one, other func(*evidence.Sandbox)) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) {
		one(s)
		other(s)
	}
}

// weights resets the weight of commands to the kernel's default, and sets that
// of terminals.
func weights(ptys string) func(*evidence.Sandbox) {
	return func(s *evidence.Sandbox) {
		s.Snapshot.Groups["user"].Files["cpu.weight"] = evidence.File{Text: "100\n"}
		s.Snapshot.Groups["ptys"].Files["cpu.weight"] = evidence.File{Text: ptys + "\n"}
	}
}

// What two processes got of one CPU, and two equal ones beside them.
func TestBiteCPU(t *testing.T) {
	cpu := func(change func(*evidence.CPUExperiment)) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { change(s.CPU) }
	}
	judgeAll(t, []tried{
		{"as promised", "", share(4), BiteCPU, Pass, "a terminal got 4.00 times the CPU time of a command"},
		{"as promised in generation A", "0.4.3", share(4.1), BiteCPU, Pass, "as the weights promise"},
		{"within the tolerance", "", share(3.3), BiteCPU, Pass, ""},
		{"equal shares of right weights", "", share(1), BiteCPU, Fail, "the weights are right and do not bite"},
		{"equal shares of no weights", "", both(share(1.02), weights("100")), BiteCPU, Fail, "the weights that envd promises are not in force"},
		{"other weights", "", both(share(2), weights("200")), BiteCPU, Fail, "not in force"},
		{"between", "", share(2.8), BiteCPU, Unproven, "too noisy to tell"},
		{"far too much", "", share(9), BiteCPU, Unproven, "too noisy to tell"},
		{"the wrong way round", "", share(0.25), BiteCPU, Fail, "do not bite"},
		{"an older envd without weights", "0.4.2", share(1), BiteCPU, NotApplicable, "limits nothing"},
		{"unequal equals", "", cpu(func(e *evidence.CPUExperiment) { e.Control[0].CPUSeconds, e.Control[1].CPUSeconds = 0.6, 0.4 }), BiteCPU, Unproven, "of two equal commands one got 1.50 times"},
		{"no control", "", cpu(func(e *evidence.CPUExperiment) { e.Control = nil }), BiteCPU, Unproven, "did not both report"},
		{"half a control", "", cpu(func(e *evidence.CPUExperiment) { e.Control = e.Control[:1] }), BiteCPU, Unproven, "did not both report"},
		{"a control at another time", "", cpu(func(e *evidence.CPUExperiment) { e.Control[0].From++ }), BiteCPU, Unproven, "they did not burn at the same time"},
		{"on two CPUs", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.CPU = new(int) }), BiteCPU, Unproven, "different CPUs, 0 and 1"},
		{"on no CPU", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.CPU = nil }), BiteCPU, Unproven, "did not tell on which CPU"},
		{"at other times", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.To++ }), BiteCPU, Unproven, "they did not burn at the same time"},
		{"hardly run", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.CPUSeconds, e.Command.CPUSeconds = 0.2, 0.05 }), BiteCPU, Unproven, "not what two that compete get of one"},
		{"more than there is", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.CPUSeconds, e.Command.CPUSeconds = 4, 1 }), BiteCPU, Unproven, "not what two that compete get of one"},
		{"a negative time", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.CPUSeconds = -4 }), BiteCPU, Unproven, "not what two that compete"},
		{"the command elsewhere", "", cpu(func(e *evidence.CPUExperiment) { e.Command.Process.Cgroup = "0::/\n" }), BiteCPU, Fail, "the command ran in / and not in /user"},
		{"the terminal elsewhere", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.Process.Cgroup = "0::/user\n" }), BiteCPU, Fail, "the terminal ran in /user and not in /ptys"},
		{"nobody knows where", "", cpu(func(e *evidence.CPUExperiment) { e.PTY.Process.Cgroup = "" }), BiteCPU, Unproven, "the terminal that competed"},
		{"no terminal", "", cpu(func(e *evidence.CPUExperiment) { e.PTY = nil }), BiteCPU, Unproven, "there is no record of why"},
		{"no terminal, and why", "", func(s *evidence.Sandbox) {
			s.CPU.PTY = nil
			s.Problems = append(s.Problems, evidence.Problem{Piece: evidence.PieceCPU, Kind: evidence.ProblemInfra, Call: "run the probe", Error: "502"})
		}, BiteCPU, Infra, "502"},
		{"not asked for", "", func(s *evidence.Sandbox) {
			s.CPU, s.NotAsked = nil, []evidence.Piece{evidence.PieceCPU}
		}, BiteCPU, NotApplicable, "this run made no experiments"},
		{"no cgroups", "", func(s *evidence.Sandbox) { s.Snapshot.Root.FSMagic = 0x62656572 }, BiteCPU, NotApplicable, "there is no cgroup2 mount"},

		{"both act", "", func(*evidence.Sandbox) {}, BiteAgrees, Pass, "what is set acts"},
		{"equal shares of right weights", "", share(1), BiteAgrees, Fail, "the weights are right and do not bite"},
		{"equal shares of no weights", "", both(share(1), weights("100")), BiteAgrees, Pass, ""},
		{"too noisy", "", share(2.8), BiteAgrees, Pass, ""},
		{"nothing was tried", "", func(s *evidence.Sandbox) { s.CPU, s.Memory = nil, nil }, BiteAgrees, NotApplicable, "no limit that is right was tried"},
	})
}

// It is made again where it told nothing, or what cannot be.
func TestCPUAgain(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(*evidence.Sandbox)
		want bool
	}{
		"as promised":               {func(*evidence.Sandbox) {}, false},
		"too noisy":                 {share(2.8), true},
		"an unequal control":        {func(s *evidence.Sandbox) { s.CPU.Control[0].CPUSeconds = 0.8 }, true},
		"nobody reported":           {func(s *evidence.Sandbox) { s.CPU.PTY = nil }, true},
		"right weights do not bite": {share(1), true},
		"no weights":                {both(share(1), weights("100")), false},
		"no cgroups in this envd":   {func(s *evidence.Sandbox) { s.Snapshot.Envd.Version = "0.4.2" }, false},
	} {
		s := healthy("0.6.13")
		test.harm(s)
		if got := CPUAgain(s); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// What became of a process that wanted more memory than its group may use.
func TestBiteMemory(t *testing.T) {
	hog := func(change func(*evidence.HogReport)) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { change(s.Memory.Report) }
	}
	ended := func(end evidence.HogEnd, after evidence.File) func(*evidence.Sandbox) {
		return hog(func(r *evidence.HogReport) { r.Ended, r.After, r.KernelLog = end, after, nil })
	}
	kernelSays := func(lines ...string) func(*evidence.Sandbox) {
		return hog(func(r *evidence.HogReport) { r.KernelLog = lines })
	}
	judgeAll(t, []tried{
		{"killed by its group", "", func(*evidence.Sandbox) {}, BiteMemory, Pass, "the limit stopped it inside its cgroup"},
		{"killed by its group, B", "0.5.6", func(*evidence.Sandbox) {}, BiteMemory, Pass, "the limit stopped it"},
		{"killed at the limit", "", ended(evidence.HogKilled, events("max")), BiteMemory, Pass, ""},
		{"only the kernel's log tells", "", hog(func(r *evidence.HogReport) { r.After = events() }), BiteMemory, Pass, ""},
		{"the kernel tells of another group", "", hog(func(r *evidence.HogReport) {
			r.After, r.KernelLog[0] = events(), strings.Replace(r.KernelLog[0], "oom_memcg=/user", "oom_memcg=/users", 1)
		}), BiteMemory, Fail, "not by its cgroup's limit"},
		{"the kernel tells of another process", "", hog(func(r *evidence.HogReport) {
			r.After, r.KernelLog[0] = events(), strings.Replace(r.KernelLog[0], "pid=80", "pid=801", 1)
		}), BiteMemory, Fail, "not by its cgroup's limit"},
		{"killed by a guest that ran out, at its limit before", "", kernelSays(
			"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/user,task=guestprobe,pid=80,uid=0",
		), BiteMemory, Fail, "the kernel says that the guest as a whole ran out of memory (CONSTRAINT_NONE)"},
		{"killed for the memory of its nodes", "", kernelSays(
			"oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=0,2,cpuset=/user,mems_allowed=0,2,global_oom,task_memcg=/user,task=guestprobe,pid=80,uid=0",
		), BiteMemory, Fail, "(CONSTRAINT_CPUSET)"},
		{"killed by its group, which envd's cgroup namespace shows the end of", "", both(kernelSays(
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/box/user,task_memcg=/box/user,task=guestprobe,pid=80,uid=0",
		), hog(func(r *evidence.HogReport) { r.After = events() })), BiteMemory, Pass, "the limit stopped it inside its cgroup"},
		{"killed for the limit of a group above, at its own before", "", kernelSays(
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/,task_memcg=/user,task=guestprobe,pid=80,uid=0",
		), BiteMemory, Fail, "the kernel says that the cgroup / was at its limit"},
		{"at its limit, while a guest that ran out killed another process", "", kernelSays(
			"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/ptys,task=x,pid=80,uid=0,pid=801,uid=0",
			"Out of memory: Killed process 80 (guestprobe)",
		), BiteMemory, Pass, ""},
		{"another process is named like this one's PID", "", both(kernelSays(
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/user,task_memcg=/user,task=x,pid=80,uid=0,pid=801,uid=0",
		), hog(func(r *evidence.HogReport) { r.After = events() })), BiteMemory, Fail, "not by its cgroup's limit"},
		{"what only looks like the kernel's line", "", kernelSays(
			"x oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/user,task=guestprobe,pid=80,uid=0",
			"oom-kill:constraint=CONSTRAINT_NONE,pid=80",
		), BiteMemory, Pass, ""},
		{"killed by a guest that ran out", "", ended(evidence.HogKilled, events("oom_kill")), BiteMemory, Fail, "not by its cgroup's limit"},
		{"only an older count", "", hog(func(r *evidence.HogReport) { r.Before, r.KernelLog = r.After, nil }), BiteMemory, Fail, "not by its cgroup's limit"},
		{"nothing stopped it", "", ended(evidence.HogAll, events()), BiteMemory, Fail, "the limit does not bite: nothing stopped"},
		{"it was swapped out", "", both(ended(evidence.HogAll, events("high", "max")), hog(func(r *evidence.HogReport) { r.Swap = evidence.File{Text: "8192\n"} })), BiteMemory, Fail, "8192 bytes in swap"},
		{"throttled and never stopped", "", ended(evidence.HogThrottled, events("high")), BiteMemory, Fail, "there is no memory.max to stop it"},
		{"throttled, as A does", "0.4.3", func(*evidence.Sandbox) {}, BiteMemory, Pass, "slowed down and never stopped"},
		{"throttled, and nobody counted", "0.4.3", ended(evidence.HogThrottled, events()), BiteMemory, Fail, ""},
		{"no limit", "", hog(func(r *evidence.HogReport) { r.Ended, r.Detail, r.Hog = evidence.HogNoLimit, "memory.max is max", nil }), BiteMemory, Fail, "there is no limit to try: memory.max is max"},
		{"too small a guest", "", hog(func(r *evidence.HogReport) { r.Ended, r.Detail, r.Hog = evidence.HogImpossible, "8 MiB are left", nil }), BiteMemory, Inert, "so little memory: 8 MiB are left"},
		{"given up", "", hog(func(r *evidence.HogReport) { r.Ended = evidence.HogGaveUp }), BiteMemory, Unproven, "no end of its own"},
		{"never begun", "", hog(func(r *evidence.HogReport) { r.Ended = evidence.HogFailed }), BiteMemory, Unproven, "no end of its own"},
		{"an end that nobody knows", "", hog(func(r *evidence.HogReport) { r.Ended = "abducted" }), BiteMemory, Unproven, "in an unknown way"},
		{"elsewhere", "", hog(func(r *evidence.HogReport) { r.Hog.Cgroup = "0::/ptys\n" }), BiteMemory, Fail, "ran in /ptys and not in /user"},
		{"nobody knows where", "", hog(func(r *evidence.HogReport) { r.Hog = nil }), BiteMemory, Unproven, "was not seen"},
		{"events that cannot be read", "", hog(func(r *evidence.HogReport) { r.After = evidence.File{Errno: "ENOENT"} }), BiteMemory, Unproven, "could not be read (ENOENT)"},
		{"events without a meaning", "", hog(func(r *evidence.HogReport) { r.After = evidence.File{Text: "a b c\n"} }), BiteMemory, Unproven, ""},
		{"no events", "", hog(func(r *evidence.HogReport) { r.After = evidence.File{} }), BiteMemory, Unproven, "is empty"},
		{"no report", "", func(s *evidence.Sandbox) { s.Memory.Report = nil }, BiteMemory, Unproven, "no record of why"},
		{"an older envd", "0.4.2", func(*evidence.Sandbox) {}, BiteMemory, NotApplicable, "limits nothing"},

		{"lived", "", func(*evidence.Sandbox) {}, BiteEnvd, Pass, "envd is still PID 50 and answered each of 12 times"},
		{"another PID", "", hog(func(r *evidence.HogReport) { r.EnvdAfter.PID = 81 }), BiteEnvd, Fail, "it was PID 50 and is PID 81"},
		{"the same PID, started anew", "", hog(func(r *evidence.HogReport) { r.EnvdAfter.StartTicks = 999 }), BiteEnvd, Fail, "envd ended"},
		{"no answer", "", func(s *evidence.Sandbox) { s.Memory.HealthFailed, s.Memory.HealthError = 2, "refused" }, BiteEnvd, Fail, "did not answer 2 times"},
		{"lost on the way", "", func(s *evidence.Sandbox) { s.Memory.HealthLost = 1 }, BiteEnvd, Infra, "lost on the way"},
		{"never asked", "", func(s *evidence.Sandbox) { s.Memory.HealthAnswered = 0 }, BiteEnvd, Unproven, "was not asked"},
		{"not seen afterwards", "", hog(func(r *evidence.HogReport) { r.EnvdAfter = nil }), BiteEnvd, Unproven, "was not read"},
		{"no memory was taken", "", hog(func(r *evidence.HogReport) { r.Ended = evidence.HogNoLimit }), BiteEnvd, NotApplicable, "no memory was taken"},
		{"the report went with envd", "", func(s *evidence.Sandbox) {
			s.Memory.Report, s.Later.Envd.Process.PID = nil, 99
		}, BiteEnvd, Fail, "envd ended while a command took too much memory"},
		{"the report went, and envd does not come back", "", func(s *evidence.Sandbox) {
			s.Memory.Report, s.Later = nil, nil
			s.Problems = append(s.Problems, evidence.Problem{Piece: evidence.PieceLater, Kind: evidence.ProblemGuest, Call: "ask", Error: "port is not open"})
		}, BiteEnvd, Fail, "does not answer any more since a command took too much memory: ask: port is not open"},
		{"the report went, and the way to envd", "", func(s *evidence.Sandbox) {
			s.Memory.Report, s.Later = nil, nil
			s.Problems = append(s.Problems, evidence.Problem{Piece: evidence.PieceLater, Kind: evidence.ProblemInfra, Call: "ask", Error: "502"})
		}, BiteEnvd, Unproven, "is not known"},
		{"the report went, envd did not", "", func(s *evidence.Sandbox) { s.Memory.Report = nil }, BiteEnvd, Unproven, "is not known"},
	})
}

// What is left after a pause.
func TestLifecycle(t *testing.T) {
	after := func(change func(*evidence.Lifecycle)) func(*evidence.Sandbox) {
		return func(s *evidence.Sandbox) { change(s.Lifecycle) }
	}
	file := func(group, name, text string) func(*evidence.Sandbox) {
		return after(func(l *evidence.Lifecycle) { l.Snapshot.Groups[group].Files[name] = evidence.File{Text: text} })
	}
	frozen := both(file("socats", "cgroup.freeze", "1\n"), file("socats", "cgroup.events", "populated 1\nfrozen 1\n"))
	booted := after(func(l *evidence.Lifecycle) { l.Snapshot.Boot.ID, l.Survivor.Process.PID = "another", 0 })
	judgeAll(t, []tried{
		{"thawed", "", func(*evidence.Sandbox) {}, LifecycleThawed, Pass, "thawed after the pause"},
		{"socats stayed frozen", "", frozen, LifecycleThawed, Fail, "/sys/fs/cgroup/socats/cgroup.freeze reads 1"},
		{"frozen by its parent", "", file("user", "cgroup.events", "populated 1\nfrozen 1\n"), LifecycleThawed, Fail, "cgroup.events has frozen 1"},
		{"the file is gone", "", after(func(l *evidence.Lifecycle) { delete(l.Snapshot.Groups["user"].Files, "cgroup.freeze") }), LifecycleThawed, Unproven, ""},
		{"a group is gone from the look", "", after(func(l *evidence.Lifecycle) { delete(l.Snapshot.Groups, "user") }), LifecycleThawed, Unproven, "does not hold the cgroup user"},
		{"no pause in this API", "", after(func(l *evidence.Lifecycle) { *l = evidence.Lifecycle{NotOffered: "404"} }), LifecycleThawed, NotApplicable, "does not pause sandboxes: 404"},
		{"no return", "", after(func(l *evidence.Lifecycle) { l.Resumed = time.Time{} }), LifecycleThawed, Unproven, "no record of the sandbox's return"},

		{"values kept", "", func(*evidence.Sandbox) {}, LifecycleValues, Pass, "still is, over the pause"},
		{"a limit lost", "", file("user", "memory.max", "max\n"), LifecycleValues, Fail, "lost in the pause: user/memory.max was right at first"},
		{"not read again", "", after(func(l *evidence.Lifecycle) {
			l.Snapshot.Groups["user"].Files["memory.max"] = evidence.File{Errno: "EIO"}
		}), LifecycleValues, Unproven, ""},
		{"never right", "", both(weights("100"), func(s *evidence.Sandbox) {
			for _, g := range s.Snapshot.Groups {
				for _, f := range []string{"memory.high", "memory.max", "memory.low", "memory.min", "cpu.weight"} {
					g.Files[f] = evidence.File{Errno: "ENOENT"}
				}
			}
		}), LifecycleValues, NotApplicable, "nothing to keep"},

		{"placed again", "", func(*evidence.Sandbox) {}, LifecyclePlacement, Pass, "a new command runs in user and a new terminal in ptys"},
		{"a new command elsewhere", "", after(func(l *evidence.Lifecycle) { l.Placement.Command.Process.Cgroup = "0::/\n" }), LifecyclePlacement, Fail, "after the pause a new command runs in / and not in /user"},
		{"a new terminal elsewhere", "", after(func(l *evidence.Lifecycle) { l.Placement.PTY.Process.Cgroup = "0::/user\n" }), LifecyclePlacement, Fail, "a new terminal runs in /user"},
		{"nothing was started", "", both(frozen, after(func(l *evidence.Lifecycle) { l.Placement = nil })), LifecyclePlacement, Unproven, "since socats stayed frozen"},

		{"survived", "", func(*evidence.Sandbox) {}, LifecycleSurvivor, Pass, "runs on, in /user"},
		{"moved", "", after(func(l *evidence.Lifecycle) { l.Survivor.Process.Cgroup = "0::/\n" }), LifecycleSurvivor, Fail, "was in /user before the pause is in / after it"},
		{"gone", "", after(func(l *evidence.Lifecycle) {
			l.Survivor.Process = &evidence.Process{PID: 90, Error: "ESRCH"}
		}), LifecycleSurvivor, Fail, "is gone"},
		{"another one with its PID", "", after(func(l *evidence.Lifecycle) { l.Survivor.Process.StartTicks = 4000 }), LifecycleSurvivor, Fail, "is gone"},
		{"a new boot", "", booted, LifecycleSurvivor, NotApplicable, "booted anew"},
		{"lost on the way", "", after(func(l *evidence.Lifecycle) { l.Survivor = &evidence.Placed{Infra: true, Error: "502"} }), LifecycleSurvivor, Infra, "502"},
		{"not looked for", "", both(frozen, after(func(l *evidence.Lifecycle) { l.Survivor = nil })), LifecycleSurvivor, Unproven, "since socats stayed frozen"},
		{"was elsewhere all along", "", after(func(l *evidence.Lifecycle) {
			l.Before.Cgroup, l.Survivor.Process.Cgroup = "0::/\n", "0::/\n"
		}), LifecycleSurvivor, Fail, "as before it"},
		{"none was started", "", after(func(l *evidence.Lifecycle) { l.Before = nil }), LifecycleSurvivor, Unproven, "no process is known"},
		{"an older envd", "0.4.2", func(*evidence.Sandbox) {}, LifecycleSurvivor, NotApplicable, "limits nothing"},
	})
}
