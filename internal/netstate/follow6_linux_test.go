package netstate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// set6 writes a setting below net.ipv6.conf.
func (ns *netns) set6(key, value string) {
	ns.t.Helper()
	ns.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/"+key, []byte(value), 0) })
}

// twoLinks6 is twoLinks for IPv6. What is made by addresses has no duplicate
// address detection to wait for.
func twoLinks6(t *testing.T) (ns *netns, f *follower) {
	ns = newNetns(t)
	ns.set6("default/accept_dad", "0")
	f = follow(t, ns, Config{IPv6: true})
	a, b := ns.veth("a0", "a1"), ns.veth("b0", "b1")
	ns.do(func() error {
		return errors.Join(ns.addAddr("a0", "2001:db8:a::1/64"), ns.addAddr("b0", "2001:db8:b::1/64"), ns.addAddr("lo", "2001:db8:c::5/128"))
	})
	f.await("addresses that can be preferred", func() bool {
		n := 0
		for _, list := range f.addresses {
			for _, a := range list {
				if a.Local.Is6() && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unix.IFA_F_TENTATIVE == 0 {
					n++
				}
			}
		}
		return n == 3
	})
	gwA, gwB := net.ParseIP("2001:db8:a::2"), net.ParseIP("fe80::2")
	ns.addRoute(netlink.Route{LinkIndex: a, Gw: gwA}, "2001:db8:1::/48")
	ns.addRoute(netlink.Route{LinkIndex: b, Gw: gwB, Table: 77, Priority: 5}, "2001:db8:2::/48")
	ns.addRoute(netlink.Route{LinkIndex: a}, "2001:db8:9::9/128")
	ns.addRoute(netlink.Route{LinkIndex: b, Gw: gwB, Src: net.ParseIP("2001:db8:c::5")}, "2001:db8:3::/48")
	ns.addRoute(netlink.Route{Type: unix.RTN_BLACKHOLE}, "2001:db8:4::/48")
	ns.addRoute(netlink.Route{MultiPath: []*netlink.NexthopInfo{{LinkIndex: a, Gw: gwA}, {LinkIndex: b, Gw: gwB, Hops: 2}}}, "::/0")
	f.awaitKernel(ns)
	return ns, f
}

func TestRoutes6GoWithTheLink(t *testing.T) {
	for name, act := range map[string]func(ns *netns) error{
		"down":         func(ns *netns) error { return ns.setDown("a0") },
		"down and up":  func(ns *netns) error { return errors.Join(ns.setDown("a0"), ns.setUp("a0")) },
		"both down":    func(ns *netns) error { return errors.Join(ns.setDown("a0"), ns.setDown("b0")) },
		"deleted":      func(ns *netns) error { return ns.del("a0") },
		"carrier lost": func(ns *netns) error { return ns.setDown("a1") },
		"carrier lost and back": func(ns *netns) error {
			return errors.Join(ns.setDown("a1"), ns.setUp("a1"))
		},
		"last address":     func(ns *netns) error { return ns.delAddr("a0", "2001:db8:a::1/64") },
		"preferred source": func(ns *netns) error { return ns.delAddr("lo", "2001:db8:c::5/128") },
		"preferred source elsewhere": func(ns *netns) error {
			return errors.Join(ns.addAddr("a0", "2001:db8:c::5/128"), ns.delAddr("lo", "2001:db8:c::5/128"))
		},
		"without a word": func(ns *netns) error {
			err := os.WriteFile("/proc/sys/net/ipv6/route/skip_notify_on_dev_down", []byte("1"), 0)
			return errors.Join(err, ns.setDown("a0"), ns.del("b0"))
		},
		"disabled": func(*netns) error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/a0/disable_ipv6", []byte("1"), 0)
		},
		"disabled and enabled": func(*netns) error {
			return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/a0/disable_ipv6", []byte("1"), 0),
				os.WriteFile("/proc/sys/net/ipv6/conf/a0/disable_ipv6", []byte("0"), 0))
		},
		"all disabled": func(*netns) error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
		},
		"dead without a carrier": func(ns *netns) error {
			return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/all/ignore_routes_with_linkdown", []byte("1"), 0), ns.setDown("a1"))
		},
		"MTU": func(*netns) error {
			l, err := netlink.LinkByName("a0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(l, 1400)
		},
		"MTU below IPv6's": func(*netns) error {
			l, err := netlink.LinkByName("a0")
			if err != nil {
				return err
			}
			return errors.Join(netlink.LinkSetMTU(l, 1200), netlink.LinkSetMTU(l, 1500))
		},
		"down, and addressed then": func(ns *netns) error { // its address is this host's all the same
			l, err := netlink.LinkByName("a0")
			if err != nil {
				return err
			}
			a := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8:d::5"), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
			return errors.Join(ns.setDown("a0"), netlink.AddrAdd(l, a), netlink.LinkSetMTU(l, 1400))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns, f := twoLinks6(t)
			ns.do(func() error { return act(ns) })
			f.awaitKernel(ns)
		})
	}
}

