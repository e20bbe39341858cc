package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"proxyarpd/forward/claim"
)

// checkARPSysctls looks at what makes the kernel answer too, or not.
func checkARPSysctls(f *facts) (found []Finding) {
	for _, l := range f.workloads {
		all, one := f.is(l.Name, "proxy_arp")
		if !all && !one {
			continue
		}
		key := culprit(l.Name, "proxy_arp", all)
		found = append(found, Finding{"proxy-arp-too", Warning, l.Name, key + " is 1: the kernel answers the same requests", "sysctl -w " + key + "=0"})
		if delay, _ := f.sysctl("neigh/" + l.Name + "/proxy_delay"); delay > 0 {
			found = append(found, Finding{"proxy-delay", Warning, l.Name, fmt.Sprintf("the kernel's second answer comes up to %d ms later (proxy_delay)", delay*10),
				"sysctl -w " + key + "=0, or net.ipv4.neigh." + l.Name + ".proxy_delay=0"})
		}
	}
	for _, l := range append(slices.Clone(f.workloads), f.uplinks...) {
		if all, one := f.is(l.Name, "drop_gratuitous_arp"); all || one {
			key := culprit(l.Name, "drop_gratuitous_arp", all)
			found = append(found, Finding{"drop-gratuitous-arp", Warning, l.Name, key + " is 1: who moves to another MAC is noticed only when the old entry has failed", "sysctl -w " + key + "=0"})
		}
	}
	for _, l := range f.uplinks {
		if all, one := f.is(l.Name, "proxy_arp"); (all || one) && l.Forwards && len(f.cfg.AnswerUplink) > 0 {
			key := culprit(l.Name, "proxy_arp", all)
			found = append(found, Finding{"proxy-arp-too", Warning, l.Name, key + " is 1: with --answer-uplink the kernel answers the same requests, and for all that is routed elsewhere", "sysctl -w " + key + "=0"})
		}
	}
	for _, l := range f.uplinks {
		ignore := f.most(l.Name, "arp_ignore")
		if ignore >= 8 {
			found = append(found, Finding{"arp-ignore", Warning, l.Name, "arp_ignore is 8: nobody on that network gets an answer from this host", "sysctl -w net.ipv4.conf." + l.Name + ".arp_ignore=0"})
		}
	}
	for _, l := range f.workloads {
		if ignore := f.most(l.Name, "arp_ignore"); ignore > 0 && len(f.cfg.Proxy) > 0 {
			found = append(found, Finding{"arp-ignore", Warning, l.Name, fmt.Sprintf("arp_ignore is %d: with --proxy, requests for addresses of this host are left to the kernel, which does not answer", ignore),
				"sysctl -w net.ipv4.conf." + l.Name + ".arp_ignore=0"})
		}
		if all, one := f.is(l.Name, "arp_filter"); (all || one) && len(f.cfg.Proxy) > 0 {
			key := culprit(l.Name, "arp_filter", all)
			found = append(found, Finding{"arp-filter", Warning, l.Name, key + " is 1: the kernel answers for addresses of this host only if its route to the asker leads there", "sysctl -w " + key + "=0"})
		}
	}
	return merged(found)
}

func (f *facts) most(name, key string) int {
	a, _ := f.sysctl("conf/all/" + key)
	b, _ := f.sysctl("conf/" + name + "/" + key)
	return max(a, b)
}

// checkNDSysctls is checkARPSysctls for neighbour discovery.
func checkNDSysctls(f *facts) (found []Finding) {
	if !f.cfg.IPv6 {
		return nil
	}
	most := func(name, key string) int {
		a, _ := f.ipv6("conf/all/" + key)
		b, _ := f.ipv6("conf/" + name + "/" + key)
		return max(a, b)
	}
	for _, l := range append(slices.Clone(f.workloads), f.uplinks...) {
		if !l.IPv6 {
			continue
		}
		if most(l.Name, "drop_unsolicited_na") > 0 {
			found = append(found, Finding{"drop-unsolicited-na", Warning, l.Name, "drop_unsolicited_na is 1: who moves to another MAC is noticed only when the old entry has failed",
				"sysctl -w net.ipv6.conf.all.drop_unsolicited_na=0 net.ipv6.conf.IF.drop_unsolicited_na=0"})
		}
		// The kernel looks at its entries where it forwards alone (ndisc_recv_ns).
		p := f.view.Policies6[l.Index]
		forwards, _ := f.ipv6("conf/" + l.Name + "/forwarding")
		if p == nil || most(l.Name, "proxy_ndp") == 0 || forwards == 0 {
			continue
		}
		targets := slices.Clone(p.Proxy)
		if p.Uplink != nil {
			targets = append(targets, p.Uplink.Targets...)
		}
		for _, a := range f.host.proxied[l.Index] {
			// Of gateways a tc program keeps it.
			if p.IsGateway(a) && (f.programs != nil || f.cfg.Claim == claim.None) || slices.ContainsFunc(targets, func(c netip.Prefix) bool { return c.Contains(a) }) {
				found = append(found, Finding{"proxy-ndp-too", Warning, l.Name, fmt.Sprintf("proxy_ndp is 1, and %s has a proxy entry: the kernel answers the same solicitations", a),
					fmt.Sprintf("ip -6 neigh del proxy %s dev %s", a, l.Name)})
			}
		}
	}
	return merged(found)
}
