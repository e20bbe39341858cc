package claim

import (
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

const (
	gateway6 = "fe80::ecee:eeff:feee:eeee"
	pod6     = "fe80::99"
)

// nd is a frame with a message of neighbour discovery, hop limit 255, behind extension
// headers.
func nd(mac wire.MAC, src, dst string, typ uint8, target string, before ...[]byte) []byte {
	icmp := make([]byte, 24, 32)
	a := netip.MustParseAddr(target).As16()
	copy(icmp[8:], a[:])
	if typ == wire.ICMPv6NeighSolicit && src != "::" {
		icmp = append(icmp, 1, 1, 2, 0, 0, 0, 0, 99) // the source's link-layer address (RFC 4861 section 4.6.1)
	}
	wire.PutICMPv6(icmp, typ, 0, 0, netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16())
	next := uint8(wire.ProtoICMPv6)
	for i := len(before) - 1; i >= 0; i-- {
		kind := before[i][0]
		before[i][0] = next
		icmp = append(before[i], icmp...)
		next = kind
	}
	f := packet6(mac, src, dst, next, icmp...)
	f[pktring.VnetLen+14+7] = 255
	return f
}

// header is an extension header of eight bytes, whose first one says which it is, for nd.
func extension(kind uint8, rest ...byte) []byte {
	return append([]byte{kind}, append(rest, make([]byte, 7-len(rest))...)...)
}

// solicit asks for a target, as a neighbour that has no MAC of it.
func solicit(target string) []byte {
	a := wire.SolicitedNode(netip.MustParseAddr(target).As16())
	return nd(wire.MulticastMAC(a), pod6, netip.AddrFrom16(a).String(), wire.ICMPv6NeighSolicit, target)
}

// openND opens a socket with the filter of the responder's.
func openND(t *testing.T, s *Set) *kernel {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = s.AttachND(fd)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6)})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &kernel{fd}
}

// own has the test's thread be the one that answers.
func own(t *testing.T, s *Set) (disown func()) {
	t.Helper()
	disown, err := s.OwnND()
	if err != nil {
		t.Fatal(err)
	}
	return disown
}

func setTarget(t *testing.T, s *Set, ifindex int32, addr string, on bool) {
	t.Helper()
	if err := s.SetNDTarget(NDTarget{ifindex, netip.MustParseAddr(addr)}, on); err != nil {
		t.Fatal(err)
	}
}

func ndPort(p *Port) { p.ND = true }

// TestSolicitations: which solicitations are the responder's alone, of which it has a
// copy, and which are none of its.
func TestSolicitations(t *testing.T) {
	namespace(t)
	e, up, other, s := veth(t, "a"), veth(t, "b"), veth(t, "c"), load6(t, Config{})
	r, responder := openRing(t, s, 64), openND(t, s)
	slot := forward6(t, s, e, ndPort)
	forward6(t, s, up, ndPort, func(p *Port) { p.Workload = false })
	forward6(t, s, other)
	setTarget(t, s, e.index, gateway6, true)
	setTarget(t, s, up.index, gateway6, true) // no workload is there
	setTarget(t, s, 0, "fd00::1", true)
	kernels := map[*end]*kernel{}
	for _, e := range []*end{e, up, other} {
		kernels[e] = openKernel(t, e, unix.ETH_P_IPV6)
	}
	const nobody, copied, taken, others = 0, 1, 2, -1
	try := func(what string, at *end, frame []byte, want int) {
		t.Helper()
		at.put(t, frame)
		got, inKernel := len(responder.got(t)), kernels[at].got(t)
		if drain(r, s, slot) != 0 {
			t.Errorf("%s: in the ring", what)
		}
		hidden := len(inKernel) == 1 && inKernel[0] == unix.PACKET_OTHERHOST
		if len(inKernel) != 1 || got != max(min(want, 1), 0) || hidden != (want == taken || want == others) {
			t.Errorf("%s: the responder has %d, the kernel %v", what, got, inKernel)
		}
	}
	try("nobody answers yet", e, solicit(gateway6), copied)
	disown := own(t, s)
	try("the gateway", e, solicit(gateway6), taken)
	try("a gateway of all", e, solicit("fd00::1"), taken)
	try("is it still there", e, nd(e.mac, pod6, "fd00::1", wire.ICMPv6NeighSolicit, "fd00::1"), taken)
	try("is another still there", e, nd(e.mac, pod6, "fd00::2", wire.ICMPv6NeighSolicit, "fd00::2"), copied)
	try("a probe", e, nd(wire.MulticastMAC(wire.SolicitedNode(netip.MustParseAddr(gateway6).As16())), "::", "ff02::1:ffee:eeee", wire.ICMPv6NeighSolicit, gateway6), taken)
	try("another target", e, solicit("fd00::2"), copied)
	try("an uplink", up, solicit(gateway6), copied)
	try("an interface without", other, solicit(gateway6), nobody)
	try("an advertisement", e, nd(e.mac, pod6, gateway6, wire.ICMPv6NeighAdvert, pod6), copied)
	try("to another host", e, nd(wire.MAC{2, 7, 7, 7, 7, 7}, pod6, gateway6, wire.ICMPv6NeighSolicit, "fd00::2"), others)
	far := solicit(gateway6)
	far[pktring.VnetLen+14+7] = 254
	try("from behind a router", e, far, nobody)
	try("behind a header", e, nd(e.mac, pod6, gateway6, wire.ICMPv6NeighSolicit, gateway6, extension(wire.ProtoDestOpts)), nobody)
	try("an echo request", e, nd(e.mac, pod6, gateway6, wire.ICMPv6EchoRequest, gateway6), nobody)
	setTarget(t, s, e.index, gateway6, false)
	try("a gateway no more", e, solicit(gateway6), copied)
	setTarget(t, s, e.index, gateway6, true)
	disown()
	try("nobody answers any more", e, solicit(gateway6), copied)
	own(t, s)
	try("somebody again", e, solicit(gateway6), taken)
	if err := s.Release(e.index); err != nil {
		t.Fatal(err)
	}
	try("not claimed", e, solicit(gateway6), copied)
}

