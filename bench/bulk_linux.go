package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// bulk are many workload interfaces, made as fast as netlink goes: the host's
// ends on host0, the other ends all in one pod's namespace.
type bulk struct {
	bed           *bed
	pod           lab.Pod
	hostNL, podNL *netlink.Handle
	podFd         *int // of the pod's namespace
	links         []bulkLink
	both          int // the first of them that are dual-stack
}

type bulkLink struct {
	host *netlink.Veth
	end  int // interface index in the pod's namespace
	mac  net.HardwareAddr
	addr netip.Addr // of the family that is measured
}

// bulkAddrs are the addresses of the nth workload, IPv4 and IPv6.
func bulkAddrs(n int) (v4, v6 netip.Addr) {
	high, low := byte(n/250), byte(1+n%250)
	return netip.AddrFrom4([4]byte{10, 66, high, low}), netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x10, 5: 0x66, 14: high, 15: low})
}

// openBulk prepares to make interfaces between host0 and a pod.
func openBulk(b *bed, pod lab.Pod) (*bulk, error) {
	k := &bulk{bed: b, pod: pod}
	open := func(node string, h **netlink.Handle, fd **int) error {
		return b.Do(node, func() (err error) {
			if *h, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
				return fmt.Errorf("bench: rtnetlink: %w", err)
			}
			if fd != nil {
				n, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return fmt.Errorf("bench: namespace: %w", err)
				}
				*fd = &n
			}
			return nil
		})
	}
	err := open(host(0), &k.hostNL, nil)
	if err == nil {
		err = open(pod.Node, &k.podNL, &k.podFd)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// add makes one interface pair, the pod's end up and the host's not yet.
func (k *bulk) add() (*bulkLink, error) {
	n := len(k.links)
	l := bulkLink{mac: net.HardwareAddr{0x02, 0xbe, 0, 0, byte(n >> 8), byte(n)}}
	v4, v6 := bulkAddrs(n)
	if l.addr = v4; k.bed.ipv6 {
		l.addr = v6
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = fmt.Sprintf("calibulk%06d", n), bulkGroup
	attrs.HardwareAddr = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	l.host = netlink.NewVeth(attrs)
	l.host.PeerName, l.host.PeerHardwareAddr = fmt.Sprintf("bulk%d", n), l.mac
	l.host.PeerNamespace = netlink.NsFd(*k.podFd)
	if err := k.hostNL.LinkAdd(l.host); err != nil {
		return nil, fmt.Errorf("bench: make %s: %w", attrs.Name, err)
	}
	k.links = append(k.links, l)
	made, err := k.hostNL.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", attrs.Name, err)
	}
	end, err := k.podNL.LinkByName(l.host.PeerName)
	if err == nil {
		err = k.podNL.LinkSetUp(end)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", l.host.PeerName, err)
	}
	at := &k.links[n]
	at.host.Index, at.end = made.Attrs().Index, end.Attrs().Index
	return at, nil
}

// up brings the host's end up, and nothing else.
func (k *bulk) up(l *bulkLink) error {
	if err := k.hostNL.LinkSetUp(l.host); err != nil {
		return fmt.Errorf("bench: set %s up: %w", l.host.Name, err)
	}
	return nil
}

// route leads to the pod, as the CNI plug-in would have it.
func (k *bulk) route(l *bulkLink) error {
	r := &netlink.Route{LinkIndex: l.host.Index, Scope: netlink.SCOPE_LINK, Dst: hostNet(l.addr)}
	if err := k.hostNL.RouteAdd(r); err != nil {
		return fmt.Errorf("bench: route to %s: %w", l.addr, err)
	}
	return nil
}

// settle gives the pod's end its address and the host its MAC, for good: the kernel keeps at most gc_thresh3 (1024)
// neighbours for all namespaces together, permanent ones not counted.
func (k *bulk) settle(l *bulkLink) error {
	if err := k.podNL.AddrAdd(l.podEnd(), &netlink.Addr{IPNet: hostNet(l.addr)}); err != nil {
		return fmt.Errorf("bench: address %s: %w", l.addr, err)
	}
	if err := k.hostNL.NeighSet(l.neighbour(l.addr)); err != nil {
		return fmt.Errorf("bench: neighbour %s: %w", l.addr, err)
	}
	return nil
}

func (l *bulkLink) podEnd() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.end}}
}

