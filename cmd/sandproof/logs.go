package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"sandproof/internal/evidence"
	"sandproof/internal/logscan/history"
	"sandproof/internal/redact"
	"sandproof/internal/verdict"
)

func logs() *cobra.Command {
	return parent(&cobra.Command{
		Use:   "logs",
		Short: "Read orchestrator logs without a sandbox",
	}, scanLogs())
}

func scanLogs() *cobra.Command {
	var (
		since          string
		follow, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "scan PATH...",
		Short: "Search logs for what envd says when its cgroups fail",
		Long: "scan reads the orchestrator's logs below each PATH (TASK.stdout.N and TASK.stderr.N as Nomad keeps them, *.log,\n" +
			"both also as .gz, or any file that is named itself), and shows envd's cgroup failures by template, sandbox and rule.\n" +
			"It calls logs clean only where they were read whole, reach back to --since, and each that names sandboxes holds a\n" +
			"line of a guest's boot.\n\n" +
			"Exit codes: 0 clean; 1 failures; 2 unproven: unknown trouble, or not everything could be read, or nothing shows\n" +
			"that guests' consoles come out in these logs; 3 trouble of the command itself.",
		Example: "  sandproof logs scan /opt/nomad/data/alloc\n  sandproof logs scan --since 12h --json /opt/nomad/data/alloc\n  sandproof logs scan --follow /opt/nomad/data/alloc",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return err
			}
			if follow && since != "" {
				return errors.New("--since looks back and --follow forward: give one of them")
			}
			out := cmd.OutOrStdout()
			options := history.Options{Since: from, Redactor: redactor()}
			read := history.Scan
			if !follow {
				// Most of what a scan holds is there from its start, and to look for
				// garbage so early costs more than to keep it.
				debug.SetGCPercent(400)
				debug.SetMemoryLimit(48 << 20)
			} else {
				read, options.Seen = history.Follow, func(f history.Finding) { showFinding(out, f, asJSON) }
			}
			report, err := read(cmd.Context(), args, options)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeLogsReport(out, report, !follow)
			} else {
				showLogs(out, report, terminalOf(out).Width)
			}
			if code := logsExit[report.Result]; err == nil && code != verdict.ExitIsolated {
				return exitError(code)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "count records from then on: a `time` such as 12h ago, or 2026-01-20T22:00:00Z")
	cmd.Flags().BoolVar(&follow, "follow", false, "look at what is written from now on, until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON; with --follow each finding on a line, then the report")
	return cmd
}

var logsExit = map[history.Result]int{
	history.Clean: verdict.ExitIsolated, history.Failures: verdict.ExitNotIsolated, history.Unproven: verdict.ExitUnproven,
}

// parseSince reads a time, or how long ago it was.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	ago, wrong := time.ParseDuration(text)
	if wrong == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if ago, err := time.ParseDuration(shortened(text)); wrong != nil && err == nil && ago > 0 {
		return time.Time{}, fmt.Errorf("--since %q: that is further back than can be counted (292 years); to read all there is, leave --since out", text)
	}
	return time.Time{}, fmt.Errorf("--since %q: want how long ago, such as 12h, or a time such as 2026-01-20T22:00:00Z", text)
}

// shortened is a text with a 1 for each number.
func shortened(text string) string { return regexp.MustCompile(`\d+`).ReplaceAllString(text, "1") }

func writeJSON(out io.Writer, v any, indented bool) error {
	encoder := json.NewEncoder(out)
	if indented {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(v)
}

// writeLogsReport is writeJSON for a report, one finding after the other: as one text,
// as many as a report may have take hundreds of megabytes.
func writeLogsReport(out io.Writer, r history.Report, indented bool) error {
	colon, between, last := ":", "", ""
	marshal := json.Marshal
	if indented {
		colon, between, last = ": ", "\n    ", "\n  "
		marshal = func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }
	}
	findings := r.Findings
	r.Findings = []history.Finding{}
	rest, err := marshal(r)
	if err != nil || len(findings) == 0 {
		return cmp.Or(err, writeJSON(out, r, indented))
	}
	// No text in JSON holds a quote that is not escaped, so this is the field.
	before, after, _ := strings.Cut(string(rest), `"findings"`+colon+"[]")
	w := bufio.NewWriter(out)
	fmt.Fprint(w, before, `"findings"`, colon, "[")
	for i, f := range findings {
		text, err := marshal(f)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		fmt.Fprint(w, between, strings.ReplaceAll(string(text), "\n", "\n    "))
	}
	fmt.Fprintln(w, last+"]"+after)
	return w.Flush()
}

