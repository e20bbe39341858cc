package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeHandle opens rtnetlink in the calling thread's namespace; the socket
// stays of that namespace wherever it is used.
func routeHandle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("lab: open rtnetlink: %w", err)
	}
	return h, nil
}

func handleAt(netns string) (h *netlink.Handle, err error) {
	err = inNetns(netns, func() error {
		h, err = routeHandle()
		return err
	})
	return h, err
}

func loopbackUp() error {
	h, err := routeHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	const loIndex = 1 // in every namespace
	if err := h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loIndex}}); err != nil {
		return fmt.Errorf("lab: set lo up: %w", err)
	}
	return nil
}

// addVeth makes a veth pair, one end where h is and the other in peerNetns.
// Without a MAC the kernel gives a random one.
func addVeth(h *netlink.Handle, name, mac string, mtu int, peer, peerNetns string) error {
	f, err := os.Open(netnsPath(peerNetns))
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer f.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	if mac != "" {
		// With the link, so that it never is up under another address.
		if attrs.HardwareAddr, err = net.ParseMAC(mac); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = peer, netlink.NsFd(f.Fd())
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: make veth %s: %w", name, err)
	}
	return nil
}

// addrUp gives the link its addresses, those that there are, and sets it up.
func addrUp(h *netlink.Handle, name string, addrs ...netip.Prefix) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("lab: link %s: %w", name, err)
	}
	for _, addr := range addrs {
		if !addr.IsValid() {
			continue
		}
		if err := addAddr(h, link, addr); err != nil {
			return nil, err
		}
		if addr.Addr().Is6() && link.Attrs().Flags&net.FlagLoopback == 0 {
			if err := addLinkLocal(h, link); err != nil {
				return nil, err
			}
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("lab: set %s up: %w", name, err)
	}
	return link, nil
}

// addAddr gives a link an address, which can be used at once.
func addAddr(h *netlink.Handle, link netlink.Link, addr netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, a); err != nil {
		return fmt.Errorf("lab: address %s on %s: %w", addr, link.Attrs().Name, err)
	}
	return nil
}

// addLinkLocal gives a link the link-local address that it would give itself when it is
// up (RFC 4291 appendix A), a moment later than its neighbours ask for it.
func addLinkLocal(h *netlink.Handle, link netlink.Link) error {
	return addAddr(h, link, netip.PrefixFrom(linkLocal(link), 64))
}

// linkLocal is the address that an Ethernet link makes of its MAC.
func linkLocal(link netlink.Link) netip.Addr {
	m := link.Attrs().HardwareAddr
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func hostRoute(dst netip.Prefix, link netlink.Link) *netlink.Route {
	return &netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipNet(dst)}
}

// hostPrefix is an address as the destination of a route of its own.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// podRoutes6 is podRoutes for IPv6: the gateway is a link-local address, to which
// no route is needed.
func podRoutes6(h *netlink.Handle, link netlink.Link, src netip.Addr, table int) error {
	if table != 0 {
		if err := h.RuleAdd(podRule(src, table)); err != nil {
			return fmt.Errorf("lab: rule from %s lookup %d: %w", src, table, err)
		}
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr(gateway6).AsSlice(), Dst: ipNet(netip.MustParsePrefix("::/0")),
		Table: table, Flags: int(netlink.FLAG_ONLINK)}
	if err := h.RouteAdd(r); err != nil {
		return fmt.Errorf("lab: route default via %s dev %s: %w", gateway6, link.Attrs().Name, err)
	}
	return nil
}

// podRoutes gives the pod's end what Calico's CNI gives it. In a shared
// namespace (table != 0) a source rule leads to the interface's own table.
func podRoutes(h *netlink.Handle, link netlink.Link, src netip.Addr, table int) error {
	gw := netip.MustParseAddr(gateway)
	direct := hostRoute(netip.PrefixFrom(gw, 32), link)
	byGateway := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice(), Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))}
	direct.Table, byGateway.Table = table, table
	if table != 0 {
		// The kernel looks for the next hop in the main table, which here
		// has no route to it.
		byGateway.Flags = int(netlink.FLAG_ONLINK)
		if err := h.RuleAdd(podRule(src, table)); err != nil {
			return fmt.Errorf("lab: rule from %s lookup %d: %w", src, table, err)
		}
	}
	for _, r := range []*netlink.Route{direct, byGateway} {
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("lab: route %s dev %s: %w", r.Dst, link.Attrs().Name, err)
		}
	}
	return nil
}

// podRule leads what an interface of a shared namespace sends to its own table.
func podRule(src netip.Addr, table int) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Src, rule.Table, rule.Priority = ipNet(hostPrefix(src)), table, table
	if src.Is6() {
		rule.Family = unix.AF_INET6
	}
	return rule
}

// delRule removes a pod's rules from the shared namespace; its routes go with
// the interface.
func delRule(netns string, p Pod) error {
	h, err := handleAt(netns)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, a := range []netip.Prefix{p.Addr, p.Addr6} {
		if !a.IsValid() {
			continue
		}
		err = h.RuleDel(podRule(a.Addr(), p.table()))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("lab: rule from %s: %w", a.Addr(), err)
		}
	}
	return nil
}

// awaitUp returns once the link can send. The kernel starts a link's queue from
// a work item that follows the carrier; until then it drops what is sent. Asking
// for one link runs that item at once (linkwatch_sync_dev in rtnl_getlink, Linux
// 6.8); before, it is a matter of a few milliseconds.
func awaitUp(ctx context.Context, h *netlink.Handle, index int) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		link, err := h.LinkByIndex(index)
		if err != nil {
			return nil, fmt.Errorf("lab: link %d: %w", index, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return link, nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("lab: link %s does not get ready: %w", link.Attrs().Name, ctx.Err())
		}
	}
}

// awaitSolicited returns once the link hears those who ask for an address: the kernel joins
// the solicited-node group from a work item that follows the link (addrconf_dad_work).
func awaitSolicited(ctx context.Context, netns, link string, a netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	b := a.As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%x", b[13:])
	return inNetns(netns, func() error {
		for {
			text, err := os.ReadFile("/proc/thread-self/net/igmp6")
			if err != nil {
				return fmt.Errorf("lab: %w", err)
			}
			for line := range strings.Lines(string(text)) {
				if f := strings.Fields(line); len(f) > 2 && f[1] == link && f[2] == group {
					return nil
				}
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("lab: link %s does not join the group of %s: %w", link, a, ctx.Err())
			}
		}
	})
}

// delLinks removes every link of a namespace but lo.
func delLinks(netns string) error {
	h, err := handleAt(netns)
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("lab: list links of %s: %w", netns, err)
	}
	var errs []error
	for _, link := range links {
		if link.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("lab: remove %s of %s: %w", link.Attrs().Name, netns, err))
		}
	}
	return errors.Join(errs...)
}
