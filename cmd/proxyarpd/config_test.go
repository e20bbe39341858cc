package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/wire"
)

func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "proxyarpd.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func prefixes(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// The defaults are those that scripts rely on.
func TestDefaults(t *testing.T) {
	c := call(t, "run")
	want := daemon.Config{
		Version: versionString(), Workloads: []string{"cali*"}, Uplinks: []string{"auto"}, Gateways: []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")}, IPv6: true,
		MAC: wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, Engine: "af_packet", RPFilter: 1, OnPolicy: "warn", Control: "/run/proxyarpd.sock", Claim: claim.Auto, StateDir: "/run/proxyarpd", Nice: -20, LogFormat: "text",
	}
	if c.code != 0 || !reflect.DeepEqual(*c.started, want) {
		t.Errorf("exit %d: %+v", c.code, c.started)
	}
	if c.log.Enabled(t.Context(), slog.LevelDebug) || !c.log.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("logs what is for --log-level debug")
	}
}

// everything is each flag of run but --config, with values that are no default, and what they make.
var (
	everything = map[string][]string{
		"workload": {"veth*", "tap?"}, "uplink": {"ens3", "wg*"}, "transit": {"true"}, "gateway": {"10.0.0.1", "10.0.0.2"}, "ipv6": {"false"}, "proxy": {"10.1.0.0/16", "10.2.0.0/16"}, "answer-uplink": {"10.5.0.0/16", "10.6.0.0/16"},
		"mac": {"02:00:5e:00:53:01"}, "engine": {"none"}, "rp-filter": {"2"}, "punt": {"10.96.0.0/12", "0.0.0.0/0"}, "keep-mac": {"true"}, "bypass-policy": {"true"}, "on-policy": {"leave"},
		"control": {"/tmp/c.sock"}, "state-dir": {"/tmp/state"}, "claim": {"clsact"}, "nice": {"5"}, "workers": {"3"}, "metrics": {"127.0.0.1:9477"}, "takeover": {"true"}, "log-format": {"json"}, "log-level": {"debug"},
	}
	everythingMakes = daemon.Config{
		Workloads: []string{"veth*", "tap?"}, Uplinks: []string{"ens3", "wg*"}, Transit: true, Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
		Proxy: prefixes("10.1.0.0/16", "10.2.0.0/16"), AnswerUplink: prefixes("10.5.0.0/16", "10.6.0.0/16"), MAC: wire.MAC{2, 0, 0x5e, 0, 0x53, 1}, Engine: "none", RPFilter: 2, Punt: prefixes("10.96.0.0/12", "0.0.0.0/0"),
		KeepMAC: true, BypassPolicy: true, OnPolicy: "leave", LogFormat: "json", Control: "/tmp/c.sock", StateDir: "/tmp/state", Claim: claim.Clsact, Nice: 5, Workers: 3, Metrics: "127.0.0.1:9477", Takeover: true, LogLevel: slog.LevelDebug,
	}
)

func flagsOf(values map[string][]string) (args []string) {
	for name, all := range values {
		for _, v := range all {
			args = append(args, "--"+name+"="+v)
		}
	}
	return args
}

func keysOf(values map[string][]string) string {
	var b strings.Builder
	for name, all := range values {
		if len(all) == 1 {
			fmt.Fprintf(&b, "%s: %s\n", name, all[0])
			continue
		}
		fmt.Fprintf(&b, "%s:\n", name)
		for _, v := range all {
			fmt.Fprintf(&b, "  - %q\n", v)
		}
	}
	return b.String()
}

func sameConfig(t *testing.T, what string, c result, want daemon.Config) {
	t.Helper()
	want.Version = versionString()
	if c.code != 0 || c.errw != "" || c.started == nil {
		t.Errorf("%s: exit %d: %s", what, c.code, c.errw)
	} else if !reflect.DeepEqual(*c.started, want) {
		t.Errorf("%s:\n%+v\nwant:\n%+v", what, *c.started, want)
	}
}

