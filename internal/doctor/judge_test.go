package doctor

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandproof/internal/config"
	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
	"sandproof/internal/sandboxapi"
)

func want(t *testing.T, name string, got Finding, state State, parts ...string) {
	t.Helper()
	text := got.Came + "\n" + got.Do
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: %q is missing in %+v", name, part, got)
		}
	}
	if got.State != state {
		t.Errorf("%s: want %s, got %+v", name, state, got)
	}
}

// zeroBuild is the ID of no build.
const zeroBuild = "00000000-0000-0000-0000-000000000000"

func TestTemplates(t *testing.T) {
	own := func(change func(*sandboxapi.Template)) *sandboxapi.Template {
		t := &sandboxapi.Template{TemplateID: "t1", BuildID: "b1", BuildStatus: "ready", EnvdVersion: "0.6.13"}
		change(t)
		return t
	}
	as := func(*sandboxapi.Template) {}
	foreign := func(kind sandboxapi.Kind) error { return &sandboxapi.Error{Kind: kind, Op: "resolve"} }
	for _, test := range []struct {
		name  string
		known known
		state State
		parts []string
	}{
		{"as it should be", known{own: own(as)}, Fine, []string{"build b1 (ready)", "envd 0.6.13", "generation C"}},
		{"the build that is expected, in capitals", known{own: own(as), want: config.Template{BuildID: "B1"}}, Fine, nil},
		{"no build yet", known{own: own(func(t *sandboxapi.Template) { t.BuildID = "" })}, Trouble, []string{"e2b template build"}},
		{"no build yet, by the ID of none", known{own: own(func(t *sandboxapi.Template) { t.BuildID, t.BuildStatus = zeroBuild, "uploaded" })}, Trouble, []string{"no build of it has succeeded yet", "e2b template build"}},
		{"no build yet, and one that failed", known{own: own(func(t *sandboxapi.Template) { t.BuildID, t.BuildStatus = zeroBuild, "error" })}, Trouble, []string{"no build of it has succeeded yet", "look at the log of the one that failed"}},
		{"no build yet, and one under way", known{own: own(func(t *sandboxapi.Template) { t.BuildID, t.BuildStatus = zeroBuild, "building" })}, Trouble, []string{"no build of it has succeeded yet", "wait for the one under way"}},
		{"no build yet, and one is expected", known{own: own(func(t *sandboxapi.Template) { t.BuildID = zeroBuild }), want: config.Template{BuildID: "b1"}}, Trouble, []string{"no build of it has succeeded yet"}},
		{"a build that failed", known{own: own(func(t *sandboxapi.Template) { t.BuildStatus = "error" })}, Warning, []string{"older one"}},
		{"a build under way", known{own: own(func(t *sandboxapi.Template) { t.BuildStatus = "building" })}, Warning, []string{"under way"}},
		{"an envd without limits", known{own: own(func(t *sandboxapi.Template) { t.EnvdVersion = "0.2.0" })}, Warning, []string{"not-applicable"}},
		{"it resumes", known{own: own(as), disk: &evidence.Disk{Image: "/r", Snapshots: []string{"/s/snapfile"}}}, Fine, []string{"resume a snapshot (/s/snapfile)"}},
		{"it boots", known{own: own(as), disk: &evidence.Disk{Image: "/r"}}, Fine, []string{"sandboxes boot"}},
		{"a public one", known{}, Fine, []string{"resolves its alias"}},
		{"a public one with a build", known{want: config.Template{BuildID: "b"}}, Trouble, []string{"leave build-id out"}},
		{"none", known{resolved: foreign(sandboxapi.NotFound), listed: []string{"a", "b"}}, Trouble, []string{"a, b"}},
		{"another team's", known{resolved: foreign(sandboxapi.Unauthorised)}, Trouble, []string{"another team"}},
		{"an old server", known{resolved: foreign(sandboxapi.Protocol)}, Unproven, []string{"does not resolve aliases"}},
		{"trouble", known{resolved: foreign(sandboxapi.Transient)}, Trouble, []string{"log"}},
	} {
		want(t, test.name, judgeTemplate(test.known), test.state, test.parts...)
	}
}

