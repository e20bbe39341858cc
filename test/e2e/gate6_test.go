package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// planted6 are rules of IPv6 in host0 that drop packets of a pod. A host has them before the daemon starts.
var planted6 = []struct {
	name  string
	need  []string
	nft   string
	plant []string // + is a blank within a word
	undo  []string
	says  string
	one   bool // it concerns one interface
}{
	// As Docker and firewalld leave it: a policy, rules, and chains that they jump to.
	{name: "nft", need: []string{"nft"}, nft: `table ip6 filter { chain user { ip6 saddr POD drop; }
		chain FORWARD { type filter hook forward priority 0; policy drop; jump user; accept; }; }`,
		undo: []string{"nft delete table ip6 filter"}, says: "nft table ip6 filter chain FORWARD (hook forward, policy drop): 2 rules"},
	{name: "ip6tables-legacy", need: []string{"ip6tables-legacy"}, plant: []string{"ip6tables-legacy -A FORWARD -s POD -j DROP"},
		undo: []string{"ip6tables-legacy -F FORWARD"}, says: "ip6tables (legacy) table filter chain FORWARD: 1 rule"},
	{name: "xfrm", need: []string{"ip"}, plant: []string{"ip xfrm policy add src POD/128 dst fd00:10:65::/48 dir fwd action block"},
		undo: []string{"ip xfrm policy del src POD/128 dst fd00:10:65::/48 dir fwd"}, says: "IPsec (ip -6 xfrm policy) dir fwd: 1 policy"},
	// Echo requests: what resolves neighbours goes on.
	{name: "tc", need: []string{"tc"}, plant: []string{"tc qdisc add dev IFACE clsact", "tc filter add dev IFACE ingress protocol ipv6 prio 50 bpf da bytecode 4,48+0+0+54,21+0+1+128,6+0+0+2,6+0+0+4294967295"},
		undo: []string{"tc filter del dev IFACE ingress prio 50"}, says: "tc filters at clsact ingress", one: true},
}

// TestIPv6Gate starts a daemon on a host with rules of IPv6 alone: it forwards IPv4, and leaves IPv6 to the kernel, and
// so to the rules, until they are gone; and once more when they come back.
func TestIPv6Gate(t *testing.T) {
	t.Parallel()
	labtest.NeedIPv6(t)
	for _, c := range planted6 {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, append(c.need, "ping")...)
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
			kernelForwards6(t, l)
			labtest.Daemon(t, l, "host1")
			here, other, there := pods6(t, l, 0)[0], pods6(t, l, 0)[1], pods6(t, l, 1)[0]
			fill := strings.NewReplacer("POD", ip(here), "IFACE", here.Iface)
			plant := func() {
				t.Helper()
				lines := c.plant
				if c.nft != "" {
					file := filepath.Join(t.TempDir(), "rules.nft")
					if err := os.WriteFile(file, []byte(fill.Replace(c.nft)), 0o600); err != nil {
						t.Fatal(err)
					}
					lines = []string{"nft -f " + file}
				}
				for _, line := range lines {
					args := strings.Fields(fill.Replace(line))
					for i := range args {
						args[i] = strings.ReplaceAll(args[i], "+", " ")
					}
					labtest.Run(t, l, "host0", args[0], args[1:]...)
				}
			}
			plant()
			d := labtest.Daemon(t, l, "host0")
			reaches := func(from, to lab.Pod) bool {
				_, code := try(t, l, from.Node, "ping -n -c1 -W2 "+ip(to))
				return code == 0
			}
			// obeyed says who forwards: IPv6 of a pod by the rules, of another by the kernel or the daemon, and IPv4.
			obeyed := func(when string) {
				t.Helper()
				g := gateOf(t, d).Gate
				if g.State != "left" || len(g.Findings) != 1 || !strings.HasPrefix(g.Findings[0].What, c.says) {
					t.Errorf("%s: %+v, want %q", when, g, c.says)
				}
				if reaches(here, there) {
					t.Errorf("%s: a packet passes the rules by", when)
				}
				if !reaches(other, there) {
					t.Errorf("%s: the other pod has no IPv6", when)
				}
				before := statusOf(t, d).Forward.PacketsOut
				if !reaches(pods(l, 0)[0], pods(l, 1)[0]) || statusOf(t, d).Forward.PacketsOut < before+2 {
					t.Errorf("%s: IPv4 is not forwarded", when)
				}
			}
			obeyed("at the start")
			if !strings.Contains(d.Stderr(), "IPv6 is left to the kernel") || !strings.Contains(d.Stderr(), c.says) {
				t.Errorf("the log has no word of it:\n%s", d.Stderr())
			}
			if s := d.Status(t); !strings.Contains(s, "IPv6 is left to the kernel, for its rules: "+c.says) {
				t.Errorf("status does not name them:\n%s", s)
			}
			out, errw, _ := exec3(t, l, "host0", labtest.Binary(t), "doctor", "--control", d.Control)
			if !strings.Contains(out, "warning policy-left") || !strings.Contains(out, "--ipv6=false") {
				t.Errorf("doctor: %s%s", out, errw)
			}
			for _, line := range c.undo {
				run(t, l, "host0", fill.Replace(line))
			}
			await(t, "the rules are gone", func() bool { return gateOf(t, d).Gate.State == "clear" })
			before := statusOf(t, d).Forward.PacketsOut
			if !reaches(here, there) || statusOf(t, d).Forward.PacketsOut < before+2 {
				t.Error("IPv6 is not forwarded when the rules are gone")
			}
			if c.one {
				run(t, l, "host0", "tc qdisc del dev "+here.Iface+" clsact")
			}
			plant()
			await(t, "the rules are noticed again", func() bool { return gateOf(t, d).Gate.State == "left" })
			obeyed("again")
			if !strings.Contains(d.Stderr(), "appeared again, and IPv6 is left to the kernel") {
				t.Errorf("the log has no word of their return:\n%s", d.Stderr())
			}
		})
	}
}