// Each flag of run is a key of the file, means the same there, and wins over it.
func TestFlagsAndKeys(t *testing.T) {
	s := defaultSettings()
	var names []string
	s.flags().VisitAll(func(f *pflag.Flag) {
		names = append(names, f.Name)
		if _, there := everything[f.Name]; !there {
			t.Errorf("--%s is not tried here", f.Name)
		}
	})
	if len(names) != len(everything) {
		t.Errorf("flags %v", names)
	}
	file := configFile(t, keysOf(everything))
	byFlags := call(t, append([]string{"run"}, flagsOf(everything)...)...)
	byFile := call(t, "run", "--config", file)
	for what, c := range map[string]result{"flags": byFlags, "file": byFile} {
		sameConfig(t, what, c, everythingMakes)
		if !c.log.Enabled(t.Context(), slog.LevelDebug) {
			t.Errorf("%s: log-level is without effect", what)
		}
	}
	// One flag beside the file changes its field alone, and replaces lists as a whole.
	others := map[string]string{
		"workload": "cali*", "uplink": "auto", "transit": "false", "gateway": "169.254.1.1", "ipv6": "true", "proxy": "10.3.0.0/16", "answer-uplink": "10.7.0.0/16", "mac": "ee:ee:ee:ee:ee:ee", "engine": "af_packet", "rp-filter": "1",
		"punt": "10.4.0.0/16", "keep-mac": "false", "bypass-policy": "false", "on-policy": "warn", "control": "/run/other.sock", "state-dir": "/run/other", "claim": "tcx", "nice": "-3", "workers": "2", "metrics": ":9999", "takeover": "false", "log-format": "text", "log-level": "warn",
	}
	for _, name := range names {
		one := map[string][]string{}
		for n, v := range everything {
			one[n] = v
		}
		one[name] = []string{others[name]}
		want := call(t, append([]string{"run"}, flagsOf(one)...)...)
		got := call(t, "run", "--"+name, others[name], "--config", file)
		if f := s.flags().Lookup(name); f.NoOptDefVal != "" { // a switch has its value behind =
			got = call(t, "run", "--"+name+"="+others[name], "--config", file)
		}
		if got.code != 0 || !reflect.DeepEqual(got.started, want.started) || got.log.Enabled(t.Context(), slog.LevelDebug) != (name != "log-level") {
			t.Errorf("--%s over the file: %s%+v\nwant %+v", name, got.errw, got.started, want.started)
		}
		if reflect.DeepEqual(got.started, byFile.started) && name != "log-format" {
			t.Errorf("--%s over the file has no effect", name)
		}
	}
}

// The reference file has each key once, with its default, and a comment above it.
func TestReferenceFile(t *testing.T) {
	const file = "../../deploy/systemd/proxyarpd.yaml"
	c := call(t, "run", "--config", file)
	want := daemon.Default()
	want.Engine = daemon.EngineAFPacket
	want.Proxy, want.Punt = nil, nil
	sameConfig(t, file, c, want)
	keys, err := readConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	s := defaultSettings()
	for _, name := range keyNames(s.flags()) {
		node, there := keys[name]
		delete(keys, name)
		switch above := 0; {
		case !there:
			t.Errorf("no key %s", name)
		default:
			for i, line := range lines {
				if strings.HasPrefix(line, name+":") {
					above = i - 1
				}
			}
			if above <= 0 || !strings.HasPrefix(lines[above], "# ") {
				t.Errorf("line %d: %s without a comment", node.Line, name)
			}
		}
	}
	if len(keys) > 0 {
		t.Errorf("keys that are no flags: %v", slices.Collect(maps.Keys(keys)))
	}
}

// What a reload looks at is all that can be said.
func TestKeys(t *testing.T) {
	s := defaultSettings()
	flags, keys := keyNames(s.flags()), daemon.Keys()
	slices.Sort(flags)
	slices.Sort(keys)
	if !slices.Equal(flags, keys) {
		t.Errorf("flags %v\nkeys %v", flags, keys)
	}
}

