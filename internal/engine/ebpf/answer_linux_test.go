package ebpf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/arpd/ndp"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Who asks for what in the tests of answers.
var (
	toldMAC     = wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	formerMAC   = wire.MAC{2, 9, 9, 9, 9, 9}
	askerMAC    = wire.MAC{2, 0, 0, 0, 0, 1}
	strangerMAC = wire.MAC{2, 0, 0, 0, 0, 7}

	gateways4 = []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("169.254.1.2")}
	gateways6 = []netip.Addr{netip.MustParseAddr("fe80::ecee:eeff:feee:eeee"), netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fe80::5")}
)

const asksAt = 2 // the interface of the workload that asks

// answering is the programs, with a mirror of a host's table.
type answering struct {
	*bench
	table     *route.Table
	arp, nd   *arpd.Policy
	answered  [2]uint64 // ARP, ND
	neighbour map[netip.Addr]wire.MAC
	known     []netip.Addr // that neighbour has
}

func newAnswering(t *testing.T) *answering {
	t.Helper()
	a := &answering{bench: newBench(t, claim.Config{Carry: true, IPv6: true, Gateways: gateways4})}
	own := a.macs[asksAt]
	a.neighbour = map[netip.Addr]wire.MAC{}
	b := route.NewBuilder(route.Policy{IPv6: true})
	for _, index := range []int32{asksAt, 5} {
		slot, err := a.set.SetPort(claim.Port{Ifindex: index, Forward: true, IPv6: true, Workload: true, ARP: true, ND: true, Quota: 100, L2Len: wire.EthernetLen,
			Aliases: [2]wire.MAC{formerMAC}, Answer: toldMAC})
		if err != nil {
			t.Fatal(err)
		}
		b.SetLink(route.Link{Ifindex: index, Name: "cali", Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload, MAC: a.macs[index], MTU: 1500, MTU6: 1500, Slot: slot})
		a.mirror.setClaimed(index, true)
	}
	leads := func(addr string, index int32) {
		p, err := netip.MustParseAddr(addr).Prefix(netip.MustParseAddr(addr).BitLen())
		if err != nil {
			t.Fatal(err)
		}
		b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: index, Weight: 1}}}})
	}
	for _, n := range []struct {
		addr   string
		mac    wire.MAC
		routed int32 // 0: nowhere
	}{
		{"10.65.0.1", askerMAC, asksAt}, {"10.65.0.2", askerMAC, 5}, {"10.65.0.3", askerMAC, 0}, {"10.65.0.4", strangerMAC, asksAt}, {"10.65.0.5", wire.MAC{}, asksAt},
		{"169.254.1.2", askerMAC, asksAt}, {"10.65.0.6", own, asksAt}, {"10.65.0.7", formerMAC, asksAt},
		{"fd00:65::1", askerMAC, asksAt}, {"fd00:65::2", askerMAC, 5}, {"fd00:65::3", askerMAC, 0}, {"fd00:65::4", strangerMAC, asksAt}, {"fd00:65::5", wire.MAC{}, asksAt},
		{"fd00:1::1", askerMAC, asksAt}, {"fd00:65::6", own, asksAt}, {"fd00:65::7", formerMAC, asksAt}, {"fe80::5", askerMAC, 0}, {"fe80::1", askerMAC, 0},
		{"fe80::4", strangerMAC, 0},
	} {
		addr := netip.MustParseAddr(n.addr)
		if n.routed != 0 {
			leads(n.addr, n.routed)
		}
		b.SetNeighbour(asksAt, addr, &route.Neighbour{MAC: n.mac, Valid: true, Stale: n.addr[len(n.addr)-1] == '1'})
		a.neighbour[addr], a.known = n.mac, append(a.known, addr)
	}
	b.SetNeighbour(asksAt, netip.MustParseAddr("fe80::9"), &route.Neighbour{MAC: askerMAC}) // of a moment ago
	leads("10.65.0.8", asksAt)                                                              // not resolved
	leads("fd00:65::8", asksAt)
	a.table = b.Publish()
	if err := a.mirror.publish(a.table); err != nil {
		t.Fatal(err)
	}
	policy := func(gateways []netip.Addr) *arpd.Policy {
		return &arpd.Policy{Index: asksAt, Own: own, Answer: toldMAC, Alias: []wire.MAC{formerMAC}, Gateways: gateways}
	}
	a.arp, a.nd = policy(gateways4), policy(gateways6)
	for _, g := range gateways6 {
		if err := a.set.SetNDTarget(claim.NDTarget{Addr: g}, true); err != nil {
			t.Fatal(err)
		}
	}
	disown, err := a.set.OwnND()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disown)
	return a
}

