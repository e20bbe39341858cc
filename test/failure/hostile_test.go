package failure

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// hostile makes frames that no honest sender sends.
type hostile struct {
	*rand.Rand
	mac  [][6]byte // that mean something here, and others
	from [][4]byte
	addr [][4]byte
}

func pick[T any](h *hostile, of ...T) T { return of[h.IntN(len(of))] }

func (h *hostile) bytes(b []byte) {
	for i := range b {
		b[i] = byte(h.Uint32())
	}
}

// frame makes one, with a virtio_net_hdr before it.
func (h *hostile) frame(gso bool) []byte {
	length := pick(h, 60, 60, 60, 60, 60, 60, 74, 200, 200, 1000, 1514, 14, 20, 33, 34, 35, 54)
	b := make([]byte, pktring.VnetLen+length)
	f := b[pktring.VnetLen:]
	h.bytes(f)
	dst, src := pick(h, h.mac...), pick(h, h.mac...)
	copy(f, dst[:])
	copy(f[6:], src[:])
	protocol := uint16(0x0800)
	if h.IntN(8) == 0 {
		protocol = pick(h, 0x0806, 0x8100, 0x88a8, 0x86dd, 0x0000, 0x0026, 0x8847, 0xffff, uint16(h.Uint32()))
	}
	binary.BigEndian.PutUint16(f[12:], protocol)
	if h.IntN(8) > 0 && len(f) >= 34 {
		h.ipv4(f[14:])
	}
	if gso {
		h.vnet(b)
	}
	return b
}

// vnet makes a virtio_net_hdr, half of them such as the kernel takes.
func (h *hostile) vnet(b []byte) {
	fields := []uint16{54, pick[uint16](h, 1, 8, 500, 1448), 34, pick[uint16](h, 6, 16)}
	b[0], b[1] = 1, pick[byte](h, 1, 1, 5, 5, 3, 0x81)
	if h.IntN(2) == 0 {
		b[0], b[1] = pick[byte](h, 0, 1, 2, byte(h.Uint32())), pick[byte](h, 0, 1, 3, 4, 5, byte(h.Uint32()))
		fields = []uint16{pick[uint16](h, 0, 34, 42, uint16(h.Uint32())), pick[uint16](h, 0, 1, 65535),
			pick[uint16](h, 0, 14, 34, uint16(h.IntN(1600))), pick[uint16](h, 0, 6, 16, uint16(h.Uint32()))}
	}
	for i, v := range fields {
		binary.NativeEndian.PutUint16(b[2+2*i:], v)
	}
}

// ipv4 makes what is there almost a datagram.
func (h *hostile) ipv4(p []byte) {
	p[0] = 0x45
	if h.IntN(4) == 0 {
		p[0] = pick[byte](h, 0x46, 0x48, 0x4f, 0x44, 0x40, 0x65, byte(h.Uint32()))
	}
	total := uint16(len(p))
	if h.IntN(8) == 0 {
		total = pick(h, total+1, total-1, 20, 19, 0, 65535, uint16(h.Uint32()))
	}
	binary.BigEndian.PutUint16(p[2:], total)
	binary.BigEndian.PutUint16(p[6:], pick(h, 0, 0, 0, 0x4000, 0x4000, 0x2000, 0x2001, 0x1fff, 0x8000, uint16(h.Uint32())))
	p[8] = pick[byte](h, 64, 64, 64, 2, 1, 0, 255)
	p[9] = pick[byte](h, 1, 6, 17, 17, 132, 4, 41, 47, byte(h.Uint32()))
	src, dst := pick(h, h.from...), pick(h, h.addr...)
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	if header := int(p[0]&15) * 4; header >= 20 && header <= len(p) && h.IntN(8) > 0 {
		if header > 20 { // options: router alert, record route, source routes, timestamp, no end, lengths of all kinds
			copy(p[20:header], []byte{pick[byte](h, 148, 7, 131, 137, 68, 0, 1, byte(h.Uint32())), byte(h.IntN(45)), byte(h.IntN(12))})
		}
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], wire.Checksum(p[:header]))
	}
}

