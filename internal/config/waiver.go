package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// requirementID is the form of a requirement's ID; the catalogue knows which
// there are.
var requirementID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-z0-9-]+)+$`) })

// checkWaivers says of every waiver of the file what is wrong with it, each with
// the place of the key, or of the entry.
func (c *Config) checkWaivers(body ast.Node) error {
	var wrong []string
	seen := map[[2]string]bool{}
	for i, w := range c.Waivers {
		add := func(key, problem string) {
			wrong = append(wrong, fmt.Sprintf("%s: waivers[%d]: %s", place(c.File, waiverToken(body, i, key)), i, problem))
		}
		switch {
		case w.Line != "" && (w.Template != "" || len(w.Requirements) > 0):
			add("line", "want a line, or a template with requirements, and not both: make two waivers of it")
		case w.Line == "" && w.Template == "" && len(w.Requirements) == 0:
			add("line", "want a line (a regular expression), or a template with the requirements whose failure is known there")
		case w.Line != "":
			if _, err := regexp.Compile(w.Line); err != nil {
				add("line", "this is no regular expression: want one on the line's text, such as ^cgroup io\\.max: ")
			}
		default:
			if !templateName().MatchString(w.Template) {
				add("template", "want the name of one template, as it is judged")
			}
			if len(w.Requirements) == 0 {
				add("requirements", "want the IDs of the requirements whose failure is known, such as [enable.io]")
			}
		}
		for _, id := range w.Requirements {
			if !requirementID().MatchString(id) {
				add("requirements", "this is no requirement's ID: docs/requirements.md has them all")
			}
			if seen[[2]string{w.Template, id}] {
				add("requirements", "a requirement of this template is waived twice: leave one out")
			}
			seen[[2]string{w.Template, id}] = true
		}
		if strings.TrimSpace(w.Reason) == "" {
			add("reason", "want a reason, for whoever reads the report")
		}
		if _, err := w.End(); err != nil {
			add("expires", "want the last day on which it counts, such as 2026-12-31")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "\n"))
}

// waiverToken finds where a key of a waiver stands, else the waiver, else the
// list: aliases may hide either.
func waiverToken(body ast.Node, i int, key string) *token.Token {
	list := valueOf(body, "waivers")
	entries, isList := list.(*ast.SequenceNode)
	if !isList || i >= len(entries.Values) {
		return list.GetToken()
	}
	entry := entries.Values[i]
	if value := valueOf(entry, key); value != nil {
		return value.GetToken()
	}
	if pairs, isMapping := entry.(*ast.MappingNode); isMapping && len(pairs.Values) > 0 {
		return pairs.Values[0].Key.GetToken()
	}
	return entry.GetToken()
}

// valueOf is the value of a key in a mapping, nil where there is none.
func valueOf(node ast.Node, key string) ast.Node {
	mapping, isMapping := node.(ast.MapNode)
	if !isMapping {
		return nil
	}
	for each := mapping.MapRange(); each.Next(); {
		if each.Key().GetToken().Value == key {
			return each.Value()
		}
	}
	return nil
}
