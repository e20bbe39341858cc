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
	ip, six := s.Data, len(s.Data) > 0 && s.Data[0]>>4 == 6
	aliased := false // the claim gives it to the host all the same
	if s.Hatype == unix.ARPHRD_ETHER {
		eth := wire.Ethernet(s.Data)
		if !eth.Valid() {
			return uint8(route.DropPktTooSmall), true
		}
		six = eth.Type() == wire.EtherTypeIPv6
		if !six && eth.Type() != wire.EtherTypeIPv4 {
			return uint8(route.IgnoreProto), true
		}
		ip = eth.Payload()
		aliased = s.PktType == unix.PACKET_OTHERHOST && eth.Dst() != ours.MAC && ours.AnswersTo(eth.Dst())
	}
	length := wire.IPv4MinLen
	if six {
		length = wire.IPv6Len
	}
	switch {
	case six && !table.Serves6(ours):
		return uint8(route.IgnoreProto), true
	case six && guarded(src, ip, ours):
		return uint8(route.DropRAGuard), true
	case s.PktType == unix.PACKET_OTHERHOST && !aliased:
		return uint8(route.DropOtherHost), true
	case s.PktType != unix.PACKET_HOST && !aliased:
		return uint8(route.IgnoreType), true
	case len(ip) < length:
		return uint8(route.Local), true
	}
	return uint8(ownerOf(src, table, ip, six, ours, s)), true
}

// guarded reports whether the claim drops an IPv6 packet that came in by a link: a
// router advertisement or redirect of a workload (is_router_message of
// forward/claim/bpf/nd.h, but for what hides them).
func guarded(src Sources, packet []byte, in *route.Link) bool {
	ip := wire.IPv6(packet)
	if !in.Workload() || !ip.Valid() || ip.HopLimit() != 255 || src.Counters(in.Ifindex).Left[claim.RAGuard] == 0 {
		return false
	}
	off, next, _, ok := ip.Upper()
	return ok && next == wire.ProtoICMPv6 && off < len(ip) && (ip[off] == wire.ICMPv6RouterAdvert || ip[off] == wire.ICMPv6Redirect)
}

// ownerOf says why the ring's filter left a packet to the kernel. What is ours by
// the tables may have been left for what only the filter sees, or have been
// refused because its interface held its share of the ring.
func ownerOf(src Sources, table *route.Table, ip []byte, six bool, in *route.Link, s *pktring.Slot) route.Verdict {
	owner := table.Owner(ip, in)
	if owner != route.NotSpecified {
		return owner
	}
	left, forwards, mtu := src.Counters(in.Ifindex).Left, in.KernelForwards(), in.MTU
	if six {
		forwards, mtu = in.KernelForwards6(), in.MTU6
	}
	switch {
	case forwards && left[claim.Stalled] > 0 && src.Stalled(s.Time):
		return route.PuntStalled
	case forwards && src.Translated(ip):
		return route.PuntFlow
	case forwards && left[claim.GSO] > 0 && s.Len > mtu+wire.EthernetLen:
		return route.PuntGSO
	case !forwards && !in.Workload() && left[claim.Upper] > 0:
		return route.PuntUpper
	}
	return route.DropRateLimit
}
