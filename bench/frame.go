package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"proxyarpd/internal/wire"
)

// A datagram of the generator carries, in network byte order, its flow (2 bytes), its number in the flow (4), the time
// it was sent (8: CLOCK_MONOTONIC, ns) and 2 bytes that keep the UDP checksum what it was when the frame was built.
const (
	payloadFlow   = 0
	payloadNumber = 2
	payloadTime   = 6
	payloadFix    = 14
	payloadLen    = 18 // which makes the smallest Ethernet frame
	udpLen        = 8
	payloadAt     = wire.EthernetLen + wire.IPv4MinLen + udpLen
	payloadAt6    = wire.EthernetLen + wire.IPv6Len + udpLen // of IPv6

	fcsLen     = 4 // RFC 2544 counts it (9.1), a veth has none
	smallFrame = payloadAt + payloadLen + fcsLen
	firstPort  = 10000
	maxFlows   = 50000
)

// Path is where frames are to go: from a pod, to its next hop's MAC, for another pod.
type Path struct {
	FromMAC, ToMAC net.HardwareAddr
	From, To       netip.Addr
	MTU            int // of the sender's interface; 0: any frame will do
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
		if least := leastFrame(f.Paths[0].To.Is6()); size < least {
			return nil, fmt.Errorf("bench: frame of %d bytes: the least is %d", size, least)
		}
		var err error
		if frames[i], err = udpFrame(f.Paths[flow%len(f.Paths)], uint16(f.First+flow), f.Port, size-fcsLen); err != nil {
			return nil, err
		}
	}
	return frames, nil
}

// udpFrame is what gopacket's layers would build (the tests compare): those cost every process that links them 7 MB.
func udpFrame(p Path, flow, port uint16, size int) ([]byte, error) {
	if len(p.FromMAC) != len(wire.MAC{}) || len(p.ToMAC) != len(wire.MAC{}) || !p.From.IsValid() || p.From.BitLen() != p.To.BitLen() {
		return nil, fmt.Errorf("bench: frame: want Ethernet and addresses of one family, not %s %s to %s %s", p.FromMAC, p.From, p.ToMAC, p.To)
	}
	if p.MTU > 0 && size > p.MTU+wire.EthernetLen {
		return nil, fmt.Errorf("bench: a frame of %d bytes with FCS is more than the sender's MTU of %d allows", size+fcsLen, p.MTU)
	}
	b := make([]byte, size)
	eth := wire.Ethernet(b)
	eth.SetDst(wire.MAC(p.ToMAC))
	eth.SetSrc(wire.MAC(p.FromMAC))
	at, ip := payloadAt, b[wire.EthernetLen:]
	var pseudo uint32
	if p.To.Is6() {
		at = payloadAt6
		eth.SetType(wire.EtherTypeIPv6)
		wire.PutIPv6(ip, 0, 0, len(ip)-wire.IPv6Len, wire.ProtoUDP, 64, p.From.As16(), p.To.As16())
		pseudo = wire.PseudoSum6(p.From.As16(), p.To.As16(), wire.ProtoUDP, size-at+udpLen)
	} else {
		eth.SetType(wire.EtherTypeIPv4)
		wire.PutIPv4(ip, 0, len(ip), 0, wire.IPv4DF, 64, wire.ProtoUDP, p.From.As4(), p.To.As4())
		pseudo = wire.PseudoSum4(p.From.As4(), p.To.As4(), wire.ProtoUDP, size-at+udpLen)
	}
	udp := b[at-udpLen:]
	binary.BigEndian.PutUint16(udp[0:], firstPort+flow)
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(b[at+payloadFlow:], flow)
	sum := wire.Fold(wire.Sum(udp, pseudo))
	if sum == 0 {
		sum = 0xffff // RFC 768: 0 says that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return b, nil
}

// stamp numbers a frame and says when it is sent, and leaves its UDP checksum right: in one's complement (RFC 1071) the
// words that it writes add up to nothing.
func stamp(frame []byte, number uint32, now uint64) {
	at := payloadAt
	if wire.Ethernet(frame).Type() == wire.EtherTypeIPv6 {
		at = payloadAt6
	}
	p := frame[at:]
	binary.BigEndian.PutUint32(p[payloadNumber:], number)
	binary.BigEndian.PutUint64(p[payloadTime:], now)
	sum := uint64(number>>16) + uint64(number&0xffff) + now>>48 + now>>32&0xffff + now>>16&0xffff + now&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[payloadFix:], ^uint16(sum))
}

// ARPRequest builds the broadcast request that a pod sends for target.
func ARPRequest(mac net.HardwareAddr, sender, target netip.Addr) ([]byte, error) {
	if len(mac) != len(wire.MAC{}) || !sender.Is4() || !target.Is4() {
		return nil, fmt.Errorf("bench: ARP request: want Ethernet and IPv4, not %s %s for %s", mac, sender, target)
	}
	b := make([]byte, 0, smallFrame-fcsLen)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint16(b, uint16(wire.EtherTypeARP))
	b = binary.BigEndian.AppendUint16(b, wire.ARPHardwareEthernet)
	b = binary.BigEndian.AppendUint16(b, uint16(wire.EtherTypeIPv4))
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, uint16(wire.ARPRequest))
	b = append(append(b, mac...), sender.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	return b[:cap(b)], nil // padded to the least that Ethernet carries
}
