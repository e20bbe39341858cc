package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/logging"
	"proxyarpd/internal/wire"
)

// maxConfig bounds a configuration file, bytes: it is held in memory as a tree.
const maxConfig = 512 << 10

// settings are what `run` was asked to do.
type settings struct {
	daemon.Config
}

func defaultSettings() settings {
	s := settings{Config: daemon.Default()}
	s.Version = versionString()
	return s
}

// flags are the flags of run that are keys of its file, too. Their defaults are what s holds, and what they are set to
// goes there.
func (s *settings) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SortFlags = false
	globs := func(at *[]string) pflag.Value { return &list[string]{values: at, parse: text, name: "GLOB"} }
	prefixes := func(at *[]netip.Prefix) pflag.Value {
		return &list[netip.Prefix]{values: at, parse: parsePrefix, name: "CIDR"}
	}
	fs.Var(globs(&s.Workloads), "workload", "interfaces that lead to workloads (repeatable); !GLOB leaves out")
	fs.Var(globs(&s.Uplinks), "uplink", "interfaces that lead off the host (repeatable); !GLOB leaves out; auto: every device that carries IP, but lo, workloads and those that have a master")
	inGroup(fs, "Interfaces")

	fs.Var(&list[netip.Addr]{values: &s.Gateways, parse: parseAddress, name: "IP"}, "gateway", "addresses answered on workload interfaces (repeatable); one of a family replaces that family's default")
	fs.Var(prefixes(&s.Proxy), "proxy", "further targets to answer on workload interfaces, by the kernel's proxy_arp rules (repeatable)")
	fs.Var(prefixes(&s.AnswerUplink), "answer-uplink", "addresses to answer for on uplinks, with the uplink's MAC, while a route leads to them over a workload interface; routes to one address are announced (repeatable)")
	fs.Var(&scalar[wire.MAC]{&s.MAC, wire.ParseMAC, "MAC"}, "mac", "the MAC that is answered")
	fs.BoolVar(&s.KeepMAC, "keep-mac", s.KeepMAC, "leave the MAC of workload interfaces as found")
	fs.BoolVar(&s.IPv6, "ipv6", s.IPv6, "forward and answer IPv6 as well; --ipv6=false leaves it to the kernel")
	inGroup(fs, "Answers")

	fs.Var(&scalar[string]{&s.Engine, text, "NAME"}, "engine", "auto, af_packet: every packet through userspace, ebpf: userspace decides, plain packets stay in the kernel, or none: answer ARP only; auto is af_packet")
	fs.BoolVar(&s.Transit, "transit", s.Transit, "also forward between uplinks")
	fs.Var(&scalar[int]{&s.RPFilter, parseNumber, "0|1|2"}, "rp-filter", "source validation on workload interfaces, as the kernel's rp_filter: 0 off, 1 strict, 2 loose")
	fs.Var(prefixes(&s.Punt), "punt", "destinations left to the kernel (repeatable)")
	fs.BoolVar(&s.BypassPolicy, "bypass-policy", s.BypassPolicy, "forward although rules of the host would no longer apply")
	fs.Var(&scalar[string]{&s.OnPolicy, text, "HOW"}, "on-policy", "where rules of the host appear while it runs: warn and go on, or leave what they concern to the kernel")
	fs.Var(&scalar[string]{(*string)(&s.Claim), text, "HOW"}, "claim", "how packets are taken from the kernel: auto, tcx, clsact, or none: by forwarding=0 alone")
	fs.Var(&workersFlag{&s.Workers}, "workers", "threads that forward, 1 to 16; auto: one for four CPUs, up to four; flows keep their order")
	fs.Var(&scalar[int]{&s.Nice, parseNumber, "N"}, "nice", "nice value of the threads that forward and answer, -20 to 19; below 0 it wants CAP_SYS_NICE")
	inGroup(fs, "Forwarding")

	fs.StringVar(&s.Control, "control", s.Control, controlUsage)
	fs.StringVar(&s.Metrics, "metrics", s.Metrics, "`ADDR` for Prometheus (/metrics) and health checks (/healthz, /readyz): HOST:PORT, or a port of 127.0.0.1 (default: off)")
	fs.BoolVar(&s.Takeover, "takeover", s.Takeover, "take over from the daemon that runs here, without a lost packet or answer, instead of refusing to start; starts as usual where none runs")
	fs.StringVar(&s.StateDir, "state-dir", s.StateDir, "`dir` of the lock and of the record of changed MACs; made where it is missing")
	fs.Var(&choice{&s.LogFormat, []string{logging.Text, logging.JSON}}, "log-format", "`format` of the log: text or json")
	fs.Var(&level{&s.LogLevel}, "log-level", "least `level` of what is logged: debug, info, warn or error; debug tells what happens to interfaces and neighbours")
	inGroup(fs, "Program")
	return fs
}

// controlUsage is the help of --control, which many commands have.
const controlUsage = "`path` of the control socket"

