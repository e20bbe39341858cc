package bench

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"proxyarpd/internal/wire"
)

var testPath = Path{
	FromMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, ToMAC: net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee},
	From: netip.MustParseAddr("10.65.0.2"), To: netip.MustParseAddr("10.65.0.4"),
}

func TestFrames(t *testing.T) {
	second := testPath
	second.To = netip.MustParseAddr("10.65.0.5")
	frames, err := Frames{Paths: []Path{testPath, second}, Port: 4000, First: 5, Flows: 3, Sizes: []int{64, 1518}}.Build()
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) != 6 {
		t.Fatalf("%d frames, want 3 flows of 2 sizes", len(frames))
	}
	sizes := map[layers.UDPPort]int{}
	for i, f := range frames {
		if want := gopacketFrame(t, []Path{testPath, second}[i%3%2], uint16(5+i%3), 4000, len(f)); !bytes.Equal(f, want) {
			t.Errorf("frame %d is\n% x\ngopacket's is\n% x", i, f, want)
		}
		stamp(f, uint32(i)*0x10001, 1<<63+uint64(i)*12345678901)
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Fatal(p.ErrorLayer().Error())
		}
		udp, ip := p.Layer(layers.LayerTypeUDP).(*layers.UDP), f[14:34]
		sizes[udp.SrcPort] += len(f) + fcsLen
		if flow := binary.BigEndian.Uint16(udp.Payload); udp.DstPort != 4000 || int(flow) != 5+i%3 || int(udp.SrcPort) != firstPort+5+i%3 {
			t.Errorf("frame %d: %v, flow %d", i, udp, flow)
		}
		to := []Path{testPath, second}[i%3%2].To
		if wire.Checksum(ip) != 0 {
			t.Error("the IPv4 header's checksum is wrong")
		}
		sum := wire.PseudoSum4(testPath.From.As4(), to.As4(), wire.ProtoUDP, len(f)-34)
		if wire.Fold(wire.Sum(f[34:], sum)) != 0 {
			t.Errorf("frame %d: the UDP checksum is wrong once it is stamped", i)
		}
	}
	for port, sum := range sizes {
		if sum != 64+1518 {
			t.Errorf("port %d has frames of %d bytes, want one of each size", port, sum)
		}
	}
	narrow := testPath
	narrow.MTU = 1450
	for size, ok := range map[int]bool{64: true, 1468: true, 1469: false, 1518: false} {
		if _, err := (Frames{Paths: []Path{narrow}, Flows: 1, Sizes: []int{size}}).Build(); (err == nil) != ok {
			t.Errorf("%d bytes at an MTU of 1450: %v", size, err)
		}
	}
	mixed := testPath
	mixed.To = netip.MustParseAddr("::1")
	if _, err := (Frames{Paths: []Path{mixed}, Flows: 1, Sizes: []int{84}}).Build(); err == nil {
		t.Error("addresses of two families are taken")
	}
	for _, bad := range []struct{ first, flows, size int }{{0, 1, 63}, {0, 0, 64}, {0, 60000, 64}, {49999, 2, 64}} {
		if _, err := (Frames{Paths: []Path{testPath}, First: bad.first, Flows: bad.flows, Sizes: []int{bad.size}}).Build(); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

var testPath6 = Path{
	FromMAC: testPath.FromMAC, ToMAC: testPath.ToMAC,
	From: netip.MustParseAddr("fd00:10:65::2"), To: netip.MustParseAddr("fd00:10:65::4"),
}

func TestFramesOfIPv6(t *testing.T) {
	frames, err := Frames{Paths: []Path{testPath6}, Port: 4000, First: 5, Flows: 3, Sizes: []int{84, 1518}}.Build()
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		stamp(f, uint32(i)*0x10001, 1<<63+uint64(i)*12345678901)
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Fatal(p.ErrorLayer().Error())
		}
		ip, udp := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6), p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if ip.HopLimit != 64 || int(ip.Length) != len(f)-54 || int(udp.SrcPort) != firstPort+5+i%3 || binary.BigEndian.Uint16(udp.Payload) != uint16(5+i%3) {
			t.Errorf("frame %d: %v %v", i, ip, udp)
		}
		sum := wire.PseudoSum6(testPath6.From.As16(), testPath6.To.As16(), wire.ProtoUDP, len(f)-54)
		if wire.Fold(wire.Sum(f[54:], sum)) != 0 {
			t.Errorf("frame %d: the UDP checksum is wrong once it is stamped", i)
		}
	}
	if _, err := (Frames{Paths: []Path{testPath6}, Flows: 1, Sizes: []int{83}}).Build(); err == nil {
		t.Error("a frame that has no room for the datagram is built")
	}
}

