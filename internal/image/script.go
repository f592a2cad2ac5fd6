package image

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// CgroupRoot is where envd looks for the root of the cgroups unless it is told
// otherwise (e2b-dev/infra packages/envd/main.go, flag -cgroup-root).
const CgroupRoot = "/sys/fs/cgroup"

// Step is something that a script does about cgroups, or about envd.
type Step struct {
	Kind StepKind `json:"kind"`
	// Line is where it stands, counted from 1.
	Line int `json:"line"`
	// Target is the directory that is mounted on, the file that is written to,
	// or the program that is started; Controllers are those that a write
	// enables, without their sign.
	Target      string   `json:"target"`
	Controllers []string `json:"controllers,omitempty"`
	// AtOnce is how many controllers one write enables at most, which the kernel
	// does for all of them or for none. Open is true where only a run knows what
	// is enabled.
	AtOnce int  `json:"atOnce,omitempty"`
	Open   bool `json:"open,omitempty"`
	// Quiet is true where the step's errors go nowhere, Fatal where they end the
	// script (set -e). Stderr is where errors are sent; empty for where the
	// kernel opened PID 1's, /dev/console.
	Quiet  bool   `json:"quiet,omitempty"`
	Fatal  bool   `json:"fatal,omitempty"`
	Stderr string `json:"stderr,omitempty"`

	// within are the statements that the step is in, the outermost first.
	within []place
}

// StepKind is what a step does.
type StepKind string

// The kinds of steps.
const (
	StepMount    StepKind = "mount"     // cgroup2 is mounted
	StepMountAll StepKind = "mount-all" // what fstab says is mounted
	StepEnable   StepKind = "enable"    // controllers are enabled for a cgroup's children
	StepEnvd     StepKind = "envd"      // envd is started
)

// place is one statement on the way to a step.
type place struct {
	stmt *syntax.Stmt
	// listed is true for a statement of a list, before which another one can
	// stand; looped for one that is run again and again.
	listed, looped bool
}

// Script is a shell script as far as cgroups and envd go.
type Script struct {
	// Steps are in the order in which they are reached. Nothing is run: of
	// branches each is taken, and what only a run knows stays unknown.
	Steps []Step
	text  string
}

// The bounds of what is followed in a script, which may be anybody's.
const (
	maxScript   = 1 << 20 // bytes
	maxDepth    = 16      // functions that call each other
	maxRounds   = 64      // rounds of a loop over words
	maxVisited  = 20_000  // statements
	maxExpanded = 4 << 10 // bytes of one word
)

// ReadScript reads an init script. Its error says where the shell's grammar
// breaks, with the line.
func ReadScript(text string) (*Script, error) {
	if len(text) > maxScript {
		return nil, fmt.Errorf("the script has %d bytes, more than the %d of any init script", len(text), maxScript)
	}
	// Bash's grammar holds what dash and busybox accept, but for what no init
	// script has.
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		return nil, fmt.Errorf("the shell would not accept the script: %w", err)
	}
	w := &walker{functions: map[string]*syntax.Stmt{}, values: map[string]string{}}
	if first, _, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "#!") {
		w.options(strings.Fields(first)[1:])
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		if f, ok := n.(*syntax.FuncDecl); ok && f.Name != nil {
			w.functions[f.Name.Value] = f.Body
		}
		return true
	})
	w.list(file.Stmts, nil, false)
	return &Script{Steps: w.steps, text: text}, nil
}

// syntaxLine is the line of which an error of ReadScript speaks, 0 for none.
func syntaxLine(err error) int {
	if at, ok := errors.AsType[syntax.ParseError](err); ok {
		return int(at.Pos.Line())
	}
	return 0
}

// walker follows a script in the order in which a shell would.
type walker struct {
	functions map[string]*syntax.Stmt
	values    map[string]string // of the variables, as far as they are known
	steps     []Step
	depth     int
	visited   int
	// out and errs are where the script's own output goes since its last exec
	// with redirections; empty for where it went at the start.
	out, errs string
	// errexit is true after set -e; guarded counts the places around the current
	// one at which a failure ends nothing.
	errexit bool
	guarded int
}

func (w *walker) list(stmts []*syntax.Stmt, within []place, looped bool) {
	for _, s := range stmts {
		w.stmt(s, append(slices.Clone(within), place{s, true, looped}))
	}
}

// part follows a statement that is no member of a list: a side of a pipe or of
// "&&".
func (w *walker) part(s *syntax.Stmt, within []place) {
	w.stmt(s, append(slices.Clone(within), place{stmt: s}))
}

