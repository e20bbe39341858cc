package ebpf

import (
	"net/netip"
	"sync/atomic"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// link is what is kept of an interface.
type link struct {
	link       *route.Link // nil: the table has none
	hops       map[uint32]bool
	subnets    [2]int // of hops those that stand for a subnet, by family
	neighbours map[netip.Addr]uint32
}

// linkAt gives what is kept of an interface, made if there is nothing.
func (m *mirror) linkAt(ifindex int32) *link {
	l := m.links[ifindex]
	if l == nil {
		l = &link{hops: map[uint32]bool{}, neighbours: map[netip.Addr]uint32{}}
		m.links[ifindex] = l
	}
	return l
}

// setLink makes an interface what it is now; nil is none.
func (m *mirror) setLink(ifindex int32, was, is *route.Link) {
	l := m.linkAt(ifindex)
	l.link = is
	if was != nil && was.Slot != 0 && (is == nil || is.Slot != was.Slot) {
		m.clearWay(was)
	}
	if is != nil {
		m.setWay(is)
	}
	for id := range l.hops {
		m.setHop(id, l)
	}
	m.setNeighbours(ifindex, l)
	if is == nil && len(l.hops) == 0 {
		delete(m.links, ifindex)
	}
}

// clearWay is for an interface that has gone, unless another has its slot.
func (m *mirror) clearWay(was *route.Link) {
	w := m.mem.Way(was.Slot)
	if w.Ifindex == uint32(was.Ifindex) {
		atomic.StoreUint64(&w.MAC, 0)
		atomic.StoreUint32(&w.In, 0)
	}
}

// setWay describes an interface to the programs.
func (m *mirror) setWay(l *route.Link) {
	if l.Slot == 0 {
		return // it has no port
	}
	w := m.mem.Way(l.Slot)
	if w.Ifindex != uint32(l.Ifindex) {
		atomic.StoreUint64(&w.MAC, 0)
		atomic.StoreUint32(&w.In, 0)
		atomic.StoreUint32(&w.Ifindex, uint32(l.Ifindex))
	}
	out, in := wayFlags(l, m.claimed[l.Ifindex])
	mac := claim.MACWord(l.MAC, out)
	if out != 0 && w.MAC != mac || in != 0 && w.In != in {
		atomic.StoreUint64(&w.Fresh, m.now()+uint64(freshTime))
		m.freshWays = append(m.freshWays, l.Slot)
		m.ageLater()
	}
	atomic.StoreUint32(&w.MTU, uint32(l.MTU))
	atomic.StoreUint32(&w.MTU6, uint32(l.MTU6))
	atomic.StoreUint32(&w.In, in)
	atomic.StoreUint64(&w.MAC, mac)
}

func wayFlags(l *route.Link, claimed bool) (out uint16, in uint32) {
	peer := l.Flags&(route.LinkPeer|route.LinkBypass) == route.LinkPeer|route.LinkBypass
	if l.Ethernet() && l.Up() {
		if l.Serves(route.IPv4) {
			out |= claim.OutOK
		}
		if l.Serves(route.IPv6) {
			out |= claim.OutOK6
		}
	}
	if out != 0 {
		if l.Workload() {
			out |= claim.OutWorkload
		}
		if peer {
			out |= claim.OutPeer
		}
		if l.Flags&route.LinkUnsettled == 0 {
			out |= claim.OutOrdinary
		}
	}
	if l.Ethernet() && claimed {
		in = claim.InOK
		switch l.Conf.RPFilter {
		case 1:
			in |= claim.InStrict
		case 2:
			in |= claim.InLoose
		}
		switch l.Conf6.RPFilter {
		case 1:
			in |= claim.InStrict6
		case 2:
			in |= claim.InLoose6
		}
		if l.HasAddresses() {
			in |= claim.InAddresses
		}
	}
	return out, in
}

// setNeighbours tells of the neighbours of an interface that has subnets.
func (m *mirror) setNeighbours(ifindex int32, l *link) {
	subnets := l.subnets
	if l.link == nil {
		subnets = [2]int{}
	}
	usable := func(addr netip.Addr, n *route.Neighbour) bool {
		return subnets[route.FamilyOf(addr)] > 0 && n != nil && n.Valid && (addr.Is4() || !addr.IsLinkLocalUnicast()) // of IPv6 these are no destinations
	}
	for addr, id := range l.neighbours {
		if l.link == nil || !usable(addr, l.link.Neighbour(addr)) {
			if err := m.mem.SetNeighbour(ifindex, addr, 0); err != nil {
				m.failOf(route.FamilyOf(addr), err)
			}
			delete(l.neighbours, addr)
			m.drop(id)
		}
	}
	if subnets == [2]int{} {
		return
	}
	l.link.EachNeighbour(func(addr netip.Addr, n *route.Neighbour) {
		if _, known := l.neighbours[addr]; known || !usable(addr, n) {
			return
		}
		id := m.hold(hopKey{ifindex: ifindex, next: addr})
		if id == claim.ToRing {
			return
		}
		if m.mem.SetNeighbour(ifindex, addr, id) != nil { // the map is full: the ring's
			m.drop(id)
			return
		}
		l.neighbours[addr] = id
	})
}
