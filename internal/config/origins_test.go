package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func resolve(t *testing.T, s Sources) (Config, Origins) {
	t.Helper()
	c, origins, err := Resolve(s)
	if err != nil {
		t.Fatal(err)
	}
	return c, origins
}

// general is a key with names and numbers of elements taken out of it, as
// keys() writes them.
var element = regexp.MustCompile(`\[\d+\]`)

func general(key string) string {
	key = element.ReplaceAllString(key, ".*")
	for _, named := range []string{"lab.recipes.", "templates."} {
		if rest, ok := strings.CutPrefix(key, named); ok {
			_, rest, _ = strings.Cut(rest, ".")
			return named + "*." + rest
		}
	}
	return key
}

// Every key that can be written has an origin: the file's line where it is
// written there, else the default.
func TestEveryKeyHasAnOrigin(t *testing.T) {
	paths, _ := keys(reflect.TypeFor[Config](), "")
	for _, path := range paths {
		name := path
		if strings.HasPrefix(path, "templates.*.intervals.") {
			name = "templates.*.intervals.*any of*"
		}
		change := changes[name]
		file := change.with
		_, origins := resolve(t, Sources{Dir: tree(t, file), Environ: []string{key}, Flags: targetFlag(file)})
		found := map[Layer][]string{}
		for _, o := range origins {
			if general(o.Key) == path {
				found[o.Layer] = append(found[o.Layer], o.From)
			}
		}
		if len(found) == 0 {
			t.Errorf("%s has no origin, in:\n%s", path, file)
			continue
		}
		if name == path && len(found[LayerFile]) == 0 && path != "target" {
			t.Errorf("%s stands in the file, and its origins are %v, in:\n%s", path, found, file)
		}
		for _, from := range found[LayerFile] {
			if !regexp.MustCompile(`^ginkgo\.yml:[1-9]\d*$`).MatchString(from) {
				t.Errorf("%s comes from %q", path, from)
			}
		}
	}
}

