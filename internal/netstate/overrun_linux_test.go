package netstate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestOverrun holds the consumer while far more routes change than the socket
// has room for.
func TestOverrun(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{ReceiveBuffer: 4096})
	index := ns.veth("a0", "a1")
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	route := func(i int) *netlink.Route {
		dst := &net.IPNet{IP: net.IPv4(10, byte(i>>8), byte(i), 0).To4(), Mask: net.CIDRMask(24, 32)}
		return &netlink.Route{LinkIndex: index, Dst: dst, Gw: net.IPv4(192, 0, 2, 2)}
	}
	for i := range 10 { // known before, gone after
		ns.do(func() error { return netlink.RouteAdd(route(i)) })
	}
	f.awaitKernel(ns)

	held := make(chan func())
	go func() { held <- f.holdBack() }()
	var release func()
	for i := 5000; release == nil; i++ { // until one comes when it is held back already
		ns.do(func() error { return netlink.RouteAdd(route(i)) })
		select {
		case release = <-held:
		case <-time.After(100 * time.Millisecond):
		}
	}
	before := f.w.Stats()
	ns.do(func() error {
		var all error
		for i := range 10 {
			all = errors.Join(all, netlink.RouteDel(route(i)))
		}
		for i := 100; i < 2100; i++ {
			all = errors.Join(all, netlink.RouteAdd(route(i)))
		}
		return errors.Join(all, ns.del("a0"), netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "late"}, PeerName: "later"}))
	})
	synced := f.synced
	release()
	f.await("a new sync", func() bool { return f.synced > synced && f.incomplete })
	f.awaitKernel(ns)
	after := f.w.Stats()
	if after.Overruns == before.Overruns || after.Resyncs != after.Overruns {
		t.Errorf("%+v", after)
	}
	if after.Messages-before.Messages > 1000 {
		t.Errorf("%d messages in a buffer of 4096 bytes", after.Messages-before.Messages)
	}
	if f.w.Incomplete() {
		t.Error("still incomplete")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.link("late"); !ok || len(f.links) != 3 {
		t.Errorf("links %v", f.links)
	}
}

// TestShortage lets requests fail for want of memory, or because all changes all
// the time, while the routes have to be read anew: it goes on until they can be.
func TestShortage(t *testing.T) {
	ns := newNetns(t)
	var failures atomic.Int32
	errs := []error{unix.ENOMEM, unix.ENOBUFS, errInterrupted, os.ErrDeadlineExceeded}
	f := followWith(t, ns, Config{ReceiveBuffer: 4096}, func(w *Watcher) {
		w.ask = func(msg []byte, each func(uint16, []byte) error) error {
			if n := failures.Add(-1); n >= 0 {
				return errs[int(n)%len(errs)]
			}
			return w.dumps.request(msg, each)
		}
	})
	index := ns.veth("a0", "a1")
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	ns.do(func() error {
		return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}})
	})
	f.awaitKernel(ns)
	failures.Store(int32(len(errs)))
	ns.do(func() error { return ns.setDown("a1") }) // the kernel marks routes in silence
	f.awaitKernel(ns)
	for i := 0; failures.Load() >= 0; i++ { // what comes next is told after the routes
		if i == 10 {
			t.Fatalf("%d failures were not met", failures.Load()+1)
		}
		ns.do(func() error { return ns.addAddr("a0", fmt.Sprintf("192.0.2.%d/32", 10+i)) })
		f.awaitKernel(ns)
	}
}

// TestChurn changes everything at random, with a buffer that overruns now and
// then, while dumps and events run into each other.
func TestChurn(t *testing.T) {
	for _, cfg := range []Config{{}, {ReceiveBuffer: 4096}, {IPv6: true}, {IPv6: true, ReceiveBuffer: 4096}} {
		ns := newNetns(t)
		f := follow(t, ns, cfg)
		rng := rand.New(rand.NewPCG(1, uint64(cfg.ReceiveBuffer)))
		names := []string{"a0", "b0", "c0"}
		for _, n := range names {
			ns.veth(n, n+"x")
		}
		for range 6 {
			ns.do(func() error {
				for range 400 {
					if cfg.IPv6 && rng.IntN(2) == 0 {
						churn6(ns, rng, names)
					} else {
						churn(ns, rng, names)
					}
				}
				return nil
			})
			f.awaitKernel(ns)
		}
		t.Logf("%+v: %+v", cfg, f.w.Stats())
	}
}

