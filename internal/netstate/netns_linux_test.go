package netstate

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/nstest"
)

// deadline bounds every wait of a test; none of them waits so long when the
// code is right.
const deadline = 20 * time.Second

// A netns is a network namespace on a thread of its own, with lo up.
type netns struct {
	*nstest.Netns
	t testing.TB
}

func newNetns(t testing.TB) *netns {
	t.Helper()
	ns := &netns{nstest.NewNetns(t), t}
	ns.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return ns
}

// do runs f in the namespace.
func (ns *netns) do(f func() error) {
	ns.t.Helper()
	ns.Do(f)
}

// veth makes a pair, up, and returns the index of the first.
func (ns *netns) veth(a, b string) (index int) {
	ns.t.Helper()
	ns.do(func() error {
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a}, PeerName: b})
		if err != nil {
			return err
		}
		for _, name := range []string{b, a} {
			if err := ns.setUp(name); err != nil {
				return err
			}
		}
		l, err := netlink.LinkByName(a)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	return index
}

// The following are for use within do.

func (ns *netns) setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func (ns *netns) setDown(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(l)
}

func (ns *netns) addAddr(name, cidr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, a)
}

func (ns *netns) delAddr(name, cidr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	return netlink.AddrDel(l, a)
}

func (ns *netns) del(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// move gives a link to the namespace of a thread.
func (ns *netns) move(name string, tid int) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetNsPid(l, tid)
}
