package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/engine"
)

// egress follows the kernel's counters of what devices and queueing disciplines
// drop: behind the programs nothing else tells of it.
type egress struct {
	mu   sync.Mutex
	base map[int32]engine.EgressDrops // what there was when it began
	last map[int32]engine.EgressDrops // since then, by interface
	gone engine.EgressDrops           // of interfaces that have left
}

func newEgress() (*egress, error) {
	base, err := readEgress()
	return &egress{base: base, last: map[int32]engine.EgressDrops{}}, err
}

// readEgress reads those counters of all interfaces, and nothing else of them: with
// a thousand interfaces the whole descriptions cost twenty times as much.
func readEgress() (map[int32]engine.EgressDrops, error) {
	all := map[int32]engine.EgressDrops{}
	stats := nl.NewNetlinkRequest(unix.RTM_GETSTATS, unix.NLM_F_DUMP)
	stats.AddRawData(statsRequest[:])
	messages, err := stats.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWSTATS)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("counters of interfaces: %w", err)
	}
	for _, m := range messages {
		if ifindex, dropped, ok := deviceDrops(m); ok {
			all[ifindex] = engine.EgressDrops{Device: dropped}
		}
	}
	qdiscs := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
	qdiscs.AddRawData(make([]byte, tcmsgLen))
	messages, err = qdiscs.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("counters of queueing disciplines: %w", err)
	}
	for _, m := range messages {
		if ifindex, dropped, ok := qdiscDrops(m); ok {
			d := all[ifindex]
			d.Qdisc += dropped
			all[ifindex] = d
		}
	}
	return all, nil
}

// Layouts of include/uapi/linux/if_link.h, rtnetlink.h, pkt_sched.h and gen_stats.h,
// in the host's byte order.
const (
	statsmsgLen   = 12 // struct if_stats_msg: ifindex at 4, filter_mask at 8
	statsLink64   = 1  // IFLA_STATS_LINK_64, a struct rtnl_link_stats64
	atTxDropped   = 7 * 8
	tcmsgLen      = 20 // struct tcmsg: ifindex at 4, parent at 12
	tcaStats2     = 7  // TCA_STATS2
	tcaStatsQueue = 3  // TCA_STATS_QUEUE, a struct gnet_stats_queue
	atQueueDrops  = 2 * 4
)

// statsRequest is a struct if_stats_msg that asks for IFLA_STATS_LINK_64 alone.
var statsRequest = func() (b [statsmsgLen]byte) {
	binary.NativeEndian.PutUint32(b[8:], 1<<(statsLink64-1))
	return b
}()

// deviceDrops reads RTM_NEWSTATS.
func deviceDrops(m []byte) (ifindex int32, dropped uint64, ok bool) {
	if len(m) < statsmsgLen {
		return 0, 0, false
	}
	stats := attribute(m[statsmsgLen:], statsLink64)
	if len(stats) < atTxDropped+8 {
		return 0, 0, false
	}
	return int32(binary.NativeEndian.Uint32(m[4:])), binary.NativeEndian.Uint64(stats[atTxDropped:]), true
}

// qdiscDrops reads RTM_NEWQDISC of a root, which counts for those below it.
func qdiscDrops(m []byte) (ifindex int32, dropped uint64, ok bool) {
	if len(m) < tcmsgLen || binary.NativeEndian.Uint32(m[12:]) != netlink.HANDLE_ROOT {
		return 0, 0, false
	}
	queue := attribute(attribute(m[tcmsgLen:], tcaStats2), tcaStatsQueue)
	if len(queue) < atQueueDrops+4 {
		return 0, 0, false
	}
	return int32(binary.NativeEndian.Uint32(m[4:])), uint64(binary.NativeEndian.Uint32(queue[atQueueDrops:])), true
}

// attribute gives the payload of the first attribute of that type, nil if there is
// none.
func attribute(b []byte, typ uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == typ {
			return b[unix.SizeofRtAttr:length]
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}

// update brings last up to date: of interfaces that serves names. A counter that
// has begun anew, as a queueing discipline's that was replaced, goes on from
// what it was.
func (g *egress) update(now map[int32]engine.EgressDrops, serves func(ifindex int32) bool) {
	for ifindex, was := range g.last {
		if _, there := now[ifindex]; !there {
			g.gone.Add(was)
			delete(g.last, ifindex)
		}
	}
	for ifindex, is := range now {
		base := g.base[ifindex]
		if serves(ifindex) {
			d := g.last[ifindex]
			d.Device += since(is.Device, base.Device)
			d.Qdisc += since(is.Qdisc, base.Qdisc)
			g.last[ifindex] = d
		}
	}
	g.base = now
}

// since is by how much a counter has grown.
func since(is, was uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

// read gives what has been dropped on each interface, and on all, those that have
// left included.
func (g *egress) read(serves func(ifindex int32) bool) (each map[int32]engine.EgressDrops, sum engine.EgressDrops, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, err := readEgress()
	if err != nil {
		return nil, sum, err
	}
	g.update(now, serves)
	each, sum = make(map[int32]engine.EgressDrops, len(g.last)), g.gone
	for ifindex, d := range g.last {
		each[ifindex] = d
		sum.Add(d)
	}
	return each, sum, nil
}
