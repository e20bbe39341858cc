package livecapture

import (
	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// leftToKernel says why a frame is the kernel's; known is false on interfaces
// that are none of ours, where nothing is decided.
func leftToKernel(src Sources, s *pktring.Slot) (verdict uint8, known bool) {
	table := src.Table()
	if table == nil {
		return 0, false
	}
	ours := table.Link(s.Ifindex)
	switch {
	case ours == nil || ours.Flags&(route.LinkWorkload|route.LinkUplink) == 0:
		return 0, false
	case s.PktType == unix.PACKET_OUTGOING:
		return uint8(route.Local), true
	case s.Tagged && s.TCI&pktring.VLANID != 0:
		return uint8(route.IgnoreTagged), true
	}
	ip := s.Data
	if s.Hatype == unix.ARPHRD_ETHER {
		eth := wire.Ethernet(s.Data)
		if !eth.Valid() {
			return uint8(route.DropPktTooSmall), true
		}
		if eth.Type() != wire.EtherTypeIPv4 {
			return uint8(route.IgnoreProto), true
		}
		ip = eth.Payload()
	}
	switch {
	case s.PktType == unix.PACKET_OTHERHOST:
		return uint8(route.DropOtherHost), true
	case s.PktType != unix.PACKET_HOST:
		return uint8(route.IgnoreType), true
	case len(ip) < wire.IPv4MinLen:
		return uint8(route.Local), true
	}
	return uint8(ownerOf(src, table, ip, ours, s)), true
}

// ownerOf says why the ring's filter left a packet to the kernel. What is ours by
// the tables may have been left for what only the filter sees, or have been
// refused because its interface held its share of the ring.
func ownerOf(src Sources, table *route.Table, ip []byte, in *route.Link, s *pktring.Slot) route.Verdict {
	owner := table.Owner(ip, in)
	if owner != route.NotSpecified {
		return owner
	}
	left := src.Counters(in.Ifindex).Left
	switch {
	case in.KernelForwards() && left[claim.Stalled] > 0 && src.Stalled(s.Time):
		return route.PuntStalled
	case in.KernelForwards() && src.Translated(ip):
		return route.PuntFlow
	case in.KernelForwards() && left[claim.GSO] > 0 && s.Len > in.MTU+wire.EthernetLen:
		return route.PuntGSO
	case !in.KernelForwards() && !in.Workload() && left[claim.Upper] > 0:
		return route.PuntUpper
	}
	return route.DropRateLimit
}
