package netstate

import (
	"net/netip"
	"slices"
)

// A routeTable holds the routes of all tables. Its map has no pointers, so the
// garbage collector does not walk it. A value is the number of a body or, with
// the top bit, of a list of bodies: few destinations have more than one route.
type routeTable struct {
	bodies *bodyPool // shared between the table in use and one being loaded
	sets   map[routeKey]uint32
	lists  [][]uint32
	free   []uint32
	count  int // routes, not destinations
}

const listBit = 1 << 31

// routeKey is a destination in a table. All are IPv4; see readRoute.
type routeKey struct {
	addr  [4]byte
	table uint32
	bits  uint8
}

func keyOf(table uint32, dst netip.Prefix) routeKey {
	return routeKey{addr: dst.Addr().As4(), table: table, bits: uint8(dst.Bits())}
}

func (k routeKey) dst() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4(k.addr), int(k.bits))
}

func newRouteTable(bodies *bodyPool, sizeHint int) *routeTable {
	return &routeTable{bodies: bodies, sets: make(map[routeKey]uint32, sizeHint)}
}

// appendIDs appends the bodies of a destination to ids.
func (t *routeTable) appendIDs(ids []uint32, k routeKey) []uint32 {
	v, ok := t.sets[k]
	switch {
	case !ok:
		return ids
	case v&listBit != 0:
		return append(ids, t.lists[v&^listBit]...)
	}
	return append(ids, v)
}

// routes returns a new slice with the routes of a destination.
func (t *routeTable) routes(k routeKey) []Route {
	v, ok := t.sets[k]
	if !ok {
		return nil
	}
	ids := []uint32{v}
	if v&listBit != 0 {
		ids = t.lists[v&^listBit]
	}
	out := make([]Route, len(ids))
	for i, id := range ids {
		out[i] = t.bodies.all[id].route
		out[i].Table, out[i].Dst = k.table, k.dst()
	}
	return out
}

func (t *routeTable) set(k routeKey) *RouteSet {
	return &RouteSet{Table: k.table, Dst: k.dst(), Routes: t.routes(k)}
}

// put makes routes the routes of a destination; none removes it. The new
// references are taken before the old are given back.
func (t *routeTable) put(k routeKey, routes []Route) {
	ids := make([]uint32, len(routes))
	for i := range routes {
		ids[i] = t.bodies.hold(&routes[i])
	}
	t.putIDs(k, ids)
}

// putIDs is put for bodies already held; ids is kept.
func (t *routeTable) putIDs(k routeKey, ids []uint32) {
	t.remove(k)
	t.count += len(ids)
	switch len(ids) {
	case 0:
	case 1:
		t.sets[k] = ids[0]
	default:
		if n := len(t.free); n > 0 {
			at := t.free[n-1]
			t.free = t.free[:n-1]
			t.lists[at], t.sets[k] = ids, at|listBit
			return
		}
		t.lists = append(t.lists, ids)
		t.sets[k] = uint32(len(t.lists)-1) | listBit
	}
}

// remove forgets a destination.
func (t *routeTable) remove(k routeKey) {
	v, ok := t.sets[k]
	if !ok {
		return
	}
	delete(t.sets, k)
	if v&listBit == 0 {
		t.bodies.release(v)
		t.count--
		return
	}
	at := v &^ listBit
	for _, id := range t.lists[at] {
		t.bodies.release(id)
	}
	t.count -= len(t.lists[at])
	t.lists[at] = nil
	t.free = append(t.free, at)
}

// add appends a route to its destination: a dump tells them in order. It may
// tell one twice when routes change under it.
func (t *routeTable) add(r *Route) {
	k := keyOf(r.Table, r.Dst)
	id := t.bodies.hold(r)
	v, ok := t.sets[k]
	switch {
	case !ok:
		t.sets[k] = id
	case v == id, v&listBit != 0 && slices.Contains(t.lists[v&^listBit], id):
		t.bodies.release(id)
		return
	case v&listBit != 0:
		t.lists[v&^listBit] = append(t.lists[v&^listBit], id)
	default:
		t.lists = append(t.lists, []uint32{v, id})
		t.sets[k] = uint32(len(t.lists)-1) | listBit
	}
	t.count++
}

// clear gives all references back.
func (t *routeTable) clear() {
	for k := range t.sets {
		t.remove(k)
	}
}
