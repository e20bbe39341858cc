package ebpf

import (
	"errors"
	"net/netip"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
)

// What there is no room for is IPv6's alone, if it is IPv6.
func TestMirrorFull6(t *testing.T) {
	b := routetest.Host(route.Policy{IPv6: true})
	m := testMirror()
	h := m.mem.(*heap)
	route6 := func(prefix string) {
		b.SetRoutes(route.TableMain, netip.MustParsePrefix(prefix), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: routetest.IfUplink, Weight: 1}}}})
	}
	route6("2001:db8::/32")
	if err := m.publish(b.Publish()); err != nil || h.on != [2]bool{true, true} {
		t.Fatal(err, h.on)
	}
	h.full6 = true
	route6("2001:db8:1::/48")
	table := b.Publish()
	if err := m.publish(table); !errors.As(err, &familyError{}) || h.on != [2]bool{route.IPv4: true} {
		t.Errorf("error %v, carries %v", err, h.on)
	}
	if err := m.publish(table); err != nil || len(h.routes6) != 0 {
		t.Errorf("it is said again: %v, or there are still %v", err, h.routes6)
	}
	m.check(t)
}

// A family whose rules are not plain does not keep the other from being carried.
func TestMirrorFamilies(t *testing.T) {
	b := routetest.Host(route.Policy{IPv6: true})
	m := testMirror()
	h := m.mem.(*heap)
	rule := func(family route.Family, table uint32, priority uint32) route.Rule {
		return route.Rule{Priority: priority, Action: route.RuleToTable, Table: table, SuppressPrefixLen: -1}
	}
	defaults := [][]route.Rule{
		route.IPv4: {rule(route.IPv4, route.TableLocal, 0), rule(route.IPv4, route.TableMain, 32766), rule(route.IPv4, route.TableDefault, 32767)},
		route.IPv6: {rule(route.IPv6, route.TableLocal, 0), rule(route.IPv6, route.TableMain, 32766)},
	}
	for _, family := range families {
		b.SetRules(family, append(defaults[family][:1:1], append([]route.Rule{rule(family, 100, 5)}, defaults[family][1:]...)...))
		want := [2]bool{true, true}
		want[family] = false
		if err := m.publish(b.Publish()); err != nil || h.on != want {
			t.Errorf("a rule of %v: carries %v, %v", family, h.on, err)
		}
		b.SetRules(family, defaults[family])
		if err := m.publish(b.Publish()); err != nil || h.on != [2]bool{true, true} {
			t.Errorf("none any more: carries %v, %v", h.on, err)
		}
	}
}
