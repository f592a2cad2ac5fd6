package logscan

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/evidence"
)

// Loki is a log that was shipped to Loki, read by query_range. Its silence
// counts only where the canary came out of it. e2b-dev/infra ships envd's own
// records there and not the guest's console (54693ff35, vector's configuration),
// so that it can be silent about a broken guest; and boot lines that came do not
// show that what envd said after them has come.
//
// The canary is written last, so that it shows what was said before, as long as
// lines arrive in the order in which they were logged. Loki does not promise
// that: up to 2.3 it refused what came out of order within a stream, later
// versions take it, and between streams there never was an order. So it is asked
// twice, at the end mark and after Delay: where a line of the sandbox came after
// a later one had come, order is not kept and silence proves nothing. A line that
// comes after Delay, or is dropped on its way where the canary was not, is not
// seen.
//
// Address and credentials are those of the LOKI_ variables, as for logcli,
// Loki's own command line: LOKI_ADDR, LOKI_USERNAME, LOKI_PASSWORD,
// LOKI_BEARER_TOKEN and LOKI_ORG_ID.
type Loki struct {
	// Query selects the stream, such as {service="orchestrator"}.
	Query string
	// Delay is how long a line may be on its way; the end mark waits for it.
	Delay time.Duration
	// Timeout bounds one request.
	Timeout time.Duration

	via http.RoundTripper // nil is the network
}

// lokiAddress is where logcli looks where nothing else is said.
const lokiAddress = "http://localhost:3100"

// lokiSkew is by how much the clock that stamps lines may be wrong. A window cut
// too short by it would lose the first lines of a boot and keep the last, which
// look like health. Lines of other boots name other sandboxes.
const lokiSkew = 2 * time.Minute

// lokiPage is how many lines one answer may hold; servers allow 5000 where
// nobody changed that (max_entries_limit_per_query).
const lokiPage = 5000

// Name implements Source.
func (l Loki) Name() string { return "Loki, " + l.Query }

// Open implements Source.
func (l Loki) Open(ctx context.Context) (Stretch, error) {
	header := http.Header{}
	bearer, user := os.Getenv("LOKI_BEARER_TOKEN"), os.Getenv("LOKI_USERNAME")
	switch {
	case bearer != "":
		header.Set("Authorization", "Bearer "+bearer)
	case user != "":
		request := http.Request{Header: header}
		request.SetBasicAuth(user, os.Getenv("LOKI_PASSWORD"))
	}
	if tenant := os.Getenv("LOKI_ORG_ID"); tenant != "" {
		header.Set("X-Scope-OrgID", tenant)
	}
	now := time.Now()
	s := &lokiStretch{source: l, server: newEndpoint(l.Timeout, header, l.via), from: now.Add(-lokiSkew)}
	// A query that the server does not take must fail before a sandbox is made.
	if _, err := s.page(ctx, s.from, now, 1); err != nil {
		return nil, err
	}
	return s, nil
}

type lokiStretch struct {
	source   Loki
	server   endpoint
	from, to time.Time
	sandbox  string
	early    arrival // when the end mark was set
	troubles []string
}

// arrival is what had come of the sandbox's lines when Loki was asked.
type arrival struct {
	newest int64 // the last line's time, nanoseconds since 1970
	before int   // how many lines are older than that
	latest int   // how many are of that moment
}

// add takes the next line, oldest first.
func (a *arrival) add(at int64) {
	if at > a.newest {
		a.newest, a.before, a.latest = at, a.before+a.latest, 0
	}
	a.latest++
}

// entry is one line with the sandbox that its stream's labels name.
type entry struct {
	at      int64 // nanoseconds since 1970
	line    string
	sandbox string
	stream  string // the labels, as a key
}

