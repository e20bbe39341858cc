package arpd

import (
	"github.com/mdlayher/arp"

	"proxyarpd/internal/wire"
)

// Request is an ARP request, as Read found it in a frame. Whatever is decided,
// held, learnt or answered of a frame is taken from here.
//
// The hardware addresses of the Packet are slices of the frame: a Request is
// good for as long as the frame's bytes stay.
type Request struct {
	Dst, Src wire.MAC // of the Ethernet header
	arp.Packet
}

// Read is the one reading of a received Ethernet frame: it checks it and fills q.
// The verdict is NotSpecified if the frame bears an ARP request for IPv4 over
// Ethernet (RFC 826), else it is the frame's end, and Packet is what it was. Dst
// and Src are those of the frame with any verdict but DropTooSmall.
//
// Packet is what its UnmarshalBinary makes of the same bytes.
func (q *Request) Read(frame []byte) Verdict {
	eth := wire.Ethernet(frame)
	if !eth.Valid() {
		return DropTooSmall
	}
	q.Dst, q.Src = eth.Dst(), eth.Src()
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
	switch arp.Operation(a.Op()) {
	case arp.OperationRequest:
	case arp.OperationReply:
		return IgnoreReply
	default:
		return IgnoreOperation
	}
	q.HardwareType, q.ProtocolType = a.HardwareType(), uint16(a.ProtocolType())
	q.HardwareAddrLength, q.IPLength = a.HardwareLen(), a.ProtocolLen()
	q.Operation = arp.OperationRequest
	q.SenderIP, q.TargetIP = a.SenderIP(), a.TargetIP()
	q.SenderHardwareAddr, q.TargetHardwareAddr = a.SenderHardwareAddr(), a.TargetHardwareAddr()
	return NotSpecified
}

// senderMAC is ar$sha.
func (q *Request) senderMAC() wire.MAC { return wire.MAC(q.SenderHardwareAddr) }

// isProbe reports an address probe (RFC 5227 section 2.1.1), which has no sender
// address yet.
func (q *Request) isProbe() bool { return q.SenderIP.IsUnspecified() }

// asker is who sent a request.
func (q *Request) asker(p *Policy) Asker {
	return Asker{Index: p.Index, IP: q.SenderIP, MAC: q.senderMAC(), Target: q.TargetIP}
}
