package netstate

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// A routeTable holds the routes of all tables. Its maps have no pointers, so the
// garbage collector does not walk them. A value is the number of a body or, with
// the top bit, of a list of bodies: few destinations have more than one route.
// Each family has a map of its own, with keys of its addresses' size.
type routeTable struct {
	bodies *bodyPool // shared between the table in use and one being loaded
	v4     map[routeKeyOf[[4]byte]]uint32
	v6     map[routeKeyOf[[16]byte]]uint32
	most   [2]int // that v4 and v6 have had since they were made
	lists  [][]uint32
	free   []uint32
	count  int // routes, not destinations
	// doubled are destinations of which a route was told twice. The kernel may have it
	// twice: IPv6 lets a route replace one that is another's double.
	doubled map[routeKey]bool
}

const listBit = 1 << 31

// routeKey is a destination in a table. An IPv4 address is in the first four
// bytes, as it is in the kernel's messages.
type routeKey struct {
	addr   [16]byte
	table  uint32
	bits   uint8
	family Family
}

// routeKeyOf is a routeKey as it is stored.
type routeKeyOf[Address [4]byte | [16]byte] struct {
	addr  Address
	table uint32
	bits  uint8
}

func keyOf(table uint32, dst netip.Prefix) routeKey {
	k := routeKey{table: table, bits: uint8(dst.Bits()), family: familyOfAddr(dst.Addr())}
	if k.family == IPv4 {
		a := dst.Addr().As4()
		copy(k.addr[:], a[:])
	} else {
		k.addr = dst.Addr().As16()
	}
	return k
}

func (k routeKey) dst() netip.Prefix {
	if k.family == IPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(k.addr[:4])), int(k.bits))
	}
	return netip.PrefixFrom(netip.AddrFrom16(k.addr), int(k.bits))
}

func (k *routeKey) v4() routeKeyOf[[4]byte] {
	return routeKeyOf[[4]byte]{[4]byte(k.addr[:4]), k.table, k.bits}
}

func (k *routeKey) v6() routeKeyOf[[16]byte] { return routeKeyOf[[16]byte]{k.addr, k.table, k.bits} }

func newRouteTable(bodies *bodyPool, sizeHint int) *routeTable {
	return &routeTable{bodies: bodies, v4: make(map[routeKeyOf[[4]byte]]uint32, sizeHint), v6: make(map[routeKeyOf[[16]byte]]uint32)}
}

func (t *routeTable) get(k routeKey) (v uint32, ok bool) {
	if k.family == IPv4 {
		v, ok = t.v4[k.v4()]
		return v, ok
	}
	v, ok = t.v6[k.v6()]
	return v, ok
}

func (t *routeTable) set(k routeKey, v uint32) {
	if k.family == IPv4 {
		t.v4[k.v4()] = v
		t.most[0] = max(t.most[0], len(t.v4))
	} else {
		t.v6[k.v6()] = v
		t.most[1] = max(t.most[1], len(t.v6))
	}
}

func (t *routeTable) delete(k routeKey) {
	if k.family == IPv4 {
		delete(t.v4, k.v4())
		t.v4 = shrunk(t.v4, &t.most[0])
	} else {
		delete(t.v6, k.v6())
		t.v6 = shrunk(t.v6, &t.most[1])
	}
}

// shrunk is the map, or a new one in its place when few are left of the most that it
// has had: a map keeps its memory for good. Who iterates over the old one may still
// meet what is gone.
func shrunk[K comparable](m map[K]uint32, most *int) map[K]uint32 {
	const worthWhile, few = 4096, 8
	if *most < worthWhile || len(m) > *most/few {
		return m
	}
	*most = len(m)
	small := make(map[K]uint32, len(m))
	maps.Copy(small, m)
	return small
}

// size is the number of destinations.
func (t *routeTable) size() int { return len(t.v4) + len(t.v6) }

// keys yields the destinations, in no order.
func (t *routeTable) keys() iter.Seq[routeKey] {
	return func(yield func(routeKey) bool) {
		for k := range t.v4 {
			key := routeKey{table: k.table, bits: k.bits, family: IPv4}
			copy(key.addr[:], k.addr[:])
			if !yield(key) {
				return
			}
		}
		for k := range t.v6 {
			if !yield(routeKey{k.addr, k.table, k.bits, IPv6}) {
				return
			}
		}
	}
}

// appendIDs appends the bodies of a destination to ids.
func (t *routeTable) appendIDs(ids []uint32, k routeKey) []uint32 {
	v, ok := t.get(k)
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
	v, ok := t.get(k)
	if !ok {
		return nil
	}
	ids := []uint32{v}
	if v&listBit != 0 {
		ids = t.lists[v&^listBit]
	}
	out, dst := make([]Route, len(ids)), k.dst()
	for i, id := range ids {
		out[i] = t.bodies.all[id].route
		out[i].Table, out[i].Dst = k.table, dst
	}
	return out
}

func (t *routeTable) routeSet(k routeKey) *RouteSet {
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
	v, had := t.get(k)
	if had {
		t.release(v)
	}
	t.count += len(ids)
	switch {
	case len(ids) == 1:
		t.set(k, ids[0])
	case len(ids) > 1:
		t.set(k, t.list(ids))
	case had:
		t.delete(k)
	}
}

// list stores a list of bodies, and gives the value for it.
func (t *routeTable) list(ids []uint32) uint32 {
	if n := len(t.free); n > 0 {
		at := t.free[n-1]
		t.free = t.free[:n-1]
		t.lists[at] = ids
		return at | listBit
	}
	t.lists = append(t.lists, ids)
	return uint32(len(t.lists)-1) | listBit
}

// remove forgets a destination.
func (t *routeTable) remove(k routeKey) {
	if v, ok := t.get(k); ok {
		t.delete(k)
		t.release(v)
	}
}

// release gives back what a value holds.
func (t *routeTable) release(v uint32) {
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
	v, ok := t.get(k)
	switch {
	case !ok:
		t.set(k, id)
	case v == id, v&listBit != 0 && slices.Contains(t.lists[v&^listBit], id):
		t.bodies.release(id)
		t.double(k)
		return
	case v&listBit != 0:
		t.lists[v&^listBit] = append(t.lists[v&^listBit], id)
	default:
		t.set(k, t.list([]uint32{v, id}))
	}
	t.count++
}

func (t *routeTable) double(k routeKey) {
	if t.doubled == nil {
		t.doubled = make(map[routeKey]bool)
	}
	t.doubled[k] = true
}

// clear gives all references back.
func (t *routeTable) clear() {
	for k := range t.keys() {
		t.remove(k)
	}
}