func (l *bulkLink) neighbour(a netip.Addr) *netlink.Neigh {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	return &netlink.Neigh{LinkIndex: l.host.Index, Family: family, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: l.mac}
}

// dual has the first n workloads have an address of the other family, too.
func (k *bulk) dual(ctx context.Context, n int) error {
	for ; k.both < n; k.both++ {
		l := k.links[k.both]
		if v4, v6 := bulkAddrs(k.both); k.bed.ipv6 {
			l.addr = v4
		} else {
			l.addr = v6
		}
		if err := errors.Join(k.route(&l), k.settle(&l)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// grow makes interfaces until there are n, all of them up, routed to and settled.
func (k *bulk) grow(ctx context.Context, n int) error {
	for len(k.links) < n {
		l, err := k.add()
		if err == nil {
			err = k.up(l)
		}
		if err == nil {
			err = k.route(l)
		}
		if err == nil {
			err = k.settle(l)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (k *bulk) addresses() (all []netip.Addr) {
	for _, l := range k.links {
		all = append(all, l.addr)
	}
	return all
}

// reach sends to each address until each has got something.
func (k *bulk) reach(ctx context.Context, b *bed, c contestant) (err error) {
	const perSecond = 20000
	to := k.addresses()
	var sink *Sink
	err = b.Do(k.pod.Node, func() (err error) {
		sink, err = OpenSink(unspecified(to[0]), len(to), 1<<16)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	var g generators
	defer func() { err = errors.Join(err, g.close()) }()
	if err := openGenerators(b, load{senders: b.senders(1), to: to, flows: len(to), sizes: []int{leastFrame(b.ipv6)}}, sink.Port(), &g); err != nil {
		return err
	}
	seen := 0
	for began := time.Now(); time.Since(began) < passes && ctx.Err() == nil; {
		if err := g.start(perSecond, uint64(len(to))); err != nil {
			return err
		}
		g.all[0].Wait()
		time.Sleep(repeated)
		if seen, err = sink.Flows(); err != nil || seen == len(to) {
			return err
		}
		if err := alive(c); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("bench: no traffic passes to %d of %d workloads in %v", len(to)-seen, len(to), passes)
}

// bulkGroup is the group of the hosts' ends (ip-link(8)), by which they are removed: one by one takes a grace period each.
const bulkGroup = 7777

// Close removes the interfaces.
func (k *bulk) Close() error {
	var err error
	if len(k.links) > 0 {
		err = k.bed.Do(host(0), func() error {
			req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
			req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
			req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(bulkGroup)))
			if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
				return fmt.Errorf("bench: remove the interfaces: %w", err)
			}
			return nil
		})
	}
	return errors.Join(err, k.release())
}

// release leaves the interfaces to the lab's end.
func (k *bulk) release() error {
	for _, h := range []*netlink.Handle{k.hostNL, k.podNL} {
		if h != nil {
			h.Close()
		}
	}
	if k.podFd == nil {
		return nil
	}
	return unix.Close(*k.podFd)
}

// bulkBed is a lab whose host0 has no workloads but those that are made in bulk.
func (r *run) bulkBed() (*bed, error) { return r.bulkBedWith(lab.NoPods) }

// bulkBedWithSenders has those of the shared lab, too.
func (r *run) bulkBedWithSenders() (*bed, error) { return r.bulkBedWith(podsPerHost()) }

func (r *run) bulkBedWith(pods int) (*bed, error) {
	b, err := r.newBed(pods)
	if err != nil {
		return nil, err
	}
	pod, err := b.AddPod(r.ctx, 1, lab.PodOptions{}) // its namespace holds the other ends
	if err == nil {
		b.bulk, err = openBulk(b, pod)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}
