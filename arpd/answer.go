package arpd

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"

	"proxyarpd/internal/wire"
)

// ReplyLen is the length of every reply: what the kernel's arp_create makes. A
// device that needs more pads it.
const ReplyLen = wire.EthernetLen + wire.ARPLen

// Answer decides about one received Ethernet frame and, with verdict Answered,
// writes the reply (n = ReplyLen bytes) to reply, which must have room for it.
// With any other verdict n is 0 and reply untouched. reply and request must not
// overlap.
//
// The rules are those of arp_rcv and arp_process (net/ipv4/arp.c) with RFC 5227
// for probes; the order is the kernel's. Where they differ:
//   - a gateway needs neither route nor local address, and wins over Routes;
//   - the Ethernet source of the reply is Policy.Answer, not the device's
//     MAC: bridges and pods learn one MAC, whichever header they read;
//   - a sender hardware address that is a group address or zero is dropped: the
//     kernel would send its reply to it, and broadcast it.
//
// As in the kernel the reply goes to ar$sha, whatever the Ethernet source was,
// a frame to a group address is taken as one to broadcast, and bytes after the
// ARP packet mean nothing.
//
// The ARP packet is decoded and encoded by mdlayher/arp: 167 ns and two
// allocations of 56 bytes together, against 31 ns and none through wire.ARP
// (BenchmarkCodec). That is 1.4 % of the 12 µs that an answer takes with its
// system calls under a flood (BenchmarkFlood). mdlayher/ethernet is left out: it
// costs as much again, and pads to 60.
func Answer(reply, request []byte, p *Policy) (n int, v Verdict) {
	var pkt arp.Packet
	if v := decode(&pkt, request); v != NotSpecified {
		return 0, v
	}
	if v := judge(&pkt, wire.Ethernet(request), p); v != Answered {
		return 0, v
	}
	return encode(reply, &pkt, p), Answered
}

// decode fills pkt from a frame that bears an IPv4-over-Ethernet ARP request.
// The lengths are demanded before the parser sees them, not after: its
// MarshalBinary must never meet others.
func decode(pkt *arp.Packet, frame []byte) Verdict {
	eth := wire.Ethernet(frame)
	if !eth.Valid() {
		return DropTooSmall
	}
	if eth.Type() != wire.EtherTypeARP {
		return DropProtocol
	}
	a := wire.ARP(eth.Payload())
	switch {
	case len(a) < wire.ARPFixedLen:
		return DropTruncated
	case !a.IsIPv4OverEthernet():
		return DropBadHeader
	case !a.Valid():
		return DropTruncated
	}
	switch a.Op() {
	case wire.ARPRequest:
	case wire.ARPReply:
		return IgnoreReply
	default:
		return IgnoreOperation
	}
	if err := pkt.UnmarshalBinary(a[:wire.ARPLen]); err != nil {
		return DropBadHeader
	}
	return NotSpecified
}

// judge decides about a well-formed request.
func judge(pkt *arp.Packet, eth wire.Ethernet, p *Policy) Verdict {
	if dst := eth.Dst(); !dst.IsMulticast() && !p.ours(dst) {
		return IgnoreOtherhost
	}
	src, sha := eth.Src(), wire.MAC(pkt.SenderHardwareAddr)
	if p.ours(src) || p.ours(sha) {
		return IgnoreOwnFrame
	}
	if src.IsMulticast() || src.IsZero() || sha.IsMulticast() || sha.IsZero() {
		return DropInvalidMAC
	}
	return judgeAddresses(pkt.TargetIP, pkt.SenderIP, p)
}

func judgeAddresses(target, sender netip.Addr, p *Policy) Verdict {
	probe := sender.IsUnspecified()
	switch {
	case target.IsLoopback() || sender.IsLoopback():
		// The kernel answers 127/8 with route_localnet, and then by itself.
		return DropLocalnet
	case neverUnicast(target):
		return DropInvalidTarget
	case !probe && neverUnicast(sender):
		return DropInvalidSource
	case sender == target:
		return IgnoreGratuitous
	case p.isGateway(target):
		return Answered // a probe too: RFC 5227 section 2.4, we hold the address
	}
	decision := p.route(target, sender)
	switch {
	case decision == ProxyLocal:
		return Local
	case probe:
		// An answer would tell the prober that its address is taken.
		return IgnoreProbe
	case decision == ProxyYes && p.inProxy(target):
		return Answered
	}
	return IgnoreNotProxied
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// neverUnicast reports addresses that ip_route_input refuses as source and has no
// unicast route to: multicast, 255.255.255.255, 0.0.0.0. All else in 0/8 is
// unicast since Linux 5.3 (ipv4_is_zeronet in include/linux/in.h).
func neverUnicast(a netip.Addr) bool {
	return a.IsMulticast() || a == limitedBroadcast || a.IsUnspecified()
}

// encode turns the request into the reply. A probe's 0.0.0.0 becomes the reply's
// target address, as in the kernel.
func encode(reply []byte, pkt *arp.Packet, p *Policy) int {
	eth := wire.Ethernet(reply)
	eth.SetDst(wire.MAC(pkt.SenderHardwareAddr))
	eth.SetSrc(p.Answer)
	eth.SetType(wire.EtherTypeARP)
	answer := arp.Packet{
		HardwareType:       wire.ARPHardwareEthernet,
		ProtocolType:       uint16(wire.EtherTypeIPv4),
		HardwareAddrLength: 6,
		IPLength:           4,
		Operation:          arp.OperationReply,
		SenderHardwareAddr: net.HardwareAddr(p.Answer[:]),
		SenderIP:           pkt.TargetIP,
		TargetHardwareAddr: pkt.SenderHardwareAddr,
		TargetIP:           pkt.SenderIP,
	}
	b, err := answer.MarshalBinary()
	if err != nil { // documented as never
		panic("arpd: mdlayher/arp: " + err.Error())
	}
	return wire.EthernetLen + copy(reply[wire.EthernetLen:ReplyLen], b)
}
