package logscan

import (
	"bytes"
	"sync"
)

// gate tells which lines are worth decoding. Nearly every line of a log is
// about something else, and to decode one costs ten times as much as to see
// that. It is unsure rather than wrong: a line that it holds back has no
// finding and does not name the sandbox (FuzzGate).
type gate struct {
	sandbox []byte // in lower case
	plain   []byte // the line as it is searched, kept for its memory
}

// signs are what a line that a rule knows holds one of, in lower case.
var signs = [][]byte{
	[]byte("cgroup"), []byte("==="), []byte("---"), []byte("host metrics"), []byte("✓"), []byte(canarySign),
	[]byte(beginningSign),
}

// passes tells whether a line is to be decoded; where strangers are looked for,
// one that may name any sandbox is.
func (g *gate) passes(line []byte, strangers bool) bool {
	line = withoutLevelColour(trimEnd(line))
	g.plain = g.plain[:0]
	blank := true
	for _, b := range line {
		switch {
		case b == 0x1b, b == '\\', b >= 0x80:
			// What stands there when it is decoded is not seen from here.
			return true
		case b <= ' ', b == 0x7f:
			if !blank {
				g.plain = append(g.plain, ' ')
			}
			blank = true
		case b >= 'A' && b <= 'Z':
			g.plain, blank = append(g.plain, b+'a'-'A'), false
		default:
			g.plain, blank = append(g.plain, b), false
		}
	}
	if bytes.Contains(g.plain, g.sandbox) {
		return true
	}
	for _, sign := range signs {
		if bytes.Contains(g.plain, sign) {
			return true
		}
	}
	if strangers && namesSandbox(g.plain) {
		return true
	}
	if bytes.Contains(g.plain, journalSign) && (bytes.Contains(g.plain, []byte(":[")) || bytes.Contains(g.plain, []byte(": ["))) {
		return true // its message may be an array of bytes
	}
	return mayHoldFragment(g.plain)
}

// journalSign is the field of journald's message, in lower case.
var journalSign = bytes.ToLower([]byte(`"` + journalField + `"`))

// namesSandbox tells whether a line holds the name of a field that names a
// sandbox, or the words that do.
func namesSandbox(plain []byte) bool {
	for _, name := range sandboxNames {
		if bytes.Contains(plain, name) {
			return true
		}
	}
	return false
}

// sandboxNames are the fields' names in lower case, and the text's.
var sandboxNames = func() [][]byte {
	names := [][]byte{[]byte("-> [sandbox ")}
	for _, field := range sandboxFields {
		names = append(names, bytes.ToLower([]byte(`"`+field+`"`)))
	}
	return names
}()

// withoutLevelColour takes the time and the coloured level off a console record,
// which nearly every line has: what decoding takes off as well, and no more.
func withoutLevelColour(line []byte) []byte {
	const longest, open, reset = 64, "  \x1b[", "\x1b[0m  " // bytes up to the level's end
	head := line[:min(len(line), longest)]
	at := bytes.IndexByte(head, ' ')
	if !startsLike(line, "0000-00-00T00:00:00") || at < 0 || !bytes.HasPrefix(head[at:], []byte(open)) {
		return line
	}
	colour := head[at+len(open):]
	level := bytes.TrimLeft(colour, "0123456789;")
	text, isColour := bytes.CutPrefix(level, []byte("m"))
	letters := 0
	for letters < len(text) && isLetter(text[letters]) {
		letters++
	}
	if !isColour || letters < len("INFO") || letters > len("DPANIC") || !bytes.HasPrefix(text[letters:], []byte(reset)) {
		return line
	}
	return line[len(head)-len(text)+letters+len(reset):]
}

// A fragment is shingle bytes long: of the pieces of gram bytes that begin at
// every step-th byte of a line, one lies in it.
const (
	gram = 4
	step = shingle - gram + 1
)

// grams are all pieces of all fragments.
var grams = sync.OnceValue(func() map[[gram]byte]bool {
	set := map[[gram]byte]bool{}
	for text := range fragments() {
		for i := range len(text) - gram + 1 {
			set[[gram]byte([]byte(text[i:i+gram]))] = true
		}
	}
	return set
})

// mayHoldFragment tells whether a text may hold a part of a failure's words.
func mayHoldFragment(plain []byte) bool {
	known := grams()
	for i := 0; i+gram <= len(plain); i += step {
		if known[[gram]byte(plain[i:i+gram])] {
			return true
		}
	}
	return false
}
