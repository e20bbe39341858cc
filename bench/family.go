package bench

import (
	"fmt"
	"net"
	"net/netip"

	"proxyarpd/internal/wire"
)

// Families that a run can measure.
const (
	familyIPv4 = 4
	familyIPv6 = 6
)

// The gateways that the pods of a lab ask for.
var (
	gateway  = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

// gatewayOf is the gateway of the family that an address is of.
func gatewayOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		return gateway6
	}
	return gateway
}

// leastFrame is the smallest frame that bears a datagram of the generator over IPv6 or IPv4, bytes with FCS.
func leastFrame(ipv6 bool) int {
	if ipv6 {
		return payloadAt6 + payloadLen + fcsLen
	}
	return payloadAt + payloadLen + fcsLen
}

// small is leastFrame of the run's family: 64 bytes for IPv4, the least of Ethernet, 84 for IPv6.
func (r *run) small() int { return leastFrame(r.Family == familyIPv6) }

// question is how a family's next hop is asked for: an ARP request, or a neighbour solicitation.
func (r *run) question() string {
	if r.Family == familyIPv6 {
		return "ND"
	}
	return "ARP"
}

// familyNotes say in what a run over IPv6 differs from what the methods say.
func (r *run) familyNotes() []string {
	if r.Family != familyIPv6 {
		return nil
	}
	return []string{fmt.Sprintf("IPv6: where a method says 64-byte frames they have %d bytes, the least that bear IPv6, UDP and the generator's 18 bytes; "+
		"where it says ARP it is neighbour discovery, multicast; the kernel forwards by net.ipv6.conf.all.forwarding and answers for the gateway's address, "+
		"which is the workload interface's own.", r.small())}
}

// unspecified stands for all addresses of the family that an address is of.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// hostPrefix is an address alone.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// Request builds what a pod sends to ask for target: an ARP request, or a neighbour solicitation.
func Request(mac net.HardwareAddr, sender, target netip.Addr) ([]byte, error) {
	if target.Is6() {
		return NeighborSolicitation(mac, sender, target)
	}
	return ARPRequest(mac, sender, target)
}

// NeighborSolicitation builds the multicast solicitation that a pod sends for target (RFC 4861 section 4.3).
func NeighborSolicitation(mac net.HardwareAddr, sender, target netip.Addr) ([]byte, error) {
	if len(mac) != len(wire.MAC{}) || !sender.Is6() || !target.Is6() {
		return nil, fmt.Errorf("bench: neighbour solicitation: want Ethernet and IPv6, not %s %s for %s", mac, sender, target)
	}
	const (
		message   = 32 // header, target, source link-layer address
		hopLimit  = 255
		sourceLLA = 1
	)
	b := make([]byte, wire.EthernetLen+wire.IPv6Len+message)
	group := wire.SolicitedNode(target.As16())
	eth := wire.Ethernet(b)
	eth.SetDst(wire.MulticastMAC(group))
	eth.SetSrc(wire.MAC(mac))
	eth.SetType(wire.EtherTypeIPv6)
	wire.PutIPv6(b[wire.EthernetLen:], 0, 0, message, wire.ProtoICMPv6, hopLimit, sender.As16(), group)
	msg := b[wire.EthernetLen+wire.IPv6Len:]
	copy(msg[8:], target.AsSlice())
	msg[24], msg[25] = sourceLLA, 1
	copy(msg[26:], mac)
	wire.PutICMPv6(msg, wire.ICMPv6NeighSolicit, 0, 0, sender.As16(), group)
	return b, nil
}

// answered is the address that a frame says the MAC of: the sender of an ARP reply, the target of a neighbour
// advertisement. ok is false for all other frames.
func answered(frame []byte) (a netip.Addr, ok bool) {
	if len(frame) < wire.EthernetLen {
		return a, false
	}
	switch eth := wire.Ethernet(frame); eth.Type() {
	case wire.EtherTypeARP:
		if r := wire.ARP(eth.Payload()); r.Valid() && r.Op() == wire.ARPReply {
			return r.SenderIP(), true
		}
	case wire.EtherTypeIPv6:
		const target = 8
		h := wire.IPv6(eth.Payload())
		if h.Valid() && h.NextHeader() == wire.ProtoICMPv6 && len(h.Payload()) >= target+16 && h.Payload()[0] == wire.ICMPv6NeighAdvert {
			return netip.AddrFrom16([16]byte(h.Payload()[target:])), true
		}
	}
	return a, false
}
