package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sandproof/internal/config"
	"sandproof/internal/rundir"
	"sandproof/internal/sandboxapi"
)

// nothingToJudge is the one sentence by which a gate without a run may end
// green: an empty output never says it.
const nothingToJudge = "nothing to judge"

// discovery is what is to be judged, and what is not, with the reason of each.
type discovery struct {
	// Says is the whole in one sentence.
	Says    string    `json:"says"`
	Since   []string  `json:"since"`
	Judge   []offered `json:"judge"`
	LeftOut []offered `json:"leftOut"`
}

// offered is one template that the API offers.
type offered struct {
	Name       string `json:"name"`
	TemplateID string `json:"templateID,omitempty"`
	BuildID    string `json:"buildID,omitempty"`
	Reason     string `json:"reason"`
}

func templates() *cobra.Command {
	var since []string
	format, shards := "", 0
	cmd := &cobra.Command{
		Use:   "templates [--changed-since RUN|FILE] [-- SUITE FLAGS]",
		Short: "List the templates that are new or were rebuilt since they were last green",
		Long: "templates asks the API which templates it offers, and lists those whose build was not judged isolated yet, by this\n" +
			"profile or one that asks for more: new ones, and those that were rebuilt. Without --changed-since it lists all.\n" +
			"Templates of ginkgo.yml that the API does not list (another team's, or a tag) are always listed: a rebuild of them\n" +
			"could not be seen. With -e2e.templates=A,B it lists those, whatever was green. A template without a finished build is\n" +
			"left out, unless ginkgo.yml names it.\n\n" +
			"Where there is none, every format says \"" + nothingToJudge + "\" (json: in says); no output is ever empty.\n" +
			"Exit codes: 0 listed; 3 trouble of the API or the configuration, and then nothing is known.",
		Example: "  templates=$(sandproof templates --changed-since last-green.json --format names) && make e2e TARGET=live TEMPLATES=\"$templates\"\n" +
			"  sandproof templates --changed-since runs/nightly --format github-matrix --shards 4",
		RunE: func(cmd *cobra.Command, args []string) error {
			// Whoever misspells the format is told before the API is asked.
			if !slices.Contains([]string{"text", "names", "json", "github-matrix"}, format) {
				return fmt.Errorf("--format %q: want text, names, json or github-matrix", format)
			}
			if shards < 1 {
				return fmt.Errorf("--shards %d: want 1 or more", shards)
			}
			from, err := sources(args)
			if err != nil {
				return err
			}
			// Where nobody names templates the API is asked which there are.
			from.Unnamed = true
			c, err := config.Load(from)
			if err != nil {
				return err
			}
			if c.Target != config.TargetLive {
				return fmt.Errorf("templates asks an E2B API, and the target is %s: set E2B_API_URL or E2B_DOMAIN, and E2B_API_KEY", c.Target)
			}
			if from.Flags.Templates != "" {
				d := named(c)
				text, err := d.render(format, shards)
				fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			}
			greens := rundir.NewGreens(string(c.Target))
			for _, path := range since {
				if err := addGreens(&greens, path); err != nil {
					return err
				}
			}
			d, err := discover(cmd.Context(), c, greens)
			if err != nil {
				return err
			}
			d.Since = since
			text, err := d.render(format, shards)
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), text)
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&since, "changed-since", nil, "what was green: a gated `run` directory, or a file of sandproof green; may be given more than once")
	cmd.Flags().StringVar(&format, "format", "text", "text, names (comma-separated, for TEMPLATES=), json or github-matrix")
	cmd.Flags().IntVar(&shards, "shards", 1, "for github-matrix: the `number` of jobs over which the templates are spread, at most")
	return cmd
}

// named is what somebody chose, whatever was green and whatever the API lists.
func named(c config.Config) discovery {
	d := discovery{Judge: []offered{}, LeftOut: []offered{}, Says: fmt.Sprintf("%d named templates to judge", len(c.Whole))}
	for _, t := range c.Whole {
		d.Judge = append(d.Judge, offered{Name: t.Name, Reason: "named"})
	}
	return d
}

// addGreens adds what a gated run or a file knows to be green, and what not.
func addGreens(all *rundir.Greens, path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		run, err := rundir.Open(path, redactor())
		if err != nil {
			return err
		}
		return all.Update(run)
	}
	greens, err := rundir.LoadGreens(path)
	if err != nil {
		return err
	}
	if greens.Target != all.Target {
		return fmt.Errorf("%s is of target %s, which says nothing of target %s", path, greens.Target, all.Target)
	}
	all.Merge(greens)
	return nil
}

