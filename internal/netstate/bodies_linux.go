package netstate

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// A bodyPool stores each distinct route once, apart from table and
// destination. A million routes have a handful of nexthops and protocols
// between them, so a route of a table is four bytes: a number in the pool.
type bodyPool struct {
	byKey map[string]uint32
	all   []body
	free  []uint32
	buf   []byte
}

type body struct {
	route Route // Table and Dst are zero; nothing of it ever changes
	key   string
	refs  int
}

// hold returns the number of r's body, with one more reference.
func (p *bodyPool) hold(r *Route) uint32 {
	p.buf = appendBody(p.buf[:0], r)
	id, ok := p.byKey[string(p.buf)]
	if !ok {
		id = p.add(r, string(p.buf))
	}
	p.all[id].refs++
	return id
}

func (p *bodyPool) add(r *Route, key string) uint32 {
	b := body{route: *r, key: key}
	b.route.Table, b.route.Dst, b.route.expires = 0, netip.Prefix{}, 0
	b.route.Nexthops = slices.Clone(r.Nexthops)
	var id uint32
	if n := len(p.free); n > 0 {
		id, p.free = p.free[n-1], p.free[:n-1]
		p.all[id] = b
	} else {
		id = uint32(len(p.all))
		p.all = append(p.all, b)
	}
	if p.byKey == nil {
		p.byKey = make(map[string]uint32)
	}
	p.byKey[key] = id
	return id
}

// release gives one reference back.
func (p *bodyPool) release(id uint32) {
	b := &p.all[id]
	if b.refs--; b.refs > 0 {
		return
	}
	delete(p.byKey, b.key)
	*b = body{}
	p.free = append(p.free, id)
}

// match returns the numbers of the bodies that yes accepts, nil if none.
func (p *bodyPool) match(yes func(*Route) bool) map[uint32]bool {
	var ids map[uint32]bool
	for i := range p.all {
		if b := &p.all[i]; b.refs > 0 && yes(&b.route) {
			if ids == nil {
				ids = make(map[uint32]bool)
			}
			ids[uint32(i)] = true
		}
	}
	return ids
}

// appendBody writes everything but table and destination, unambiguously.
func appendBody(b []byte, r *Route) []byte {
	e := binary.NativeEndian
	locked := byte(0)
	if r.MTULocked {
		locked = 1
	}
	b = append(b, byte(r.Type), byte(r.Protocol), byte(r.Scope), r.TOS, locked)
	b = append(b, r.Pref, r.HopLimit, byte(r.From.Bits()))
	b = appendAddr(b, r.From.Addr())
	b = e.AppendUint32(b, r.Priority)
	b = e.AppendUint32(b, r.MTU)
	b = e.AppendUint32(b, r.Flags)
	b = e.AppendUint32(b, r.NHID)
	b = appendAddr(b, r.PrefSrc)
	for i := range r.Nexthops {
		nh := &r.Nexthops[i]
		b = e.AppendUint32(b, uint32(nh.Index))
		b = e.AppendUint32(b, nh.Flags)
		b = e.AppendUint32(b, uint32(nh.Weight))
		b = e.AppendUint16(b, nh.Encap)
		b = appendAddr(b, nh.Gateway)
	}
	return b
}

func appendAddr(b []byte, ip netip.Addr) []byte {
	switch {
	case !ip.IsValid():
		return append(b, 0)
	case ip.Is4():
		a := ip.As4()
		return append(append(b, 4), a[:]...)
	}
	a := ip.As16()
	return append(append(b, 16), a[:]...)
}