// Forms of a command line, and of a file.
func TestForms(t *testing.T) {
	base := daemon.Default()
	base.Engine = daemon.EngineAFPacket
	with := func(edit func(*daemon.Config)) daemon.Config {
		c := base
		edit(&c)
		return c
	}
	for _, c := range []struct {
		args []string
		want daemon.Config
	}{
		{[]string{"--transit"}, with(func(c *daemon.Config) { c.Transit = true })},
		{[]string{"--transit", "--transit=false"}, base},
		{[]string{"--engine", "auto"}, base},
		{[]string{"--control", "/a", "--control", "/b"}, with(func(c *daemon.Config) { c.Control = "/b" })}, // a later one wins
		{[]string{"--control", "/" + strings.Repeat("x", 106)}, with(func(c *daemon.Config) { c.Control = "/" + strings.Repeat("x", 106) })},
		{[]string{"--rp-filter", "0"}, with(func(c *daemon.Config) { c.RPFilter = 0 })},
		{[]string{"--claim", "none"}, with(func(c *daemon.Config) { c.Claim = claim.None })},
		{[]string{"--workload", "cali[0-9]*"}, with(func(c *daemon.Config) { c.Workloads = []string{"cali[0-9]*"} })},
		{[]string{"--uplink", "auto"}, base},
		{[]string{"--uplink", "auto", "--uplink", "!docker*"}, with(func(c *daemon.Config) { c.Uplinks = []string{"auto", "!docker*"} })},
		{[]string{"--workload", "!cali-x*", "--workload", "cali*"}, with(func(c *daemon.Config) { c.Workloads = []string{"!cali-x*", "cali*"} })},
		{[]string{"--punt", "0.0.0.0/0"}, with(func(c *daemon.Config) { c.Punt = prefixes("0.0.0.0/0") })},
	} {
		sameConfig(t, fmt.Sprint(c.args), call(t, append([]string{"run"}, c.args...)...), c.want)
	}
	for text, want := range map[string]daemon.Config{
		"":                        base,
		"{}\n":                    base,
		"# nothing\n---\n":        base,
		"proxy: []\npunt: []\n":   base,
		"gateway: [169.254.1.1]":  base,
		"workload: [cali*, '!x']": with(func(c *daemon.Config) { c.Workloads = []string{"cali*", "!x"} }),
		"uplink: auto":            base,
		"engine: \"none\"\n":      with(func(c *daemon.Config) { c.Engine = "none" }),
		"transit: True\n":         with(func(c *daemon.Config) { c.Transit = true }),
		"rp-filter: 0x2\n":        {},
	} {
		c := call(t, "run", "--config", configFile(t, text))
		if want.Engine == "" {
			if c.code != exitUsage {
				t.Errorf("%q: %+v", text, c)
			}
			continue
		}
		sameConfig(t, fmt.Sprintf("%q", text), c, want)
	}
}

// What is wrong in a file is one line with the file, the line and the key.
func TestWrongFile(t *testing.T) {
	for text, want := range map[string]string{
		"workload: veth*\nworkloads: veth*\n":   `line 2: no such key "workloads": did you mean workload?`,
		"nothing-like-it: 1\n":                  `line 1: no such key "nothing-like-it"; see proxyarpd run --help`,
		"config: x\n":                           `line 1: no such key "config"; see proxyarpd run --help`,
		"help: true\n":                          `line 1: no such key "help"; see proxyarpd run --help`,
		"b: 1\na: 1\n":                          `line 1: no such key "b"; see proxyarpd run --help`, // the first is told
		"transit: true\nmac: x\n":               `line 2: mac: "x": "x" is not a MAC address of the form aa:bb:cc:dd:ee:ff`,
		"transit: perhaps\n":                    `line 1: transit: "perhaps": want true or false`,
		"transit: [true, false]\n":              "line 1: transit: want one value, not a list",
		"mac: [02:00:5e:00:53:01]\n":            "line 1: mac: want one value, not a list",
		"punt: {a: b}\n":                        "line 1: punt: want a value or a list of values",
		"punt:\n- 10.0.0.0/8\n- [10.0.0.0/8]\n": "line 3: punt: want a list of plain values",
		"punt:\n- 10.0.0.0/8\n- 10.0.0.0/40\n":  `line 3: punt: "10.0.0.0/40": want a prefix such as 10.96.0.0/12`,
		"mac:\n":                                "line 1: mac: no value: leave the key out for the default",
		"workload: ~\n":                         "line 1: workload: no value: leave the key out for the default",
		"transit: true\nuplink: []\n":           "line 2: uplink: an empty list: leave the key out for the default",
		"gateway: []\n":                         "line 1: gateway: an empty list: leave the key out for the default",
		"\nrp-filter: 3\n":                      "line 2: rp-filter 3: want 0, 1 or 2",
		"uplink:\n- eth0\n- auto\n":             "line 2: uplink auto stands alone, or with exclusions: leave it out, or the others",
		"proxy: 10.0.0.1/8\n":                   "line 1: proxy 10.0.0.1/8 has host bits: write 10.0.0.0/8, or 10.0.0.1/32",
		"engine: x\n":                           `line 1: engine "x": want auto, af_packet, ebpf or none`,
		"gateway: ff02::1\n":                    "line 1: gateway ff02::1: want an address that an interface can have",
		"workload:\n- cali*\n- !cali-x*\n":      "line 3: workload: !cali-x* is a tag of YAML's: write it in quotes, as '!cali-x*'",
		"uplink: !docker0\n":                    "line 1: uplink: !docker0 is a tag of YAML's: write it in quotes, as '!docker0'",
		"workload: '!cali*'\n":                  "line 1: workload !cali* only excludes: also name what it is taken from, such as cali*",
		"transit: true\n---\ntransit: false\n":  "more than one YAML document: leave the first",
		"transit: true\ntransit: false\n":       `yaml: unmarshal errors:;   line 2: mapping key "transit" already defined at line 1`,
		"a: [\n":                                "yaml: line 1: did not find expected node content",
		"text\n":                                "yaml: unmarshal errors:;   line 1: cannot unmarshal !!str `text` into map[string]yaml.Node",
	} {
		file := configFile(t, text)
		c := call(t, "run", "--config", file)
		if c.errw != "proxyarpd: --config "+file+": "+want+"\n" || c.code != exitUsage || c.started != nil {
			t.Errorf("%q: exit %d: %s", text, c.code, c.errw)
		}
	}
	// What a flag has set is the flag's fault, and what it replaces is nobody's.
	file := configFile(t, "rp-filter: 3\nmac: x\n")
	if c := call(t, "run", "--config", file, "--rp-filter", "1", "--mac", "02:00:5e:00:53:01"); c.code != 0 {
		t.Errorf("flags over what is wrong: exit %d: %s", c.code, c.errw)
	}
	if c := call(t, "run", "--config", file, "--rp-filter", "4", "--mac", "02:00:5e:00:53:01"); c.errw != "proxyarpd: run: --rp-filter 4: want 0, 1 or 2\n" {
		t.Errorf("a wrong flag over a file: %s", c.errw)
	}
	for _, name := range []string{"/no/such/file", t.TempDir()} {
		if c := call(t, "run", "--config", name); c.code != exitFailed || !strings.HasPrefix(c.errw, "proxyarpd: --config: ") || !strings.Contains(c.errw, name) {
			t.Errorf("%s: exit %d: %s", name, c.code, c.errw)
		}
	}
}

