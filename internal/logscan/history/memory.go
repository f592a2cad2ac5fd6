package history

import (
	"strings"
	"sync"
	"time"

	"sandproof/internal/logscan"
)

// memory remembers what lines said: guests say the same things again and again,
// and to decode them and to ask every rule costs more than all else.
type memory struct {
	mu    sync.RWMutex
	known map[string][]ruled // the records of lines, by what follows their time
	rules map[said]*logscan.Rule
}

// said is what of a record its rule depends on.
type said struct {
	message string
	kernel  bool
}

// ruled is a record and the rule that knows it, nil where none does.
type ruled struct {
	logscan.Record

	rule *logscan.Rule
}

// maxKnown bounds how many lines and how many messages are remembered, and
// maxMessage how long they may be, in bytes.
const (
	maxKnown   = 2048
	maxMessage = 512
)

func newMemory() *memory {
	return &memory{known: map[string][]ruled{}, rules: map[said]*logscan.Rule{}}
}

// recall returns the records of a line that is one whole record and was read
// before, but for its time, and that time; false for any other.
func (m *memory) recall(line []byte) (records []ruled, at time.Time, known bool) {
	at, rest := logscan.CutTime(line)
	if at.IsZero() || len(rest) > maxMessage {
		return nil, at, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	records, known = m.known[string(rest)]
	return records, at, known
}

// records is logscan.Records and Classify, and remembers what recall returns.
func (m *memory) records(line []byte) (records []ruled, at time.Time) {
	for _, record := range logscan.Records(line) {
		records = append(records, ruled{record, m.ruleOf(record)})
	}
	at, rest := logscan.CutTime(line)
	_, whole := logscan.Begins(line)
	if whole && !at.IsZero() && len(rest) <= maxMessage && records[0].Time.Equal(at) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.known) == maxKnown {
			clear(m.known)
		}
		m.known[string(rest)] = records
	}
	return records, records[0].Time
}

// ruleOf is logscan.Classify with a memory.
func (m *memory) ruleOf(r logscan.Record) *logscan.Rule {
	if r.Structured || len(r.Message) > maxMessage {
		return logscan.Classify(r)
	}
	m.mu.RLock()
	rule, known := m.rules[said{r.Message, r.Kernel}]
	m.mu.RUnlock()
	if known {
		return rule
	}
	rule = logscan.Classify(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rules) == maxKnown {
		clear(m.rules)
	}
	m.rules[said{strings.Clone(r.Message), r.Kernel}] = rule // a part of a line would keep all of it
	return rule
}
