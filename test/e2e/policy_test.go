package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestHostPolicy makes rules that forwarding in userspace would pass by. The
// program refuses, names what it found, and runs where it is told to.
func TestHostPolicy(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "iptables", "tc", "ping")
	for _, c := range []struct {
		name  string
		nft   string   // a file for nft -f
		lines []string // commands
		undo  string
		says  []string // what the refusal names
	}{
		{name: "nft forward chain", nft: `table inet filter {
			chain fw { type filter hook forward priority 0; policy accept; ip saddr 10.9.9.9 drop; ip daddr 10.9.9.9 drop; }
		}`, undo: "nft flush ruleset", says: []string{"inet filter", "fw", "2 rules"}},
		{name: "nft forward policy drop", nft: `table ip f { chain fw { type filter hook forward priority 0; policy drop; }; }`,
			undo: "nft flush ruleset", says: []string{"ip f", "fw", "policy drop"}},
		{name: "nft masquerade", nft: `table ip nat {
			chain post { type nat hook postrouting priority 100; oifname "ens192" masquerade; }
		}`, undo: "nft flush ruleset", says: []string{"ip nat", "post", "1 rule"}},
		{name: "nft dnat", nft: `table ip nat {
			chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to 10.20.1.3; }
		}`, undo: "nft flush ruleset", says: []string{"ip nat", "pre", "1 rule"}},
		{name: "nft netdev ingress", nft: `table netdev guard {
			chain in { type filter hook ingress device "veth0" priority 0; ip daddr 10.9.9.9 drop; }
		}`, undo: "nft flush ruleset", says: []string{"netdev guard", "in", "veth0", "1 rule"}},
		{name: "iptables-nft", lines: []string{"iptables-nft -A FORWARD -s 10.9.9.9 -j DROP"},
			undo: "iptables-nft -F", says: []string{"filter", "FORWARD", "1 rule"}},
		{name: "iptables-legacy", lines: []string{"iptables-legacy -A FORWARD -s 10.9.9.9 -j DROP"},
			undo: "iptables-legacy -F", says: []string{"filter", "FORWARD", "1 rule"}},
		{name: "u32 at clsact", lines: []string{"tc qdisc add dev veth0 clsact",
			"tc filter add dev veth0 ingress protocol ip u32 match ip dst 10.9.9.9/32 flowid 1:1"},
			undo: "tc qdisc del dev veth0 clsact", says: []string{"veth0", "u32", "1 filter"}},
		{name: "bpf at clsact of the uplink", lines: []string{"tc qdisc add dev ens192 clsact",
			"tc filter add dev ens192 egress bpf da bytecode 1,6+0+0+0"},
			undo: "tc qdisc del dev ens192 clsact", says: []string{"ens192", "egress", "1 filter"}},
		{name: "tbf on the uplink", lines: []string{"tc qdisc add dev ens192 root tbf rate 1gbit burst 1mb latency 100ms"},
			undo: "tc qdisc del dev ens192 root", says: []string{"tbf", "ens192"}},
		{name: "tbf on a workload", lines: []string{"tc qdisc add dev veth0 root tbf rate 1gbit burst 1mb latency 100ms"},
			undo: "tc qdisc del dev veth0 root", says: []string{"tbf", "veth0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
			labtest.Daemon(t, l, "host1", "--workload", "veth*")
			if c.nft != "" {
				file := filepath.Join(t.TempDir(), "rules.nft")
				if err := os.WriteFile(file, []byte(c.nft), 0o600); err != nil {
					t.Fatal(err)
				}
				c.lines = []string{"nft -f " + file}
			}
			for _, line := range c.lines {
				args := strings.Fields(line)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "+", " ")
				}
				labtest.Need(t, args[0])
				labtest.Run(t, l, "host0", args[0], args[1:]...)
			}
			refused := labtest.Start(t, l, "host0", "--workload", "veth*")
			if err := refused.Wait(t); err == nil {
				t.Fatal("it runs")
			}
			message := errorLine(t, refused.Stderr())
			if code := refused.Cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit %d", code)
			}
			for _, want := range append(c.says, "--bypass-policy", "--punt", "--engine none") {
				if !strings.Contains(message, want) {
					t.Errorf("no %q in %s", want, message)
				}
			}
			if got := linkMAC(t, l, "host0", "veth0"); got == answerMAC {
				t.Error("it refused, but changed the MAC")
			}

			arpOnly := labtest.Daemon(t, l, "host0", "--workload", "veth*", "--engine", "none")
			wantTTL(t, l, "ns0", host0IP, 64)
			arpOnly.Stop(t)

			bypass := labtest.Daemon(t, l, "host0", "--workload", "veth*", "--bypass-policy")
			wantTTL(t, l, "ns0", "10.20.1.3", 62)
			wantTTL(t, l, "ns1", "10.20.1.2", 62)
			if !strings.Contains(bypass.Stderr(), c.says[0]) {
				t.Errorf("it does not warn of what it passes by:\n%s", bypass.Stderr())
			}
			bypass.Stop(t)

			run(t, l, "host0", c.undo)
			labtest.Daemon(t, l, "host0", "--workload", "veth*")
			wantTTL(t, l, "ns0", "10.20.1.3", 62)
		})
	}
}

// TestHarmlessPolicy finds what a distribution brings by itself no reason to
// refuse.
func TestHarmlessPolicy(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "tc", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
	file := filepath.Join(t.TempDir(), "rules.nft")
	rules := `table inet filter { # Debian's /etc/nftables.conf
		chain input { type filter hook input priority filter; tcp dport 9 drop; }
		chain forward { type filter hook forward priority filter; }
		chain output { type filter hook output priority filter; }
	}
	table ip asleep { flags dormant; chain f { type filter hook forward priority 0; drop; }; }
	table netdev elsewhere { chain in { type filter hook ingress device "lo" priority 0; drop; }; }
	table ip6 six { chain f { type filter hook input priority 0; drop; }; }`
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, l, "host0", "nft -f "+file)
	run(t, l, "host0", "tc qdisc add dev ens192 root pfifo limit 1000")
	run(t, l, "host0", "tc qdisc add dev veth0 clsact")
	w := &world{Lab: l}
	w.daemons(t)
	wantTTL(t, l, "ns0", "10.20.1.3", 62)
	w.d[0].Stop(t)
	if got := run(t, l, "host0", "tc qdisc show dev veth0"); !strings.Contains(got, "clsact") {
		t.Errorf("a qdisc of others is gone: %s", got)
	}
}
