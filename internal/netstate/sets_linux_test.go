package netstate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestAddressOrder: by scope, by age, secondary ones last, and what is promoted
// among the primary ones, as the kernel's list has them after every change.
func TestAddressOrder(t *testing.T) {
	for _, promote := range []string{"0", "1"} {
		t.Run("promote_secondaries "+promote, func(t *testing.T) {
			ns := newNetns(t)
			f := follow(t, ns, Config{})
			ns.veth("a0", "b0")
			ns.do(func() error {
				return os.WriteFile("/proc/sys/net/ipv4/conf/a0/promote_secondaries", []byte(promote), 0)
			})
			add := func(cidr string, scope int) func() error {
				return func() error {
					l, err := netlink.LinkByName("a0")
					if err != nil {
						return err
					}
					a, err := netlink.ParseAddr(cidr)
					if err != nil {
						return err
					}
					a.Scope = scope
					return netlink.AddrReplace(l, a)
				}
			}
			del := func(cidr string) func() error { return func() error { return ns.delAddr("a0", cidr) } }
			for i, step := range []func() error{
				add("192.0.2.1/24", unix.RT_SCOPE_UNIVERSE),
				add("198.51.100.1/24", unix.RT_SCOPE_LINK),
				add("203.0.113.1/24", unix.RT_SCOPE_UNIVERSE),
				add("192.0.2.2/24", unix.RT_SCOPE_UNIVERSE),
				add("203.0.113.2/24", unix.RT_SCOPE_UNIVERSE),
				add("192.0.2.3/24", unix.RT_SCOPE_UNIVERSE),
				add("169.254.0.1/32", unix.RT_SCOPE_HOST),
				add("192.0.2.1/32", unix.RT_SCOPE_UNIVERSE), // the same in another network
				add("192.0.2.1/24", unix.RT_SCOPE_UNIVERSE), // there already
				del("192.0.2.1/24"),
				del("203.0.113.1/24"),
				add("203.0.113.9/24", unix.RT_SCOPE_UNIVERSE),
				del("169.254.0.1/32"),
				del("192.0.2.1/32"),
			} {
				ns.do(func() error {
					if err := step(); err != nil {
						return fmt.Errorf("step %d: %w", i, err)
					}
					return nil
				})
				f.awaitKernel(ns)
			}
			late := follow(t, ns, Config{}) // from a dump
			late.awaitKernel(ns)
		})
	}
}

