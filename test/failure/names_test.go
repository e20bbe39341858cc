package failure

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab/labtest"
)

// oddNames are names that the kernel lets an interface have.
var oddNames = []string{"veth\x1b[31m\aX", "veth\xff\xc3X", "veth\u009b1mX", "veth\x7f\x01X"}

// quiet fails the test if a text could act on a terminal.
func quiet(t testing.TB, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }) {
		t.Errorf("%s: %q", what, text)
	}
}

// TestNames: whatever an interface is called, it is served, and what is printed
// of it is printable: status, its JSON, the log, and errors.
func TestNames(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "tc")
	l := hosts(t, 1, 1)
	before := map[string]string{}
	for i, name := range oddNames {
		labtest.Run(t, l, "host0", "ip", "link", "add", name, "type", "veth", "peer", "name", fmt.Sprintf("peer%d", i))
		labtest.Run(t, l, "host0", "ip", "link", "set", name, "up")
		before[name] = macOf(t, l, "host0", name)
	}
	p := serve(t, l, "--log-level", "debug", "--uplink", "ens192")[0]
	table, raw := p.Status(t), p.Status(t, "-o", "json")
	quiet(t, "status", table)
	quiet(t, "status -o json", raw)
	for _, shown := range []string{`veth\x1b[31m\aX`, `veth\xff\xc3X`, `veth\u009b1mX`, `veth\x7f\x01X`} {
		if !strings.Contains(table, shown+" ") {
			t.Errorf("status: no %s in\n%s", shown, table)
		}
	}
	var s daemon.Status
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, i := range s.Workloads {
		names[i.Name] = i.Forwards && i.MAC == answerMAC
	}
	for _, name := range []string{oddNames[0], `veth\xff\xc3X`, oddNames[2], oddNames[3]} {
		if !names[name] {
			t.Errorf("%q is not served: %v", name, names)
		}
	}
	// One that is refused, by its name.
	const refused = "veth\x1b\a2"
	for _, line := range []string{"ip link add other type veth peer name peer9", "tc qdisc add dev other clsact",
		"tc filter add dev other ingress protocol ip u32 match u32 0 0"} {
		run(t, l, "host0", line)
	}
	labtest.Run(t, l, "host0", "ip", "link", "set", "other", "name", refused)
	labtest.Run(t, l, "host0", "ip", "link", "set", refused, "up")
	await(t, "it is refused", func() bool { return strings.Contains(p.Status(t), "u32") })
	quiet(t, "status of a refused one", p.Status(t))
	quiet(t, "status of a refused one", p.Status(t, "-o", "json"))
	p.Stop(t)
	quiet(t, "the log", p.Stderr())
	for name, had := range before {
		if now := macOf(t, l, "host0", name); now != had {
			t.Errorf("%q had %s, and now %s", name, had, now)
		}
	}
	// What would not start says so by that name.
	said := exited(t, l, "host0", "--workload", "veth*")
	quiet(t, "an error", said)
	if !strings.Contains(said, `\x1b`) || !strings.Contains(said, "u32") {
		t.Errorf("%s", said)
	}
	for _, args := range [][]string{{"\x1b[31m"}, {"run", "--\x1b"}, {"run", "\x1b\a"}, {"status", "--control", "/\x1b\xff"}, {"run", "--config", "/\x1b"}, {"lab", "\x1b"},
		{"bench", "--only", "\x1b"}, {"capture", "-r", "/\x1b\a"}, {"capture", "--\x1b"}} {
		out, err := l.Command(labtest.Soon(t), "host0", labtest.Binary(t), args...).CombinedOutput()
		if err == nil {
			t.Errorf("%q: no error", args)
		}
		quiet(t, fmt.Sprintf("%q", args), string(out))
	}
}
