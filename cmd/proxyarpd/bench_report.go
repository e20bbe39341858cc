package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"proxyarpd/bench"
)

// errMoved is exit 1 of `bench compare`: the comparison was made, and something moved.
var errMoved = errors.New("figures moved beyond their spread")

func newBenchCompare(p *program) *cobra.Command {
	return &cobra.Command{
		Use:         "compare OLD.json NEW.json",
		Short:       "which figures moved beyond their spread between two reports",
		Example:     "  proxyarpd bench compare old.json new.json",
		Args:        reportFiles(2),
		Annotations: map[string]string{exit0: "no figure moved", exit1: "figures moved beyond their spread, or failed"},
		RunE:        func(_ *cobra.Command, args []string) error { return compareReports(args[0], args[1], p.text()) },

		ValidArgsFunction: files("json"),
	}
}

func compareReports(before, after string, out io.Writer) error {
	old, err := readReport(before)
	if err != nil {
		return err
	}
	now, err := readReport(after)
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

func newBenchHTML(p *program) *cobra.Command {
	return newConvert(p, "html", "turn a report into a page with plots", "  proxyarpd bench html report.json > report.html", (*bench.Report).HTML)
}

func newBenchTable(p *program) *cobra.Command {
	return newConvert(p, "table", "turn a report into the tables of docs/BENCH.md", "  proxyarpd bench table report.json", (*bench.Report).Markdown)
}

// newConvert is a command that prints a report in another form.
func newConvert(p *program, name, short, example string, write func(*bench.Report, io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use:     name + " REPORT.json",
		Short:   short,
		Example: example,
		Args:    reportFiles(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := readReport(args[0])
			if err != nil {
				return err
			}
			return write(r, p.text())
		},
		ValidArgsFunction: files("json"),
	}
}

// reportFiles is the Args of a command that takes n reports.
func reportFiles(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			_, want, _ := strings.Cut(cmd.Use, " ")
			return usagef("%s: want %s", title(cmd), want)
		}
		return nil
	}
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
