package envd

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"sandproof/internal/redact"
	"sandproof/internal/sandboxapi/envd/processpb"
)

// Command is a process to start.
type Command struct {
	Path string
	Args []string
	Env  map[string]string
	// Dir is the working directory; empty means the user's home.
	Dir string
	// User is always named: what envd takes for none depends on its version.
	User string
	// Tag names the process for later calls; optional.
	Tag string
	// PTY gives the process a terminal of this size.
	PTY *Size
	// Lifetime is how long the process may live, chosen on purpose: envd
	// kills it then. It is also the bound of the call. A context's own
	// deadline never reaches envd.
	Lifetime time.Duration
	// OutputLimit bounds each kind of output that is kept, in bytes; what
	// exceeds it is read and thrown away.
	OutputLimit int
}

// Size is a terminal's size in characters.
type Size struct{ Cols, Rows uint32 }

// Result is a process that ended.
type Result struct {
	PID uint32
	// ExitCode is -1 for a process that a signal ended.
	ExitCode int32
	Exited   bool
	// Status is envd's words, harmless to show: "exit status 1", "signal:
	// killed".
	Status string
	Stdout []byte
	Stderr []byte
	// PTY is what a terminal showed, where there was one.
	PTY []byte
	// Truncated is true when output exceeded its limit.
	Truncated bool
}

// Run starts a process with its standard input closed and waits for its end.
// Only an end event that came is an end: a stream that breaks off before is
// an error, whatever it had said.
func (c *Client) Run(ctx context.Context, command Command) (Result, error) {
	op := fmt.Sprintf("run %s as %s", command.Path, command.User)
	if command.Lifetime <= 0 || command.OutputLimit <= 0 || command.User == "" {
		return Result{}, fmt.Errorf("BUG: %s: a command needs a user, a lifetime and an output limit", op)
	}
	bounded, done := lifetimeOf(ctx, command)
	defer done()
	stream, err := c.start(bounded, command)
	if err != nil {
		return Result{}, c.runError(ctx, op, command, Result{}, err)
	}
	defer stream.Close()
	var result Result
	ended := false
	for stream.Receive() {
		switch event := stream.Msg().GetEvent().GetEvent().(type) {
		case *processpb.ProcessEvent_Start:
			result.PID = event.Start.GetPid()
		case *processpb.ProcessEvent_Data:
			result.add(event.Data, command.OutputLimit)
		case *processpb.ProcessEvent_End:
			// proto3 leaves zero values out: no exit code means 0, but only in
			// an end event.
			result.ExitCode, result.Exited, result.Status = event.End.GetExitCode(), event.End.GetExited(), redact.Terminal(event.End.GetStatus())
			ended = true
		}
	}
	// Err is nil only after the stream's own end frame: connect-go reports a
	// stream that just stops as an error.
	if err := stream.Err(); err != nil {
		return result, c.runError(ctx, op, command, result, err)
	}
	if !ended {
		return result, &Error{Where: AtEnvd, Op: op, Message: "the stream ended without saying how the process did"}
	}
	return result, nil
}

// lifetimeOf is a context whose deadline is the command's lifetime and nothing
// else: connect-go sends Connect-Timeout-Ms for a context's deadline, and envd
// kills the process then. The caller's own deadline only cancels.
func lifetimeOf(ctx context.Context, command Command) (bounded context.Context, done func()) {
	free, cancel := withoutDeadline(ctx)
	bounded, end := context.WithTimeout(free, command.Lifetime)
	return bounded, func() {
		end()
		cancel()
	}
}

func (c *Client) start(bounded context.Context, command Command) (*connect.ServerStreamForClient[processpb.StartResponse], error) {
	request := connect.NewRequest(startRequest(command))
	request.Header().Set("Authorization", basic(command.User))
	return c.process.Start(bounded, request)
}