// TestNeighborSolicitation compares with the bytes of RFC 4861 section 4.3, of which gopacket checks those that it knows.
func TestNeighborSolicitation(t *testing.T) {
	f, err := Request(testPath6.FromMAC, testPath6.From, gateway6)
	if err != nil {
		t.Fatal(err)
	}
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	ns, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if !ok || p.ErrorLayer() != nil {
		t.Fatalf("% x: %v", f, p)
	}
	ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if ns.TargetAddress.String() != gateway6.String() || len(ns.Options) != 1 || !bytes.Equal(ns.Options[0].Data, testPath6.FromMAC) ||
		ip.HopLimit != 255 || ip.DstIP.String() != "ff02::1:ffee:eeee" || eth.DstMAC.String() != "33:33:ff:ee:ee:ee" {
		t.Errorf("%v\n%v\n%v", eth, ip, ns)
	}
	if wire.Fold(wire.Sum(f[54:], wire.PseudoSum6([16]byte(f[22:38]), [16]byte(f[38:54]), wire.ProtoICMPv6, len(f)-54))) != 0 {
		t.Error("the checksum is wrong")
	}
	if _, ok := answered(f); ok {
		t.Error("a solicitation is taken for an answer")
	}
	f[54] = wire.ICMPv6NeighAdvert
	if a, ok := answered(f); !ok || a != gateway6 {
		t.Errorf("an advertisement of %v", a)
	}
}

func TestSNMP6Counter(t *testing.T) {
	const snmp6 = "Udp6InDatagrams \t1\nUdp6InCsumErrors                \t4000\n"
	if got, err := snmp6Counter([]byte(snmp6), "Udp6InCsumErrors"); err != nil || got != 4000 {
		t.Errorf("got %d, %v; want 4000", got, err)
	}
	if _, err := snmp6Counter([]byte(snmp6), "Udp6NoPorts"); err == nil {
		t.Error("no error")
	}
}

// gopacketFrame is the same frame, built by gopacket.
func gopacketFrame(t *testing.T, p Path, flow, port uint16, size int) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment,
		SrcIP: p.From.AsSlice(), DstIP: p.To.AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(firstPort + flow), DstPort: layers.UDPPort(port)}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	payload := make(gopacket.Payload, size-payloadAt)
	binary.BigEndian.PutUint16(payload[payloadFlow:], flow)
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: p.FromMAC, DstMAC: p.ToMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp, payload))
	return b.Bytes()
}

func TestARPRequest(t *testing.T) {
	f, err := ARPRequest(testPath.FromMAC, testPath.From, gateway)
	if err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{},
		&layers.Ethernet{SrcMAC: testPath.FromMAC, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: testPath.FromMAC, SourceProtAddress: testPath.From.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: gateway.AsSlice()}))
	if !bytes.Equal(f, b.Bytes()) {
		t.Errorf("request\n% x\ngopacket's is\n% x", f, b.Bytes())
	}
	a := wire.ARP(f[wire.EthernetLen:])
	if !a.Valid() || !a.IsIPv4OverEthernet() || a.Op() != wire.ARPRequest || a.TargetIP() != gateway || a.SenderIP() != testPath.From {
		t.Errorf("request % x", f)
	}
	for _, b := range [][]byte{f, f[:20], f[:5]} {
		if _, ok := answered(b); ok {
			t.Error("taken for a reply")
		}
	}
}

func TestSNMPCounter(t *testing.T) {
	const snmp = `Ip: Forwarding DefaultTTL
Ip: 2 64
Udp: InDatagrams NoPorts InCsumErrors
Udp: 1 20 4000
UdpLite: InDatagrams InCsumErrors
UdpLite: 5 6
`
	if got, err := snmpCounter([]byte(snmp), "Udp:", "InCsumErrors"); err != nil || got != 4000 {
		t.Errorf("got %d, %v; want 4000", got, err)
	}
	for _, bad := range []string{"", "Udp: InCsumErrors\n", "Udp: NoPorts InCsumErrors\nUdp: 1\n", "Udp: InCsumErrors\nUdp: x\n", "Udp: NoPorts\nUdp: 1\n"} {
		if _, err := snmpCounter([]byte(bad), "Udp:", "InCsumErrors"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
