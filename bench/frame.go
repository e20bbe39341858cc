package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A datagram of the generator carries, in network byte order, its flow (2 bytes), its number in the flow (4), the time
// it was sent (8: CLOCK_MONOTONIC, ns) and 2 bytes that keep the UDP checksum what it was when the frame was built.
const (
	payloadFlow   = 0
	payloadNumber = 2
	payloadTime   = 6
	payloadFix    = 14
	payloadLen    = 18 // which makes the smallest Ethernet frame
	payloadAt     = 14 + 20 + 8

	fcsLen     = 4 // RFC 2544 counts it (9.1), a veth has none
	smallFrame = payloadAt + payloadLen + fcsLen
	firstPort  = 10000
	maxFlows   = 50000
)

// Path is where frames are to go: from a pod, to its next hop's MAC, for another pod.
type Path struct {
	FromMAC, ToMAC net.HardwareAddr
	From, To       netip.Addr
}

// Frames says what frames to build.
type Frames struct {
	Paths []Path // flow n takes path n, and they begin anew
	Port  uint16 // destination
	First int    // number of the first flow
	Flows int    // they differ by their source port
	Sizes []int  // with FCS, bytes; one frame after the other, beginning anew
}

// Build makes Flows times len(Sizes) frames, so that every flow has every size. Frame n is of flow n modulo Flows.
func (f Frames) Build() ([][]byte, error) {
	if f.Flows < 1 || f.First < 0 || f.First+f.Flows > maxFlows {
		return nil, fmt.Errorf("bench: flows %d to %d: want 1 to %d of them", f.First, f.First+f.Flows, maxFlows)
	}
	frames := make([][]byte, f.Flows*len(f.Sizes))
	for i := range frames {
		flow, turn := i%f.Flows, i/f.Flows
		size := f.Sizes[(flow+turn)%len(f.Sizes)]
		if size < smallFrame {
			return nil, fmt.Errorf("bench: frame of %d bytes: the least is %d", size, smallFrame)
		}
		var err error
		if frames[i], err = udpFrame(f.Paths[flow%len(f.Paths)], uint16(f.First+flow), f.Port, size-fcsLen); err != nil {
			return nil, err
		}
	}
	return frames, nil
}

func udpFrame(p Path, flow, port uint16, size int) ([]byte, error) {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment,
		SrcIP: p.From.AsSlice(), DstIP: p.To.AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(firstPort + flow), DstPort: layers.UDPPort(port)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, fmt.Errorf("bench: frame: %w", err)
	}
	payload := make(gopacket.Payload, size-payloadAt)
	binary.BigEndian.PutUint16(payload[payloadFlow:], flow)
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: p.FromMAC, DstMAC: p.ToMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp, payload)
	if err != nil {
		return nil, fmt.Errorf("bench: frame: %w", err)
	}
	return b.Bytes(), nil
}

// stamp numbers a frame and says when it is sent, and leaves its UDP checksum right: in one's complement (RFC 1071) the
// words that it writes add up to nothing.
func stamp(frame []byte, number uint32, now uint64) {
	p := frame[payloadAt:]
	binary.BigEndian.PutUint32(p[payloadNumber:], number)
	binary.BigEndian.PutUint64(p[payloadTime:], now)
	sum := uint64(number>>16) + uint64(number&0xffff) + now>>48 + now>>32&0xffff + now>>16&0xffff + now&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[payloadFix:], ^uint16(sum))
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
