package route

import (
	"encoding/binary"
	"net/netip"
)

// routePool holds each distinct route once. A million destinations have some
// thousand next hops, preferences and lengths between them.
type routePool struct {
	byKey map[string]*pooledRoute
	key   []byte // scratch
}

type pooledRoute struct {
	route Route
	refs  int
}

// hold gives the one Route that heads the chain list (appendChain) for a
// destination of that many bits, with one reference more.
func (p *routePool) hold(list []Route, bits uint8) *Route {
	p.key = p.key[:0]
	for i := range list {
		p.key = appendRouteKey(p.key, &list[i], bits)
	}
	known := p.byKey[string(p.key)]
	if known == nil {
		if p.byKey == nil {
			p.byKey = make(map[string]*pooledRoute)
		}
		known = &pooledRoute{route: *link(list, bits)}
		p.byKey[string(p.key)] = known
	}
	known.refs++
	return &known.route
}

// release gives one reference back.
func (p *routePool) release(r *Route) {
	p.key = p.key[:0]
	for of := r; of != nil; of = of.next {
		p.key = appendRouteKey(p.key, of, r.Bits)
	}
	known := p.byKey[string(p.key)]
	if known.refs--; known.refs == 0 {
		delete(p.byKey, string(p.key))
	}
}

// appendRouteKey writes all that tells routes apart.
func appendRouteKey(b []byte, r *Route, bits uint8) []byte {
	e := binary.NativeEndian
	b = append(b, bits, byte(r.Type), r.Protocol, r.Scope, r.TOS)
	b = e.AppendUint32(b, r.Table)
	b = e.AppendUint32(b, r.Metric)
	b = e.AppendUint64(b, uint64(r.MTU))
	b = e.AppendUint32(b, uint32(r.Dev))
	b = appendAddr(b, r.Source)
	b = append(appendAddr(b, r.From.Addr()), byte(r.From.Bits()), byte(r.Pref), flag(r.MTULock), r.HopLimit)
	b = append(b, flag(r.Object), byte(len(r.Nexthops)), byte(len(r.Nexthops)>>8))
	for i := range r.Nexthops {
		nh := &r.Nexthops[i]
		b = e.AppendUint32(b, uint32(nh.Ifindex))
		b = e.AppendUint64(b, uint64(nh.Weight))
		b = append(appendAddr(b, nh.Gateway), flag(nh.Encap), flag(nh.Input))
	}
	return b
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// appendAddr writes an address, or its absence, with its length in bits.
func appendAddr(b []byte, a netip.Addr) []byte {
	b = append(b, byte(a.BitLen()))
	switch {
	case a.Is4():
		raw := a.As4()
		b = append(b, raw[:]...)
	case a.Is6():
		raw := a.As16()
		b = append(b, raw[:]...)
	}
	return b
}