// silent reports whether nothing comes of a request but its answer.
func (a *answering) silent(from netip.Addr, mac wire.MAC, p *arpd.Policy) bool {
	if p.IsGateway(from) {
		return false // somebody else says that it is one
	}
	if from.Is6() && from.IsLinkLocalUnicast() {
		return true // which is not learnt, and has no route
	}
	known, is := a.neighbour[from]
	return is && known == mac && a.table.LeadsTo(from, asksAt)
}

// wantARP is the answer that a program gives, nil if the request is not plain; answered
// reports whether userspace would answer.
func (a *answering) wantARP(frame []byte) (reply []byte, answered bool) {
	var q arpd.Request
	reply = make([]byte, arpd.ReplyLen)
	if q.Read(frame) != arpd.NotSpecified {
		return nil, false
	}
	if _, v := arpd.Answer(reply, &q, a.arp); v != arpd.Answered {
		return nil, false
	}
	mac := wire.MAC(q.SenderHardwareAddr)
	if !a.silent(q.SenderIP, mac, a.arp) || q.Src != mac || q.Dst != a.macs[asksAt] && q.Dst != wire.Broadcast {
		return nil, true
	}
	return reply, true
}

// wantND is wantARP for a solicitation.
func (a *answering) wantND(frame []byte) (reply []byte, answered bool) {
	var s ndp.Solicitation
	reply = make([]byte, ndp.AdvertisementLen)
	if s.Read(frame) != arpd.NotSpecified {
		return nil, false
	}
	if _, v := ndp.Answer(reply, &s, a.nd); v != arpd.Answered {
		return nil, false
	}
	options := wire.IPv6(wire.Ethernet(frame).Payload()).PayloadLen() - wire.NDLen
	switch {
	case !a.silent(s.From, s.MAC, a.nd) || s.Src != s.MAC:
		return nil, true
	case s.To != s.Target && s.To != netip.AddrFrom16(wire.SolicitedNode(s.Target.As16())): // all nodes, or another gateway
		return nil, true
	case s.Dst != a.macs[asksAt] && !s.Dst.IsMulticast() || s.Dst == wire.Broadcast:
		return nil, true
	case options != 0 && (s.Unsaid || options != wire.NDOptLinkLayerLen):
		return nil, true
	}
	return reply, true
}

// try has the claim have a frame, and userspace.
func (a *answering) try(t *testing.T, family int, frame []byte) (plain, answered bool) {
	t.Helper()
	want, answered := a.wantARP(frame)
	if family == 1 {
		want, answered = a.wantND(frame)
	}
	got, left, err := a.set.Carrier().TryAnswer(asksAt, frame)
	switch {
	case err != nil:
		t.Fatal(err)
	case got == nil && want != nil:
		t.Fatalf("not answered: % x", frame)
	case got != nil && want == nil:
		t.Fatalf("answered, though userspace is to have it (which answers: %v): % x\n% x", answered, frame, got)
	case got != nil && !bytes.Equal(got, want):
		t.Fatalf("% x is answered by\n% x, want\n% x", frame, got, want)
	case got == nil && !bytes.Equal(left, frame):
		t.Fatalf("% x goes on as\n% x", frame, left)
	case got != nil:
		a.answered[family]++
	}
	return want != nil, answered
}

// one gives one of several, the first of them most often.
func one[T any](rng *rand.Rand, of ...T) T {
	if rng.IntN(8) != 0 {
		return of[0]
	}
	return of[rng.IntN(len(of))]
}

