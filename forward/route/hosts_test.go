package route_test

import (
	"fmt"
	"net/netip"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
)

// TestHostsOver: the addresses that lead to one interface, by routes of their own, in order.
func TestHostsOver(t *testing.T) {
	t.Parallel()
	b := routetest.Host(route.Policy{IPv6: true})
	for i, prefix := range []string{"2001:db8::2/128", "2001:db8::1/128", "2001:db8:1::/64", "10.65.0.9/32"} {
		r := route.Route{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: routetest.IfPod1, Weight: 1}}}
		if i == 3 { // over several
			r.Nexthops = append(r.Nexthops, route.Nexthop{Ifindex: routetest.IfPod2, Weight: 1})
		}
		b.SetRoutes(route.TableMain, netip.MustParsePrefix(prefix), []route.Route{r})
	}
	table := b.Publish()
	if got := fmt.Sprint(table.HostsOver(route.IPv4), table.HostsOver(route.IPv6), table.HostOver(route.IPv6, routetest.IfPod1), table.HostOver(route.IPv6, routetest.IfPod2).IsValid()); got !=
		"map[11:[10.65.0.1] 12:[10.65.0.2]] map[11:[2001:db8::1 2001:db8::2]] 2001:db8::1 false" {
		t.Error(got)
	}
}
