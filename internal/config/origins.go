package config

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Layer is one of the places that a setting can come from.
type Layer string

// The layers, the stronger first. Derived is what follows from other settings.
const (
	LayerFlag        Layer = "flag"
	LayerEnvironment Layer = "environment"
	LayerFile        Layer = "file"
	LayerDefault     Layer = "default"
	LayerDerived     Layer = "derived"
)

// Origin is one setting as it was resolved, and where it comes from.
type Origin struct {
	// Key is the path of the setting in ginkgo.yml, such as intervals.create,
	// templates.base.repeat (by the template's name) or live.logs[0].dirs; api
	// and sandboxes are what the settings of a deployment come to.
	Key string `json:"key"`
	// Value is the setting as text, empty for none. It is never a credential.
	Value string `json:"value,omitempty"`
	Layer Layer  `json:"layer"`
	// From names the place to a person: a flag, a variable, ginkgo.yml:12.
	From string `json:"from"`
}

// Origins are all settings in the order of the configuration.
type Origins []Origin

// Of returns the origin of a key; false where there is no such key.
func (o Origins) Of(key string) (Origin, bool) {
	i := slices.IndexFunc(o, func(each Origin) bool { return each.Key == key })
	if i < 0 {
		return Origin{}, false
	}
	return o[i], true
}

// sources notes, while a configuration is resolved, where its settings come
// from.
type sources struct {
	file string
	// lines are the lines of the file's keys; a template goes by its name.
	lines map[string]int
	// over are the origins of what does not come from file or default.
	over map[string]Origin
}

func (s *sources) note(key string, layer Layer, from string) {
	s.over[key] = Origin{Layer: layer, From: from}
}

// of says where a key comes from.
func (s *sources) of(key string) Origin {
	o, noted := s.over[key]
	switch line, written := s.lines[key]; {
	case noted:
	case written:
		o = Origin{Layer: LayerFile, From: fmt.Sprintf("%s:%d", filepath.Base(s.file), line)}
	default:
		o = Origin{Layer: LayerDefault, From: "default"}
	}
	o.Key = key
	return o
}

// noteFlags notes what the command line says.
func (s *sources) noteFlags(f Flags) {
	for key, flag := range map[string]struct{ name, value string }{
		"target": {"-e2e.target", f.Target}, "profile": {"-e2e.profile", f.Profile}, "templates": {"-e2e.templates", f.Templates},
		"shard": {"-e2e.shard", f.Shard},
	} {
		if flag.value != "" {
			s.note(key, LayerFlag, flag.name)
		}
	}
}

// noteEnvironment notes what the environment says: the shard, and the E2B
// variables where they count.
func (s *sources) noteEnvironment(environment map[string]string, target TargetKind) {
	if _, flag := s.over["shard"]; !flag && environment[ShardVariable] != "" {
		s.note("shard", LayerEnvironment, ShardVariable)
	}
	if target == TargetLab {
		return
	}
	for field := range reflect.TypeFor[Live]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		variable := field.Tag.Get("env")
		_, written := s.lines["live."+name]
		switch {
		case variable == "" || name == "-":
		case environment[variable] != "":
			s.note("live."+name, LayerEnvironment, variable)
		case written && environment["E2B_DOMAIN"] != "":
			s.note("live."+name, LayerDerived, fmt.Sprintf("none: E2B_DOMAIN is a whole deployment, so that of %s does not count", s.of("live."+name).From))
		}
	}
}

// derive notes what follows from other settings, once all is resolved.
// asked is the configuration as flags, environment and file ask for it.
func (s *sources) derive(asked, c Config, f Flags) {
	if asked.Target == TargetAuto && c.Target != TargetAuto {
		why := "no API URL and no domain is configured"
		if c.Target == TargetLive {
			key := "live.api-url"
			if c.Live.APIURL == "" {
				key = "live.domain"
			}
			why = fmt.Sprintf("%s is set (%s)", key, s.of(key).From)
		}
		s.note("target", LayerDerived, fmt.Sprintf("auto (%s): %s", s.of("target").From, why))
	}
	if asked.Profile == ProfileAuto && c.Profile != ProfileAuto {
		s.note("profile", LayerDerived, fmt.Sprintf("auto (%s): target %s, experiments %s", s.of("profile").From, c.Target, c.Experiments))
	}
	switch {
	case c.Target == TargetLab && f.Templates != "":
		s.note("lab.templates", LayerFlag, "-e2e.templates")
	case c.Target == TargetLab:
		s.note("templates", LayerDerived, fmt.Sprintf("lab.templates (%s)", s.of("lab.templates").From))
	}
	if f.Envd != "" && c.Target == TargetLab {
		for name, r := range c.Lab.Recipes {
			if r.RootFS == "" {
				s.note("lab.recipes."+name+".envd", LayerFlag, "-e2e.envd")
			}
		}
	}
}

// origins lists every setting of the configuration.
func (s *sources) origins(c Config) Origins {
	var all Origins
	walkSettings(reflect.ValueOf(c), "", func(key, value string) {
		o := s.of(key)
		o.Value = value
		all = append(all, o)
	})
	if c.Target == TargetLive {
		all = append(all, s.deployment(c)...)
	}
	return all
}

