package netstate

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// The fuzz targets look for panics, and for values that no kernel object has.

func FuzzLink(f *testing.F) {
	f.Add([]byte(linkBody()))
	f.Fuzz(func(t *testing.T, b []byte) {
		isWireless(b)
		if l, err := parseLink(b); err == nil && (l.Index <= 0 || l.Name == "" || l.AddrLen > maxAddrLen) {
			t.Errorf("%+v", l)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add([]byte(addressBody()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAddress(b); err == nil && (!a.Local.IsValid() || !a.Prefix.IsValid() || a.Index <= 0) {
			t.Errorf("%+v", a)
		}
	})
}

func FuzzNeighbour(f *testing.F) {
	f.Add([]byte(neighbourBody()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseNeighbour(b); err == nil && (!n.IP.IsValid() || n.Index < 0) {
			t.Errorf("%+v", n)
		}
	})
}

func FuzzRule(f *testing.F) {
	f.Add([]byte(ruleBody()))
	f.Add([]byte(upperRuleBody()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRule(b); err == nil && r.From.IsValid() && r.From.Masked() != r.From {
			t.Errorf("%+v", r)
		}
	})
}

func FuzzNexthopObject(f *testing.F) {
	f.Add([]byte(nexthopBody()))
	f.Add([]byte(groupBody()))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseNexthopObject(b)
		if err == nil && (o.id == 0 || o.single.Index < 0) {
			t.Errorf("%+v", o)
		}
		for _, m := range o.group {
			if m.weight < 1 || m.weight > 1<<16 {
				t.Errorf("%+v", o)
			}
		}
	})
}

func FuzzRoute(f *testing.F) {
	for _, b := range routeBodies() {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Route
		if err := parseRoute(b, &r); err != nil {
			return
		}
		if !r.Dst.IsValid() || r.Dst != r.Dst.Masked() {
			t.Errorf("%+v", r)
		}
		rt := newRouteTable(new(bodyPool), 0)
		rt.add(&r)
		for k := range rt.keys() {
			if k != keyOf(r.Table, r.Dst) {
				t.Errorf("%+v is stored as %+v", r, k)
			}
		}
		for _, nh := range r.Nexthops {
			if nh.Index < 0 || nh.Weight < 1 {
				t.Errorf("%+v", r)
			}
		}
	})
}

// FuzzApply feeds a datagram of messages to a State, twice: the second time
// as a replay.
func FuzzApply(f *testing.F) {
	types := []uint16{unix.RTM_NEWLINK, unix.RTM_NEWADDR, unix.RTM_NEWROUTE, unix.RTM_NEWRULE, unix.RTM_NEWNEIGH}
	types = append(types, unix.RTM_NEWROUTE)
	for i, b := range []payload{linkBody(), addressBody(), routeBodies()["multipath"], ruleBody(), neighbourBody(), route6Body()} {
		msg := newMessage(types[i], unix.NLM_F_CREATE, b)
		native.PutUint32(msg, uint32(len(msg)))
		gone := append([]byte(nil), msg...)
		native.PutUint16(gone[4:], types[i]+1)
		f.Add(msg)
		f.Add(append(append([]byte(nil), msg...), gone...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &Watcher{state: newState(true)}
		w.state.emit = func(ev Event) {
			if ev.Routes != nil && (len(ev.Routes.Routes) == 0) != (ev.Op == Delete) {
				t.Errorf("%+v", ev)
			}
		}
		w.datagram(b)
		for _, s := range w.state.fibs() {
			s.beginReplay()
		}
		w.datagram(b)
		for index := range 10 {
			w.state.deleteLink(index)
		}
		for _, s := range w.state.fibs() {
			s.routes.clear()
			if n := len(s.bodies.byKey); n != 0 {
				t.Errorf("%d bodies left", n)
			}
		}
	})
}

// route6Body is an IPv6 route of two nexthops.
func route6Body() payload {
	hop := func(index uint32) []byte {
		return rtnexthop(index, 0, 0, payload(nil).attr(unix.RTA_GATEWAY, netip.MustParseAddr("fe80::1").AsSlice()...))
	}
	b := words([]byte{unix.AF_INET6, 48, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BIRD, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST}, 0)
	return payload(b).attr(unix.RTA_DST, netip.MustParseAddr("2001:db8::").AsSlice()...).
		attr(unix.RTA_MULTIPATH, append(hop(2), hop(3)...)...).attr(unix.RTA_PREF, 1)
}