// TestWorkload6Goes: as TestWorkloadGoes, a link and its host routes go without a
// dump.
func TestWorkload6Goes(t *testing.T) {
	ns, f := twoLinks6(t)
	c := ns.veth("c0", "c1")
	for _, dst := range []string{"2001:db8:65::1/128", "2001:db8:65::2/128"} {
		ns.addRoute(netlink.Route{LinkIndex: c}, dst)
	}
	f.awaitKernel(ns)
	before := f.w.Stats().RouteDumps
	ns.do(func() error { return ns.del("c0") })
	f.awaitKernel(ns)
	if n := f.w.Stats().RouteDumps - before; n != 0 {
		t.Errorf("%d dumps", n)
	}
}

// TestLink6: what a link's IPv6 is, whichever way it changes.
func TestLink6(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{IPv6: true})
	ns.veth("a0", "a1")
	is := func(want string) {
		t.Helper()
		f.await(want, func() bool {
			l, ok := f.link("a0")
			return ok && want == link6Line(l.Name, l.IPv6, l.Forwards6, l.MTU6)
		})
	}
	mtu := func(mtu int) {
		ns.do(func() error {
			l, err := netlink.LinkByName("a0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(l, mtu)
		})
	}
	is("link a0 ipv6=true forwards=false mtu6=1500")
	mtu(1400)
	is("link a0 ipv6=true forwards=false mtu6=1400")
	ns.set6("a0/disable_ipv6", "1")
	is("link a0 ipv6=false forwards=false mtu6=0")
	ns.set6("all/forwarding", "1")
	ns.set6("a0/disable_ipv6", "0")
	is("link a0 ipv6=true forwards=true mtu6=1400")
	ns.set6("all/forwarding", "0")
	is("link a0 ipv6=true forwards=false mtu6=1400")
	mtu(1200)
	is("link a0 ipv6=false forwards=false mtu6=0")
	mtu(1300)
	is("link a0 ipv6=true forwards=false mtu6=1300")
	ns.set6("a0/forwarding", "1") // makes it a router, but forwards nothing
	f.await("a0's forwarding", func() bool {
		l, _ := f.link("a0")
		return slices.Contains(f.netconfs, Netconf{Family: IPv6, Index: l.Index, Forwarding: true})
	})
	is("link a0 ipv6=true forwards=false mtu6=1300")
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding"); err == nil {
		ns.set6("a0/force_forwarding", "1")
		is("link a0 ipv6=true forwards=true mtu6=1300")
		late := follow(t, ns, Config{IPv6: true})
		late.awaitKernel(ns)
		ns.set6("all/forwarding", "0") // as it was, and yet takes it away, in silence
		is("link a0 ipv6=true forwards=false mtu6=1300")
		ns.set6("a0/force_forwarding", "1")
		is("link a0 ipv6=true forwards=true mtu6=1300")
	}
	ns.set6("all/forwarding", "1")
	ns.set6("all/forwarding", "0") // takes force_forwarding away
	is("link a0 ipv6=true forwards=false mtu6=1300")
	f.awaitKernel(ns)
}

// TestAddressOrder6: by scope, the newest first, as the kernel's list has them
// after every change, and with their flags.
func TestAddressOrder6(t *testing.T) {
	ns := newNetns(t)
	ns.set6("default/accept_dad", "1")
	f := follow(t, ns, Config{IPv6: true})
	ns.veth("a0", "b0")
	add := func(cidr string) func() error { return func() error { return ns.addAddr("a0", cidr) } }
	del := func(cidr string) func() error { return func() error { return ns.delAddr("a0", cidr) } }
	for i, step := range []func() error{
		add("2001:db8::1/64"), add("fe80::99/64"), add("2001:db8::2/64"), add("2001:db8:1::1/128"), add("fec0::1/64"),
		del("2001:db8::1/64"), add("2001:db8::1/64"), add("fd00::1/64"), del("fe80::99/64"), del("2001:db8:1::1/128"),
	} {
		ns.do(func() error {
			if err := step(); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			return nil
		})
		f.awaitKernel(ns)
	}
	// Another host has one of them.
	ns.do(func() error { return ns.addAddr("b0", "2001:db8:7::1/64") })
	ns.do(func() error { return ns.addAddr("a0", "2001:db8:7::1/64") })
	f.await("a duplicate", func() bool {
		for _, list := range f.addresses {
			if slices.ContainsFunc(list, func(a Address) bool { return a.Flags&unix.IFA_F_DADFAILED != 0 }) {
				return true
			}
		}
		return false
	})
	f.awaitKernel(ns)
	late := follow(t, ns, Config{IPv6: true})
	late.awaitKernel(ns)
}

