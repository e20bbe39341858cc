package e2e

import (
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// faults6 are those of IPv6, in the groups of TestDoctor's.
func faults6(t *testing.T, pod, other lab.Pod) (all []fault) {
	if !pod.Addr6.IsValid() {
		return nil
	}
	fill := strings.NewReplacer("DEV2", other.Iface, "DEV", pod.Iface, "POD2", ip(labtest.OverIPv6(t, other)), "POD", ip(labtest.OverIPv6(t, pod)), "GW", gateway6, "IN", pod.Peer)
	for _, f := range []fault{
		{1, "drop-unsolicited-na", "warning", "host0", "sysctl -qw net.ipv6.conf.all.drop_unsolicited_na=1", "sysctl -qw net.ipv6.conf.all.drop_unsolicited_na=0", "", ""},
		{1, "address-twice", "error", other.Node, "ip addr add POD/128 dev IN nodad", "ip addr del POD/128 dev IN", "", "POD"},
		{2, "pod-default-route", "error", other.Node, "ip -6 route del default", "ip -6 route add default via GW dev IN", "", "no IPv6"},
		{2, "pod-address", "error", "host0", "true", "true", "", "none of its IPv6 addresses (POD)"}, // planted for no-route
		{3, "pod-neighbour", "error", pod.Node, "ip neigh replace GW lladdr 02:00:00:00:00:88 nud permanent dev IN", "ip neigh del GW dev IN", "", "GW"},
		{3, "pod-neighbour", "warning", other.Node, "ip neigh replace GW lladdr 02:00:00:00:00:88 nud stale dev IN", "ip neigh del GW dev IN", "", "GW"},
		{4, "pod-gateway", "warning", other.Node, "ip -6 route replace default dev IN", "ip -6 route del default dev IN; ip -6 route replace default via GW dev IN", "", "IPv6"},
		{5, "pod-address", "warning", pod.Node, "ip addr add 2001:db8::77/128 dev IN nodad", "ip addr del 2001:db8::77/128 dev IN", "", "here: 2001:db8::77"},
		{5, "pod-address", "warning", other.Node, "ip addr del POD2/128 dev IN", "ip addr add POD2/128 dev IN nodad; ip -6 route replace default via GW dev IN", "", "it has no IPv6 address, and POD2"},
		{6, "pod-gateway", "error", pod.Node, "ip -6 route replace default via fe80::99 dev IN", "ip -6 route replace default via GW dev IN", "", "fe80::99"},
		{6, "ipv6-disabled", "error", "host0", "sysctl -qw net.ipv6.conf.DEV2.disable_ipv6=1",
			"sysctl -qw net.ipv6.conf.DEV2.disable_ipv6=0; ip -6 addr replace GW/64 dev DEV2 nodad; ip -6 route replace POD2 dev DEV2", "", "DEV2: disable_ipv6 is 1 there, and the pod has POD2"},
		{7, "pod-dad", "warning", other.Node, "sysctl -qw net.ipv6.conf.IN.accept_dad=1 net.ipv6.conf.IN.dad_transmits=1; ip addr add GW/64 dev IN; until ip addr show dev IN | grep -q dadfailed; do sleep 0.05; done",
			"ip addr del GW/64 dev IN", "", ""},
		{7, "proxy-ndp-too", "warning", "host0", "sysctl -qw net.ipv6.conf.DEV.proxy_ndp=1 net.ipv6.conf.DEV.forwarding=1; ip -6 neigh add proxy 2001:db8:99::1 dev DEV",
			"sysctl -qw net.ipv6.conf.DEV.proxy_ndp=0 net.ipv6.conf.DEV.forwarding=0; ip -6 neigh del proxy 2001:db8:99::1 dev DEV", "", "DEV: proxy_ndp is 1, and 2001:db8:99::1"},
		{7, "pod-on-link", "warning", pod.Node, "ip -6 route add 2001:db8:9::/64 dev IN", "ip -6 route del 2001:db8:9::/64 dev IN", "--proxy 10.65.0.0/16", "2001:db8:9::/64"},
		{8, "forwarding6-off", "error", "host0", "true", "sysctl -qw net.ipv6.conf.all.forwarding=1", "--engine none", ""},
	} {
		f.plant, f.cure, f.says = fill.Replace(f.plant), fill.Replace(f.cure), fill.Replace(f.says)
		all = append(all, f)
	}
	return all
}
