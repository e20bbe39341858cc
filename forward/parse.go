package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// checkFrame looks at all that stands before the network layer: a frame may be no router's
// at all.
func checkFrame(t *route.Table, f *Frame, r *result) bool {
	switch {
	case f.Tagged:
		r.drop(route.IgnoreTagged)
		return false
	case r.v6 && !t.Serves6(r.In):
		r.drop(route.IgnoreProto)
		return false
	case !f.Ethernet:
		return true
	}
	eth := f.ethernet()
	if !eth.Valid() {
		r.drop(route.DropPktTooSmall)
		return false
	}
	if eth.Type() != wire.EtherTypeIPv4 && !r.v6 {
		r.drop(route.IgnoreProto)
		return false
	}
	if f.PktType != packetHost {
		if f.PktType != packetOtherHost {
			r.drop(route.IgnoreType)
			return false
		}
		if !r.In.AnswersTo(eth.Dst()) {
			r.drop(route.DropOtherHost)
			return false
		}
	}
	return true
}

// parse4 takes the frame down to a sound IPv4 header (net/ipv4/ip_input.c,
// ip_rcv_core) and cuts link-layer padding off.
func parse4(f *Frame, r *result) (wire.IPv4, bool) {
	ip := wire.IPv4(f.Buf[VnetLen+f.l2len():])
	switch {
	case !ip.Valid() || !ip.HeaderValid():
		r.drop(route.DropIPInHdr)
		return nil, false
	case !ip.ChecksumOK():
		r.drop(route.DropIPCsum)
		return nil, false
	}
	total := ip.TotalLen()
	if total == 0 && Vnet(f.Buf).gso() == gsoTCPv4 {
		total = len(ip) // BIG TCP: include/linux/ip.h, iph_totlen
	}
	switch {
	case total > len(ip):
		r.drop(route.DropPktTooSmall)
		return nil, false
	case total < ip.HeaderLen():
		r.drop(route.DropIPInHdr)
		return nil, false
	}
	if !f.trim(total) {
		r.drop(route.DropPktTooSmall)
		return nil, false
	}
	return ip[:total], true
}

// trim cuts a frame so that total bytes are left at the network layer, and reports whether
// that leaves the checksum that is still to be filled in (include/linux/skbuff.h,
// pskb_trim_rcsum).
func (f *Frame) trim(total int) bool {
	start, l2len := VnetLen+f.l2len(), f.l2len()
	v := Vnet(f.Buf)
	if total < len(f.Buf)-start && v.flags()&vnetNeedsCsum != 0 && v.csumStart()+v.csumOffset()+2 > l2len+total {
		return false
	}
	if v.headerLen() > l2len+total {
		v.setHeaderLen(l2len + total) // a hint, but one that packet_snd checks
	}
	f.Buf = f.Buf[:start+total]
	return true
}
