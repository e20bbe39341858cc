package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"proxyarpd/bench"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/printable"
)

// result is what came of a command line.
type result struct {
	out, errw string
	code      int
	started   *daemon.Config // what the daemon was started with, if it was
	log       *slog.Logger
	caller    daemon.Caller
	measured  *bench.Options // what bench was to measure, if it was
}

// call runs a command line within the test; the daemon is not started.
func call(t *testing.T, args ...string) result {
	t.Helper()
	return callWith(t, nil, args...)
}

// callWith has the daemon end with an error.
func callWith(t *testing.T, end error, args ...string) (c result) {
	t.Helper()
	var out, errw bytes.Buffer
	p := &program{out: &out, errw: printable.NewWriter(&errw), args: args}
	p.start = func(_ context.Context, cfg daemon.Config, caller daemon.Caller) error {
		c.started, c.log, c.caller = &cfg, caller.Log, caller
		return end
	}
	p.measure = func(_ context.Context, o bench.Options) (*bench.Report, error) {
		c.measured = &o
		return &bench.Report{Base: bench.Kernel}, end
	}
	c.code = p.main(t.Context())
	c.out, c.errw = out.String(), errw.String()
	return c
}

// tree is the commands as they are made for each call.
func tree() *cobra.Command {
	return newRoot(&program{out: new(bytes.Buffer), errw: new(bytes.Buffer)})
}

// each calls do with each command that the help names.
func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, c := range cmd.Commands() {
		if isListed(c) {
			each(c, do)
		}
	}
}