// What a proxy of the environment refuses is not blamed on what is behind it,
// in the words of net/http for it.
func TestErrorsOfTheProxy(t *testing.T) {
	of := func(err error) error {
		return &url.Error{Op: "Get", URL: "http://10.9.8.7:3000/health", Err: &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}}
	}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3128}
	dial := func(err error) error { return of(&net.OpError{Op: "dial", Net: "tcp", Addr: at, Err: err}) }
	for _, test := range []struct {
		name string
		err  error
		came string
	}{
		{"refused", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "the proxy at 127.0.0.1:3128 refused the connection"},
		{"no route", dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "there is no route to the proxy at 127.0.0.1:3128"},
		{"no answer", dial(os.ErrDeadlineExceeded), "the proxy at 127.0.0.1:3128 did not answer in time"},
		{"no such name", of(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "squid.invalid", IsNotFound: true}}), "the proxy was not found: no address for squid.invalid"},
		{"a silent name server", of(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "timeout", Name: "squid.example", IsTimeout: true}}), "the proxy was not found: the name server did not answer for squid.example"},
		{"a certificate of nobody", of(x509.UnknownAuthorityError{}), "the proxy's own TLS: its certificate is signed by nobody known here"},
		{"anything else", dial(errors.New("strange")), "the proxy at 127.0.0.1:3128 was not reached: "},
	} {
		for _, to := range []side{toAPI, toSandboxes} {
			came, do := network(test.err, to)
			if !strings.HasPrefix(came, test.came) || !strings.Contains(do, "HTTP_PROXY, HTTPS_PROXY and NO_PROXY") || strings.Contains(do, "E2B_") || strings.Contains(do, "port 300") {
				t.Errorf("%s: got %q, %q", test.name, came, do)
			}
		}
	}
}

func TestClocks(t *testing.T) {
	at := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	dated := func(skew, took time.Duration) answer {
		return answer{sent: at, at: at.Add(took), header: map[string][]string{"Date": {at.Add(took/2 - skew).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}}}
	}
	want(t, "right", judgeClock(dated(0, 0)), Fine)
	want(t, "four seconds", judgeClock(dated(4*time.Second, 0)), Fine)
	want(t, "a minute ahead", judgeClock(dated(time.Minute, 0)), Warning, "ahead of", "59.5s")
	want(t, "a minute behind", judgeClock(dated(-time.Minute, 0)), Warning, "behind")
	want(t, "a slow answer excuses", judgeClock(dated(8*time.Second, 8*time.Second)), Fine)
	want(t, "no date", judgeClock(answer{}), Unproven, "no Date header")
}

func TestLogs(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	look := func(age time.Duration, index int) logscan.Look {
		return logscan.Look{Path: "/logs/start.stdout.3", Index: index, Files: index + 1, Last: now.Add(-age)}
	}
	want(t, "alive", judgeLook([]logscan.Look{look(time.Second, 0)}, "start", nil, now), Fine, "1s old", "not rotated yet")
	want(t, "rotated", judgeLook([]logscan.Look{look(time.Second, 3), look(time.Hour*9, 0)}, "start", nil, now), Fine, "5 file(s) of 2 stream(s)", "rotated, which is followed")
	want(t, "silent", judgeLook([]logscan.Look{look(2*time.Hour, 0)}, "start", nil, now), Warning, "2h0m0s old", "old allocation")
	want(t, "from the future", judgeLook([]logscan.Look{look(-time.Hour, 0)}, "start", nil, now), Warning, "time zone")
	want(t, "empty", judgeLook([]logscan.Look{{Files: 1}}, "start", nil, now), Warning, "all are empty")
	want(t, "no match", judgeLook(nil, "start", nil, now), Trouble, "check the glob")
	want(t, "another task", judgeLook(nil, "orchestrator", []string{"start"}, now), Trouble, "logs of start", "set task")
}

func TestLogsOfTheDisk(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"start.stdout.0": "old\n", "start.stdout.1": "2026-08-01T12:00:00.000Z\tinfo\torchestrator\tup\n", "start.stderr.0": "", "check.stdout.0": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "the task", lookAtFiles(t.Context(), config.LogGlob{Dirs: dir, Task: "start"}, waits()), Fine, "3 file(s) of 2 stream(s)", "rotated")
	want(t, "another task", lookAtFiles(t.Context(), config.LogGlob{Dirs: dir, Task: "orchestrator"}, waits()), Trouble, "logs of check, start")
}