// TestDeadResponder: what was taken from the kernel is its again as soon as the thread
// that answered has ended.
func TestDeadResponder(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load6(t, Config{})
	k := openKernel(t, e, unix.ETH_P_IPV6)
	forward6(t, s, e, ndPort)
	setTarget(t, s, 0, gateway6, true)
	began, end := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		_, err := s.OwnND()
		began <- err
		<-end
	}()
	if err := <-began; err != nil {
		t.Fatal(err)
	}
	if e.put(t, solicit(gateway6)); k.got(t)[0] != unix.PACKET_OTHERHOST {
		t.Fatal("not taken")
	}
	close(end)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if e.put(t, solicit(gateway6)); k.got(t)[0] == unix.PACKET_MULTICAST {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("taken, and the thread has ended")
		}
	}
}

// TestKernelDoesNotAnswer has the kernel itself as the judge: it answers for its address,
// but for a target of the responder's.
func TestKernelDoesNotAnswer(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load6(t, Config{})
	responder := openND(t, s)
	forward6(t, s, e, ndPort)
	own(t, s)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/a/disable_ipv6", []byte("0"), 0); err != nil {
		nstest.Skip(t, "the kernel has no IPv6: %v", err)
	}
	link, err := netlink.LinkByName("a")
	if err == nil {
		err = netlink.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(netip.MustParseAddr(gateway6).AsSlice()), Flags: unix.IFA_F_NODAD})
	}
	if err != nil {
		t.Fatal(err)
	}
	answers := openKernel(t, &end{index: e.other}, unix.ETH_P_IPV6)
	answered := func() bool {
		t.Helper()
		answers.got(t)
		e.put(t, solicit(gateway6))
		var buf [2048]byte
		for deadline := time.Now().Add(time.Second / 5); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			for {
				n, _, err := unix.Recvfrom(answers.fd, buf[:], 0)
				if err != nil {
					break
				}
				ip := wire.IPv6(buf[14:n])
				if n > 54 && ip.NextHeader() == wire.ProtoICMPv6 && ip.Payload()[0] == wire.ICMPv6NeighAdvert && ip.SrcAddr() == netip.MustParseAddr(gateway6) {
					return true
				}
			}
		}
		return false
	}
	for begin := time.Now(); !answered(); { // it takes a moment until the address is one
		if time.Since(begin) > patience {
			t.Fatal("the kernel does not answer for its address")
		}
	}
	setTarget(t, s, e.index, gateway6, true)
	responder.got(t)
	if answered() || len(responder.got(t)) == 0 {
		t.Error("the kernel answers for the responder's target, or the responder has no solicitation")
	}
	setTarget(t, s, e.index, gateway6, false)
	if !answered() {
		t.Error("the kernel does not answer any more")
	}
}

