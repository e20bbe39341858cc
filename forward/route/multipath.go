package route

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"proxyarpd/internal/wire"
)

// balanced gives a copy in which each nexthop has its share of the hash space
// by weight (fib_rebalance in net/ipv4/fib_semantics.c, and
// nh_hthr_group_rebalance in net/ipv4/nexthop.c).
func balanced(nhs []Nexthop) []Nexthop {
	if len(nhs) == 0 {
		return nil
	}
	nhs = slices.Clone(nhs)
	total := uint64(0)
	for i := range nhs {
		total += uint64(max(nhs[i].Weight, 1))
	}
	sum := uint64(0)
	for i := range nhs {
		sum += uint64(max(nhs[i].Weight, 1))
		nhs[i].upper = uint32((sum<<31+total/2)/total - 1)
	}
	nhs[len(nhs)-1].upper = math.MaxInt32
	return nhs
}

// nexthopFor picks the nexthop of a route for a packet. keys are those of its
// outer headers, nil if nobody has looked for them yet.
func (t *Table) nexthopFor(r *Route, ip wire.IPv4, keys *flowKeys) *Nexthop {
	if len(r.Nexthops) == 1 {
		return &r.Nexthops[0]
	}
	return t.oneOf(r, ip, keys)
}

func (t *Table) oneOf(r *Route, ip wire.IPv4, keys *flowKeys) *Nexthop {
	return t.choose(r, t.flowHash(ip, keys))
}

// SelectFor picks the nexthop of a route for the flow between two addresses of one
// family; nil if the route has none.
func (t *Table) SelectFor(r *Route, src, dst netip.Addr) *Nexthop {
	if dst.Is6() {
		return t.choose6(r, hashFields(flowKeys{v6: true, src: src.As16(), dst: dst.As16()}, hashSrc|hashDst, t.host.HashSeed)>>1)
	}
	return t.choose(r, hashAddresses(src.As4(), dst.As4(), t.host.HashSeed))
}

// choose picks a nexthop of an IPv4 route by a hash of 31 bits (fib_select_multipath
// in net/ipv4/fib_semantics.c).
func (t *Table) choose(r *Route, hash uint32) *Nexthop {
	return t.pick(r, hash, r.Object || t.host.UseNeigh)
}

// pick picks a nexthop by a hash (nexthop_select_path_hthr in net/ipv4/nexthop.c):
// the one whose share it falls in, or of those behind it the first whose
// neighbour is not known to be bad, if it is to be careful of that.
func (t *Table) pick(r *Route, hash uint32, careful bool) *Nexthop {
	if len(r.Nexthops) == 0 {
		return nil
	}
	first, found := &r.Nexthops[0], false
	for i := range r.Nexthops {
		nh := &r.Nexthops[i]
		if careful && !t.reachable(nh) {
			continue
		}
		if !found {
			first, found = nh, true
		}
		if hash <= nh.upper {
			return nh
		}
	}
	return first
}

// reachable is fib_good_nh: a neighbour that is not known yet is good.
func (t *Table) reachable(nh *Nexthop) bool {
	if !nh.Gateway.IsValid() {
		return true
	}
	l := t.Link(nh.Ifindex)
	if l == nil || !l.Ethernet() {
		return true
	}
	n := l.Neighbour(nh.Gateway)
	return n == nil || n.Valid
}

// The bits of fib_multipath_hash_fields (include/net/ip_fib.h). Those of inner
// headers are the same, six places up.
const (
	hashSrc = 1 << iota
	hashDst
	hashProto
	hashLabel
	hashSrcPort
	hashDstPort
	hashOuter  = 1<<6 - 1
	innerShift = 6
)

// flowHash is fib_multipath_hash (net/ipv4/route.c): with the host's
// fib_multipath_hash_seed, the kernel's own; without, of the same meaning.
func (t *Table) flowHash(ip wire.IPv4, keys *flowKeys) uint32 {
	seed := t.host.HashSeed
	switch t.host.HashPolicy {
	case 1:
		return hashFields(outerKeys(ip, keys), hashSrc|hashDst|hashProto|hashSrcPort|hashDstPort, seed) >> 1
	case 2:
		k := dissect(ip, headerIPv4, true)
		fields := uint32(hashSrc | hashDst)
		if k.v6 {
			fields |= hashLabel | hashProto
		}
		return hashFields(k, fields, seed) >> 1
	case 3:
		return t.customHash(ip, keys) >> 1
	}
	src, dst := l3Keys(ip)
	return hashAddresses(src, dst, seed)
}

// outerKeys are the keys of a packet's outer headers, looked for once.
func outerKeys(ip wire.IPv4, known *flowKeys) flowKeys {
	if known != nil {
		return *known
	}
	return dissect(ip, headerIPv4, false)
}

