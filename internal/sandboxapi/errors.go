package sandboxapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/redact"
)

// Kind says what a caller can do about an error.
type Kind string

// The kinds of errors.
const (
	// Transient: the server or the way to it is in trouble. The call may have
	// had effects: real servers answer 500 to deletes and time-outs that
	// were carried out.
	Transient Kind = "transient"
	// NotFound: there is no such object, or, while the server's own store is
	// down, it cannot be seen.
	NotFound Kind = "not-found"
	// Unauthorised: the key was refused. A server whose database is down
	// refuses valid keys with the same words.
	Unauthorised Kind = "unauthorised"
	// Capacity: no room for another sandbox, by the team's limit or the
	// cluster's.
	Capacity Kind = "capacity"
	// RateLimited: too many requests; RetryAfter says how long to wait.
	RateLimited Kind = "rate-limited"
	// Validation: the request was wrong.
	Validation Kind = "validation"
	// Protocol: the answer was not one of E2B's.
	Protocol Kind = "protocol"
)

// Error is a failed call: what was tried, on which object, what came back and
// what to do.
type Error struct {
	Kind Kind
	// Op is the call, as in "create a sandbox of template base".
	Op string
	// Status is the HTTP status, 0 when no answer came.
	Status int
	// Code is E2B's error_code, where the server gives one.
	Code string
	// Message is what the server said, secrets removed, bounded.
	Message string
	// RetryAfter is the server's wish, 0 where it gave none.
	RetryAfter time.Duration
	// Err is the cause where no answer came, or why no more tries were made.
	Err error

	// idle is true where the call cannot have changed anything.
	idle bool
	// variable is the environment variable of the call's credential.
	variable string
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(redact.Terminal(e.Op))
	if e.Status != 0 {
		fmt.Fprintf(&b, ": the API answered %d", e.Status)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %s", redact.Terminal(e.Err.Error()))
	}
	if advice := e.advice(); advice != "" {
		fmt.Fprintf(&b, " (%s)", advice)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// advice says what is known of the failure, what is not, and what to do. What
// real servers were seen to do is from e2b-dev/infra 54693ff35.
func (e *Error) advice() string {
	switch e.Kind {
	case Transient:
		return e.trouble()
	case NotFound:
		return "it does not exist, or belongs to another team; or the server's store is down, and then its lists fail too"
	case Unauthorised:
		switch {
		case e.Status == http.StatusForbidden:
			return "the credential was known, but does not reach this far: the object is another team's, or the team is blocked"
		case e.variable == adminVariable:
			return "check " + adminVariable
		}
		return "check E2B_API_KEY; a server whose database is down refuses valid keys in the same words"
	case Capacity:
		if e.Status == http.StatusTooManyRequests {
			return "nothing was started: the team's limit is reached, and stays so until one of its sandboxes ends"
		}
		return "the cluster found no room for the sandbox: wait, or end others"
	case RateLimited:
		if e.RetryAfter == 0 {
			return "nothing was done: too many requests, so wait a while"
		}
		return fmt.Sprintf("nothing was done: too many requests, so wait %s", e.RetryAfter)
	case Validation:
		if e.Status == http.StatusConflict {
			return "it is in another state than the call needs, or on its way to one: look at it"
		}
		return "the request does not suit this server"
	case Protocol:
		return "is this the URL of an E2B API, and no proxy before it in trouble?"
	}
	return ""
}

// trouble is the advice where the server or the way to it failed. A delete, a
// pause and a time-out answered with 500 have been seen to be carried out.
func (e *Error) trouble() string {
	switch {
	case e.Status == 0 && e.idle:
		return "is the API up and the URL right?"
	case e.Status == 0:
		return "no answer came, so whether it was done is not known: look before asking again; is the API up and the URL right?"
	case e.idle:
		return "trouble on the server's side"
	}
	return "trouble on the server's side; the call may have had effects all the same: look before asking again"
}

// refusals are the statuses of calls that E2B's servers refuse before they do
// anything. A placement that timed out (500, 503, 504) may end in a sandbox, and
// what a proxy on the way answers (408, 409, 499 and all others) tells nothing.
var refusals = []int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestEntityTooLarge,
	http.StatusTooManyRequests,
}

// HadNoEffect tells that a call surely changed nothing: it never reached the
// server, or an E2B server refused it.
func (e *Error) HadNoEffect() bool {
	return e.idle || e.Kind != Protocol && slices.Contains(refusals, e.Status)
}

// KindOf returns the kind of an error that came from this package, else the
// empty kind.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// maxMessage bounds what is kept of an error's text, in bytes.
const maxMessage = 4000

// errorOf makes an error of an answer that is no success, without the secrets.
func errorOf(op string, status int, header http.Header, body []byte, secrets *redact.Redactor) *Error {
	e := &Error{Op: op, Status: status, RetryAfter: retryAfter(header)}
	var parsed struct {
		Message   string `json:"message"`
		ErrorCode string `json:"error_code"`
	}
	isJSON := json.Unmarshal(body, &parsed) == nil && parsed.Message != ""
	if isJSON {
		e.Message, e.Code = shown(parsed.Message, secrets), parsed.ErrorCode
	} else {
		e.Message = shown(strings.TrimSpace(string(body)), secrets)
	}
	e.Kind = kindOf(e, isJSON)
	return e
}

// shown is a text without secrets, which are taken out before it is cut: half a
// secret would be known to nobody any more.
func shown(text string, secrets *redact.Redactor) string {
	text = secrets.String(text)
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return redact.Terminal(text)
}

// Codes of a create that failed on a node (e2b-dev/infra c4264309b).
const (
	CodeCreateFailed = "sandbox_create_failed"
	CodeInternal     = "internal_server_error"
)

// placementFailed begins the message of every failed placement of servers
// before c4264309b, which answer a plain 500 (e2b-dev/infra).
const placementFailed = "Failed to place sandbox"

func kindOf(e *Error, isJSON bool) Kind {
	switch {
	case strings.HasPrefix(e.Message, placementFailed),
		e.Code == "sandbox_capacity_unavailable", e.Code == "sandbox_placement_timeout", e.Code == "sandbox_no_compatible_node":
		return Capacity
	case e.Status == http.StatusTooManyRequests && e.RetryAfter == 0 && strings.Contains(e.Message, "maximum number of concurrent"):
		return Capacity
	case e.Status == http.StatusTooManyRequests:
		return RateLimited
	case e.Status >= 500:
		return Transient
	case !isJSON && e.Status != http.StatusRequestEntityTooLarge:
		return Protocol
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return Unauthorised
	case e.Status == http.StatusNotFound && strings.HasPrefix(e.Message, "validation error:"):
		// The server knows neither path nor method: not a missing object.
		return Protocol
	case e.Status == http.StatusNotFound:
		return NotFound
	case e.Status >= 400:
		return Validation
	}
	return Protocol
}

// retryAfter reads the header's whole seconds; the servers send no dates.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
