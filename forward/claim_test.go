package forward_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// The eBPF decision is the table's, over random hosts and frames: the ring's own
// filter, on a socket, and frames over a wire.
func TestClaimDecidesAsTable(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) { decidesAsTable(t, false) })
	t.Run("IPv6", func(t *testing.T) { decidesAsTable(t, true) })
}

func decidesAsTable(t *testing.T, six bool) {
	nstest.Enter(t)
	set, err := claim.Load(claim.Config{ARP: claim.ARPPolice{PerSecond: 1, Burst: 1}, IPv6: true})
	if errors.Is(err, claim.ErrNotSupported) {
		nstest.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	nstest.NoIPv6()
	w := newWire(t, set)
	w.six = six
	ifindex := w.to
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := map[route.Verdict]int{}
	for range nstest.Rounds(300) {
		world := forward.NewTestWorld(rng)
		publish, draw := world.Publish, world.Packet
		if six {
			publish, draw = world.Publish6, world.Packet6
		}
		table := publish(func(p netip.Prefix, c route.Class) {
			if err := set.SetClass(p, claim.Class(c)); err != nil {
				t.Fatal(err)
			}
		})
		for range 40 {
			in, packet := draw(rng, table)
			if in == nil {
				continue
			}
			slot, err := set.SetPort(claim.Port{Ifindex: ifindex, Forward: true, IPv6: true, Workload: in.Workload(), Anywhere: in.Workload() || world.Transit(),
				KernelForwards: in.KernelForwards(), KernelForwards6: in.KernelForwards6(), Quota: 1 << 30, L2Len: wire.EthernetLen})
			if err != nil {
				t.Fatal(err)
			}
			var want route.Verdict
			if six {
				want = table.OwnerOf(wire.IPv6(packet).DstAddr(), in)
			} else {
				want = world.OwnerByDestination(table, in, packet)
			}
			if got := w.decide(packet, slot); got != want {
				t.Fatalf("%v, want %v\nfrom %s, flags %b\n% x\n%v", got, want, in.Name, in.Flags, packet, world)
			}
			counts[want]++
		}
		world.Forget(func(p netip.Prefix) {
			if err := set.SetClass(p, 0); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Log(counts)
	for _, v := range []route.Verdict{route.NotSpecified, route.Local, route.Punt, route.PuntTransit} {
		if counts[v] == 0 {
			t.Errorf("never came to %v", v)
		}
	}
}

// wire is two ends of a veth: what is sent on the one is decided about at the
// other, where the set's filter is.
type decidingWire struct {
	t        *testing.T
	set      *claim.Set
	from, to int32
	mac      [6]byte
	send     int
	six      bool // what is sent is IPv6
}

func newWire(t *testing.T, set *claim.Set) *decidingWire {
	t.Helper()
	w := &decidingWire{t: t, set: set}
	w.from, w.to = nstest.Veth(t, "a", "b")
	b, err := net.InterfaceByIndex(int(w.to))
	if err != nil {
		t.Fatal(err)
	}
	w.mac = [6]byte(b.HardwareAddr)
	const all, nothing = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, 0
	for _, s := range []struct {
		protocol uint16
		ifindex  int32
		fd       *int
	}{{all, w.to, new(int)}, {nothing, w.from, &w.send}} {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil && s.protocol == all {
			err = set.AttachRing(fd)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: s.protocol, Ifindex: int(s.ifindex)})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		*s.fd = fd
	}
	return w
}

// decide sends a packet over the wire: NotSpecified if the filter took it.
func (w *decidingWire) decide(packet []byte, slot uint32) route.Verdict {
	w.t.Helper()
	before := w.set.Counters(w.to)
	frame := append(append(append([]byte(nil), w.mac[:]...), 2, 0, 0, 0, 0, 9, 0, 0), packet...)
	binary.BigEndian.PutUint16(frame[12:], uint16(wire.EtherTypeIPv4))
	if w.six {
		binary.BigEndian.PutUint16(frame[12:], uint16(wire.EtherTypeIPv6))
	}
	if _, err := unix.Write(w.send, frame); err != nil {
		w.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		after := w.set.Counters(w.to)
		if after.Admitted > before.Admitted {
			w.set.Window(0).Consume(slot)
			w.set.Window(0).Say() // else a slow machine's reader counts as stalled
			return route.NotSpecified
		}
		for owner, v := range map[claim.Owner]route.Verdict{claim.Local: route.Local, claim.Punted: route.Punt, claim.Transit: route.PuntTransit} {
			if after.Left[owner] > before.Left[owner] {
				return v
			}
		}
	}
	w.t.Fatalf("nothing was counted of % x", packet)
	return 0
}
