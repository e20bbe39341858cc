package differential

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// discovering is a host whose kernel, too, is a router: an advertisement says so.
var discovering = world{name: "v6-discovery", ipv6: true, both: true, flags: []string{"--proxy", "fd00:65::20/128", "--proxy", "fd00:65::11/128"}}

// asKernel has the other host's kernel answer for what is in --proxy and routed elsewhere.
var asKernel = struct{ sysctls, lines []string }{
	[]string{"net/ipv6/conf/all/proxy_ndp=1", "net/ipv6/neigh/cali0/proxy_delay=0"},
	[]string{"neigh add proxy fd00:65::20 dev cali0"},
}

// Targets of solicitations. The first of a port is answered for, whoever asks.
var solicited = [][]addr6{
	pod0: {linkLocal6[pod0], ip6("fd00:65::20"), ip6("fd00:65::11"), ip6("fd00:65::1"), ip6("2001:db8:1::1"), ip6("fd00:65::99"), ip6("fe80::20"), ip6("::"), ip6("::1"), ip6("ff02::1")},
	up0:  {ip6("2001:db8:1::1"), linkLocal6[up0], ip6("fd00:65::20"), ip6("fe80::2"), ip6("2001:db8:1::ffff")},
}

// sentinel6 is who asks last, so that all answers to what came before are there. After so many questions it is
// another one: each sender has a share of answers, and 2000 at once.
func sentinel6(index int) addr6 {
	a := ip6("fe80::5e47:0:1e1")
	a[12], a[13] = byte(index/1000>>8), byte(index/1000)
	return a
}

// solicit is a frame that asks, or nearly so.
func (g *gen) solicit(port int) *Frame {
	src := pick(g, ip6("fd00:72::5:1"), ip6("fd00:72::5:2"), ip6("fe80::77"), ip6("fe80::78"))
	src[10], src[11] = byte(g.index/2000>>8), byte(g.index/2000)
	mac := [6]byte{2, 0x55, byte(port), 0, 0, src[15]}
	target := pick(g, solicited[port]...)
	if g.IntN(4) != 0 {
		target = pick(g, solicited[port][:2]...)
	}
	p := solicitation6(src, target, mac)
	p.port = port
	message, option := p.l4[:wire.NDLen:wire.NDLen], p.l4[wire.NDLen:]
	switch g.IntN(8) {
	case 0, 1: // of a neighbour that is known, and may be gone
		p.dst, p.dstMAC = target, nil
		if g.IntN(2) == 0 {
			option = nil
		}
	case 2, 3: // detection of duplicates
		p.src, option = addr6{}, nil
	case 4:
		all := wire.MulticastMAC(wire.AllNodes)
		p.dst, p.dstMAC = wire.AllNodes, (*[6]byte)(&all)
	}
	nonce := append([]byte{14, 1}, g.data(6)...)
	switch g.IntN(10) {
	case 0:
		option = append(nonce, option...)
	case 1:
		option = append(option, nonce...)
	case 2:
		option = append(option, append([]byte{byte(g.IntN(8)), byte(g.IntN(3))}, g.data(pick(g, 6, 6, 14, 3))...)...)
	case 3:
		option = append(option, g.data(g.IntN(9))...)
	}
	p.l4 = append(message, option...)
	g.bend(&p)
	f := p.frame("solicitation", g.index)
	if g.IntN(8) == 0 { // where neither addresses nor ports are, which choose what is compared
		if at := ethernetLen + pick(g, 4, 5, 6, 7, 40, 41, 42, 43, 44, 45, 46, 47); at < len(f.Bytes) {
			f.Bytes[at] ^= 1 << g.IntN(8)
		}
	}
	return f
}

// bend makes something wrong with a solicitation, or odd.
func (g *gen) bend(p *packet6) {
	switch g.IntN(16) {
	case 0:
		p.hops = pick[byte](g, 0, 1, 64, 254)
	case 1:
		p.wrongSum = uint16(1 + g.IntN(65534))
	case 2:
		p.l4[1] = byte(1 + g.IntN(255))
	case 3:
		p.l4 = p.l4[:g.IntN(len(p.l4))]
		p.l4sum = -1
	case 4:
		p.padding = pick(g, -1, -8, 1, 30)
	case 5:
		p.longer = pick(g, -8, -1, 1, 8)
	case 6:
		p.headers = []header6{pick(g, options6(wire.ProtoHopByHop, nil), options6(wire.ProtoHopByHop, option6(optRouterAlert, 0, 0)),
			options6(wire.ProtoDestOpts, nil), fragment6(0, false, 7), fragment6(0, true, 8), routing6(0, 0, make([]byte, 4)))}
	case 7:
		m := pick(g, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, [6]byte{2, 9, 9, 9, 9, 9}, ports[p.port].mac, [6]byte{0x33, 0x33, 0xff, 1, 2, 3})
		p.dstMAC = &m
	case 8:
		p.src = pick(g, ip6("::1"), ip6("ff02::1"), ip6("::"), ip6("fe80::79"))
	case 9:
		p.dst = pick(g, ip6("ff02::1"), ip6("ff02::2"), ip6("ff02::1:ff00:77"), ip6("ff05::1"), ip6("fe80::1234"))
	case 10:
		p.l4[0] = pick[byte](g, wire.ICMPv6NeighAdvert, wire.ICMPv6RouterSolicit, 128)
	case 11:
		copy(p.l4[4:8], g.data(4))
	}
}

// asker puts solicitations to both hosts, one after the other.
type asker struct {
	t   *testing.T
	p   *pair
	buf []byte
}

