package daemon

import "proxyarpd/arpd"

// moved is an interface that gets another MAC. Its workloads have the former one in their
// caches: for gateways, and for the host's own addresses, for which the kernel answers. They
// are told where nobody listens to that any more, else they lose what they send until they
// ask again, half a minute perhaps.
type moved struct {
	name string
	tell []arpd.Announcement
}

// moves says what is to be told on an interface that gets a MAC; answered says that
// gateways are answered there with it.
func (o *owner) moves(index int, mac macAddr, answered bool) moved {
	l, t := o.links[index], o.proxy.table.Load()
	if l == nil || t == nil {
		return moved{}
	}
	m := moved{name: l.Name}
	for ip := range t.Link(int32(index)).Addresses() {
		if ip.Is4() || o.cfg.IPv6 {
			m.tell = append(m.tell, arpd.Announcement{Index: index, IP: ip, MAC: mac})
		}
	}
	// Where nobody answers for gateways any more, who sends to one goes on being forwarded
	// if it is by the kernel.
	for _, ip := range o.cfg.Gateways {
		if answered || ip.Is4() && l.Forwards || ip.Is6() && l.Forwards6 {
			m.tell = append(m.tell, arpd.Announcement{Index: index, IP: ip, MAC: mac, Router: true})
		}
	}
	return m
}

// tell has workloads told of the MACs that interfaces have got.
func (h *hands) tell(all ...moved) {
	if h.announce == nil {
		return
	}
	for _, m := range all {
		s := sysctls{root: sysctlIPv6 + "conf/" + m.name + "/"}
		router := s.flag("forwarding", false, false) // as the kernel says of its own addresses
		for _, what := range m.tell {
			what.Router = what.Router || router
			if !h.announce(what) {
				h.log.Debug("a MAC is not announced", "interface", m.name, "address", what.IP)
			}
		}
	}
}
