package forward

import (
	"sync/atomic"

	"proxyarpd/forward/route"
)

// Place is where packets came in, and how they ended.
type Place struct {
	Ifindex int32 // 0: made here, or not known any more
	Verdict route.Verdict
}

// How many places are told apart: sets of ways by a hash.
const (
	placeSets = 2048
	placeWays = 4
)

// places counts packets by place. It has one writer and any number of readers.
// Its memory is bounded: a place that finds no room takes that of the one that
// has counted least, which counts as Ifindex 0 from then on.
type places struct {
	sets   [placeSets][placeWays]placeCount
	others counters
}

type placeCount struct{ key, n atomic.Uint64 }

const placeUsed = 1 << 63 // in each key

func placeKey(v route.Verdict, ifindex int32) uint64 {
	return placeUsed | uint64(uint32(ifindex))<<8 | uint64(v)
}

// add counts n packets.
func (p *places) add(v route.Verdict, ifindex int32, n uint64) {
	if ifindex == 0 {
		p.others[v].Add(n)
		return
	}
	key := placeKey(v, ifindex)
	set := &p.sets[key*0x9e3779b97f4a7c15>>53] // Fibonacci hashing: the highest 11 bits
	for i := range set {
		if set[i].key.Load() == key {
			set[i].n.Add(n)
			return
		}
	}
	p.claim(set, key, n)
}

// claim gives a place that is new the room of the least of a set.
func (p *places) claim(set *[placeWays]placeCount, key, n uint64) {
	least := &set[0]
	for i := range set {
		if set[i].n.Load() < least.n.Load() {
			least = &set[i]
		}
	}
	if old := least.key.Load(); old != 0 {
		p.others[uint8(old)].Add(least.n.Load())
	}
	least.n.Store(0)
	least.key.Store(key)
	least.n.Store(n)
}

// load gives what is not 0.
func (p *places) load() map[Place]uint64 {
	m := map[Place]uint64{}
	for i := range p.sets {
		for j := range p.sets[i] {
			c := &p.sets[i][j]
			key := c.key.Load()
			if n := c.n.Load(); n > 0 && c.key.Load() == key {
				m[Place{Ifindex: int32(uint32(key >> 8)), Verdict: route.Verdict(key)}] += n
			}
		}
	}
	for v := range p.others {
		if n := p.others[v].Load(); n > 0 {
			m[Place{Verdict: route.Verdict(v)}] += n
		}
	}
	return m
}
