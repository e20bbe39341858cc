package route

import (
	"encoding/binary"
	"net/netip"
)

// fibKey is an address of either family as a number, its first octet the uppermost.
type fibKey struct{ high, low uint64 }

// fibDepth is how many octets an address of any family may have.
const fibDepth = 16

// maxBits is how long a prefix of any family may be.
const maxBits = fibDepth * 8

func keyOf(a netip.Addr) fibKey {
	b := a.As16()
	k := fibKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	if a.Is4() {
		return fibKey{high: k.low << 32} // behind ::ffff:0:0
	}
	return k
}

// key4 and key6 are the keys of an address as it stands in a packet: packets are looked up
// by those, since to go by way of netip.Addr takes as long as a level of the trie.
func key4(b []byte) fibKey { return fibKey{high: uint64(binary.BigEndian.Uint32(b)) << 32} }

func key6(b []byte) fibKey { return fibKey{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])} }

// Of IPv6: what prefixes an address is of.
func (k fibKey) multicast6() bool   { return k.high>>56 == 0xff }
func (k fibKey) linkLocal6() bool   { return k.high>>54 == 0xfe80>>6 }
func (k fibKey) loopback6() bool    { return k.high == 0 && k.low == 1 }
func (k fibKey) unspecified6() bool { return k.high|k.low == 0 }

// addr is the address of the family of like that k stands for.
func (k fibKey) addr(like netip.Addr) netip.Addr {
	var b [fibDepth]byte
	binary.BigEndian.PutUint64(b[:8], k.high)
	if like.Is4() {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	binary.BigEndian.PutUint64(b[8:], k.low)
	return netip.AddrFrom16(b)
}

// shifted is k from octet n on, n at most 7.
func (k fibKey) shifted(n int) fibKey {
	s := uint(n) * 8 & 63
	return fibKey{k.high<<s | k.low>>1>>(63-s), k.low << s}
}

// from are the eight octets from one on, and zeros behind the last.
func (k fibKey) from(depth int) uint64 {
	s := uint(depth) * 8
	return k.high<<s | k.low>>(64-s) | k.low<<(s-64) // what is shifted by more than there is, is 0
}

// shares reports whether two addresses have the same first bits.
func (k fibKey) shares(o fibKey, bits int) bool {
	if bits <= 64 {
		return (k.high^o.high)>>(64-uint(bits)) == 0
	}
	return k.high == o.high && (k.low^o.low)>>(128-uint(bits)) == 0
}

func (k fibKey) octet(depth int) byte { return byte(k.from(depth) >> 56) }

// before are the octets before one.
func (k fibKey) before(depth int) fibKey {
	if s := uint(depth) * 8; s < 64 {
		return fibKey{high: k.high &^ (^uint64(0) >> s)}
	} else {
		return fibKey{k.high, k.low &^ (^uint64(0) >> (s - 64))}
	}
}

// with are the octets before one, and those of a number from there on, the uppermost
// first.
func (k fibKey) with(depth int, octets uint64) fibKey {
	s := uint(depth) * 8
	k = k.before(depth)
	return fibKey{k.high | octets>>s, k.low | octets<<(64-s) | octets>>(s-64)}
}

// fibPath says which octet of an address a node decides about, its depth, and which
// octets lie between that and the octet that the node above decides about: all
// destinations below the node have those. They are in the upper bits, the first
// uppermost; the lowest four bits are their number, the next four the depth.
type fibPath uint64

// maxPath is how many octets a fibPath has at most. Where more are alike there are
// nodes with nothing else in them.
const maxPath = 7

func (p fibPath) length() int { return int(p & 0xf) }
func (p fibPath) depth() int  { return int(p >> 4 & 0xf) }

// pathOf has the octets of k from one up to that of the node.
func pathOf(k fibKey, from, depth int) fibPath {
	n := uint(depth - from)
	return fibPath(k.from(from)&^(^uint64(0)>>(8*n))) | fibPath(depth)<<4 | fibPath(n)
}

// first is the number of its first octet; the depth if it has none.
func (p fibPath) first() int { return p.depth() - p.length() }

// leads reports whether an address has its octets. rest are those of the address from
// the path's first on.
func (p fibPath) leads(rest fibKey) bool {
	return (rest.high^uint64(p))>>1>>(63-8*uint(p.length())&63) == 0
}

// parts is the number of the first of its octets that k does not have; the depth if
// there is none such.
func (p fibPath) parts(k fibKey) int {
	at := p.first()
	for at < p.depth() && p.octet(at) == k.octet(at) {
		at++
	}
	return at
}

// octet is the one of that number, which must be one of its own.
func (p fibPath) octet(number int) byte { return byte(p << (8 * uint(number-p.first())) >> 56) }

// behind is what of it lies behind one of its octets.
func (p fibPath) behind(number int) fibPath { return pathOf(p.key(fibKey{}), number+1, p.depth()) }

// key adds its octets to those of what is above.
func (p fibPath) key(above fibKey) fibKey { return above.with(p.first(), uint64(p)&^0xff) }