// discover asks the API and compares.
func discover(ctx context.Context, c config.Config, greens rundir.Greens) (discovery, error) {
	client, err := sandboxapi.New(sandboxapi.Options{
		APIURL: c.Live.APIURL, Domain: c.Live.Domain, SandboxURL: c.Live.SandboxURL, APIKey: c.Live.APIKey, AdminToken: c.Live.AdminToken,
		UserAgent: "sandproof templates", CreateTimeout: c.Intervals.Create, RequestTimeout: c.Intervals.Request,
	})
	if err != nil {
		return discovery{}, err
	}
	all, err := client.ListTemplates(ctx)
	if err != nil {
		return discovery{}, err
	}
	if len(all) == 0 {
		return discovery{}, errors.New("the API lists no template for this key, so nothing can be compared: is E2B_API_KEY of the team that owns the templates?")
	}
	d := discovery{Judge: []offered{}, LeftOut: []offered{}}
	for _, t := range all {
		for _, entry := range entries(t, c.Inventory) {
			o := offered{Name: entry.Name, TemplateID: t.TemplateID, BuildID: t.BuildID}
			if !config.ValidName(o.Name) {
				return discovery{}, fmt.Errorf("the API lists a template by the ID %q, which cannot be asked for: is this an E2B API?", o.Name)
			}
			if o.BuildID != "" && !config.ValidName(o.BuildID) {
				return discovery{}, fmt.Errorf("the API lists template %s with the build %q, which is no ID: is this an E2B API?", o.Name, o.BuildID)
			}
			judge, err := o.compare(ctx, client, greens, c, entry)
			switch {
			case err != nil:
				return discovery{}, err
			case judge:
				d.Judge = append(d.Judge, o)
			default:
				d.LeftOut = append(d.LeftOut, o)
			}
		}
	}
	for _, t := range c.Inventory {
		if !slices.ContainsFunc(all, func(a sandboxapi.Template) bool { return goesBy(a, t.Name) }) {
			d.Judge = append(d.Judge, offered{Name: t.Name, Reason: "the API lists no build of that name for this team, so a rebuild could not be seen"})
		}
	}
	d.order(c.Inventory)
	d.Says = fmt.Sprintf("%d of %d templates to judge", len(d.Judge), len(d.Judge)+len(d.LeftOut))
	if len(d.Judge) == 0 {
		unbuilt := 0
		for _, o := range d.LeftOut {
			if o.unbuilt() {
				unbuilt++
			}
		}
		d.Says = fmt.Sprintf("%s: none of the %d templates is new or was rebuilt", nothingToJudge, len(d.LeftOut))
		switch unbuilt {
		case 0:
		case len(d.LeftOut):
			// Of a list in which nothing was ever green, nothing is known.
			return discovery{}, fmt.Errorf("the API lists no finished build of any of %d templates, such as %s, so nothing is known of them: "+
				"finish a build, or name the templates to judge (-e2e.templates=A,B)", unbuilt, d.LeftOut[0].Name)
		default:
			d.Says += fmt.Sprintf("; %d have no finished build, and no sandbox can be made of them", unbuilt)
		}
	}
	return d, nil
}

// unbuilt tells whether the API lists the ID of no build.
func (o *offered) unbuilt() bool { return sandboxapi.Template{BuildID: o.BuildID}.Unbuilt() }

// compare tells whether a template is to be judged, and why. entry is what the
// configuration says of it.
func (o *offered) compare(ctx context.Context, client *sandboxapi.Client, greens rundir.Greens, c config.Config, entry config.Template) (judge bool, err error) {
	g, known := greens.Builds[o.TemplateID]
	switch {
	case o.BuildID == "":
		o.Reason = "the API does not tell its build, so a rebuild could not be seen"
		return true, nil
	case o.unbuilt():
		o.Reason = "it has no finished build, so no sandbox can be made of it"
		// What the configuration names is asked for, whatever the list says.
		judge = slices.ContainsFunc(c.Inventory, func(t config.Template) bool { return t.Name == o.Name })
		if judge {
			o.Reason = "the API lists no finished build of it, and the configuration names it"
		}
		return judge, nil
	case entry.BuildID != "" && !strings.EqualFold(entry.BuildID, o.BuildID):
		o.Reason = fmt.Sprintf("the configuration asks for build %s, and the API lists another", entry.BuildID)
		return true, nil
	case !known:
		o.Reason = "new, or not isolated when it was last judged"
		return true, nil
	case !strings.EqualFold(g.BuildID, o.BuildID):
		o.Reason = fmt.Sprintf("rebuilt: build %s was green in run %s", g.BuildID, g.Run)
		return true, nil
	case !g.Profile.Covers(c.Profile):
		o.Reason = fmt.Sprintf("this build was green in run %s by profile %s only", g.Run, g.Profile)
		return true, nil
	case max(g.Sandboxes, 1) < c.Sandboxes(entry):
		o.Reason = fmt.Sprintf("this build was green in run %s by %d sandboxes only, and %d are to be judged", g.Run, max(g.Sandboxes, 1), c.Sandboxes(entry))
		return true, nil
	case g.Harness != version:
		o.Reason = fmt.Sprintf("this build was green in run %s by sandproof %s, and this is %s", g.Run, g.Harness, version)
		return true, nil
	}
	// The same build may have been built once more under its ID.
	template, err := client.GetTemplate(ctx, o.TemplateID)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(template.Builds, func(b sandboxapi.Build) bool { return strings.EqualFold(b.BuildID, o.BuildID) })
	if i < 0 {
		o.Reason = "the API does not tell when its build was made"
		return true, nil
	}
	if made := finished(template.Builds[i]); made.After(g.Judged) {
		o.Reason = fmt.Sprintf("rebuilt: its build is of %s, and was green in run %s of %s", made.Format(time.RFC3339), g.Run, g.Judged.Format(time.RFC3339))
		return true, nil
	}
	o.Reason = fmt.Sprintf("this build was green in run %s of %s by profile %s", g.Run, g.Judged.Format(time.RFC3339), g.Profile)
	return false, nil
}

