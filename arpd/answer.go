package arpd

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// ReplyLen is the length of every reply in bytes: what the kernel's arp_create
// makes. A device that needs more pads it.
const ReplyLen = wire.EthernetLen + wire.ARPLen

// Answer decides about a request that was read and, with verdict Answered, writes
// the reply (n = ReplyLen bytes, an Ethernet frame) to reply, which must have room
// for it. With any other verdict n is 0 and reply untouched. reply and the frame
// that q was read from must not overlap.
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
func Answer(reply []byte, q *Request, p *Policy) (n int, v Verdict) {
	if v := p.judge(q); v != Answered {
		return 0, v
	}
	write(reply, q, p)
	return ReplyLen, Answered
}

// judge decides about a request.
func (p *Policy) judge(q *Request) Verdict {
	if v := p.JudgeStations(q.Dst, q.Src, q.senderMAC()); v != NotSpecified {
		return v
	}
	target, sender := q.TargetIP, q.SenderIP
	switch {
	case target.IsLoopback() || sender.IsLoopback():
		// The kernel answers 127/8 with route_localnet, and then by itself.
		return DropLocalnet
	case neverUnicast(target):
		return DropInvalidTarget
	case !q.isProbe() && neverUnicast(sender):
		return DropInvalidSource
	case sender == target:
		return IgnoreGratuitous
	}
	return p.Judge(q.asker(p))
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// neverUnicast reports addresses that ip_route_input refuses as source and has no
// unicast route to: multicast, 255.255.255.255, 0.0.0.0. All else in 0/8 is
// unicast since Linux 5.3 (ipv4_is_zeronet in include/linux/in.h).
func neverUnicast(a netip.Addr) bool {
	return a.IsMulticast() || a == limitedBroadcast || a.IsUnspecified()
}

// write makes the reply to a request. A probe's 0.0.0.0 becomes the reply's target
// address, as in the kernel.
func write(reply []byte, q *Request, p *Policy) {
	eth, sha := wire.Ethernet(reply), q.senderMAC()
	eth.SetDst(sha)
	eth.SetSrc(p.Answer)
	eth.SetType(wire.EtherTypeARP)
	wire.PutARP(eth.Payload(), wire.ARPReply, p.Answer, q.TargetIP, sha, q.SenderIP)
}