func (w *walker) stmt(s *syntax.Stmt, within []place) {
	if w.visited++; w.visited > maxVisited {
		return
	}
	looped := within[len(within)-1].looped
	if s.Negated || s.Background {
		w.guarded++
		defer func() { w.guarded-- }()
	}
	switch c := s.Cmd.(type) {
	case *syntax.CallExpr:
		w.call(c, s, within)
	case *syntax.DeclClause:
		w.assign(c.Args)
	case *syntax.Block:
		w.list(c.Stmts, within, looped)
	case *syntax.Subshell:
		w.list(c.Stmts, within, looped)
	case *syntax.BinaryCmd:
		w.binary(c, within)
	case *syntax.IfClause:
		for branch := c; branch != nil; branch = branch.Else {
			w.condition(branch.Cond, within, looped)
			w.list(branch.Then, within, looped)
		}
	case *syntax.WhileClause:
		w.condition(c.Cond, within, true)
		w.list(c.Do, within, true)
	case *syntax.ForClause:
		w.loop(c, within)
	case *syntax.CaseClause:
		for _, item := range c.Items {
			w.list(item.Stmts, within, looped)
		}
	case *syntax.TimeClause:
		if c.Stmt != nil {
			w.part(c.Stmt, within)
		}
	}
}

// condition follows what is only asked, and ends no script.
func (w *walker) condition(stmts []*syntax.Stmt, within []place, looped bool) {
	w.guarded++
	w.list(stmts, within, looped)
	w.guarded--
}

// binary follows both sides of "&&", "||" and "|".
func (w *walker) binary(c *syntax.BinaryCmd, within []place) {
	if c.Op == syntax.Pipe || c.Op == syntax.PipeAll {
		if file, ok := w.teed(c.Y); ok {
			source, _ := c.X.Cmd.(*syntax.CallExpr)
			if source != nil {
				w.enable(file, w.fields(source.Args), c.X.Pos().Line(), quiet(c.Y), within)
			} else {
				w.enable(file, nil, c.X.Pos().Line(), quiet(c.Y), within)
			}
			return
		}
	}
	first := len(w.steps)
	w.guarded++
	w.part(c.X, within)
	w.guarded--
	if c.Op == syntax.OrStmt && isTrue(c.Y) {
		for i := first; i < len(w.steps); i++ {
			w.steps[i].Quiet = w.steps[i].Quiet || quiet(c.X)
		}
	}
	w.part(c.Y, within)
}

// isTrue tells whether a statement is one that does nothing.
func isTrue(s *syntax.Stmt) bool {
	c, ok := s.Cmd.(*syntax.CallExpr)
	return ok && len(c.Args) == 1 && slices.Contains([]string{"true", ":"}, c.Args[0].Lit())
}

// loop follows a loop over words once for each of them.
func (w *walker) loop(c *syntax.ForClause, within []place) {
	words, ok := c.Loop.(*syntax.WordIter)
	if !ok {
		w.list(c.Do, within, true)
		return
	}
	items := w.fields(words.Items)
	if len(items) == 0 {
		delete(w.values, words.Name.Value)
		w.list(c.Do, within, true)
		return
	}
	first := len(w.steps)
	for _, item := range items[:min(len(items), maxRounds)] {
		w.values[words.Name.Value] = item
		w.list(c.Do, within, true)
	}
	w.merge(first)
}

// merge makes one step of those that a loop repeats.
func (w *walker) merge(first int) {
	var merged []Step
	for _, s := range w.steps[first:] {
		i := slices.IndexFunc(merged, func(m Step) bool { return m.Kind == s.Kind && m.Line == s.Line && m.Target == s.Target })
		if i < 0 {
			merged = append(merged, s)
			continue
		}
		for _, c := range s.Controllers {
			if !slices.Contains(merged[i].Controllers, c) {
				merged[i].Controllers = append(merged[i].Controllers, c)
			}
		}
		merged[i].AtOnce, merged[i].Open, merged[i].Fatal = max(merged[i].AtOnce, s.AtOnce), merged[i].Open || s.Open, merged[i].Fatal || s.Fatal
	}
	w.steps = append(w.steps[:first], merged...)
}

func (w *walker) assign(all []*syntax.Assign) {
	for _, a := range all {
		if a.Name == nil || a.Value == nil {
			continue
		}
		if value, ok := w.literal(a.Value); ok && !a.Append {
			w.values[a.Name.Value] = value
		} else {
			delete(w.values, a.Name.Value)
		}
	}
}

