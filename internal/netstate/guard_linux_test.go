package netstate

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	oneMAC   = [6]byte{2, 0, 0, 0, 0, 1}
	otherMAC = [6]byte{2, 0, 0, 0, 0, 2}
)

// entry is what the kernel has of a neighbour now, nil for nothing.
func (r *Requester) entry(t *testing.T, index int, ip netip.Addr) *Neighbour {
	t.Helper()
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	n, err := r.c.neighbour(neighbourKey{index, ip}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// make makes an entry what it is told, as `ip neigh replace` does.
func (r *Requester) make(n Neighbour) error {
	return r.c.request(newNeighbour(&n, unix.NLM_F_CREATE|unix.NLM_F_REPLACE), nil)
}

func (r *Requester) remove(index int, ip netip.Addr) error {
	return r.c.request(aboutNeighbour(unix.RTM_DELNEIGH, 0, neighbourKey{index, ip}), nil)
}

// TestLearnNeighbour: what becomes of each kind of entry whose address is seen
// with a MAC is what neigh_event_ns makes of it, but for those that are Fixed.
func TestLearnNeighbour(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	ip := netip.MustParseAddr("192.0.2.2")
	entry := func(state NeighState, mac [6]byte, flags uint8, ext uint32) *Neighbour {
		return &Neighbour{Index: index, IP: ip, MAC: mac, HasMAC: true, State: state, Flags: flags, ExtFlags: ext}
	}
	for _, c := range []struct {
		name    string
		before  *Neighbour // nil: none
		written bool
		state   NeighState // after, with oneMAC, if it was written
	}{
		{"none", nil, true, unix.NUD_STALE},
		{"failed", &Neighbour{Index: index, IP: ip, State: unix.NUD_FAILED}, true, unix.NUD_STALE},
		{"stale", entry(unix.NUD_STALE, otherMAC, 0, 0), true, unix.NUD_STALE},
		{"reachable", entry(unix.NUD_REACHABLE, otherMAC, 0, 0), true, unix.NUD_STALE},
		{"router", entry(unix.NUD_REACHABLE, otherMAC, unix.NTF_ROUTER, 0), true, unix.NUD_STALE},
		{"stale, the same", entry(unix.NUD_STALE, oneMAC, 0, 0), false, 0},
		{"reachable, the same", entry(unix.NUD_REACHABLE, oneMAC, 0, 0), false, 0},
		{"permanent", entry(unix.NUD_PERMANENT, otherMAC, 0, 0), false, 0},
		{"permanent, the same", entry(unix.NUD_PERMANENT, oneMAC, 0, 0), false, 0},
		{"noarp", entry(unix.NUD_NOARP, otherMAC, 0, 0), false, 0},
		{"extern_learn", entry(unix.NUD_REACHABLE, otherMAC, unix.NTF_EXT_LEARNED, 0), false, 0},
		{"extern_learn, the same", entry(unix.NUD_STALE, oneMAC, unix.NTF_EXT_LEARNED, 0), false, 0},
		{"permanent, extern_learn", entry(unix.NUD_PERMANENT, otherMAC, unix.NTF_EXT_LEARNED, 0), false, 0},
	} {
		if err := r.remove(index, ip); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
		if c.before != nil {
			if err := r.make(*c.before); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		want := r.entry(t, index, ip)
		if c.written {
			want = entry(c.state, oneMAC, 0, 0)
			if c.before != nil {
				want.Flags = c.before.Flags
			}
		}
		written, err := r.LearnNeighbour(index, ip, oneMAC)
		if got := r.entry(t, index, ip); err != nil || written != c.written || got == nil || *got != *want {
			t.Errorf("%s: %+v, written %t, %v, want %+v", c.name, got, written, err, want)
		}
	}
	if _, err := r.LearnNeighbour(1<<20, ip, oneMAC); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such link: %v", err)
	}
	if n := r.PutBacks(); n != 0 {
		t.Errorf("%d entries put back", n)
	}
}

// TestLearnUnanswered: an entry that the kernel tries to resolve is complete at once.
func TestLearnUnanswered(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	ip := netip.MustParseAddr("192.0.2.2")
	if err := r.UseNeighbour(index, ip); err != nil {
		t.Fatal(err)
	}
	if n := r.entry(t, index, ip); n == nil || n.State != unix.NUD_INCOMPLETE {
		t.Fatalf("%+v", n)
	}
	if written, err := r.LearnNeighbour(index, ip, oneMAC); !written || err != nil {
		t.Fatalf("written %t, %v", written, err)
	}
	if n := r.entry(t, index, ip); n == nil || !n.State.Valid() || n.MAC != oneMAC {
		t.Errorf("%+v", n)
	}
}

// TestUseLeavesFixed: NTF_USE would take PERMANENT, EXT_LEARNED and MANAGED away.
func TestUseLeavesFixed(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	for i, n := range []Neighbour{
		{State: unix.NUD_PERMANENT, MAC: oneMAC, HasMAC: true},
		{State: unix.NUD_NOARP, MAC: oneMAC, HasMAC: true},
		{State: unix.NUD_STALE, MAC: oneMAC, HasMAC: true, Flags: unix.NTF_EXT_LEARNED},
		{ExtFlags: ExtManaged},
	} {
		n.Index, n.IP = index, netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i)})
		if err := r.make(n); err != nil {
			t.Fatal(err)
		}
		before := r.entry(t, index, n.IP)
		if before == nil || !before.Fixed() {
			t.Fatalf("%+v", before)
		}
		if err := r.UseNeighbour(index, n.IP); err != nil {
			t.Error(err)
		}
		if written, err := r.LearnNeighbour(index, n.IP, otherMAC); written || err != nil {
			t.Errorf("%+v: written %t, %v", before, written, err)
		}
		if after := r.entry(t, index, n.IP); after == nil || !before.keeps(after) {
			t.Errorf("%+v has become %+v", before, after)
		}
	}
	if n := r.PutBacks(); n != 0 {
		t.Errorf("%d entries put back", n)
	}
}