// deployment is what the settings of a deployment come to: the API's URL, and
// the way to a sandbox's ports.
func (s *sources) deployment(c Config) Origins {
	api := Origin{Key: "api", Value: c.Live.APIURL, Layer: LayerDerived, From: "live.api-url (" + s.of("live.api-url").From + ")"}
	fromDomain := "live.domain (" + s.of("live.domain").From + ")"
	if c.Live.APIURL == "" {
		api.Value, api.From = "https://api."+c.Live.Domain, fromDomain
	}
	sandboxes := Origin{Key: "sandboxes", Layer: LayerDerived}
	switch {
	case c.Live.SandboxURL != "":
		sandboxes.Value, sandboxes.From = c.Live.SandboxURL, "live.sandbox-url ("+s.of("live.sandbox-url").From+"), with the sandbox in the headers"
	case c.Live.Domain != "":
		sandboxes.Value, sandboxes.From = "https://PORT-ID."+c.Live.Domain, fromDomain
	default:
		sandboxes.From = "nothing: the API's own answer must name a domain"
	}
	api.Value, sandboxes.Value = shownText(api.Value), shownText(sandboxes.Value)
	return Origins{api, sandboxes}
}

// walkSettings calls each for every key with its value. A template goes by its
// name, other elements of lists by their number, and a list of plain values is
// one setting.
func walkSettings(v reflect.Value, key string, each func(key, value string)) {
	below := func(name string) string { return strings.TrimPrefix(key+"."+name, ".") }
	switch {
	case v.Kind() == reflect.Struct:
		for field, value := range v.Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name != "-" {
				walkSettings(value, below(name), each)
			}
		}
	case v.Kind() == reflect.Map:
		for _, name := range slices.SortedFunc(maps.Keys(asMap(v)), cmp.Compare) {
			walkSettings(v.MapIndex(reflect.ValueOf(name)), below(name), each)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem() == reflect.TypeFor[Template]():
		each(key, strings.Join(templateNames(v), ", "))
		for i, name := range templateNames(v) {
			walkSettings(v.Index(i), below(name), each)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			walkSettings(v.Index(i), fmt.Sprintf("%s[%d]", key, i), each)
		}
	default:
		each(key, settingText(v))
	}
}

func asMap(v reflect.Value) map[string]struct{} {
	names := map[string]struct{}{}
	for _, name := range v.MapKeys() {
		names[name.String()] = struct{}{}
	}
	return names
}

func templateNames(list reflect.Value) []string {
	var names []string
	for i := range list.Len() {
		names = append(names, list.Index(i).FieldByName("Name").String())
	}
	return names
}

// settingText is a setting as text; what is not set is empty.
func settingText(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String()
	case []string:
		return strings.Join(value, ", ")
	case string:
		return shownText(value)
	}
	return fmt.Sprint(v.Interface())
}

// shownText never shows a URL with a user in it: that is a credential.
func shownText(text string) string {
	if strings.Contains(text, "://") && strings.Contains(text, "@") {
		return "(a URL with a user or password in it, which is not shown)"
	}
	return text
}

// maxDepth is more than the nesting of any configuration.
const maxDepth = 16

// linesOf finds the lines of a file's keys, by their paths.
func linesOf(body ast.Node) map[string]int {
	w := lineWalk{lines: map[string]int{}, anchors: map[string]ast.Node{}}
	w.walk(body, "", 0, 0)
	return w.lines
}

type lineWalk struct {
	lines   map[string]int
	anchors map[string]ast.Node
}

// walk notes the keys below a node. What an alias stands for is noted at line,
// where the alias stands; 0: at its own.
func (w *lineWalk) walk(node ast.Node, key string, line, depth int) {
	if depth > maxDepth {
		return
	}
	switch n := node.(type) {
	case *ast.AnchorNode:
		w.anchors[n.Name.GetToken().Value] = n.Value
		w.walk(n.Value, key, line, depth+1)
	case *ast.AliasNode:
		w.walk(w.anchors[n.Value.GetToken().Value], key, cmp.Or(line, n.GetToken().Position.Line), depth+1)
	case *ast.SequenceNode:
		for i, value := range n.Values {
			at := fmt.Sprintf("%s[%d]", key, i)
			w.lines[at] = cmp.Or(line, value.GetToken().Position.Line)
			w.walk(value, at, line, depth+1)
		}
	case ast.MapNode:
		// A key of its own wins over one that is merged in, wherever they stand.
		for _, merged := range []bool{true, false} {
			for entries := n.MapRange(); entries.Next(); {
				name := entries.Key().GetToken()
				switch {
				case entries.Key().IsMergeKey() != merged:
				case merged:
					w.walk(entries.Value(), key, cmp.Or(line, name.Position.Line), depth+1)
				default:
					at := strings.TrimPrefix(key+"."+name.Value, ".")
					w.lines[at] = cmp.Or(line, name.Position.Line)
					w.walk(entries.Value(), at, line, depth+1)
				}
			}
		}
	}
}

// byName puts the templates' names in the place of their numbers, which change
// when they are ordered.
func byName(lines map[string]int, templates []Template) map[string]int {
	named := map[string]int{}
	for key, line := range lines {
		if rest, ok := strings.CutPrefix(key, "templates["); ok {
			number, rest, _ := strings.Cut(rest, "]")
			if i, err := strconv.Atoi(number); err == nil && i < len(templates) {
				key = "templates." + templates[i].Name + rest
			}
		}
		named[key] = line
	}
	return named
}
