package ndp

import (
	"net/netip"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// Solicitation is a neighbour solicitation, as Read found it in a frame.
type Solicitation struct {
	Dst, Src wire.MAC   // of the Ethernet header
	From, To netip.Addr // of the IPv6 header; From is :: in duplicate address detection
	Target   netip.Addr
	// MAC is the source link-layer address, with Unsaid that of the frame, since the
	// option is missing: it may be, in unicast probes (RFC 4861 section 4.3).
	MAC    wire.MAC
	Unsaid bool
}

// Read is the one reading of a received Ethernet frame: it checks it and fills s. The
// verdict is NotSpecified if the frame bears a solicitation with which nothing is wrong
// by RFC 4861 section 7.1.1, else it is the frame's end. The order is the kernel's
// (net/ipv6: ip6_rcv_core, icmpv6_rcv, ndisc_rcv, ndisc_recv_ns), but for the checksum of
// what is fragmented, which only the whole would have.
//
// Options of unknown types mean nothing, as do bytes behind the packet.
func (s *Solicitation) Read(frame []byte) Verdict {
	eth := wire.Ethernet(frame)
	if !eth.Valid() {
		return arpd.DropTooSmall
	}
	s.Dst, s.Src = eth.Dst(), eth.Src()
	ip, msg, fragment, v := message(eth)
	if v != arpd.NotSpecified {
		return v
	}
	switch {
	case msg[0] == wire.ICMPv6NeighAdvert:
		return arpd.IgnoreAdvertisement
	case msg[0] != wire.ICMPv6NeighSolicit:
		return arpd.IgnoreNDOther
	case fragment:
		return arpd.DropNDFrag
	}
	if v := valid(ip, msg); v != arpd.NotSpecified {
		return v
	}
	s.From, s.To, s.Target = ip.SrcAddr(), ip.DstAddr(), msg.Target()
	probe := s.From.IsUnspecified()
	if s.Target.IsMulticast() || s.Target.IsUnspecified() || s.Target.IsLoopback() {
		return arpd.DropInvalidTarget
	}
	if probe && !isSolicitedNode(ip.Dst()) {
		return arpd.DropNDBadDAD
	}
	mac, has, ok := msg.LinkLayer(wire.NDOptSourceLinkLayer)
	switch {
	case !ok:
		return arpd.DropNDOptions
	case has && probe:
		return arpd.DropNDBadDAD
	case !has:
		mac = s.Src
	}
	s.MAC, s.Unsaid = mac, !has
	return arpd.NotSpecified
}

// Asker is who sent the solicitation. Its Index is not set.
func (s *Solicitation) Asker() arpd.Asker {
	return arpd.Asker{IP: s.From, MAC: s.MAC, Target: s.Target, Unsaid: s.Unsaid}
}

// valid is what solicitations and advertisements have to be (RFC 4861 sections 7.1.1 and
// 7.1.2).
func valid(ip wire.IPv6, msg wire.ND) Verdict {
	switch {
	case wire.Fold(wire.Sum(msg, wire.PseudoSum6(ip.Src(), ip.Dst(), wire.ProtoICMPv6, len(msg)))) != 0:
		return arpd.DropICMPCsum
	case ip.HopLimit() != wire.NDHopLimit:
		return arpd.DropNDHopLimit
	case len(msg) > 1 && msg[1] != 0:
		return arpd.DropNDCode
	case !msg.Valid():
		return arpd.DropTooSmall
	}
	return arpd.NotSpecified
}

// message finds the ICMPv6 message of a frame; fragment says that a fragment header
// stands before it. The message has at least one byte, its type. Behind other extension
// headers nobody sends neighbour discovery; there the kernel has it alone, whose options
// are its to judge.
func message(eth wire.Ethernet) (ip wire.IPv6, msg wire.ND, fragment bool, v Verdict) {
	if eth.Type() != wire.EtherTypeIPv6 {
		return nil, nil, false, arpd.DropProtocol
	}
	ip = wire.IPv6(eth.Payload())
	switch {
	case len(ip) > 0 && ip.Version() != 6:
		return nil, nil, false, arpd.DropIPv6Header
	case !ip.Valid() || len(ip.Payload()) < ip.PayloadLen():
		return nil, nil, false, arpd.DropTruncated
	case ip.SrcAddr().IsMulticast() || ip.SrcAddr().IsLoopback():
		return nil, nil, false, arpd.DropInvalidSource
	}
	rest, next := ip.Payload()[:ip.PayloadLen()], ip.NextHeader()
	if next == wire.ProtoFragment && len(rest) >= fragmentLen && isFirst(rest) {
		rest, next, fragment = rest[fragmentLen:], rest[0], true
	}
	switch {
	case next != wire.ProtoICMPv6:
		return nil, nil, false, arpd.IgnoreNDOther
	case len(rest) == 0:
		return nil, nil, false, arpd.DropTooSmall
	}
	return ip, wire.ND(rest), fragment, arpd.NotSpecified
}

// fragmentLen is the length of a fragment header in bytes (RFC 8200 section 4.5).
const fragmentLen = 8

// isFirst reports whether a fragment header is that of the first fragment, of several or
// of one: its offset is 0.
func isFirst(header []byte) bool { return header[2] == 0 && header[3]&0xf8 == 0 }

// isSolicitedNode reports an address of ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
func isSolicitedNode(a [16]byte) bool { return a == wire.SolicitedNode(a) }