// runError adds to a stream's error whose trouble it is that a lifetime was
// over: envd and this client watch it both, and whichever notices first must
// not decide that.
func (c *Client) runError(ctx context.Context, op string, command Command, result Result, err error) *Error {
	failed := c.streamError(op, err)
	switch {
	case failed.Code != connect.CodeDeadlineExceeded.String() || ctx.Err() != nil:
	case result.PID != 0:
		failed.Where = AtEnvd
		failed.Message = fmt.Sprintf("process %d had not ended when its lifetime of %s was over", result.PID, command.Lifetime)
	default:
		failed.Where = AtNetwork
		failed.Message = fmt.Sprintf("nothing was heard of the process in its lifetime of %s", command.Lifetime)
	}
	return failed
}

func startRequest(command Command) *processpb.StartRequest {
	closed := false
	request := &processpb.StartRequest{
		Process: &processpb.ProcessConfig{Cmd: command.Path, Args: command.Args, Envs: command.Env},
		Stdin:   &closed,
	}
	if command.Dir != "" {
		request.Process.Cwd = &command.Dir
	}
	if command.Tag != "" {
		request.Tag = &command.Tag
	}
	if command.PTY != nil {
		request.Pty = &processpb.PTY{Size: &processpb.PTY_Size{Cols: command.PTY.Cols, Rows: command.PTY.Rows}}
	}
	return request
}

func (r *Result) add(data *processpb.ProcessEvent_DataEvent, limit int) {
	keep := func(have, more []byte) []byte {
		if room := limit - len(have); len(more) > room {
			r.Truncated = true
			more = more[:room]
		}
		return append(have, more...)
	}
	switch output := data.GetOutput().(type) {
	case *processpb.ProcessEvent_DataEvent_Stdout:
		r.Stdout = keep(r.Stdout, output.Stdout)
	case *processpb.ProcessEvent_DataEvent_Stderr:
		r.Stderr = keep(r.Stderr, output.Stderr)
	case *processpb.ProcessEvent_DataEvent_Pty:
		r.PTY = keep(r.PTY, output.Pty)
	}
}

// withoutDeadline returns a context that ends when the given one does, for
// whatever reason, and has no deadline of its own to be told to a server.
func withoutDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	free, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return free, func() {
		stop()
		cancel(context.Canceled)
	}
}

// ProcessInfo is a process that envd runs.
type ProcessInfo struct {
	PID  uint32
	Tag  string
	Path string
	Args []string
}

// List lists the processes that envd runs.
func (c *Client) List(ctx context.Context) ([]ProcessInfo, error) {
	response, err := c.process.List(ctx, connect.NewRequest(&processpb.ListRequest{}))
	if err != nil {
		return nil, c.streamError("list processes", err)
	}
	var all []ProcessInfo
	for _, p := range response.Msg.GetProcesses() {
		all = append(all, ProcessInfo{PID: p.GetPid(), Tag: p.GetTag(), Path: p.GetConfig().GetCmd(), Args: p.GetConfig().GetArgs()})
	}
	return all, nil
}

// Signal sends SIGTERM or SIGKILL, the only signals that envd sends, to the
// process that carries a tag.
func (c *Client) Signal(ctx context.Context, tag string, signal syscall.Signal) error {
	request := &processpb.SendSignalRequest{
		Process: &processpb.ProcessSelector{Selector: &processpb.ProcessSelector_Tag{Tag: tag}},
		Signal:  processpb.Signal(signal), //nolint:gosec // a signal's number is small
	}
	if _, err := c.process.SendSignal(ctx, connect.NewRequest(request)); err != nil {
		return c.streamError(fmt.Sprintf("send %s to process %s", signal, tag), err)
	}
	return nil
}

// streamError says who is to blame for a failed call of the process service.
func (c *Client) streamError(op string, err error) *Error {
	if refused, ok := errors.AsType[*Error](err); ok {
		refused.Op = op
		return refused
	}
	failed := &Error{Where: AtNetwork, Op: op, Err: err}
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return failed
	}
	if connect.IsWireError(err) {
		return &Error{Where: AtEnvd, Op: op, Code: e.Code().String(), Message: c.secrets.String(e.Message())}
	}
	if e.Code() == connect.CodeDeadlineExceeded {
		failed.Code = e.Code().String()
	}
	return failed
}