func TestDirectories(t *testing.T) {
	const room = 10 << 30
	for _, test := range []struct {
		name  string
		d     directory
		state State
		parts []string
	}{
		{"with reflinks", directory{writable: true, reflinks: true, free: room, size: room, entries: 3}, Fine, []string{"3 entries", "10.0 GiB free", "share their blocks"}},
		{"without", directory{writable: true, cloned: errors.New("not supported"), free: room}, Fine, []string{"no reflinks (not supported)"}},
		{"not writable", directory{free: room}, Warning, []string{"judging works"}},
		{"full", directory{writable: true, reflinks: true, free: 5 << 20}, Warning, []string{"5 MiB free", "make room"}},
		{"not there", directory{err: fs.ErrNotExist}, Trouble, []string{"live.storage"}},
		{"not readable", directory{err: fs.ErrPermission}, Trouble, []string{"as a user who may read it"}},
		{"a broken disk", directory{err: errors.New("input/output error")}, Trouble, []string{"file system behind it"}},
	} {
		want(t, test.name, judgeDirectory(test.d, config.TargetLive), test.state, test.parts...)
	}
	want(t, "the lab's, before its first start", judgeDirectory(directory{err: fs.ErrNotExist}, config.TargetLab), Unproven, "lab prepare")
	dir := t.TempDir()
	d := lookAtDirectory(dir)
	if d.err != nil || !d.writable || d.size == 0 {
		t.Errorf("got %+v", d)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("looking left %v (%v)", left, err)
	}
	want(t, "none", judgeDirectory(lookAtDirectory(filepath.Join(dir, "none")), config.TargetLive), Trouble)
}

func TestMachine(t *testing.T) {
	want(t, "room", judgeMemory(8<<30, nil, 512, 4), Fine, "8.0 GiB available", "662 MiB")
	want(t, "for one", judgeMemory(1<<30, nil, 512, 4), Warning, "max-guests")
	want(t, "for none", judgeMemory(500<<20, nil, 512, 4), Trouble, "memory-mb")
	want(t, "not told", judgeMemory(0, errors.New("no"), 512, 4), Unproven)
	want(t, "QEMU", judgeQEMU("QEMU emulator version 7.2.22"), Fine)
	want(t, "no QEMU", judgeQEMU(""), Trouble, "lab-deps.sh")
	good := map[string]string{"debugfs": "debugfs 1.47.0 (5-Feb-2023)", "e2fsck": "e2fsck 1.47.0", "mke2fs": "mke2fs 1.47.0"}
	want(t, "e2fsprogs", judgeE2fsprogs(good), Fine, "debugfs 1.47.0")
	want(t, "without debugfs", judgeE2fsprogs(map[string]string{"e2fsck": "e2fsck 1.47.0", "mke2fs": "mke2fs 1.47.0"}), Trouble, "debugfs", "install e2fsprogs")
	good["mke2fs"] = "mke2fs 1.42.9"
	want(t, "old e2fsprogs", judgeE2fsprogs(good), Warning, "older than 1.46")
	want(t, "the cache", judgeCache(directory{writable: true, free: 10 << 30}), Fine)
	want(t, "a cache that cannot be written", judgeCache(directory{free: 10 << 30}), Trouble, "lab.cache")
	want(t, "a full cache", judgeCache(directory{writable: true}), Warning, "make room")
	want(t, "emulation", judgeAcceleration("tcg: software emulation, since x"), Fine, "changes no verdict")
}

func TestConfigurationFindings(t *testing.T) {
	all := Configuration("", config.Variables([]string{"E2B_APIKEY=" + secret}, config.TargetLab), errors.New("unknown key"))
	want(t, "configuration", all[0], Trouble, "unknown key", "without it nothing else")
	want(t, "environment", all[1], Warning, "E2B_APIKEY", "is E2B_API_KEY meant?")
	all = Configuration("", config.Variables(nil, config.TargetLab), nil)
	want(t, "configuration", all[0], Fine)
	want(t, "environment", all[1], Fine)
}

func TestCertificateThatEndsSoon(t *testing.T) {
	now := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	want(t, "soon", judgeCertificate(now.Add(time.Hour), now), Warning, "2026-08-01")
	want(t, "later", judgeCertificate(now.AddDate(1, 0, 0), now), Fine)
}