// TestGuardPutsBack has others make an entry theirs between the look at it and
// the change, which then destroys it.
func TestGuardPutsBack(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r, others := newRequester(t, ns), newRequester(t, ns)
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	ip := netip.MustParseAddr("192.0.2.2")
	entry := func(state NeighState, mac [6]byte, flags uint8) Neighbour {
		return Neighbour{Index: index, IP: ip, MAC: mac, HasMAC: true, State: state, Flags: flags}
	}
	stale := entry(unix.NUD_STALE, [6]byte{2, 0, 0, 0, 0, 3}, 0)
	learn := entry(unix.NUD_STALE, oneMAC, 0)
	use := Neighbour{Index: index, IP: ip, Flags: unix.NTF_USE}
	set := func(n ...Neighbour) func() error {
		return func() (err error) {
			for i := range n {
				err = errors.Join(err, others.make(n[i]))
			}
			return err
		}
	}
	ioctl := func(request uintptr) func() error {
		return func() (err error) {
			ns.do(func() error { err = arpIoctl(request, "a0", ip, otherMAC); return nil })
			return err
		}
	}
	permanent := entry(unix.NUD_PERMANENT, otherMAC, 0)
	for _, c := range []struct {
		name   string
		do     func() error
		want   *Neighbour // nil: whatever we have made of it
		putOne bool       // else the change has left it alone
	}{
		{"nothing", func() error { return nil }, nil, false},
		{"permanent", set(permanent), &permanent, true},
		{"permanent, the same MAC", set(entry(unix.NUD_PERMANENT, oneMAC, 0)), new(entry(unix.NUD_PERMANENT, oneMAC, 0)), true},
		{"noarp", set(entry(unix.NUD_NOARP, otherMAC, 0)), new(entry(unix.NUD_NOARP, otherMAC, 0)), true},
		{"extern_learn", set(entry(unix.NUD_REACHABLE, otherMAC, unix.NTF_EXT_LEARNED)), new(entry(unix.NUD_REACHABLE, otherMAC, unix.NTF_EXT_LEARNED)), true},
		{"permanent, extern_learn", set(entry(unix.NUD_PERMANENT, otherMAC, unix.NTF_EXT_LEARNED)), new(entry(unix.NUD_PERMANENT, otherMAC, unix.NTF_EXT_LEARNED)), true},
		{"two", set(entry(unix.NUD_PERMANENT, oneMAC, 0), permanent), &permanent, true},
		{"by ioctl", ioctl(unix.SIOCSARP), &permanent, true},
		{"permanent, then dynamic", set(permanent, stale), nil, false},
		{"permanent, then deleted", func() error { return errors.Join(set(permanent)(), others.remove(index, ip)) }, nil, false},
		{"by ioctl, then deleted", func() error { return errors.Join(ioctl(unix.SIOCSARP)(), ioctl(unix.SIOCDARP)()) }, nil, false},
	} {
		for name, ours := range map[string]*Neighbour{"learn": &learn, "use": &use} {
			if err := others.make(stale); err != nil {
				t.Fatal(err)
			}
			before, once := r.PutBacks(), true
			_, err := r.guarded(learn.key(), func(now *Neighbour) []byte {
				if once {
					once = false
					if err := c.do(); err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				}
				return newNeighbour(ours, createFlags(now))
			})
			got := r.entry(t, index, ip)
			switch {
			case err != nil:
				t.Errorf("%s, %s: %v", c.name, name, err)
			case c.want != nil && (got == nil || !c.want.keeps(got)):
				t.Errorf("%s, %s: %+v, want %+v", c.name, name, got, *c.want)
			case c.want == nil && got != nil && got.Fixed():
				t.Errorf("%s, %s: %+v", c.name, name, got)
			case c.want == nil && ours == &learn && (got == nil || got.MAC != oneMAC):
				t.Errorf("%s: learnt %+v", c.name, got)
			}
			if put := r.PutBacks() - before; put > 1 || c.putOne && put != 1 && !(ours == &use && c.want.State&unix.NUD_NOARP != 0) || !c.putOne && put > 0 {
				t.Errorf("%s, %s: put back %d times", c.name, name, put)
			}
		}
	}
}

