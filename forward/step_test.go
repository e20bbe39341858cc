package forward

import (
	"net/netip"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

func TestStepVerdicts(t *testing.T) {
	other := func(f *Frame) { f.PktType = packetOtherHost; f.ethernet().SetDst(wire.MAC{2, 9, 9, 9, 9, 9}) }
	tests := []struct {
		name    string
		from    int32
		buf     []byte
		edit    func(*Frame)
		verdict route.Verdict
		icmp    route.ICMPError
		out     int32
	}{
		{name: "pod to pod", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), verdict: route.Forward, out: ifPod2},
		{name: "pod to remote pod", from: ifPod1, buf: packet("10.65.0.1", "10.65.1.9", 18), verdict: route.Forward, out: ifUplink},
		{name: "uplink to pod", from: ifUplink, buf: packet("10.65.1.9", "10.65.0.2", 18), verdict: route.Forward, out: ifPod2},
		{name: "uplink to uplink", from: ifUplink, buf: packet("10.65.1.9", "10.66.0.2", 18), verdict: route.DropTransit, out: ifSmall},
		{name: "unknown interface", from: 99, buf: packet("10.65.0.1", "10.65.0.2", 18), verdict: route.DropIfUnknown},
		{name: "not IP", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.ethernet().SetType(0x88cc) }, verdict: route.IgnoreProto},
		{name: "tagged", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.Tagged = true }, verdict: route.IgnoreTagged},
		{name: "broadcast at layer 2", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.PktType = 1 }, verdict: route.IgnoreType},
		{name: "other host's", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: other, verdict: route.DropOtherHost},
		{name: "other type but our MAC", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.PktType = packetOtherHost }, verdict: route.Forward, out: ifPod2},
		{name: "frame too short for a header", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18)[:VnetLen+wire.EthernetLen+19], verdict: route.DropIPInHdr},
		{name: "no Ethernet header", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18)[:VnetLen+13], verdict: route.DropPktTooSmall},
		{name: "version 5", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip[0] = 0x55 }), verdict: route.DropIPInHdr},
		{name: "IHL 4", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip[0] = 0x44 }), verdict: route.DropIPInHdr},
		{name: "checksum", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.Buf[VnetLen+wire.EthernetLen+10] ^= 1 }, verdict: route.DropIPCsum},
		{name: "total length beyond the frame", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip.SetTotalLen(200) }), verdict: route.DropPktTooSmall},
		{name: "total length below the header", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip.SetTotalLen(19) }), verdict: route.DropIPInHdr},
		{name: "source multicast", from: ifPod1, buf: packet("224.0.0.1", "10.65.0.2", 18), verdict: route.DropIPInvalidSource},
		{name: "source zero", from: ifPod1, buf: packet("0.0.0.0", "10.65.0.2", 18), verdict: route.DropIPInvalidSource},
		{name: "source loopback", from: ifPod1, buf: packet("127.0.0.1", "10.65.0.2", 18), verdict: route.DropIPLocalnet},
		{name: "source of this host", from: ifPod1, buf: packet("192.168.1.32", "10.65.0.2", 18), verdict: route.DropIPLocalSource},
		{name: "destination multicast", from: ifPod1, buf: packet("10.65.0.1", "224.0.0.5", 18), verdict: route.IgnoreType},
		{name: "destination of this host", from: ifPod1, buf: packet("10.65.0.1", "192.168.1.32", 18), verdict: route.Local},
		{name: "no route", from: ifPod1, buf: packet("10.65.0.1", "172.16.0.1", 18), verdict: route.DropIPInNoRoutes, icmp: icmpError(3, 0, 0)},
		{name: "blackhole", from: ifPod1, buf: packet("10.65.0.1", "10.70.0.1", 18), verdict: route.DropRouteBlackhole},
		{name: "unreachable", from: ifPod1, buf: packet("10.65.0.1", "10.71.0.1", 18), verdict: route.DropRouteUnreachable, icmp: icmpError(3, 1, 0)},
		{name: "prohibit", from: ifPod1, buf: packet("10.65.0.1", "10.72.0.1", 18), verdict: route.DropRouteProhibit, icmp: icmpError(3, 13, 0)},
		{name: "TTL 1", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, ttl(1)), verdict: route.DropTTLExpired, icmp: icmpError(11, 0, 0), out: ifPod2},
		{name: "TTL 0", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, ttl(0)), verdict: route.DropTTLExpired, icmp: icmpError(11, 0, 0), out: ifPod2},
		{name: "no neighbour", from: ifPod1, buf: packet("10.65.0.1", "10.67.0.2", 18), verdict: route.Queue, out: ifUplink},
		{name: "too big with DF", from: ifPod1, buf: packet("10.65.0.1", "10.66.0.2", 800, df), verdict: route.DropPktTooBig, icmp: icmpError(3, 4, 600), out: ifSmall},
		{name: "too big without DF", from: ifPod1, buf: packet("10.65.0.1", "10.66.0.2", 800), verdict: route.Forward, out: ifSmall},
		{name: "GSO within the MTU", from: ifPod1, buf: tcpGSO("10.65.0.1", "10.65.0.2", 9000, 1448, wire.IPv4DF), verdict: route.Forward, out: ifPod2},
		{name: "GSO beyond the MTU", from: ifPod1, buf: tcpGSO("10.65.0.1", "10.66.0.2", 9000, 1448, wire.IPv4DF), verdict: route.DropPktTooBig, icmp: icmpError(3, 4, 600), out: ifSmall},
		{name: "GSO type against protocol", from: ifPod1, buf: tcpGSO("10.65.0.1", "10.65.0.2", 9000, 1448, 0), edit: func(f *Frame) { f.Buf[1] = gsoUDPL4 }, verdict: route.DropGSO, out: ifPod2},
		{name: "lost in the ring", from: ifPod1, buf: nil, edit: func(f *Frame) { f.Lost = route.DropNoMem }, verdict: route.DropNoMem},
	}
	table := testBuilder(route.Policy{}).Publish()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Frame{Buf: tt.buf, Ifindex: tt.from, Ethernet: true}
			if tt.edit != nil {
				tt.edit(&f)
			}
			var r result
			step(table, &f, &r)
			if r.Verdict != tt.verdict || r.ICMP != tt.icmp {
				t.Errorf("verdict %v, ICMP %v; want %v, %v", r.Verdict, r.ICMP, tt.verdict, tt.icmp)
			}
			if tt.out != 0 && (r.Out == nil || r.Out.Ifindex != tt.out) {
				t.Errorf("out %+v, want interface %d", r.Out, tt.out)
			}
		})
	}
}

