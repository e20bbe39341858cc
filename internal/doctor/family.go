package doctor

import (
	"net/netip"
	"slices"

	"proxyarpd/forward/route"
)

// family is what the checks of IPv4 and IPv6 differ in.
type family struct {
	route.Family
	name       string
	resolution string // how who has an address is found out
	ip         string // the command that shows and sets it
	bits       int    // of an address
	forwarding string // the setting by which the kernel forwards what comes in by the interface IF
	capture    string // an expression for what is asked by
	gateway    string // the one by default
	has        func(netip.Addr) bool
}

var (
	ipv4 = &family{Family: route.IPv4, name: "IPv4", resolution: "ARP", ip: "ip", bits: 32, forwarding: "net.ipv4.conf.IF.forwarding", capture: "arp", gateway: "169.254.1.1", has: netip.Addr.Is4}
	ipv6 = &family{Family: route.IPv6, name: "IPv6", resolution: "neighbour discovery", ip: "ip -6", bits: 128, forwarding: "net.ipv6.conf.all.forwarding", capture: "icmp6", gateway: "fe80::ecee:eeff:feee:eeee", has: netip.Addr.Is6}

	families = []*family{ipv4, ipv6}
)

// gateways are those of a family.
func (f *facts) gateways(v *family) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(f.cfg.Gateways), func(a netip.Addr) bool { return !v.has(a) })
}

// gateway is what a pod's default route should lead to.
func (f *facts) gateway(v *family) string {
	if all := f.gateways(v); len(all) > 0 {
		return all[0].String()
	}
	return v.gateway
}