// page asks for one page, oldest first; start counts, end does not.
func (s *lokiStretch) page(ctx context.Context, start, end time.Time, limit int) ([]entry, error) {
	fail := func(err error) ([]entry, error) {
		return nil, fmt.Errorf("query %s: %w", s.source.Name(), err)
	}
	body, err := s.server.get(ctx, strings.TrimSuffix(cmp.Or(os.Getenv("LOKI_ADDR"), lokiAddress), "/")+"/loki/api/v1/query_range?"+url.Values{
		"query": {s.source.Query}, "limit": {strconv.Itoa(limit)}, "direction": {"forward"},
		"start": {strconv.FormatInt(start.UnixNano(), 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
	}.Encode())
	if err != nil {
		return fail(err)
	}
	defer func() { _ = body.Close() }()
	var answer struct {
		Data struct {
			ResultType string
			Result     []struct {
				Stream map[string]string
				// A value is time, line, and maybe structured metadata.
				Values [][]json.RawMessage
			}
		}
	}
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&answer); err != nil {
		return fail(err)
	}
	if answer.Data.ResultType != "streams" {
		return fail(fmt.Errorf("it answers with %q; give a query for log lines, such as {service=\"orchestrator\"}", answer.Data.ResultType))
	}
	var entries []entry
	for _, r := range answer.Data.Result {
		labels, err := json.Marshal(r.Stream) // sorted by name
		if err != nil {
			return fail(err)
		}
		for _, value := range r.Values {
			e := entry{stream: string(labels), sandbox: cmp.Or(r.Stream["sandboxID"], r.Stream["sandbox_id"])}
			if len(value) < 2 {
				return fail(errors.New("a value is no pair of time and line"))
			}
			var stamp string
			if err := errors.Join(json.Unmarshal(value[0], &stamp), json.Unmarshal(value[1], &e.line)); err != nil {
				return fail(err)
			}
			if e.at, err = strconv.ParseInt(stamp, 10, 64); err != nil {
				return fail(err)
			}
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	return entries, nil
}

// Came implements Stretch: a log that comes late says nothing by being quiet
// now; Seal waits for what is on its way.
func (s *lokiStretch) Came(...[]byte) []bool { return nil }

// Seal implements Stretch: what was logged before the end mark is on its way for
// a while yet. What has come by then is looked at first.
func (s *lokiStretch) Seal(ctx context.Context, sandbox string) error {
	s.sandbox, s.to = sandbox, time.Now().Add(lokiSkew)
	err := s.walk(ctx, func(e entry) {
		if s.own(e) {
			s.early.add(e.at)
		}
	})
	if err != nil {
		s.troubles = append(s.troubles, err.Error())
	}
	select {
	case <-time.After(s.source.Delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.to = time.Now().Add(lokiSkew)
	return nil
}

// own tells whether an entry names the sandbox.
func (s *lokiStretch) own(e entry) bool {
	return e.sandbox == s.sandbox || strings.Contains(e.line, s.sandbox)
}

// Read implements Stretch. Loki has no files: offsets count the bytes that were
// handed out.
func (s *lokiStretch) Read(ctx context.Context, chunk func(stream, source string, offset int64, data []byte)) ([]evidence.Coverage, []string) {
	var offset int64
	before := 0 // lines older than the newest of the first look
	err := s.walk(ctx, func(e entry) {
		if s.own(e) && e.at < s.early.newest {
			before++
		}
		for _, line := range e.lines() {
			chunk(e.stream, s.source.Name(), offset, line)
			offset += int64(len(line))
		}
	})
	troubles := s.troubles
	switch {
	case err != nil:
		troubles = append(troubles, err.Error())
	case before > s.early.before:
		troubles = append(troubles, fmt.Sprintf("%s does not keep the order of lines: %d of this sandbox came after later ones had come, "+
			"so that others may still be on their way", s.source.Name(), before-s.early.before))
	case before < s.early.before:
		troubles = append(troubles, fmt.Sprintf("%s gives %d lines of this sandbox no more that it gave %s ago",
			s.source.Name(), s.early.before-before, s.source.Delay))
	}
	return []evidence.Coverage{{Source: s.source.Name(), To: offset}}, troubles
}

// walk hands out every entry of the window once, oldest first, until an error.
func (s *lokiStretch) walk(ctx context.Context, each func(entry)) error {
	var last map[entry]bool
	for start := s.from; ; {
		page, err := s.page(ctx, start, s.to, lokiPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			// A page begins with the moment at which the one before ended, so
			// that nothing of that moment is lost.
			if !last[e] {
				each(e)
			}
		}
		if len(page) < lokiPage {
			return nil
		}
		end := time.Unix(0, page[len(page)-1].at)
		if !end.After(start) {
			return fmt.Errorf("%s holds %d lines or more of one moment, which cannot be paged", s.source.Name(), lokiPage)
		}
		start, last = end, map[entry]bool{}
		for _, e := range page {
			if e.at == end.UnixNano() {
				last[e] = true
			}
		}
	}
}

// Late implements Stretch.
func (s *lokiStretch) Late() string {
	return fmt.Sprintf("the canary did not come out of %s within %s (log-delay), so that what else was said may still be on its way, too",
		s.source.Name(), s.source.Delay)
}

// lines are the entry's physical lines, each with its end: clients may send a
// stack trace as one. A line that names no sandbox, where the entry's first line
// or its labels do, becomes a record that does.
func (e entry) lines() [][]byte {
	var lines [][]byte
	for i, text := range strings.Split(strings.TrimRight(e.line, "\n"), "\n") {
		line := []byte(text)
		named := Parse(line).SandboxID
		if i == 0 {
			e.sandbox = cmp.Or(named, e.sandbox)
		}
		if named == "" && e.sandbox != "" {
			record, message := decode(line)
			field := "message"
			if record.bare {
				field = dockerField
			}
			object, err := json.Marshal(map[string]string{
				"sandbox.id": e.sandbox, field: message, "timestamp": time.Unix(0, e.at).UTC().Format(time.RFC3339Nano),
			})
			if err == nil { // else it stays a line that names nobody
				line = object
			}
		}
		lines = append(lines, append(line, '\n'))
	}
	return lines
}

// TailLost implements Stretch; there is no follower.
func (s *lokiStretch) TailLost() int { return 0 }

// Close implements Stretch; nothing is held.
func (s *lokiStretch) Close() {}
