package envd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"

	"sandproof/internal/sandboxapi/envd/processpb"
)

// inputPiece is how much of a terminal's input is sent at once, in bytes.
const inputPiece = 4 << 10

// sendTime bounds the sending of one piece of input.
const sendTime = 30 * time.Second

// Terminal runs a command in a terminal of the sandbox: what comes from in goes
// to it, what it shows goes to out as it is, and its size follows resized. It
// returns the command's exit code. The command must have a PTY and a lifetime;
// its output is not kept. in is read until the command ends, and once more.
func (c *Client) Terminal(ctx context.Context, command Command, in io.Reader, out io.Writer, resized <-chan Size) (int32, error) {
	op := fmt.Sprintf("run %s as %s in a terminal", command.Path, command.User)
	if command.Lifetime <= 0 || command.PTY == nil || command.User == "" {
		return 0, fmt.Errorf("BUG: %s: a terminal needs a user, a lifetime and a size", op)
	}
	bounded, done := lifetimeOf(ctx, command)
	defer done()
	stream, err := c.start(bounded, command)
	if err != nil {
		return 0, c.runError(ctx, op, command, Result{}, err)
	}
	defer stream.Close()
	var result Result
	ended := false
	for stream.Receive() {
		switch event := stream.Msg().GetEvent().GetEvent().(type) {
		case *processpb.ProcessEvent_Start:
			result.PID = event.Start.GetPid()
			self := &processpb.ProcessSelector{Selector: &processpb.ProcessSelector_Pid{Pid: result.PID}}
			go c.feed(bounded, self, in)
			go c.resize(bounded, self, resized)
		case *processpb.ProcessEvent_Data:
			if _, err := out.Write(event.Data.GetPty()); err != nil {
				return 0, fmt.Errorf("%s: show its output: %w", op, err)
			}
		case *processpb.ProcessEvent_End:
			result.ExitCode, ended = event.End.GetExitCode(), true
		}
	}
	if err := stream.Err(); err != nil {
		return 0, c.runError(ctx, op, command, result, err)
	}
	if !ended {
		return 0, &Error{Where: AtEnvd, Op: op, Message: "the stream ended without saying how the process did"}
	}
	return result.ExitCode, nil
}

// endOfText is what Ctrl-D sends: to a shell the end of its input.
const endOfText = 4

// feed sends what comes from in until it ends, and its end too.
func (c *Client) feed(ctx context.Context, to *processpb.ProcessSelector, in io.Reader) {
	buffer := make([]byte, inputPiece)
	for {
		n, err := in.Read(buffer)
		if n > 0 && c.send(ctx, to, buffer[:n]) != nil {
			return // the process has ended, or its stream tells what is wrong
		}
		if errors.Is(err, io.EOF) {
			_ = c.send(ctx, to, []byte{endOfText})
		}
		if err != nil {
			return
		}
	}
}

func (c *Client) send(ctx context.Context, to *processpb.ProcessSelector, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	_, err := c.process.SendInput(ctx, connect.NewRequest(&processpb.SendInputRequest{
		Process: to, Input: &processpb.ProcessInput{Input: &processpb.ProcessInput_Pty{Pty: text}},
	}))
	return err
}

// resize tells the terminal its sizes.
func (c *Client) resize(ctx context.Context, to *processpb.ProcessSelector, resized <-chan Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case size := <-resized:
			// A size that does not arrive costs a crooked line.
			_, _ = c.process.Update(ctx, connect.NewRequest(&processpb.UpdateRequest{
				Process: to, Pty: &processpb.PTY{Size: &processpb.PTY_Size{Cols: size.Cols, Rows: size.Rows}},
			}))
		}
	}
}
