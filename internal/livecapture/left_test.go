package livecapture

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// Interfaces of the tests about what is left to the kernel.
const (
	kernelPod = 11 // a workload's where the kernel forwards too
	kernelUp  = 12
	tunnel    = 13 // an uplink without link-layer header
	other     = 14 // none of ours
)

// testAlias is a former MAC of testPod.
var testAlias = wire.MAC{2, 0xa1, 1, 1, 1, 1}

// host are Sources with a table, and with what the programs counted.
type host struct {
	nothing
	table      *route.Table
	left       map[claim.Owner]uint64
	translated bool
	stalled    int64 // a time in a stall, ns since 1970
}

func (h *host) Table() *route.Table { return h.table }

func (h *host) Counters(int32) (c claim.Counters) {
	for o, n := range h.left {
		c.Left[o] = n
	}
	return c
}

func (h *host) Translated([]byte) bool { return h.translated }

func (h *host) Stalled(at int64) bool { return at == h.stalled }

func newHost() *host {
	b := route.NewBuilder(route.Policy{Punt: []netip.Prefix{netip.MustParsePrefix("10.65.1.99/32")}})
	up := route.LinkUp | route.LinkEthernet
	b.SetLink(route.Link{Ifindex: testPod, Name: "cali1", MTU: 1500, Flags: up | route.LinkWorkload, Aliases: [2]wire.MAC{testAlias}})
	b.SetLink(route.Link{Ifindex: testHost, Name: "ens192", MTU: 1500, Flags: up | route.LinkUplink})
	b.SetLink(route.Link{Ifindex: kernelPod, Name: "cali2", MTU: 1500, Flags: up | route.LinkWorkload | route.LinkKernelForwards})
	b.SetLink(route.Link{Ifindex: kernelUp, Name: "ens193", MTU: 1500, Flags: up | route.LinkUplink | route.LinkKernelForwards})
	b.SetLink(route.Link{Ifindex: tunnel, Name: "wg0", MTU: 1420, Flags: route.LinkUp | route.LinkUplink})
	b.SetLink(route.Link{Ifindex: other, Name: "lxc", MTU: 1500, Flags: up})
	add := func(table uint32, prefix string, kind route.Type, dev int32) {
		p := netip.MustParsePrefix(prefix)
		b.SetRoutes(table, p, []route.Route{{Table: table, Type: kind, Nexthops: []route.Nexthop{{Ifindex: dev, Weight: 1}}}})
	}
	add(route.TableMain, "10.65.0.2/32", route.TypeUnicast, testPod)
	add(route.TableMain, "10.65.1.0/24", route.TypeUnicast, testHost)
	add(route.TableLocal, "10.65.1.32/32", route.TypeLocal, testHost)
	return &host{table: b.Publish(), left: map[claim.Owner]uint64{}}
}

// frame is an Ethernet frame with a datagram to dst.
func frame(dst string) []byte {
	b := udp(64)[forward.VnetLen:]
	ip := wire.Ethernet(b).Payload()
	wire.PutIPv4(ip, 0, len(ip), 0, wire.IPv4DF, 64, wire.ProtoUDP, [4]byte{10, 65, 0, 2}, netip.MustParseAddr(dst).As4())
	return b
}