// TestSiblings makes and takes away nexthops of a route one by one and together.
func TestSiblings(t *testing.T) {
	ns, f := twoLinks6(t)
	_, dst, _ := net.ParseCIDR("2001:db8:6::/48")
	index := 0
	f.await("a0", func() bool { l, ok := f.link("a0"); index = l.Index; return ok })
	gateway := func(gw int) net.IP { return net.ParseIP(fmt.Sprintf("2001:db8:a::%d", gw)) }
	route := func(gw, priority int) *netlink.Route {
		return &netlink.Route{LinkIndex: index, Dst: dst, Gw: gateway(gw), Priority: priority}
	}
	several := func(priority int, gws ...int) *netlink.Route {
		r := &netlink.Route{Dst: dst, Priority: priority}
		for _, gw := range gws {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: index, Gw: gateway(gw), Hops: gw % 3})
		}
		return r
	}
	any := func(priority int) *netlink.Route { return &netlink.Route{Dst: dst, Priority: priority} }
	before := f.w.Stats().RouteDumps
	for i, step := range []func() error{
		func() error { return netlink.RouteAdd(route(10, 7)) },
		func() error { return netlink.RouteAppend(route(11, 7)) },
		func() error { return netlink.RouteAppend(route(12, 7)) },
		func() error { return netlink.RouteAppend(several(7, 13, 14)) },
		func() error { return netlink.RouteAdd(several(3, 20, 21, 22)) },
		func() error { return netlink.RouteDel(route(12, 7)) },
		func() error { return netlink.RouteDel(route(10, 7)) },
		func() error { return netlink.RouteReplace(route(15, 3)) },
		func() error { return netlink.RouteReplace(several(7, 16, 17)) },
		func() error { return netlink.RouteAppend(several(3, 18, 19)) },
		func() error { return netlink.RouteDel(several(3, 18, 15)) },
		func() error { return netlink.RouteDel(any(7)) },
		func() error { return netlink.RouteReplace(several(9, 30, 31)) },
		func() error { return netlink.RouteDel(any(3)) },
		func() error { return netlink.RouteDel(any(9)) },
	} {
		ns.do(func() error {
			if err := step(); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			return nil
		})
		f.awaitKernel(ns)
	}
	if n := f.w.Stats().RouteDumps - before; n != 0 {
		t.Errorf("%d dumps", n)
	}
}

func TestRoutes6GoWithTheNexthopObject(t *testing.T) {
	for _, compat := range []string{"1", "0"} {
		t.Run("compat_mode "+compat, func(t *testing.T) {
			ns, f := twoLinks6(t)
			ns.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(compat), 0) })
			index := 0
			f.await("a0", func() bool { l, ok := f.link("a0"); index = l.Index; return ok })
			var r *Requester
			ns.do(func() (err error) { r, err = NewRequester(); return err })
			defer r.Close()
			dst := netip.MustParsePrefix("2001:db8:5::/48")
			gateways := func() (s string) {
				for _, r := range f.sets[keyOf(unix.RT_TABLE_MAIN, dst)] {
					for _, nh := range r.Nexthops {
						s += fmt.Sprintf("%s*%d ", nh.Gateway, nh.Weight)
					}
				}
				return s
			}
			is := func(want string) {
				t.Helper()
				f.await(want, func() bool { return gateways() == want })
			}
			const created = unix.NLM_F_CREATE | unix.NLM_F_EXCL
			nexthop(t, r, unix.RTM_NEWNEXTHOP, created, 4, index, "2001:db8:a::4")
			nexthop(t, r, unix.RTM_NEWNEXTHOP, created, 5, index, "2001:db8:a::5")
			group := appendU32(newMessage(unix.RTM_NEWNEXTHOP, created, make([]byte, unix.SizeofNhmsg)), unix.NHA_ID, 9)
			if err := r.c.request(appendAttr(group, unix.NHA_GROUP, groupOf(4, 1, 5, 3)), nil); err != nil {
				t.Fatal(err)
			}
			route := newMessage(unix.RTM_NEWROUTE, created,
				[]byte{unix.AF_INET6, 48, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, 0, unix.RTN_UNICAST, 0, 0, 0, 0})
			route = appendU32(appendAttr(route, unix.RTA_DST, dst.Addr().AsSlice()), rtaNHID, 9)
			if err := r.c.request(route, nil); err != nil {
				t.Fatal(err)
			}
			is("2001:db8:a::4*1 2001:db8:a::5*3 ")
			nexthop(t, r, unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, 4, index, "2001:db8:a::6")
			is("2001:db8:a::6*1 2001:db8:a::5*3 ")
			late := follow(t, ns, Config{IPv6: true})
			late.await("the group, in a dump", func() bool {
				rs := late.sets[keyOf(unix.RT_TABLE_MAIN, dst)]
				return len(rs) == 1 && len(rs[0].Nexthops) == 2
			})
			nexthop(t, r, unix.RTM_DELNEXTHOP, 0, 5, 0, "")
			is("2001:db8:a::6*1 ")
			ns.do(func() error { return ns.setDown("a0") })
			is("")
		})
	}
}

