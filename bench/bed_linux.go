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

var gateway = netip.MustParseAddr("169.254.1.1")

// bed is the lab that contestants take turns in: two hosts, Calico-like pods.
type bed struct {
	*lab.Lab
	bin string // of proxyarpd
	dir string // of control sockets and logs

	gateways map[string]net.HardwareAddr // what each pod last learned of its gateway
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

// end is a pod's interface as the pod sees it.
func (b *bed) end(p lab.Pod) (index int, mac net.HardwareAddr, err error) {
	err = b.Do(p.Node, func() error {
		l, err := net.InterfaceByName(p.Peer)
		if err != nil {
			return fmt.Errorf("bench: %s in %s: %w", p.Peer, p.Node, err)
		}
		index, mac = l.Index, l.HardwareAddr
		return nil
	})
	return index, mac, err
}

// path is how frames go from one pod to another: by the MAC that the pod has
// learned for its gateway. The pods must have been settled, if only by the
// contestant before: while all is dropped a pod may forget its gateway.
func (b *bed) path(from, to lab.Pod) (index int, p Path, err error) {
	index, mac, err := b.end(from)
	if err != nil {
		return 0, p, err
	}
	p = Path{FromMAC: mac, From: from.Addr.Addr(), To: to.Addr.Addr()}
	err = b.Do(from.Node, func() error {
		neighbours, err := netlink.NeighList(index, netlink.FAMILY_V4)
		if err != nil {
			return fmt.Errorf("bench: neighbours of %s: %w", from.Name, err)
		}
		for _, n := range neighbours {
			if a, _ := netip.AddrFromSlice(n.IP); a.Unmap() == gateway && len(n.HardwareAddr) == 6 {
				p.ToMAC = n.HardwareAddr
				if b.gateways == nil {
					b.gateways = map[string]net.HardwareAddr{}
				}
				b.gateways[from.Name] = p.ToMAC
				return nil
			}
		}
		if p.ToMAC = b.gateways[from.Name]; p.ToMAC != nil {
			return nil
		}
		return fmt.Errorf("bench: %s has no neighbour %s", from.Name, gateway)
	})
	return index, p, err
}

// settle lets the pods forget their neighbours and reach each other once, so
// that nothing that the contestant before has answered is of use.
func (b *bed) settle(ctx context.Context, pairs ...[2]lab.Pod) error {
	for _, pair := range pairs {
		for _, p := range pair {
			if err := b.forget(p); err != nil {
				return err
			}
		}
	}
	for _, pair := range pairs {
		if err := b.reach(ctx, pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) forget(p lab.Pod) error {
	return b.Do(p.Node, func() error {
		neighbours, err := netlink.NeighList(0, netlink.FAMILY_V4)
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

// reach asks until a datagram has gone there and back.
func (b *bed) reach(ctx context.Context, from, to lab.Pod) error {
	ask, end, err := b.pingPong(from, to)
	if err != nil {
		return err
	}
	defer end()
	for began := time.Now(); time.Since(began) < 5*time.Second && ctx.Err() == nil; {
		x, err := ask.run(Exchange{Count: 1, Timeout: 100 * time.Millisecond, CPU: -1})
		if err != nil || len(x.Took) > 0 {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("bench: %s (%s) does not reach %s (%s) in 5 s", from.Name, from.Addr, to.Name, to.Addr)
}

// pingPong opens an echo server in one pod and who asks it in the other.
func (b *bed) pingPong(from, to lab.Pod) (*asker, func(), error) {
	var echo *Echo
	err := b.Do(to.Node, func() (err error) {
		echo, err = OpenEcho(to.Addr.Addr())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var ask *asker
	err = b.Do(from.Node, func() (err error) {
		ask, err = openUDPAsker(from.Addr.Addr(), to.Addr.Addr())
		return err
	})
	if err != nil {
		return nil, nil, errors.Join(err, echo.Close())
	}
	return ask, func() { _ = ask.Close(); _ = echo.Close() }, nil
}

// asksARP opens who asks for the gateway from a pod.
func (b *bed) asksARP(p lab.Pod) (*asker, error) {
	index, mac, err := b.end(p)
	if err != nil {
		return nil, err
	}
	request, err := ARPRequest(mac, p.Addr.Addr(), gateway)
	if err != nil {
		return nil, err
	}
	var ask *asker
	err = b.Do(p.Node, func() error {
		ask, err = openARPAsker(index, request)
		return err
	})
	return ask, err
}

// generator opens a generator in a pod.
func (b *bed) generator(p lab.Pod, index int, frames [][]byte, numbered bool) (g *Generator, err error) {
	err = b.Do(p.Node, func() error {
		g, err = OpenGenerator(index, frames, numbered)
		return err
	})
	return g, err
}
