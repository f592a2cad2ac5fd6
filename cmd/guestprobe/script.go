package main

import (
	"path"
	"strings"

	"sandproof/internal/evidence"
)

// maxSteps bounds how many steps of a script are reported, maxWords how many
// words of a step, maxWord each of them, in bytes.
const (
	maxSteps = 16
	maxWords = 16
	maxWord  = 100
)

// scriptSteps finds what a shell script does about cgroups: mounts of cgroup2,
// writes to a cgroup.subtree_control, starts of envd. It reads the script's
// words as a shell would split them (POSIX.1-2017, Shell Command Language 2.3
// Token Recognition), so that comments, quoted texts and here-documents are no
// commands. It runs nothing: a branch that is never taken counts too, and a
// variable stays what it is called.
func scriptSteps(text string) []evidence.Step {
	var steps []evidence.Step
	var before command
	for _, c := range splitCommands(text) {
		if step, ok := stepOf(c, before); ok && len(steps) < maxSteps {
			steps = append(steps, step)
		}
		before = c
	}
	return steps
}

// command is one simple command: its words without quotes, and the files that
// its output is redirected to.
type command struct {
	line  int
	words []string
	into  []string
	// piped is true where its input is the output of the command before.
	piped bool
}

// prefixes are words that stand before a command and leave it what it is.
var prefixes = map[string]bool{
	"!": true, "{": true, "if": true, "then": true, "else": true, "elif": true, "do": true, "while": true, "until": true,
	"exec": true, "nohup": true, "setsid": true, "command": true, "busybox": true, "env": true,
}

func stepOf(c, before command) (evidence.Step, bool) {
	words := c.words
	for len(words) > 0 && prefixes[path.Base(words[0])] {
		words = words[1:]
	}
	if len(words) == 0 {
		return evidence.Step{}, false
	}
	name, args := path.Base(words[0]), words[1:]
	source := args
	if name == "tee" {
		c.into = append(c.into, args...)
		if source = nil; c.piped {
			source = before.words
		}
	}
	for _, file := range c.into {
		if path.Base(file) == "cgroup.subtree_control" {
			return evidence.Step{Kind: evidence.StepEnable, Line: c.line, Target: cut(file), Words: controllers(source)}, true
		}
	}
	switch {
	case name == "mount" && mountsCgroup2(args):
		return evidence.Step{Kind: evidence.StepMount, Line: c.line, Target: cut(args[len(args)-1])}, true
	case name == "envd":
		return evidence.Step{Kind: evidence.StepEnvd, Line: c.line, Target: cut(words[0])}, true
	}
	return evidence.Step{}, false
}

func mountsCgroup2(args []string) bool {
	for i, arg := range args {
		if arg == "-tcgroup2" || (arg == "-t" && i+1 < len(args) && args[i+1] == "cgroup2") {
			return true
		}
	}
	return false
}

// controllers are the words of a write that enable something; one argument may
// hold several.
func controllers(args []string) []string {
	var found []string
	for _, arg := range args {
		for word := range strings.FieldsSeq(strings.ReplaceAll(arg, `\n`, " ")) {
			if strings.HasPrefix(word, "+") && len(found) < maxWords {
				found = append(found, cut(word))
			}
		}
	}
	return found
}

func cut(s string) string { return s[:min(len(s), maxWord)] }

// lexer splits a script into simple commands.
type lexer struct {
	text     string
	at, line int
	commands []command
	current  command
	word     strings.Builder
	inWord   bool
	redirect bool // the next word is the file of an output redirection
	skip     bool // the next word belongs to another redirection
	heredocs []string
	heredoc  bool // the next word ends a here-document
}

func splitCommands(text string) []command {
	l := &lexer{text: text, line: 1}
	l.current.line = 1
	for l.at < len(l.text) {
		l.step()
	}
	l.endCommand(false)
	return l.commands
}