// showFinding shows a finding as it comes.
func showFinding(out io.Writer, f history.Finding, asJSON bool) {
	if asJSON {
		_ = writeJSON(out, f, false)
		return
	}
	fmt.Fprintf(out, "%s  %s  %s %s  sandbox %s: %s\n", when(f.First), f.Class, f.Rule, f.Meaning,
		nobody(f.Sandbox), redact.Terminal(f.Example))
}

func when(t time.Time) string {
	if t.IsZero() {
		return "no time"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func nobody(name string) string {
	if name == "" {
		return "not named"
	}
	return redact.Terminal(name)
}

// shownFindings and shownTroubles are how many lines of each a terminal is
// given; --json has all.
const (
	shownFindings = 50
	shownTroubles = 20
)

// showLogs shows a report, on a terminal of so many columns; 0 where there is
// none.
func showLogs(out io.Writer, r history.Report, width int) {
	if len(r.Findings) > 0 {
		shown, left := findingsTable(r.Findings[:min(len(r.Findings), shownFindings)], width)
		fmt.Fprintln(out, shown)
		if len(left) > 0 {
			fmt.Fprintf(out, "for want of width without: %s; --json has all\n", strings.Join(left, ", "))
		}
		more(out, len(r.Findings)-shownFindings, "findings")
		if r.Dropped > 0 {
			fmt.Fprintf(out, "and %s of further findings, which were too many to be kept\n", counted(r.Dropped, "line"))
		}
		first := r.Findings[0]
		for _, f := range r.Findings {
			if f.Class == evidence.FindingFailure {
				first = f
				break
			}
		}
		fmt.Fprintf(out, "such as, at byte %d of %s:\n  %s\n", first.Offset, redact.Terminal(first.Source), redact.Terminal(first.Example))
	}
	for _, trouble := range r.Uncovered[:min(len(r.Uncovered), shownTroubles)] {
		fmt.Fprintf(out, "not read: %s\n", redact.Terminal(trouble))
	}
	more(out, len(r.Uncovered)-shownTroubles, "gaps")
	for _, name := range r.Silent[:min(len(r.Silent), shownTroubles)] {
		fmt.Fprintf(out, "no boot in: %s\n", redact.Terminal(name))
	}
	more(out, len(r.Silent)-shownTroubles, "logs without a boot")
	fmt.Fprintf(out, "%s: %s\n", r.Result, redact.Terminal(r.Reason))
	fmt.Fprintf(out, "%s, %s, %s, from %s to %s; speaking of cgroups: %s, harmless: %d\n",
		counted(r.Logs, "log"), counted(r.Files, "file"), counted(int(r.Bytes), "byte"), when(r.Oldest), when(r.Newest), counted(r.Lines, "line"), r.Benign)
}

// dispensable are the table's columns that are left out where a terminal is too
// narrow, in that order.
var dispensable = []string{"class", "last", "first", "what it says", "template"}

// findingsTable is a table of findings that fits a width, and the columns that
// were left out for it; a width of 0 fits all.
func findingsTable(findings []history.Finding, width int) (shown string, left []string) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"class", "rule", "template", "sandbox", "lines", "first", "last", "what it says"})
	for _, f := range findings {
		t.AppendRow(table.Row{f.Class, f.Rule, nobody(f.Template), nobody(f.Sandbox), f.Count, when(f.First), when(f.Last), f.Meaning})
	}
	fits := func() bool {
		shown = t.Render()
		return width == 0 || text.LongestLineLen(shown) <= width
	}
	if fits() {
		return shown, nil
	}
	const narrow = 24 // columns into which the rules' meanings are wrapped first
	configs := []table.ColumnConfig{{Name: "what it says", WidthMax: narrow, WidthMaxEnforcer: text.WrapSoft}}
	t.SetColumnConfigs(configs)
	for i := 0; !fits() && i < len(dispensable); i++ {
		left = dispensable[:i+1]
		if left[i] == "what it says" {
			configs = configs[1:]
		}
		configs = append(configs, table.ColumnConfig{Name: left[i], Hidden: true})
		t.SetColumnConfigs(configs)
	}
	return shown, left
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func more(out io.Writer, n int, what string) {
	if n > 0 {
		fmt.Fprintf(out, "and %d more %s: --json has all\n", n, what)
	}
}
