package e2e

import (
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestIPv6OnceAndOnlyOnce counts numbered packets where the kernel could forward
// them too, and answer for the gateway, and where it could not.
func TestIPv6OnceAndOnlyOnce(t *testing.T) {
	const packets = 10000
	labtest.NeedIPv6(t)
	for _, c := range []struct {
		name, claim string
		calico      bool
	}{
		{"Calico's settings, tcx", "tcx", true},
		{"Calico's settings, clsact", "clsact", true},
		{"forwarding 0, tcx", "tcx", false},
		{"forwarding 0, no claim", "none", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
			if c.calico {
				calicoSettings(t, l)
				kernelForwards6(t, l)
			}
			w := &world{Lab: l}
			w.daemons(t, "--claim", c.claim)
			mine, others := pods6(t, l, 0), pods6(t, l, 1)
			wantTTL(t, l, mine[0].Node, ip(others[0]), 62)
			wantTTL(t, l, mine[0].Node, ip(mine[1]), 63)
			wantTTL(t, l, mine[0].Node, host0IP6, 64)
			before := statusOf(t, w.d[0])
			w.eachOnce(t, mine[0], others[0], packets)
			w.eachOnce(t, mine[0], mine[1], packets)
			after := statusOf(t, w.d[0])
			if w.stalled(t) > 0 {
				return // on a busy machine, where the kernel then has some of the packets
			}
			punted := after.Forward.Verdicts["reader-stalled"] - before.Forward.Verdicts["reader-stalled"]
			if n := after.Forward.PacketsOut - before.Forward.PacketsOut + punted; n < 2*packets || n > 2*packets+100 {
				t.Errorf("%d packets out for %d sent, %d of them by the kernel", n, 2*packets, punted)
			}
			if len(after.Forward.Drops) != 0 {
				t.Errorf("drops: %v", after.Forward.Drops)
			}
		})
	}
}

// TestIPv6Off leaves all of IPv6 to the kernel.
func TestIPv6Off(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	labtest.NeedIPv6(t)
	for _, forwards := range []bool{false, true} {
		l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
		if forwards {
			kernelForwards6(t, l)
		}
		w := &world{Lab: l}
		w.daemons(t, "--ipv6=false")
		from, to := pods6(t, l, 0)[0], pods6(t, l, 1)[0]
		wantTTL(t, l, from.Node, ip(pods(l, 1)[0]), 62) // IPv4
		before := statusOf(t, w.d[0]).Forward.PacketsIn
		if out, code := try(t, l, from.Node, "ping -n -c1 -W1 "+ip(to)); (code == 0) != forwards {
			t.Errorf("the kernel forwards: %v\n%s", forwards, out)
		}
		if n := statusOf(t, w.d[0]).Forward.PacketsIn - before; n != 0 {
			t.Errorf("%d packets were taken from the kernel", n)
		}
	}
}

// TestIPv6WritesNoSysctl compares all of IPv6's settings.
func TestIPv6WritesNoSysctl(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	labtest.NeedIPv6(t)
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
	before := sysctlsBelow(t, l, "host0", "/proc/sys/net/ipv6")
	w := &world{Lab: l}
	w.daemons(t)
	wantTTL(t, l, pods(l, 0)[0].Node, ip(pods6(t, l, 1)[0]), 62)
	after := sysctlsBelow(t, l, "host0", "/proc/sys/net/ipv6")
	if len(before) < 100 {
		t.Errorf("%d sysctls", len(before))
	}
	for key, value := range before {
		if after[key] != value {
			t.Errorf("%s is %q, was %q", key, after[key], value)
		}
	}
}

// makeRouters6 are routers for IPv6: of the first lab the kernels forward, and
// answer for the gateway, whose address the pods' host ends have.
func makeRouters6(t *testing.T, podsPerHost int) (r routers) {
	spec := lab.Spec{Form: lab.FormCalico, PodsPerHost: podsPerHost, WireMTU: wireMTU}
	for i := range r {
		r[i] = labtest.New(t, spec)
		for _, n := range r[i].Nodes() { // no limits: what comes must not depend on when
			if err := r[i].SetSysctl(n.Name, "net.ipv6.icmp.ratelimit", "0"); err != nil {
				t.Fatal(err)
			}
		}
	}
	kernelForwards6(t, r[0])
	(&world{Lab: r[1]}).daemons(t)
	return r
}

// TestIPv6Clients has real clients measure the way through the kernel and through
// proxyarpd, as TestClients.
func TestIPv6Clients(t *testing.T) {
	names := []string{"ping", "traceroute", "tracepath", "mtr", "iperf3", "ndisc6", "nping"}
	tests := []func(*testing.T, *client){pingClient6, tracerouteClient6, tracepathClient6, mtrClient6, iperf3Client, ndisc6Client, npingClient6}
	labtest.Need(t, "ip")
	labtest.NeedIPv6(t)
	r := makeRouters6(t, len(names)+1)
	here, there := pods6(t, r[0], 0), pods6(t, r[0], 1)
	for i, name := range names {
		c := &client{r, here[i].Node, ip(here[i]), ip(here[len(names)]), ip(there[i]), host1IP6, there[i].Node}
		t.Run(name, func(t *testing.T) {
			labtest.Need(t, name)
			t.Parallel()
			tests[i](t, c)
		})
	}
}

