package netstate

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExpiredRoutes: the kernel passes over a route that has expired, long before it
// deletes it and says so; and does not say that one was given more time.
func TestExpiredRoutes(t *testing.T) {
	ns := newNetns(t)
	ns.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/route/gc_interval", []byte("600"), 0) })
	index := ns.veth("a0", "a1")
	ns.do(func() error { return ns.setUp("a0") })
	var r *Requester
	ns.do(func() (err error) { r, err = NewRequester(); return err })
	defer r.Close()
	add := func(dst string, metric, seconds uint32) error {
		const rtaExpires = 23 // RTA_EXPIRES
		p := netip.MustParsePrefix(dst)
		m := newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
			[]byte{unix.AF_INET6, byte(p.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, 0, unix.RTN_UNICAST, 0, 0, 0, 0})
		m = appendU32(appendAttr(m, unix.RTA_DST, p.Addr().AsSlice()), unix.RTA_OIF, uint32(index))
		m = appendU32(m, unix.RTA_PRIORITY, metric)
		if seconds > 0 {
			m = appendU32(m, rtaExpires, seconds)
		}
		return r.c.request(m, nil)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const told, dumped, prolonged = "2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:3::/48"
	must(add(dumped, 10, 1))
	must(add(dumped, 20, 0))
	f := follow(t, ns, Config{IPv6: true})
	metrics := func(f *follower, dst string) (all []uint32) {
		for _, r := range f.sets[keyOf(unix.RT_TABLE_MAIN, netip.MustParsePrefix(dst))] {
			all = append(all, r.Priority)
		}
		return all
	}
	has := func(dst string, want ...uint32) func() bool {
		return func() bool {
			got := metrics(f, dst)
			if len(got) != len(want) {
				return false
			}
			for i := range want {
				if got[i] != want[i] {
					return false
				}
			}
			return true
		}
	}
	begin := time.Now()
	must(add(prolonged, 10, 1))
	must(add(told, 10, 1))
	must(add(told, 20, 0))
	f.await("the route that expires", func() bool { return has(told, 10, 20)() && has(prolonged, 10)() })
	if err := add(prolonged, 10, 60); !errors.Is(err, unix.EEXIST) { // but its time is another
		t.Fatal(err)
	}
	f.await("no expired route", func() bool { return has(told, 20)() && has(dumped, 20)() })
	if took := time.Since(begin); took < time.Second {
		t.Errorf("after %v", took)
	}
	f.mu.Lock()
	if !has(prolonged, 10)() {
		t.Error("a route that was given more time is gone")
	}
	f.mu.Unlock()
	if n := f.w.Stats().RouteDumps; n > 3 {
		t.Errorf("%d dumps", n)
	}
	if err := add(told, 10, 60); !errors.Is(err, unix.EEXIST) { // it is not deleted yet
		t.Fatal(err)
	}
	f.await("the route that was given another life", has(told, 10, 20))
	late := follow(t, ns, Config{IPv6: true})
	if got := metrics(late, dumped); len(got) != 1 || got[0] != 20 {
		t.Errorf("a dump has routes of metrics %v", got)
	}
}