// request is an ARP request with which little is wrong, or something.
func (a *answering) request(rng *rand.Rand) []byte {
	own := a.macs[asksAt]
	froms := []netip.Addr{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("10.65.0.8"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("127.0.0.1"), gateways4[0]}
	for _, addr := range a.known {
		if addr.Is4() {
			froms = append(froms, addr)
		}
	}
	from := one(rng, froms...)
	mac := one(rng, askerMAC, strangerMAC, own, toldMAC, formerMAC, wire.MAC{}, wire.Broadcast)
	if known, is := a.neighbour[from]; is && rng.IntN(2) == 0 {
		mac = known
	}
	f := make([]byte, wire.EthernetLen+wire.ARPLen, 64)
	eth := wire.Ethernet(f)
	eth.SetDst(one(rng, wire.Broadcast, own, toldMAC, formerMAC, strangerMAC, wire.MAC{0x33, 0x33, 0, 0, 0, 1}))
	eth.SetSrc(one(rng, mac, askerMAC, strangerMAC))
	eth.SetType(wire.EtherTypeARP)
	wire.PutARP(eth.Payload(), one(rng, wire.ARPRequest, wire.ARPReply, 3), mac, from, one(rng, wire.MAC{}, wire.Broadcast, toldMAC),
		one(rng, gateways4[0], gateways4[1], netip.MustParseAddr("10.65.0.2"), from))
	return append(f, make([]byte, one(rng, 0, 18, 3))...)
}

// solicitation is the same of neighbour discovery.
func (a *answering) solicitation(rng *rand.Rand) []byte {
	own := a.macs[asksAt]
	froms := []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00:65::1"), netip.MustParseAddr("fd00:65::8"), netip.MustParseAddr("fe80::9"),
		netip.IPv6Unspecified(), netip.IPv6Loopback(), netip.MustParseAddr("ff02::1"), gateways6[0]}
	for _, addr := range a.known {
		if addr.Is6() {
			froms = append(froms, addr)
		}
	}
	from := one(rng, froms...)
	target := one(rng, gateways6[0], gateways6[1], gateways6[2], netip.MustParseAddr("fd00:65::2"), from)
	group := netip.AddrFrom16(wire.SolicitedNode(target.As16()))
	to := one(rng, group, target, target, target, netip.AddrFrom16(wire.AllNodes), gateways6[1], netip.MustParseAddr("ff02::1:ff00:1"))
	dst := own
	if to.IsMulticast() {
		dst = wire.MulticastMAC(to.As16())
	}
	mac := one(rng, askerMAC, strangerMAC, own, toldMAC, formerMAC, wire.MAC{}, wire.Broadcast)
	if known, is := a.neighbour[from]; is && rng.IntN(2) == 0 {
		mac = known
	}
	source := append([]byte{1, 1}, mac[:]...)
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	msg := make([]byte, wire.NDLen, 128)
	msg = append(msg, one(rng, source, nil, nil, nil, nonce, append(bytes.Clone(source), nonce...), append(bytes.Clone(nonce), source...),
		append([]byte{1, 2}, make([]byte, 14)...), []byte{1, 0, 2, 0, 0, 0, 0, 1}, append([]byte{2, 1}, mac[:]...), source[:7], source[:1])...)
	as16 := target.As16()
	copy(msg[8:], as16[:])
	wire.PutICMPv6(msg, one(rng, uint8(wire.ICMPv6NeighSolicit), wire.ICMPv6NeighAdvert, wire.ICMPv6RouterSolicit, wire.ICMPv6EchoRequest), one(rng, uint8(0), 1),
		one(rng, uint32(0), 1, 0xe0000000), from.As16(), to.As16())
	if sum := binary.BigEndian.Uint16(msg[2:]); rng.IntN(16) == 0 {
		binary.BigEndian.PutUint16(msg[2:], one(rng, sum+1, sum^0x8000, 0, 0xffff))
	}
	f := make([]byte, wire.EthernetLen+wire.IPv6Len, 256)
	eth := wire.Ethernet(f)
	eth.SetDst(one(rng, dst, own, toldMAC, formerMAC, strangerMAC, wire.Broadcast, wire.MAC{1, 0, 0x5e, 0, 0, 1}))
	eth.SetSrc(one(rng, mac, askerMAC, strangerMAC))
	eth.SetType(wire.EtherTypeIPv6)
	wire.PutIPv6(eth.Payload(), one(rng, uint8(0), 0xc0), one(rng, uint32(0), 0x12345), len(msg)+one(rng, 0, 0, 0, 0, 8, -8, 1, -1), wire.ProtoICMPv6, one(rng, uint8(255), 254, 64, 0), from.As16(), to.As16())
	return append(append(f, msg...), make([]byte, one(rng, 0, 0, 8, 18, 1))...)
}

// TestAnswers: what the claim answers is what userspace would, by the same bytes and with
// nothing else to do; it answers all of that, and nothing else; and what it leaves it does
// not change.
func TestAnswers(t *testing.T) {
	a := newAnswering(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	least := [2]int{wire.EthernetLen + 1, wire.EthernetLen + wire.IPv6Len} // bytes that a test run takes
	for family, frame := range []func(*rand.Rand) []byte{a.request, a.solicitation} {
		const n = 4000
		var answered, plain int
		for range n {
			f := frame(rng)
			if rng.IntN(4) == 0 {
				f[rng.IntN(len(f))] ^= 1 << rng.IntN(8)
			}
			if rng.IntN(16) == 0 {
				f = f[:max(rng.IntN(len(f)), least[family])]
			}
			p, u := a.try(t, family, f)
			if p {
				plain++
			}
			if u {
				answered++
			}
		}
		t.Logf("of %d, userspace would answer %d, a program does %d", n, answered, plain)
		if plain < n/16 || answered-plain < n/64 || n-answered < n/16 {
			t.Errorf("too little of a kind")
		}
	}
	if c := a.set.Carried(asksAt); c.Answered != a.answered[0] || c.AnsweredND != a.answered[1] {
		t.Errorf("counted %+v, answered %v", c, a.answered)
	}
}
