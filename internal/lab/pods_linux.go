package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

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
		_, err := addrUp(h, "lo", netip.PrefixFrom(nodes[0].Addr.Addr(), 32))
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
	link0, err := addrUp(h, uplinkName, nodes[0].Addr)
	if err != nil {
		return err
	}
	link1, err := addrUp(peer, uplinkName, nodes[1].Addr)
	if err != nil {
		return err
	}
	if _, err := awaitUp(ctx, h, link0.Attrs().Index); err != nil {
		return err
	}
	_, err = awaitUp(ctx, peer, link1.Attrs().Index)
	return err
}

// AddPod adds one pod to a host, wired into both hosts' routes.
func (l *Lab) AddPod(ctx context.Context, host int, o PodOptions) (Pod, error) {
	pods, err := l.AddPods(ctx, host, 1, o)
	if err != nil {
		return Pod{}, err
	}
	return pods[0], nil
}

// AddPods adds n pods to a host, several at a time; all or none.
func (l *Lab) AddPods(ctx context.Context, host, n int, o PodOptions) ([]Pod, error) {
	if host < 0 || host >= l.spec.Hosts {
		return nil, fmt.Errorf("lab %s: no host%d", l.spec.Name, host)
	}
	if n > 1 && o.Iface != "" {
		return nil, fmt.Errorf("lab %s: one name, %s, for %d pods", l.spec.Name, o.Iface, n)
	}
	var pods []Pod
	err := l.change(func() (err error) {
		pods, err = l.addPods(ctx, host, n, o)
		return err
	})
	return pods, err
}

// change runs fn, alone and with the lab's lock held, and records the outcome.
// fn reads l.nodes and l.pods freely; to write them it takes l.mu.
func (l *Lab) change(fn func() error) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if l.isClosed() {
		return fmt.Errorf("lab %s: %w", l.spec.Name, os.ErrClosed)
	}
	if l.lock == nil {
		lock, err := lockLab(l.spec.Name)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	if err := fn(); err != nil {
		return err
	}
	return l.state(true).write()
}

func (l *Lab) addPods(ctx context.Context, host, n int, o PodOptions) ([]Pod, error) {
	first := 0
	for _, p := range l.pods {
		if p.Host == host {
			first = max(first, p.N+1)
		}
	}
	if err := l.spec.checkPods(first + n); err != nil {
		return nil, err
	}
	mtu := o.MTU
	if mtu == 0 {
		mtu = l.spec.PodMTU
	}
	pods := make([]Pod, n)
	for i := range pods {
		pods[i] = l.spec.plan(host, first+i, o)
	}
	if l.spec.SharedPods && n > 0 && !slices.ContainsFunc(l.nodes, func(nd Node) bool { return nd.Name == pods[0].Node }) {
		node := Node{Name: pods[0].Node, Netns: l.spec.Name + "-" + pods[0].Node, Host: host, IsPod: true}
		if err := makeNetns(node.Netns); err != nil {
			return nil, err
		}
		l.record([]Node{node}, nil)
	}
	err := parallel(ctx, n, func(i int) error {
		if err := l.step(ctx, "pod"); err != nil {
			return err
		}
		return l.makePod(ctx, &pods[i], mtu)
	})
	if err != nil {
		for _, p := range pods {
			err = errors.Join(err, l.removePod(p))
		}
		return nil, err
	}
	var nodes []Node
	if !l.spec.SharedPods {
		for _, p := range pods {
			nodes = append(nodes, Node{Name: p.Node, Netns: l.spec.Name + "-" + p.Node, Host: host, IsPod: true, Addr: p.Addr})
		}
	}
	l.record(nodes, pods)
	return pods, nil
}

func (l *Lab) record(nodes []Node, pods []Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, nodes...)
	l.pods = append(l.pods, pods...)
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
	peer, err := addrUp(pod, p.Peer, p.Addr)
	if err != nil {
		return err
	}
	p.PeerMAC = peer.Attrs().HardwareAddr.String()
	if err := podRoutes(pod, peer, p.Addr.Addr(), table); err != nil {
		return err
	}
	if p.HostDown {
		return nil
	}
	if err := l.hostEndUp(ctx, host, link, p); err != nil {
		return err
	}
	_, err = awaitUp(ctx, pod, peer.Attrs().Index)
	return err
}

// hostEndUp brings up the host's end and tells both hosts where the pod is.
func (l *Lab) hostEndUp(ctx context.Context, host *netlink.Handle, link netlink.Link, p *Pod) error {
	if err := host.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: set %s up: %w", p.Iface, err)
	}
	p.HostDown = false
	dst := netip.PrefixFrom(p.Addr.Addr(), 32)
	if err := host.RouteAdd(hostRoute(dst, link)); err != nil {
		return fmt.Errorf("lab: route %s dev %s: %w", dst, p.Iface, err)
	}
	if _, err := awaitUp(ctx, host, link.Attrs().Index); err != nil {
		return err
	}
	return l.otherHost(*p, (*netlink.Handle).RouteReplace)
}

// otherHost does something to the other host's route to the pod.
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
	dst, via := l.spec.route(p), hostAddr(p.Host).Addr()
	route := &netlink.Route{LinkIndex: uplink.Attrs().Index, Dst: ipNet(dst), Gw: via.AsSlice()}
	if err := do(h, route); err != nil {
		return fmt.Errorf("lab: route %s via %s: %w", dst, via, err)
	}
	return nil
}

// Up brings up the host ends of pods that were made with PodOptions.Down,
// several at a time.
func (l *Lab) Up(ctx context.Context, pods ...Pod) error {
	wanted := map[string]bool{}
	for _, p := range pods {
		wanted[p.Name] = true
	}
	return l.change(func() error {
		all := slices.Clone(l.pods)
		var down []*Pod
		for i := range all {
			if p := &all[i]; p.HostDown && wanted[p.Name] {
				down = append(down, p)
			}
		}
		err := parallel(ctx, len(down), func(i int) error {
			host, err := handleAt(l.nodes[down[i].Host].Netns)
			if err != nil {
				return err
			}
			defer host.Close()
			link, err := host.LinkByIndex(down[i].Index)
			if err != nil {
				return fmt.Errorf("lab: link %s: %w", down[i].Iface, err)
			}
			return l.hostEndUp(ctx, host, link, down[i])
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pods = all
		return err
	})
}

// DelPod removes a pod, by its name: the veth, its namespace and its routes.
func (l *Lab) DelPod(name string) error {
	return l.change(func() error {
		at := slices.IndexFunc(l.pods, func(p Pod) bool { return p.Name == name })
		if at < 0 {
			return fmt.Errorf("lab %s: no pod %q", l.spec.Name, name)
		}
		if err := l.removePod(l.pods[at]); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.nodes = slices.DeleteFunc(l.nodes, func(n Node) bool { return n.Name == name })
		l.pods = slices.Delete(l.pods, at, at+1)
		return nil
	})
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
	err = l.otherHost(p, (*netlink.Handle).RouteDel)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
