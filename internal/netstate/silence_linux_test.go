package netstate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// These tests are about the routes that the kernel drops or changes without a
// message.

func (ns *netns) addRoute(r netlink.Route, dst string) {
	ns.t.Helper()
	_, r.Dst, _ = net.ParseCIDR(dst)
	ns.do(func() error {
		if err := netlink.RouteAppend(&r); err != nil {
			return fmt.Errorf("route %s: %w", dst, err)
		}
		return nil
	})
}

// twoLinks makes a namespace with two links, addresses and routes over each,
// over both, and over none.
func twoLinks(t *testing.T) (ns *netns, f *follower) {
	ns = newNetns(t)
	f = follow(t, ns, Config{})
	a, b := ns.veth("a0", "a1"), ns.veth("b0", "b1")
	ns.do(func() error {
		return errors.Join(ns.addAddr("a0", "192.0.2.1/24"), ns.addAddr("b0", "198.51.100.1/24"), ns.addAddr("lo", "203.0.113.5/32"))
	})
	gwA, gwB := net.IPv4(192, 0, 2, 2), net.IPv4(198, 51, 100, 2)
	ns.addRoute(netlink.Route{LinkIndex: a, Gw: gwA}, "10.1.0.0/16")
	ns.addRoute(netlink.Route{LinkIndex: b, Gw: gwB, Table: 77, Priority: 5}, "10.2.0.0/16")
	ns.addRoute(netlink.Route{LinkIndex: a, Scope: unix.RT_SCOPE_LINK}, "10.9.9.9/32")
	ns.addRoute(netlink.Route{LinkIndex: b, Gw: gwB, Src: net.IPv4(203, 0, 113, 5)}, "10.3.0.0/16")
	ns.addRoute(netlink.Route{LinkIndex: b, Gw: gwB, Src: net.IPv4(203, 0, 113, 5), Table: 88}, "10.3.0.0/16")
	ns.addRoute(netlink.Route{Type: unix.RTN_BLACKHOLE}, "10.4.0.0/16")
	ns.addRoute(netlink.Route{MultiPath: []*netlink.NexthopInfo{{LinkIndex: a, Gw: gwA}, {LinkIndex: b, Gw: gwB, Hops: 2}}}, "0.0.0.0/0")
	f.awaitKernel(ns)
	return ns, f
}

func TestRoutesGoWithTheLink(t *testing.T) {
	for name, act := range map[string]func(ns *netns) error{
		"down":         func(ns *netns) error { return ns.setDown("a0") },
		"down and up":  func(ns *netns) error { return errors.Join(ns.setDown("a0"), ns.setUp("a0")) },
		"both down":    func(ns *netns) error { return errors.Join(ns.setDown("a0"), ns.setDown("b0")) },
		"deleted":      func(ns *netns) error { return ns.del("a0") },
		"peer deleted": func(ns *netns) error { return ns.del("a1") },
		"carrier lost": func(ns *netns) error { return ns.setDown("a1") },
		"carrier lost and back": func(ns *netns) error {
			return errors.Join(ns.setDown("a1"), ns.setUp("a1"))
		},
		"last address": func(ns *netns) error { return ns.delAddr("a0", "192.0.2.1/24") },
		"last address replaced": func(ns *netns) error {
			return errors.Join(ns.delAddr("b0", "198.51.100.1/24"), ns.addAddr("b0", "198.51.100.1/24"))
		},
		"preferred source": func(ns *netns) error { return ns.delAddr("lo", "203.0.113.5/32") },
		"preferred source elsewhere": func(ns *netns) error {
			return errors.Join(ns.addAddr("a0", "203.0.113.5/32"), ns.delAddr("lo", "203.0.113.5/32"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns, f := twoLinks(t)
			ns.do(func() error { return act(ns) })
			f.awaitKernel(ns)
		})
	}
}

// TestWorkloadGoes: the routes to a link without addresses go with it, and no
// dump, which takes seconds where there are many routes, is needed to know.
func TestWorkloadGoes(t *testing.T) {
	ns, f := twoLinks(t)
	c := ns.veth("c0", "c1")
	for _, dst := range []string{"10.65.0.1/32", "10.65.0.2/32"} {
		ns.addRoute(netlink.Route{LinkIndex: c, Scope: unix.RT_SCOPE_LINK}, dst)
	}
	f.awaitKernel(ns)
	before := f.w.Stats().RouteDumps
	ns.do(func() error { return ns.del("c0") })
	f.awaitKernel(ns)
	if n := f.w.Stats().RouteDumps - before; n != 0 {
		t.Errorf("%d dumps", n)
	}
}

// TestLinkdownFollowsCarrier: the flag comes and goes without a route message.
func TestLinkdownFollowsCarrier(t *testing.T) {
	ns, f := twoLinks(t)
	flagged := func() bool {
		rs := f.sets[keyOf(unix.RT_TABLE_MAIN, netip.MustParsePrefix("10.1.0.0/16"))]
		return len(rs) == 1 && rs[0].Nexthops[0].Flags&unix.RTNH_F_LINKDOWN != 0
	}
	ns.do(func() error { return ns.setDown("a1") })
	f.await("the flag", flagged)
	f.awaitKernel(ns)
	ns.do(func() error { return ns.setUp("a1") })
	f.await("its end", func() bool { return !flagged() })
	f.awaitKernel(ns)
}

// TestIgnoreLinkdown: the sysctl makes such nexthops dead, without a route message.
func TestIgnoreLinkdown(t *testing.T) {
	ns, f := twoLinks(t)
	dead := func() bool {
		rs := f.sets[keyOf(unix.RT_TABLE_MAIN, netip.MustParsePrefix("10.1.0.0/16"))]
		return len(rs) == 1 && rs[0].Nexthops[0].Flags&unix.RTNH_F_DEAD != 0
	}
	set := func(value string) {
		ns.do(func() error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/all/ignore_routes_with_linkdown", []byte(value), 0)
		})
	}
	set("0")
	ns.do(func() error { return ns.setDown("a1") })
	f.awaitKernel(ns)
	f.mu.Lock()
	early := dead()
	f.mu.Unlock()
	if early {
		t.Fatal("dead though the link's state is not to be looked at")
	}
	set("1")
	f.await("the nexthop is dead", dead)
	set("0")
	f.await("it is not", func() bool { return !dead() })
	f.awaitKernel(ns)
}

