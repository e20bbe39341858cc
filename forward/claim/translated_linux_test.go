package claim

import (
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// translating loads the programs for a kernel that translates flows.
func translating(t testing.TB) *Set {
	t.Helper()
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 10000, Burst: 2000}, Translates: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// udp is a frame with ports.
func udp(frame []byte, from, to byte) []byte {
	b := frame[len(frame)-60:]
	b[34], b[35], b[36], b[37] = 0x20, from, 0x20, to
	return frame
}

// TestTranslated has frames to the end of a flow that the kernel translates, and others: each goes to the kernel, or to
// the ring, or, where only the claim could tell that it is ours, to the relay.
func TestTranslated(t *testing.T) {
	namespace(t)
	nstest.Need(t, "nft", "ip")
	e, s := veth(t, "a"), translating(t)
	if !s.Judges() {
		nstest.Skip(t, "bpf_skb_ct_lookup: the kernel has none, or CAP_PERFMON is missing")
	}
	if err := s.HearsTranslated(true); err != nil {
		t.Fatal(err)
	}
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IP)
	slot := forward(t, s, e, 1000)
	port := Port{Ifindex: e.index, Forward: true, Workload: true, Anywhere: true, KernelForwards: true, Quota: 1000, L2Len: 14}
	if _, err := s.SetPort(port); err != nil {
		t.Fatal(err)
	}
	classes{"203.0.113.1/32": toLocal, "10.96.0.0/12": toPunt, "192.0.2.1/32": toWorkload, "10.65.0.0/24": toWorkload}.become(t, s)
	try := func(what string, frame []byte, owner Owner) {
		t.Helper()
		was := s.Counters(e.index)
		e.put(t, frame)
		inRing, inKernel := drain(r, s, slot), len(k.got(t))
		left := s.Counters(e.index).Left[owner] - was.Left[owner]
		if owner == 0 && (inRing != 1 || inKernel != 0) || owner != 0 && (inRing != 0 || inKernel != 1 || left != 1) {
			t.Errorf("%s: %d in the ring, %d in the kernel, %d counted", what, inRing, inKernel, left)
		}
	}
	to := func(dst string, from, to byte) []byte { return udp(packet(e.mac, dst), from, to) }
	const ours Owner = 0
	try("to a pod", to("10.65.0.2", 1, 2), ours)
	try("an end that has no flow", to("10.65.0.2", 1, 2), ours)
	end := End{netip.MustParseAddr("10.65.0.2"), unix.IPPROTO_UDP, 0x2003}
	if err := s.SetTranslated(end, true); err != nil {
		t.Fatal(err)
	}
	// There is no relay here: what can't be asked about is the kernel's.
	try("an end that has one", to("10.65.0.2", 1, 3), Translated)
	try("another port of it", to("10.65.0.2", 1, 4), ours)
	if err := s.SetTranslated(end, false); err != nil {
		t.Fatal(err)
	}
	try("an end that had one", to("10.65.0.2", 1, 3), ours)
	// Who sends to what the kernel may translate is remembered.
	try("to a service", to("10.96.0.1", 9, 53), Punted)
	try("from the same port", to("10.65.0.2", 9, 53), Translated)
	try("from another one", to("10.65.0.2", 10, 53), ours)
	if err := s.SetTranslated(end, true); err != nil {
		t.Fatal(err)
	}
	if !s.Translated(to("10.65.0.2", 1, 3)[len(to("10.65.0.2", 1, 3))-60+14:]) || s.Translated(to("10.65.0.2", 1, 4)[len(to("10.65.0.2", 1, 4))-60+14:]) {
		t.Error("Translated tells otherwise")
	}
}

