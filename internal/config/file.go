package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// FileName is the configuration file that is looked for.
const FileName = "ginkgo.yml"

// find looks for the file: the given one, else ginkgo.yml in the directory
// or one above it, up to the module's or repository's root and no further.
// Where there is no such root, only the directory itself counts: a file that
// lies anywhere above it may be anybody's.
func (c *Config) find(dir, given string) error {
	c.Root = moduleRoot(dir)
	if given != "" {
		c.File = onCommandLine(given, dir)
		c.Root = filepath.Dir(c.File)
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		file := filepath.Join(at, FileName)
		switch _, err := os.Stat(file); {
		case err == nil:
			c.File, c.Root = file, at
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("find the configuration: %w", err)
		case at == c.Root:
			return nil
		}
	}
}

// moduleRoot is the nearest directory with a module or a repository, from
// the given one upwards, or the given one where there is none.
func moduleRoot(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		for _, mark := range []string{"go.mod", ".git"} {
			if _, err := os.Stat(filepath.Join(at, mark)); err == nil {
				return at
			}
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// onCommandLine resolves a relative path of the command line. It counts from
// the working directory; but Ginkgo and go test run a suite inside its own
// directory, wherever the command was given, so a path that leads nowhere
// from there counts from the root.
func onCommandLine(path, dir string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	here, fromRoot := filepath.Join(dir, path), filepath.Join(moduleRoot(dir), path)
	if _, err := os.Stat(here); err != nil {
		if _, err := os.Stat(fromRoot); err == nil {
			return fromRoot
		}
	}
	return here
}

// read reads the file over the defaults. Unknown keys, keys that stand twice,
// wrong types and credentials are errors with their line and column. No error
// quotes the file's text, which may hold a secret in a wrong place. It returns
// the lines of the file's keys by their paths.
func (c *Config) read() (map[string]int, error) {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, c.placed(err)
	}
	documents := slices.DeleteFunc(parsed.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	if len(documents) == 0 {
		return nil, nil
	}
	if len(documents) > 1 {
		return nil, fmt.Errorf("%s: want one YAML document, it has %d: join them into one", c.File, len(documents))
	}
	look := inspection{file: c.File}
	ast.Walk(&look, documents[0].Body)
	if len(look.problems) > 0 {
		return nil, errors.New(strings.Join(look.problems, "\n"))
	}
	recipes := c.Lab.Recipes
	c.Lab.Recipes = nil
	if err := yaml.NodeToValue(documents[0].Body, c, yaml.Strict()); err != nil {
		return nil, c.placed(err)
	}
	if c.Lab.Recipes == nil {
		c.Lab.Recipes = recipes
	}
	return linesOf(documents[0].Body), c.checkWaivers(documents[0].Body)
}

// placed puts an error of the YAML library into the form file:line:column,
// without the excerpt of the file.
func (c *Config) placed(err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	message, _, _ := strings.Cut(at.GetMessage(), "\n")
	return fmt.Errorf("%s: %s (docs/configuration.md has every key and its form)", place(c.File, at.GetToken()), message)
}

func place(file string, t *token.Token) string {
	return fmt.Sprintf("%s:%d:%d", file, t.Position.Line, t.Position.Column)
}

// credential is what a key for a secret ends in. No key of the configuration
// does.
var credential = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(api[-_]?key|token|secret|password|authorization)$`)
})

// inspection finds in the parsed file what decoding cannot tell, or not where.
type inspection struct {
	file     string
	problems []string
}

// Visit implements ast.Visitor.
func (i *inspection) Visit(node ast.Node) ast.Visitor {
	if node.Type() == ast.TagType {
		// The YAML library panics over some of them.
		i.add(node.GetToken(), "no setting needs a YAML tag: leave it out, or put the text in quotes")
		return i
	}
	entry, isEntry := node.(*ast.MappingValueNode)
	if !isEntry {
		return i
	}
	key := entry.Key.GetToken()
	waits, isMapping := entry.Value.(ast.MapNode)
	switch {
	case !isMapping && credential().MatchString(key.Value):
		i.add(key, "a credential does not belong into the file: set E2B_API_KEY in the environment")
	case isMapping && key.Value == "intervals":
		for each := waits.MapRange(); each.Next(); {
			i.wait(each.Value())
		}
	case entry.Value.Type() == ast.FloatType:
		i.add(entry.Value.GetToken(), "want a whole number, or a text in quotes: decoding would change this one")
	}
	return i
}

// wait checks one duration, since decoding does not tell where a bad one
// stands.
func (i *inspection) wait(node ast.Node) {
	switch n := node.(type) {
	case *ast.AnchorNode:
		i.wait(n.Value)
	case *ast.NullNode, *ast.AliasNode:
	default:
		if _, err := time.ParseDuration(n.GetToken().Value); err != nil || n.Type() != ast.StringType {
			i.add(n.GetToken(), "this is no duration: want a number and a unit, such as 30s or 5m")
		}
	}
}

// add notes a problem, one a place: the first to look at it knows it best.
func (i *inspection) add(at *token.Token, problem string) {
	where := place(i.file, at) + ": "
	if !slices.ContainsFunc(i.problems, func(p string) bool { return strings.HasPrefix(p, where) }) {
		i.problems = append(i.problems, where+problem)
	}
}