// A wrong command line is one line on standard error that names the flag or the word, and what to do. Nothing runs.
func TestWrongUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                  "no command given: run, status, top, reload, capture, explain, doctor, bench, lab, completion, version, help; see proxyarpd --help",
		"nonsense":          `no command "nonsense"; see proxyarpd --help`,
		"staus":             `no command "staus": did you mean status?`,
		"staus --wait 3s":   `no command "staus": did you mean status?`,
		"Run":               `no command "Run": did you mean run?`,
		"--nonsense":        "unknown flag --nonsense; see proxyarpd --help",
		"-x":                "unknown flag -x; see proxyarpd --help",
		"--version x":       `no command "x"; see proxyarpd --help`,
		"help nons":         `no command "nons"; see proxyarpd --help`,
		"help lab upp":      `lab: no command "upp": did you mean up?`,
		"version x":         `version: unexpected argument "x"; see proxyarpd version --help`,
		"completion":        "completion: name one shell: bash, zsh or fish",
		"completion tcsh":   `completion: no script for "tcsh": there are those for bash, zsh or fish`,
		"completion zsh sh": "completion: name one shell: bash, zsh or fish",

		"run x":                            `run: unexpected argument "x"; see proxyarpd run --help`,
		"run --worklod x":                  "run: unknown flag --worklod: did you mean --workload?",
		"run -workload x":                  "run: unknown flag -workload: did you mean --workload?",
		"run -workload=x":                  "run: unknown flag -workload=x: did you mean --workload=x?",
		"run --transit -engine x":          "run: unknown flag -engine: did you mean --engine?",
		"run -x":                           "run: unknown flag -x; see proxyarpd run --help",
		"run --mac":                        "run: --mac needs a value: MAC; see proxyarpd run --help",
		"run --mac x":                      `run: --mac "x": "x" is not a MAC address of the form aa:bb:cc:dd:ee:ff; see proxyarpd run --help`,
		"run --mac 01:00:5e:0:0:1":         `run: --mac "01:00:5e:0:0:1": "01:00:5e:0:0:1" is not a MAC address of the form aa:bb:cc:dd:ee:ff; see proxyarpd run --help`,
		"run --keep-mac=perhaps":           `run: --keep-mac "perhaps": want true or false; see proxyarpd run --help`,
		"run --gateway x":                  `run: --gateway "x": want an address such as 169.254.1.1; see proxyarpd run --help`,
		"run --punt 10.96.0.0/33":          `run: --punt "10.96.0.0/33": want a prefix such as 10.96.0.0/12; see proxyarpd run --help`,
		"run --rp-filter strict":           `run: --rp-filter "strict": want a number; see proxyarpd run --help`,
		"run --gateway ff02::1":            "run: --gateway ff02::1: want an address that an interface can have",
		"run --engine dpdk":                `run: --engine "dpdk": want auto, af_packet, ebpf or none`,
		"run --claim xdp":                  `run: --claim "xdp": want auto, tcx, clsact or none`,
		"run --workload [":                 `run: --workload "[" is not a glob: want a name, or a pattern such as cali* or !cali-x*`,
		"run --workload=":                  `run: --workload "" is not a glob: want a name, or a pattern such as cali* or !cali-x*`,
		"run --uplink a --uplink [":        `run: --uplink "[" is not a glob: want a name, or a pattern such as cali* or !cali-x*`,
		"run --uplink auto --uplink eth0":  "run: --uplink auto stands alone, or with exclusions: leave it out, or the others",
		"run --proxy 10.0.0.1/8":           "run: --proxy 10.0.0.1/8 has host bits: write 10.0.0.0/8, or 10.0.0.1/32",
		"run --punt 10.0.0.1/8":            "run: --punt 10.0.0.1/8 has host bits: write 10.0.0.0/8, or 10.0.0.1/32",
		"run --punt fd00::1/8":             "run: --punt fd00::1/8 has host bits: write fd00::/8, or fd00::1/128",
		"run --mac 00:00:00:00:00:00":      "run: --mac 00:00:00:00:00:00: want an address that an interface can have, neither zero nor a group's",
		"run --mac 01:00:5e:00:00:01":      "run: --mac 01:00:5e:00:00:01: want an address that an interface can have, neither zero nor a group's",
		"run --rp-filter 3":                "run: --rp-filter 3: want 0, 1 or 2",
		"run --rp-filter=-1":               "run: --rp-filter -1: want 0, 1 or 2",
		"run --nice -21":                   "run: --nice -21: want a number from -20, the most CPU time, to 19",
		"run --nice 20":                    "run: --nice 20: want a number from -20, the most CPU time, to 19",
		"run --workers 0":                  `run: --workers "0": want a number from 1 to 16, or auto; see proxyarpd run --help`,
		"run --workers 17":                 `run: --workers "17": want a number from 1 to 16, or auto; see proxyarpd run --help`,
		"run --workers=-1":                 `run: --workers "-1": want a number from 1 to 16, or auto; see proxyarpd run --help`,
		"run --workers many":               `run: --workers "many": want a number from 1 to 16, or auto; see proxyarpd run --help`,
		"run --state-dir=":                 "run: --state-dir is empty: name a directory",
		"run --control=":                   `run: --control "": a socket's path has 1 to 107 bytes`,
		"run --control " + long(108):       `run: --control "` + long(108) + `": a socket's path has 1 to 107 bytes`,
		"run --config /no/such --nonsense": "run: unknown flag --nonsense; see proxyarpd run --help",

		"status x":           `status: unexpected argument "x"; see proxyarpd status --help`,
		"status -o xml":      `status: -o "xml": want table or json; see proxyarpd status --help`,
		"status --wait x":    `status: --wait "x": want a duration such as 10s; see proxyarpd status --help`,
		"status --wait -1ns": `status: --wait "-1ns": want a duration from 0 up; see proxyarpd status --help`,

		"capture --drps":       "capture: unknown flag --drps: did you mean --drops?",
		"capture -nYi lo":      "capture: unknown flag -Y in -Yi; see proxyarpd capture --help",
		"capture -c":           "capture: -c needs a value: PACKETS; see proxyarpd capture --help",
		"capture -c x":         `capture: -c "x": must be an integer; see proxyarpd capture --help`,
		"capture --verdict x":  `capture: --verdict "x": want suffix, line, json, off`,
		"capture -r x -i lo":   "capture: -i and -r exclude each other",
		"capture -E x":         "capture: -E is refused: nothing is decrypted here; write the packets with -w and read them with tcpdump -E",
		"capture -i lo nosuch": `capture: can't parse filter expression: column 1: "nosuch" needs a qualifier before it: "host", "net", "port", ...`,

		"lab":                    "lab: no command given: up, down, exec, demo; see proxyarpd lab --help",
		"lab upp":                `lab: no command "upp": did you mean up?`,
		"lab --x":                "lab: unknown flag --x; see proxyarpd lab --help",
		"lab up x":               `lab up: unexpected argument "x"; see proxyarpd lab up --help`,
		"lab up --pods -1":       "lab up: --pods -1: give 1 or more",
		"lab up --name=":         "lab up: --name must not be empty",
		"lab down --name ../x":   `lab down: --name "../x" is no lab's name`,
		"lab down --name=":       `lab down: --name "" is no lab's name`,
		"lab demo --name=":       `lab demo: --name "" cannot be a lab's name`,
		"lab exec":               "lab exec: give a node and a command: proxyarpd lab exec host0 ip route",
		"lab exec host0 --":      "lab exec: give a node and a command: proxyarpd lab exec host0 ip route",
		"bench compar a b":       `bench: unexpected argument "compar": did you mean compare?`,
		"bench -quick":           "bench: unknown flag -quick: did you mean --quick?",
		"bench -o xml":           `bench: -o "xml": want table or json; see proxyarpd bench --help`,
		"bench compare a":        "bench compare: want OLD.json NEW.json",
		"bench html a b":         "bench html: want REPORT.json",
		"bench --contestant =x":  `bench: --contestant "=x": want NAME=COMMAND; see proxyarpd bench --help`,
		"bench --contestant a=":  `bench: --contestant "a=": want NAME=COMMAND; see proxyarpd bench --help`,
		"bench --from a":         "bench: --from and --to go together",
		"bench --to a":           "bench: --from and --to go together",
		"bench --host a":         "bench: --host is for use with --from NETNS and --to NETNS",
		"bench --from-if a":      "bench: --from-if is for use with --from NETNS and --to NETNS",
		"bench --trial 0s":       "bench: --trial 0s: give 100ms or more",
		"bench --to-address ::1": `bench: --to-address "::1": want an IPv4 address; see proxyarpd bench --help`,
	} {
		c := call(t, strings.Fields(line)...)
		if c.errw != "proxyarpd: "+want+"\n" || c.out != "" || c.code != exitUsage || c.started != nil || c.measured != nil {
			t.Errorf("proxyarpd %s: exit %d\n%s%swant: %s", line, c.code, c.out, c.errw, want)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// An error of the daemon's is exit 1 and one line, whatever it holds; an error of the line that comes late is exit 2.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		end  error
		code int
		want string
	}{
		{nil, 0, ""},
		{errors.Join(errors.New("cali1: \x1b[2J"), errors.New("cali2: no")), 1, "proxyarpd: cali1: \\x1b[2J; cali2: no\n"},
		{errors.Join(errors.New("a"), usagef("b")), 2, "proxyarpd: a; b\n"},
	} {
		got := callWith(t, c.end, "run")
		if got.code != c.code || got.errw != c.want || got.out != "" || got.started == nil {
			t.Errorf("%v: exit %d, %q", c.end, got.code, got.errw)
		}
	}
}