// TestTranslated6 is TestTranslated for IPv6: where conntrack can't be asked for lack of a relay, and where it can, which
// knows no flow.
func TestTranslated6(t *testing.T) {
	namespace(t)
	nstest.Need(t, "nft", "ip")
	e, s := veth(t, "a"), load6(t, Config{Translates: true})
	if !s.Judges() {
		nstest.Skip(t, "bpf_skb_ct_lookup: the kernel has none, or CAP_PERFMON is missing")
	}
	if err := s.HearsTranslated(true); err != nil {
		t.Fatal(err)
	}
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IPV6)
	slot := forward6(t, s, e, func(p *Port) { p.KernelForwards6, p.Anywhere = true, true })
	classes{"2001:db8::1/128": toLocal, "fd96::/112": toPunt, "2001:db8::/64": toWorkload}.become(t, s)
	try := func(what string, frame []byte, owner Owner) {
		t.Helper()
		was := s.Counters(e.index)
		e.put(t, frame)
		inRing, inKernel := drain(r, s, slot), len(k.got(t))
		left := s.Counters(e.index).Left[owner] - was.Left[owner]
		if owner == ours && (inRing != 1 || inKernel != 0) || owner != ours && (inRing != 0 || inKernel != 1 || left != 1) {
			t.Errorf("%s: %d in the ring, %d in the kernel, %d counted", what, inRing, inKernel, left)
		}
	}
	to := func(dst string, from, to byte) []byte {
		return packet6(e.mac, source6, dst, unix.IPPROTO_UDP, 0x20, from, 0x20, to, 0, 8, 0, 0)
	}
	try("to a pod", to("2001:db8::2", 1, 2), ours)
	end := End{netip.MustParseAddr("2001:db8::2"), unix.IPPROTO_UDP, 0x2003}
	set := func(e End, has bool) {
		t.Helper()
		if err := s.SetTranslated(e, has); err != nil {
			t.Fatal(err)
		}
	}
	set(end, true)
	try("an end that has one", to("2001:db8::2", 1, 3), Translated)
	try("another port of it", to("2001:db8::2", 1, 4), ours)
	fragment := packet6(e.mac, source6, "2001:db8::2", unix.IPPROTO_FRAGMENT, append([]byte{unix.IPPROTO_UDP, 0, 0, 8, 0, 0, 0, 1}, make([]byte, 8)...)...)
	try("a fragment to it", fragment, ours)
	set(End{Addr: end.Addr}, true)
	try("a fragment to an address that has one", fragment, Translated)
	set(End{Addr: end.Addr}, false)
	quoted := to("2001:db8::7", 3, 1)[pktring.VnetLen+14:]
	copy(quoted[8:], quoted[24:40]) // who sent it
	a := end.Addr.As16()
	copy(quoted[8:], a[:])
	icmp := append([]byte{wire.ICMPv6PacketTooBig, 0, 0, 0, 0, 0, 5, 0}, quoted...)
	try("an error about what it sent", packet6(e.mac, source6, "2001:db8::2", unix.IPPROTO_ICMPV6, icmp...), Translated)
	if packet := to("2001:db8::2", 1, 3)[pktring.VnetLen+14:]; !s.Translated(packet) || s.Translated(to("2001:db8::2", 1, 4)[pktring.VnetLen+14:]) {
		t.Error("Translated tells otherwise")
	}
	if packet := packet6(e.mac, source6, "2001:db8::2", unix.IPPROTO_ICMPV6, icmp...)[pktring.VnetLen+14:]; !s.Translated(packet) {
		t.Error("Translated tells otherwise of an error")
	}
	const gre = 47 // has no ports
	set(End{end.Addr, gre, 0}, true)
	tunnel := packet6(e.mac, "2001:db8::2", "2001:db8::7", gre)[pktring.VnetLen+14:]
	tunnel[wire.IPv6Len] = 0x20
	icmp = append([]byte{wire.ICMPv6PacketTooBig, 0, 0, 0, 0, 0, 5, 0}, tunnel...)
	try("an error about what has no ports", packet6(e.mac, source6, "2001:db8::2", unix.IPPROTO_ICMPV6, icmp...), Translated)
	if packet := packet6(e.mac, source6, "2001:db8::2", unix.IPPROTO_ICMPV6, icmp...)[pktring.VnetLen+14:]; !s.Translated(packet) {
		t.Error("Translated tells otherwise of an error about what has no ports")
	}
	// Who sends to what the kernel may translate is remembered.
	try("to a service", to("fd96::a", 9, 53), Punted)
	first := packet6(e.mac, source6, "fd96::a", unix.IPPROTO_FRAGMENT, unix.IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 1, 0x20, 11, 0x20, 53, 0, 8, 0, 0)
	try("a first fragment to a service", first, Punted)
	later := packet6(e.mac, source6, "fd96::a", unix.IPPROTO_FRAGMENT, unix.IPPROTO_UDP, 0, 0, 8, 0, 0, 0, 1, 0x20, 12, 0x20, 53, 0, 8, 0, 0)
	try("a later one", later, Punted)
	back := func(dst byte) []byte {
		return packet6(e.mac, "2001:db8::9", source6, unix.IPPROTO_UDP, 0x20, 53, 0x20, dst, 0, 8, 0, 0)
	}
	try("to the same port", back(9), Translated)
	try("to another one", back(10), ours)
	try("to that of a fragment", back(11), Translated)
	try("to what is none", back(12), ours)
	d := openRelay(t, s)
	for what, frame := range map[string][]byte{"conntrack knows of no flow": to("2001:db8::2", 1, 3), "nor that it is an answer": back(9)} {
		e.put(t, frame)
		if p := readRelay(t, d); len(p) != 1 || drain(r, s, slot) != 0 || len(k.got(t)) != 0 {
			t.Errorf("%s: %d by the relay", what, len(p))
		}
	}
}

