package envd

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sandproof/internal/sandboxapi/envd/processpb"
	"sandproof/internal/sandboxapi/envd/processpb/processpbconnect"
)

// echo is an envd whose only program shows what is typed, until the end of the
// input, and then ends with exit code 3.
type echo struct {
	processpbconnect.UnimplementedProcessHandler

	typed chan []byte
	sizes chan uint32
	broke bool
}

func (e *echo) Start(ctx context.Context, _ *connect.Request[processpb.StartRequest], stream *connect.ServerStream[processpb.StartResponse]) error {
	if err := stream.Send(&processpb.StartResponse{Event: start(7)}); err != nil || e.broke {
		return err
	}
	for {
		select {
		case text := <-e.typed:
			show := &processpb.ProcessEvent_Data{Data: &processpb.ProcessEvent_DataEvent{Output: &processpb.ProcessEvent_DataEvent_Pty{Pty: text}}}
			if err := stream.Send(&processpb.StartResponse{Event: &processpb.ProcessEvent{Event: show}}); err != nil {
				return err
			}
			if bytes.Contains(text, []byte{endOfText}) {
				return stream.Send(&processpb.StartResponse{Event: end(&processpb.ProcessEvent_EndEvent{Exited: true, ExitCode: 3})})
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *echo) SendInput(_ context.Context, r *connect.Request[processpb.SendInputRequest]) (*connect.Response[processpb.SendInputResponse], error) {
	if r.Msg.GetProcess().GetPid() == 7 {
		e.typed <- r.Msg.GetInput().GetPty()
	}
	return connect.NewResponse(&processpb.SendInputResponse{}), nil
}

func (e *echo) Update(_ context.Context, r *connect.Request[processpb.UpdateRequest]) (*connect.Response[processpb.UpdateResponse], error) {
	e.sizes <- r.Msg.GetPty().GetSize().GetCols()
	return connect.NewResponse(&processpb.UpdateResponse{}), nil
}

func (e *echo) client(t *testing.T) *Client {
	t.Helper()
	e.typed, e.sizes = make(chan []byte, 8), make(chan uint32, 1)
	_, handler := processpbconnect.NewProcessHandler(e)
	return serve(t, handler, "")
}

func shell() Command {
	return Command{Path: "/bin/sh", User: "root", PTY: &Size{Cols: 80, Rows: 24}, Lifetime: 10 * time.Second}
}

func TestTerminal(t *testing.T) {
	e := &echo{}
	resized := make(chan Size, 1)
	resized <- Size{Cols: 132, Rows: 50}
	var out bytes.Buffer
	// A size is told as it comes; the input ends only after that.
	in, typing := io.Pipe()
	c := e.client(t)
	go func() {
		_, _ = io.WriteString(typing, "ls\x1b[A\n")
		if got := <-e.sizes; got != 132 {
			t.Errorf("the terminal was made %d wide", got)
		}
		_ = typing.Close()
	}()
	code, err := c.Terminal(t.Context(), shell(), in, &out, resized)
	if err != nil || code != 3 {
		t.Errorf("exit code %d, %v", code, err)
	}
	if want := "ls\x1b[A\n\x04"; out.String() != want {
		t.Errorf("it showed %q, want %q", out.String(), want)
	}
}

func TestTerminalThatBreaksOff(t *testing.T) {
	e := &echo{broke: true}
	if _, err := e.client(t).Terminal(t.Context(), shell(), strings.NewReader(""), io.Discard, nil); err == nil {
		t.Error("a stream without an end is no end")
	}
	bad := shell()
	bad.PTY = nil
	if _, err := (&echo{}).client(t).Terminal(t.Context(), bad, strings.NewReader(""), io.Discard, nil); err == nil || !strings.Contains(err.Error(), "BUG") {
		t.Errorf("got %v", err)
	}
}

func TestTerminalEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	silent, typing := io.Pipe()
	t.Cleanup(func() { _ = typing.Close() })
	if _, err := (&echo{}).client(t).Terminal(ctx, shell(), silent, io.Discard, nil); err == nil {
		t.Error("no error")
	}
}
