package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"proxyarpd/capture"
	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
)

const captureLong = `capture takes what you type for tcpdump, prints what tcpdump prints, and says behind each line what
became of the packet. It asks the daemon; where none runs it captures from a packet socket, without
verdicts. The expression is that of pcap-filter(7). SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGPIPE end it
with all that was captured; SIGUSR1 has it tell how many packets there are, SIGUSR2 write what it has.`

const captureExample = `  proxyarpd capture -ni any --drops            # what is dropped, and why
  proxyarpd capture -nnvvi 'cali*' icmp or arp
  proxyarpd capture -i ens3 -c 100 -w out.pcapng port 53
  proxyarpd capture -nr out.pcapng --reason 'NEIGH_*'
  proxyarpd capture --summary`

func newCapture(p *program) *cobra.Command {
	c := cli.NewCommand(daemon.DefaultControl)
	cmd := &cobra.Command{
		Use:     "capture [options] [expression]",
		Short:   "tcpdump that also says what became of each packet",
		Long:    captureLong,
		Example: captureExample,
		GroupID: groupLook,
		Args:    cobra.ArbitraryArgs,
		RunE:    func(cmd *cobra.Command, args []string) error { return runCapture(cmd.Context(), p, c, args) },
	}
	cmd.Flags().AddFlagSet(c.Flags())
	completeCapture(cmd)
	cmd.AddCommand(newCaptureSchema(p))
	return cmd
}

// newCaptureSchema is a word that no expression of pcap-filter(7) begins with.
func newCaptureSchema(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "print the JSON Schema of what --verdict json prints",
		Example: `  proxyarpd capture schema > capture.schema.json`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(p.out, cli.Schema)
			return err
		},
	}
}

func runCapture(ctx context.Context, p *program, c *cli.Command, expression []string) error {
	ctx, stop := signal.NotifyContext(ctx, captureEnds()...)
	defer stop()
	env := cli.Env{Out: p.out, Err: p.errw, Version: versionString()} // what of packets may act on a terminal it escapes itself
	env.Counts = notified(syscall.SIGUSR1)
	env.Flush = notified(syscall.SIGUSR2)
	err := c.Run(ctx, expression, env)
	var usage cli.Usage
	switch {
	case errors.As(err, &usage):
		return usagef("capture: %v", err)
	case errors.Is(err, syscall.EPIPE):
		return errors.New("capture: unable to write output: broken pipe")
	case err != nil:
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

func completeCapture(cmd *cobra.Command) {
	complete(cmd, "interface", interfaces(capture.Any))
	for flag, of := range cli.Choices() {
		complete(cmd, flag, words(of...))
	}
	for _, flag := range []string{"read", "write"} {
		complete(cmd, flag, files("pcap", "pcapng", "cap"))
	}
	for _, flag := range []string{"control", "bpf-file", "expression-file", "file-list", "postrotate-command"} {
		complete(cmd, flag, anyFile())
	}
	cmd.ValidArgsFunction = begun(words("arp", "dst", "ether", "host", "icmp", "ip", "net", "not", "port", "portrange", "src", "tcp", "udp", "vlan"))
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
