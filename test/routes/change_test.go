package routes

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// moving is an address that two pods have; a route says which gets its packets.
var moving = netip.MustParseAddr("10.20.200.1")

const (
	toggles   = 100
	probeRest = 50 * time.Microsecond // between probes
	patience  = 2 * time.Minute       // where others take the CPUs
)

// arrival is the first packet of a round at one of the pods.
type arrival struct {
	round uint32
	at    time.Time
}

// measureChange moves an address from pod to pod, and gives how long it took
// each time from before the request to the kernel until a packet arrived there,
// sorted.
func measureChange(t testing.TB, l *lab.Lab, from lab.Pod, near, far *netlink.Route, pods [2]lab.Pod) []time.Duration {
	t.Helper()
	addr := netip.AddrPortFrom(moving, streamPort+1)
	var arrivals [2]chan arrival
	for i, p := range pods {
		in := labtest.ListenUDP(t, l, p.Node, addr)
		defer in.Close()
		arrivals[i] = make(chan arrival, 1)
		go firstOfRounds(in, arrivals[i])
	}
	out := labtest.DialUDP(t, l, from.Node, addr)
	defer out.Close()
	var kernel *netlink.Handle
	err := l.Do("host0", func() (err error) {
		kernel, err = netlink.NewHandle()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	var took []time.Duration
	for round := range uint32(toggles) {
		to := round % 2
		began := time.Now()
		if err := kernel.RouteReplace([2]*netlink.Route{near, far}[to]); err != nil {
			t.Fatal(err)
		}
		took = append(took, probe(t, out, arrivals[to], round).Sub(began))
	}
	slices.Sort(took[2:]) // the first of each pod waited for its neighbour
	return took[2:]
}

// probe sends until a packet of the round has arrived, and gives when.
func probe(t testing.TB, out *net.UDPConn, arrivals chan arrival, round uint32) time.Time {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		out.Write(binary.BigEndian.AppendUint32(nil, round))
		// A timer would take a millisecond: so exact is epoll_wait.
		for sent := time.Now(); time.Since(sent) < probeRest; runtime.Gosched() {
			select {
			case a := <-arrivals:
				if a.round == round {
					return a.at
				}
			default:
			}
		}
	}
	t.Fatalf("the change is not followed within %v", patience)
	return time.Time{}
}

// firstOfRounds tells of the first packet of each round.
func firstOfRounds(in *net.UDPConn, arrivals chan arrival) {
	var b [16]byte
	last := ^uint32(0)
	for {
		n, err := in.Read(b[:])
		if err != nil {
			return
		}
		at := time.Now()
		if round := binary.BigEndian.Uint32(b[:]); n >= 4 && round != last {
			last = round
			select { // an earlier round's, which went the old way
			case <-arrivals:
			default:
			}
			arrivals <- arrival{round, at}
		}
	}
}