// customHash is fib_multipath_custom_hash_skb.
func (t *Table) customHash(ip wire.IPv4, keys *flowKeys) uint32 {
	fields, seed := t.host.HashFields, t.host.HashSeed
	var outer, inner uint32
	encap := true
	if fields&hashOuter != 0 {
		k := outerKeys(ip, keys)
		outer, encap = hashFields(k, fields&hashOuter&^hashLabel, seed), k.encap
	}
	if fields>>innerShift&hashOuter != 0 && encap {
		if k := dissect(ip, headerIPv4, true); k.encap {
			inner = hashFields(k, fields>>innerShift&hashOuter, seed)
		}
	}
	return jhash2(outer, inner)
}

// l3Keys are the addresses that policy 0 looks at: of an ICMP error those of
// the packet that it quotes (net/ipv4/route.c, ip_multipath_l3_keys).
func l3Keys(ip wire.IPv4) (src, dst [4]byte) {
	if ip.Protocol() == wire.ProtoICMP && ip.FragmentOffset() == 0 {
		if l4 := ip.Payload(); len(l4) >= wire.ICMPLen+wire.IPv4MinLen && isQuoting(l4[0]) {
			quoted := wire.IPv4(l4[wire.ICMPLen:])
			return quoted.Src(), quoted.Dst()
		}
	}
	return ip.Src(), ip.Dst()
}

// isQuoting is the kernel's icmp_is_err.
func isQuoting(typ uint8) bool {
	switch typ {
	case wire.ICMPDestUnreachable, wire.ICMPSourceQuench, wire.ICMPRedirect, wire.ICMPTimeExceeded, wire.ICMPParamProblem:
		return true
	}
	return false
}

// hashAddresses is the hash of policy 0, of 31 bits.
func hashAddresses(src, dst [4]byte, seed uint32) uint32 {
	var k flowKeys
	copy(k.src[:], src[:])
	copy(k.dst[:], dst[:])
	return hashFields(k, hashSrc|hashDst, seed) >> 1
}

// hashFields hashes some of the keys as flow_hash_from_keys does
// (net/core/flow_dissector.c): SipHash over struct flow_keys from its member
// basic on, with both directions of a flow made equal. The key is the one of
// fib_multipath_hash_construct_key.
func hashFields(k flowKeys, fields, seed uint32) uint32 {
	const protoAt, labelAt, portsAt, addrsAt, endPadding = 2, 4, 28, 36, 4
	var b [addrsAt + 32 + endPadding]byte
	size := 4
	if k.v6 {
		size = 16
	}
	src, dst := b[addrsAt:addrsAt+size], b[addrsAt+size:addrsAt+2*size]
	ports := b[portsAt : portsAt+4]
	if fields&hashSrc != 0 {
		copy(src, k.src[:])
	}
	if fields&hashDst != 0 {
		copy(dst, k.dst[:])
	}
	if fields&hashProto != 0 {
		b[protoAt] = k.proto
	}
	if fields&hashLabel != 0 && k.v6 {
		binary.NativeEndian.PutUint32(b[labelAt:], k.label)
	}
	if fields&hashSrcPort != 0 {
		copy(ports[:2], k.ports[:2])
	}
	if fields&hashDstPort != 0 {
		copy(ports[2:], k.ports[2:])
	}
	e := binary.NativeEndian // the kernel compares as it finds them in memory
	if !k.v6 && e.Uint32(dst) < e.Uint32(src) || k.v6 && bytes.Compare(dst, src) < 0 {
		for i := range src {
			src[i], dst[i] = dst[i], src[i]
		}
	}
	if e.Uint16(ports[2:]) < e.Uint16(ports) {
		ports[0], ports[1], ports[2], ports[3] = ports[2], ports[3], ports[0], ports[1]
	}
	key := uint64(seed)<<32 | uint64(seed)
	return max(uint32(sipHash(b[:addrsAt+2*size+endPadding], key, key)), 1)
}

// jhash2 is jhash_2words (include/linux/jhash.h) with an initial value of 0.
func jhash2(x, y uint32) uint32 {
	const initial = 0xdeadbeef + 2<<2
	a, b, c := x+initial, y+initial, uint32(initial)
	final := func(to *uint32, by uint32, rot int) { *to = (*to ^ by) - bits.RotateLeft32(by, rot) }
	final(&c, b, 14)
	final(&a, c, 11)
	final(&b, a, 25)
	final(&c, b, 16)
	final(&a, c, 4)
	final(&b, a, 14)
	final(&c, b, 24)
	return c
}