// TestNetconf: settings that the kernel tells of, of one link and of all.
func TestNetconf(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	index := ns.veth("a0", "b0")
	f.await("the link", func() bool { _, ok := f.link("a0"); return ok })
	for _, c := range []struct {
		key  string
		want Netconf
	}{
		{"a0/rp_filter", Netconf{Family: IPv4, Index: index, RPFilter: true}},
		{"all/rp_filter", Netconf{Family: IPv4, Index: AllLinks, RPFilter: true}},
		{"a0/forwarding", Netconf{Family: IPv4, Index: index, Forwarding: true}},
	} {
		path := "/proc/sys/net/ipv4/conf/" + c.key
		ns.do(func() error {
			for _, value := range []string{"0", "1"} { // one of them is a change
				if err := os.WriteFile(path, []byte(value), 0); err != nil {
					return err
				}
			}
			return nil
		})
		f.await(c.key, func() bool { return slices.Contains(f.netconfs, c.want) })
	}
	f.await("the link forwards", func() bool { l, _ := f.link("a0"); return l.Forwards })
	all := func(value string) {
		ns.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0) })
	}
	all("1")
	all("0")
	f.await("it does not any more", func() bool { l, _ := f.link("a0"); return !l.Forwards })
	all("1")
	ns.veth("a1", "b1")
	f.await("a new link forwards from the first on", func() bool { l, ok := f.link("a1"); return ok && l.Forwards })
	f.awaitKernel(ns)
}

func TestRoutesGoWithTheNexthopObject(t *testing.T) {
	for _, compat := range []string{"1", "0"} {
		t.Run("compat_mode "+compat, func(t *testing.T) {
			ns := newNetns(t)
			ns.do(func() error {
				return os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(compat), 0)
			})
			f := follow(t, ns, Config{})
			index := ns.veth("a0", "a1")
			var r *Requester
			ns.do(func() (err error) {
				r, err = NewRequester()
				return errors.Join(err, ns.addAddr("a0", "192.0.2.1/24"))
			})
			defer r.Close()
			dst := netip.MustParsePrefix("10.5.0.0/16")
			k := keyOf(unix.RT_TABLE_MAIN, dst)
			gateway := func() string {
				if rs := f.sets[k]; len(rs) == 1 && rs[0].NHID == 4 && len(rs[0].Nexthops) == 1 {
					return rs[0].Nexthops[0].Gateway.String()
				}
				return ""
			}
			nexthop(t, r, unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 4, index, "192.0.2.2")
			route := newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
				[]byte{unix.AF_INET, 16, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, 0, unix.RTN_UNICAST, 0, 0, 0, 0})
			route = appendU32(appendAttr(route, unix.RTA_DST, dst.Addr().AsSlice()), rtaNHID, 4)
			if err := r.c.request(route, nil); err != nil {
				t.Fatal(err)
			}
			f.await("the route", func() bool { return gateway() == "192.0.2.2" })
			nexthop(t, r, unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, 4, index, "192.0.2.3")
			f.await("the new gateway", func() bool { return gateway() == "192.0.2.3" })

			// As a group: its members' weights, and what is left of it.
			nexthop(t, r, unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 5, index, "192.0.2.5")
			group := appendU32(newMessage(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL, make([]byte, unix.SizeofNhmsg)), unix.NHA_ID, 9)
			if err := r.c.request(appendAttr(group, unix.NHA_GROUP, groupOf(4, 1, 5, 200)), nil); err != nil {
				t.Fatal(err)
			}
			native.PutUint32(route[len(route)-4:], 9)
			native.PutUint16(route[6:], unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
			if err := r.c.request(route, nil); err != nil {
				t.Fatal(err)
			}
			shares := func() (s string) {
				for _, r := range f.sets[k] {
					for _, nh := range r.Nexthops {
						s += fmt.Sprintf("%s*%d ", nh.Gateway, nh.Weight)
					}
				}
				return s
			}
			f.await("the group", func() bool { return shares() == "192.0.2.3*1 192.0.2.5*200 " })
			late := follow(t, ns, Config{})
			late.await("the group, in a dump", func() bool { rs := late.sets[k]; return len(rs) == 1 && len(rs[0].Nexthops) == 2 })
			nexthop(t, r, unix.RTM_DELNEXTHOP, 0, 5, 0, "")
			f.await("what is left of it", func() bool { return shares() == "192.0.2.3*1 " })
			nexthop(t, r, unix.RTM_DELNEXTHOP, 0, 4, 0, "")
			f.await("the end of the route", func() bool { return len(f.sets[k]) == 0 })
		})
	}
}