func TestVersion(t *testing.T) {
	defer func(was string) { version = was }(version)
	version = "v1.2.3"
	for _, line := range []string{"version", "--version"} {
		if c := call(t, line); c.out != "proxyarpd v1.2.3\n" || c.errw != "" || c.code != 0 {
			t.Errorf("%s: %+v", line, c)
		}
	}
	if c := call(t, "run"); c.started.Version != "v1.2.3" {
		t.Errorf("run as %q", c.started.Version)
	}
}

// --help wins over all that stands behind it, and goes to standard output; nothing runs.
func TestHelp(t *testing.T) {
	each(tree(), func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		help := call(t, append([]string{"help"}, path...)...)
		for _, more := range [][]string{{"--help"}, {"-h"}, {"--help", "--nonsense", "x"}, {"-help"}} {
			c := call(t, append(path, more...)...)
			if c.code != 0 || c.errw != "" || c.out != help.out || c.started != nil {
				t.Errorf("%v %v: exit %d, %s%s", path, more, c.code, c.out, c.errw)
			}
		}
		for _, want := range []string{"usage: " + cmd.CommandPath(), "\nExamples\n  proxyarpd ", "\nExit status\n  0  ", "\n  1  ", "\n  2  wrong usage", "-h, --help"} {
			if !strings.Contains(help.out, want) && !(want[1:9] == "Examples" && (cmd.Name() == "help" || cmd.Name() == "version")) {
				t.Errorf("the help of %v has no %q:\n%s", path, want, help.out)
			}
		}
		for line := range strings.Lines(help.out) {
			if len(line) > 121 {
				t.Errorf("the help of %v has a line of %d characters: %s", path, len(line)-1, line)
			}
		}
		var names []string
		for _, g := range flagGroups(cmd) {
			for _, f := range g.flags {
				names = append(names, f.long)
			}
		}
		if len(names) == 0 || names[len(names)-1] != "help" {
			t.Errorf("%v: --help is not the last of %v", path, names)
		}
	})
}

