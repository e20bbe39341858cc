package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"proxyarpd/bench"
)

// errMoved is exit 1 of `bench compare`: the comparison was made, and something moved.
var errMoved = errors.New("figures moved beyond their spread")

func benchCompare(_ context.Context, args []string, out, _ io.Writer) error {
	files, err := reportFiles("compare", "OLD.json NEW.json", 2, args, out)
	if err != nil {
		return err
	}
	old, err := readReport(files[0])
	if err != nil {
		return err
	}
	now, err := readReport(files[1])
	if err != nil {
		return err
	}
	c := bench.Compare(old, now)
	if err := c.Text(out); err != nil {
		return err
	}
	if n := c.Moved(); n > 0 {
		return fmt.Errorf("bench compare: %d %w", n, errMoved)
	}
	return nil
}

// reportFiles are the arguments of a subcommand that takes n reports.
func reportFiles(name, usage string, n int, args []string, out io.Writer) ([]string, error) {
	fs := newFlags("bench "+name, usage)
	if err := parseFlags(fs, args, out); err != nil {
		return nil, err
	}
	if fs.NArg() != n {
		return nil, usagef("bench %s: want %s", name, usage)
	}
	return fs.Args(), nil
}

func readReport(name string) (*bench.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := bench.ReadReport(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