// The same line gives what the file says by then.
func TestFileAgain(t *testing.T) {
	s := defaultSettings()
	line := s.flags()
	if err := line.Parse([]string{"--punt", "10.0.0.0/8", "--punt", "11.0.0.0/8", "--transit"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, mac := range []string{"02:00:5e:00:53:01", "02:00:5e:00:53:02"} {
			got, err := loadSettings(line, configFile(t, "mac: "+mac+"\npunt: 12.0.0.0/8\n"))
			if err != nil || got.MAC.String() != mac || !slices.Equal(got.Punt, prefixes("10.0.0.0/8", "11.0.0.0/8")) || !got.Transit {
				t.Errorf("%+v, %v", got, err)
			}
		}
	}
}

// A list has so many values and no more, whoever gives them, and a file that can
// hold them so many bytes.
func TestBounds(t *testing.T) {
	flags := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("--workload=cali%d", i))
		}
		return all
	}
	file := func(text string) []string {
		t.Helper()
		f, err := os.CreateTemp(t.TempDir(), "")
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", f.Name()}
	}
	list := func(key, value string, n int) string { return key + ":\n" + strings.Repeat("- "+value+"\n", n) }
	for name, c := range map[string]struct {
		args []string
		want string // "": fine
	}{
		"flags":             {flags(maxValues), ""},
		"a flag too many":   {flags(maxValues + 1), "more than 4096 values"},
		"a list":            {file(list("workload", "cali*", maxValues)), ""},
		"a value too many":  {file(list("workload", "cali*", maxValues+1)), "more than 4096 values"},
		"prefixes":          {file(list("punt", "203.0.113.111/32", maxValues) + list("proxy", "203.0.113.111/32", maxValues)), ""},
		"a prefix too many": {file(list("punt", "203.0.113.111/32", maxValues+1)), "more than 4096 values"},
		"a million globs":   {file(list("workload", "cali1", 1e6)), "larger than 524288 bytes"},
		"spaces":            {file(strings.Repeat(" ", maxConfig+1)), "larger than"},
		"without an end":    {[]string{"--config", "/dev/zero"}, "larger than"},
		"deep":              {file(strings.Repeat("[", maxConfig)), "max depth"},
		"a directory":       {[]string{"--config", t.TempDir()}, "is a directory"},
		"none":              {[]string{"--config", t.TempDir() + "/none"}, "no such file"},
	} {
		got := call(t, append([]string{"run"}, c.args...)...)
		var err error
		var cfg daemon.Config
		if got.started != nil {
			cfg = *got.started
		}
		if got.code != 0 {
			err = errors.New(got.errw)
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.want == "" && len(cfg.Workloads) != maxValues && len(cfg.Punt) != maxValues {
			t.Errorf("%s: %d globs, %d prefixes", name, len(cfg.Workloads), len(cfg.Punt))
		}
		if strings.Contains(c.want, "than") && got.code != exitUsage {
			t.Errorf("%s: no usage error: %v", name, err)
		}
	}
}