func TestOriginsInEachLayer(t *testing.T) {
	const file = "target: live\nprofile: auto\ntemplates:\n  - {name: late}\n  - name: first\n    priority: 1\n" +
		"live:\n  api-url: http://file:1\n  sandbox-url: http://file:2\n  domain: file.example\nintervals: {poll: 70ms}\n"
	const lab = "lab:\n  templates: [base]\n"
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		flags   Flags
		want    map[string]Origin
	}{
		{"nothing but defaults", "", nil, Flags{}, map[string]Origin{
			"target":                {Value: "lab", Layer: LayerDerived, From: "auto (default): no API URL and no domain is configured"},
			"profile":               {Value: "gate", Layer: LayerDerived, From: "auto (default): target lab, experiments auto"},
			"experiments":           {Value: "auto", Layer: LayerDefault, From: "default"},
			"templates":             {Value: "base", Layer: LayerDerived, From: "lab.templates (default)"},
			"lab.templates":         {Value: "base", Layer: LayerDefault, From: "default"},
			"lab.cache":             {Layer: LayerDefault, From: "default"},
			"lab.recipes.base.envd": {Value: "stand-in 0.6.13", Layer: LayerDefault, From: "default"},
			"lab.recipes.base.cpus": {Layer: LayerDefault, From: "default"},
			"intervals.sandbox-ttl": {Value: "5m0s", Layer: LayerDefault, From: "default"},
			"live.api-url":          {Layer: LayerDefault, From: "default"},
		}},
		{"the file", file, nil, Flags{}, map[string]Origin{
			"target":                   {Value: "live", Layer: LayerFile, From: "ginkgo.yml:1"},
			"profile":                  {Value: "core", Layer: LayerDerived, From: "auto (ginkgo.yml:2): target live, experiments auto"},
			"templates":                {Value: "first, late", Layer: LayerFile, From: "ginkgo.yml:3"},
			"templates.first.priority": {Value: "1", Layer: LayerFile, From: "ginkgo.yml:6"},
			"templates.late.name":      {Value: "late", Layer: LayerFile, From: "ginkgo.yml:4"},
			"templates.late.repeat":    {Layer: LayerDefault, From: "default"},
			"live.api-url":             {Value: "http://file:1", Layer: LayerFile, From: "ginkgo.yml:8"},
			"intervals.poll":           {Value: "70ms", Layer: LayerFile, From: "ginkgo.yml:11"},
			"intervals.keep":           {Value: "30m0s", Layer: LayerDefault, From: "default"},
			"api":                      {Value: "http://file:1", Layer: LayerDerived, From: "live.api-url (ginkgo.yml:8)"},
			"sandboxes":                {Value: "http://file:2", Layer: LayerDerived, From: "live.sandbox-url (ginkgo.yml:9), with the sandbox in the headers"},
		}},
		{"the environment", file, []string{"E2B_API_URL=http://env:1"}, Flags{}, map[string]Origin{
			"live.api-url":     {Value: "http://env:1", Layer: LayerEnvironment, From: "E2B_API_URL"},
			"live.sandbox-url": {Value: "http://file:2", Layer: LayerFile, From: "ginkgo.yml:9"},
			"api":              {Value: "http://env:1", Layer: LayerDerived, From: "live.api-url (E2B_API_URL)"},
		}},
		{"a domain is a whole deployment", file, []string{"E2B_DOMAIN=env.example"}, Flags{}, map[string]Origin{
			"live.domain":  {Value: "env.example", Layer: LayerEnvironment, From: "E2B_DOMAIN"},
			"live.api-url": {Layer: LayerDerived, From: "none: E2B_DOMAIN is a whole deployment, so that of ginkgo.yml:8 does not count"},
			"api":          {Value: "https://api.env.example", Layer: LayerDerived, From: "live.domain (E2B_DOMAIN)"},
			"sandboxes":    {Value: "https://PORT-ID.env.example", Layer: LayerDerived, From: "live.domain (E2B_DOMAIN)"},
		}},
		{"auto by the environment", "", []string{"E2B_DOMAIN=env.example"}, Flags{Templates: "base"}, map[string]Origin{
			"target":    {Value: "live", Layer: LayerDerived, From: "auto (default): live.domain is set (E2B_DOMAIN)"},
			"templates": {Value: "base", Layer: LayerFlag, From: "-e2e.templates"},
		}},
		{"the flags", file, nil, Flags{Target: "live", Profile: "extended", Templates: "late"}, map[string]Origin{
			"target":    {Value: "live", Layer: LayerFlag, From: "-e2e.target"},
			"profile":   {Value: "extended", Layer: LayerFlag, From: "-e2e.profile"},
			"templates": {Value: "late", Layer: LayerFlag, From: "-e2e.templates"},
		}},
		{"the flags of the lab", lab, []string{"E2B_API_URL=http://env:1"}, Flags{Target: "lab", Envd: "stand-in 0.4.3", Templates: "base-unpatched"}, map[string]Origin{
			"target":                          {Value: "lab", Layer: LayerFlag, From: "-e2e.target"},
			"lab.templates":                   {Value: "base-unpatched", Layer: LayerFlag, From: "-e2e.templates"},
			"lab.recipes.base-unpatched.envd": {Value: "stand-in 0.4.3", Layer: LayerFlag, From: "-e2e.envd"},
			"live.api-url":                    {Layer: LayerDefault, From: "default"},
		}},
		{"what an alias stands for", "intervals: &waits\n  poll: 70ms\nlab:\n  recipes:\n    base: &base {rootfs: /r}\n    other: *base\n    third:\n      <<: *base\n      cpus: 2\n", nil, Flags{}, map[string]Origin{
			"intervals.poll":           {Value: "70ms", Layer: LayerFile, From: "ginkgo.yml:2"},
			"lab.recipes.base.rootfs":  {Value: "/r", Layer: LayerFile, From: "ginkgo.yml:5"},
			"lab.recipes.other.rootfs": {Value: "/r", Layer: LayerFile, From: "ginkgo.yml:6"},
			"lab.recipes.third.rootfs": {Value: "/r", Layer: LayerFile, From: "ginkgo.yml:8"},
			"lab.recipes.third.cpus":   {Value: "2", Layer: LayerFile, From: "ginkgo.yml:9"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			environ := test.environ
			if test.flags.Target == "live" || strings.Contains(test.file, "target: live") || len(environ) > 0 {
				environ = append(environ, key)
			}
			_, origins := resolve(t, Sources{Dir: tree(t, test.file), Environ: environ, Flags: test.flags})
			for name, want := range test.want {
				want.Key = name
				got, known := origins.Of(name)
				if !known {
					t.Errorf("%s has no origin", name)
				} else if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s:\n%s", name, diff)
				}
			}
		})
	}
}