// TestHostileFrames floods from a pod with what a fuzzer would send. Whatever
// it is, each frame that was taken ends in one verdict.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	const frames, gsoFrames, perMS = 200_000, 50_000, 192
	seed := uint64(0x70617270) // found something? then say so in the test's name
	t.Logf("seed %#x", seed)
	l := hosts(t, 1, 4)
	all := pods(l, 0)
	p := serve(t, l)[0]
	for _, route := range []string{"blackhole 10.70.0.0/24", "unreachable 10.71.0.0/24", "prohibit 10.72.0.0/24", "throw 10.73.0.0/24"} {
		run(t, l, "host0", "ip route add "+route)
	}
	run(t, l, "host0", "ip link set mtu 600 dev "+all[3].Iface)
	for _, pod := range all[1:] { // so that every next hop is known
		run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(pod))
	}
	h := &hostile{Rand: rand.New(rand.NewPCG(seed, 1)), mac: [][6]byte{{255, 255, 255, 255, 255, 255}, {1, 0, 0x5e, 0, 0, 1}, {2, 9, 9, 9, 9, 9}, {}}}
	ours := mac(t, answerMAC)
	for range 20 {
		h.mac = append(h.mac, ours)
	}
	h.mac = append(h.mac, mac(t, all[0].PeerMAC), mac(t, all[0].MAC))
	for _, a := range []string{"10.70.0.1", "10.71.0.1", "10.72.0.1", "10.73.0.1", "10.99.0.1", "192.168.1.32", "169.254.1.1", "0.0.0.0", "0.1.2.3", "127.0.0.1",
		"224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"} {
		h.addr = append(h.addr, [4]byte(net.ParseIP(a).To4()))
	}
	for range 5 {
		for _, pod := range all {
			h.addr = append(h.addr, pod.Addr.Addr().As4())
		}
	}
	for range len(h.addr) { // else source validation is all there is to see
		h.from = append(h.from, all[0].Addr.Addr().As4())
	}
	h.from = append(h.from, h.addr...)
	ping := startPing(t, l, all[1], ip(all[2]), 10*time.Millisecond)
	throw(t, l, all[0], frames, perMS, func() []byte { return h.frame(false) })
	balanced(t, p)
	s := alive(t, p)
	var admitted uint64
	for _, w := range append(s.Workloads, s.Uplinks...) {
		admitted += w.Received + w.Carried
	}
	t.Logf("admitted %d, in %d; %v, drops %v; ARP %v", admitted, s.Forward.PacketsIn, s.Forward.Verdicts, s.Forward.Drops, s.ARP.Verdicts)
	if s.Forward.PacketsIn < frames/4 || len(s.Forward.Drops) < 12 {
		t.Errorf("%d packets and %d reasons: the frames are too tame", s.Forward.PacketsIn, len(s.Forward.Drops))
	}
	await(t, "each admitted frame is counted", func() bool {
		s, sum := status(t, p), uint64(0)
		for _, w := range append(s.Workloads, s.Uplinks...) {
			sum += w.Received + w.Carried
		}
		return sum == s.Forward.PacketsIn+s.Forward.Drops["FULL_RING"]
	})

	// With GSO the filter refuses some, which count among the drops.
	throw(t, l, all[0], gsoFrames, perMS, func() []byte { return h.frame(true) })
	undisturbed(t, "beside hostile frames", ping.stop(t))
	s = alive(t, p)
	t.Logf("with GSO: in %d; drops %v; rings rebuilt %d", s.Forward.PacketsIn, s.Forward.Drops, s.Forward.Rebuilt)
	if s.Forward.Drops["PARP_NOT_SPECIFIED"] > 0 || s.Forward.Rebuilt > 0 {
		t.Errorf("%+v", s.Forward)
	}
	await(t, "each packet has a verdict", func() bool { s := status(t, p); return endsOf(s) >= s.Forward.PacketsIn })
	run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
}

// throw sends n frames from a pod, so many a millisecond. The kernel refuses
// some of them.
func throw(t testing.TB, l *lab.Lab, from lab.Pod, n, perMS int, frame func() []byte) {
	t.Helper()
	var s *pktring.Sender
	var index int
	if err := l.Do(from.Node, func() error {
		ifi, err := net.InterfaceByName(from.Peer)
		if err == nil {
			index = ifi.Index
			s, err = pktring.OpenSender(true)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	sent := 0
	for done := 0; done < n; <-tick.C {
		for end := min(done+perMS, n); done < end; {
			for s.Len() < pktring.MaxBatch && done < end {
				b := frame()
				s.Add(b, int32(index), binary.BigEndian.Uint16(b[pktring.VnetLen+12:]))
				done++
			}
			for _, errno := range s.Flush() {
				if errno == 0 {
					sent++
				}
			}
		}
	}
	t.Logf("%d of %d frames sent", sent, n)
}
