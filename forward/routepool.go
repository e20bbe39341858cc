package forward

import (
	"encoding/binary"
	"net/netip"
	"slices"
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

// hold gives the one Route that is r for a destination of that many bits, with
// one reference more. Of a type without nexthops, they are dropped.
func (p *routePool) hold(r *Route, bits uint8) *Route {
	p.key = appendRouteKey(p.key[:0], r, bits)
	known := p.byKey[string(p.key)]
	if known == nil {
		if p.byKey == nil {
			p.byKey = make(map[string]*pooledRoute)
		}
		known = &pooledRoute{route: *r}
		known.route.Bits = bits
		if known.route.Nexthops = nil; r.Type == RouteUnicast {
			known.route.Nexthops = slices.Clone(r.Nexthops)
			balance(known.route.Nexthops)
		}
		p.byKey[string(p.key)] = known
	}
	known.refs++
	return &known.route
}

// release gives one reference back.
func (p *routePool) release(r *Route) {
	p.key = appendRouteKey(p.key[:0], r, r.Bits)
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
	b = appendAddr(b, r.Source)
	if r.Type != RouteUnicast {
		return b
	}
	for i := range r.Nexthops {
		nh := &r.Nexthops[i]
		b = e.AppendUint32(b, uint32(nh.Ifindex))
		b = e.AppendUint64(b, uint64(nh.Weight))
		b = appendAddr(b, nh.Gateway)
	}
	return b
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