// step takes one character, or one token that begins with it.
func (l *lexer) step() {
	c := l.text[l.at]
	l.at++
	switch c {
	case '\\':
		l.escape()
	case '\'', '"':
		l.quoted(c)
	case '#':
		if l.inWord {
			l.add(c)
			return
		}
		if end := strings.IndexByte(l.text[l.at:], '\n'); end >= 0 {
			l.at += end
		} else {
			l.at = len(l.text)
		}
	case '\n':
		l.endCommand(false)
		l.line++
		l.skipHeredocs()
		l.current.line = l.line
	case ' ', '\t', '\r':
		l.endWord()
	case ';', '(', ')', '`':
		l.endCommand(false)
	case '&':
		if (l.redirect || l.skip) && !l.inWord { // ">&2" copies a descriptor
			l.redirect, l.skip = false, true
			return
		}
		l.endCommand(false)
	case '|':
		if l.redirect && !l.inWord { // ">|" writes all the same
			return
		}
		l.endCommand(l.at >= len(l.text) || l.text[l.at] != '|')
	case '>', '<':
		l.redirection(c)
	default:
		l.add(c)
	}
}

// add takes a character into the current word, which it may begin.
func (l *lexer) add(c byte) {
	l.word.WriteByte(c)
	l.inWord = true
}

// escape takes the character after a backslash as it is; a newline vanishes
// with it.
func (l *lexer) escape() {
	if l.at >= len(l.text) {
		return
	}
	if l.text[l.at] == '\n' {
		l.line++
	} else {
		l.add(l.text[l.at])
	}
	l.at++
}

// quoted takes everything up to the closing quote into the current word.
func (l *lexer) quoted(quote byte) {
	l.inWord = true
	for ; l.at < len(l.text) && l.text[l.at] != quote; l.at++ {
		c := l.text[l.at]
		if c == '\\' && quote == '"' && l.at+1 < len(l.text) && strings.IndexByte("\"\\$`\n", l.text[l.at+1]) >= 0 {
			l.at++
			c = l.text[l.at]
		}
		if c == '\n' {
			l.line++
		}
		l.word.WriteByte(c)
	}
	l.at++ // beyond the closing quote, or the end
}

// redirection takes the sign of a redirection. A number right before it is a
// descriptor and no word; only standard output counts.
func (l *lexer) redirection(sign byte) {
	descriptor := ""
	if l.inWord && strings.Trim(l.word.String(), "0123456789") == "" {
		descriptor = l.word.String()
		l.word.Reset()
		l.inWord = false
	}
	l.endWord()
	doubled := l.at < len(l.text) && l.text[l.at] == sign
	if doubled {
		l.at++
	}
	l.redirect = sign == '>' && (descriptor == "" || descriptor == "1")
	l.heredoc = sign == '<' && doubled
	l.skip = !l.redirect && !l.heredoc
	if l.heredoc && l.at < len(l.text) && l.text[l.at] == '-' {
		l.at++
	}
}

func (l *lexer) endWord() {
	if !l.inWord {
		return
	}
	word := l.word.String()
	l.word.Reset()
	l.inWord = false
	switch {
	case l.redirect:
		l.current.into = append(l.current.into, word)
	case l.heredoc:
		l.heredocs = append(l.heredocs, word)
	case l.skip:
	default:
		if len(l.current.words) == 0 {
			l.current.line = l.line
		}
		l.current.words = append(l.current.words, word)
	}
	l.redirect, l.heredoc, l.skip = false, false, false
}

// endCommand ends the current command; piped says that the next one reads its
// output.
func (l *lexer) endCommand(piped bool) {
	l.endWord()
	l.redirect, l.heredoc, l.skip = false, false, false
	if len(l.current.words) > 0 || len(l.current.into) > 0 {
		l.commands = append(l.commands, l.current)
	}
	l.current = command{line: l.line, piped: piped}
}

// skipHeredocs passes over the here-documents that the line before announced:
// they are data.
func (l *lexer) skipHeredocs() {
	for _, end := range l.heredocs {
		for l.at < len(l.text) {
			line, _, _ := strings.Cut(l.text[l.at:], "\n")
			l.at = min(l.at+len(line)+1, len(l.text))
			l.line++
			if strings.TrimLeft(line, "\t") == end {
				break
			}
		}
	}
	l.heredocs = nil
}
