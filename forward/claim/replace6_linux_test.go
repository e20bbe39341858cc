package claim

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// TestReplaceIPv6 has programs without IPv6 replaced by such that have it, and back, while
// a ring is there: what a Config says is in force behind Apply, and nothing is left of one
// before.
func TestReplaceIPv6(t *testing.T) {
	namespace(t)
	e := veth(t, "a")
	cfg := Config{ARP: ARPPolice{PerSecond: 10000, Burst: 2000}, Replaceable: true}
	s, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r, k, k4 := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IPV6), openKernel(t, e, unix.ETH_P_IP)
	all := func(p *Port) { p.Forward, p.ND = true, true }
	slot := forward6(t, s, e, all)
	try := func(what string, frame []byte, inRing int) {
		t.Helper()
		e.put(t, frame)
		if n, left := drain(r, s, slot), len(k.got(t))+len(k4.got(t)); n != inRing || left != 1-n {
			t.Errorf("%s: %d in the ring, %d in the kernel", what, n, left)
		}
	}
	become := func(six bool) {
		t.Helper()
		cfg.IPv6 = six
		next, err := s.Prepare(cfg)
		if err == nil {
			err = next.Apply(r.Refilter)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	there, here := packet6(e.mac, source6, "2001:db8::9", wire.ProtoUDP), packet6(e.mac, source6, "2001:db8::1", wire.ProtoUDP)
	classes{"2001:db8::1/128": toLocal, "203.0.113.1/32": toLocal}.become(t, s)
	try("IPv6 is off", there, 0)
	if err := s.AttachND(0); err == nil {
		t.Error("a filter of neighbour discovery without IPv6")
	}
	setTarget(t, s, 0, gateway6, true)
	if got := s.Classes(); len(got) != 1 || len(s.NDTargets()) != 0 {
		t.Errorf("IPv6 is off, and classes are %v", got)
	}
	for range 2 {
		become(true)
		try("nobody has said so of the interface", there, 0)
		classes{"2001:db8::1/128": toLocal, "2001:db8:2::/48": toPunt, "203.0.113.1/32": toLocal}.become(t, s)
		setTarget(t, s, 0, gateway6, true)
		forward6(t, s, e, all)
		try("IPv6 is on", there, 1)
		try("to the host", here, 0)
		try("to --punt", packet6(e.mac, source6, "2001:db8:2::9", wire.ProtoUDP), 0)
		try("IPv4", packet(e.mac, "203.0.113.9"), 1)
		try("IPv4 to the host", packet(e.mac, "203.0.113.1"), 0)
		nd := openND(t, s)
		e.put(t, solicit(gateway6))
		if n := len(nd.got(t)); n != 1 {
			t.Errorf("the responder has %d solicitations", n)
		}
		k.got(t)

		become(false)
		try("IPv6 is off again", there, 0)
		classes{"203.0.113.1/32": toLocal}.become(t, s)
		setTarget(t, s, 0, gateway6, false)
		forward6(t, s, e, all)
		try("IPv4 with IPv6 off", packet(e.mac, "203.0.113.9"), 1)
	}
	become(true)
	forward6(t, s, e, all)
	try("nothing is left of it", here, 1)
}

// TestHandOverIPv6 has a Set adopted as by another process, which goes on with what was
// said of IPv6, and the first take it back.
func TestHandOverIPv6(t *testing.T) {
	namespace(t)
	e := veth(t, "a")
	s := load6(t, Config{Replaceable: true})
	r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IPV6)
	slot := forward6(t, s, e, ndPort)
	classes{"2001:db8::1/128": toLocal, "2001:db8:2::/48": toPunt}.become(t, s)
	setTarget(t, s, e.index, gateway6, true)
	setTarget(t, s, 0, "fd00::1", true)
	h, fds, err := s.HandOver()
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		if fds[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}
	next, err := Adopt(&h, fds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	targets := next.NDTargets()
	if !slices.Contains(targets, NDTarget{Addr: netip.MustParseAddr("fd00::1")}) || len(targets) != 2 || len(next.Classes()) != 2 || len(next.Ports()) != 1 || !next.Ports()[0].ND {
		t.Errorf("adopted: %v, %v, %v", targets, next.Classes(), next.Ports())
	}
	try := func(what string, s *Set, dst string, inRing int) {
		t.Helper()
		e.put(t, packet6(e.mac, source6, dst, wire.ProtoUDP))
		if n, left := drain(r, s, slot), len(k.got(t)); n != inRing || left != 1-n {
			t.Errorf("%s, %s: %d in the ring, %d in the kernel", what, dst, n, left)
		}
	}
	places := func(s *Set) {
		t.Helper()
		if err := s.TakePlaces(func() error { return s.AttachRing(r.FD()) }); err != nil {
			t.Fatal(err)
		}
	}
	places(next)
	for dst, n := range map[string]int{"2001:db8::1": 0, "2001:db8:2::1": 0, "2001:db8:3::1": 1} {
		try("adopted", next, dst, n)
	}
	// It says something else, and is gone: the first one says what it knows.
	classes{"2001:db8:3::/48": toLocal, "2001:db8:3::9/128": toElsewhere}.become(t, next)
	setTarget(t, next, 0, "fd00::2", true)
	setTarget(t, next, 0, "fd00::1", false)
	try("the other one's", next, "2001:db8:3::1", 0)
	places(s)
	if err := s.Reclaim(); err != nil {
		t.Fatal(err)
	}
	for dst, n := range map[string]int{"2001:db8::1": 0, "2001:db8:2::1": 0, "2001:db8:3::1": 1} {
		try("reclaimed", s, dst, n)
	}
	own(t, s)
	for target, want := range map[string]uint8{"fd00::1": unix.PACKET_OTHERHOST, "fd00::2": unix.PACKET_MULTICAST, gateway6: unix.PACKET_OTHERHOST} {
		e.put(t, solicit(target))
		if types := k.got(t); len(types) != 1 || types[0] != want {
			t.Errorf("solicitation for %s: types %v, want %d", target, types, want)
		}
	}
}

// TestReplaceCarriedIPv6 has programs that carry replaced by such that carry IPv6, too, and
// back: IPv4 is carried all the time, and IPv6 by what it is told.
func TestReplaceCarriedIPv6(t *testing.T) {
	x := newCarrying(t)
	c, cfg := x.Carrier(), x.cfg
	frame6 := packet6(x.e.mac, "fd00:65::1", "fd00:65::2", wire.ProtoUDP)[pktring.VnetLen:]
	try := func(what string, want bool) {
		t.Helper()
		if d, err := c.Try(x.e.index, x.frame); err != nil || !d.Carried {
			t.Errorf("%s: IPv4: %+v, %v", what, d, err)
		}
		if d, err := c.Try(x.e.index, frame6); err != nil || d.Carried != want {
			t.Errorf("%s: IPv6: %+v, %v", what, d, err)
		}
	}
	try("IPv6 is off", false)
	for range 2 {
		for _, six := range []bool{true, false} {
			cfg.IPv6 = six
			next, err := x.Prepare(cfg)
			if err == nil {
				err = next.Apply(nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.SetPort(Port{Ifindex: x.e.index, Forward: true, IPv6: six, Workload: true, Anywhere: true, Quota: 1000, L2Len: 14}); err != nil {
				t.Fatal(err)
			}
			try("nobody has said where to", false)
			for i, prefix := range []string{"fd00:65::1/128", "fd00:65::2/128"} {
				word := AsAbove
				if six {
					word = uint32(2 + i) // of newCarrying
				}
				if err := c.SetRoute6(netip.MustParsePrefix(prefix), word); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(c.Switch(true, six), c.Changed()); err != nil {
				t.Fatal(err)
			}
			try("IPv6 is told", six)
		}
	}
}