// call follows a simple command: an assignment, a function of the script, or a
// program.
func (w *walker) call(c *syntax.CallExpr, s *syntax.Stmt, within []place) {
	if len(c.Args) == 0 {
		w.assign(c.Assigns)
	}
	words := w.fields(c.Args)
	line := s.Pos().Line()
	for _, r := range s.Redirs {
		if r.Word == nil || !slices.Contains([]syntax.RedirOperator{syntax.RdrOut, syntax.AppOut, syntax.RdrClob, syntax.RdrAll, syntax.AppAll}, r.Op) {
			continue
		}
		if file, ok := w.literal(r.Word); ok && isControl(file) {
			w.enable(file, words, line, quiet(s), within)
			return
		}
	}
	if len(words) == 1 && words[0] == "exec" {
		w.out, w.errs = w.redirected(s, w.out, w.errs)
		return
	}
	words = withoutPrefixes(words)
	if len(words) == 0 {
		return
	}
	name := path.Base(words[0])
	switch body := w.functions[words[0]]; {
	case body != nil:
		if w.depth < maxDepth {
			w.depth++
			w.part(body, within)
			w.depth--
		}
	case name == "set":
		w.options(words[1:])
	case name == "mount" && slices.Contains(words[1:], "-a"):
		w.step(Step{Kind: StepMountAll, Line: int(line), Quiet: quiet(s), within: within})
	case name == "mount":
		if target, ok := mountsCgroup2(words[1:]); ok {
			w.step(Step{Kind: StepMount, Line: int(line), Target: target, Quiet: quiet(s), within: within})
		}
	case name == "envd":
		w.step(Step{Kind: StepEnvd, Line: int(line), Target: words[0], within: within})
	case slices.Contains([]string{"sh", "bash", "ash", "dash"}, name):
		w.nested(commandOf(words[1:]), int(line), within)
	}
}

// commandOf is the text that a shell is given with its option -c; empty where
// there is none.
func commandOf(args []string) string {
	for i, arg := range args {
		switch {
		case !strings.HasPrefix(arg, "-"):
			return ""
		case !strings.HasPrefix(arg, "--") && strings.HasSuffix(arg, "c") && i+1 < len(args):
			return args[i+1]
		}
	}
	return ""
}

