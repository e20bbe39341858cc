package lab

import (
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
)

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		form             Form
		host, n          int
		name, iface, mac string
		addr             string
		route            string
		addr6, route6    string
	}{
		{FormArticle, 0, 0, "ns0", "veth0", "", "10.20.1.2/24", "10.20.1.2/32", "fd00:10:20:1::2/128", "fd00:10:20:1::2/128"},
		{FormArticle, 1, 0, "ns1", "veth0", "", "10.20.1.3/24", "10.20.1.3/32", "fd00:10:20:1::3/128", "fd00:10:20:1::3/128"},
		{FormArticle, 1, 124, "ns249", "veth124", "", "10.20.1.251/24", "10.20.1.251/32", "fd00:10:20:1::251/128", "fd00:10:20:1::251/128"},
		{FormSlash32, 1, 127, "ns255", "veth127", "", "10.20.2.1/32", "10.20.2.1/32", "fd00:10:20:2::1/128", "fd00:10:20:2::1/128"},
		{FormCalico, 1, 1, "pod1-1", caliName("pod1-1"), "ee:ee:ee:ee:ee:ee", "10.65.1.3/32", "10.65.1.0/24", "fd00:10:65:1::3/128", "fd00:10:65:1::/64"},
		{FormCalico, 0, 999, "pod0-999", caliName("pod0-999"), "ee:ee:ee:ee:ee:ee", "10.65.6.251/32", "10.65.6.0/24", "fd00:10:65:6::251/128", "fd00:10:65:6::/64"},
	} {
		s := Spec{Form: c.form}.withDefaults()
		p := s.plan(c.host, c.n, PodOptions{})
		if p.Name != c.name || p.Iface != c.iface || p.MAC != c.mac || p.Addr != netip.MustParsePrefix(c.addr) || p.Addr6 != netip.MustParsePrefix(c.addr6) {
			t.Errorf("%s pod %d of host%d is %+v", c.form, c.n, c.host, p)
		}
		if r := s.route(p); r != netip.MustParsePrefix(c.route) {
			t.Errorf("%s pod %d of host%d is reached by %s", c.form, c.n, c.host, r)
		}
		if r := s.route6(p); r != netip.MustParsePrefix(c.route6) {
			t.Errorf("%s pod %d of host%d is reached by %s", c.form, c.n, c.host, r)
		}
		if len(p.Iface) > 15 {
			t.Errorf("interface name %s is too long", p.Iface)
		}
	}
}

func TestAddressesAreDistinct(t *testing.T) {
	for _, form := range Forms() {
		s := Spec{Form: form}.withDefaults()
		seen := map[netip.Addr]string{}
		for host := range 2 {
			for n := 0; s.checkPods(n+1) == nil; n++ {
				p := s.plan(host, n, PodOptions{})
				for _, a := range []netip.Addr{p.Addr.Addr(), p.Addr6.Addr()} {
					if other, ok := seen[a]; ok {
						t.Errorf("%s: %s and %s have %s", form, other, p.Name, a)
					}
					seen[a] = p.Name
				}
			}
		}
	}
}

func TestSpecsThatCannotBe(t *testing.T) {
	for _, s := range []Spec{
		{Name: "../x"}, {Name: "-x"}, {Form: "other"}, {Hosts: 3}, {Hosts: -1}, {PodMTU: -1},
		{PodsPerHost: 1001, Form: FormCalico}, {PodsPerHost: 126},
	} {
		if l, err := New(t.Context(), s); err == nil {
			l.Close()
			t.Errorf("%+v was made", s)
		}
	}
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":               "net/ipv4/ip_forward",
		"net/ipv4/conf/eth0.1/forwarding":   "net/ipv4/conf/eth0.1/forwarding",
		"kernel.hostname":                   "",
		"net/../kernel/hostname":            "",
		"net/ipv4/../../../../etc/hostname": "",
	} {
		got, err := sysctlPath(key)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
}

// TestMainThreadStaysWhereItIs: a goroutine that happens to run on the main
// thread must not take that into a lab, since it could never be got rid of.
func TestMainThreadStaysWhereItIs(t *testing.T) {
	pid := os.Getpid()
	for range 200 {
		err := onThread(func() error {
			if syscall.Gettid() == pid {
				t.Error("on the main thread")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := onThread(func() error { runtime.Goexit(); return nil })
	if err != errGoexit {
		t.Errorf("after Goexit: %v", err)
	}
}

func TestTopology(t *testing.T) {
	l := newLab(Spec{Name: "x"}.withDefaults())
	for host := range 2 {
		l.nodes = append(l.nodes, Node{Name: hostName(host), Addr: hostAddr(host), Addr6: hostAddr6(host)})
	}
	for host := range 2 {
		l.pods = append(l.pods, l.spec.plan(host, 0, PodOptions{}))
	}
	const want = `    host0                                          host1
  +------------------------------+               +------------------------------+
  | ens192 192.168.1.32/24       |---------------| ens192 192.168.1.16/24       |
  |        fd00:192:168:1::32/64 |               |        fd00:192:168:1::16/64 |
  +------------------------------+               +------------------------------+
    |                                              |
    +- veth0 --- eth0 ns0 10.20.1.2/24             +- veth0 --- eth0 ns1 10.20.1.3/24
    |                     fd00:10:20:1::2/128      |                     fd00:10:20:1::3/128
`
	if got := l.Topology(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
