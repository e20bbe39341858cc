package failure

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// attackFor is how long TestAttack lets its attackers go on.
var attackFor = flag.Duration("attack", 3*time.Second, "how long TestAttack's attackers go on")

// What TestAttack demands. docs/RUN.md says what was measured; these bounds are
// those that no machine with other work may exceed.
const (
	attackGrowth = 32.0 // MB, at most, beyond the calm daemon's resident memory
	attackStays  = 8.0  // MB of it that may stay
	attackWithin = 500 * time.Millisecond
)

// TestAttack has one pod flood with ARP, another with garbage and fragments, a third
// open every destination of a /12, and a fourth flap its link, all at once, while two others
// measure ARP answers and round trips. These lose nothing, the daemon's memory
// is bounded, and goes back.
func TestAttack(t *testing.T) {
	// Attackers that never sleep must not keep those who measure from running.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	l := hosts(t, 2, 7)
	all := pods(l, 0)
	arper, garbler, opener, flapper, from, to := all[0], all[1], all[2], all[3], all[4], all[5]
	p := serve(t, l)[0]
	run(t, l, "host0", "ip route add 10.96.0.0/16 dev ens192")
	for _, pod := range all[1:] {
		labtest.Warm(t, l, from.Node, ip(pod))
	}
	calm := measured(t, l, from, to, *attackFor)
	before := rss(t, p)
	forgetPeak(t, p)

	overflowed := nstest.BacklogDrops(t)
	var attack attackers
	attack.flood(t, l, arper, requests(t, arper)...)
	attack.flood(t, l, garbler, garbage(t, garbler, from)...)
	attack.flood(t, l, opener, openings(t, opener)...)
	attack.flaps(t, l, flapper)
	under := measured(t, l, from, to, *attackFor)
	sent := attack.stop()
	peak := peakRSS(t, p)
	s := alive(t, p)
	t.Logf("calm:   %v", calm)
	t.Logf("attack: %v; %d frames and flaps", under, sent)
	t.Logf("ARP %v; drops %v; neighbours asked %d, refused %d, overflow %d", s.ARP.Verdicts, s.Forward.Drops, s.Kernel.Resolved, s.Kernel.Refused, s.Kernel.NoneQueued)
	for _, m := range []struct {
		what string
		measurement
	}{{"round trips", under.udp}, {"ARP answers", under.arp}} {
		if nstest.Unexplained(t, m.lost, m.sent, overflowed) > 0 || m.percentile(50) > attackWithin {
			t.Errorf("%s beside the attack: %v", m.what, m.measurement)
		}
	}
	if peak > before+attackGrowth {
		t.Errorf("resident memory grew from %.1f MB to %.1f MB", before, peak)
	}
	var after float64
	if !labtest.Within(patience, func() bool { after = rss(t, p); return after <= before+attackStays }) {
		t.Errorf("resident memory is %.1f MB after the attack, %.1f MB before", after, before)
	}
	t.Logf("resident memory: %.1f MB calm, %.1f MB at most, %.1f MB after", before, peak, after)
	await(t, "all that waited has ended", func() bool {
		s := status(t, p)
		return s.Forward.PacketsIn+s.Forward.Drops["FULL_RING"] == admitted(s) && s.Forward.Waiting == 0
	})
	balanced(t, p)
}

// admitted is what the ring's filter let in.
func admitted(s *daemon.Status) (n uint64) {
	for _, w := range append(s.Workloads, s.Uplinks...) {
		n += w.Received + w.Carried
	}
	return n
}

// requests are a pod's for its gateway, for what nobody has, and from addresses that it has not.
func requests(t testing.TB, pod lab.Pod) (all [][]byte) {
	for n := range 4096 {
		all = append(all, whoHas(t, pod, "169.254.1.1"), whoHas(t, pod, fmt.Sprintf("10.97.%d.%d", n>>8, n&255)))
		spoofed := whoHas(t, pod, "169.254.1.1")
		binary.BigEndian.PutUint32(spoofed[len(spoofed)-wire.ARPLen+14:], 10<<24|98<<16|uint32(n))
		all = append(all, spoofed)
	}
	return all
}

// garbage is what no honest sender sends, and fragments whose datagrams never get whole.
func garbage(t testing.TB, pod, victim lab.Pod) (all [][]byte) {
	own, to := pod.Addr.Addr().As4(), victim.Addr.Addr().As4()
	ours := mac(t, answerMAC)
	h := &hostile{Rand: rand.New(rand.NewPCG(14, 2)), mac: [][6]byte{ours, ours, ours, ours, {255, 255, 255, 255, 255, 255}}, from: [][4]byte{own, own, own, {1, 2, 3, 4}},
		addr: [][4]byte{to, {10, 99, 0, 1}, {127, 0, 0, 1}, {224, 0, 0, 1}, own}}
	for range 2048 {
		all = append(all, h.frame(false))
		b := datagram(t, pod, ip(victim))
		f := wire.Ethernet(b[len(b)-wire.EthernetLen-wire.IPv4MinLen-26:]).Payload()
		wire.PutIPv4(f, 0, len(f), uint16(h.Uint32()), uint16(0x2000|h.IntN(64)), 64, wire.ProtoUDP, own, to) // more fragments
		all = append(all, b)
	}
	return all
}

