package ebpf

import (
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// setAskers tells of who may ask for a gateway at an interface by neighbour discovery, and be
// answered by a program: the neighbours of IPv6 at a workload's interface of which there is
// nothing to learn, and nothing to be said. So their address is link-local, or routed there
// (Policy.fromUnrouted of arpd).
func (m *mirror) setAskers(t *route.Table, ifindex int32, l *link) {
	set := func(addr netip.Addr, mac wire.MAC, on bool) bool {
		err := m.mem.SetAsker(ifindex, addr, mac, on)
		if err != nil && !on {
			m.fail(err)
		}
		return err == nil
	}
	for addr, mac := range l.askers {
		if now, may := askerAt(t, l.link, addr); !may || now != mac {
			set(addr, mac, false)
			delete(l.askers, addr)
		}
	}
	if l.link == nil || !l.link.Workload() {
		return
	}
	l.link.EachNeighbour(func(addr netip.Addr, _ *route.Neighbour) {
		if _, known := l.askers[addr]; known || !addr.Is6() {
			return
		}
		if mac, may := askerAt(t, l.link, addr); may && set(addr, mac, true) { // else the map is full: userspace answers
			l.askers[addr] = mac
		}
	})
}

// askerAt gives the MAC by which an address is known at a link, and whether who has it may ask.
func askerAt(t *route.Table, l *route.Link, addr netip.Addr) (mac wire.MAC, may bool) {
	if l == nil || !l.Workload() {
		return mac, false
	}
	n := l.Neighbour(addr)
	if n == nil || !n.Valid {
		return mac, false
	}
	return n.MAC, addr.IsLinkLocalUnicast() || t.LeadsTo(addr, l.Ifindex)
}