// A configuration that is of no use is explained all the same.
func TestOriginsBesideAnError(t *testing.T) {
	_, origins, err := Resolve(Sources{Dir: tree(t, "target: live\nlive: {api-url: \"http://user:"+secret+"@file\"}\n")})
	wantError(t, err, "E2B_API_KEY", "has a user or password")
	o, _ := origins.Of("live.api-url")
	if o.From != "ginkgo.yml:2" || strings.Contains(o.Value, secret) || o.Value == "" {
		t.Errorf("got %+v", o)
	}
}

func TestVariables(t *testing.T) {
	for _, test := range []struct {
		name    string
		environ []string
		want    Variable
	}{
		{"a key is never shown", []string{"E2B_API_KEY=" + secret}, Variable{Name: "E2B_API_KEY", Shown: lengthOf(secret), Read: true, Use: "the key of the API"}},
		{"one that is not set", nil, Variable{Name: "E2B_DOMAIN", Read: true, Use: "the deployment's domain"}},
		{"a URL", []string{"E2B_API_URL=http://a"}, Variable{Name: "E2B_API_URL", Shown: "http://a", Read: true, Use: "the API"}},
		{"a token in place of a key", []string{"E2B_ACCESS_TOKEN=" + secret}, Variable{Name: "E2B_ACCESS_TOKEN", Shown: lengthOf(secret), Use: "not read: no call that is made here takes an access token; set E2B_API_KEY", Suspect: true}},
		{"a token beside a key", []string{"E2B_ACCESS_TOKEN=" + secret, key}, Variable{Name: "E2B_ACCESS_TOKEN", Shown: lengthOf(secret), Use: "not read: no call that is made here takes an access token; set E2B_API_KEY"}},
		{"debug", []string{"E2B_DEBUG=true"}, Variable{Name: "E2B_DEBUG", Shown: "set, 4 characters", Use: "not read: E2B's SDK means http://localhost:3000 by it, and this does not; set E2B_API_URL", Suspect: true}},
		{"no debug", []string{"E2B_DEBUG=false"}, Variable{Name: "E2B_DEBUG", Shown: "set, 5 characters", Use: "not read: E2B's SDK means http://localhost:3000 by it, and this does not; set E2B_API_URL"}},
		{"a look-alike", []string{"E2B_APIKEY=" + secret}, Variable{Name: "E2B_APIKEY", Shown: lengthOf(secret), Use: "not read: is E2B_API_KEY meant?", Suspect: true}},
		{"another", []string{"E2B_URL=http://a"}, Variable{Name: "E2B_URL", Shown: "set, 8 characters", Use: "not read: is E2B_API_URL meant?", Suspect: true}},
		{"upstream's tests", []string{"TESTS_ENVD_PROXY=http://a"}, Variable{Name: "TESTS_ENVD_PROXY", Shown: "set, 8 characters", Use: "not read: it is for E2B's own integration tests; set E2B_SANDBOX_URL", Suspect: true}},
		{"a service's own", []string{"E2B_STORAGE_PATH=/a"}, Variable{Name: "E2B_STORAGE_PATH", Shown: "set, 2 characters", Use: "not read"}},
		{"Nomad's", []string{"NOMAD_TOKEN=" + secret}, Variable{Name: "NOMAD_TOKEN", Shown: lengthOf(secret), Read: true, Use: "for live.nomad and live.loki, as their own command lines take it"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := Variables(append(test.environ, "HOME=/root"), TargetLive)
			for _, v := range all {
				if strings.Contains(v.Shown+v.Use, secret) || v.Name == "HOME" {
					t.Errorf("got %+v", v)
				}
				if v.Name == test.want.Name {
					if diff := cmp.Diff(test.want, v); diff != "" {
						t.Error(diff)
					}
					return
				}
			}
			t.Errorf("%s is not listed in %+v", test.want.Name, all)
		})
	}
}
