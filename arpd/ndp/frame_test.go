package ndp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// The stations of the tests.
var (
	podMAC    = mustMAC("02:00:00:00:00:01")
	answerMAC = mustMAC("ee:ee:ee:ee:ee:ee")
	deviceMAC = mustMAC("02:aa:aa:aa:aa:aa")
	aliasMAC  = mustMAC("02:bb:bb:bb:bb:bb")
	otherMAC  = mustMAC("02:cc:cc:cc:cc:cc")
	// strangerMAC is of none of the policies.
	strangerMAC = mustMAC("02:dd:dd:dd:dd:dd")

	podIP     = netip.MustParseAddr("fd00:65::2")
	podLL     = netip.MustParseAddr("fe80::ff:fe00:1")
	gatewayIP = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
	remoteIP  = netip.MustParseAddr("fd00:65::3")  // in --proxy, routed elsewhere
	noRouteIP = netip.MustParseAddr("fd00:65::99") // in --proxy, not routed
	localIP   = netip.MustParseAddr("fd00:65::1")  // in --proxy, the host's own
	ownIP     = netip.MustParseAddr("fd00:65::4")  // in --proxy, routed elsewhere, podMAC's own
	outsideIP = netip.MustParseAddr("2001:db8::1") // routed, not in --proxy
	otherLL   = netip.MustParseAddr("fe80::99")    // in --proxy, of another link
	anyIP     = netip.IPv6Unspecified()
	allNodes  = netip.AddrFrom16(wire.AllNodes)
)