// TestLeftToKernel: why a frame is the kernel's.
func TestLeftToKernel(t *testing.T) {
	onto := func(edit func(*host)) *host {
		h := newHost()
		edit(h)
		return h
	}
	plain := newHost()
	slot := func(index int32, data []byte, edit ...func(*pktring.Slot)) *pktring.Slot {
		s := &pktring.Slot{Ifindex: index, Hatype: unix.ARPHRD_ETHER, Data: data, Len: len(data), PktType: unix.PACKET_HOST}
		for _, e := range edit {
			e(s)
		}
		return s
	}
	as := func(pktType uint8) func(*pktring.Slot) { return func(s *pktring.Slot) { s.PktType = pktType } }
	tag := func(tci uint16) func(*pktring.Slot) {
		return func(s *pktring.Slot) { s.Tagged, s.TCI = true, tci }
	}
	long := func(n int) func(*pktring.Slot) { return func(s *pktring.Slot) { s.Len = n } }
	bare := func(s *pktring.Slot) { s.Hatype, s.Data = unix.ARPHRD_NONE, s.Data[wire.EthernetLen:] }
	arp := make([]byte, 60)
	binary.BigEndian.PutUint16(arp[12:], unix.ETH_P_ARP)
	there, here, aliased := frame("10.65.1.2"), frame("10.65.1.32"), frame("10.65.1.2")
	wire.Ethernet(aliased).SetDst(testAlias)
	gso := onto(func(h *host) { h.left[claim.GSO] = 1 })
	upper := onto(func(h *host) { h.left[claim.Upper] = 1 })
	nat := onto(func(h *host) { h.translated = true })
	at := func(when int64) func(*pktring.Slot) { return func(s *pktring.Slot) { s.Time = when } }
	stalled := onto(func(h *host) { h.left[claim.Stalled], h.stalled, h.translated = 1, 77, true })
	const unknown = -1
	for name, c := range map[string]struct {
		src  *host
		s    *pktring.Slot
		want int
	}{
		"nothing is forwarded":       {&host{}, slot(testPod, there), unknown},
		"no interface of ours":       {plain, slot(other, there), unknown},
		"an interface we don't know": {plain, slot(99, there), unknown},
		"the host's own":             {plain, slot(testPod, there, as(unix.PACKET_OUTGOING)), int(route.Local)},
		"of a VLAN":                  {plain, slot(testPod, there, tag(5)), int(route.IgnoreTagged)},
		"of a VLAN, to others":       {plain, slot(testPod, there, tag(5), as(unix.PACKET_OTHERHOST)), int(route.IgnoreTagged)},
		"of a priority alone":        {plain, slot(testPod, here, tag(7<<13)), int(route.Local)},
		"short":                      {plain, slot(testPod, there[:13]), int(route.DropPktTooSmall)},
		"no IPv4":                    {plain, slot(testPod, arp), int(route.IgnoreProto)},
		"no IPv4, to others":         {plain, slot(testPod, arp, as(unix.PACKET_OTHERHOST)), int(route.IgnoreProto)},
		"to others":                  {plain, slot(testPod, there, as(unix.PACKET_OTHERHOST)), int(route.DropOtherHost)},
		"to an alias":                {plain, slot(testPod, aliased, as(unix.PACKET_OTHERHOST)), int(route.DropRateLimit)},
		"to all":                     {plain, slot(testPod, there, as(unix.PACKET_BROADCAST)), int(route.IgnoreType)},
		"to a group":                 {plain, slot(testPod, there, as(unix.PACKET_MULTICAST)), int(route.IgnoreType)},
		"no whole header":            {plain, slot(testPod, there[:33]), int(route.Local)},
		"to the host":                {plain, slot(testPod, here), int(route.Local)},
		"to the host, no Ethernet":   {plain, slot(tunnel, here, bare), int(route.Local)},
		"to --punt":                  {plain, slot(testPod, frame("10.65.1.99")), int(route.Punt)},
		"in transit":                 {plain, slot(kernelUp, there), int(route.PuntTransit)},
		"over the share":             {plain, slot(testPod, there), int(route.DropRateLimit)},
		"over the share, tunnel":     {plain, slot(tunnel, frame("10.65.0.2"), bare), int(route.DropRateLimit)},
		"translated":                 {nat, slot(kernelPod, there), int(route.PuntFlow)},
		"translated, but not there":  {nat, slot(testPod, there), int(route.DropRateLimit)},
		"super-packet":               {gso, slot(kernelPod, there, long(1515)), int(route.PuntGSO)},
		"as long as may be":          {gso, slot(kernelPod, there, long(1514)), int(route.DropRateLimit)},
		"super-packet, not there":    {gso, slot(testPod, there, long(1515)), int(route.DropRateLimit)},
		"super-packet, none counted": {plain, slot(kernelPod, there, long(1515)), int(route.DropRateLimit)},
		"nobody reads":               {stalled, slot(kernelPod, there, at(77)), int(route.PuntStalled)},
		"somebody reads again":       {stalled, slot(kernelPod, there, at(78)), int(route.PuntFlow)},
		"nobody reads, not there":    {stalled, slot(testPod, there, at(77)), int(route.DropRateLimit)},
		"of an upper device":         {upper, slot(testHost, frame("10.65.0.2")), int(route.PuntUpper)},
		"upper, of a workload":       {upper, slot(testPod, there), int(route.DropRateLimit)},
		"upper, the kernel forwards": {upper, slot(kernelUp, frame("10.65.0.2")), int(route.DropRateLimit)},
	} {
		v, known := leftToKernel(c.src, c.s)
		if known != (c.want != unknown) || known && int(v) != c.want {
			t.Errorf("%s: %v (%v)", name, route.Verdict(v), known)
		}
	}
}