// finished is when a build was made; a server that does not tell tells when it
// last touched it.
func finished(b sandboxapi.Build) time.Time {
	switch {
	case b.FinishedAt != nil:
		return *b.FinishedAt
	case b.UpdatedAt.After(b.CreatedAt):
		return b.UpdatedAt
	}
	return b.CreatedAt
}

// order puts what is to be judged in the order of the inventory, and what
// that lacks behind it, by name.
func (d *discovery) order(inventory []config.Template) {
	rank := func(o offered) int {
		if i := slices.IndexFunc(inventory, func(t config.Template) bool { return t.Name == o.Name }); i >= 0 {
			return i
		}
		return len(inventory)
	}
	by := func(a, b offered) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name)) }
	slices.SortFunc(d.Judge, by)
	slices.SortFunc(d.LeftOut, by)
}

// entries are the names by which a template is asked for, with what the
// configuration says of each: the inventory's, else its first that can stand in a
// list, else its ID.
func entries(t sandboxapi.Template, inventory []config.Template) []config.Template {
	known := slices.DeleteFunc(slices.Clone(inventory), func(entry config.Template) bool { return !goesBy(t, entry.Name) })
	if len(known) > 0 {
		return known
	}
	for _, name := range slices.Concat(t.Aliases, t.Names) {
		if config.ValidName(name) {
			return []config.Template{{Name: name}}
		}
	}
	return []config.Template{{Name: t.TemplateID}}
}

// goesBy tells whether a template, as it is listed, is the one of that name: a
// tag other than the default one stands for a build that no list tells.
func goesBy(t sandboxapi.Template, name string) bool {
	plain := strings.TrimSuffix(name, ":default")
	return t.TemplateID == plain || slices.Contains(t.Aliases, plain) || slices.Contains(t.Names, plain)
}

func (d *discovery) names() string {
	names := make([]string, 0, len(d.Judge))
	for _, o := range d.Judge {
		names = append(names, o.Name)
	}
	return strings.Join(names, ",")
}

// job is one job of a matrix of GitHub Actions.
type job struct {
	Shard     string `json:"shard"`
	Number    int    `json:"number"` // for names of artifacts, which have no slash
	Templates string `json:"templates"`
}

func (d *discovery) render(format string, shards int) (string, error) {
	switch {
	case format == "json":
		data, err := json.MarshalIndent(d, "", "  ")
		return string(data) + "\n", err
	case format != "text" && len(d.Judge) == 0:
		return nothingToJudge + "\n", nil
	case format == "names":
		return d.names() + "\n", nil
	case format == "github-matrix":
		matrix := struct {
			Include []job `json:"include"`
		}{}
		of := min(shards, len(d.Judge))
		for n := range of {
			matrix.Include = append(matrix.Include, job{fmt.Sprintf("%d/%d", n+1, of), n + 1, d.names()})
		}
		data, err := json.Marshal(matrix)
		return string(data) + "\n", err
	}
	return d.text(), nil
}

func (d *discovery) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, d.Says)
	for _, part := range []struct {
		title string
		of    []offered
	}{{"to judge", d.Judge}, {"left out", d.LeftOut}} {
		for _, o := range part.of {
			fmt.Fprintf(&b, "  %s: %s", part.title, o.Name)
			if o.BuildID != "" {
				fmt.Fprintf(&b, " (build %s)", o.BuildID)
			}
			fmt.Fprintf(&b, ": %s\n", harmless(o.Reason))
		}
	}
	return b.String()
}