// openings are datagrams to every address of 10.96.0.0/16, no two in a row beside each other.
func openings(t testing.TB, pod lab.Pod) (all [][]byte) {
	const step = 40503 // odd: every address in turn
	for n := range 1 << 16 {
		a := uint16(n * step)
		all = append(all, datagram(t, pod, netip.AddrFrom4([4]byte{10, 96, byte(a >> 8), byte(a)}).String()))
	}
	return all
}

// attackers are all that are at work.
type attackers struct {
	floods  []*flood
	end     chan struct{}
	wg      sync.WaitGroup
	flapped uint64
}

func (a *attackers) flood(t testing.TB, l *lab.Lab, from lab.Pod, frames ...[]byte) {
	a.floods = append(a.floods, startFlood(t, l, from, frames...))
}

// flaps takes the pod's end of a veth down and up.
func (a *attackers) flaps(t testing.TB, l *lab.Lab, pod lab.Pod) {
	a.end = make(chan struct{})
	a.wg.Go(func() {
		err := l.Do(pod.Node, func() error {
			link, err := netlink.LinkByName(pod.Peer)
			for err == nil {
				select {
				case <-a.end:
					return nil
				default:
				}
				err = errors.Join(netlink.LinkSetDown(link), netlink.LinkSetUp(link))
				a.flapped++
			}
			return err
		})
		if err != nil {
			t.Errorf("flap: %v", err)
		}
	})
}

func (a *attackers) stop() (sent uint64) {
	close(a.end)
	for _, f := range a.floods {
		sent += f.stop()
	}
	a.wg.Wait()
	return sent + a.flapped
}

// measurement is how answers came.
type measurement struct {
	sent, lost int
	times      []time.Duration // sorted
}

func (m measurement) percentile(n int) time.Duration {
	if len(m.times) == 0 {
		return time.Hour
	}
	return m.times[n*(len(m.times)-1)/100]
}

func (m measurement) String() string {
	return fmt.Sprintf("%d, %d lost, p50 %v, p99 %v, longest %v", m.sent, m.lost, m.percentile(50).Round(time.Microsecond), m.percentile(99).Round(time.Microsecond), m.percentile(100).Round(time.Microsecond))
}

type measurements struct{ udp, arp measurement }

func (m measurements) String() string { return fmt.Sprintf("round trips %v; ARP %v", m.udp, m.arp) }

// measured asks, for so long, every 2 ms and one at a time, for the gateway's MAC and for an echo of another pod's.
func measured(t testing.TB, l *lab.Lab, from, to lab.Pod, long time.Duration) (m measurements) {
	t.Helper()
	at := netip.AddrPortFrom(to.Addr.Addr(), 7)
	server := labtest.ListenUDP(t, l, to.Node, at)
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [64]byte
		for {
			n, who, err := server.ReadFromUDPAddrPort(b[:])
			if err != nil {
				return
			}
			_, _ = server.WriteToUDPAddrPort(b[:n], who)
		}
	})
	client := labtest.DialUDP(t, l, from.Node, at)
	fd := arpSocket(t, l, from)
	defer unix.Close(fd)
	request := whoHas(t, from, "169.254.1.1")
	request = request[len(request)-wire.EthernetLen-wire.ARPLen:] // without the virtio_net_hdr
	var both sync.WaitGroup
	both.Go(func() {
		var b [64]byte
		m.udp = asking(long, func(n uint32, patience time.Duration) bool {
			if _, err := client.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
				return false
			}
			_ = client.SetReadDeadline(time.Now().Add(patience))
			for {
				size, err := client.Read(b[:])
				if err != nil {
					return false
				}
				if size == 4 && binary.BigEndian.Uint32(b[:]) == n {
					return true
				}
			}
		})
	})
	both.Go(func() {
		var b [128]byte
		m.arp = asking(long, func(_ uint32, patience time.Duration) bool {
			if _, err := unix.Write(fd, request); err != nil {
				return false
			}
			for end := time.Now().Add(patience); time.Now().Before(end); {
				n, err := unix.Read(fd, b[:]) // waits 100 ms at most
				if a := wire.ARP(b[wire.EthernetLen:max(n, wire.EthernetLen)]); err == nil && a.Valid() && a.Op() == wire.ARPReply {
					return true
				}
			}
			return false
		})
	})
	both.Wait()
	server.Close()
	wg.Wait()
	return m
}

// asking asks for so long, one question after another.
func asking(long time.Duration, ask func(n uint32, patience time.Duration) bool) (m measurement) {
	const pause, patience = 2 * time.Millisecond, 2 * time.Second
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(pause) {
		began := time.Now()
		m.sent++
		if !ask(uint32(m.sent), patience) {
			m.lost++
			continue
		}
		m.times = append(m.times, time.Since(began))
	}
	slices.Sort(m.times)
	return m
}

// arpSocket is one of a pod's that gets what ARP comes to it.
func arpSocket(t testing.TB, l *lab.Lab, pod lab.Pod) (fd int) {
	t.Helper()
	err := l.Do(pod.Node, func() error {
		ifi, err := net.InterfaceByName(pod.Peer)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		arp := uint16(unix.ETH_P_ARP)
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arp<<8 | arp>>8, Ifindex: ifi.Index}))
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// forgetPeak has the kernel begin anew with the peak of a daemon's resident memory (clear_refs, proc(5)).
func forgetPeak(t testing.TB, p *labtest.Process) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.Cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}