// groupOf is the value of NHA_GROUP for numbers and weights.
func groupOf(pairs ...int) (b []byte) {
	for i := 0; i < len(pairs); i += 2 {
		b = native.AppendUint32(b, uint32(pairs[i]))
		b = append(b, byte(pairs[i+1]-1), byte((pairs[i+1]-1)>>8), 0, 0)
	}
	return b
}

// nexthop makes or deletes a nexthop object: struct nhmsg and NHA_ID, NHA_OIF,
// NHA_GATEWAY of include/uapi/linux/nexthop.h.
func nexthop(t *testing.T, r *Requester, typ, flags uint16, id uint32, index int, gateway string) {
	t.Helper()
	family := byte(unix.AF_INET)
	if strings.Contains(gateway, ":") {
		family = unix.AF_INET6
	}
	msg := newMessage(typ, flags, []byte{family, 0, 0, 0, 0, 0, 0, 0})
	if typ == unix.RTM_DELNEXTHOP {
		msg[unix.SizeofNlMsghdr] = 0
	}
	msg = appendU32(msg, unix.NHA_ID, id)
	if gateway != "" {
		msg = appendAttr(appendU32(msg, 5, uint32(index)), 6, netip.MustParseAddr(gateway).AsSlice())
	}
	if err := r.c.request(msg, nil); errors.Is(err, unix.EOPNOTSUPP) {
		nstest.Skip(t, "the kernel has no nexthop objects")
	} else if err != nil {
		t.Fatal(err)
	}
}

// TestAliases makes routes that differ in TOS and priority or not at all in
// what the kernel looks at, in every way of insertion.
func TestAliases(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	index := ns.veth("a0", "a1")
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	route := func(gw byte, priority, tos int) *netlink.Route {
		_, dst, _ := net.ParseCIDR("10.6.0.0/16")
		return &netlink.Route{LinkIndex: index, Dst: dst, Gw: net.IPv4(192, 0, 2, gw), Priority: priority, Tos: tos}
	}
	steps := []func() error{
		func() error { return netlink.RouteAdd(route(10, 0, 0)) },
		func() error { return netlink.RouteAppend(route(11, 0, 0)) },
		func() error { return netlink.RouteAppend(route(12, 0, 0)) },
		func() error { return netlink.RouteAdd(route(13, 5, 0)) },
		func() error { return netlink.RouteAdd(route(14, 0, 8)) },
		func() error { return netlink.RouteAdd(route(15, 3, 0)) },
		func() error { return prepend(index, 16) },
		func() error { return netlink.RouteReplace(route(17, 0, 0)) },
		func() error { return netlink.RouteDel(route(11, 0, 0)) },
		func() error { return netlink.RouteReplace(route(18, 3, 0)) },
		func() error { return netlink.RouteDel(route(14, 0, 8)) },
		func() error { return netlink.RouteDel(route(17, 0, 0)) },
	}
	for i, step := range steps {
		ns.do(func() error {
			if err := step(); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			return nil
		})
		f.awaitKernel(ns)
	}
	k := keyOf(unix.RT_TABLE_MAIN, netip.MustParsePrefix("10.6.0.0/16"))
	var gateways []byte
	for _, r := range f.sets[k] {
		gateways = append(gateways, r.Nexthops[0].Gateway.As4()[3])
	}
	if !slices.Equal(gateways, []byte{10, 12, 18, 13}) {
		t.Errorf("gateways %v", gateways)
	}
}

// prepend is ip route prepend: NLM_F_CREATE alone.
func prepend(index int, gw byte) error {
	r, err := NewRequester()
	if err != nil {
		return err
	}
	defer r.Close()
	msg := newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE,
		[]byte{unix.AF_INET, 16, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, 0, unix.RTN_UNICAST, 0, 0, 0, 0})
	msg = appendAttr(msg, unix.RTA_DST, []byte{10, 6, 0, 0})
	msg = appendAttr(appendU32(msg, unix.RTA_OIF, uint32(index)), unix.RTA_GATEWAY, []byte{192, 0, 2, gw})
	return r.c.request(msg, nil)
}
