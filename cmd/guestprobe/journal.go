package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"sandproof/internal/evidence"
)

// What is read of a journal: envd's lines about cgroups come before it listens,
// so its first entries are enough.
const (
	maxJournal      = 4 << 20 // bytes of entries
	maxJournalLines = 32
	maxJournalLine  = 500 // bytes
)

// stderrPriority is what systemd gives to lines of standard error that name no
// other (systemd.exec(5), SyslogLevel=).
const stderrPriority = "6"

// journal reads what the guest's journal has of one process in this boot, and
// what systemd says of its unit there.
func (g guest) journal(p evidence.Process) *evidence.Journal {
	id, err := read(filepath.Join(g.proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return &evidence.Journal{Error: err.Error()}
	}
	notWhole := g.syncJournal()
	boot := "_BOOT_ID=" + strings.ReplaceAll(strings.TrimSpace(id), "-", "")
	unit := filepath.Base(strings.TrimSpace(p.Cgroup))
	ctx, cancel := context.WithTimeout(context.Background(), g.answer) //nolint:forbidigo // a process's own root context
	defer cancel()
	cmd := exec.CommandContext(ctx, g.journalctl, "--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE,PRIORITY,_PID",
		boot, "_PID="+strconv.Itoa(p.PID), "+", boot, "_PID=1", "UNIT="+unit)
	cmd.WaitDelay = g.answer
	output, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return &evidence.Journal{Error: "read the journal: " + err.Error()}
	}
	j, whole := parseJournal(io.LimitReader(output, maxJournal), p.PID)
	if !whole {
		cancel() // the rest is not wanted, and it must not wait to be read
	}
	if err := cmd.Wait(); err != nil && whole && j.Error == "" {
		j.Error = fmt.Sprintf("read the journal: %s: %v", g.journalctl, err)
	}
	if notWhole != nil && j.Error == "" {
		j.Error = fmt.Sprintf("what envd said may not all be in the journal yet: %v", notWhole)
	}
	return j
}

// syncJournal waits until everything that was said before is in the journal
// (journalctl(1), --sync). Its daemon takes each service's lines from a socket
// of their own when its turn comes: systemd's line about envd can be there while
// envd's still wait, and their absence would pass for silence.
func (g guest) syncJournal() error {
	ctx, cancel := context.WithTimeout(context.Background(), g.answer) //nolint:forbidigo // a process's own root context
	defer cancel()
	cmd := exec.CommandContext(ctx, g.journalctl, "--sync")
	cmd.WaitDelay = g.answer
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s --sync: %w", g.journalctl, err)
	}
	return nil
}

// parseJournal reads entries as journalctl prints them in JSON, one a line;
// whole is false where there are more than it takes.
func parseJournal(entries io.Reader, pid int) (j *evidence.Journal, whole bool) {
	j = &evidence.Journal{}
	lines := bufio.NewScanner(entries)
	lines.Buffer(nil, maxWhole)
	size := 0
	for lines.Scan() {
		size += len(lines.Bytes()) + 1
		var entry struct {
			Message  any    `json:"MESSAGE"`
			Priority string `json:"PRIORITY"`
			PID      string `json:"_PID"`
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			if size < maxJournal {
				j.Error = fmt.Sprintf("an entry of the journal is not what it should be: %.100q", lines.Text())
			}
			continue
		}
		messages, ok := messagesOf(entry.Message)
		switch {
		case entry.PID == "1" && pid != 1:
			if ok && entry.Priority == stderrPriority && j.Control == "" {
				j.Control = messages[0][:min(len(messages[0]), maxJournalLine)]
			}
		case entry.PID == strconv.Itoa(pid):
			if !ok {
				j.Error = fmt.Sprintf("what process %d said cannot be read in its entry of the journal: %.100q", pid, lines.Text())
			}
			for _, message := range messages {
				if aboutCgroups(message) && len(j.Lines) < maxJournalLines {
					j.Lines = append(j.Lines, message[:min(len(message), maxJournalLine)])
				}
			}
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		j.Error = "read the journal: " + err.Error()
	}
	return j, size < maxJournal && lines.Err() == nil
}

// messagesOf reads the MESSAGE of an entry: a text, the numbers of its bytes
// where it is not printable text alone, or a list of such where the field stands
// there several times (Journal JSON Format, systemd.io). It never returns an
// empty list with ok.
func messagesOf(field any) (messages []string, ok bool) {
	if message, ok := messageOf(field); ok {
		return []string{message}, true
	}
	several, ok := field.([]any)
	if !ok || len(several) == 0 {
		return nil, false
	}
	for _, one := range several {
		message, ok := messageOf(one)
		if !ok {
			return nil, false
		}
		messages = append(messages, message)
	}
	return messages, true
}

// messageOf reads a text, or the numbers of its bytes.
func messageOf(field any) (message string, ok bool) {
	if text, ok := field.(string); ok {
		return text, true
	}
	numbers, ok := field.([]any)
	if !ok || len(numbers) == 0 {
		return "", false
	}
	var text []byte
	for _, number := range numbers {
		n, ok := number.(float64)
		if !ok || n != float64(byte(n)) {
			return "", false
		}
		text = append(text, byte(n))
	}
	return string(text), true
}

// aboutCgroups picks the lines that envd prints about its cgroups. Its logger's
// lines are JSON, and quote what users run.
func aboutCgroups(line string) bool {
	return !strings.HasPrefix(line, "{") &&
		(strings.Contains(line, "cgroup") || strings.HasPrefix(line, "falling back to ") || strings.HasPrefix(line, "failed to calculate host metrics"))
}
