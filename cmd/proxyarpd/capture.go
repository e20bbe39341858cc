package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
)

var captureCommand = command{
	name:     "capture",
	synopsis: "tcpdump that also says what became of each packet",
	raw:      true, // -w -
	run: func(ctx context.Context, args []string, out, errw io.Writer) error {
		ctx, stop := signal.NotifyContext(ctx, captureEnds()...)
		defer stop()
		env := cli.Env{Out: out, Err: errw, Control: daemon.DefaultControl, Version: versionString()}
		env.Counts = notified(syscall.SIGUSR1)
		env.Flush = notified(syscall.SIGUSR2)
		err := cli.Run(ctx, args, env)
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

// captureEnds are the signals that end a capture as ^C does: what was captured is
// written. SIGPIPE is one, so that what else is written, to a file say, is whole;
// SIGHUP is none under nohup(1).
func captureEnds() []os.Signal {
	ends := []os.Signal{syscall.SIGQUIT, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	return ends
}

func notified(sig os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sig)
	return c
}
