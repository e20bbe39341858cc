package doctor

import (
	"fmt"
	"slices"
)

// checkPods looks at what the pods have configured.
func checkPods(f *facts) (found []Finding) {
	if f.noPods != "" && len(f.workloads) > 0 {
		found = append(found, Finding{"pods-not-seen", Info, "", "no look into the pods' namespaces: " + f.noPods, "run doctor as root in the host's namespaces"})
	}
	owner := map[string]string{}
	for i := range f.pods {
		p := &f.pods[i]
		found = append(found, p.check(f)...)
		for _, a := range p.addresses {
			if other, twice := owner[a]; twice && other != p.host {
				found = append(found, Finding{"address-twice", Error, p.host, fmt.Sprintf("the pod has the address %s, and so has the one behind %s", a, other), "give one of them another address"})
			}
			owner[a] = p.host
		}
	}
	return found
}

func (p *pod) where() string { return fmt.Sprintf("%s (%s in %s)", p.host, p.name, p.netns) }

func (p *pod) check(f *facts) (found []Finding) {
	say := func(id string, s Severity, cure, format string, args ...any) {
		found = append(found, Finding{id, s, p.where(), fmt.Sprintf(format, args...), cure})
	}
	inside := "nsenter --net=" + p.netns + " "
	if !p.up {
		say("pod-down", Info, inside+"ip link set "+p.name+" up", "the pod's end is down")
		return found
	}
	known := false
	for _, g := range p.gateways {
		known = known || f.isGateway(g) || f.local[g] // for which the kernel answers
	}
	switch {
	case len(p.gateways) == 0 && p.direct:
		say("pod-gateway", Warning, inside+"ip route replace default via "+f.gateway()+" dev "+p.name,
			"its default route has no gateway: it asks by ARP for each address, which is answered only with --proxy")
	case len(p.gateways) == 0:
		say("pod-default-route", Error, inside+"ip route add "+f.gateway()+" dev "+p.name+" scope link; "+inside+"ip route add default via "+f.gateway()+" dev "+p.name,
			"it has no default route")
	case !known:
		say("pod-gateway", Error, "--gateway "+p.gateways[0]+", or "+inside+"ip route replace default via "+f.gateway()+" dev "+p.name,
			"its default route leads to %s, which is not answered", p.gateways[0])
	}
	for g, is := range p.fixed {
		if is.mac != is.want {
			say("pod-neighbour", Error, inside+"ip neigh del "+g+" dev "+p.name,
				"it has a permanent entry of the gateway %s with %s, and the interface here has %s: its packets are not taken as ours", g, is.mac, is.want)
		}
	}
	if p.noARP && len(p.fixed) == 0 {
		say("pod-noarp", Error, inside+"ip link set "+p.name+" arp on", "its interface does no ARP: it never asks for the gateway's MAC")
	}
	if len(p.addresses) == 0 {
		say("pod-address", Warning, inside+"ip addr add ADDRESS/32 dev "+p.name, "it has no IPv4 address")
	} else if !slices.Contains(p.routed, true) {
		say("pod-address", Error, "ip route add "+p.addresses[0]+"/32 dev "+p.host, "none of its addresses (%v) is routed to %s here", p.addresses, p.host)
	}
	if p.mtu > p.hostMTU {
		say("pod-mtu", Error, fmt.Sprintf("%sip link set %s mtu %d", inside, p.name, p.hostMTU),
			"its MTU is %d, that of the host's end %d: longer packets are lost in silence", p.mtu, p.hostMTU)
	}
	return found
}

func (f *facts) isGateway(a string) bool {
	for _, g := range f.cfg.Gateways {
		if g.String() == a {
			return true
		}
	}
	return false
}

func (f *facts) gateway() string {
	if len(f.cfg.Gateways) == 0 {
		return "169.254.1.1"
	}
	return f.cfg.Gateways[0].String()
}