// TestHostLook: what the tap makes of a frame.
func TestHostLook(t *testing.T) {
	h := New(Config{Sources: newHost()})
	for index, name := range map[int]string{testPod: "cali1", other: "lxc", 1: "lo"} {
		h.SetLink(testLink(index, name), index == testPod)
	}
	s := join(t, h, capture.Request{Interfaces: []string{"any"}})
	tap := &hostTap{h: h}
	arp := make([]byte, 60)
	binary.BigEndian.PutUint16(arp[12:], unix.ETH_P_ARP)
	look := func(s *pktring.Slot) {
		s.Len = len(s.Data)
		tap.look(s, nil)
	}
	for name, c := range map[string]struct {
		s    pktring.Slot
		want sight // but for length and id
		none bool
	}{
		"to the host": {s: pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: frame("10.65.1.32"), Time: 5},
			want: sight{known: true, ethernet: true, ifindex: testPod, received: 5, verdict: uint8(route.Local)}},
		"from the host": {s: pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: frame("10.65.1.2"), PktType: unix.PACKET_OUTGOING},
			want: sight{known: true, ethernet: true, out: true, pktType: unix.PACKET_OUTGOING, ifindex: testPod, verdict: uint8(route.Local)}},
		"ARP to others": {s: pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: arp, PktType: unix.PACKET_OTHERHOST},
			want: sight{known: true, ethernet: true, arp: true, pktType: unix.PACKET_OTHERHOST, ifindex: testPod, verdict: uint8(arpd.IgnoreOtherhost)}},
		"ARP to the host": {s: pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: arp},
			want: sight{known: true, ethernet: true, ifindex: testPod, verdict: uint8(route.IgnoreProto)}},
		"ARP to others, of a VLAN": {s: pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: arp, PktType: unix.PACKET_OTHERHOST, Tagged: true, TCI: 5, TPID: 0x8100},
			want: sight{known: true, ethernet: true, pktType: unix.PACKET_OTHERHOST, ifindex: testPod, tagged: true, tci: 5, tpid: 0x8100, verdict: uint8(route.IgnoreTagged)}},
		"none of ours": {s: pktring.Slot{Ifindex: other, Hatype: unix.ARPHRD_ETHER, Data: arp, PktType: unix.PACKET_OTHERHOST},
			want: sight{ethernet: true, pktType: unix.PACKET_OTHERHOST, ifindex: other}},
		"not known yet": {s: pktring.Slot{Ifindex: tunnel, Hatype: unix.ARPHRD_NONE, Data: frame("10.65.1.2")[14:]},
			want: sight{ifindex: tunnel}},
		"over lo":       {s: pktring.Slot{Ifindex: 1, Hatype: unix.ARPHRD_LOOPBACK, Data: arp}, want: sight{ethernet: true, ifindex: 1}},
		"out over lo":   {s: pktring.Slot{Ifindex: 1, Hatype: unix.ARPHRD_LOOPBACK, Data: arp, PktType: unix.PACKET_OUTGOING}, none: true},
		"a broken slot": {s: pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: arp, Bad: true}, none: true},
		"a short frame with a tag": {s: pktring.Slot{Ifindex: other, Hatype: unix.ARPHRD_ETHER, Data: arp[:13], Tagged: true, TCI: 5},
			want: sight{ethernet: true, ifindex: other}},
	} {
		look(&c.s)
		e, _ := s.rings[fromHost].Peek()
		if e == nil || c.none {
			if (e == nil) != c.none {
				t.Errorf("%s: shown: %v", name, e != nil)
			}
			continue
		}
		if (e.id != 0) != e.known {
			t.Errorf("%s: id %d", name, e.id)
		}
		e.id, e.length, c.want.source = 0, 0, fromHost
		if e.sight != c.want {
			t.Errorf("%s:\n%+v, want\n%+v", name, e.sight, c.want)
		}
		s.seen()
	}
	h.part(s)
	look(&pktring.Slot{Ifindex: testPod, Hatype: unix.ARPHRD_ETHER, Data: arp})
	if s.seen()[fromHost] != 0 {
		t.Error("who has gone is shown frames")
	}
}

func TestEthernetTypes(t *testing.T) {
	for arphrd, want := range map[uint16]bool{unix.ARPHRD_ETHER: true, unix.ARPHRD_LOOPBACK: true, unix.ARPHRD_NONE: false, unix.ARPHRD_PPP: false} {
		if isEthernet(arphrd) != want {
			t.Errorf("%d: %v", arphrd, !want)
		}
	}
}
