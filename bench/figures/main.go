// Figures prints what proxyarpd costs or gains beside the kernel's own forwarding.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"proxyarpd/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := figures(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func figures(ctx context.Context, args []string, out, log io.Writer) error {
	fs := flag.NewFlagSet("figures", flag.ContinueOnError)
	only := fs.String("only", "", "measure these `works` only, comma-separated: "+strings.Join(bench.Works(), ", "))
	o := bench.Options{Log: log}
	fs.IntVar(&o.Rounds, "rounds", 3, "how often each contestant takes its turn")
	fs.BoolVar(&o.Quick, "quick", false, "shorter trials and fewer cases, for tuning")
	fs.DurationVar(&o.Calm, "calm", 20*time.Second, "wait that long before a trial for other processes to let the machine be, and repeat one that they disturbed; 0: measure at once")
	fs.StringVar(&o.Binary, "bin", "", "the proxyarpd to measure; default: built from the tree")
	runArgs := fs.String("run-args", "", "further `arguments` of proxyarpd run, separated by spaces")
	format := fs.String("o", "text", "`format`: text or json")
	quiet := fs.Bool("q", false, "no progress on stderr")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *format != "text" && *format != "json" {
		return fmt.Errorf("-o %s: want text or json", *format)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	if *quiet {
		o.Log = io.Discard
	}
	o.Args = strings.Fields(*runArgs)
	if o.Binary == "" {
		dir, err := os.MkdirTemp("", "proxyarpd-figures")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.Binary, err = build(ctx, dir); err != nil {
			return err
		}
	} else {
		path, err := filepath.Abs(o.Binary)
		if err != nil {
			return err
		}
		o.Binary = path
	}
	report, err := bench.Run(ctx, o)
	if report != nil {
		if *format == "json" {
			err = errors.Join(err, report.JSON(out))
		} else {
			err = errors.Join(err, report.Text(out))
		}
	}
	return err
}

func build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "proxyarpd")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "proxyarpd/cmd/proxyarpd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build proxyarpd: %w: %s", err, text)
	}
	return bin, nil
}
