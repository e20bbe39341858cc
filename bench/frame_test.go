package bench

import (
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

func TestUDPFrames(t *testing.T) {
	frames, err := UDPFrames(testPath, 3, smallFrame, false)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[layers.UDPPort]bool{}
	for _, f := range frames {
		if len(f) != 60 {
			t.Errorf("frame of %d bytes, want 60", len(f))
		}
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Fatal(p.ErrorLayer().Error())
		}
		udp, ip := p.Layer(layers.LayerTypeUDP).(*layers.UDP), f[14:34]
		ports[udp.SrcPort] = true
		if udp.DstPort != discardPort || len(udp.Payload) != payloadLen {
			t.Errorf("UDP %v", udp)
		}
		if wire.Checksum(ip) != 0 {
			t.Error("the IPv4 header's checksum is wrong")
		}
		sum := wire.PseudoSum4(testPath.From.As4(), testPath.To.As4(), wire.ProtoUDP, len(f)-34)
		if wire.Fold(wire.Sum(f[34:], sum)) != 0 {
			t.Error("the UDP checksum is wrong")
		}
	}
	if len(ports) != 3 {
		t.Errorf("%d source ports, want 3", len(ports))
	}
	for _, bad := range []struct{ flows, size int }{{1, 59}, {0, 60}, {60000, 60}} {
		if _, err := UDPFrames(testPath, bad.flows, bad.size, false); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

func TestARPRequest(t *testing.T) {
	f, err := ARPRequest(testPath.FromMAC, testPath.From, gateway)
	if err != nil {
		t.Fatal(err)
	}
	a := wire.ARP(f[wire.EthernetLen:])
	if !a.Valid() || !a.IsIPv4OverEthernet() || a.Op() != wire.ARPRequest || a.TargetIP() != gateway || a.SenderIP() != testPath.From {
		t.Errorf("request % x", f)
	}
	if isReply(f) || isReply(f[:20]) {
		t.Error("taken for a reply")
	}
}

func TestUDPArrivals(t *testing.T) {
	const snmp = `Ip: Forwarding DefaultTTL
Ip: 2 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 1 20 999 999 300 999 4000 999 50000
UdpLite: InDatagrams NoPorts
UdpLite: 5 5
`
	got, err := udpArrivals([]byte(snmp))
	if err != nil || got != 54321 {
		t.Errorf("got %d, %v; want 54321", got, err)
	}
	for _, bad := range []string{"", "Udp: InDatagrams\n", "Udp: InDatagrams NoPorts\nUdp: 1\n", "Udp: InDatagrams\nUdp: x\n"} {
		if _, err := udpArrivals([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