// inGroup puts the flags that are in no group yet under a heading of the help.
func inGroup(fs *pflag.FlagSet, title string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Annotations == nil {
			f.Annotations = map[string][]string{cli.FlagGroup: {title}}
		}
	})
}

// loadSettings reads the file, unless file is "", and sets the flags of the command line over it. It may be called
// again when the file has changed. What is wrong in the line or the file is a usageError.
func loadSettings(line *pflag.FlagSet, file string) (settings, error) {
	s := defaultSettings()
	fs := s.flags()
	var fromFile map[string]yaml.Node
	if file != "" {
		var err error
		if fromFile, err = readConfig(file); err != nil {
			return s, err
		}
	}
	maps.DeleteFunc(fromFile, func(key string, _ yaml.Node) bool { return fs.Lookup(key) != nil && line.Changed(key) })
	if err := setFromFile(fs, file, fromFile); err != nil {
		return s, err
	}
	if err := setFromLine(fs, line); err != nil {
		return s, err
	}
	err := s.Validate()
	var bad *daemon.ConfigError
	if errors.As(err, &bad) {
		if node, there := fromFile[bad.Key]; there {
			return s, usagef("--config %s: line %d: %s %s", file, node.Line, bad.Key, bad.Why)
		}
	}
	if err != nil {
		return s, usagef("run: %v", err)
	}
	return s, nil
}

// readConfig reads a file's keys.
func readConfig(file string) (keys map[string]yaml.Node, err error) {
	text, err := readBounded(file, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err) // a usageError remains one
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&keys); err != nil && !errors.Is(err, io.EOF) {
		return nil, usagef("--config %s: %v", file, err)
	}
	if err := documents.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, usagef("--config %s: more than one YAML document: leave the first", file)
	}
	return keys, nil
}

// setFromFile sets flags to what a file's keys hold, in the order of the file.
func setFromFile(fs *pflag.FlagSet, file string, keys map[string]yaml.Node) error {
	names := slices.SortedFunc(maps.Keys(keys), func(a, b string) int { return keys[a].Line - keys[b].Line })
	for _, name := range names {
		node, flag := keys[name], fs.Lookup(name)
		if flag == nil {
			text := fmt.Sprintf("--config %s: line %d: no such key %q", file, node.Line, name)
			if near := nearest(name, keyNames(fs)); near != "" {
				return usagef("%s: did you mean %s?", text, near)
			}
			return usagef("%s; see proxyarpd run --help", text)
		}
		if line, err := setFromNode(flag.Value, &node); err != nil {
			return usagef("--config %s: line %d: %s: %v", file, line, name, err)
		}
	}
	return nil
}

func keyNames(fs *pflag.FlagSet) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// repeatable is a flag that may be given more than once.
type repeatable interface{ GetSlice() []string }

// setFromLine sets flags to what they were given on the command line.
func setFromLine(fs, line *pflag.FlagSet) (err error) {
	line.Visit(func(f *pflag.Flag) {
		to := fs.Lookup(f.Name)
		if to == nil || err != nil {
			return // --config itself
		}
		values := []string{f.Value.String()}
		if l, ok := f.Value.(repeatable); ok {
			values = l.GetSlice()
		}
		for _, v := range values {
			err = errors.Join(err, to.Value.Set(v))
		}
	})
	return err
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

// setFromNode sets a flag to what a key holds. Where that is wrong it says in which line.
func setFromNode(value pflag.Value, node *yaml.Node) (line int, err error) {
	l, isList := value.(repeatable)
	switch {
	case isTag(node):
		return node.Line, errUnquoted(node)
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return node.Line, errors.New("no value: leave the key out for the default")
	case node.Kind == yaml.ScalarNode:
		return node.Line, setOne(value, node.Value)
	case node.Kind != yaml.SequenceNode:
		return node.Line, errors.New("want a value or a list of values")
	case !isList:
		return node.Line, errors.New("want one value, not a list")
	case len(node.Content) == 0 && len(l.GetSlice()) > 0:
		return node.Line, errors.New("an empty list: leave the key out for the default")
	}
	for _, n := range node.Content {
		if isTag(n) {
			return n.Line, errUnquoted(n)
		}
		if n.Kind != yaml.ScalarNode {
			return n.Line, errors.New("want a list of plain values")
		}
		if err := setOne(value, n.Value); err != nil {
			return n.Line, err
		}
	}
	return 0, nil
}

// isTag reports whether a value begins with a tag of YAML's: an exclusion without
// quotes is read as one.
func isTag(n *yaml.Node) bool {
	return n.Tag != "" && n.Tag != "!" && !strings.HasPrefix(n.Tag, "!!")
}

func errUnquoted(n *yaml.Node) error {
	return fmt.Errorf("%s is a tag of YAML's: write it in quotes, as '%s'", n.Tag, n.Tag)
}

func setOne(value pflag.Value, s string) error {
	err := value.Set(s)
	switch {
	case err == nil:
		return nil
	case value.Type() == "bool":
		err = errors.New("want true or false")
	}
	return fmt.Errorf("%q: %w", s, err)
}
