package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/lab"
)

// Between says which namespaces to measure between, where no lab is to be made. Namespaces are names in /run/netns or
// paths. What is zero is found: the receiver's address is its interface's that its default route uses, else the first
// global one; the sender's interface and address are those by which its kernel reaches that.
type Between struct {
	From, To    string
	Host        string // where contestants run that are commands; empty if there are none
	FromIf      string
	FromAddress netip.Addr
	ToAddress   netip.Addr
}

// found is what was found between two namespaces.
type found struct {
	from, to lab.Pod
	via      netip.Addr // the next hop, or the receiver itself
	ipv6     bool
}

// open enters the namespaces and finds the way.
func (w Between) open(ipv6 bool) (*bed, error) {
	nodes := []lab.Node{{Name: "from", Netns: w.From, IsPod: true}, {Name: "to", Netns: w.To, IsPod: true}}
	if w.Host != "" {
		nodes = append(nodes, lab.Node{Name: host(0), Netns: w.Host})
	}
	l, err := lab.Adopt(nodes...)
	if err != nil {
		return nil, err
	}
	b := &bed{Lab: l, ipv6: ipv6, found: &found{ipv6: ipv6, from: lab.Pod{Name: w.From, Node: "from"}, to: lab.Pod{Name: w.To, Node: "to"}}}
	err = l.Do("to", func() error { return b.found.findReceiver(w) })
	if err == nil {
		err = l.Do("from", func() error { return b.found.findSender(w) })
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return b, nil
}

// family is netlink's number of the family that is measured.
func (f *found) family() int {
	if f.ipv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// findReceiver looks in the calling thread's namespace.
func (f *found) findReceiver(w Between) error {
	if w.ToAddress.IsValid() {
		f.to.Addr = hostPrefix(w.ToAddress)
	} else {
		a, err := mainAddress(f.family())
		if err != nil {
			return fmt.Errorf("bench: --to %s: %w; give --to-address", w.To, err)
		}
		f.to.Addr = hostPrefix(a)
	}
	l, err := interfaceOf(f.to.Addr.Addr(), f.family())
	if err != nil {
		return fmt.Errorf("bench: --to %s: %w", w.To, err)
	}
	f.to.Peer = l.Attrs().Name
	return nil
}

// findSender looks in the calling thread's namespace how it reaches the receiver.
func (f *found) findSender(w Between) error {
	o := &netlink.RouteGetOptions{Oif: w.FromIf}
	if w.FromAddress.IsValid() {
		o.SrcAddr = w.FromAddress.AsSlice()
	}
	to := f.to.Addr.Addr()
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), o)
	if err != nil {
		return fmt.Errorf("bench: --from %s: no route to %s: %w", w.From, to, err)
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return fmt.Errorf("bench: --from %s: %w", w.From, err)
	}
	a := l.Attrs()
	switch {
	case a.Flags&net.FlagLoopback != 0:
		return fmt.Errorf("bench: --from %s: %s is its own address: nothing would be forwarded", w.From, to)
	case len(a.HardwareAddr) != 6:
		return fmt.Errorf("bench: --from %s: %s, which leads to %s, is not Ethernet", w.From, a.Name, to)
	}
	src, ok := netip.AddrFromSlice(routes[0].Src)
	if !ok || src.Unmap().Is6() != f.ipv6 {
		return fmt.Errorf("bench: --from %s: no source address towards %s: give --from-address", w.From, to)
	}
	f.from.Peer, f.from.Addr, f.via = a.Name, hostPrefix(src.Unmap()), to
	if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		f.via = gw.Unmap()
	}
	return nil
}

// mainAddress is the address of the interface that the default route uses, else the first that is global.
func mainAddress(family int) (netip.Addr, error) {
	preferred := 0
	if routes, err := netlink.RouteList(nil, family); err == nil {
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				preferred = r.LinkIndex
				break
			}
		}
	}
	addresses, err := netlink.AddrList(nil, family)
	if err != nil {
		return netip.Addr{}, err
	}
	var first netip.Addr
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); !ok || !ip.IsGlobalUnicast() {
			continue
		}
		if a.LinkIndex == preferred {
			return ip, nil
		}
		if !first.IsValid() {
			first = ip
		}
	}
	if !first.IsValid() {
		return first, errors.New("no interface there has an address of that family")
	}
	return first, nil
}

func interfaceOf(addr netip.Addr, family int) (netlink.Link, error) {
	addresses, err := netlink.AddrList(nil, family)
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if ip, _ := netip.AddrFromSlice(a.IP); ip.Unmap() == addr {
			return netlink.LinkByIndex(a.LinkIndex)
		}
	}
	return nil, fmt.Errorf("no interface there has the address %s", addr)
}

// String says between what it is measured.
func (f *found) String() string {
	return fmt.Sprintf("%s (%s %s) to %s (%s %s), next hop %s, as found", f.from.Name, f.from.Peer, f.from.Addr.Addr(),
		f.to.Name, f.to.Peer, f.to.Addr.Addr(), f.via)
}
