package forward

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

func TestStepVerdicts(t *testing.T) {
	other := func(f *Frame) { f.PktType = packetOtherHost; f.ethernet().SetDst(wire.MAC{2, 9, 9, 9, 9, 9}) }
	tests := []struct {
		name    string
		from    int32
		buf     []byte
		edit    func(*Frame)
		verdict Verdict
		icmp    icmpError
		out     int32
	}{
		{name: "pod to pod", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), verdict: Forward, out: ifPod2},
		{name: "pod to remote pod", from: ifPod1, buf: packet("10.65.0.1", "10.65.1.9", 18), verdict: Forward, out: ifUplink},
		{name: "uplink to pod", from: ifUplink, buf: packet("10.65.1.9", "10.65.0.2", 18), verdict: Forward, out: ifPod2},
		{name: "uplink to uplink", from: ifUplink, buf: packet("10.65.1.9", "10.66.0.2", 18), verdict: DropTransit, out: ifSmall},
		{name: "unknown interface", from: 99, buf: packet("10.65.0.1", "10.65.0.2", 18), verdict: DropIfUnknown},
		{name: "not IPv4", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.ethernet().SetType(wire.EtherTypeIPv6) }, verdict: IgnoreProto},
		{name: "tagged", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.Tagged = true }, verdict: IgnoreTagged},
		{name: "broadcast at layer 2", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.PktType = 1 }, verdict: IgnoreType},
		{name: "other host's", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: other, verdict: DropOtherHost},
		{name: "other type but our MAC", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.PktType = packetOtherHost }, verdict: Forward, out: ifPod2},
		{name: "frame too short for a header", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18)[:VnetLen+wire.EthernetLen+19], verdict: DropIPInHdr},
		{name: "no Ethernet header", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18)[:VnetLen+13], verdict: DropPktTooSmall},
		{name: "version 5", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip[0] = 0x55 }), verdict: DropIPInHdr},
		{name: "IHL 4", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip[0] = 0x44 }), verdict: DropIPInHdr},
		{name: "checksum", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18), edit: func(f *Frame) { f.Buf[VnetLen+wire.EthernetLen+10] ^= 1 }, verdict: DropIPCsum},
		{name: "total length beyond the frame", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip.SetTotalLen(200) }), verdict: DropPktTooSmall},
		{name: "total length below the header", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, func(_ Vnet, ip wire.IPv4) { ip.SetTotalLen(19) }), verdict: DropIPInHdr},
		{name: "source multicast", from: ifPod1, buf: packet("224.0.0.1", "10.65.0.2", 18), verdict: DropIPInvalidSource},
		{name: "source zero", from: ifPod1, buf: packet("0.0.0.0", "10.65.0.2", 18), verdict: DropIPInvalidSource},
		{name: "source loopback", from: ifPod1, buf: packet("127.0.0.1", "10.65.0.2", 18), verdict: DropIPLocalnet},
		{name: "source of this host", from: ifPod1, buf: packet("192.168.1.32", "10.65.0.2", 18), verdict: DropIPLocalSource},
		{name: "destination multicast", from: ifPod1, buf: packet("10.65.0.1", "224.0.0.5", 18), verdict: IgnoreType},
		{name: "destination of this host", from: ifPod1, buf: packet("10.65.0.1", "192.168.1.32", 18), verdict: Local},
		{name: "no route", from: ifPod1, buf: packet("10.65.0.1", "172.16.0.1", 18), verdict: DropIPInNoRoutes, icmp: icmpError{3, 0, 0}},
		{name: "blackhole", from: ifPod1, buf: packet("10.65.0.1", "10.70.0.1", 18), verdict: DropRouteBlackhole},
		{name: "unreachable", from: ifPod1, buf: packet("10.65.0.1", "10.71.0.1", 18), verdict: DropRouteUnreachable, icmp: icmpError{3, 1, 0}},
		{name: "prohibit", from: ifPod1, buf: packet("10.65.0.1", "10.72.0.1", 18), verdict: DropRouteProhibit, icmp: icmpError{3, 13, 0}},
		{name: "TTL 1", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, ttl(1)), verdict: DropTTLExpired, icmp: icmpError{11, 0, 0}, out: ifPod2},
		{name: "TTL 0", from: ifPod1, buf: packet("10.65.0.1", "10.65.0.2", 18, ttl(0)), verdict: DropTTLExpired, icmp: icmpError{11, 0, 0}, out: ifPod2},
		{name: "no neighbour", from: ifPod1, buf: packet("10.65.0.1", "10.67.0.2", 18), verdict: Queue, out: ifUplink},
		{name: "too big with DF", from: ifPod1, buf: packet("10.65.0.1", "10.66.0.2", 800, df), verdict: DropPktTooBig, icmp: icmpError{3, 4, 600}, out: ifSmall},
		{name: "too big without DF", from: ifPod1, buf: packet("10.65.0.1", "10.66.0.2", 800), verdict: Forward, out: ifSmall},
		{name: "GSO within the MTU", from: ifPod1, buf: tcpGSO("10.65.0.1", "10.65.0.2", 9000, 1448, wire.IPv4DF), verdict: Forward, out: ifPod2},
		{name: "GSO beyond the MTU", from: ifPod1, buf: tcpGSO("10.65.0.1", "10.66.0.2", 9000, 1448, wire.IPv4DF), verdict: DropPktTooBig, icmp: icmpError{3, 4, 600}, out: ifSmall},
		{name: "GSO type against protocol", from: ifPod1, buf: tcpGSO("10.65.0.1", "10.65.0.2", 9000, 1448, 0), edit: func(f *Frame) { f.Buf[1] = gsoUDPL4 }, verdict: DropGSO, out: ifPod2},
		{name: "lost in the ring", from: ifPod1, buf: nil, edit: func(f *Frame) { f.Lost = DropNoMem }, verdict: DropNoMem},
	}
	table := testBuilder(Policy{}).Publish()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Frame{Buf: tt.buf, Ifindex: tt.from, Ethernet: true}
			if tt.edit != nil {
				tt.edit(&f)
			}
			var r result
			step(table, &f, &r)
			if r.verdict != tt.verdict || r.icmp != tt.icmp {
				t.Errorf("verdict %v, ICMP %v; want %v, %v", r.verdict, r.icmp, tt.verdict, tt.icmp)
			}
			if tt.out != 0 && (r.out == nil || r.out.Ifindex != tt.out) {
				t.Errorf("out %+v, want interface %d", r.out, tt.out)
			}
		})
	}
}

