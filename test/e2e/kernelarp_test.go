package e2e

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// TestARPLikeKernel asks a host that answers by the kernel's proxy_arp what it
// asks ours, by addresses at the edges of what is unicast, those in 0/8 above all: the same
// are answered, and the same who ask are neighbours afterwards.
func TestARPLikeKernel(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
	for _, s := range [][2]string{{"net.ipv4.ip_forward", "1"}, {"net.ipv4.conf.all.rp_filter", "0"}, {"net.ipv4.conf.veth0.rp_filter", "1"},
		{"net.ipv4.conf.veth0.proxy_arp", "1"}, {"net.ipv4.neigh.veth0.proxy_delay", "0"}} {
		if err := l.SetSysctl("host1", s[0], s[1]); err != nil {
			t.Fatal(err)
		}
	}
	type side struct {
		host, via, its, others string
		*station
	}
	sides := []side{{host: "host0", via: host1IP, its: "10.20.1.2", others: "10.20.1.3"},
		{host: "host1", via: host0IP, its: "10.20.1.3", others: "10.20.1.2"}}
	const fenced = "10.99.0.1"
	for i := range sides {
		s := &sides[i]
		s.station = listen(t, l, fmt.Sprintf("ns%d", i), "eth0", unix.ETH_P_ARP)
		for _, r := range []string{"0.5.0.0/24 dev veth0", "240.5.0.0/24 dev veth0", "10.21.0.0/16 dev veth0",
			"0.6.0.0/24 via " + s.via, "240.6.0.0/24 via " + s.via, "unreachable 0.7.0.0/24", fenced + " via " + s.via} {
			run(t, l, s.host, "ip route add "+r)
		}
	}
	d := labtest.Daemon(t, l, "host0", append(flags(lab.FormSlash32), "--proxy", "0.0.0.0/0")...)

	// ask reports whether a request is answered, and makes sure that all it brings
	// about has been: another who asks behind it is a neighbour.
	ask := func(s side, n int, target, sender string) bool {
		behind := fmt.Sprintf("10.21.%d.%d", n>>8, n&0xff)
		s.send(s.whoHas(target, sender).frame())
		s.send(s.whoHas(fenced, behind).frame())
		answered := false
		for {
			f := s.next(patience, func(f wire.Ethernet) bool { return wire.ARP(f.Payload()).Op() == wire.ARPReply })
			if f == nil {
				t.Fatalf("%s: who-has %s tell %s: not even the request behind it is answered", s.host, target, sender)
			}
			if wire.ARP(f.Payload()).TargetIP().String() == behind {
				break
			}
			answered = true
		}
		await(t, behind+" is a neighbour of "+s.host, func() bool {
			return strings.Contains(run(t, l, s.host, "ip neigh show "+behind+" dev veth0"), s.mac.String())
		})
		return answered
	}
	for n, c := range []struct {
		target, sender string // "": of the side's pod, and of the other's
		answered       bool
		learnt         bool
	}{
		{"", "", true, true},
		{"0.6.0.9", "", true, true},
		{"0.6.0.0", "", true, true},
		{"0.6.0.255", "", true, true},
		{"", "0.5.0.2", true, true},
		{"0.6.0.9", "0.5.0.3", true, true},
		{"240.6.0.9", "240.5.0.2", true, true},
		{"0.5.0.9", "", false, true}, // back out; it is a neighbour since the first
		{"0.7.0.9", "", false, true},
		{"0.0.0.1", "", false, true},
		{"", "0.6.0.2", false, false}, // routed elsewhere
		{"", "0.7.0.2", false, false},
		{"", "0.0.0.1", false, false},
		{"0.6.0.9", "0.0.0.0", false, false},
		{"0.0.0.0", "", false, true},
		{"0.0.0.0", "0.5.0.4", false, false},
		{"0.0.0.0", "0.0.0.0", false, false},
		{"255.255.255.255", "0.5.0.4", false, false},
		{"224.0.0.9", "0.5.0.4", false, false},
		{"127.0.0.9", "0.5.0.4", false, false},
		{"", "255.255.255.255", false, false},
		{"", "224.0.0.9", false, false},
		{"", "127.0.0.9", false, false},
	} {
		for _, s := range sides {
			target, sender := c.target, c.sender
			if target == "" {
				target = s.others
			}
			if sender == "" {
				sender = s.its
			}
			answered := ask(s, n, target, sender)
			learnt := strings.Contains(run(t, l, s.host, "ip neigh show "+sender+" dev veth0"), s.mac.String())
			if answered != c.answered || learnt != c.learnt {
				t.Errorf("%s: who-has %s tell %s: answered %t, a neighbour then %t; want %t, %t", s.host, target, sender, answered, learnt, c.answered, c.learnt)
			}
		}
	}
	// Packets between such addresses pass ours and the kernel.
	run(t, l, "ns0", "ip address add 0.5.0.2/32 dev eth0")
	run(t, l, "ns1", "ip address add 0.6.0.2/32 dev eth0")
	run(t, l, "host1", "ip route replace 0.6.0.2 dev veth0")
	run(t, l, "host1", "ip route replace 0.5.0.2 via "+host0IP)
	run(t, l, "host1", "ip route add "+gateway+" via "+host0IP) // else it has no reason to answer for it
	if ttl := ping(t, l, "ns0", "0.6.0.2", "-I", "0.5.0.2"); ttl != 62 {
		t.Errorf("0.5.0.2 to 0.6.0.2: ttl %d", ttl)
	}
	if t.Failed() {
		t.Log(d.Status(t))
	}
}