func TestStepRewrites(t *testing.T) {
	table := testBuilder(route.Policy{}).Publish()
	buf := append(packet("10.65.0.1", "10.65.1.9", 2), make([]byte, 16)...) // padded to the minimum
	f := Frame{Buf: buf, Ifindex: ifPod1, Ethernet: true}
	var r result
	step(table, &f, &r)
	eth := f.ethernet()
	ip := wire.IPv4(eth.Payload())
	if r.Verdict != route.Forward || len(ip) != 30 {
		t.Fatalf("verdict %v, %d bytes; want forward, 30", r.Verdict, len(ip))
	}
	if eth.Dst() != macRouter || eth.Src() != macUplink {
		t.Errorf("MACs %s > %s", eth.Src(), eth.Dst())
	}
	if ip.TTL() != 63 || !ip.ChecksumOK() {
		t.Errorf("TTL %d, checksum ok %v", ip.TTL(), ip.ChecksumOK())
	}
	if f.Slot != 1 {
		t.Errorf("slot %d, want 1", f.Slot)
	}
}

// TestCopies: without a claim the kernel has its own copy of what is local.
func TestCopies(t *testing.T) {
	table := testBuilder(route.Policy{Copies: true, Punt: []netip.Prefix{netip.MustParsePrefix("10.65.1.0/24")}}).Publish()
	for dst, want := range map[string]route.Verdict{"192.168.1.32": route.Local, "192.168.1.255": route.Local, "10.65.1.4": route.Punt, "10.65.0.2": route.Forward} {
		f := Frame{Buf: packet("10.65.0.1", dst, 4), Ifindex: ifPod1, Ethernet: true}
		var r result
		if step(table, &f, &r); r.Verdict != want {
			t.Errorf("to %s: %v, want %v", dst, r.Verdict, want)
		}
	}
}

// FuzzStep: no frame makes step panic, and what it forwards is sound.
func FuzzStep(f *testing.F) {
	table := testBuilder(route.Policy{}).Publish()
	f.Add(packet("10.65.0.1", "10.65.0.2", 18), uint8(0))
	f.Add(packet("10.65.0.1", "10.66.0.2", 800), uint8(3))
	f.Add(tcpGSO("10.65.0.1", "10.65.0.2", 3000, 1448, wire.IPv4DF), uint8(0))
	f.Add(tcpGSO("10.65.0.1", "10.66.0.2", 3000, 1448, 0), uint8(0))
	f.Fuzz(func(t *testing.T, buf []byte, pktType uint8) {
		if len(buf) < VnetLen {
			return // the ring never gives less
		}
		// Most mutations break the checksum; mend it, to get further.
		if ip := buf[VnetLen:]; len(ip) > wire.EthernetLen+20 {
			if h := wire.IPv4(ip[wire.EthernetLen:]); h.HeaderValid() {
				h.UpdateHeaderChecksum()
			}
		}
		fr := Frame{Buf: buf, Ifindex: ifPod1, Ethernet: true, PktType: pktType % 4}
		r := result{clock: midnight}
		step(table, &fr, &r)
		if r.Verdict == route.NotSpecified {
			t.Fatal("no verdict")
		}
		if r.Verdict == route.Forward {
			ip := wire.IPv4(fr.ethernet().Payload())
			if !ip.ChecksumOK() || ip.TTL() == 0 || len(ip) > len(buf) {
				t.Fatalf("forwarded: %x", ip)
			}
		}
		if r.ICMP.Type != 0 {
			out := make([]byte, VnetLen+wire.EthernetLen+icmpRoom)
			if ip := wire.IPv4(fr.Buf[VnetLen+wire.EthernetLen:]); mayReport(ip, fr.PktType) {
				if e := (icmpReport{ICMPError: r.ICMP, about: ip, ttl: 64, mtu: 1500}); e.put(out) == 0 {
					t.Fatal("no room for an ICMP error")
				}
			}
		}
	})
}

// TestStepSlowHeaderChecksum holds the fast checksum against the plain one.
func TestStepSlowHeaderChecksum(t *testing.T) {
	for ihl := 5; ihl <= 15; ihl++ {
		h := make(wire.IPv4, ihl*4)
		for i := range h {
			h[i] = byte(0xff - i*3)
		}
		h[0] = 0x40 | byte(ihl)
		h.UpdateHeaderChecksum()
		if !h.ChecksumOK() || wire.Checksum(h) != 0 {
			t.Errorf("IHL %d: checksum not accepted", ihl)
		}
		for ttl := 255; ttl > 0; ttl-- {
			h[8] = byte(ttl)
			h.UpdateHeaderChecksum()
			h.DecrementTTL()
			if !h.ChecksumOK() {
				t.Fatalf("IHL %d TTL %d: checksum %04x after decrement", ihl, ttl, h.HeaderChecksum())
			}
		}
	}
}
