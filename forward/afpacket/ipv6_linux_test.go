package afpacket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// station is a host of its own behind one of the router's interfaces.
type station struct {
	*nstest.Netns
	addr    netip.Addr
	mac     wire.MAC
	link    route.Link // the router's end
	gateway netip.Addr
}

// newStation wires a station to the test's namespace, which is the router.
func newStation(t *testing.T, name string, addr netip.Addr, mtu int) *station {
	t.Helper()
	s := &station{Netns: nstest.NewNetns(t), addr: addr, gateway: netip.MustParseAddr("fe80::1")}
	var ns *os.File
	s.Do(func() (err error) {
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	defer ns.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}, PeerName: name + "p", PeerNamespace: netlink.NsFd(ns.Fd())}))
	l, err := netlink.LinkByName(name)
	check(err)
	check(netlink.LinkSetUp(l))
	s.link = route.Link{Ifindex: int32(l.Attrs().Index), Name: name, Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload,
		MAC: wire.MAC(l.Attrs().HardwareAddr), MTU: mtu, MTU6: mtu, Slot: 1}
	s.Do(func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		p, err := h.LinkByName(name + "p")
		if err != nil {
			return err
		}
		s.mac = wire.MAC(p.Attrs().HardwareAddr)
		index := p.Attrs().Index
		return errors.Join(
			h.LinkSetMTU(p, 1500),
			h.LinkSetUp(p),
			h.AddrAdd(p, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}),
			h.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: s.gateway.AsSlice(), HardwareAddr: l.Attrs().HardwareAddr}),
			h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: s.gateway.AsSlice(), Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}))
	})
	check(operational(name))
	s.Do(func() error { return operational(name + "p") })
	return s
}

// operational waits for a device that has a queue: before that it loses what is sent.
func operational(name string) error {
	for deadline := time.Now().Add(patience); ; {
		l, err := netlink.LinkByName(name)
		switch {
		case err != nil:
			return err
		case l.Attrs().OperState == netlink.OperUp:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s does not come up", name)
		}
	}
}

// ipv6Filter passes IPv6 for this host.
func ipv6Filter(fd int) error {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_HOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0x7fffffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	return pktring.AttachClassic(fd, raw)
}

// router6 forwards IPv6 between two stations until the test ends.
func router6(t *testing.T, a, b *station) *forward.Loop {
	t.Helper()
	own := netip.MustParseAddr("2001:db8::1")
	build := route.NewBuilder(route.Policy{IPv6: true})
	for _, s := range []*station{a, b} {
		build.SetLink(s.link)
		build.SetNeighbour(s.link.Ifindex, s.addr, &route.Neighbour{MAC: s.mac, Valid: true})
		build.SetRoutes(route.TableMain, netip.PrefixFrom(s.addr, 128), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Metric: 1024,
			Dev: s.link.Ifindex, Nexthops: []route.Nexthop{{Ifindex: s.link.Ifindex, Weight: 1}}}})
	}
	build.SetAddresses(route.IPv6, a.link.Ifindex, []route.Address{{Local: own, Prefix: netip.PrefixFrom(own, 128)}})
	conn := open(t, Config{Guarded: true, Ring: pktring.Config{Filter: ipv6Filter}})
	loop := forward.NewLoop(conn, forward.Options{Behind: func() bool { return false }})
	loop.Publish(build.Publish())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return loop
}

// stations makes a router with a station on each side, the second behind another MTU.
func stations(t *testing.T, mtu int) (a, b *station, loop *forward.Loop) {
	t.Helper()
	nstest.Enter(t)
	nstest.NoIPv6()
	a = newStation(t, "a", netip.MustParseAddr("2001:db8:a::2"), 1500)
	b = newStation(t, "b", netip.MustParseAddr("2001:db8:b::2"), mtu)
	return a, b, router6(t, a, b)
}