// TestGuardLeavesGroup: between changes the socket receives no events, which
// nobody would read.
func TestGuardLeavesGroup(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	ip := netip.MustParseAddr("192.0.2.2")
	for _, mac := range [][6]byte{oneMAC, otherMAC, oneMAC} { // the first is not guarded
		if written, err := r.LearnNeighbour(index, ip, mac); !written || err != nil {
			t.Fatalf("written %t, %v", written, err)
		}
		groups, err := unix.GetsockoptInt(r.c.fd, unix.SOL_NETLINK, unix.NETLINK_LIST_MEMBERSHIPS)
		if err != nil || groups != 0 {
			t.Errorf("member of %#x, %v", groups, err)
		}
	}
}

// TestRestoreNeighbours: what is forgotten with a MAC of the link is made again,
// but for where others have been faster.
func TestRestoreNeighbours(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	const zebra = 11
	before := []Neighbour{
		{IP: netip.MustParseAddr("192.0.2.2"), MAC: oneMAC, HasMAC: true, State: unix.NUD_STALE},
		{IP: netip.MustParseAddr("192.0.2.3"), MAC: oneMAC, HasMAC: true, State: unix.NUD_REACHABLE, Protocol: zebra},
		{IP: netip.MustParseAddr("192.0.2.4"), MAC: oneMAC, HasMAC: true, State: unix.NUD_NOARP},
		{IP: netip.MustParseAddr("192.0.2.5"), MAC: oneMAC, HasMAC: true, State: unix.NUD_REACHABLE, Flags: unix.NTF_EXT_LEARNED, Protocol: zebra},
		{IP: netip.MustParseAddr("192.0.2.6"), MAC: oneMAC, HasMAC: true, State: unix.NUD_PERMANENT},
		{IP: netip.MustParseAddr("2001:db8::2"), MAC: oneMAC, HasMAC: true, State: unix.NUD_STALE, Flags: unix.NTF_ROUTER},
	}
	for i := range before {
		before[i].Index = index
		if err := r.make(before[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.make(Neighbour{Index: index, IP: netip.MustParseAddr("192.0.2.7"), State: unix.NUD_FAILED}); err != nil {
		t.Fatal(err)
	}
	all, err := r.Neighbours(index)
	if err != nil || len(all) != len(before) {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := r.SetMAC(index, [6]byte{2, 9, 9, 9, 9, 9}); err != nil {
		t.Fatal(err)
	}
	if left, err := r.Neighbours(index); err != nil || len(left) != 0 {
		t.Fatalf("the kernel has kept %+v, %v", left, err)
	}
	// Meanwhile one is being resolved, one has another MAC, and one is somebody's.
	faster := before[1]
	faster.MAC, faster.State, faster.Protocol = otherMAC, unix.NUD_STALE, 0
	others := before[3]
	others.MAC, others.State, others.Flags, others.Protocol = otherMAC, unix.NUD_PERMANENT, 0, 0
	if err := errors.Join(r.UseNeighbour(index, before[0].IP), r.make(faster), r.make(others)); err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if err := r.RestoreNeighbour(n); err != nil {
			t.Error(err)
		}
	}
	before[1], before[3] = faster, others
	for _, want := range before {
		if got := r.entry(t, index, want.IP); got == nil || *got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// TestPermanentRace: others set, change and remove permanent entries all the
// time, while the same addresses are seen with one MAC after the other. What the
// others made last stands.
func TestPermanentRace(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r, others := newRequester(t, ns), newRequester(t, ns)
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	const addresses, rounds = 4, 3000
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i)}) }
	var over atomic.Bool
	defer over.Store(true)
	learned := make(chan int)
	go func() {
		written := 0
		for i := 0; !over.Load(); i++ {
			ip := address(i % addresses)
			ok, err := r.LearnNeighbour(index, ip, [6]byte{2, 0, 0, 1, byte(i >> 8), byte(i)})
			if err == nil && i%7 == 0 {
				err = r.UseNeighbour(index, ip)
			}
			if err != nil && !errors.Is(err, errContended) {
				t.Error(err)
				break
			}
			if ok {
				written++
			}
		}
		learned <- written
	}()
	lost := 0
	for i := range rounds {
		n := Neighbour{Index: index, IP: address(i % addresses), MAC: [6]byte{2, 0, 0, 2, byte(i >> 8), byte(i)}, HasMAC: true, State: unix.NUD_PERMANENT}
		if i%8 >= addresses {
			n.State, n.Flags = unix.NUD_REACHABLE, unix.NTF_EXT_LEARNED
		}
		if err := others.make(n); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 { // then somebody else's: learning may have it
			if err := others.remove(index, n.IP); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if now := others.entry(t, index, n.IP); now == nil || !n.keeps(now) {
			lost++ // for the moment
		}
	}
	var last [addresses]Neighbour
	for i := range last {
		last[i] = Neighbour{Index: index, IP: address(i), MAC: [6]byte{2, 0, 0, 3, 0, byte(i)}, HasMAC: true, State: unix.NUD_PERMANENT}
		if err := others.make(last[i]); err != nil {
			t.Fatal(err)
		}
	}
	over.Store(true)
	t.Logf("%d written, %d put back, %d of %d found missing for a moment", <-learned, r.PutBacks(), lost, rounds)
	for i := range last {
		if got := others.entry(t, index, last[i].IP); got == nil || *got != last[i] {
			t.Errorf("%+v, want %+v", got, last[i])
		}
	}
}
