package arpd

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// Claim is an ARP frame, a request or a reply, whose sender says that an address
// is its own (RFC 5227 section 2.4).
type Claim struct {
	Index int // of the interface where it came in
	IP    netip.Addr
	MAC   wire.MAC // ar$sha
}

// readClaim reads a frame that came in by an interface. It is none if it is no ARP
// request or reply for IPv4 over Ethernet.
func readClaim(frame []byte, ifindex int) (c Claim, ok bool) {
	eth := wire.Ethernet(frame)
	if !eth.Valid() || eth.Type() != wire.EtherTypeARP {
		return c, false
	}
	a := wire.ARP(eth.Payload())
	if !a.IsIPv4OverEthernet() || !a.Valid() || a.Op() != wire.ARPRequest && a.Op() != wire.ARPReply {
		return c, false
	}
	return Claim{Index: ifindex, IP: a.SenderIP(), MAC: a.SenderMAC()}, true
}
