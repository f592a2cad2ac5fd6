package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan"
)

// log is what one log, such as a task's stdout of one allocation, shows of
// itself.
type log struct {
	name   string
	task   string    // the task and its stream; the log's own name where it is no task's
	oldest time.Time // of its first record, zero where none has a time
	// sandbox: a record names one; control: so much as one line of a guest's
	// boot came out of it.
	sandbox, control bool
	// journal: its lines are, or may be, as journalctl -o json writes them;
	// unsearched: one of them says what cannot be searched, which is told.
	journal, unsearched bool
}

// settled tells whether nothing more is looked for in it.
func (l *log) settled() bool { return l.control && (!l.journal || l.unsearched) }

// of is the log of a file.
func (s *scan) of(f logFile) *log {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[f.log]
	if l == nil {
		l = &log{name: f.log, task: f.task}
		s.logs[f.log] = l
	}
	return l
}

// lookForControls reads the logs once more of which no boot line was met, each
// up to the first: without one, nothing shows that guests' consoles come out in
// it. Those of journald are read up to the first line that could not be searched.
func (s *scan) lookForControls(ctx context.Context, files []logFile) {
	silent := map[*log][]logFile{}
	for _, f := range files {
		if l := s.of(f); !l.settled() && !s.failed[f.path] {
			silent[l] = append(silent[l], f)
		}
	}
	logs := make(chan *log)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			buf := make([]byte, edge)
			for l := range logs {
				// The newest first: it is the likeliest to be of the time that is
				// asked for.
				for i := len(silent[l]) - 1; i >= 0 && !l.settled() && ctx.Err() == nil; i-- {
					if err := s.lookInFile(ctx, l, silent[l][i], buf); err != nil && ctx.Err() == nil {
						s.uncoveredf("look for boots: %v", err)
					}
				}
			}
		})
	}
	for l := range silent {
		logs <- l
	}
	close(logs)
	workers.Wait()
}

func (s *scan) lookInFile(ctx context.Context, l *log, f logFile, buf []byte) error {
	file, _, err := open(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var r io.Reader = until{ctx, file}
	if f.packed {
		if r, err = gzip.NewReader(r); err != nil {
			return err
		}
	}
	err = s.lookIn(l, r, buf, func(offset int64) place { return place{f.path, offset} })
	if err != nil {
		err = fmt.Errorf("%s: %w", f.path, err)
	}
	return err
}

// lookIn looks at a text of a log in blocks of whole lines; at tells where a line
// stands that begins so many bytes after the text's beginning.
func (s *scan) lookIn(l *log, r io.Reader, buf []byte, at func(int64) place) error {
	var base int64
	for n := 0; ; {
		got, err := io.ReadFull(r, buf[n:])
		n += got
		end := n
		if last := bytes.LastIndexByte(buf[:n], '\n'); err == nil && last >= 0 {
			end = last + 1
		}
		s.lookAt(l, buf[:end], func(offset int) place { return at(base + int64(offset)) })
		base += int64(end)
		switch n = copy(buf, buf[end:n]); {
		case l.settled(), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// lookAt notes whether a block of a log holds a line of a boot, whether it holds
// one that names a sandbox, and whether one of journald's that cannot be searched.
func (s *scan) lookAt(l *log, block []byte, at func(int) place) {
	l.control = l.control || s.holds(block, logscan.ControlSigns, func(record logscan.Record, offset int) bool {
		rule := logscan.Classify(record)
		if rule == nil || rule.Class != evidence.FindingControl {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.booted(record, at(offset))
		return true
	})
	l.sandbox = l.sandbox || s.holds(block, logscan.SandboxSigns, func(record logscan.Record, _ int) bool { return record.SandboxID != "" })
	if !l.journal || l.unsearched {
		return
	}
	if offset := s.unsearched(block); offset >= 0 {
		l.unsearched = true
		where := at(offset)
		s.uncoveredf("%s: what journald says at byte %d, and perhaps elsewhere, is an array of bytes or left out, and was not searched: take journalctl -o cat --all", where.source, where.offset)
	}
}

// The fields of journalctl -o json of which a line has one near its beginning, and
// the one that says what was said.
var (
	journalSigns = [][]byte{journalMessage, []byte(`"__REALTIME_TIMESTAMP"`), []byte(`"__CURSOR"`)}

	journalMessage = []byte(`"MESSAGE"`)
)

// isJournal tells whether some lines of a text are as journalctl -o json writes
// them.
func isJournal(text []byte) bool {
	return (bytes.HasPrefix(text, []byte("{")) || bytes.Contains(text, []byte("\n{"))) && logscan.Holds(text, journalSigns)
}

// mind notes whether a log is journald's, by a stretch of it.
func (s *scan) mind(l *log, text []byte) {
	if isJournal(text) {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.journal = true
	}
}

// unsearched is where the first line of a block begins that counts and of which
// journald wrote the message as an array of bytes, since it holds control
// characters, or as null, since it is long (systemd, Journal JSON Format); -1
// where there is none.
func (s *scan) unsearched(block []byte) int {
	for from := 0; ; {
		at := bytes.Index(block[from:], journalMessage)
		if at < 0 {
			return -1
		}
		begin := bytes.LastIndexByte(block[:from+at], '\n') + 1
		from += at + len(journalMessage)
		value, is := bytes.CutPrefix(bytes.TrimLeft(block[from:], " "), []byte(":"))
		value = bytes.TrimLeft(value, " ")
		if !is || block[begin] != '{' || !bytes.HasPrefix(value, []byte("[")) && !bytes.HasPrefix(value, []byte("null")) {
			continue
		}
		line, _, _ := bytes.Cut(block[begin:], feed)
		if at := logscan.TimeOf(line); at.IsZero() || !at.Before(s.Since) {
			return begin
		}
	}
}

// booted keeps the first control for the report, whichever worker comes first. The
// caller holds the lock.
func (s *scan) booted(record logscan.Record, at place) {
	if s.report.Control == "" || at.before(s.control) {
		s.report.Control, s.control = s.short(record.Message), at
	}
}

// holds tells whether a block has a record that counts, on a line with one of
// the signs, of which is true what is asked, with the line's place in the block.
func (s *scan) holds(block []byte, signs [][]byte, is func(logscan.Record, int) bool) bool {
	for _, sign := range signs {
		for from := 0; from < len(block); {
			at := bytes.Index(block[from:], sign)
			if at < 0 {
				break
			}
			begin := bytes.LastIndexByte(block[:from+at], '\n') + 1
			line, _, _ := bytes.Cut(block[begin:], feed)
			from = begin + len(line) + 1
			// Much of a log is older than what counts, and to decode a line costs
			// far more than to see that.
			if at, _ := logscan.CutTime(line); !at.IsZero() && at.Before(s.Since) {
				continue
			}
			for _, record := range logscan.Records(line) {
				if (record.Time.IsZero() || !record.Time.Before(s.Since)) && is(record, begin) {
					return true
				}
			}
		}
	}
	return false
}

// lastTime is the time of the last record with one.
func lastTime(text []byte) (last time.Time) {
	for len(text) > 0 && last.IsZero() {
		begin := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
		last = logscan.TimeOf(text[begin:])
		text = text[:begin]
	}
	return last
}
