package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A datagram of the generator carries its flow, its number in the flow and the
// time it was sent.
const (
	payloadFlow   = 0
	payloadNumber = 2
	payloadTime   = 10
	payloadLen    = 18 // which makes the smallest Ethernet frame, 60 bytes without FCS
	payloadAt     = 14 + 20 + 8
	smallFrame    = payloadAt + payloadLen
)

const (
	discardPort = 9 // RFC 863
	echoPort    = 7 // RFC 862
	firstPort   = 10000
)

// Path is where frames are to go: from a pod, to its host's MAC, for another pod.
type Path struct {
	FromMAC, ToMAC net.HardwareAddr
	From, To       netip.Addr
}

// UDPFrames builds one frame of size bytes (without FCS) a flow. Flows differ by
// their source port. Frames that are to be numbered while they are sent have no
// UDP checksum (0, RFC 768), as nobody recomputes it; the others have theirs.
func UDPFrames(p Path, flows, size int, numbered bool) ([][]byte, error) {
	if size < smallFrame {
		return nil, fmt.Errorf("bench: frame of %d bytes: the least is %d", size, smallFrame)
	}
	if flows < 1 || flows > 50000 {
		return nil, fmt.Errorf("bench: %d flows: want 1 to 50000", flows)
	}
	frames := make([][]byte, flows)
	for i := range frames {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment,
			SrcIP: p.From.AsSlice(), DstIP: p.To.AsSlice()}
		udp := &layers.UDP{SrcPort: layers.UDPPort(firstPort + i), DstPort: discardPort}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, fmt.Errorf("bench: frame: %w", err)
		}
		payload := make(gopacket.Payload, size-payloadAt)
		binary.BigEndian.PutUint16(payload[payloadFlow:], uint16(i))
		b := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: p.FromMAC, DstMAC: p.ToMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp, payload)
		if err != nil {
			return nil, fmt.Errorf("bench: frame: %w", err)
		}
		frames[i] = b.Bytes()
		if numbered {
			clear(frames[i][payloadAt-2 : payloadAt])
		}
	}
	return frames, nil
}

// ARPRequest builds the broadcast request that a pod sends for target.
func ARPRequest(mac net.HardwareAddr, sender, target netip.Addr) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{},
		&layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice()})
	if err != nil {
		return nil, fmt.Errorf("bench: ARP request: %w", err)
	}
	return b.Bytes(), nil
}
