package daemon

import (
	"net/netip"

	"proxyarpd/arpd"
	"proxyarpd/internal/netstate"
)

// announcer is what the owner asks of who announces addresses on uplinks. Nothing of
// it waits.
type announcer interface {
	Hold(arpd.Announcement) bool
	Release(index int, ip netip.Addr)
	Forget(index int)
}

// herald sees to it that each address of --answer-uplink that has a route of its own
// to a workload is announced on one uplink: that by which the address would be sought
// otherwise. It is the owner's.
type herald struct {
	to announcer // nil: nobody announces
	// hosts are the addresses of --answer-uplink that have a route of their own in
	// some table, with what is held of them; Index 0: nothing.
	hosts   map[netip.Addr]arpd.Announcement
	touched map[netip.Addr]struct{} // whose routes have changed
	all     bool                    // so may have what is held of any
	rescan  bool                    // hosts are not known yet, or of another --answer-uplink
	refused bool                    // some found no room, and it was said
}

func newHerald(to announcer) herald {
	return herald{to: to, hosts: map[netip.Addr]arpd.Announcement{}, touched: map[netip.Addr]struct{}{}, rescan: true}
}

// noteRoutes marks what a change of the routes to a prefix may change.
func (h *herald) noteRoutes(cfg *Config, dst netip.Prefix) {
	if h.to == nil {
		return
	}
	for _, p := range cfg.AnswerUplink {
		switch {
		case dst.IsSingleIP() && p.Contains(dst.Addr()):
			h.touched[dst.Addr()] = struct{}{}
			return
		case p.Overlaps(dst):
			h.all = true
		}
	}
}

// carrierLost ends what is held on an uplink: it begins anew when the carrier is back.
// Both may be told of in one batch.
func (h *herald) carrierLost(old, now *netstate.Link) {
	if h.to == nil || old.CarrierChanges == now.CarrierChanges && (now.Running() || !old.Running()) {
		return
	}
	for ip, a := range h.hosts {
		if a.Index == now.Index {
			h.put(ip, arpd.Announcement{})
			h.all = true
		}
	}
}

// gone forgets an interface.
func (h *herald) gone(index int) {
	if h.to == nil {
		return
	}
	for ip, a := range h.hosts {
		if a.Index == index {
			h.put(ip, arpd.Announcement{})
		}
	}
	h.to.Forget(index)
	h.all = true
}

// put has something else be held of an address.
func (h *herald) put(ip netip.Addr, a arpd.Announcement) (ok bool) {
	was, known := h.hosts[ip]
	if known && was == a {
		return true
	}
	if was.Index != 0 && was.Index != a.Index {
		h.to.Release(was.Index, ip)
	}
	if ok = a.Index == 0 || h.to.Hold(a); !ok {
		a = arpd.Announcement{}
	}
	h.hosts[ip] = a
	return ok
}

// announce follows the tables that were just published.
func (o *owner) announce() {
	h := &o.herald
	if h.to == nil || o.phase != serving || !h.all && !h.rescan && len(h.touched) == 0 {
		return
	}
	if h.all || h.rescan {
		for ip := range h.hosts {
			h.touched[ip] = struct{}{}
		}
	}
	if h.rescan {
		for _, p := range o.cfg.AnswerUplink {
			o.proxy.table.Load().Hosts(p, func(ip netip.Addr) { h.touched[ip] = struct{}{} })
		}
	}
	h.all, h.rescan = false, false
	for ip := range h.touched {
		what, candidate := o.heldOf(ip)
		if ok := h.put(ip, what); !ok && !h.refused {
			h.refused = true
			o.log.Warn("too many addresses lead to workloads: some are answered on uplinks, and not announced", "most", arpd.AnnounceMost)
		}
		if !candidate {
			delete(h.hosts, ip)
		}
	}
	clear(h.touched)
}

// heldOf is what is to be held of an address. It is a candidate if any table has a
// route to it alone.
func (o *owner) heldOf(ip netip.Addr) (a arpd.Announcement, candidate bool) {
	t := o.proxy.table.Load()
	if !within(o.cfg.AnswerUplink, ip) || !t.HasHostRoute(ip) {
		return a, false
	}
	l := t.Beside(ip)
	if l == nil || !t.HasHost(ip, l.Ifindex) {
		return a, true
	}
	p := o.ports[int(l.Ifindex)]
	if p == nil {
		return a, true
	}
	policy := p.policy
	if ip.Is6() {
		policy = p.policy6
	}
	if policy == nil || policy.Uplink == nil || policy.Uplink.Unforwarded || !policy.Settled {
		return a, true
	}
	return arpd.Announcement{Index: p.index, IP: ip, MAC: policy.Answer}, true
}

func within(all []netip.Prefix, ip netip.Addr) bool {
	for _, p := range all {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