// TestIPv6GateWaysOut starts on a host with rules of IPv6 with the flags that the warning names.
func TestIPv6GateWaysOut(t *testing.T) {
	t.Parallel()
	labtest.NeedIPv6(t)
	labtest.Need(t, "nft", "ping")
	for _, c := range []struct {
		flag     string
		state    string
		forwards bool
	}{{"--bypass-policy", "bypassed", true}, {"--ipv6=false", "clear", false}} {
		l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
		labtest.Daemon(t, l, "host1")
		file := filepath.Join(t.TempDir(), "rules.nft")
		if err := os.WriteFile(file, []byte("table ip6 f { chain fw { type filter hook forward priority 0; policy drop; }; }"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, l, "host0", "nft -f "+file)
		d := labtest.Daemon(t, l, "host0", c.flag)
		if strings.Contains(d.Stderr(), "IPv6 is left to the kernel") {
			t.Errorf("%s: %s", c.flag, d.Stderr())
		}
		await(t, c.flag, func() bool { return gateOf(t, d).Gate.State == c.state })
		if _, code := try(t, l, pods(l, 0)[0].Node, "ping -n -c1 -W2 "+ip(pods6(t, l, 1)[0])); (code == 0) != c.forwards {
			t.Errorf("%s: IPv6 is forwarded: %v", c.flag, code == 0)
		}
		if _, code := try(t, l, pods(l, 0)[0].Node, "ping -n -c1 -W2 "+ip(pods(l, 1)[0])); code != 0 {
			t.Errorf("%s: IPv4 is not forwarded", c.flag)
		}
	}
}

// Services of IPv6.
const (
	serviceRange6 = "fd00:10:96::/112"
	nearIP6       = "fd00:10:96::10"
	farIP6        = "fd00:10:96::11"
)

// rules6 are as kube-proxy writes them for a service of one pod each: the address is translated, and a pod that asks
// itself is hidden behind the host.
func rules6(near, far string) string {
	return fmt.Sprintf(`table ip6 kube-proxy {
chain services {
 ip6 daddr %s meta l4proto { tcp, udp } th dport %d dnat to [%s]:%d
 ip6 daddr %s meta l4proto { tcp, udp } th dport %[2]d dnat to [%[6]s]:%[4]d
}
chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
chain nat-output { type nat hook output priority -100; jump services; }
chain nat-postrouting { type nat hook postrouting priority srcnat
 ct status dnat ip6 saddr %[3]s ip6 daddr %[3]s masquerade fully-random
}
chain filter-forward { type filter hook forward priority -110; ct state invalid drop; }
}
`, nearIP6, servicePort, near, podPort, farIP6, far)
}

// TestIPv6Translated has a host that translates services of IPv6, beside a daemon that leaves it their range: all works
// as without the daemon, flows that are older included, and what goes from pod to pod is the daemon's. The same works
// beside one that knows the range of IPv4 alone, which leaves IPv6 to the kernel.
func TestIPv6Translated(t *testing.T) {
	t.Parallel()
	labtest.NeedIPv6(t)
	labtest.Need(t, "nft")
	for _, punt := range []string{serviceRange6, serviceRange} {
		t.Run("--punt "+punt, func(t *testing.T) { testTranslated6(t, punt) })
	}
}

func testTranslated6(t *testing.T, punt string) {
	t.Parallel()
	k := &kubeHost{t: t, world: &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}, servers: map[string]*seenServer{}}
	kernelForwards6(t, k.Lab)
	for _, host := range []string{"host0", "host1"} {
		if err := k.SetSysctl(host, "net.netfilter.nf_conntrack_tcp_be_liberal", "1"); err != nil {
			t.Fatal(err)
		}
	}
	k.from, k.near, k.far = pods6(t, k.Lab, 0)[0], pods6(t, k.Lab, 0)[1], pods6(t, k.Lab, 1)[0]
	run(t, k.Lab, "host0", "ip -6 route replace "+serviceRange6+" via "+host1IP6+" dev "+uplink) // some way, as a default route is
	file := filepath.Join(t.TempDir(), "rules.nft")
	if err := os.WriteFile(file, []byte(rules6(ip(k.near), ip(k.far))), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, k.Lab, "host0", "nft -f "+file)
	for _, p := range []lab.Pod{k.near, k.far} {
		k.servers[ip(p)] = serveSeen(t, k.Lab, p.Node, p.Addr.Addr())
	}
	at := func(addr string, port int) string { return fmt.Sprintf("[%s]:%d", addr, port) }
	matrix := func() map[string]string {
		seen := map[string]string{}
		for _, c := range []struct{ what, node, to string }{
			{"pod to service, near", k.from.Node, at(nearIP6, servicePort)},
			{"pod to service, far", k.from.Node, at(farIP6, servicePort)},
			{"pod to its own service", k.near.Node, at(nearIP6, servicePort)},
			{"host to service, near", "host0", at(nearIP6, servicePort)},
			{"host to service, far", "host0", at(farIP6, servicePort)},
			{"pod to pod, near", k.from.Node, at(ip(k.near), podPort)},
			{"pod to pod, far", k.from.Node, at(ip(k.far), podPort)},
		} {
			for _, proto := range []string{"tcp6", "udp6"} {
				for _, kind := range []string{"short", "long"} {
					what := c.what + ", " + proto + ", " + kind
					f, err := k.dial(proto, c.node, c.to, kind, 0)
					if err == nil {
						seen[what], err = f.ask()
						f.reset()
					}
					if err != nil {
						seen[what] = err.Error()
					}
				}
			}
		}
		return seen
	}
	want := matrix()
	for what, seen := range want {
		if _, err := netip.ParseAddr(seen); err != nil {
			t.Fatalf("without a daemon: %s: %s", what, seen)
		}
	}
	var old []*flow
	for i, to := range []string{nearIP6, farIP6} {
		for _, proto := range []string{"tcp6", "udp6"} {
			f, err := k.dial(proto, k.from.Node, at(to, servicePort), fmt.Sprintf("%s%d", proto, i), 0)
			if err == nil {
				_, err = f.ask()
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.reset)
			old = append(old, f)
		}
	}
	k.daemons(t, "--bypass-policy", "--punt", punt)
	k.pushAll("older than the daemon", old)
	k.compare("with a daemon", want, matrix())
	k.pushAll("again", old)
	s := statusOf(t, k.d[0])
	if punt != serviceRange6 {
		if s.Forward.PacketsOut > 100 || !strings.Contains(k.d[0].Stderr(), "IPv6 is left to the kernel") || gateOf(t, k.d[0]).Gate.State != "left" {
			t.Errorf("IPv6 is forwarded: %d packets, %+v\n%s", s.Forward.PacketsOut, gateOf(t, k.d[0]), k.d[0].Stderr())
		}
		return
	}
	if s.Forward.Verdicts["punted-flow"] == 0 || s.Forward.Verdicts["forward"] == 0 {
		t.Errorf("verdicts %v", s.Forward.Verdicts)
	}
}
