package ebpf

import (
	"net/netip"
	"sync/atomic"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// hopKey is a way on.
type hopKey struct {
	ifindex int32
	next    netip.Addr   // invalid: a subnet, whose addresses are next hops themselves
	family  route.Family // of the subnet
	mtu     int          // of the route, 0: the interface's
	// several: it is several ways, by ifindex and these interfaces.
	several bool
	others  [2]int32
}

// subnet reports whether each destination is a next hop itself.
func (k *hopKey) subnet() bool { return !k.next.IsValid() && !k.several }

type hop struct {
	key  hopKey
	refs int // words that name it
}

// hops are all next hops, by number.
type hops struct {
	byKey map[hopKey]uint32
	all   []hop
	free  []uint32
	limbo []uint32 // free after a grace period
}

// hold gives the number of a next hop, for one word more that names it; ToRing
// if there is no room for it.
func (m *mirror) hold(key hopKey) uint32 {
	if id, ok := m.hops.byKey[key]; ok {
		m.hops.all[id].refs++
		return id
	}
	if len(m.hops.free) == 0 && len(m.hops.limbo) >= claim.MaxHops/4 {
		if err := m.grace(); err != nil {
			m.fail(err)
			return claim.ToRing
		}
		m.hops.free, m.hops.limbo = m.hops.limbo, nil
	}
	var id uint32
	switch n := len(m.hops.free); {
	case n > 0:
		id, m.hops.free = m.hops.free[n-1], m.hops.free[:n-1]
	case len(m.hops.all) < claim.MaxHops:
		id = uint32(len(m.hops.all))
		m.hops.all = append(m.hops.all, hop{})
	default:
		return claim.ToRing
	}
	m.hops.byKey[key], m.hops.all[id] = id, hop{key, 1}
	l := m.linkAt(key.ifindex)
	l.hops[id] = true
	h := m.mem.Hop(id)
	*h = claim.Hop{Ifindex: uint32(key.ifindex), MTU: uint32(key.mtu)}
	if key.several {
		h.Way, h.MTU, h.MAC = uint32(key.others[0]), uint32(key.others[1]), claim.MACWord(wire.MAC{}, claim.HopSeveral)
	} else {
		m.setHop(id, l)
	}
	if key.subnet() {
		if l.subnets[key.family]++; l.subnets[key.family] == 1 {
			m.setNeighbours(key.ifindex, l)
		}
	}
	return id
}

// drop takes back one word's hold.
func (m *mirror) drop(word uint32) {
	if word <= claim.ToRing {
		return
	}
	h := &m.hops.all[word]
	if h.refs--; h.refs > 0 {
		return
	}
	key := h.key
	*h = hop{}
	delete(m.hops.byKey, key)
	m.hops.limbo = append(m.hops.limbo, word)
	l := m.links[key.ifindex]
	delete(l.hops, word)
	if key.subnet() {
		if l.subnets[key.family]--; l.subnets[key.family] == 0 {
			m.setNeighbours(key.ifindex, l)
		}
	}
	if l.link == nil && len(l.hops) == 0 {
		delete(m.links, key.ifindex)
	}
}

// setHop says what is known of a next hop, on the interface l.
func (m *mirror) setHop(id uint32, l *link) {
	h, key := m.mem.Hop(id), m.hops.all[id].key
	if key.several {
		return
	}
	slot, word := uint32(0), uint64(0)
	if l.link != nil {
		slot = l.link.Slot
		if !key.next.IsValid() {
			word = claim.MACWord(wire.MAC{}, claim.HopSubnet)
		} else if n := l.link.Neighbour(key.next); n != nil && n.Valid {
			flags := uint16(claim.HopValid)
			if n.Stale {
				flags |= claim.HopStale
			}
			if n.Fixed {
				flags |= claim.HopFixed
			}
			word = claim.MACWord(n.MAC, flags)
		}
	}
	if h.MAC == 0 && word != 0 {
		atomic.StoreUint64(&h.Fresh, m.now()+uint64(freshTime))
		m.freshHops = append(m.freshHops, id)
		m.ageLater()
	}
	atomic.StoreUint32(&h.Way, slot)
	atomic.StoreUint64(&h.MAC, word)
}

// used says what a next hop is that a program has told of.
func (m *mirror) used(id uint32) (ifindex int32, next netip.Addr, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if int(id) >= len(m.hops.all) || m.hops.all[id].refs == 0 {
		return 0, next, false
	}
	key := m.hops.all[id].key
	return key.ifindex, key.next, key.next.IsValid()
}

// again has a program tell of a next hop's use once more.
func (m *mirror) again(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil { // else the memory may be gone
		atomic.StoreUint32(&m.mem.Hop(id).Used, 0)
	}
}