// TestManyAddresses: a set is told once a batch, whatever becomes of it in it.
func TestManyAddresses(t *testing.T) {
	w, batches := listened(t)
	for i := range 100 {
		w.state.setAddress(addressNo(7, i))
	}
	w.state.deleteAddress(addressNo(7, 50))
	w.state.setAddress(addressNo(8, 0))
	w.state.setRules(IPv4, []Rule{{Priority: 1}})
	w.state.setRules(IPv4, []Rule{{Priority: 1}, {Priority: 2}, {Priority: 2}})
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	evs := (*batches)[0]
	if len(*batches) != 1 || len(evs) != 3 || evs[0].Addresses.Index != 7 || len(evs[0].Addresses.Addresses) != 99 ||
		len(evs[1].Addresses.Addresses) != 1 || len(evs[2].Rules.Rules) != 2 {
		t.Fatalf("%+v", *batches)
	}
	// What was told is the receiver's, and stays what it was.
	w.state.setAddress(addressNo(7, 50))
	for i := range 100 {
		w.state.deleteAddress(addressNo(7, i))
	}
	if got := evs[0].Addresses.Addresses; !slices.Equal(got[:50], addressesNo(7, 0, 50)) || got[50] != addressNo(7, 51) {
		t.Errorf("%v", got)
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	if evs := (*batches)[1]; len(evs) != 1 || evs[0].Op != Set || len(evs[0].Addresses.Addresses) != 0 {
		t.Errorf("%+v", evs)
	}
	if err := w.flush(); err != nil || len(*batches) != 2 {
		t.Errorf("nothing new: %v, %v", *batches, err)
	}
}

// TestAddressesOfAnother: a link that gets the index of one that goes in the same
// batch has its addresses told after it.
func TestAddressesOfAnother(t *testing.T) {
	w, batches := listened(t)
	w.state.setLink(Link{Index: 7, Name: "old"})
	w.state.setAddress(addressNo(7, 1))
	w.state.deleteLink(7)
	w.state.setLink(Link{Index: 7, Name: "new"})
	w.state.setAddress(addressNo(7, 2))
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range (*batches)[0] {
		switch {
		case ev.Link != nil:
			got = append(got, ev.Op.String()+" "+ev.Link.Name)
		case ev.Addresses != nil:
			got = append(got, fmt.Sprint(len(ev.Addresses.Addresses)))
		}
	}
	if want := []string{"set old", "0", "delete old", "set new", "1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAdoptedSets: after an overrun sets that differ are told, and no others.
func TestAdoptedSets(t *testing.T) {
	w, batches := listened(t)
	s := w.state
	for index := 2; index <= 6; index++ {
		s.setLink(Link{Index: index, Name: fmt.Sprint("l", index), Kind: "veth"})
		s.setAddress(addressNo(index, 1))
	}
	s.setRules(IPv4, []Rule{{Priority: 1}})
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	var n snapshot
	for _, typ := range dumpOrder {
		n.begin(typ, s)
	}
	for _, index := range []int{2, 3, 5, 6} { // 4 is gone
		n.links[index] = s.links[index]
	}
	n.links[6] = Link{Index: 6, Name: "l6", Kind: "tun"} // another one
	n.addresses.add(addressNo(2, 1))                     // the same
	n.addresses.add(addressNo(3, 2))                     // in front of the one it had
	n.addresses.add(addressNo(3, 1))
	n.addresses.add(addressNo(3, 1)) // told twice
	n.addresses.add(addressNo(6, 1)) // 5 has none any more
	n.rules[IPv4] = []Rule{{Priority: 1}}
	s.adopt(&n)
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range (*batches)[1] {
		switch {
		case ev.Rules != nil:
			got = append(got, "rules")
		case ev.Addresses != nil:
			got = append(got, fmt.Sprint(ev.Addresses.Index, " has ", len(ev.Addresses.Addresses)))
		case ev.Link != nil:
			got = append(got, fmt.Sprint(ev.Op, " ", ev.Link.Index))
		}
	}
	slices.Sort(got[:2])
	slices.Sort(got[2:4])
	slices.Sort(got[5:])
	want := []string{"4 has 0", "5 has 0", "delete 4", "delete 6", "set 6", "3 has 2", "6 has 1"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, ev := range (*batches)[1] {
		if ev.Addresses != nil && ev.Addresses.Index == 3 && ev.Addresses.Addresses[0] != addressNo(3, 2) {
			t.Errorf("%+v", ev.Addresses)
		}
	}
}

// TestAddressLists compares with lists that are kept without any index.
func TestAddressLists(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	l := newAddressLists()
	want := map[addressListKey][]Address{}
	for range 20000 {
		a := addressNo(1+rng.IntN(3), rng.IntN(12))
		a.Flags, a.Scope = uint32(rng.IntN(2)*unix.IFA_F_SECONDARY), Scope(rng.IntN(2)*unix.RT_SCOPE_LINK)
		k := a.list()
		at := slices.IndexFunc(want[k], func(o Address) bool { return o.key() == a.key() })
		switch n := rng.IntN(100); {
		case n < 5:
			if l.forget(k) != (len(want[k]) > 0) {
				t.Fatal("forget")
			}
			delete(want, k)
		case n < 45:
			if l.remove(a) != (at >= 0) {
				t.Fatal("remove")
			}
			if at >= 0 {
				want[k] = slices.Delete(want[k], at, at+1)
			}
		default:
			changed := l.put(a)
			if changed != (at < 0 || want[k][at] != a) {
				t.Fatal("put")
			}
			switch {
			case at >= 0 && want[k][at].Flags == a.Flags:
				want[k][at] = a
				continue
			case at >= 0:
				want[k] = slices.Delete(want[k], at, at+1)
			}
			want[k] = slices.Insert(want[k], addressPlace(want[k], &a), a)
		}
		for index := 1; index <= 3; index++ {
			if k := (addressListKey{index, IPv4}); !slices.Equal(l.of(k), want[k]) {
				t.Fatalf("%v, not %v", l.of(k), want[k])
			}
		}
		for i := range 12 {
			ip := addressNo(1, i).Local
			has := false
			for _, list := range want {
				has = has || slices.ContainsFunc(list, func(a Address) bool { return a.Local == ip })
			}
			if l.has(ip) != has {
				t.Fatalf("has %s: %v", ip, !has)
			}
		}
	}
}

// BenchmarkServiceAddresses is a link of 20,000 addresses that comes and goes, as
// a service proxy's, told in batches of 64.
func BenchmarkServiceAddresses(b *testing.B) {
	w, _ := listened(b)
	w.sink = func([]Event) error { return nil }
	for b.Loop() {
		for i := range 20000 {
			w.state.setAddress(addressNo(7, i))
			if i%64 == 0 {
				_ = w.flush()
			}
		}
		for i := range 20000 {
			w.state.deleteAddress(addressNo(7, i))
			if i%64 == 0 {
				_ = w.flush()
			}
		}
	}
}

// listened is a Watcher without a kernel, and the batches that apply is given.
func listened(testing.TB) (*Watcher, *[][]Event) {
	var batches [][]Event
	w := &Watcher{state: newState(false)}
	w.state.emit = w.push
	w.sink = func(evs []Event) error { batches = append(batches, slices.Clone(evs)); return nil }
	return w, &batches
}

func addressNo(index, i int) Address {
	ip := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
	return Address{Index: index, Local: ip, Prefix: netip.PrefixFrom(ip, 24).Masked()}
}

func addressesNo(index, from, to int) (all []Address) {
	for i := from; i < to; i++ {
		all = append(all, addressNo(index, i))
	}
	return all
}

// TestRuleOrder: rules of one priority in the order in which they were added,
// duplicates left out, and none at all.
func TestRuleOrder(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	rule := func(priority, table int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table = netlink.FAMILY_V4, priority, table
		return r
	}
	tables := func() (all []uint32) {
		for _, r := range f.rules {
			all = append(all, r.Table)
		}
		return all
	}
	ns.do(func() error {
		return errors.Join(netlink.RuleAdd(rule(100, 7)), netlink.RuleAdd(rule(50, 8)), netlink.RuleAdd(rule(100, 6)),
			netlink.RuleAdd(rule(40000, 5)), netlink.RuleAdd(rule(99, 4)))
	})
	f.await("the rules", func() bool { return slices.Equal(tables(), []uint32{255, 8, 4, 7, 6, 254, 253, 5}) })
	ns.do(func() error { return errors.Join(netlink.RuleDel(rule(100, 7)), netlink.RuleAdd(rule(100, 7))) })
	f.await("the first of two is the last", func() bool { return slices.Equal(tables(), []uint32{255, 8, 4, 6, 7, 254, 253, 5}) })
	f.awaitKernel(ns)
	ns.do(func() error {
		all, err := netlink.RuleList(netlink.FAMILY_V4)
		for i := range all {
			all[i].Priority = max(all[i].Priority, 0)
			err = errors.Join(err, netlink.RuleDel(&all[i]))
		}
		return err
	})
	f.await("no rule", func() bool { return len(f.rules) == 0 && f.rules != nil })
	late := follow(t, ns, Config{})
	if len(late.rules) != 0 {
		t.Errorf("%v", late.rules)
	}
}

// TestReplayedSets: messages that are older than a dump, which tells of what they
// tell too, leave neither a rule twice, which would outlive its end, nor
// addresses in another order.
func TestReplayedSets(t *testing.T) {
	rule := func(table int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table = netlink.FAMILY_V4, 100, table
		return r
	}
	for name, c := range map[string]struct{ before, meanwhile, after func(ns *netns) error }{
		"rules": {
			func(*netns) error { return netlink.RuleAdd(rule(7)) },
			func(*netns) error {
				return errors.Join(netlink.RuleDel(rule(7)), netlink.RuleAdd(rule(7)), netlink.RuleAdd(rule(8)))
			},
			func(*netns) error { return netlink.RuleDel(rule(8)) },
		},
		"addresses": {
			func(ns *netns) error {
				return errors.Join(ns.addAddr("a0", "192.0.2.1/24"), ns.addAddr("a0", "198.51.100.1/24"))
			},
			func(ns *netns) error {
				return errors.Join(ns.delAddr("a0", "192.0.2.1/24"), ns.addAddr("a0", "192.0.2.1/24"), ns.addAddr("a0", "203.0.113.1/24"))
			},
			func(ns *netns) error { return ns.delAddr("a0", "203.0.113.1/24") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNetns(t)
			ns.veth("a0", "b0")
			ns.do(func() error { return c.before(ns) })
			f := followWith(t, ns, Config{}, func(w *Watcher) {
				ns.do(func() error { return c.meanwhile(ns) }) // told, and waiting when the next dump tells it
				if err := w.load(); err != nil {
					t.Error(err)
				}
			})
			f.awaitKernel(ns)
			ns.do(func() error { return c.after(ns) })
			f.awaitKernel(ns)
			if f.w.Incomplete() {
				t.Error("incomplete for ever")
			}
		})
	}
}
