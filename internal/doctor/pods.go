package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"proxyarpd/internal/wire"
)

// pod is what the other end of a workload interface is like.
type pod struct {
	host     string // the interface here
	hostMTU  int
	hostDown bool // checkInterfaces tells
	netns    string
	name     string // the interface there
	mtu      int
	up       bool
	noARP    bool
	v4, v6   addressing

	disabled6  bool         // the kernel has no IPv6 on the interface there
	linkLocals []podAddress // its link-local addresses
}

// addressing is what a pod has of one family.
type addressing struct {
	served    bool         // on the interface here
	leads     netip.Addr   // an address that is routed to the interface here, if one is
	addresses []podAddress // but link-local ones
	gateways  []netip.Addr // of its default routes
	direct    bool         // a default route without gateway
	onLink    []netip.Prefix
	entries   []entry // of its neighbour table, for its gateways
}

type podAddress struct {
	netip.Addr
	routed            bool // to the interface here
	tentative, failed bool // duplicate address detection goes on, or has found another
}

func (a podAddress) usable() bool { return !a.tentative && !a.failed }

// entry is one of a gateway that has a MAC.
type entry struct {
	gateway   netip.Addr
	mac, want wire.MAC
	fixed     bool // PERMANENT or NOARP
}

// of is what it has of a family.
func (p *pod) of(v *family) *addressing {
	if v == ipv6 {
		return &p.v6
	}
	return &p.v4
}

// uses reports whether a pod has, or should have, IPv4 or IPv6.
func (a *addressing) uses() bool { return a.served && (len(a.addresses) > 0 || a.leads.IsValid()) }

func (f *facts) podOf(host string) *pod {
	for i := range f.pods {
		if f.pods[i].host == host {
			return &f.pods[i]
		}
	}
	return nil
}

// checkPods looks at what the pods have configured.
func checkPods(f *facts) (found []Finding) {
	if f.noPods != "" && len(f.workloads) > 0 {
		found = append(found, Finding{"pods-not-seen", Info, "", "no look into the pods' namespaces: " + f.noPods, "run doctor as root in the host's namespaces"})
	}
	owner := map[netip.Addr]string{}
	for i := range f.pods {
		p := &f.pods[i]
		found = append(found, p.check(f)...)
		for _, a := range slices.Concat(p.v4.addresses, p.v6.addresses) {
			if other, twice := owner[a.Addr]; twice && other != p.host {
				found = append(found, Finding{"address-twice", Error, p.host, fmt.Sprintf("the pod has the address %s, and so has the one behind %s", a, other), "give one of them another address"})
			}
			owner[a.Addr] = p.host
		}
	}
	return found
}

func (p *pod) where() string { return fmt.Sprintf("%s (%s in %s)", p.host, p.name, p.netns) }

// inside begins a command in the pod.
func (p *pod) inside() string { return "nsenter --net=" + p.netns + " " }

// say makes a finding about it.
type say func(id string, s Severity, cure, format string, args ...any)

func (p *pod) check(f *facts) (found []Finding) {
	say := func(id string, s Severity, cure, format string, args ...any) {
		found = append(found, Finding{id, s, p.where(), fmt.Sprintf(format, args...), cure})
	}
	if p.hostDown {
		return nil
	}
	if !p.up {
		say("pod-down", Info, p.inside()+"ip link set "+p.name+" up", "the pod's end is down")
		return found
	}
	if p.mtu > p.hostMTU {
		say("pod-mtu", Error, fmt.Sprintf("%sip link set %s mtu %d", p.inside(), p.name, p.hostMTU),
			"its MTU is %d, that of the host's end %d: longer packets are lost in silence", p.mtu, p.hostMTU)
	}
	if p.noARP && !slices.ContainsFunc(slices.Concat(p.v4.entries, p.v6.entries), func(e entry) bool { return e.fixed }) {
		say("pod-noarp", Error, p.inside()+"ip link set "+p.name+" arp on", "its interface does no ARP or neighbour discovery: it never asks for the gateway's MAC")
	}
	if !p.v4.uses() && !p.v6.uses() && len(p.v6.addresses) == 0 {
		say("pod-address", Warning, p.inside()+"ip addr add ADDRESS/32 dev "+p.name, "it has no address, and none is routed to it")
	}
	for _, v := range families {
		if p.of(v).uses() {
			p.checkAddresses(v, say)
			if len(p.of(v).addresses) > 0 {
				p.checkGateways(f, v, say)
			}
		}
	}
	if p.v6.uses() {
		p.checkIPv6(say)
	}
	return found
}

// checkAddresses looks at its addresses of a family, and whether they are routed to it.
func (p *pod) checkAddresses(v *family, say say) {
	a := p.of(v)
	if len(a.addresses) == 0 {
		if !(v == ipv6 && p.disabled6) {
			say("pod-address", Warning, fmt.Sprintf("%s%s addr add %s/%d dev %s", p.inside(), v.ip, a.leads, v.bits, p.name), "it has no %s address, and %s is routed to it", v.name, a.leads)
		}
		return
	}
	var stray []string
	for _, addr := range a.addresses {
		if !addr.routed {
			stray = append(stray, addr.String())
		}
	}
	if len(stray) == 0 {
		return
	}
	cure := fmt.Sprintf("%s route add %s/%d dev %s", v.ip, stray[0], v.bits, p.host)
	if len(stray) == len(a.addresses) {
		say("pod-address", Error, cure, "none of its %s addresses (%s) is routed to %s here", v.name, few(stray), p.host)
		return
	}
	say("pod-address", Warning, cure, "of its %s addresses some are not routed to %s here: %s. Nothing reaches them, and with --rp-filter 1 or 2 nothing from them is forwarded", v.name, p.host, few(stray))
}

