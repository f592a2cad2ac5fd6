package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sandproof/internal/evidence"
)

func entry(pid int, priority, message string) string {
	return fmt.Sprintf("{\"MESSAGE\":%q,\"PRIORITY\":%q,\"_PID\":\"%d\",\"__CURSOR\":\"s=1\"}\n", message, priority, pid)
}

// bytesInJSON is a message as journalctl prints one that is no text.
func bytesInJSON(message string) string {
	return strings.ReplaceAll(fmt.Sprintf("%d", []byte(message)), " ", ",")
}

func TestParseJournal(t *testing.T) {
	const fallback = "falling back to no-op cgroup manager"
	for _, test := range []struct {
		name, entries  string
		lines, control string
	}{
		{"nothing", "", "[]", ""},
		{"the usual", entry(1, "6", "Started envd.service - envd.") + entry(50, "6", "a line of another kind"), "[]", "Started envd.service - envd."},
		{"a failure", entry(1, "6", "Started envd.") + entry(50, "6", fallback), "[" + fallback + "]", "Started envd."},
		{"of another process", entry(51, "6", fallback), "[]", ""},
		{"systemd's own words about cgroups are the control alone", entry(1, "6", "cgroup x"), "[]", "cgroup x"},
		{"a warning does not show that the rest is kept", entry(1, "4", "envd.service: a warning"), "[]", ""},
		{"envd's logger quotes a user", entry(50, "6", `{"message":"echo cgroup"}`), "[]", ""},
		{"a message that is no text", "{\"MESSAGE\":[102,97],\"PRIORITY\":\"6\",\"_PID\":\"50\"}\n{\"MESSAGE\":null,\"_PID\":\"1\"}\n", "[]", ""},
	} {
		j, whole := parseJournal(strings.NewReader(test.entries), 50)
		if got := fmt.Sprint(j.Lines); got != test.lines || j.Control != test.control || j.Error != "" || !whole {
			t.Errorf("%s: %+v, whole %v", test.name, j, whole)
		}
	}
	// A message may be no text (Journal JSON Format): its bytes, or several texts.
	for _, test := range []struct{ name, message, lines string }{
		{"bytes", bytesInJSON("\x1b[31m" + fallback), "[\x1b[31m" + fallback + "]"},
		{"texts", `["x","` + fallback + `"]`, "[" + fallback + "]"},
		{"texts and bytes", `["failed to create cgroup2 manager",` + bytesInJSON("\xff"+fallback) + `]`, "[failed to create cgroup2 manager \xff" + fallback + "]"},
	} {
		j, _ := parseJournal(strings.NewReader(`{"MESSAGE":`+test.message+`,"PRIORITY":"6","_PID":"50"}`), 50)
		if got := fmt.Sprint(j.Lines); got != test.lines || j.Error != "" {
			t.Errorf("%s: %q, %+v", test.name, got, j)
		}
	}
	// One of envd's own that cannot be read may be anything, and is no silence.
	for _, message := range []string{"null", "[]", "7", "{}", "[256]", "[-1]", "[1.5]", `[102,"x"]`, `["x",null]`, `["x",[]]`} {
		text := `{"MESSAGE":` + message + `,"PRIORITY":"6","_PID":"%d"}`
		if j, _ := parseJournal(strings.NewReader(fmt.Sprintf(text, 50)), 50); j.Error == "" {
			t.Errorf("%s: %+v", message, j)
		}
		if j, _ := parseJournal(strings.NewReader(fmt.Sprintf(text, 1)), 50); j.Error != "" || j.Control != "" {
			t.Errorf("%s, of systemd's: %+v", message, j)
		}
	}
	if j, _ := parseJournal(strings.NewReader("-- Journal begins --\n"), 50); j.Error == "" {
		t.Errorf("what is no entry is no error: %+v", j)
	}
}

// A journal is only read as far as it may be, and only by envd's own name in
// the guest's own boot.
func TestJournal(t *testing.T) {
	const synced = "[ \"$1\" = --sync ] && exit 0\n"
	for _, test := range []struct{ name, script, control, problem string }{
		{"an answer", "#!/bin/sh\n" + synced + "echo \"$*\" >\"$0.args\"\ncat <<'END'\n" + entry(1, "6", "Started envd.") + "END\n", "Started envd.", ""},
		{"no such program", "", "", "read the journal: "},
		{"it fails", "#!/bin/sh\nexit 3\n", "", "exit status 3"},
		{"it never ends", "#!/bin/sh\nexec sleep 60\n", "", "read the journal: "},
		{"it may not be whole", "#!/bin/sh\n[ \"$1\" = --sync ] && exit 1\ncat <<'END'\n" + entry(1, "6", "Started envd.") + "END\n", "Started envd.", "--sync: exit status 1"},
		{"it is never whole", "#!/bin/sh\n[ \"$1\" = --sync ] && exec sleep 60\ncat <<'END'\n" + entry(1, "6", "Started envd.") + "END\n", "Started envd.", "--sync: signal: killed"},
		{"it goes on for ever", "#!/bin/sh\n" + synced + "while :; do echo '" + strings.TrimSpace(entry(1, "6", "again")) + "'; done\n", "again", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := shellGuest()
			files["proc/50/cgroup"], files["proc/50/fd/2"] = "0::/system.slice/envd.service\n", "->socket:[123]"
			if test.script != "" {
				files["journalctl"] = test.script
			}
			g := tree(t, files)
			g.journalctl = filepath.Join(filepath.Dir(g.proc), "journalctl")
			g.answer = time.Minute // what ends by itself may take its time
			if strings.Contains(test.script, "sleep 60") {
				g.answer = 200 * time.Millisecond
			}
			j := g.journal(evidence.Process{PID: 50, Cgroup: "0::/system.slice/envd.service\n"})
			if j.Control != test.control || (j.Error == "") != (test.problem == "") || !strings.Contains(j.Error, test.problem) {
				t.Errorf("%+v", j)
			}
			if args, err := os.ReadFile(g.journalctl + ".args"); err == nil &&
				!strings.HasSuffix(string(args), " --all --output=json --output-fields=MESSAGE,PRIORITY,_PID _BOOT_ID=11111111222233334444555555555555 _PID=50 + _BOOT_ID=11111111222233334444555555555555 _PID=1 UNIT=envd.service\n") {
				t.Errorf("it was asked for %s", args)
			}
		})
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add(entry(1, "6", "Started envd.") + entry(50, "6", "falling back to no-op cgroup manager"))
	f.Add("{\"MESSAGE\":[1,2],\"_PID\":\"50\"}\n{")
	f.Add("{\"MESSAGE\":[[1,2],\"cgroup\"],\"_PID\":\"50\"}\n")
	f.Fuzz(func(t *testing.T, text string) {
		j, _ := parseJournal(strings.NewReader(text), 50)
		if len(j.Lines) > maxJournalLines || len(j.Control) > maxJournalLine {
			t.Errorf("%d lines, a control of %d bytes", len(j.Lines), len(j.Control))
		}
		for _, line := range j.Lines {
			if !aboutCgroups(line) && len(line) < maxJournalLine {
				t.Errorf("%q was kept", line)
			}
		}
	})
}
