package daemon

import "proxyarpd/arpd"

// restored is an interface that gets back the MAC that it had. Its workloads have --mac in
// their caches, to which nobody will listen there: also for the host's own addresses, for
// which the kernel has answered with the device's MAC. They are told, else they lose what
// they send until they ask again, half a minute perhaps.
type restored struct {
	name string
	tell []arpd.Announcement
}

// restores says what is to be told on an interface that gets back a MAC.
func (o *owner) restores(index int, mac macAddr) restored {
	l, t := o.links[index], o.proxy.table.Load()
	if l == nil || t == nil {
		return restored{}
	}
	r := restored{name: l.Name}
	for ip := range t.Link(int32(index)).Addresses() {
		if ip.Is4() || o.cfg.IPv6 {
			r.tell = append(r.tell, arpd.Announcement{Index: index, IP: ip, MAC: mac})
		}
	}
	// Who sends to a gateway goes on being forwarded, if it is by the kernel.
	for _, ip := range o.cfg.Gateways {
		if ip.Is4() && l.Forwards || ip.Is6() && l.Forwards6 {
			r.tell = append(r.tell, arpd.Announcement{Index: index, IP: ip, MAC: mac, Router: true})
		}
	}
	return r
}

// tell has workloads told of the MACs that interfaces have got back.
func (h *hands) tell(all []restored) {
	if h.announce == nil {
		return
	}
	for _, r := range all {
		s := sysctls{root: sysctlIPv6 + "conf/" + r.name + "/"}
		router := s.flag("forwarding", false, false) // as the kernel says of its own addresses
		for _, what := range r.tell {
			what.Router = what.Router || router
			if !h.announce(what) {
				h.log.Debug("the MAC from before is not announced", "interface", r.name, "address", what.IP)
			}
		}
	}
}
