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

func benchHTML(_ context.Context, args []string, out, _ io.Writer) error {
	return convertReport("html", args, out, (*bench.Report).HTML)
}

func benchTable(_ context.Context, args []string, out, _ io.Writer) error {
	return convertReport("table", args, out, (*bench.Report).Markdown)
}

func convertReport(name string, args []string, out io.Writer, write func(*bench.Report, io.Writer) error) error {
	files, err := reportFiles(name, "REPORT.json", 1, args, out)
	if err != nil {
		return err
	}
	r, err := readReport(files[0])
	if err != nil {
		return err
	}
	return write(r, out)
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