// TestRouterGuard: workloads are no routers, whatever hides what they say.
func TestRouterGuard(t *testing.T) {
	namespace(t)
	e, up, s := veth(t, "a"), veth(t, "b"), load6(t, Config{})
	forward6(t, s, e, ndPort)
	forward6(t, s, up, ndPort, func(p *Port) { p.Workload = false })
	const all = "ff02::1"
	group := wire.MulticastMAC(netip.MustParseAddr(all).As16())
	advertise := func(before ...[]byte) []byte {
		return nd(group, pod6, all, wire.ICMPv6RouterAdvert, gateway6, before...)
	}
	fragment := func(offset byte) []byte { return extension(wire.ProtoFragment, 0, 0, offset|1, 1, 2, 3, 4) }
	cut := func(f []byte, n int) []byte { return f[:len(f)-n] }
	ends := func(f []byte, length byte) []byte { // the packet, by its header, and not its frame
		f[pktring.VnetLen+14+4], f[pktring.VnetLen+14+5] = 0, length
		return f
	}
	far := advertise()
	far[pktring.VnetLen+14+7] = 64
	var many [][]byte
	for range 7 {
		many = append(many, extension(wire.ProtoDestOpts))
	}
	for name, c := range map[string]struct {
		frame []byte
		at    *end
		drops bool
	}{
		"an advertisement":                           {advertise(), e, true},
		"a redirect":                                 {nd(e.mac, pod6, "fe80::1", wire.ICMPv6Redirect, gateway6), e, true},
		"to one host":                                {nd(e.mac, pod6, "fe80::1", wire.ICMPv6RouterAdvert, gateway6), e, true},
		"behind hop-by-hop options":                  {advertise(extension(wire.ProtoHopByHop)), e, true},
		"behind destination options":                 {advertise(extension(wire.ProtoDestOpts)), e, true},
		"behind several":                             {advertise(extension(wire.ProtoHopByHop), extension(wire.ProtoDestOpts), extension(wire.ProtoRouting)), e, true},
		"behind longer ones":                         {advertise(append(extension(wire.ProtoDestOpts, 1), make([]byte, 8)...)), e, true},
		"behind an AH":                               {advertise(append(extension(wire.ProtoAH, 1), make([]byte, 4)...)), e, true},
		"in a first fragment":                        {advertise(fragment(0)), e, true},
		"in one behind options":                      {advertise(extension(wire.ProtoDestOpts), fragment(0)), e, true},
		"a first fragment that is short":             {cut(advertise(fragment(0)), 24), e, true},
		"another in a first fragment":                {nd(group, pod6, all, wire.ICMPv6EchoRequest, gateway6, fragment(0), extension(wire.ProtoDestOpts)), e, false},
		"one that ends before it, in a longer frame": {ends(nd(group, pod6, all, wire.ICMPv6EchoRequest, gateway6, fragment(0), extension(wire.ProtoDestOpts)), 16), e, true},
		"a jumbogram":                                {ends(nd(group, pod6, all, wire.ICMPv6EchoRequest, gateway6, extension(wire.ProtoHopByHop)), 0), e, false},
		"in a later fragment":                        {advertise(fragment(8)), e, false},
		"behind ever more":                           {advertise(many...), e, true},
		"from an uplink":                             {advertise(), up, false},
		"from behind a router":                       {far, e, false},
		"a router solicitation":                      {nd(group, pod6, "ff02::2", wire.ICMPv6RouterSolicit, gateway6), e, false},
		"an echo request behind options":             {nd(group, pod6, all, wire.ICMPv6EchoRequest, gateway6, extension(wire.ProtoDestOpts)), e, false},
		"to another host":                            {nd(wire.MAC{2, 7, 7, 7, 7, 7}, pod6, "fe80::1", wire.ICMPv6RouterAdvert, gateway6), e, false},
	} {
		k := openKernel(t, c.at, unix.ETH_P_IPV6)
		was := s.Counters(c.at.index).Left[RAGuard]
		c.at.put(t, c.frame)
		passed, counted := len(k.got(t)), s.Counters(c.at.index).Left[RAGuard]-was
		if (passed == 0) != c.drops || (counted == 1) != c.drops {
			t.Errorf("%s: the kernel has %d, %d counted", name, passed, counted)
		}
	}
}

