package sandboxapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// LogQuery says which lines of a sandbox's log are wanted. Its zero value asks
// for the newest 1000 of the last seven days, newest first.
type LogQuery struct {
	// Cursor is where to begin, to the millisecond: forward from there, or
	// backward.
	Cursor time.Time
	// Limit is how many lines are wanted: 1 to 1000, and 0 for the server's
	// 1000.
	Limit int
	// Direction is Forward or Backward; empty means backward.
	Direction string
	// Level is the lowest level that is wanted; empty means all.
	Level string
	// Search is a text of at most 256 characters that a line's message must
	// hold, in the case as written.
	Search string
}

// SandboxLogs asks for a sandbox's log: what the orchestrator says of it for
// its owner, and envd's own log stream. What envd says of its cgroups is never
// among it. An empty answer proves nothing: the server does not look whether
// there is such a sandbox, and answers 200 with an empty list when its log
// store fails (e2b-dev/infra 54693ff35). Servers before e89e1cca0 do not have
// the call, which is a Protocol error; those before 1d737bc5c take no notice of
// Level and Search.
func (c *Client) SandboxLogs(ctx context.Context, id string, q LogQuery) ([]LogEntry, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.Cursor.IsZero() {
		query.Set("cursor", strconv.FormatInt(q.Cursor.UnixMilli(), 10))
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	set("direction", q.Direction)
	set("level", q.Level)
	set("search", q.Search)
	op := "read the log of sandbox " + id
	var answer SandboxLogs
	_, err := c.repeat(ctx, op, http.MethodGet, "/v2/sandboxes/"+url.PathEscape(id)+"/logs?"+query.Encode(), &answer)
	if err == nil && answer.Logs == nil {
		err = nameless(op, http.StatusOK, "list of lines, not even an empty one")
	}
	return answer.Logs, err
}
