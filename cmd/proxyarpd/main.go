// Command proxyarpd answers ARP for gateways and proxied addresses on the
// interfaces that lead to workloads, and forwards their packets by the kernel's
// routing table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"proxyarpd/internal/printable"
)

// command is a subcommand. Its run returns a usageError when it was called
// wrongly and flag.ErrHelp when it has shown its help.
type command struct {
	name, synopsis string
	run            func(ctx context.Context, args []string, out, errw io.Writer) error
	raw            bool // what it writes to out may be no text
}

var commands = []command{
	runCommand,
	statusCommand,
	captureCommand,
	labCommand,
	benchCommand,
	versionCommand,
}

const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is an error of whoever typed the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error {
	return usageError(fmt.Sprintf(format, args...))
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := dispatch(ctx, commands, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// dispatch runs the subcommand that the arguments name and returns the exit code.
func dispatch(ctx context.Context, commands []command, args []string, out, errw io.Writer) int {
	errw = printable.NewWriter(errw)
	err := find(ctx, commands, args, out, errw)
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(errw, "proxyarpd: %s\n", oneLine(err))
		return exitUsage
	}
	fmt.Fprintf(errw, "proxyarpd: %s\n", oneLine(err))
	return exitFailed
}

func find(ctx context.Context, commands []command, args []string, out, errw io.Writer) error {
	if len(args) == 0 {
		return usagef("no command given; see proxyarpd --help")
	}
	name, args := args[0], args[1:]
	switch name {
	case "-h", "-help", "--help", "help":
		printCommands(out, "proxyarpd COMMAND", commands)
		return nil
	case "-version", "--version":
		name = versionCommand.name
	}
	for _, c := range commands {
		if c.name == name {
			if !c.raw {
				out = printable.NewWriter(out)
			}
			return c.run(ctx, args, out, errw)
		}
	}
	return usagef("no command %q; see proxyarpd --help", name)
}

func printCommands(out io.Writer, usage string, commands []command) {
	fmt.Fprintf(out, "usage: %s [flags] [arguments]\n\n", usage)
	for _, c := range commands {
		fmt.Fprintf(out, "  %-8s %s\n", c.name, c.synopsis)
	}
	fmt.Fprintln(out, "\nEach command explains its flags with --help.")
}

// newFlags makes the flag set of a subcommand; usage is its line of arguments.
func newFlags(name, usage string) *flag.FlagSet {
	fs := flag.NewFlagSet("proxyarpd "+name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parseFlags says it, where it belongs
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: %s %s\n", fs.Name(), usage)
		fs.PrintDefaults()
	}
	return fs
}

// parseFlags makes a wrong flag a usageError of one line and prints the help
// that was asked for to out.
func parseFlags(fs *flag.FlagSet, args []string, out io.Writer) error {
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(out)
		fs.Usage()
		return err
	}
	if err != nil {
		return usagef("%s: %v; see %s --help", strings.TrimPrefix(fs.Name(), "proxyarpd "), err, fs.Name())
	}
	return nil
}

// noArguments refuses what is left behind the flags.
func noArguments(fs *flag.FlagSet) error {
	if fs.NArg() > 0 {
		return usagef("%s: unexpected argument %q", strings.TrimPrefix(fs.Name(), "proxyarpd "), fs.Arg(0))
	}
	return nil
}

// oneLine joins what errors.Join has put on lines of their own.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// version is set by the linker: -X main.version=v1.2.3.
var version string

var versionCommand = command{
	name:     "version",
	synopsis: "print the version",
	run: func(_ context.Context, args []string, out, _ io.Writer) error {
		fs := newFlags("version", "")
		if err := parseFlags(fs, args, out); err != nil {
			return err
		}
		if err := noArguments(fs); err != nil {
			return err
		}
		_, err := fmt.Fprintln(out, "proxyarpd", versionString())
		return err
	},
}

func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
