package failure

import (
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// without has the program run as root without some capabilities.
func without(t *testing.T, caps ...string) {
	t.Helper()
	wrapped(t, "setpriv", "--bounding-set=-"+strings.Join(caps, ",-"))
}

// TestCapabilityMissing: those without which nothing goes.
func TestCapabilityMissing(t *testing.T) {
	l := hosts(t, 1, 1)
	before := traces(t, l, "host0")
	for _, c := range []struct {
		cap   string
		flags []string
		says  string
	}{
		{"net_raw", nil, "root"},
		{"net_raw", []string{"--engine", "none", "--keep-mac"}, "root"},
		{"net_admin", nil, "--engine none --keep-mac"},
		{"net_admin", []string{"--engine", "none"}, "--keep-mac"},
	} {
		without(t, c.cap)
		said := exited(t, l, "host0", append([]string{"--workload", "veth*"}, c.flags...)...)
		name := "CAP_" + strings.ToUpper(c.cap)
		if !strings.Contains(said, name) || !strings.Contains(said, c.says) {
			t.Errorf("without %s, %v: %q", name, c.flags, said)
		}
		t.Logf("without %s, %v: %s", name, c.flags, said)
		same(t, "without "+name, traces(t, l, "host0"), before)
	}
}

// TestCapabilityLess: those that make it do less, and say so.
func TestCapabilityLess(t *testing.T) {
	labtest.Need(t, "ip", "tc")
	for _, c := range []struct {
		caps   []string
		engine string
		warns  string
		claim  string
	}{
		// CAP_SYS_ADMIN stands for both.
		{[]string{"bpf", "sys_admin"}, "af_packet", "no eBPF", "none"},
		{[]string{"perfmon", "sys_admin"}, "af_packet", "can't see GSO types", "tcx"},
		{[]string{"perfmon", "sys_admin"}, "ebpf", "can't see GSO types", "tcx"},
		{[]string{"bpf", "perfmon", "sys_admin", "sys_module", "ipc_lock", "sys_resource"}, "af_packet", "no eBPF", "none"},
	} {
		without(t, c.caps...)
		name := strings.Join(c.caps, ", ")
		l := hosts(t, 1, 2)
		all := pods(l, 0)
		before := traces(t, l, "host0")
		p := serve(t, l, "--engine", c.engine)[0]
		t.Logf("without %s:\n%s", name, p.Stderr())
		var warned bool
		for line := range strings.Lines(p.Stderr()) {
			warned = warned || strings.Contains(line, "level=WARN") && strings.Contains(line, c.warns)
		}
		s := status(t, p)
		if !warned || s.Claim != c.claim {
			t.Errorf("without %s: claim %s, want %s, and a warning of %q:\n%s", name, s.Claim, c.claim, c.warns, p.Stderr())
		}
		run(t, l, all[0].Node, "ping -n -c3 -i0.01 -W2 "+ip(all[1]))
		run(t, l, all[0].Node, "ping -n -c1 -W2 192.168.1.32") // the host itself
		if s := status(t, p); s.Forward.Verdicts["forward"] < 6 {
			t.Errorf("without %s: not by the program: %+v", name, s.Forward)
		}
		p.Stop(t)
		same(t, "without "+name, traces(t, l, "host0"), before)
	}
}

// TestNoClaimRefused: without eBPF and with the kernel forwarding each packet
// would leave twice.
func TestNoClaimRefused(t *testing.T) {
	l := hosts(t, 1, 2)
	if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	without(t, "bpf", "sys_admin")
	said := exited(t, l, "host0", "--workload", "veth*", "--engine", "af_packet")
	if !strings.Contains(said, "veth") || !strings.Contains(said, "forwarding=0") {
		t.Errorf("%q", said)
	}
}

// TestNetRawAlone: one capability is enough to answer ARP.
func TestNetRawAlone(t *testing.T) {
	labtest.Need(t, "arping", "setpriv")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 1})
	pod := pods(l, 0)[0]
	wrapped(t, "setpriv", "--bounding-set=-all,+net_raw")
	p := serve(t, l, "--engine", "none", "--keep-mac")[0]
	if caps := proc(t, p, "status"); !strings.Contains(caps, "CapEff:\t0000000000002000") {
		t.Fatalf("the daemon has other capabilities:\n%s", caps)
	}
	out := run(t, l, pod.Node, "arping -c 3 -w 3 -I eth0 169.254.1.1")
	// No tc program makes frames to another MAC the host's, so it is its own.
	if strings.Count(strings.ToLower(out), "["+pod.MAC+"]") != 3 {
		t.Errorf("want three answers of %s:\n%s", pod.MAC, out)
	}
	run(t, l, pod.Node, "ping -n -c1 -W2 192.168.1.32")
	// It may write no neighbour either.
	if n := strings.Count(p.Stderr(), "does not learn who asks"); n != 1 {
		t.Errorf("said %d times that nothing is learnt:\n%s", n, p.Stderr())
	}
}
