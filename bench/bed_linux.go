package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// bed is where contestants take turns: a lab of two hosts with Calico-like pods,
// or two namespaces that were found.
type bed struct {
	*lab.Lab
	bin   string // of proxyarpd
	dir   string // of control sockets
	found *found // nil: a lab
	ipv6  bool   // pods are known by their IPv6 addresses
	bulk  *bulk  // many workloads, where a work wants them

	nextHops map[string]net.HardwareAddr // what each pod last learned of its next hop
}

// Close ends what was started and removes the lab; found namespaces remain.
func (b *bed) Close() error {
	if b.bulk != nil {
		return errors.Join(b.bulk.release(), b.Lab.Close())
	}
	return b.Lab.Close()
}

// Pods are the lab's, each with the address of the family that is measured.
func (b *bed) Pods() []lab.Pod {
	all := b.Lab.Pods()
	for i := range all {
		all[i] = b.seen(all[i])
	}
	return all
}

// seen is a pod with the address of the family that is measured.
func (b *bed) seen(p lab.Pod) lab.Pod {
	if b.ipv6 {
		p.Addr = p.Addr6
	}
	return p
}

// family is netlink's number of the family that is measured.
func (b *bed) family() int {
	if b.ipv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// pod finds pod n of a host.
func (b *bed) pod(host, n int) lab.Pod {
	for _, p := range b.Pods() {
		if p.Host == host && p.N == n {
			return p
		}
	}
	return lab.Pod{}
}

// Pods of a lab's hosts: a sender for each CPU, a receiver, and two more for the
// works in which others than these take part.
func (b *bed) sender(n int) lab.Pod {
	if b.found != nil {
		return b.found.from
	}
	return b.pod(0, n)
}

func (b *bed) senders(n int) (pods []lab.Pod) {
	for i := range n {
		pods = append(pods, b.sender(i))
	}
	return pods
}

// receiver is who is sent to, on the last of the hosts that take part.
func (b *bed) receiver(hosts []int) lab.Pod {
	if b.found != nil {
		return b.found.to
	}
	return b.pod(hosts[len(hosts)-1], maxSenders())
}

func podsPerHost() int { return maxSenders() + 3 }

// end is a pod's interface as the pod sees it.
func (b *bed) end(p lab.Pod) (l *net.Interface, err error) {
	err = b.Do(p.Node, func() error {
		if l, err = net.InterfaceByName(p.Peer); err != nil {
			return fmt.Errorf("bench: %s in %s: %w", p.Peer, p.Node, err)
		}
		return nil
	})
	return l, err
}

// path is how frames go from a pod to an address: by the MAC that the pod has
// learned for its next hop. The pods must have been settled, if only by the
// contestant before: while all is dropped a pod may forget its next hop.
func (b *bed) path(from lab.Pod, to netip.Addr) (index int, p Path, err error) {
	l, err := b.end(from)
	if err != nil {
		return 0, p, err
	}
	index, p = l.Index, Path{FromMAC: l.HardwareAddr, From: from.Addr.Addr(), To: to, MTU: l.MTU}
	err = b.Do(from.Node, func() error {
		hop, err := nextHop(index, p.From, to)
		if err != nil {
			return err
		}
		neighbours, err := netlink.NeighList(index, b.family())
		if err != nil {
			return fmt.Errorf("bench: neighbours of %s: %w", from.Name, err)
		}
		for _, n := range neighbours {
			if a, _ := netip.AddrFromSlice(n.IP); a.Unmap() == hop && len(n.HardwareAddr) == 6 {
				p.ToMAC = n.HardwareAddr
				if b.nextHops == nil {
					b.nextHops = map[string]net.HardwareAddr{}
				}
				b.nextHops[from.Name] = p.ToMAC
				return nil
			}
		}
		if p.ToMAC = b.nextHops[from.Name]; p.ToMAC != nil {
			return nil
		}
		return fmt.Errorf("bench: %s has no neighbour %s", from.Name, hop)
	})
	return index, p, err
}

// nextHop asks the calling thread's namespace for the neighbour that leads to an
// address from one of its interfaces.
func nextHop(index int, from, to netip.Addr) (netip.Addr, error) {
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{SrcAddr: from.AsSlice(), OifIndex: index})
	if err != nil {
		return to, fmt.Errorf("bench: route from %s to %s: %w", from, to, err)
	}
	if hop, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		return hop.Unmap(), nil
	}
	return to, nil
}

// settle lets the pods forget their neighbours and reach each other once, so
// that nothing that the contestant before has answered is of use. Found
// namespaces keep theirs.
func (b *bed) settle(ctx context.Context, c contestant, pairs [][2]lab.Pod) error {
	if b.found == nil {
		for _, pair := range pairs {
			for _, p := range pair {
				if err := b.forget(p); err != nil {
					return err
				}
			}
		}
	}
	for _, pair := range pairs {
		if err := b.reach(ctx, c, pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) forget(p lab.Pod) error {
	return b.Do(p.Node, func() error {
		neighbours, err := netlink.NeighList(0, b.family())
		if err != nil {
			return fmt.Errorf("bench: neighbours of %s: %w", p.Name, err)
		}
		for _, n := range neighbours {
			if n.State&unix.NUD_NOARP != 0 {
				continue
			}
			if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("bench: forget %s in %s: %w", n.IP, p.Name, err)
			}
		}
		return nil
	})
}

// passes is how long a contestant may take until traffic does.
const passes = 5 * time.Second

// reach asks until a datagram has gone there and back.
func (b *bed) reach(ctx context.Context, c contestant, from, to lab.Pod) error {
	ask, end, err := b.asks(from, to, OpenEcho, openUDPAsker)
	if err != nil {
		return err
	}
	defer end()
	for began := time.Now(); time.Since(began) < passes && ctx.Err() == nil; {
		x, err := ask.run(Exchange{Count: 1, Timeout: 100 * time.Millisecond, CPU: -1})
		if err != nil || len(x.Took) > 0 {
			return err
		}
		if err := alive(c); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("bench: no traffic passes: %s (%s) does not reach %s (%s) in %v", from.Name, from.Addr.Addr(), to.Name, to.Addr.Addr(), passes)
}

// asks opens an echo server in one pod and who asks it in the other.
func (b *bed) asks(from, to lab.Pod, open func(netip.Addr) (*Echo, error), dial func(netip.Addr, netip.AddrPort) (*asker, error)) (*asker, func(), error) {
	var echo *Echo
	err := b.Do(to.Node, func() (err error) {
		echo, err = open(to.Addr.Addr())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var ask *asker
	err = b.Do(from.Node, func() (err error) {
		ask, err = dial(from.Addr.Addr(), netip.AddrPortFrom(to.Addr.Addr(), echo.port))
		return err
	})
	if err != nil {
		return nil, nil, errors.Join(err, echo.Close())
	}
	return ask, func() { _ = ask.Close(); _ = echo.Close() }, nil
}

// asksNeighbour opens who asks for the next hop from a pod to another.
func (b *bed) asksNeighbour(p, to lab.Pod) (*asker, error) {
	l, err := b.end(p)
	if err != nil {
		return nil, err
	}
	var ask *asker
	err = b.Do(p.Node, func() error {
		hop, err := nextHop(l.Index, p.Addr.Addr(), to.Addr.Addr())
		if err != nil {
			return err
		}
		request, err := Request(l.HardwareAddr, p.Addr.Addr(), hop)
		if err != nil {
			return err
		}
		ask, err = openNeighbourAsker(l.Index, request, hop)
		return err
	})
	return ask, err
}
