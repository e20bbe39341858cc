package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"proxyarpd/bench"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/printable"
)

var benchCommand = command{
	name:     "bench",
	synopsis: "the same work through the kernel and through each engine; bench compare, html, table",
	run:      runBench,
}

var benchCommands = []command{
	{name: "compare", synopsis: "which figures moved beyond their spread between two reports", run: benchCompare},
	{name: "html", synopsis: "turn a report into a page with plots", run: benchHTML},
	{name: "table", synopsis: "turn a report into the README's table", run: benchTable},
}

func runBench(ctx context.Context, args []string, out, errw io.Writer) error {
	if len(args) > 0 {
		for _, c := range benchCommands {
			if c.name == args[0] {
				return c.run(ctx, args[1:], out, errw)
			}
		}
	}
	o, w, err := parseBench(args, out)
	if err != nil {
		return err
	}
	if !w.quiet {
		o.Log = errw
	}
	if err := w.check(); err != nil {
		return err
	}
	report, err := bench.Run(ctx, o)
	if report == nil {
		return err
	}
	return errors.Join(err, w.write(report, out))
}

// benchOutput says where the report goes.
type benchOutput struct {
	format, html string
	quiet        bool
}

// check sees to it that a run is not in vain because its page cannot be written.
func (w benchOutput) check() error {
	if w.html == "" {
		return nil
	}
	f, err := os.OpenFile(w.html, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("bench: --html: %w", err)
	}
	return f.Close()
}

func (w benchOutput) write(report *bench.Report, out io.Writer) error {
	var errs []error
	if w.format == "json" {
		errs = append(errs, report.JSON(printable.NewJSONWriter(out)))
	} else {
		errs = append(errs, report.Text(out))
	}
	if w.html != "" {
		errs = append(errs, writeFile(w.html, report.HTML))
	}
	return errors.Join(errs...)
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func parseBench(args []string, out io.Writer) (o bench.Options, w benchOutput, err error) {
	fs := newFlags("bench", "[flags]\n       proxyarpd bench compare OLD.json NEW.json | html REPORT.json | table REPORT.json")
	var between bench.Between
	var only string
	fs.BoolVar(&o.Quick, "quick", false, "the main table in about a minute: fewer cases, shorter trials")
	fs.StringVar(&only, "only", "", "measure these `works` only, comma-separated: "+strings.Join(bench.Works(), ", "))
	fs.IntVar(&o.Rounds, "rounds", 3, "how often each contestant takes its turn")
	fs.DurationVar(&o.Trial, "trial", 0, fmt.Sprintf("how long a trial lasts (default %v, with --quick %v)", bench.DefaultTrial[0], bench.DefaultTrial[1]))
	fs.DurationVar(&o.Calm, "calm", 0, "wait that long before a trial for other processes to let the machine be, and repeat one that they disturbed; 0: measure at once (default 20s, with --quick 0)")
	fs.Var(&list[bench.Command]{values: &o.Commands, parse: parseContestant}, "contestant", "`NAME=COMMAND`, a forwarder of your own, run by sh -c in the host's namespace (repeatable)")
	fs.StringVar(&between.From, "from", "", "measure from this network `namespace`, a name in /run/netns or a path, ...")
	fs.StringVar(&between.To, "to", "", "... to this `namespace`, as they are, without making anything")
	fs.StringVar(&between.Host, "host", "", "with --from and --to: the `namespace` in which --contestant runs")
	fs.StringVar(&between.FromIf, "from-if", "", "the sender's `interface` (default: by its route to the receiver)")
	fs.Var(&address{&between.FromAddress}, "from-address", "the sender's `address` (default: by its route to the receiver)")
	fs.Var(&address{&between.ToAddress}, "to-address", "the receiver's `address` (default: its default route's interface's)")
	fs.StringVar(&o.Binary, "bin", "", "the proxyarpd to measure, a `path` (default: this one)")
	runArgs := fs.String("run-args", "", "further `arguments` of proxyarpd run, separated by spaces")
	fs.StringVar(&w.format, "o", "table", "`format`: table or json")
	fs.StringVar(&w.html, "html", "", "also write a page with plots to this `file`")
	fs.BoolVar(&w.quiet, "q", false, "no progress on stderr")
	if err := parseFlags(fs, args, out); err != nil {
		return o, w, err
	}
	if err := noArguments(fs); err != nil {
		return o, w, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if given["trial"] && o.Trial == 0 {
		return o, w, usagef("bench: --trial 0s: give 100ms or more")
	}
	if !given["calm"] && !o.Quick {
		o.Calm = 20 * time.Second
	}
	if w.format != "table" && w.format != "json" {
		return o, w, usagef("bench: -o %s: want table or json", w.format)
	}
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	if o.Between, err = chosen(between, given); err != nil {
		return o, w, err
	}
	o.Args, o.Version, o.Engines = strings.Fields(*runArgs), versionString(), daemon.Forwarders()
	if err := o.Validate(); err != nil {
		return o, w, usagef("bench: %v", err)
	}
	o.Binary, err = underTest(o.Binary)
	return o, w, err
}

// chosen is where to measure: nil is a lab.
func chosen(w bench.Between, given map[string]bool) (*bench.Between, error) {
	switch {
	case w.From != "" && w.To != "":
		return &w, nil
	case w.From != "" || w.To != "":
		return nil, usagef("bench: --from and --to go together")
	}
	for _, name := range []string{"from", "to", "host", "from-if", "from-address", "to-address"} {
		if given[name] {
			return nil, usagef("bench: --%s is for use with --from NETNS and --to NETNS", name)
		}
	}
	return nil, nil
}

// underTest is the path of the program to measure.
func underTest(path string) (string, error) {
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("bench: --bin: %w", err)
		}
		return filepath.Abs(path)
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "/proc/self/exe", nil // replaced or removed since it was started
	}
	return path, nil
}

func parseContestant(s string) (bench.Command, error) {
	name, line, ok := strings.Cut(s, "=")
	if !ok || name == "" || strings.TrimSpace(line) == "" {
		return bench.Command{}, errors.New("want NAME=COMMAND")
	}
	return bench.Command{Name: name, Line: line}, nil
}

// address is a flag that may be left out.
type address struct{ at *netip.Addr }

func (a *address) String() string {
	if a == nil || a.at == nil || !a.at.IsValid() {
		return ""
	}
	return a.at.String()
}

// Set implements flag.Value.
func (a *address) Set(s string) error {
	addr, err := netip.ParseAddr(s)
	if err == nil && !addr.Is4() {
		err = errors.New("want an IPv4 address")
	}
	*a.at = addr
	return err
}