// TestForwardsTCP6: a stream of the kernel's super-packets arrives as it was sent; where the
// MTU becomes less on the way, the sender is told by packet too big.
func TestForwardsTCP6(t *testing.T) {
	for _, mtu := range []int{1500, 1280} {
		a, b, loop := stations(t, mtu)
		sent := make([]byte, 4<<20)
		for i := range sent {
			sent[i] = byte(i * 7 >> 4)
		}
		var listener *net.TCPListener
		b.Do(func() (err error) {
			listener, err = net.ListenTCP("tcp6", net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.addr, 0)))
			return err
		})
		defer listener.Close()
		got := make(chan []byte, 1)
		go func() {
			c, err := listener.Accept()
			if err != nil {
				got <- nil
				return
			}
			defer c.Close()
			all, _ := io.ReadAll(c)
			got <- all
		}()
		var c *net.TCPConn
		a.Do(func() (err error) {
			c, err = net.DialTCP("tcp6", nil, listener.Addr().(*net.TCPAddr))
			return err
		})
		_ = c.SetDeadline(time.Now().Add(6 * patience))
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		c.Close()
		select {
		case all := <-got:
			if !bytes.Equal(all, sent) {
				t.Errorf("MTU %d: %d bytes came, want %d", mtu, len(all), len(sent))
			}
		case <-time.After(6 * patience):
			t.Fatalf("MTU %d: %v", mtu, loop.Counters().Read().ByVerdict)
		}
		s := loop.Counters().Read()
		if told := s.ByVerdict[route.DropPktTooBig] > 0; told != (mtu < 1500) || s.ByVerdict[route.DropGSO] != 0 {
			t.Errorf("MTU %d: %v", mtu, s.ByVerdict)
		}
		if s.PacketsIn > uint64(len(sent)/1400) {
			t.Logf("MTU %d: %d packets in: no super-packets", mtu, s.PacketsIn)
		}
	}
}

// udp gives a datagram socket of a station.
func (s *station) udp(t *testing.T, remote netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	s.Do(func() (err error) {
		if remote.IsValid() {
			c, err = net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(remote))
		} else {
			c, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.addr, 0)))
		}
		return err
	})
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// control calls fn with the descriptor of a socket.
func control(t *testing.T, c *net.UDPConn, fn func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { failed = fn(int(fd)) }), failed); err != nil {
		t.Fatal(err)
	}
}

// TestForwardsUDP6: datagrams that the sender's kernel hands on as one super-packet, and a
// backlog that is joined here, come as they were sent.
func TestForwardsUDP6(t *testing.T) {
	a, b, loop := stations(t, 1500)
	to := b.udp(t, netip.AddrPort{})
	from := a.udp(t, to.LocalAddr().(*net.UDPAddr).AddrPort())
	expect := func(what string, n, size int) {
		t.Helper()
		buf := make([]byte, 2000)
		for i := range n {
			got, err := to.Read(buf)
			if err != nil || got != size || buf[0] != byte(i) || buf[size-1] != byte(i) {
				t.Fatalf("%s, datagram %d: %d bytes, %v; %v", what, i, got, err, loop.Counters().Read().ByVerdict)
			}
		}
	}
	const size, n = 100, 40
	var all []byte
	for i := range n {
		all = append(all, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	control(t, from, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	if _, err := from.Write(all); err != nil {
		t.Fatal(err)
	}
	expect("a super-packet", n, size)
	if s := loop.Counters().Read(); s.PacketsIn != 1 {
		t.Logf("%d packets in: no super-packet", s.PacketsIn)
	}
	control(t, from, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 0) })
	for i := range n {
		if _, err := from.Write(all[i*size : (i+1)*size]); err != nil {
			t.Fatal(err)
		}
	}
	expect("a backlog", n, size)
	t.Logf("%+v", loop.Counters().Read().Super)
}

// TestErrorsOfTheRouter6: the sender's kernel takes the errors for its own packet's.
func TestErrorsOfTheRouter6(t *testing.T) {
	a, b, loop := stations(t, 1280)
	far := netip.AddrPortFrom(b.addr, 9)
	for name, c := range map[string]struct {
		to   netip.AddrPort
		hops int
		size int
		want syscall.Errno
	}{
		"hop limit":      {far, 1, 10, unix.EHOSTUNREACH},
		"no route":       {netip.AddrPortFrom(netip.MustParseAddr("2002::1"), 9), 64, 10, unix.ENETUNREACH},
		"packet too big": {far, 64, 1400, unix.EMSGSIZE},
		"port":           {far, 64, 10, unix.ECONNREFUSED},
	} {
		s := a.udp(t, c.to)
		control(t, s, func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, c.hops),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO))
		})
		if _, err := s.Write(make([]byte, c.size)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := s.Read(make([]byte, 2000)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v; %v", name, err, c.want, loop.Counters().Read().ByVerdict)
		}
	}
}