// TestModuleFunctions has the library look for conntrack's functions, as it has to where conntrack is a module.
func TestModuleFunctions(t *testing.T) {
	namespace(t)
	kernel := readKernel()
	k := kernel()
	defer k.close()
	if k.err != nil || len(k.found["bpf_skb_ct_lookup"][btfFunc]) == 0 {
		nstest.Skip(t, "the kernel has no bpf_skb_ct_lookup: %v", k.err)
	}
	for _, name := range moduleFuncs {
		k.found[name] = nil
	}
	l, err := loadKind(Config{Translates: true}, func() kernelNames { return k }, kind{exact: true, judges: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkTranslates measures the ring's filter for a frame that the ring takes, without and with a look for flows that
// the kernel translates, and the claim that asks conntrack.
func BenchmarkTranslates(b *testing.B) {
	namespace(b)
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, strings.TrimSpace(string(out)))
	}
	for _, c := range []struct {
		name       string
		translates bool
		flows      int
	}{{"off", false, 0}, {"none", true, 0}, {"1000 flows", true, 1000}} {
		b.Run(c.name, func(b *testing.B) {
			s := load(b)
			if c.translates {
				s = translating(b)
			}
			const lo = 1 // where a test run says that frames come from
			slot, err := s.SetPort(Port{Ifindex: lo, Forward: true, Workload: true, Anywhere: true, KernelForwards: true, Quota: 1000, L2Len: 14})
			if err != nil {
				b.Fatal(err)
			}
			classes{"10.65.0.0/24": toWorkload}.become(b, s)
			for i := range c.flows {
				if err := s.SetTranslated(End{netip.MustParseAddr("10.65.9.9"), unix.IPPROTO_TCP, uint16(i)}, true); err != nil {
					b.Fatal(err)
				}
			}
			frame := udp(packet([6]byte{}, "10.65.0.2"), 1, 2)
			frame = frame[len(frame)-60:]
			twice := append(append([]byte(nil), frame[:14]...), frame...)
			const repeat = 16
			var sum time.Duration
			runs := 0
			for b.Loop() {
				ret, took, err := s.ring.Benchmark(twice, repeat, nil)
				if err != nil {
					b.Fatal(err)
				}
				if ret == 0 { // others had the CPU: it looks as if nobody read the ring
					atomic.StoreUint32(&s.Window(0).reader.Stalled, 0)
				} else {
					sum += took
					runs++
				}
				for _, at := range []uint32{0, slot} { // as if they had been read
					atomic.StoreUint64(&s.windows.consumed[at], atomic.LoadUint64(&s.windows.stats[at].Admitted))
				}
			}
			b.ReportMetric(float64(sum.Nanoseconds())/float64(runs), "ns/frame")
		})
	}
}
