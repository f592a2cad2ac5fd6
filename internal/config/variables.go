package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Variable is an environment variable that speaks of an E2B deployment, and
// what becomes of it here.
type Variable struct {
	Name string `json:"name"`
	// Shown is its value, or for a secret and for what is not known here only
	// that it is set and how long it is; empty: it is not set.
	Shown string `json:"shown,omitempty"`
	// Read is true where this harness reads it.
	Read bool `json:"read"`
	// Use says what becomes of it.
	Use string `json:"use"`
	// Suspect is true where whoever set it expects something that does not
	// happen.
	Suspect bool `json:"suspect,omitempty"`
}

// secretVariables are those whose value is never shown: credentials of E2B, and
// of the sources of its log.
var secretVariables = []string{
	"E2B_API_KEY", "E2B_ADMIN_TOKEN", "E2B_ACCESS_TOKEN", "TESTS_E2B_API_KEY", "NOMAD_TOKEN", "LOKI_PASSWORD", "LOKI_BEARER_TOKEN",
}

// Secrets are the credentials that an environment holds. They must not come out,
// whether they are used here or not.
func Secrets(environ []string) []string {
	environment := env.ToMap(environ)
	var all []string
	for _, name := range secretVariables {
		if environment[name] != "" {
			all = append(all, environment[name])
		}
	}
	return all
}

// readVariables are the E2B variables that are read, with what they are for.
var readVariables = []struct{ name, use string }{
	{"E2B_API_KEY", "the key of the API"},
	{"E2B_API_URL", "the API"},
	{"E2B_DOMAIN", "the deployment's domain"},
	{"E2B_SANDBOX_URL", "one URL for all sandboxes"},
	{"E2B_ADMIN_TOKEN", "optional: opens the calls about nodes"},
}

// passedOver are variables of others that are not read here, and the one that
// would be; empty: nothing here is like it.
var passedOver = []struct{ name, instead, why string }{
	{"E2B_ACCESS_TOKEN", "E2B_API_KEY", "no call that is made here takes an access token"},
	{"E2B_DEBUG", "E2B_API_URL", "E2B's SDK means http://localhost:3000 by it, and this does not"},
	{"E2B_TEAM_ID", "", "the key says which team it is"},
	{"E2B_PROJECT_ID", "", "the key says which team it is"},
	{"E2B_VALIDATE_API_KEY", "", "the form of a key is the server's business"},
	{"TESTS_API_SERVER_URL", "E2B_API_URL", "it is for E2B's own integration tests"},
	{"TESTS_ENVD_PROXY", "E2B_SANDBOX_URL", "it is for E2B's own integration tests"},
	{"TESTS_E2B_API_KEY", "E2B_API_KEY", "it is for E2B's own integration tests"},
	{"TESTS_SANDBOX_TEMPLATE_ID", "-e2e.templates", "it is for E2B's own integration tests"},
}

// alike are what people write for a variable, without E2B and underscores.
var alike = map[string]string{
	"APIKEY": "E2B_API_KEY", "KEY": "E2B_API_KEY", "TOKEN": "E2B_API_KEY", "APITOKEN": "E2B_API_KEY", "SECRET": "E2B_API_KEY",
	"URL": "E2B_API_URL", "API": "E2B_API_URL", "APIHOST": "E2B_API_URL", "HOST": "E2B_API_URL", "ENDPOINT": "E2B_API_URL", "BASEURL": "E2B_API_URL",
	"APIURL": "E2B_API_URL", "APIBASEURL": "E2B_API_URL", "SERVERURL": "E2B_API_URL",
	"DOMAIN": "E2B_DOMAIN", "DOMAINNAME": "E2B_DOMAIN",
	"SANDBOXURL": "E2B_SANDBOX_URL", "SANDBOX": "E2B_SANDBOX_URL", "PROXY": "E2B_SANDBOX_URL", "PROXYURL": "E2B_SANDBOX_URL", "ENVDURL": "E2B_SANDBOX_URL",
	"ADMINTOKEN": "E2B_ADMIN_TOKEN", "ADMINKEY": "E2B_ADMIN_TOKEN",
}

// Variables lists the variables that are read, set or not, and those that are
// set, look as if they were, and are not. target is where sandboxes come from.
func Variables(environ []string, target TargetKind) []Variable {
	environment := env.ToMap(environ)
	var all []Variable
	for _, v := range readVariables {
		use := v.use
		if target == TargetLab && environment[v.name] != "" {
			use = "not used: the target is the lab"
		}
		all = append(all, Variable{Name: v.name, Shown: shownVariable(v.name, environment[v.name]), Read: true, Use: use})
	}
	if environment["CI"] != "" {
		all = append(all, Variable{Name: "CI", Shown: environment["CI"], Read: true, Use: "target auto is an error under CI"})
	}
	for _, name := range sortedNames(environment) {
		switch {
		case environment[name] == "" || slices.ContainsFunc(all, func(v Variable) bool { return v.Name == name }):
		case strings.HasPrefix(name, "NOMAD_") || strings.HasPrefix(name, "LOKI_"):
			all = append(all, Variable{Name: name, Shown: lengthOf(environment[name]), Read: true, Use: "for live.nomad and live.loki, as their own command lines take it"})
		default:
			if v, is := unread(name, environment); is {
				all = append(all, v)
			}
		}
	}
	return all
}

// unread is a variable that is set and not read, where it looks as if it were.
func unread(name string, environment map[string]string) (Variable, bool) {
	v := Variable{Name: name, Shown: lengthOf(environment[name])}
	for _, p := range passedOver {
		if p.name != name {
			continue
		}
		v.Use = "not read: " + p.why
		if p.instead != "" {
			v.Suspect = environment[p.instead] == "" && isTrue(environment[name])
			v.Use += "; set " + p.instead
		}
		return v, true
	}
	upper := strings.ToUpper(name)
	rest, isE2B := strings.CutPrefix(upper, "E2B")
	if !isE2B {
		return v, false
	}
	v.Use = "not read"
	if meant, known := alike[strings.ReplaceAll(strings.TrimPrefix(rest, "_"), "_", "")]; known {
		v.Use, v.Suspect = "not read: is "+meant+" meant?", environment[meant] == ""
	}
	return v, true
}

func sortedNames(environment map[string]string) []string {
	names := make([]string, 0, len(environment))
	for name := range environment {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func shownVariable(name, value string) string {
	if value == "" || !slices.Contains(secretVariables, name) {
		return shownText(value)
	}
	return lengthOf(value)
}

func lengthOf(value string) string { return fmt.Sprintf("set, %d characters", len(value)) }
