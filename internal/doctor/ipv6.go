package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

// hostIPv6 is what the host's IPv6 is like, by interface.
type hostIPv6 struct {
	// advertised are the interfaces over which a default route of a router advertisement
	// leads.
	advertised map[int]bool
	linkLocal  map[int]netstate.AddressState // of the best link-local address
	proxied    map[int][]netip.Addr          // entries of ip -6 neigh show proxy
}

// ipv6 is a setting below net.ipv6.
func (f *facts) ipv6(key string) (int, bool) { return f.sysctl("../ipv6/" + key) }

// checkIPv6 looks at what keeps IPv6 from being answered and forwarded.
func checkIPv6(f *facts) (found []Finding) {
	if !f.cfg.IPv6 || len(f.workloads) == 0 {
		return nil
	}
	served := func(l *netstate.Link) bool { return l.IPv6 }
	has6 := func(p pod) bool { return len(p.v6.addresses) > 0 }
	if !slices.ContainsFunc(f.workloads, served) && !slices.ContainsFunc(f.uplinks, served) && !slices.ContainsFunc(f.pods, has6) {
		return []Finding{{"ipv6-disabled", Info, "host", "the kernel has IPv6 on none of the interfaces: it is neither answered nor forwarded for",
			"none, if that is meant: --ipv6=false says so; else sysctl -w net.ipv6.conf.all.disable_ipv6=0, and no ipv6.disable=1 on the kernel's command line"}}
	}
	// Where no workload has an IPv6 route nobody misses it.
	over := f.view.Table.HostsOver(route.IPv6)
	var off []*netstate.Link
	inUse := false
	for _, l := range f.workloads {
		p := f.podOf(l.Name)
		uses := len(over[int32(l.Index)]) > 0 || p != nil && has6(*p)
		inUse = inUse || uses
		switch {
		case !l.IPv6:
			found = append(found, f.unserved6(l, p, len(over) > 0))
		case uses:
			found = append(found, f.checkLinkLocal(l)...)
		}
		if l.IPv6 && !l.Forwards6 {
			off = append(off, l)
		}
	}
	if !f.forwards() && inUse && len(off) > 0 {
		found = append(found, Finding{"forwarding6-off", Error, f.names(off), "--engine none leaves forwarding to the kernel, and net.ipv6.conf.all.forwarding is 0: IPv6 packets of these workloads are lost",
			"sysctl -w net.ipv6.conf.all.forwarding=1, or run another engine"})
	}
	for _, l := range f.uplinks {
		if inUse && l.IPv6 && f.view.Used[int32(l.Index)] {
			found = append(found, f.checkLinkLocal(l)...)
		}
	}
	return append(merged(found), f.checkAcceptRA()...)
}

// unserved6 tells of an interface on which the kernel has no IPv6. others says that other
// workloads have it.
func (f *facts) unserved6(l *netstate.Link, p *pod, others bool) Finding {
	why, cure := "disable_ipv6 is 1 there", "sysctl -w net.ipv6.conf.IF.disable_ipv6=0, and the routes to the workload anew"
	if l.MTU < wire.IPv6MinMTU {
		why, cure = "its MTU is less than 1280", "ip link set IF mtu 1500, and the routes to the workload anew"
	}
	severity := Info
	switch {
	case p != nil && len(p.v6.addresses) > 0:
		severity = Error
		why += fmt.Sprintf(", and the pod has %s", p.v6.addresses[0])
	case p == nil && others:
		severity = Warning
	}
	return Finding{"ipv6-disabled", severity, l.Name, why + ": the kernel has no IPv6 there, and so no route to the workload: it is neither answered nor forwarded for, not served",
		cure + "; or run with --ipv6=false"}
}

// checkLinkLocal looks at an interface whose neighbours are resolved.
func (f *facts) checkLinkLocal(l *netstate.Link) []Finding {
	if !resolves(l) || !l.Running() {
		return nil
	}
	severity, what, cure := Error, "", "ip -6 address show dev IF; sysctl net.ipv6.conf.IF.addr_gen_mode, and ip link set IF down and up for another address"
	switch f.host.linkLocal[l.Index] {
	case netstate.AddressUsable:
		return nil
	case netstate.AddressMissing:
		what = "it has no link-local address: neighbours there can't be resolved"
	case netstate.AddressFailed:
		what = "duplicate address detection of its link-local address has failed, somebody else there has it: neighbours can't be resolved"
		cure = "find who has the address (ip -6 address show dev IF tells which); then ip link set IF down and up"
	case netstate.AddressTentative:
		severity, what, cure = Warning, "its link-local address is tentative: neighbours there can't be resolved until duplicate address detection is over", "ask again in two seconds; ip -6 address show dev IF"
	}
	return []Finding{{"ipv6-link-local", severity, l.Name, what, cure}}
}

// checkAcceptRA looks at default routes that will not be made again: a router heeds
// no advertisement unless accept_ra is 2 (ipv6_accept_ra in include/net/ipv6.h).
func (f *facts) checkAcceptRA() (found []Finding) {
	for index := range f.host.advertised {
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
