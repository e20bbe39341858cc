package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sharedTable is the routing table of a shared namespace's first interface.
const sharedTable = 1000

func (p Pod) table() int { return sharedTable + p.N }

// makeUplink joins the hosts. A single host has nobody to be joined with, only
// the address from which it asks and answers.
func (l *Lab) makeUplink(ctx context.Context) error {
	nodes := l.nodes
	h, err := handleAt(nodes[0].Netns)
	if err != nil {
		return err
	}
	defer h.Close()
	if len(nodes) == 1 {
		addrs := []netip.Prefix{hostPrefix(nodes[0].Addr.Addr())}
		if a := nodes[0].Addr6; a.IsValid() {
			addrs = append(addrs, hostPrefix(a.Addr()))
		}
		_, err := addrUp(h, "lo", addrs...)
		return err
	}
	if err := addVeth(h, uplinkName, "", l.spec.WireMTU, uplinkName, nodes[1].Netns); err != nil {
		return err
	}
	peer, err := handleAt(nodes[1].Netns)
	if err != nil {
		return err
	}
	defer peer.Close()
	link0, err := addrUp(h, uplinkName, nodes[0].Addr, nodes[0].Addr6)
	if err != nil {
		return err
	}
	link1, err := addrUp(peer, uplinkName, nodes[1].Addr, nodes[1].Addr6)
	if err != nil {
		return err
	}
	if _, err := awaitUp(ctx, h, link0.Attrs().Index); err != nil {
		return err
	}
	if _, err = awaitUp(ctx, peer, link1.Attrs().Index); err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Addr6.IsValid() {
			continue
		}
		if err := awaitSolicited(ctx, n.Netns, uplinkName, n.Addr6.Addr()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) makePod(ctx context.Context, p *Pod, mtu int) error {
	table, netns := 0, l.spec.Name+"-"+p.Node
	if l.spec.SharedPods {
		table = p.table()
	} else if err := makeNetns(netns); err != nil {
		return err
	}
	host, err := handleAt(l.nodes[p.Host].Netns)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := addVeth(host, p.Iface, p.MAC, mtu, p.Peer, netns); err != nil {
		return err
	}
	link, err := host.LinkByName(p.Iface)
	if err != nil {
		return fmt.Errorf("lab: link %s: %w", p.Iface, err)
	}
	p.Index, p.MAC = link.Attrs().Index, link.Attrs().HardwareAddr.String()

	pod, err := handleAt(netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	if !kernelHasIPv6() || !carriesIPv6(mtu) {
		p.Addr6 = netip.Prefix{}
	}
	peer, err := addrUp(pod, p.Peer, p.Addr, p.Addr6)
	if err != nil {
		return err
	}
	p.PeerMAC = peer.Attrs().HardwareAddr.String()
	if err := podRoutes(pod, peer, p.Addr.Addr(), table); err != nil {
		return err
	}
	if p.Addr6.IsValid() {
		if err := podRoutes6(pod, peer, p.Addr6.Addr(), table); err != nil {
			return err
		}
	}
	if p.HostDown {
		return nil
	}
	if err := l.hostEndUp(ctx, host, link, p); err != nil {
		return err
	}
	if _, err = awaitUp(ctx, pod, peer.Attrs().Index); err != nil || !p.Addr6.IsValid() {
		return err
	}
	return awaitSolicited(ctx, netns, p.Peer, p.Addr6.Addr())
}

// hostEndUp brings up the host's end and tells both hosts where the pod is.
func (l *Lab) hostEndUp(ctx context.Context, host *netlink.Handle, link netlink.Link, p *Pod) error {
	if p.Addr6.IsValid() {
		if err := addLinkLocal(host, link); err != nil {
			return err
		}
	}
	if err := host.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: set %s up: %w", p.Iface, err)
	}
	p.HostDown = false
	for _, a := range []netip.Prefix{p.Addr, p.Addr6} {
		if !a.IsValid() {
			continue
		}
		dst := hostPrefix(a.Addr())
		if err := host.RouteAdd(hostRoute(dst, link)); err != nil {
			return fmt.Errorf("lab: route %s dev %s: %w", dst, p.Iface, err)
		}
	}
	if _, err := awaitUp(ctx, host, link.Attrs().Index); err != nil {
		return err
	}
	if p.Addr6.IsValid() {
		if err := awaitSolicited(ctx, l.nodes[p.Host].Netns, link.Attrs().Name, linkLocal(link)); err != nil {
			return err
		}
	}
	return l.otherHost(*p, (*netlink.Handle).RouteReplace)
}

// otherHost does something to the other host's routes to the pod.
func (l *Lab) otherHost(p Pod, do func(*netlink.Handle, *netlink.Route) error) error {
	if l.spec.Hosts < 2 {
		return nil
	}
	h, err := handleAt(l.nodes[1-p.Host].Netns)
	if err != nil {
		return err
	}
	defer h.Close()
	uplink, err := h.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf("lab: link %s: %w", uplinkName, err)
	}
	way := func(dst netip.Prefix, via netip.Addr) error {
		route := &netlink.Route{LinkIndex: uplink.Attrs().Index, Dst: ipNet(dst), Gw: via.AsSlice()}
		if err := do(h, route); err != nil {
			return fmt.Errorf("lab: route %s via %s: %w", dst, via, err)
		}
		return nil
	}
	err = way(l.spec.route(p), l.nodes[p.Host].Addr.Addr())
	if a := l.nodes[p.Host].Addr6; a.IsValid() && p.Addr6.IsValid() {
		err = errors.Join(err, way(l.spec.route6(p), a.Addr()))
	}
	return err
}

// removePod removes what there is of a pod, be it whole or not.
func (l *Lab) removePod(p Pod) error {
	h, err := handleAt(l.nodes[p.Host].Netns)
	if err != nil {
		return err
	}
	defer h.Close()
	// Not by its name: makePod may have failed because that was taken.
	if p.Index != 0 {
		err = h.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: p.Index}})
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("lab: remove %s: %w", p.Iface, err)
		}
	}
	if l.spec.SharedPods {
		err = delRule(l.spec.Name+"-"+p.Node, p)
	} else {
		err = removeNode(l.spec.Name+"-"+p.Node, false)
	}
	if err != nil {
		return err
	}
	if l.spec.Form == FormCalico {
		return nil // the block remains for its other pods
	}
	return l.otherHost(p, func(h *netlink.Handle, r *netlink.Route) error {
		if err := h.RouteDel(r); !errors.Is(err, unix.ESRCH) {
			return err
		}
		return nil
	})
}