func mustMAC(s string) wire.MAC {
	m, err := wire.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// solicit is a frame in its fields, so that a test says only what is odd.
type solicit struct {
	dst, src  wire.MAC
	etherType wire.EtherType
	from, to  netip.Addr
	hopLimit  uint8
	headers   []byte // extension headers, the last of which names ICMPv6
	next      uint8  // the first of them
	typ, code uint8
	flags     uint32
	target    netip.Addr
	options   []byte
	cut       int // bytes cut off the end of the message
	badSum    bool
	short     int // bytes cut off the end of the packet, which goes on by its length
	trailer   int
	version   uint8
}

// group is the solicited-node group of an address.
func group(a netip.Addr) netip.Addr { return netip.AddrFrom16(wire.SolicitedNode(a.As16())) }

// lladdr is an option with a link-layer address.
func lladdr(typ byte, m wire.MAC) []byte { return append([]byte{typ, 1}, m[:]...) }

// who has target, as the pod's kernel asks it.
func who(target netip.Addr) solicit {
	return solicit{dst: wire.MulticastMAC(group(target).As16()), src: podMAC, etherType: wire.EtherTypeIPv6,
		from: podIP, to: group(target), hopLimit: 255, next: wire.ProtoICMPv6,
		typ: wire.ICMPv6NeighSolicit, target: target, options: lladdr(1, podMAC), version: 6}
}

// probe is duplicate address detection.
func probe(target netip.Addr) solicit {
	return who(target).with(func(s *solicit) { s.from, s.options = anyIP, nil })
}

// unicast is a probe of a neighbour that is known (RFC 4861 section 7.3.3).
func unicast(target netip.Addr) solicit {
	return who(target).with(func(s *solicit) { s.dst, s.to, s.options = answerMAC, target, nil })
}

func (s solicit) with(f func(*solicit)) solicit { f(&s); return s }

func (s solicit) bytes() []byte {
	msg := make([]byte, wire.NDLen, wire.NDLen+len(s.options))
	target := s.target.As16()
	copy(msg[8:], target[:])
	msg = append(msg, s.options...)
	msg = msg[:len(msg)-s.cut]
	src, dst := s.from.As16(), s.to.As16()
	if len(msg) >= wire.ICMPv6Len {
		wire.PutICMPv6(msg, s.typ, s.code, s.flags, src, dst)
		if s.badSum {
			binary.BigEndian.PutUint16(msg[2:], ^binary.BigEndian.Uint16(msg[2:])+1)
		}
	} else if len(msg) > 0 {
		msg[0] = s.typ
	}
	payload := append(append([]byte{}, s.headers...), msg...)
	b := make([]byte, wire.EthernetLen+wire.IPv6Len, wire.EthernetLen+wire.IPv6Len+len(payload)+s.trailer)
	eth := wire.Ethernet(b)
	eth.SetDst(s.dst)
	eth.SetSrc(s.src)
	eth.SetType(s.etherType)
	wire.PutIPv6(eth.Payload(), 0, 0, len(payload), s.next, s.hopLimit, src, dst)
	eth.Payload()[0] = s.version<<4 | eth.Payload()[0]&15
	b = append(append(b, payload...), make([]byte, s.trailer)...)
	return b[:len(b)-s.short]
}

// answer is what becomes of a frame, without a Responder.
func answer(reply, frame []byte, p *Policy) (int, Verdict) {
	var s Solicitation
	if v := s.Read(frame); v != arpd.NotSpecified {
		return 0, v
	}
	return Answer(reply, &s, p)
}

// testRoutes is a routing table.
type testRoutes struct{}

func (testRoutes) Proxy(target, _ netip.Addr, _ int) arpd.ProxyDecision {
	switch target {
	case remoteIP, outsideIP, ownIP, otherLL:
		return arpd.ProxyYes
	case localIP:
		return arpd.ProxyLocal
	}
	return arpd.ProxyNo
}

func (testRoutes) Routed(sender netip.Addr, _ int) bool { return sender == podIP }

func (testRoutes) Uses(address netip.Addr, station wire.MAC, _ int) bool {
	return address == ownIP && station == podMAC
}

func (r testRoutes) Uplink(target, sender netip.Addr, asker wire.MAC, ifindex int) arpd.UplinkDecision {
	switch {
	case target == localIP:
		return arpd.UplinkLocal
	case r.Proxy(target, sender, ifindex) != arpd.ProxyYes:
		return arpd.UplinkNo
	case r.Uses(target, asker, ifindex):
		return arpd.UplinkOwn
	case sender == outsideIP:
		return arpd.UplinkElsewhere
	}
	return arpd.UplinkYes
}

var proxied = []netip.Prefix{netip.MustParsePrefix("fd00:65::/64"), netip.MustParsePrefix("fe80::/10")}

func testPolicy() *Policy {
	return &Policy{Index: 7, Name: "cali1", Own: deviceMAC, Answer: answerMAC, Alias: []wire.MAC{aliasMAC},
		Gateways: []netip.Addr{gatewayIP}, Proxy: proxied, Routes: testRoutes{}}
}

// uplinkPolicy answers on an uplink for what testPolicy proxies.
func uplinkPolicy() *Policy {
	return &Policy{Index: 8, Name: "ens1", Own: deviceMAC, Answer: deviceMAC, Routes: testRoutes{},
		Uplink: &Uplink{Targets: proxied, Others: []wire.MAC{aliasMAC}}}
}

// checkReply demands the one right advertisement that answers a solicitation.
func checkReply(t *testing.T, reply []byte, s *Solicitation, mac wire.MAC, router bool) {
	t.Helper()
	if len(reply) != AdvertisementLen {
		t.Fatalf("reply has %d bytes, want %d", len(reply), AdvertisementLen)
	}
	eth := wire.Ethernet(reply)
	ip := wire.IPv6(eth.Payload())
	msg := wire.ND(ip.Payload())
	to, dst, flags := s.MAC, s.From, uint32(wire.NDSolicited|wire.NDOverride)
	if s.From.IsUnspecified() {
		to, dst, flags = mustMAC("33:33:00:00:00:01"), allNodes, wire.NDOverride
	}
	if router {
		flags |= wire.NDRouter
	}
	told, has, ok := msg.LinkLayer(wire.NDOptTargetLinkLayer)
	for _, c := range []struct {
		field     string
		got, want any
	}{
		{"destination", eth.Dst(), to},
		{"source", eth.Src(), mac},
		{"EtherType", eth.Type(), wire.EtherTypeIPv6},
		{"version", ip.Version(), uint8(6)},
		{"flow", ip.FlowInfo(), uint32(0)},
		{"hop limit", ip.HopLimit(), uint8(255)},
		{"next header", ip.NextHeader(), uint8(wire.ProtoICMPv6)},
		{"length", ip.PayloadLen(), len(msg)},
		{"IP source", ip.SrcAddr(), s.Target},
		{"IP destination", ip.DstAddr(), dst},
		{"type", msg[0], uint8(wire.ICMPv6NeighAdvert)},
		{"code", msg[1], uint8(0)},
		{"flags", msg.Flags(), flags},
		{"target", msg.Target(), s.Target},
		{"target link-layer address", told, mac},
		{"options", has && ok, true},
		{"checksum", wire.Fold(wire.Sum(msg, wire.PseudoSum6(ip.Src(), ip.Dst(), wire.ProtoICMPv6, len(msg)))), uint16(0)},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v, want %v", c.field, c.got, c.want)
		}
	}
}