// The root's help has the commands in groups, run's has the flags in groups.
func TestHelpGroups(t *testing.T) {
	for line, want := range map[string]string{
		"--help":     "\nDaemon\n  run \n  reload \nLook\n  status \n  top \n  capture \n  explain \n  doctor \nMeasure\n  bench \nLab\n  lab \nOther\n  completion \n  version \n  help \nFlags\n",
		"lab --help": "\nCommands\n  up \n  down \n  exec \n  demo \nFlags\n",
		"run --help": "\nInterfaces\n  --workload \n  --uplink \nAnswers\n  --gateway \n  --proxy \n  --answer-uplink \n  --mac \n  --keep-mac \n  --ipv6 \nForwarding\n  --engine \n  --transit \n  --rp-filter \n  --punt \n" +
			"  --bypass-policy \n  --on-policy \n  --claim \n  --workers \n  --nice \nProgram\n  --control \n  --metrics \n  --takeover \n  --state-dir \n  --log-format \n  --log-level \n  --config \n  -h, \nExamples\n",
		"capture --help": "\nVerdicts\n  --verdict \n  --drops \n  --last-drops \n  --reason \n  --summary \n  --control \n  --bpf-file \ntcpdump's options\n  -i, \n  -c, \n  -s, \n",
	} {
		var short strings.Builder
		for l := range strings.Lines(call(t, strings.Fields(line)...).out) {
			if strings.HasPrefix(l, strings.Repeat(" ", 20)) || l == "\n" {
				continue // a text goes on
			}
			if strings.HasPrefix(l, " ") {
				l = "  " + strings.Fields(l)[0] + " \n"
			}
			short.WriteString(l)
		}
		if !strings.Contains(short.String(), want) {
			t.Errorf("%s\n%s", line, short.String())
		}
	}
	run := call(t, "run", "--help").out
	for _, want := range []string{
		"--workload GLOB       interfaces that lead to workloads (repeatable); !GLOB leaves out\n                            (default cali*)\n",
		"--transit             also forward between uplinks\n",
		"--rp-filter 0|1|2     source validation on workload interfaces, as the kernel's rp_filter: 0\n                            off, 1 strict, 2 loose (default 1)\n",
	} {
		if !strings.Contains(run, want) {
			t.Errorf("no %q in\n%s", want, run)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"run", "status", "capture", "bench"}
	for typed, want := range map[string]string{
		"staus": "status", "statsu": "status", "stats": "status", "rum": "run", "rn": "run", "ru": "run", "x": "", "": "", "xn": "", "xyz": "", "capturing": "", "captre": "capture", "statusxy": "status", "statusxyz": "",
	} {
		if got := nearest(typed, names); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"abc", "abc", 0}, {"abcd", "bcd", 1}, {"flaw", "lawn", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
