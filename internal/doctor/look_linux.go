package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/netstate"
)

// askAtOnce is at how many places is asked together.
const askAtOnce = 64

// askAll asks for the gateways from each pod, where the daemon is to answer, and on
// uplinks, where nobody is.
func (f *facts) askAll(ctx context.Context) {
	if !f.has(unix.CAP_NET_RAW) {
		return
	}
	all := make([][]answer, len(f.pods)+len(f.uplinks))
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	for i := range f.pods {
		p := &f.pods[i]
		if p.hostDown || !p.up || p.noARP || ctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			all[i] = askIn(p.netns, p.name, p.senders(), p.asksFor(f))
			for j := range all[i] {
				a := &all[i][j]
				a.where, a.pod, a.host = p.where(), true, p.host
			}
			return nil
		})
	}
	here, err := os.Open("/proc/thread-self/ns/net")
	for i, l := range f.uplinks {
		if err != nil || !resolves(l) || !l.Running() || ctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			held := f.held(l)
			got := askIn(fmt.Sprintf("/proc/self/fd/%d", here.Fd()), l.Name, sendersOf(l.Index), append(f.foreign(l), slices.Collect(maps.Keys(held))...))
			for j := range got {
				got[j].routed = held[got[j].gateway]
			}
			all[len(f.pods)+i] = got
			return nil
		})
	}
	_ = g.Wait() // each has its own error
	if err == nil {
		_ = here.Close()
	}
	f.answers = slices.Concat(all...)
}

// askIn asks on an interface of another network namespace.
func askIn(netns, name string, senders, gateways []netip.Addr) (all []answer) {
	if len(gateways) == 0 {
		return nil
	}
	if err := inNetns(netns, func() error { all = ask(name, senders, gateways); return nil }); err != nil {
		for _, g := range gateways {
			all = append(all, answer{where: name, gateway: g, err: err})
		}
	}
	return all
}

// asksFor are the gateways that a pod may ask for. One without an address of either
// family may get one yet.
func (p *pod) asksFor(f *facts) (all []netip.Addr) {
	if p.v4.uses() || !p.v6.uses() {
		all = f.gateways(ipv4)
	}
	if p.v6.uses() && !p.disabled6 {
		all = append(all, f.gateways(ipv6)...)
	}
	return all
}

// foreign are the gateways that nobody should have on an uplink: link-local addresses
// belong to each link alone.
func (f *facts) foreign(l *netstate.Link) []netip.Addr {
	all := f.gateways(ipv4)
	for _, g := range f.gateways(ipv6) {
		if l.IPv6 && !g.IsLinkLocalUnicast() {
			all = append(all, g)
		}
	}
	return all
}

// mostHeld is how many addresses of workloads are asked for on an uplink at most.
const mostHeld = 64

// held are the addresses that are answered for on an uplink, with the interface that each
// is routed to: nobody else there should have them.
func (f *facts) held(l *netstate.Link) map[netip.Addr]string {
	held := map[netip.Addr]string{}
	for _, v := range families {
		p := f.view.PoliciesOf(v.Family)[l.Index]
		if p == nil || p.Uplink == nil {
			continue
		}
		for _, w := range f.workloads {
			for _, a := range f.routed[v][int32(w.Index)] {
				if len(held) < mostHeld && slices.ContainsFunc(p.Uplink.Targets, func(c netip.Prefix) bool { return c.Contains(a) }) {
					held[a] = w.Name
				}
			}
		}
	}
	return held
}

// senders are the addresses that a pod asks with: a neighbour's source is its link-local
// address.
func (p *pod) senders() (all []netip.Addr) {
	for _, a := range slices.Concat(p.v4.addresses, p.linkLocals, p.v6.addresses) {
		if a.usable() {
			all = append(all, a.Addr)
		}
	}
	return all
}

// sendersOf are the addresses of an interface that may be used.
func sendersOf(index int) (all []netip.Addr) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	addrs, err := netlink.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && netstate.AddressStateOf(uint32(a.Flags)) == netstate.AddressUsable {
			all = append(all, addr.Unmap())
		}
	}
	return all
}

// resolves reports whether addresses are resolved on an interface, by ARP or neighbour discovery.
func resolves(l *netstate.Link) bool {
	return l.Type == unix.ARPHRD_ETHER && l.Flags&unix.IFF_NOARP == 0
}

// look reads what a pod has configured behind an interface. It is called in the pod's
// namespace.
func (p *pod) look(f *facts, l *netstate.Link) error {
	link, err := netlink.LinkByIndex(l.ParentIndex)
	if err != nil {
		return err
	}
	at := link.Attrs()
	p.name, p.mtu, p.up, p.noARP = at.Name, at.MTU, at.RawFlags&unix.IFF_UP != 0, at.RawFlags&unix.IFF_NOARP != 0
	has, ok := readSysctl("../ipv6/conf/" + p.name + "/disable_ipv6")
	p.disabled6 = !ok || has != 0 // an interface without IPv6 has no settings of it
	for _, v := range families {
		if v == ipv6 && !f.cfg.IPv6 {
			continue
		}
		a := p.of(v)
		policy := f.view.PoliciesOf(v.Family)[l.Index]
		a.served = policy != nil
		addrs, err := netlink.AddrList(link, v.netlink())
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			p.note(a, addr)
		}
		routes, err := netlink.RouteList(link, v.netlink())
		if err != nil {
			return err
		}
		for i := range routes {
			a.note(&routes[i], v)
		}
		if policy == nil {
			continue
		}
		neighbours, err := netlink.NeighList(at.Index, unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		for _, n := range neighbours {
			const resolved = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
			ip, _ := netip.AddrFromSlice(n.IP)
			if n.State&resolved == 0 || len(n.HardwareAddr) != 6 || !slices.Contains(a.gateways, ip.Unmap()) {
				continue
			}
			e := entry{gateway: ip.Unmap(), mac: [6]byte(n.HardwareAddr), want: policy.Answer, fixed: n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0}
			if e.mac == policy.Own || slices.Contains(policy.Alias, e.mac) {
				e.want = e.mac // as good
			}
			a.entries = append(a.entries, e)
		}
	}
	return nil
}

// note keeps an address.
func (p *pod) note(a *addressing, addr netlink.Addr) {
	ip, _ := netip.AddrFromSlice(addr.IP)
	ip = ip.Unmap()
	is := netstate.AddressStateOf(uint32(addr.Flags))
	has := podAddress{Addr: ip, tentative: is == netstate.AddressTentative, failed: is == netstate.AddressFailed}
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		p.linkLocals = append(p.linkLocals, has)
	} else {
		a.addresses = append(a.addresses, has)
	}
}

// note keeps what a route says.
func (a *addressing) note(r *netlink.Route, v *family) {
	if r.Type != unix.RTN_UNICAST {
		return
	}
	var gateway netip.Addr
	if r.Gw != nil {
		gateway, _ = netip.AddrFromSlice(r.Gw)
	} else if via, ok := r.Via.(*netlink.Via); ok { // of the other family
		gateway, _ = netip.AddrFromSlice(via.Addr)
	}
	switch to := prefixOf(r.Dst); {
	case !to.IsValid() || to.Bits() == 0:
		if gateway.IsValid() {
			a.gateways = append(a.gateways, gateway.Unmap())
		} else {
			a.direct = true
		}
	case !gateway.IsValid() && to.Bits() < v.bits && !isOfLink(to):
		a.onLink = append(a.onLink, to)
	}
}

// prefixOf is a destination; not valid is the default.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}