// TestNDPolicing: neighbour discovery has the shares of ARP, by interface and sender;
// what was to be the responder's alone does not go to the kernel instead.
func TestNDPolicing(t *testing.T) {
	namespace(t)
	e, quiet := veth(t, "a"), veth(t, "b")
	const burst, share = 100, 10
	s, err := Load(Config{IPv6: true, ARP: ARPPolice{PerSecond: 1, Burst: burst, SenderPerSecond: 1, SenderBurst: share}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	responder := openND(t, s)
	forward6(t, s, e, ndPort)
	forward6(t, s, quiet, ndPort)
	setTarget(t, s, 0, gateway6, true)
	own(t, s)
	k := openKernel(t, e, unix.ETH_P_IPV6)
	passes := func(n int, at *end, src, target string, mac byte) int {
		f := nd(wire.MulticastMAC(wire.SolicitedNode(netip.MustParseAddr(target).As16())), src, "ff02::1:ff00:1", wire.ICMPv6NeighSolicit, target)
		f[pktring.VnetLen+11] = mac
		at.put(t, repeat(n, f)...)
		return len(responder.got(t))
	}
	for name, n := range map[string]int{
		"a gateway's":    passes(3*share, e, "fe80::2", gateway6, 1),
		"another's":      passes(3*share, e, "fe80::3", "fd00::9", 1),
		"a probe":        passes(3*share, e, "::", gateway6, 1),
		"another's too":  passes(3*share, e, "::", gateway6, 2),
		"elsewhere":      passes(3*share, quiet, "fe80::2", gateway6, 1),
		"a long address": passes(3*share, e, "2001:db8:1:2:3:4:5:6", "fd00::9", 1),
	} {
		if n < share || n > share+2 {
			t.Errorf("%s: %d passed, want %d", name, n, share)
		}
	}
	if n := len(k.got(t)); n > 5*share+8+2*3*share { // copies and what was passed
		t.Errorf("the kernel has %d", n)
	}
	for i := range byte(2 * burst) {
		passes(1, e, netip.AddrFrom16([16]byte{0xfe, 0x80, 15: i}).String(), gateway6, 1)
	}
	c := s.Counters(e.index)
	if c.ARPPoliced == 0 || c.ARPSender < 5*(2*share-2) || c.ARPPassed > burst+2 {
		t.Errorf("%+v", c)
	}
}

// TestWatch6: a capture of what the daemon does not handle shows neither what the ring
// gets, nor what the responder sees.
func TestWatch6(t *testing.T) {
	namespace(t)
	e, other, s := veth(t, "a"), veth(t, "b"), load6(t, Config{})
	r := openRing(t, s, 64)
	slot := forward6(t, s, e, ndPort)
	classes{"2001:db8::1/128": toLocal}.become(t, s)
	setTarget(t, s, 0, gateway6, true)
	own(t, s)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = s.AttachWatch(fd, 7, 2000)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, 23, 1) // PACKET_IGNORE_OUTGOING
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL)})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	watch := kernel{fd}
	for _, c := range []struct {
		what  string
		at    *end
		frame []byte
		shown int
	}{
		{"ours", e, packet6(e.mac, source6, "2001:db8::9", wire.ProtoUDP), 0},
		{"to the host", e, packet6(e.mac, source6, "2001:db8::1", wire.ProtoUDP), 1},
		{"link-local", e, packet6(e.mac, pod6, "fe80::1", wire.ProtoUDP), 1},
		{"a solicitation for a gateway", e, solicit(gateway6), 0},
		{"for another target", e, solicit("fd00::7"), 0},
		{"an advertisement", e, nd(e.mac, pod6, "fe80::1", wire.ICMPv6NeighAdvert, pod6), 0},
		{"a router's", e, nd(e.mac, pod6, "fe80::1", wire.ICMPv6RouterAdvert, pod6), 1},
		{"of no port", other, packet6(other.mac, source6, "2001:db8::9", wire.ProtoUDP), 1},
		{"a solicitation there", other, solicit(gateway6), 1},
	} {
		c.at.put(t, c.frame)
		drain(r, s, slot)
		if n := len(watch.got(t)); n != c.shown {
			t.Errorf("%s: %d shown, want %d", c.what, n, c.shown)
		}
	}
}
