// Command proxyarpd answers ARP for gateways and proxied addresses on the
// interfaces that lead to workloads, and forwards their packets by the kernel's
// routing table.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/printable"
)

// Exit codes besides 0.
const (
	exitFailed = 1
	exitUsage  = 2
)

// program is what the commands have in common.
type program struct {
	out, errw io.Writer // out takes bytes as they are, errw text
	args      []string
	// start is daemon.Run, measure bench.Run: tests have their own.
	start   func(context.Context, daemon.Config, daemon.Caller) error
	measure measure
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := program{out: os.Stdout, errw: printable.NewWriter(os.Stderr), args: os.Args[1:], start: daemon.Run, measure: realBench}
	code := p.main(ctx)
	cancel()
	os.Exit(code)
}

// main runs the command that the arguments name and returns the exit code.
func (p *program) main(ctx context.Context) int {
	root := newRoot(p)
	root.SetArgs(append([]string{}, p.args...)) // nil would be os.Args
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(p.errw, "proxyarpd: %s\n", oneLine(err))
	if usage := usageError(""); errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// text is standard output for text: what would act on a terminal is made visible.
func (p *program) text() io.Writer { return printable.NewWriter(p.out) }

// usageError is an error of whoever typed the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error {
	return usageError(fmt.Sprintf(format, args...))
}

// oneLine joins what errors.Join has put on lines of their own.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// version is set by the linker: -X main.version=v1.2.3.
var version string

func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
