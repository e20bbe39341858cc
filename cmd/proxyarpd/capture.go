package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"proxyarpd/capture"
	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
)

var captureCommand = command{
	name:     "capture",
	synopsis: "tcpdump that also says what became of each packet",
	run: func(ctx context.Context, args []string, out, errw io.Writer) error {
		signal.Ignore(syscall.SIGPIPE) // what else is written, to a file say, is to be whole
		err := cli.Run(ctx, args, cli.Env{Out: out, Err: errw, Daemon: captureSession, Control: daemon.DefaultControl, Version: versionString()})
		var usage cli.Usage
		switch {
		case errors.Is(err, cli.ErrHelp):
			return flag.ErrHelp
		case errors.As(err, &usage):
			return usagef("capture: %v", err)
		case errors.Is(err, syscall.EPIPE):
			return errors.New("capture: unable to write output: broken pipe")
		case err != nil:
			return fmt.Errorf("capture: %w", err)
		}
		return nil
	},
}

// session is a daemon's capture session as the command wants it.
type session struct{ *daemon.CaptureStream }

func (s session) Reply() capture.Reply { return s.CaptureStream.Reply }

func captureSession(ctx context.Context, path string, req capture.Request) (cli.Stream, error) {
	s, err := daemon.Capture(ctx, path, req)
	if err != nil {
		return nil, err
	}
	return session{s}, nil
}