// answers are the advertisements that a frame brings about at its port.
func (a *asker) answers(h *host, f *Frame) (all [][]byte) {
	a.t.Helper()
	mac := [6]byte{2, 0x55, 0x5e, 0x47, 0x01, 0xe1}
	sentinel := sentinel6(f.Index)
	last := solicitation6(sentinel, solicited[f.Port][0], mac)
	last.port = f.Port
	last.l4 = append(last.l4, 14, 1, 1, 2, 3, 4, 5, 6) // a nonce: programs that answer what is plain overtake the responder
	for _, frame := range []*Frame{f, last.frame("sentinel", 0)} {
		if err := h.stations[f.Port].send(append(frame.Vnet[:], frame.Bytes...)); err != nil {
			a.t.Fatal(err)
		}
	}
	for end := time.Now().Add(patience); ; await(h.stations, time.Until(end)) {
		done := false
		for i, s := range h.stations {
			if err := s.receive(a.buf, func(buf []byte) {
				frame := append([]byte(nil), buf[vnetLen:]...)
				ip := ipv6Of(frame)
				switch m := wire.ND(ip.Payload()); {
				case ip == nil || i != f.Port || ip.NextHeader() != wire.ProtoICMPv6 || !m.Valid() || m[0] != wire.ICMPv6NeighAdvert || ip.HopLimit() != wire.NDHopLimit:
				case ip.Dst() == sentinel:
					done = true
				default:
					all = append(all, frame)
				}
			}); err != nil {
				a.t.Fatal(err)
			}
		}
		if done {
			return all
		}
		if time.Now().After(end) {
			a.t.Fatalf("%s does not answer: %s", h.name, describe(f.Bytes))
		}
	}
}

// advert is what has to be the same of two advertisements. What else there is, the package
// comment of arpd/ndp says.
type advert struct {
	dst, src   wire.MAC
	to, target netip.Addr
	flags      uint32
	hops       uint8
	flow       uint32
}

func advertOf(frame []byte) advert {
	eth := wire.Ethernet(frame)
	ip := wire.IPv6(eth.Payload())
	m := wire.ND(ip.Payload())
	return advert{eth.Dst(), eth.Src(), ip.DstAddr(), m.Target(), m.Flags() &^ wire.NDOverride, ip.HopLimit(), ip.FlowInfo()}
}

// expected says why two hosts may answer a solicitation differently; see Answer in arpd/ndp.
func expected(f *Frame, kernel, ours int) string {
	ip := ipv6Of(f.Bytes)
	_, payload := upper6(ip)
	m := wire.ND(payload)
	if !m.Valid() {
		return ""
	}
	mac, has, _ := m.LinkLayer(wire.NDOptSourceLinkLayer)
	switch {
	case ip.SrcAddr().IsUnspecified() && ours < kernel && m.Target() == netip.AddrFrom16(solicited[pod0][1]):
		return "a workload's own probe"
	case !has:
		return "without a link-layer address"
	case ip.NextHeader() != wire.ProtoICMPv6 && ours < kernel:
		return "behind extension headers"
	case has && (mac.IsMulticast() || mac == wire.MAC{}) && ours < kernel:
		return "a group's link-layer address"
	}
	return ""
}

// TestDiscovery: what the kernel answers, of solicitations for an address of its own and
// for one that it proxies, proxyarpd answers, and nobody answers twice.
func TestDiscovery(t *testing.T) {
	labtest.NeedIPv6(t)
	w := discovering
	p := setUp(t, &w)
	runtime.LockOSThread() // and the thread ends with the test
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	setAll(t, p.kernel.lab, asKernel.sysctls)
	p.w.make(t, p.kernel.lab, asKernel.lines)
	if err := newExchange(p).begin(); err != nil {
		t.Fatal(err)
	}
	seed := seedOf()
	a := &asker{t: t, p: p, buf: make([]byte, 1<<18)}
	answered, silent, excuses, shown := 0, 0, map[string]int{}, 0
	began := time.Now()
	for i := range *framesFlag {
		// An interface has 4000 answers a second, and 2000 at once.
		if early := time.Duration(2*i-1000)*time.Second/3500 - time.Since(began); early > 0 {
			time.Sleep(early)
		}
		g := &gen{Rand: rand.New(rand.NewPCG(seed, uint64(i))), w: p.w, class: "solicitation", index: i}
		f := g.solicit(pick(g, pod0, pod0, pod0, up0))
		kernel, ours := a.answers(p.kernel, f), a.answers(p.ours, f)
		same := len(kernel) == len(ours)
		for n := range min(len(kernel), len(ours)) {
			same = same && advertOf(kernel[n]) == advertOf(ours[n])
		}
		why := expected(f, len(kernel), len(ours))
		switch {
		case same && len(kernel) > 0:
			answered++
		case same:
			silent++
		case why != "" && len(ours) <= 1:
			excuses[why]++
		default:
			if shown++; shown > *showFlag {
				continue
			}
			said := ""
			for _, b := range kernel {
				said += fmt.Sprintf("\n    kernel %+v", advertOf(b))
			}
			for _, b := range ours {
				said += fmt.Sprintf("\n    ours   %+v", advertOf(b))
			}
			t.Errorf("-seed %d, solicitation %d at %s: %d answers by the kernel, %d by proxyarpd%s\n%s\n%x", seed, i, ports[f.Port].name, len(kernel), len(ours), said, describe(f.Bytes), f.Bytes)
		}
	}
	t.Logf("seed %d: %d solicitations answered alike, %d not answered, %v", seed, answered, silent, excuses)
	if n := *framesFlag; answered < n/8 || silent < n/8 {
		t.Error("too few")
	}
}
