package fulltable

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// share6 is share for IPv6, about what a router held in 2025. The rest are /48.
var share6 = [...]struct{ bits, of10000 int }{
	{20, 2}, {24, 5}, {28, 60}, {29, 250}, {30, 60}, {31, 40}, {32, 1100}, {33, 120}, {34, 110}, {35, 70}, {36, 450}, {37, 70}, {38, 110},
	{39, 80}, {40, 950}, {41, 80}, {42, 230}, {43, 120}, {44, 1200}, {45, 150}, {46, 380}, {47, 350},
}

// blocks6 is how many /32 hold the prefixes that are longer.
const blocks6 = 50000

// registries are the blocks of the regional registries.
var registries = [...]struct {
	first uint32
	bits  int
}{{0x20010000, 16}, {0x24000000, 12}, {0x26000000, 12}, {0x28000000, 12}, {0x2a000000, 12}, {0x2c000000, 12}}

// Prefixes6 is Prefixes for IPv6. n is at most two million.
func Prefixes6(n int, seed uint64) []netip.Prefix {
	rng := rand.New(rand.NewPCG(seed, 6))
	allotted := make([]uint32, blocks6)
	for i := range allotted {
		allotted[i] = public6(rng)
	}
	seen := make(map[netip.Prefix]bool, n)
	all := make([]netip.Prefix, 0, n)
	for len(all) < n {
		bits, high := length6(rng), public6(rng)
		if bits > 32 {
			at := rng.Float64()
			high = allotted[int(at*at*blocks6)]
		}
		p := netip.PrefixFrom(addr6(uint64(high)<<32|uint64(rng.Uint32()), 0), bits).Masked()
		if seen[p] {
			continue
		}
		seen[p] = true
		all = append(all, p)
	}
	return all
}

// Hosts6 gives n host routes of workloads as Calico hands addresses out: blocks of 64
// addresses (/122) of a /64, full one after the other. n is at most four million.
func Hosts6(n int, seed uint64) []netip.Prefix {
	rng := rand.New(rand.NewPCG(seed, 7))
	all := make([]netip.Prefix, 0, n)
	seen := map[uint64]bool{}
	for len(all) < n {
		block := rng.Uint64() &^ 63
		if seen[block] {
			continue
		}
		seen[block] = true
		for i := uint64(0); i < 64 && len(all) < n; i++ {
			all = append(all, netip.PrefixFrom(addr6(0xfd00_0065_0000_0000, block|i), 128))
		}
	}
	return all
}

// Addrs6 is Addrs for IPv6.
func Addrs6(prefixes []netip.Prefix, n int, seed uint64) []netip.Addr {
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([]netip.Addr, n)
	for i := range all {
		p := prefixes[rng.IntN(len(prefixes))]
		b := p.Addr().As16()
		high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
		high |= rng.Uint64() >> min(p.Bits(), 64)
		low |= rng.Uint64() >> max(p.Bits()-64, 0)
		all[i] = addr6(high, low)
	}
	return all
}

func length6(rng *rand.Rand) int {
	draw := rng.IntN(10000)
	for _, s := range share6 {
		if draw -= s.of10000; draw < 0 {
			return s.bits
		}
	}
	return 48
}

// public6 is the first half of a half of an address that a registry may have given out.
func public6(rng *rand.Rand) uint32 {
	r := registries[rng.IntN(len(registries))]
	return r.first | rng.Uint32()>>r.bits
}

func addr6(high, low uint64) netip.Addr {
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, high), low)))
}