// churn does one thing that may well fail.
func churn(ns *netns, rng *rand.Rand, names []string) {
	name := names[rng.IntN(len(names))]
	cidr := net.IPv4(192, 0, byte(rng.IntN(3)), 1).String() + "/24"
	l, err := netlink.LinkByName(name)
	if err != nil {
		return
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: rng.IntN(2),
		Dst:   &net.IPNet{IP: net.IPv4(10, 0, 0, byte(rng.IntN(8))).To4(), Mask: net.CIDRMask(32, 32)},
		Table: []int{0, 50}[rng.IntN(2)], Protocol: netlink.RouteProtocol(3 + rng.IntN(2))}
	switch n := rng.IntN(100); {
	case n < 35:
		_ = netlink.RouteAppend(r)
	case n < 50:
		_ = netlink.RouteReplace(r)
	case n < 55:
		_ = prepend(r.LinkIndex, byte(rng.IntN(5)))
	case n < 70:
		_ = netlink.RouteDel(r)
	case n < 78:
		_ = ns.addAddr(name, cidr)
	case n < 84:
		_ = ns.delAddr(name, cidr)
	case n < 88:
		_ = ns.setDown(name)
	case n < 98:
		_ = ns.setUp(name)
	default:
		_ = ns.del(name)
		_ = netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "x"})
		_ = ns.setUp(name)
		_ = ns.setUp(name + "x")
	}
}

// churn6 is churn for IPv6: routes over links, with a gateway, and over several.
// Those with a gateway have metrics of their own: others that are between siblings
// the kernel leaves out when it dumps (fib6_dump_node in net/ipv6/ip6_fib.c).
func churn6(ns *netns, rng *rand.Rand, names []string) {
	name := names[rng.IntN(len(names))]
	l, err := netlink.LinkByName(name)
	if err != nil {
		return
	}
	dst := net.ParseIP("2001:db8::")
	dst[15] = byte(rng.IntN(6))
	r := &netlink.Route{Priority: 1 + rng.IntN(2), Dst: &net.IPNet{IP: dst, Mask: net.CIDRMask(128, 128)},
		Table: []int{0, 50}[rng.IntN(2)], Protocol: netlink.RouteProtocol(3 + rng.IntN(2))}
	gateway := func() net.IP {
		gw := net.ParseIP("fe80::10")
		gw[15] += byte(rng.IntN(3))
		return gw
	}
	switch rng.IntN(8) {
	case 0:
		r.Type, r.Priority = unix.RTN_UNREACHABLE, r.Priority+2
	case 1, 2:
		r.LinkIndex, r.Priority = l.Attrs().Index, r.Priority+2
	case 3:
		r.MultiPath = []*netlink.NexthopInfo{{LinkIndex: l.Attrs().Index, Gw: gateway()}, {LinkIndex: l.Attrs().Index, Gw: gateway(), Hops: 3}}
	default:
		r.LinkIndex, r.Gw = l.Attrs().Index, gateway()
	}
	addr := fmt.Sprintf("2001:db8:1::%d/64", rng.IntN(3))
	set := func(key string) {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+key, []byte{byte('0' + rng.IntN(2))}, 0)
	}
	switch n := rng.IntN(100); {
	case n < 30:
		_ = netlink.RouteAppend(r)
	case n < 45:
		_ = netlink.RouteReplace(r)
	case n < 50:
		_ = netlink.RouteAdd(r)
	case n < 68:
		_ = netlink.RouteDel(r)
	case n < 72:
		r.LinkIndex, r.Gw, r.MultiPath = 0, nil, nil
		_ = netlink.RouteDel(r)
	case n < 80:
		_ = ns.addAddr(name, addr)
	case n < 86:
		_ = ns.delAddr(name, addr)
	case n < 90:
		_ = netlink.LinkSetMTU(l, 1300+rng.IntN(3)*100)
	case n < 92:
		set(name + "/disable_ipv6")
	case n < 94:
		set(name + "/force_forwarding")
	case n < 96:
		set("all/forwarding")
	case n < 98:
		set(name + "/ignore_routes_with_linkdown")
	default:
		_ = ns.setDown(name + "x")
		_ = ns.setUp(name + "x")
	}
}
