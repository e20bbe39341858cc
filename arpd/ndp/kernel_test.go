package ndp

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/wire"
)

// oddities are what may be wrong, or odd, with a solicitation.
var oddities = []struct {
	name string
	f    func(*solicit)
}{
	{"plain", func(*solicit) {}},
	{"hop limit 254", func(s *solicit) { s.hopLimit = 254 }},
	{"hop limit 0", func(s *solicit) { s.hopLimit = 0 }},
	{"checksum", func(s *solicit) { s.badSum = true }},
	{"code", func(s *solicit) { s.code = 1 }},
	{"reserved bits", func(s *solicit) { s.flags = 0xffffffff }},
	{"one byte short", func(s *solicit) { s.options, s.cut = nil, 1 }},
	{"a header alone", func(s *solicit) { s.options, s.cut = nil, 16 }},
	{"packet cut off", func(s *solicit) { s.short = 1 }},
	{"padded", func(s *solicit) { s.trailer = 30 }},
	{"option of length 0", func(s *solicit) { s.options = append(bytes.Clone(s.options), 14, 0, 0, 0, 0, 0, 0, 0) }},
	{"option cut off", func(s *solicit) { s.options = append(bytes.Clone(s.options), 14, 2, 0, 0, 0, 0, 0, 0) }},
	{"one byte of an option", func(s *solicit) { s.options = append(bytes.Clone(s.options), 14) }},
	{"unknown option", func(s *solicit) { s.options = append([]byte{99, 1, 0, 0, 0, 0, 0, 0}, s.options...) }},
	{"nonce", func(s *solicit) { s.options = append(bytes.Clone(s.options), 14, 1, 1, 2, 3, 4, 5, 6) }},
	{"target link-layer address", func(s *solicit) { s.options = append(bytes.Clone(s.options), lladdr(2, otherMAC)...) }},
	{"link-layer address of 14 bytes", func(s *solicit) { s.options = append([]byte{1, 2}, make([]byte, 14)...) }},
	{"link-layer address of 14 bytes behind", func(s *solicit) {
		s.options = append(bytes.Clone(s.options), append([]byte{1, 2}, make([]byte, 14)...)...)
	}},
	{"options cut off", func(s *solicit) { s.next, s.headers = 60, []byte{58, 200, 1, 4, 0, 0, 0, 0} }},
	{"atomic fragment", func(s *solicit) { s.next, s.headers = 44, []byte{58, 0, 0, 0, 0, 0, 0, 1} }},
	{"multicast target", func(s *solicit) { s.target = group(s.target) }},
	{"source ::1", func(s *solicit) { s.from = netip.IPv6Loopback() }},
	{"multicast source", func(s *solicit) { s.from = allNodes }},
	{"to all nodes", func(s *solicit) { s.to, s.dst = allNodes, wire.MulticastMAC(wire.AllNodes) }},
	{"to all routers", func(s *solicit) { s.to = netip.MustParseAddr("ff02::2") }},
	{"to another group", func(s *solicit) { s.to = group(netip.MustParseAddr("fd00::abcd")) }},
	{"broadcast frame", func(s *solicit) { s.dst = wire.Broadcast }},
	{"another station's frame", func(s *solicit) { s.dst = otherMAC }},
	{"an advertisement", func(s *solicit) { s.typ = wire.ICMPv6NeighAdvert }},
	{"version 5", func(s *solicit) { s.version = 5 }},
}

// sentinel is who asks last, so that all answers to what came before are known.
var sentinel = netip.MustParseAddr("fe80::5e47:1e1")

// answersTo are the advertisements that one solicitation brings about.
func (s *station) answersTo(t *testing.T, q solicit, lastTarget netip.Addr) (all [][]byte) {
	t.Helper()
	s.send(s.own(q).bytes())
	s.send(s.own(who(lastTarget).with(func(q *solicit) { q.from = sentinel })).bytes())
	for {
		b, err := s.advert(patience)
		if err != nil {
			t.Fatalf("%s: %v", s.host.Attrs().Name, err)
		}
		if wire.IPv6(b[wire.EthernetLen:]).DstAddr() == sentinel {
			return all
		}
		if to := wire.Ethernet(b).Dst(); to == s.mac {
			wire.Ethernet(b).SetDst(podMAC) // the stations have MACs of their own
		}
		all = append(all, b)
	}
}

