package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyarpd/internal/daemon"
)

var runCommand = command{
	name:     "run",
	synopsis: "answer ARP for workloads and forward their packets",
	run: func(ctx context.Context, args []string, out, errw io.Writer) error {
		cfg := daemon.Default()
		cfg.Version = versionString()
		verbose, err := parseRun(&cfg, args, out)
		if err != nil {
			return err
		}
		level := slog.LevelInfo
		if verbose {
			level = slog.LevelDebug
		}
		return daemon.Run(ctx, cfg, slog.New(slog.NewTextHandler(errw, &slog.HandlerOptions{Level: level})))
	},
}

// Bounds of what is asked for: each glob is compared with each interface's name,
// and a file is held in memory as a tree.
const (
	maxValues = 4096      // of a repeatable flag
	maxConfig = 512 << 10 // bytes
)

// list is a repeatable flag. The first use replaces the default.
type list[T any] struct {
	values *[]T
	parse  func(string) (T, error)
	set    bool
}

func (l *list[T]) String() string {
	if l == nil || l.values == nil {
		return ""
	}
	return strings.Trim(fmt.Sprint(*l.values), "[]")
}

// Set implements flag.Value.
func (l *list[T]) Set(s string) error {
	v, err := l.parse(s)
	if err != nil {
		return err
	}
	if !l.set {
		*l.values, l.set = nil, true
	}
	if len(*l.values) == maxValues {
		return fmt.Errorf("more than %d values", maxValues)
	}
	*l.values = append(*l.values, v)
	return nil
}

func text(s string) (string, error) { return s, nil }

// parseRun reads flags and the file that --config names into cfg.
func parseRun(cfg *daemon.Config, args []string, out io.Writer) (verbose bool, err error) {
	fs := newFlags("run", "[flags]")
	fs.Var(&list[string]{values: &cfg.Workloads, parse: text}, "workload", "`glob` of interfaces that lead to workloads (repeatable)")
	fs.Var(&list[string]{values: &cfg.Uplinks, parse: text}, "uplink", "`glob` of interfaces that lead off the host (repeatable); auto: every device that carries IP, but lo, workloads and those that have a master")
	fs.BoolVar(&cfg.Transit, "transit", false, "also forward between uplinks")
	fs.Var(&list[netip.Addr]{values: &cfg.Gateways, parse: netip.ParseAddr}, "gateway", "`address` that is answered on workload interfaces (repeatable)")
	fs.Var(&list[netip.Prefix]{values: &cfg.Proxy, parse: netip.ParsePrefix}, "proxy", "further targets to answer, a `prefix`, by the kernel's proxy_arp rules (repeatable)")
	fs.TextVar(&cfg.MAC, "mac", cfg.MAC, "the `MAC` that is answered")
	fs.StringVar(&cfg.Engine, "engine", cfg.Engine, "auto, af_packet: every packet through userspace, or none: answer ARP only")
	fs.IntVar(&cfg.RPFilter, "rp-filter", cfg.RPFilter, "source validation on workload interfaces: 0 off, 1 strict, 2 loose, as the kernel's rp_filter")
	fs.Var(&list[netip.Prefix]{values: &cfg.Punt, parse: netip.ParsePrefix}, "punt", "destinations left to the kernel, a `prefix` (repeatable)")
	fs.BoolVar(&cfg.KeepMAC, "keep-mac", false, "leave the MAC of workload interfaces as found")
	fs.StringVar(&cfg.Control, "control", cfg.Control, "`path` of the control socket")
	fs.StringVar(&cfg.StateDir, "state-dir", cfg.StateDir, "`directory` of the lock and of the record of changed MACs; made where it is missing")
	fs.BoolVar(&cfg.BypassPolicy, "bypass-policy", false, "forward although rules of the host would no longer apply")
	fs.StringVar((*string)(&cfg.Claim), "claim", string(cfg.Claim), "how packets are taken from the kernel: auto, tcx, clsact, or none: by forwarding=0 alone")
	fs.BoolVar(&verbose, "verbose", false, "log what happens to interfaces and neighbours")
	file := fs.String("config", "", "YAML `file` with these flags as keys; a flag wins")
	if err := parseFlags(fs, args, out); err != nil {
		return false, err
	}
	if err := noArguments(fs); err != nil {
		return false, err
	}
	if *file != "" {
		if err := readConfig(fs, *file); err != nil {
			return false, err
		}
	}
	if err := cfg.Validate(); err != nil {
		return false, usagef("run: %v", err)
	}
	return verbose, nil
}

// readConfig sets the flags that the command line did not from a YAML file.
func readConfig(fs *flag.FlagSet, file string) error {
	b, err := readBounded(file, maxConfig)
	if err != nil {
		return fmt.Errorf("--config: %w", err) // a usageError remains one
	}
	var keys map[string]yaml.Node
	if err := yaml.Unmarshal(b, &keys); err != nil {
		return usagef("--config %s: %v", file, err)
	}
	given := map[string]bool{"config": true}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	names := make([]string, 0, len(keys))
	for k := range keys {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, name := range names {
		node := keys[name]
		if fs.Lookup(name) == nil || name == "config" {
			return usagef("--config %s: line %d: no such key %q; see proxyarpd run --help", file, node.Line, name)
		}
		if given[name] {
			continue
		}
		if err := setFromNode(fs, name, &node); err != nil {
			return usagef("--config %s: line %d: %s: %v", file, node.Line, name, err)
		}
	}
	return nil
}

// readBounded reads a file of at most so many bytes.
func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, usagef("%s: larger than %d bytes", file, most)
	}
	return b, err
}

func setFromNode(fs *flag.FlagSet, name string, node *yaml.Node) error {
	switch node.Kind {
	case yaml.ScalarNode:
		return fs.Set(name, node.Value)
	case yaml.SequenceNode:
		if _, ok := fs.Lookup(name).Value.(interface{ IsBoolFlag() bool }); ok {
			return fmt.Errorf("want one value, not a list")
		}
		for _, n := range node.Content {
			if n.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: want a list of plain values", n.Line)
			}
			if err := fs.Set(name, n.Value); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("want a value or a list of values")
}
