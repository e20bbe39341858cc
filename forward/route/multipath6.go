package route

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// nexthopFor6 picks the nexthop of a route for an IPv6 packet, as nexthopFor.
func (t *Table) nexthopFor6(r *Route, ip wire.IPv6, keys *flowKeys) *Nexthop {
	if len(r.Nexthops) == 1 {
		return &r.Nexthops[0]
	}
	return t.choose6(r, t.flowHash6(ip, keys))
}

// choose6 picks a nexthop of an IPv6 route by a hash of 31 bits (fib6_select_path in
// net/ipv6/route.c). Neighbours count for nexthop objects alone.
func (t *Table) choose6(r *Route, hash uint32) *Nexthop { return t.pick(r, hash, r.Object) }

// flowHash6 is rt6_multipath_hash (net/ipv6/route.c), with the host's
// fib_multipath_hash_seed. keys are those of the packet's outer headers, nil if
// nobody has looked for them yet.
func (t *Table) flowHash6(ip wire.IPv6, keys *flowKeys) uint32 {
	seed := t.host.HashSeed
	switch t.host.V6.HashPolicy {
	case 1:
		return hashFields(keysOf6(ip, keys), hashSrc|hashDst|hashProto|hashSrcPort|hashDstPort, seed) >> 1
	case 2:
		k := dissect(ip, headerIPv6, true)
		fields := uint32(hashSrc | hashDst)
		if k.v6 {
			fields |= hashLabel | hashProto
		}
		return hashFields(k, fields, seed) >> 1
	case 3:
		return t.customHash6(ip, keys) >> 1
	}
	return hashFields(l3Keys6(ip, keys), hashSrc|hashDst|hashLabel|hashProto, seed) >> 1
}

// keysOf6 are the keys of a packet's outer headers, looked for once.
func keysOf6(ip wire.IPv6, known *flowKeys) flowKeys {
	if known != nil {
		return *known
	}
	return dissect(ip, headerIPv6, false)
}

// customHash6 is rt6_multipath_custom_hash_skb.
func (t *Table) customHash6(ip wire.IPv6, keys *flowKeys) uint32 {
	fields, seed := t.host.V6.HashFields, t.host.HashSeed
	var outer, inner uint32
	encap := true
	if fields&hashOuter != 0 {
		k := keysOf6(ip, keys)
		outer, encap = hashFields(k, fields&hashOuter, seed), k.encap
	}
	if fields>>innerShift&hashOuter != 0 && encap {
		if k := dissect(ip, headerIPv6, true); k.encap {
			inner = hashFields(k, fields>>innerShift&hashOuter, seed)
		}
	}
	return jhash2(outer, inner)
}

// l3Keys6 are what policy 0 looks at (ip6_multipath_l3_keys): of an ICMPv6 error
// that which the packet has that it quotes. Where rules have headers dissected, the
// kernel takes of an ICMPv6 message, behind whatever extension headers, what was found,
// in which the flow label is in the host's byte order.
func l3Keys6(ip wire.IPv6, dissected *flowKeys) flowKeys {
	l4 := ip.Payload()
	switch {
	case ip.NextHeader() == wire.ProtoICMPv6 && len(l4) >= wire.ICMPv6Len+wire.IPv6Len && isQuoting6(l4[0]):
		ip = wire.IPv6(l4[wire.ICMPv6Len:])
	case dissected != nil && dissected.proto == wire.ProtoICMPv6:
		return *dissected
	}
	label := [4]byte{1: ip[1] & 0xf, 2: ip[2], 3: ip[3]}
	return flowKeys{v6: true, src: ip.Src(), dst: ip.Dst(), proto: ip.NextHeader(), label: binary.NativeEndian.Uint32(label[:])}
}

// isQuoting6 is the kernel's icmpv6_is_err.
func isQuoting6(typ uint8) bool {
	switch typ {
	case wire.ICMPv6DestUnreachable, wire.ICMPv6PacketTooBig, wire.ICMPv6TimeExceeded, wire.ICMPv6ParamProblem:
		return true
	}
	return false
}