func TestStepRewrites(t *testing.T) {
	table := testBuilder(Policy{}).Publish()
	buf := append(packet("10.65.0.1", "10.65.1.9", 2), make([]byte, 16)...) // padded to the minimum
	f := Frame{Buf: buf, Ifindex: ifPod1, Ethernet: true}
	var r result
	step(table, &f, &r)
	eth := f.ethernet()
	ip := wire.IPv4(eth.Payload())
	if r.verdict != Forward || len(ip) != 30 {
		t.Fatalf("verdict %v, %d bytes; want forward, 30", r.verdict, len(ip))
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
	table := testBuilder(Policy{Copies: true, Punt: []netip.Prefix{netip.MustParsePrefix("10.65.1.0/24")}}).Publish()
	for dst, want := range map[string]Verdict{"192.168.1.32": Local, "192.168.1.255": Local, "10.65.1.4": Punt, "10.65.0.2": Forward} {
		f := Frame{Buf: packet("10.65.0.1", dst, 4), Ifindex: ifPod1, Ethernet: true}
		var r result
		if step(table, &f, &r); r.verdict != want {
			t.Errorf("to %s: %v, want %v", dst, r.verdict, want)
		}
	}
}

// FuzzStep: no frame makes step panic, and what it forwards is sound.
func FuzzStep(f *testing.F) {
	table := testBuilder(Policy{}).Publish()
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
		if r.verdict == NotSpecified {
			t.Fatal("no verdict")
		}
		if r.verdict == Forward {
			ip := wire.IPv4(fr.ethernet().Payload())
			if !ip.ChecksumOK() || ip.TTL() == 0 || len(ip) > len(buf) {
				t.Fatalf("forwarded: %x", ip)
			}
		}
		if r.icmp.Type != 0 {
			out := make([]byte, VnetLen+wire.EthernetLen+icmpRoom)
			if ip := wire.IPv4(fr.Buf[VnetLen+wire.EthernetLen:]); mayReport(ip, fr.PktType) {
				if e := (icmpReport{icmpError: r.icmp, about: ip, ttl: 64, mtu: 1500}); e.put(out) == 0 {
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
