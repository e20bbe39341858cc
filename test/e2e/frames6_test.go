package e2e

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// solicit is a neighbour solicitation in its fields. Without from it detects duplicates
// (RFC 4862 section 5.4.2), without to it goes to the target's group.
type solicit struct {
	src, dst         wire.MAC
	from, to, target string
}

// whoHas6 asks as the kernel of a station would.
func (s *station) whoHas6(target, from string) solicit {
	return solicit{src: s.mac, from: from, target: target}
}

func (q solicit) frame() []byte {
	target := netip.MustParseAddr(q.target).As16()
	from, to := [16]byte{}, wire.SolicitedNode(target)
	length := wire.NDLen
	if q.from != "" {
		from = netip.MustParseAddr(q.from).As16()
		length += wire.NDOptLinkLayerLen
	}
	dst := wire.MulticastMAC(to)
	if q.to != "" {
		to, dst = netip.MustParseAddr(q.to).As16(), q.dst
	}
	b := make([]byte, wire.EthernetLen+wire.IPv6Len+length)
	eth := wire.Ethernet(b)
	eth.SetDst(dst)
	eth.SetSrc(q.src)
	eth.SetType(wire.EtherTypeIPv6)
	p := eth.Payload()
	wire.PutIPv6(p, 0, 0, length, wire.ProtoICMPv6, wire.NDHopLimit, from, to)
	msg := p[wire.IPv6Len:]
	copy(msg[wire.ICMPv6Len:], target[:])
	if q.from != "" {
		msg[wire.NDLen], msg[wire.NDLen+1] = wire.NDOptSourceLinkLayer, wire.NDOptLinkLayerLen/8
		copy(msg[wire.NDLen+2:], q.src[:])
	}
	wire.PutICMPv6(msg, wire.ICMPv6NeighSolicit, 0, 0, from, to)
	return b
}

// discovery is the message of neighbour discovery of a type that a frame bears, nil if it
// bears none.
func discovery(f wire.Ethernet, typ uint8) wire.ND {
	p := wire.IPv6(f.Payload())
	if f.Type() != wire.EtherTypeIPv6 || !p.Valid() || p.NextHeader() != wire.ProtoICMPv6 {
		return nil
	}
	if msg := wire.ND(p.Payload()); msg.Valid() && msg[0] == typ {
		return msg
	}
	return nil
}

// isAnswer reports whether a frame is the advertisement that answers a solicitation of a
// station's.
func (q solicit) isAnswer(f wire.Ethernet) bool {
	msg := discovery(f, wire.ICMPv6NeighAdvert)
	if msg == nil || msg.Target() != netip.MustParseAddr(q.target) {
		return false
	}
	to := netip.AddrFrom16(wire.AllNodes)
	if q.from != "" {
		to = netip.MustParseAddr(q.from)
	}
	return wire.IPv6(f.Payload()).DstAddr() == to && msg.Flags()&wire.NDSolicited != 0 == (q.from != "")
}
