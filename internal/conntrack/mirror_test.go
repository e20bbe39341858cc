package conntrack

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// told is who has been told of ends.
type told struct {
	ends  map[End]bool
	hears []bool
	full  bool
}

var errFull = errors.New("no room")

func (o *told) config(room int) Config {
	o.ends = map[End]bool{}
	return Config{Max: room, Hears: func(hears bool, _ error) { o.hears = append(o.hears, hears) },
		Set: func(e End, has bool) error {
			switch {
			case has && o.full:
				return errFull
			case has:
				o.ends[e] = true
			default:
				delete(o.ends, e)
			}
			return nil
		}}
}

// TestMirror has flows come, be seen again, change and go: an end is told once when it has the first, and once when it
// has lost the last.
func TestMirror(t *testing.T) {
	a, b := netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("10.65.0.3")
	var o told
	m := newMirror(o.config(100))
	want := func(what string, ends ...End) {
		t.Helper()
		all := map[End]bool{}
		for _, e := range ends {
			all[e] = true
		}
		if !maps.Equal(o.ends, all) {
			t.Errorf("%s: %v, want %v", what, o.ends, ends)
		}
	}
	alone := End{Addr: a}
	dns, dns2 := flow{id: 1, client: a, proto: unix.IPPROTO_UDP, port: 4000, answer: 4000}, flow{id: 2, client: a, proto: unix.IPPROTO_UDP, port: 4000, answer: 4000}
	m.add(dns)
	m.add(dns) // an event, and then the dump
	want("one flow", End{a, unix.IPPROTO_UDP, 4000}, alone)
	m.add(dns2)
	m.remove(1)
	want("of two of one port, one", End{a, unix.IPPROTO_UDP, 4000}, alone)
	m.add(flow{id: 3, client: a, proto: unix.IPPROTO_TCP, port: 40, answer: 41})
	want("a port that the kernel has changed", End{a, unix.IPPROTO_UDP, 4000}, End{a, unix.IPPROTO_TCP, 40}, End{a, unix.IPPROTO_TCP, 41}, alone)
	m.add(flow{id: 3, client: b, proto: unix.IPPROTO_TCP, port: 40, answer: 40}) // the number is another flow's by now
	want("an ID that is used again", End{a, unix.IPPROTO_UDP, 4000}, alone, End{b, unix.IPPROTO_TCP, 40}, End{Addr: b})
	m.remove(7) // was never heard of
	m.round++
	m.add(dns2)
	m.sweep() // what the dump has not seen is gone
	want("after a dump", End{a, unix.IPPROTO_UDP, 4000}, alone)
	m.remove(2)
	want("none")
	if len(m.flows) > 0 || len(m.ends) > 0 {
		t.Errorf("left: %v %v", m.flows, m.ends)
	}
}

// TestMirrorFull has more flows than there is room for, and a map that takes none.
func TestMirrorFull(t *testing.T) {
	var o told
	m := newMirror(o.config(4))
	addr := netip.MustParseAddr("10.65.0.2")
	for i := range 10 {
		addr = addr.Next()
		m.add(flow{id: uint32(i), client: addr, proto: unix.IPPROTO_TCP, port: 1, answer: 1})
	}
	if len(o.ends) != 4 || len(m.flows) != 2 || len(o.hears) != 1 || o.hears[0] || !errors.Is(m.why, ErrTooMany) {
		t.Errorf("%d ends, %d flows, told %v: %v", len(o.ends), len(m.flows), o.hears, m.why)
	}
	o.full = true
	m.remove(0)
	m.add(flow{id: 20, client: addr.Next(), proto: unix.IPPROTO_TCP, port: 1, answer: 1})
	if len(m.flows) != 1 || len(m.ends) != 2 || !errors.Is(m.why, errFull) {
		t.Errorf("%v %v: %v", m.flows, m.ends, m.why)
	}
}
