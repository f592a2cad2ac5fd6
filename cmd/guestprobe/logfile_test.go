package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sandproof/internal/evidence"
)

// What the kernel tells of a real process's standard error, however a shell has
// redirected it. The process is the shell's child or takes its place; "ready"
// comes by a descriptor of its own.
func TestLogFile(t *testing.T) {
	const (
		fallback = "falling back to no-op cgroup manager"
		older    = "cgroup trouble of an older envd"
		wait     = `echo ready >&3; read end`
		says     = `echo starting >&2; echo ` + fallback + ` >&2; ` + wait
		silent   = wait
	)
	for _, test := range []struct {
		name string
		// script is run with $LOG and $SAYS; what it starts last is looked at.
		script, process string
		mode            evidence.LogFileMode
		position        int64 // -1: any but 0
		holder          bool
		lines, doubtful []string
		problem, path   string
	}{
		{name: "written, silent", script: `exec sh -c "$SAYS" 2>$LOG`, process: silent, mode: evidence.LogFileWritten},
		{name: "written", script: `exec sh -c "$SAYS" 2>$LOG`, process: says, mode: evidence.LogFileWritten, position: -1, lines: []string{fallback}},
		{name: "both descriptors written", script: `exec sh -c "$SAYS" >$LOG 2>&1`, process: "echo out; " + says, mode: evidence.LogFileWritten, position: -1, lines: []string{fallback}},
		{name: "appended, silent, after an older one", script: `exec sh -c "$SAYS" 2>>$LOG`, process: silent, mode: evidence.LogFileAppended, doubtful: nil},
		{name: "appended, and this one complained last", script: `exec sh -c "$SAYS" 2>>$LOG`, process: says, mode: evidence.LogFileAppended, position: -1, lines: []string{fallback}, doubtful: []string{older}},
		{name: "appended, and something harmless came last", script: `exec sh -c "$SAYS" 2>>$LOG`, process: "echo harmless >&2; " + wait, mode: evidence.LogFileAppended, position: -1, doubtful: []string{older}},
		{name: "a descriptor that the parent has", script: `exec 2>$LOG; echo "$OLD" >&2; sh -c "$SAYS"; exit`, process: silent, mode: evidence.LogFileWritten, position: -1, holder: true, doubtful: []string{older}},
		{name: "removed", script: `exec sh -c "$SAYS" 2>$LOG`, process: `rm "$LOG"; ` + says, mode: evidence.LogFileWritten, position: -1, lines: []string{fallback}, path: " (deleted)"},
		{name: "renamed", script: `exec sh -c "$SAYS" 2>$LOG`, process: `mv "$LOG" "$LOG.1"; ` + says, mode: evidence.LogFileWritten, position: -1, lines: []string{fallback}, path: ".1"},
		{name: "cut", script: `exec sh -c "$SAYS" 2>$LOG`, process: `echo one >&2; : >"$LOG"; ` + silent, mode: evidence.LogFileWritten, position: -1, problem: "cut to 0 bytes"},
		{name: "cut, and written again", script: `exec sh -c "$SAYS" 2>$LOG`, process: `echo one >&2; : >"$LOG"; ` + says, mode: evidence.LogFileWritten, position: -1, lines: []string{fallback}, problem: "zero bytes"},
		{name: "two descriptors that overwrite each other", script: `exec sh -c "$SAYS" >$LOG 2>$LOG`, process: "echo out; " + silent, mode: evidence.LogFileWritten, problem: "overwrite each other"},
		{name: "two descriptors that append", script: `exec sh -c "$SAYS" >>$LOG 2>>$LOG`, process: "echo out; " + silent, mode: evidence.LogFileAppended},
		{name: "for reading", script: `: >$LOG; exec sh -c "$SAYS" 2<$LOG`, process: silent, mode: evidence.LogFileWritten, problem: "for reading alone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "envd.log")
			if err := os.WriteFile(log, []byte(older+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			l := logFileOf(t, test.script, "LOG="+log, "SAYS="+test.process, "OLD="+older)
			if l == nil {
				t.Fatal("no log file")
			}
			if l.Mode != test.mode || l.Position == nil || (*l.Position == 0) != (test.position == 0) || (len(l.Holders) > 0) != test.holder ||
				!slices.Equal(l.Lines, test.lines) || !slices.Equal(l.Doubtful, test.doubtful) ||
				(l.Error == "") != (test.problem == "") || !strings.Contains(l.Error, test.problem) || !strings.HasSuffix(l.Path, test.path) || l.Inode == 0 {
				t.Errorf("%+v", l)
			}
			if test.problem != "" {
				if l.Control != "" {
					t.Errorf("a control in a file that proves nothing: %q", l.Control)
				}
				return
			}
			if !strings.HasPrefix(l.Control, evidence.CanarySign) {
				t.Errorf("control %q", l.Control)
			}
			if test.path == " (deleted)" {
				return
			}
			if text, err := os.ReadFile(log + test.path); err != nil || !strings.HasSuffix(string(text), "\n"+l.Control+"\n") && string(text) != l.Control+"\n" {
				t.Errorf("the file holds %q, %v", text, err)
			}
		})
	}
	for _, elsewhere := range []string{`exec sh -c "$SAYS" 2>/dev/null`, `exec sh -c "$SAYS" 2>&1`} {
		if l := logFileOf(t, elsewhere, "SAYS="+silent); l != nil {
			t.Errorf("%s: %+v", elsewhere, l)
		}
	}
}

// logFileOf runs a script until the process that it starts last is ready, and
// looks at that.
func logFileOf(t *testing.T, script string, env ...string) *evidence.LogFile {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	ready, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd.ExtraFiles = []*os.File{end}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	defer func() {
		stdin.Close()
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(ready).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the process is not ready: %q, %v", line, err)
	}
	host := guest{proc: "/proc", sys: "/sys"}
	pid := cmd.Process.Pid
	if children, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", strconv.Itoa(pid), "children")); err == nil && len(children) > 0 {
		if pid, err = strconv.Atoi(strings.Fields(string(children))[0]); err != nil {
			t.Fatal(err)
		}
	}
	p := host.process(pid)
	if p.Error != "" {
		t.Fatal(p.Error)
	}
	return host.logFile(p)
}

// What lies before a position is bounded, and its lines are told apart by who
// wrote them.
func FuzzOwnLines(f *testing.F) {
	f.Add([]byte("a\nfalling back to no-op cgroup manager\n{\"message\":\"cgroup\"}\n"), true, true)
	f.Add([]byte("cgroup"), false, true)
	f.Fuzz(func(t *testing.T, data []byte, own, alone bool) {
		lines, doubtful := ownLines(data, own, alone)
		if own && len(doubtful) > 0 || !own && len(lines) > 1 || !own && !alone && len(lines) > 0 {
			t.Errorf("own %v, alone %v: %q and %q", own, alone, lines, doubtful)
		}
		for _, line := range slices.Concat(lines, doubtful) {
			if len(line) > maxJournalLine || len(line) < maxJournalLine && !aboutCgroups(line) {
				t.Errorf("%q was kept", line)
			}
		}
		if max(len(lines), len(doubtful)) > maxJournalLines {
			t.Errorf("%d lines and %d", len(lines), len(doubtful))
		}
	})
}