// TestAsKernel: for an own address, and for a proxied one, what the kernel answers we
// answer, and what it drops we drop. Of a solicitation to a group for an own address the
// answers are the same bytes.
func TestAsKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	kernel := l.veth("kernel1", answerMAC, true)
	for name, value := range map[string]string{"conf/all/forwarding": "1", "conf/all/proxy_ndp": "1", "neigh/kernel1/proxy_delay": "0"} {
		l.sysctl(name, value)
	}
	l.must(l.hostLinks.NeighAdd(&netlink.Neigh{LinkIndex: kernel.index, Family: netlink.FAMILY_V6, Flags: netlink.NTF_PROXY, IP: remoteIP.AsSlice()}))
	behind := l.veth("behind1", deviceMAC, true)
	l.must(l.hostLinks.RouteAdd(&netlink.Route{LinkIndex: behind.index, Dst: netlink.NewIPNet(remoteIP.AsSlice())}))
	workload, uplink := l.veth("cali1", answerMAC, false), l.veth("ens1", answerMAC, false)
	r := l.start(Options{RatePerSecond: -1, SenderPerSecond: -1})
	onWorkload, onUplink := workload.policy(), uplinkPolicy()
	onWorkload.Own = answerMAC
	onUplink.Index, onUplink.Own, onUplink.Answer = uplink.index, answerMAC, answerMAC
	r.Publish(map[int]*Policy{workload.index: onWorkload, uplink.index: onUplink})

	for deadline := time.Now().Add(patience); ; { // its address may be tentative yet
		kernel.send(kernel.own(who(gatewayIP)).bytes())
		if _, err := kernel.advert(100 * time.Millisecond); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the kernel does not answer for its own address")
		}
	}
	answered, dropped := 0, 0
	for _, target := range []netip.Addr{gatewayIP, remoteIP, noRouteIP} {
		for _, form := range []struct {
			name string
			s    solicit
		}{
			{"to the group", who(target)},
			{"from a link-local address", who(target).with(func(s *solicit) { s.from = podLL })},
			{"probe of a neighbour", unicast(target)},
			{"probe with link-layer address", unicast(target).with(func(s *solicit) { s.options = lladdr(1, podMAC) })},
			{"duplicate address detection", probe(target)},
		} {
			// Without proxy_ndp of all interfaces the kernel forwards unicast probes for
			// a proxied target, to nowhere (ip6_forward).
			for _, odd := range oddities {
				name := fmt.Sprintf("%v, %s, %s", target, form.name, odd.name)
				q := form.s.with(odd.f)
				ours, last := workload, gatewayIP
				if probes := q.from == anyIP; probes && target == remoteIP {
					ours, last = uplink, remoteIP // a workload's own probe is not answered
				}
				want, got := kernel.answersTo(t, q, gatewayIP), ours.answersTo(t, q, last)
				if len(want) != len(got) || len(want) > 1 {
					t.Errorf("%s: %d answers of the kernel, %d of ours", name, len(want), len(got))
					continue
				}
				if len(want) == 0 {
					dropped++
					continue
				}
				answered++
				compare(t, name, want[0], got[0], target == gatewayIP, q.to.IsMulticast())
			}
		}
	}
	t.Logf("%d solicitations answered, %d dropped", answered, dropped)
	if answered < 80 || dropped < 300 {
		t.Error("too few")
	}
}

// compare holds an advertisement of ours to the kernel's. own is of an address that the
// kernel has; multicast says how it was asked for.
func compare(t *testing.T, name string, kernel, ours []byte, own, multicast bool) {
	t.Helper()
	if own && multicast {
		if !bytes.Equal(kernel, ours) {
			t.Errorf("%s:\nkernel %x\nours   %x", name, kernel, ours)
		}
		return
	}
	for i, b := range [][]byte{kernel, ours} {
		msg := wire.ND(wire.IPv6(wire.Ethernet(b).Payload()).Payload())
		mac, told, ok := msg.LinkLayer(wire.NDOptTargetLinkLayer)
		if override := msg.Flags()&wire.NDOverride != 0; !ok || i == 1 && (!override || !told || mac != answerMAC) {
			t.Errorf("%s: %x", name, b)
		}
	}
	// What differs as the package says: source, override, whether the address is told.
	type common struct {
		dst, src   wire.MAC
		to, target netip.Addr
		flags      uint32
		hops       uint8
		flow       uint32
	}
	of := func(b []byte) common {
		eth := wire.Ethernet(b)
		ip := wire.IPv6(eth.Payload())
		msg := wire.ND(ip.Payload())
		return common{eth.Dst(), eth.Src(), ip.DstAddr(), msg.Target(), msg.Flags() &^ wire.NDOverride, ip.HopLimit(), ip.FlowInfo()}
	}
	if of(kernel) != of(ours) {
		t.Errorf("%s: kernel %+v, ours %+v", name, of(kernel), of(ours))
	}
}
