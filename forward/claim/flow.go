package claim

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// flowEnd reads the end of a packet's flow that it goes to, as flow_end of
// bpf/claim.c does.
func flowEnd(packet []byte) (key bpfFlowkey, ok bool) {
	ip := wire.IPv4(packet)
	if !ip.Valid() || ip.HeaderLen() > len(ip) {
		return key, false
	}
	key.Addr = nativeAddr(ip.DstAddr())
	if ip.FragmentOffset() != 0 || ip.Frag()&wire.IPv4MF != 0 {
		return key, true // by address alone: all pieces of a datagram go one way
	}
	key.Proto = ip.Protocol()
	l4, port := ip[ip.HeaderLen():], 2 // where the port stands
	if key.Proto == wire.ProtoICMP {
		if len(l4) < 8 {
			return key, false
		}
		port = 4
		if quotes(l4[0]) {
			inner := wire.IPv4(l4[8:])
			if !inner.Valid() || inner.HeaderLen() > len(inner) {
				return key, false
			}
			key.Addr, key.Proto = nativeAddr(inner.SrcAddr()), inner.Protocol()
			if l4, port = inner[inner.HeaderLen():], 0; key.Proto == wire.ProtoICMP {
				port = 4
			}
		}
	} else if !hasPorts(key.Proto) {
		return key, true
	}
	if len(l4) < port+2 {
		return key, false
	}
	key.Port = binary.NativeEndian.Uint16(l4[port:])
	return key, true
}

// quotes reports whether an ICMP message of that type holds the packet that it
// is about, as the kernel's NAT knows them (icmp_in_manip_pkt).
func quotes(typ uint8) bool {
	switch typ {
	case wire.ICMPDestUnreachable, wire.ICMPSourceQuench, wire.ICMPRedirect, wire.ICMPTimeExceeded, wire.ICMPParamProblem:
		return true
	}
	return false
}

// hasPorts reports whether a protocol's header begins with two ports.
func hasPorts(proto uint8) bool {
	const dccp, udpLite = 33, 136
	switch proto {
	case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP, dccp, udpLite:
		return true
	}
	return false
}
