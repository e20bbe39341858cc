package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxyarpd/bench"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/printable"
)

// measure does the works of bench.
type measure func(context.Context, bench.Options) (*bench.Report, error)

var realBench measure = bench.Run

const benchLong = `bench does the same work through the kernel and through each engine, turn by turn, in a lab of its
own or between two namespaces of yours, and prints median, spread and ratio to the kernel of the
same run. It needs root.`

const benchExample = `  proxyarpd bench --quick                                  # the main table in about a minute
  proxyarpd bench --only throughput,latency -o json        # some of the works, with every sample
  proxyarpd bench --quick --family 6                       # over IPv6
  proxyarpd bench --from pod1 --to pod2                    # between two namespaces of yours, as they are
  proxyarpd bench --quick --contestant 'mine=./forwarder'  # a forwarder of your own among the contestants
  proxyarpd bench --html report.html -o json > report.json # all of it, with plots: half an hour
  proxyarpd bench compare old.json new.json                # which figures moved beyond their spread`

func newBench(p *program) *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{
		Use:         "bench [flags]",
		Short:       "the same work through the kernel and through each engine; bench compare, html, table",
		Long:        benchLong,
		Example:     benchExample,
		GroupID:     groupMeasure,
		Args:        noArguments,
		Annotations: map[string]string{exit1: "failed or interrupted; what was measured until then is printed"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := b.options(cmd.Flags())
			if err != nil {
				return err
			}
			return runBench(cmd.Context(), p, o, b.benchOutput)
		},
	}
	b.define(cmd.Flags())
	completeBench(cmd)
	cmd.AddCommand(newBenchCompare(p), newBenchHTML(p), newBenchTable(p))
	return cmd
}

func runBench(ctx context.Context, p *program, o bench.Options, w benchOutput) error {
	if !w.quiet {
		o.Log = p.errw
	}
	if err := w.check(); err != nil {
		return err
	}
	report, err := p.measure(ctx, o)
	if report == nil {
		return err
	}
	return errors.Join(err, w.write(report, p.text()))
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

// benchFlags are what the flags of bench are set to.
type benchFlags struct {
	benchOutput
	o             bench.Options
	between       bench.Between
	only, runArgs string
}

func (b *benchFlags) define(fs *pflag.FlagSet) {
	fs.SortFlags = false
	o, between := &b.o, &b.between
	o.Rounds, o.Family = 3, 4
	fs.BoolVar(&o.Quick, "quick", false, "the main table in about a minute: fewer cases, shorter trials")
	fs.Var(&scalar[int]{&o.Family, parseNumber, "4|6"}, "family", "the IP version of what is sent")
	fs.StringVar(&b.only, "only", "", "measure these `works` only, comma-separated: "+strings.Join(bench.Works(), ", "))
	fs.Var(&scalar[int]{&o.Rounds, parseNumber, "N"}, "rounds", "how often each contestant takes its turn")
	fs.DurationVar(&o.Trial, "trial", 0, fmt.Sprintf("a trial lasts that `duration` (default %v, with --quick %v)", bench.DefaultTrial[0], bench.DefaultTrial[1]))
	fs.DurationVar(&o.Calm, "calm", 0, "wait that `duration` before a trial for other processes to let the machine be, and repeat one that they disturbed; 0: measure at once (default 20s, with --quick 0)")
	fs.Var(&list[bench.Command]{values: &o.Commands, parse: parseContestant, name: "NAME=COMMAND"}, "contestant", "a forwarder of your own, run by sh -c in the host's namespace (repeatable)")
	fs.StringVar(&o.Binary, "bin", "", "`path` of the proxyarpd to measure (default: this one)")
	fs.StringVar(&b.runArgs, "run-args", "", "further `arguments` of proxyarpd run, separated by spaces")
	inGroup(fs, "What to measure")
	fs.StringVar(&between.From, "from", "", "measure from this `netns`, a name in /run/netns or a path, ...")
	fs.StringVar(&between.To, "to", "", "... to this `netns`, as they are, without making anything")
	fs.StringVar(&between.Host, "host", "", "with --from and --to: the `netns` in which --contestant runs")
	fs.StringVar(&between.FromIf, "from-if", "", "the sender's `interface` (default: by its route to the receiver)")
	fs.Var(&address{&between.FromAddress}, "from-address", "the sender's address (default: by its route to the receiver)")
	fs.Var(&address{&between.ToAddress}, "to-address", "the receiver's address (default: its default route's interface's)")
	inGroup(fs, "Where")
	outputFlag(fs, &b.format, "table", "json")
	fs.StringVar(&b.html, "html", "", "also write a page with plots to this `file`")
	fs.BoolVarP(&b.quiet, "quiet", "q", false, "no progress on stderr")
	inGroup(fs, "Output")
}

// options is what was asked for; fs has been parsed.
func (b *benchFlags) options(fs *pflag.FlagSet) (o bench.Options, err error) {
	o = b.o
	if fs.Changed("trial") && o.Trial == 0 {
		return o, usagef("bench: --trial 0s: give 100ms or more")
	}
	if !fs.Changed("calm") && !o.Quick {
		o.Calm = 20 * time.Second
	}
	if b.only != "" {
		o.Only = strings.Split(b.only, ",")
	}
	if o.Between, err = chosen(b.between, fs); err != nil {
		return o, err
	}
	o.Args, o.Version, o.Engines = strings.Fields(b.runArgs), versionString(), daemon.Forwarders()
	if err := o.Validate(); err != nil {
		return o, usagef("bench: %v", err)
	}
	o.Binary, err = underTest(o.Binary)
	return o, err
}

func completeBench(cmd *cobra.Command) {
	complete(cmd, "output", words("table", "json"))
	complete(cmd, "family", words("4", "6"))
	complete(cmd, "only", lastOfList(bench.Works()))
	complete(cmd, "from", netnsNames)
	complete(cmd, "to", netnsNames)
	complete(cmd, "host", netnsNames)
	complete(cmd, "from-if", interfaces())
	complete(cmd, "html", files("html"))
	complete(cmd, "bin", anyFile())
}

// lastOfList completes the last word of a list with commas.
func lastOfList(of []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		var all []cobra.Completion
		for _, w := range of {
			if !slices.Contains(strings.Split(before, ","), w) {
				all = append(all, before+w)
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// chosen is where to measure: nil is a lab.
func chosen(w bench.Between, fs *pflag.FlagSet) (*bench.Between, error) {
	switch {
	case w.From != "" && w.To != "":
		return &w, nil
	case w.From != "" || w.To != "":
		return nil, usagef("bench: --from and --to go together")
	}
	for _, name := range []string{"from", "to", "host", "from-if", "from-address", "to-address"} {
		if fs.Changed(name) {
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

func (a *address) Type() string { return "IP" }

func (a *address) String() string {
	if !a.at.IsValid() {
		return ""
	}
	return a.at.String()
}

// Set implements pflag.Value.
func (a *address) Set(s string) error {
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return errors.New("want an IPv4 address")
	}
	*a.at = addr
	return nil
}
