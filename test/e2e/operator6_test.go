package e2e

import (
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// ipColumn is what status says is served on an interface: "4 6".
func ipColumn(t *testing.T, d *labtest.Process, iface string) string {
	t.Helper()
	for line := range strings.Lines(d.Status(t)) {
		if f := strings.Fields(line); len(f) > 5 && f[0] == iface && (f[2] == "workload" || f[2] == "uplink") {
			return strings.Join(f[5:], " ")
		}
	}
	return ""
}

// TestOperatorIPv6: status, doctor and explain tell the truth of a host on which IPv6 comes late, flaps, and is not the same
// for all pods.
func TestOperatorIPv6(t *testing.T) {
	t.Parallel()
	labtest.NeedIPv6(t)
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 3})
	all := labtest.Pods(l, 0)
	both, only6, only4 := all[0], all[1], all[2]
	six := func(p lab.Pod) string { return p.Addr6.Addr().String() }
	line := func(node, lines string) { t.Helper(); labtest.Run(t, l, node, "sh", "-ec", lines) }
	d := labtest.Daemon(t, l, "host0")
	// found are the findings of doctor that are more than good to know, and those with an ID.
	found := func(id string) []finding {
		t.Helper()
		all, _ := diagnosed(t, l, "--control", d.Control)
		return slices.DeleteFunc(all, func(f finding) bool { return f.Severity == "info" && f.ID != id })
	}
	for _, p := range all {
		line(p.Node, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")
	}
	line("host0", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	await(t, "IPv6 is not served", func() bool { return ipColumn(t, d, both.Iface) == "4" })
	if s := d.Status(t); !strings.Contains(s, only4.Iface+": not served: disable_ipv6 is 1, and the kernel has no IPv6 there\n") {
		t.Errorf("status:\n%s", s)
	}
	if f := found("ipv6-disabled"); len(f) != 1 || f[0].Severity != "info" || f[0].Subject != "host" {
		t.Errorf("a host without IPv6: %+v", f)
	}
	ping(t, l, both.Node, ip(only6))
	if _, errw, code := exec3(t, l, "host0", labtest.Binary(t), "explain", "--control", d.Control, gateway6); code != 1 || !strings.Contains(errw, "has no IPv6 that is served: its disable_ipv6 is 1") {
		t.Errorf("explain: exit %d, %s", code, errw)
	}
	// It comes, to two pods, with addresses but no routes; another's interface goes down.
	line("host0", "sysctl -qw net.ipv6.conf.all.disable_ipv6=0; ip link set "+only4.Iface+" down")
	for _, p := range []lab.Pod{both, only6} {
		line(p.Node, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; ip addr add "+six(p)+"/128 dev eth0 nodad; ip -6 route add default via "+gateway6+" dev eth0")
	}
	await(t, "IPv6 is served", func() bool {
		return ipColumn(t, d, both.Iface) == "4 6" && ipColumn(t, d, only4.Iface) == "down" && !strings.Contains(d.Status(t), "IPv6 on ")
	})
	f := found("")
	for _, p := range []lab.Pod{both, only6} {
		if !slices.ContainsFunc(f, func(f finding) bool { return f.ID == "pod-address" && strings.Contains(f.Cure, six(p)+"/128") }) || len(f) != 2 {
			t.Errorf("no routes: %+v", f)
		}
	}
	e := explained(t, l, "--control", d.Control, "--iif", both.Iface, "--from", six(both), six(only6))
	is(t, "without a route", e.Forward.Reason, "IP_INNOROUTES")
	is(t, "without a route", e.Forward.ICMP, "1/0")
	// The subnet of an address on lo is unreachable (RTF_REJECT), whether the kernel forwards or not.
	line("host0", "ip addr add 2001:db8:fff::1/64 dev lo")
	await(t, "a route over lo", func() bool {
		e = explained(t, l, "--control", d.Control, "--iif", both.Iface, "--from", six(both), "2001:db8:fff::2")
		return e.Forward.Reason != nil && *e.Forward.Reason == "PARP_ROUTE_UNREACHABLE"
	})
	is(t, "over lo, in the kernel", e.Kernel.Reason, "PARP_ROUTE_UNREACHABLE")
	if e.Agree == nil || !*e.Agree {
		t.Errorf("over lo they differ: %+v", e)
	}
	line("host0", "ip addr del 2001:db8:fff::1/64 dev lo")
	// All as it should be, but no pod like the other: one has several addresses, one IPv6 alone, one IPv4 alone. The
	// gateway is another.
	d.Stop(t)
	line(only6.Node, "ip addr flush dev eth0 scope global; ip route flush dev eth0; ip addr add "+six(only6)+"/128 dev eth0 nodad")
	line(both.Node, "ip addr add 2001:db8::77/128 dev eth0 nodad")
	line("host0", "ip route del "+ip(only6)+" dev "+only6.Iface+"; ip link set "+only4.Iface+" up; ip route add "+ip(only4)+" dev "+only4.Iface+
		"; ip -6 route add 2001:db8::77 dev "+both.Iface+"; ip -6 route add "+six(both)+" dev "+both.Iface+"; ip -6 route add "+six(only6)+" dev "+only6.Iface)
	for _, p := range []lab.Pod{both, only6} {
		line(p.Node, "ip -6 route replace default via fe80::1 dev eth0 onlink")
	}
	d = labtest.Daemon(t, l, "host0", "--gateway", "fe80::1")
	for _, from := range []string{six(both), "2001:db8::77"} {
		wantTTL(t, l, only6.Node, from, 63)
	}
	wantTTL(t, l, both.Node, ip(only4), 63)
	if f := found(""); len(f) != 0 { // by the configuration of the daemon
		t.Errorf("a good host: %+v", f)
	}
	e = explained(t, l, "--control", d.Control, "--iif", only6.Iface, "fe80::1")
	is(t, "the gateway", e.ARP.Verdict, "answer")
	e = explained(t, l, "--control", d.Control, "--from", "2001:db8::77", six(only6))
	is(t, "from the second address", e.Forward.Verdict, "forward")
}