func pingClient6(t *testing.T, c *client) {
	for _, to := range []string{c.near, c.far, c.beyond} {
		c.same(t, c.node, "ping -n -c1 -W2 "+to, "64 bytes from")
		c.same(t, c.node, "ping -n -c1 -W2 -Q 0xb8 "+to, "64 bytes from")
		c.same(t, c.node, "ping -n -c1 -W2 -t 1 "+to, "From "+host0IP6, "Hop limit")
	}
	c.same(t, c.node, "ping -n -c1 -W2 -t 2 "+c.far, "From "+host1IP6)
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1400 "+c.far, "From "+host0IP6, "mtu=1280")
	c.same(t, c.node, "ip route get "+c.far, "mtu 1280")
	c.same(t, c.node, "ping -n -c1 -W2 -s 1400 "+c.far, "1408 bytes from") // in fragments
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1232 "+c.far, "1240 bytes from")
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1400 "+c.near, "1408 bytes from")
	c.same(t, c.node, "ping -n -c1 -W2 2001:db8::1", "Destination unreachable: No route")
	c.same(t, c.node, "ping -n -c1 -W2 "+gateway6+"%eth0", "64 bytes from")
}

func tracerouteClient6(t *testing.T, c *client) {
	for _, how := range []string{"", "-U", "-I", "-T -p 80"} {
		for _, to := range []string{c.near, c.far, c.beyond} {
			c.same(t, c.node, "traceroute -6 -n -q1 -w2 "+how+" "+to, " 1  "+host0IP6, "  "+to)
		}
	}
	c.same(t, c.node, "traceroute -6 -n -q1 -w2 --mtu "+c.far, "F=1280", "  "+c.far)
	c.same(t, c.node, "traceroute -6 -n -q1 -w2 2001:db8::1", "!N")
}

func tracepathClient6(t *testing.T, c *client) {
	c.same(t, c.node, "tracepath -n "+c.near, "Resume: pmtu 1500 hops 2 back 2")
	c.same(t, c.node, "tracepath -n "+c.far, "pmtu 1280", "Resume: pmtu 1280 hops 3 back 3")
	c.same(t, c.node, "tracepath -n "+c.beyond, "Resume: pmtu 1280 hops 2 back 2")
}

func mtrClient6(t *testing.T, c *client) {
	for _, how := range []string{"", "--udp", "--tcp -P 80"} {
		c.same(t, c.node, "mtr -6 -n -c 2 -i 0.1 -G 1 "+how+" --report --json "+c.far, host0IP6, host1IP6, c.far, `"Loss%": 0.0`)
	}
}

// ndisc6Client solicits the gateway as ndisc6 does, by multicast, and looks at the
// neighbour that the pod has then.
func ndisc6Client(t *testing.T, c *client) {
	out, code := try(t, c.routers[1], c.node, "ndisc6 -m -w 500 "+gateway6+" eth0")
	if code != 0 || strings.Count(out, "Target link-layer address: EE:EE:EE:EE:EE:EE") != 1 {
		t.Errorf("ndisc6: exit %d, want one answer\n%s", code, out)
	}
	// Of somebody else's address, for which nobody answers.
	c.same(t, c.node, "ndisc6 -1 -w 300 -r 1 fd00:10:65:9::9 eth0", "No response")
}

func npingClient6(t *testing.T, c *client) {
	c.same(t, c.node, "nping -6 -c 1 --tcp-connect -p 80 "+c.far, "Connection refused")
}

// TestIPv6KernelProxies: the kernel goes on answering who asks, on the wire, whether an
// address that it proxies is still there: by unicast, to the address itself.
func TestIPv6KernelProxies(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	labtest.NeedIPv6(t)
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	kernelForwards6(t, l)
	if err := l.SetSysctl("host0", "net.ipv6.conf.all.proxy_ndp", "1"); err != nil {
		t.Fatal(err)
	}
	const proxied = "fd00:192:168:1::50"
	pod := pods(l, 0)[0]
	dev := func(host, to string) string {
		_, rest, _ := strings.Cut(run(t, l, host, "ip -6 route get "+to), " dev ")
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	run(t, l, pod.Node, "ip addr add "+proxied+"/128 dev eth0 nodad")
	run(t, l, "host0", "ip route add "+proxied+"/128 dev "+pod.Iface)
	run(t, l, "host0", "ip neigh add proxy "+proxied+" dev "+dev("host0", host1IP6))
	labtest.Daemon(t, l, "host0")
	wantTTL(t, l, "host1", proxied, 63)
	wire := dev("host1", host0IP6)
	run(t, l, "host1", "ip neigh change "+proxied+" lladdr "+macOf(t, l, "host0", dev("host0", host1IP6))+" dev "+wire+" nud probe")
	state := ""
	await(t, "an answer to a probe", func() bool {
		state = run(t, l, "host1", "ip neigh show dev "+wire+" to "+proxied)
		return !strings.Contains(state, "PROBE")
	})
	if !strings.Contains(state, "REACHABLE") {
		t.Errorf("the neighbour is %q", state)
	}
}
