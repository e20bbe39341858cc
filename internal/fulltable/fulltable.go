// Package fulltable makes routing tables of the size and shape of the
// Internet's, for tests and benchmarks to measure with.
package fulltable

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// share says how many of 10000 prefixes have which length: about what a router
// without a default route held in 2025. The rest are /24.
var share = [...]struct{ bits, of10000 int }{
	{9, 1}, {10, 1}, {11, 1}, {12, 3}, {13, 6}, {14, 12}, {15, 21}, {16, 135}, {17, 85},
	{18, 140}, {19, 250}, {20, 450}, {21, 530}, {22, 1130}, {23, 1010},
}

// blocks is how many /16 hold the prefixes that are longer: routes crowd where
// registries have allotted addresses.
const blocks = 45000

// Prefixes gives n different prefixes in the order in which they were drawn,
// the same for the same seed. All lie in 1.0.0.0 to 223.255.255.255 outside of
// 10.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12 and 192.0.0.0/8, which
// are left to those who need addresses of their own. n is at most two million.
func Prefixes(n int, seed uint64) []netip.Prefix {
	rng := rand.New(rand.NewPCG(seed, 0))
	allotted := make([]uint32, blocks)
	for i := range allotted {
		allotted[i] = public(rng) &^ 0xffff
	}
	seen := make(map[netip.Prefix]bool, n)
	all := make([]netip.Prefix, 0, n)
	for len(all) < n {
		bits, addr := length(rng), public(rng)
		if bits > 16 {
			// Some blocks are full of routes, most are not.
			at := rng.Float64()
			addr = allotted[int(at*at*blocks)] | rng.Uint32()&0xffff
		}
		p := netip.PrefixFrom(addr4(addr), bits).Masked()
		if reserved(p) || seen[p] {
			continue
		}
		seen[p] = true
		all = append(all, p)
	}
	return all
}

// Addrs gives n addresses, each in one of the prefixes.
func Addrs(prefixes []netip.Prefix, n int, seed uint64) []netip.Addr {
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([]netip.Addr, n)
	for i := range all {
		p := prefixes[rng.IntN(len(prefixes))]
		base := p.Addr().As4()
		all[i] = addr4(binary.BigEndian.Uint32(base[:]) | rng.Uint32()>>p.Bits())
	}
	return all
}

func length(rng *rand.Rand) int {
	draw := rng.IntN(10000)
	for _, s := range share {
		if draw -= s.of10000; draw < 0 {
			return s.bits
		}
	}
	return 24
}

func public(rng *rand.Rand) uint32 { return (1+rng.Uint32N(223))<<24 | rng.Uint32()>>8 }

var reservedPrefixes = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/8"),
}

func reserved(p netip.Prefix) bool {
	for _, r := range reservedPrefixes {
		if r.Overlaps(p) {
			return true
		}
	}
	return false
}

func addr4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}