// TestWithoutIPv6: nothing of IPv6 is told but neighbours.
func TestWithoutIPv6(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	index := ns.veth("a0", "a1")
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = netlink.FAMILY_V6, 100, 7
	n := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V6, IP: net.ParseIP("fe80::9"),
		State: unix.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
	ns.do(func() error {
		return errors.Join(ns.addAddr("a0", "2001:db8::1/64"), netlink.RuleAdd(rule), netlink.NeighAdd(n))
	})
	ns.set6("all/forwarding", "1")
	check := func(f *follower) {
		f.await("the neighbour", func() bool { return len(f.neighbours) > 0 })
		f.mu.Lock()
		defer f.mu.Unlock()
		for k := range f.sets {
			if k.family == IPv6 {
				t.Errorf("routes to %s", k.dst())
			}
		}
		for k := range f.addresses {
			if k.family == IPv6 {
				t.Errorf("addresses of %d", k.index)
			}
		}
		for _, l := range f.links {
			if l.IPv6 || l.Forwards6 || l.MTU6 != 0 {
				t.Errorf("%+v", l)
			}
		}
		if len(f.rules6) != 0 || slices.ContainsFunc(f.netconfs, func(n Netconf) bool { return n.Family == IPv6 }) {
			t.Errorf("rules %v, settings %v", f.rules6, f.netconfs)
		}
	}
	check(f)
	check(follow(t, ns, Config{}))
}

// TestSourceRoutes: routes from a prefix are apart from those from anywhere.
func TestSourceRoutes(t *testing.T) {
	ns, f := twoLinks6(t)
	var r *Requester
	ns.do(func() (err error) { r, err = NewRequester(); return err })
	defer r.Close()
	index := 0
	f.await("a0", func() bool { l, ok := f.link("a0"); index = l.Index; return ok })
	dst := netip.MustParsePrefix("2001:db8:8::/48")
	msg := func(typ uint16, from string) []byte {
		flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
		if typ == unix.RTM_DELROUTE {
			flags = 0
		}
		m := newMessage(typ, flags,
			[]byte{unix.AF_INET6, 48, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, 0, unix.RTN_UNICAST, 0, 0, 0, 0})
		if from != "" {
			m[unix.SizeofNlMsghdr+2] = byte(netip.MustParsePrefix(from).Bits())
			m = appendAttr(m, unix.RTA_SRC, netip.MustParsePrefix(from).Addr().AsSlice())
		}
		return appendU32(appendAttr(m, unix.RTA_DST, dst.Addr().AsSlice()), unix.RTA_OIF, uint32(index))
	}
	have := func() (s string) {
		for _, r := range f.sets[keyOf(unix.RT_TABLE_MAIN, dst)] {
			s += r.From.String() + " "
		}
		return s
	}
	for _, from := range []string{"2001:db8:f::/48", "", "2001:db8:f::1/128"} {
		err := r.c.request(msg(unix.RTM_NEWROUTE, from), nil)
		if errors.Is(err, unix.EINVAL) {
			nstest.Skip(t, "the kernel has no routes by source (CONFIG_IPV6_SUBTREES)")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	f.await("all three", func() bool { return have() == "2001:db8:f::1/128 2001:db8:f::/48 invalid Prefix " })
	if err := r.c.request(msg(unix.RTM_DELROUTE, "2001:db8:f::/48"), nil); err != nil {
		t.Fatal(err)
	}
	f.await("two", func() bool { return have() == "2001:db8:f::1/128 invalid Prefix " })
}
