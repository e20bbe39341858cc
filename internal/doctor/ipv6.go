package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// gateways are those that are asked for by ARP.
func (f *facts) gateways() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(f.cfg.Gateways), netip.Addr.Is6)
}

// ipv6 is a setting below net.ipv6.
func (f *facts) ipv6(key string) (int, bool) { return f.sysctl("../ipv6/" + key) }

// checkIPv6 looks at what keeps IPv6 from being answered and forwarded.
func checkIPv6(f *facts) (found []Finding) {
	if !f.cfg.IPv6 {
		return nil
	}
	// Where no workload has an IPv6 route nobody misses it.
	inUse := slices.ContainsFunc(f.workloads, func(l *netstate.Link) bool {
		return f.view.Table.HostOver(route.IPv6, int32(l.Index)).IsValid()
	})
	var off []*netstate.Link
	for _, l := range f.workloads {
		if !l.IPv6 {
			severity := Info
			if inUse {
				severity = Warning
			}
			found = append(found, Finding{"ipv6-disabled", severity, l.Name, "the kernel has no IPv6 there, and so no route to the workload: it is neither answered nor forwarded for",
				"sysctl -w net.ipv6.conf.IF.disable_ipv6=0, and an MTU of 1280 or more; or run with --ipv6=false"})
		} else if !l.Forwards6 {
			off = append(off, l)
		}
	}
	if !f.forwards() && inUse && len(off) > 0 {
		found = append(found, Finding{"forwarding6-off", Error, f.names(off), "--engine none leaves forwarding to the kernel, and net.ipv6.conf.all.forwarding is 0: IPv6 packets of these workloads are lost",
			"sysctl -w net.ipv6.conf.all.forwarding=1, or run another engine"})
	}
	if f.status != nil {
		for _, i := range slices.Concat(f.status.Workloads, f.status.Uplinks) {
			if l := f.link(i.Name); i.IPv6 != nil && i.IPv6.Why != "" && l != nil && l.IPv6 && inUse {
				found = append(found, Finding{"ipv6-link-local", Warning, i.Name, i.IPv6.Why, "ip -6 address show dev " + i.Name + "; sysctl net.ipv6.conf." + i.Name + ".addr_gen_mode"})
			}
		}
	}
	return merged(append(found, f.checkAcceptRA()...))
}

func (f *facts) link(name string) *netstate.Link {
	for _, l := range f.view.Links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// checkAcceptRA looks at default routes that will not be made again: a router heeds
// no advertisement unless accept_ra is 2 (ipv6_accept_ra in include/net/ipv6.h).
func (f *facts) checkAcceptRA() (found []Finding) {
	for index := range f.advertised {
		l := f.view.Links[index]
		if l == nil {
			continue
		}
		router, _ := f.ipv6("conf/" + l.Name + "/forwarding")
		if accepts, ok := f.ipv6("conf/" + l.Name + "/accept_ra"); ok && router != 0 && accepts != 2 {
			found = append(found, Finding{"accept-ra", Warning, l.Name, fmt.Sprintf("the IPv6 default route is a router advertisement's, forwarding is 1 there, and accept_ra is %d: the route ends with its lifetime", accepts),
				"sysctl -w net.ipv6.conf." + l.Name + ".accept_ra=2"})
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return cmp.Compare(a.Subject, b.Subject) })
	return found
}