// nested follows the text that another shell is given.
func (w *walker) nested(text string, line int, within []place) {
	if w.depth >= maxDepth {
		return
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	first := len(w.steps)
	inner := &walker{functions: w.functions, values: w.values, depth: w.depth, visited: w.visited}
	inner.out, inner.errs = w.streams(within)
	inner.list(file.Stmts, nil, false)
	w.visited = inner.visited
	for _, s := range inner.steps {
		s.Line, s.within = line, within
		w.steps = append(w.steps, s)
	}
	w.merge(first)
}

// controllerName is what a controller can be called.
var controllerName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z_0-9]+$`) })

func (w *walker) enable(file string, words []string, line uint, quiet bool, within []place) {
	step := Step{Kind: StepEnable, Line: int(line), Target: file, Quiet: quiet, within: within}
	if len(words) == 0 || !slices.Contains([]string{"echo", "printf"}, path.Base(words[0])) {
		step.Open = true
		w.step(step)
		return
	}
	for _, word := range words[1:] {
		step.Open = step.Open || word == ""
		for field := range strings.FieldsSeq(strings.NewReplacer(`\n`, " ", `\t`, " ").Replace(word)) {
			name, ok := strings.CutPrefix(field, "+")
			switch {
			case ok && controllerName().MatchString(name):
				step.Controllers = append(step.Controllers, name)
			case ok || strings.Contains(field, "%"):
				step.Open = true
			}
		}
	}
	step.AtOnce = len(step.Controllers)
	w.step(step)
}

// step keeps a step; a function that is called twice does the same again.
func (w *walker) step(s Step) {
	_, s.Stderr = w.streams(s.within)
	s.Quiet = s.Quiet || s.Stderr == "/dev/null"
	s.Fatal = w.errexit && w.guarded == 0
	w.steps = append(w.steps, s)
}

// streams returns where output and errors go within statements.
func (w *walker) streams(within []place) (out, errs string) {
	out, errs = w.out, w.errs
	for _, p := range within {
		out, errs = w.redirected(p.stmt, out, errs)
	}
	return out, errs
}

// unknownFile stands for a file whose name only a run knows.
const unknownFile = "?"

// redirected returns where the output and the errors of a statement go, of
// what is around it sends them to out and errs.
func (w *walker) redirected(s *syntax.Stmt, out, errs string) (string, string) {
	for _, r := range s.Redirs {
		if r.Word == nil {
			continue
		}
		file, known := w.literal(r.Word)
		if !known || file == "" {
			file = unknownFile
		}
		number := ""
		if r.N != nil {
			number = r.N.Value
		}
		switch r.Op { //nolint:exhaustive // input is of no matter
		case syntax.RdrAll, syntax.AppAll, syntax.RdrAllClob, syntax.AppAllClob:
			out, errs = file, file
		case syntax.RdrOut, syntax.AppOut, syntax.RdrClob, syntax.AppClob:
			switch number {
			case "", "1":
				out = file
			case "2":
				errs = file
			}
		case syntax.DplOut:
			switch {
			case number == "2" && file == "1":
				errs = out
			case (number == "" || number == "1") && file == "2":
				out = errs
			case number == "2" && file == "-":
				errs = "/dev/null"
			}
		}
	}
	return out, errs
}

// options follows the set of a shell's option -e.
func (w *walker) options(args []string) {
	for i, arg := range args {
		if arg == "--" {
			return
		}
		long := i > 0 && args[i] == "errexit"
		short := len(arg) > 1 && strings.Trim(arg[1:], "abefhkmnptuvxBCEHPTo") == "" && strings.Contains(arg[1:], "e")
		switch {
		case short && arg[0] == '-' || long && strings.HasSuffix(args[i-1], "o") && args[i-1][0] == '-':
			w.errexit = true
		case short && arg[0] == '+' || long && args[i-1] == "+o":
			w.errexit = false
		}
	}
}

// teed returns the control file that a `tee` writes to.
func (w *walker) teed(s *syntax.Stmt) (string, bool) {
	c, ok := s.Cmd.(*syntax.CallExpr)
	if !ok {
		return "", false
	}
	words := withoutPrefixes(w.fields(c.Args))
	if len(words) == 0 || path.Base(words[0]) != "tee" {
		return "", false
	}
	for _, word := range words[1:] {
		if isControl(word) {
			return word, true
		}
	}
	return "", false
}

func isControl(file string) bool { return path.Base(file) == "cgroup.subtree_control" }

// quiet tells whether the errors of a statement go to /dev/null.
func quiet(s *syntax.Stmt) bool {
	return slices.ContainsFunc(s.Redirs, func(r *syntax.Redirect) bool {
		if r.Word == nil || r.Word.Lit() != "/dev/null" {
			return false
		}
		return r.N != nil && r.N.Value == "2" || r.Op == syntax.RdrAll || r.Op == syntax.AppAll
	})
}

// prefixes are programs that start another one, which is what counts; the
// options among their arguments are passed over.
var prefixes = []string{"exec", "command", "nohup", "setsid", "env", "busybox", "nice", "ionice", "chroot", "sudo", "stdbuf", "unshare"}

func withoutPrefixes(words []string) []string {
	for len(words) > 0 && slices.Contains(prefixes, path.Base(words[0])) {
		words = words[1:]
		for len(words) > 0 && (strings.HasPrefix(words[0], "-") || strings.Contains(words[0], "=") || isNumber(words[0])) {
			words = words[1:]
		}
	}
	return words
}

func isNumber(word string) bool { return word != "" && strings.Trim(word, "0123456789") == "" }

// mountsCgroup2 returns where a mount puts cgroup2.
func mountsCgroup2(args []string) (target string, ok bool) {
	for i, arg := range args {
		if arg == "-tcgroup2" || arg == "-t" && i+1 < len(args) && args[i+1] == "cgroup2" {
			return path.Clean(args[len(args)-1]), true
		}
	}
	return "", false
}

// errUnknown ends the expansion of what only a run knows.
var errUnknown = errors.New("known to a run only")

// expansion expands words by the variables whose values are known.
func (w *walker) expansion() *expand.Config {
	return &expand.Config{
		Env: expand.FuncEnviron(func(name string) string { return w.values[name] }),
		CmdSubst: func(io.Writer, *syntax.CmdSubst) error {
			return errUnknown
		},
		ProcSubst: func(*syntax.ProcSubst) (string, error) { return "", errUnknown },
	}
}

// literal is the value of a word, where it is known.
func (w *walker) literal(word *syntax.Word) (string, bool) {
	text, err := expand.Literal(w.expansion(), word)
	return text, err == nil && len(text) <= maxExpanded
}

// fields are the words of a command, as far as they are known: one that is not
// stays as an empty word, so that the others keep their places. Braces and
// patterns stay what they are.
func (w *walker) fields(words []*syntax.Word) []string {
	var all []string
	for _, word := range words {
		text, ok := w.literal(word)
		switch {
		case !ok:
			all = append(all, "")
		case splits(word):
			all = append(all, strings.Fields(text)...)
		default:
			all = append(all, text)
		}
	}
	return all
}

// splits tells whether the shell splits a word after its expansion: one with a
// variable outside of quotes (POSIX.1-2017, Shell Command Language 2.6.5).
func splits(word *syntax.Word) bool {
	return slices.ContainsFunc(word.Parts, func(p syntax.WordPart) bool { _, ok := p.(*syntax.ParamExp); return ok })
}