// checkGateways looks at its default routes of a family, and its neighbour entries.
func (p *pod) checkGateways(f *facts, v *family, say say) {
	a, gateway := p.of(v), f.gateway(v)
	ip := p.inside() + v.ip
	setDefault := fmt.Sprintf("%s route replace default via %s dev %s", ip, gateway, p.name)
	onLink := ""
	if g, err := netip.ParseAddr(gateway); err == nil && !g.IsLinkLocalUnicast() || v == ipv4 {
		onLink = fmt.Sprintf("%s route add %s dev %s scope link; ", ip, gateway, p.name)
	}
	switch {
	case len(a.gateways) == 0 && a.direct:
		say("pod-gateway", Warning, setDefault, "its %s default route has no gateway: it asks by %s for each address, which is answered only with --proxy", v.name, v.resolution)
	case len(a.gateways) == 0:
		say("pod-default-route", Error, onLink+setDefault, "it has no %s default route", v.name)
	case !slices.ContainsFunc(a.gateways, func(g netip.Addr) bool { return slices.Contains(f.cfg.Gateways, g) || f.isLocal(p.host, g) }):
		say("pod-gateway", Error, "--gateway "+a.gateways[0].String()+", or "+onLink+setDefault, "its %s default route leads to %s, which is not answered", v.name, a.gateways[0])
	}
	for _, g := range a.gateways {
		if slices.ContainsFunc(slices.Concat(p.linkLocals, a.addresses), func(own podAddress) bool { return own.Addr == g && !own.failed }) {
			say("pod-gateway", Error, fmt.Sprintf("%s addr del %s dev %s", ip, g, p.name), "it has the gateway's address %s itself: what it sends there does not leave it", g)
		}
	}
	for _, prefix := range a.onLink {
		if !slices.ContainsFunc(f.cfg.Proxy, func(c netip.Prefix) bool { return c.Bits() <= prefix.Bits() && c.Contains(prefix.Addr()) }) {
			say("pod-on-link", Warning, fmt.Sprintf("%s route del %s dev %s, and addresses of /%d; or run with --proxy %s", ip, prefix, p.name, v.bits, prefix),
				"it has a route to %s without gateway: it asks by %s for each of these addresses, which is answered only with --proxy", prefix, v.resolution)
		}
	}
	for _, e := range a.entries {
		switch {
		case e.mac == e.want:
		case e.fixed:
			say("pod-neighbour", Error, fmt.Sprintf("%s neigh del %s dev %s", ip, e.gateway, p.name),
				"it has a permanent entry of the gateway %s with %s, and the interface here has %s: its packets are not taken as ours", e.gateway, e.mac, e.want)
		case f.status != nil: // else nobody has told it better
			say("pod-neighbour", Warning, fmt.Sprintf("%s neigh flush to %s dev %s; if it comes back, somebody else answers", ip, e.gateway, p.name),
				"its neighbour table has the gateway %s at %s, and the interface here has %s: its packets are not taken as ours until it asks again", e.gateway, e.mac, e.want)
		}
	}
}

// checkIPv6 looks at what has no like in IPv4.
func (p *pod) checkIPv6(say say) {
	if p.disabled6 {
		say("pod-ipv6", Warning, p.inside()+"sysctl -w net.ipv6.conf."+strings.ReplaceAll(p.name, ".", "/")+".disable_ipv6=0, and an MTU of 1280 or more",
			"%s is routed to it, and its interface has no IPv6: disable_ipv6 is 1 there, or its MTU is less than 1280", p.v6.leads)
		return
	}
	usable := slices.ContainsFunc(p.linkLocals, podAddress.usable)
	if len(p.linkLocals) == 0 {
		say("pod-link-local", Warning, p.inside()+"sysctl -w net.ipv6.conf."+strings.ReplaceAll(p.name, ".", "/")+".addr_gen_mode=0, and the interface down and up",
			"its interface has no link-local address: it can't take part in neighbour discovery but with its other addresses")
	}
	for _, a := range p.linkLocals {
		switch {
		case a.failed && !usable:
			say("pod-dad", Error, fmt.Sprintf("if it is the host's end's (ip -6 addr show dev %s), give the pod's end another MAC: %sip link set %s address MAC", p.host, p.inside(), p.name),
				"duplicate address detection of its link-local address %s has failed: somebody else there has it", a)
		case a.failed:
			say("pod-dad", Warning, fmt.Sprintf("%sip -6 addr del %s/64 dev %s", p.inside(), a, p.name), "duplicate address detection of %s has failed: somebody else there has it, and the pod does not use it", a)
		case a.tentative:
			say("pod-dad", Info, "ask again in two seconds", "its link-local address %s is tentative: duplicate address detection goes on", a)
		}
	}
	for _, a := range p.v6.addresses {
		switch {
		case a.failed:
			say("pod-dad", Error, fmt.Sprintf("%sip -6 addr del %s dev %s, and another address", p.inside(), a, p.name), "duplicate address detection of %s has failed: somebody else there has it, and the pod does not use it", a)
		case a.tentative:
			say("pod-dad", Info, "ask again in two seconds", "%s is tentative: duplicate address detection goes on, and the pod does not use it yet", a)
		}
	}
}
