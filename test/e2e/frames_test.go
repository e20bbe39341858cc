package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// station is a raw socket on an interface. It sends any frame and receives, of
// one ethertype, what comes in.
type station struct {
	t    testing.TB
	conn *packet.Conn
	mac  wire.MAC
}

// listen opens a station in a node.
func listen(t testing.TB, l *lab.Lab, node, name string, protocol int) *station {
	t.Helper()
	s := &station{t: t}
	err := l.Do(node, func() error {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		s.mac = wire.MAC(ifi.HardwareAddr)
		s.conn, err = packet.Listen(ifi, packet.Raw, protocol, nil)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s: %v", node, name, err)
	}
	t.Cleanup(func() { s.conn.Close() })
	labtest.Setsockopt(t, s.conn, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	return s
}

func (s *station) send(frame []byte) {
	s.t.Helper()
	if _, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next frame for which ok holds; nil if none comes in time.
func (s *station) next(within time.Duration, ok func(wire.Ethernet) bool) wire.Ethernet {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	for {
		n, _, err := s.conn.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if f := wire.Ethernet(b[:n]); f.Valid() && ok(f) {
			return f
		}
	}
}

// arp is an ARP frame in its fields.
type arp struct {
	dst, src, sha, tha wire.MAC
	op                 wire.ARPOp
	spa, tpa           string
}

// whoHas asks as the kernel of a pod would.
func (s *station) whoHas(target, tell string) arp {
	return arp{dst: wire.Broadcast, src: s.mac, sha: s.mac, op: wire.ARPRequest, spa: tell, tpa: target}
}

func (a arp) frame() []byte {
	b := make([]byte, wire.EthernetLen+wire.ARPLen)
	eth := wire.Ethernet(b)
	eth.SetDst(a.dst)
	eth.SetSrc(a.src)
	eth.SetType(wire.EtherTypeARP)
	p := eth.Payload()
	copy(p, []byte{0, 1, 8, 0, 6, 4, 0, byte(a.op)})
	spa, tpa := netip.MustParseAddr(a.spa).As4(), netip.MustParseAddr(a.tpa).As4()
	copy(p[8:], a.sha[:])
	copy(p[14:], spa[:])
	copy(p[18:], a.tha[:])
	copy(p[24:], tpa[:])
	return b
}

// udpPort is where the datagrams of these tests go: discard.
const udpPort = 9

// datagram makes a UDP datagram in an Ethernet frame, without UDP checksum. Its
// data is the number, padded to size bytes.
func datagram(dst, src wire.MAC, from, to string, number uint32, size int) []byte {
	b := make([]byte, wire.EthernetLen+wire.IPv4MinLen+8+max(size, 4))
	eth := wire.Ethernet(b)
	eth.SetDst(dst)
	eth.SetSrc(src)
	eth.SetType(wire.EtherTypeIPv4)
	p := eth.Payload()
	wire.PutIPv4(p, 0, len(p), uint16(number), wire.IPv4DF, 64, wire.ProtoUDP,
		netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4())
	udp := p[wire.IPv4MinLen:]
	binary.BigEndian.PutUint16(udp[0:], 40000)
	binary.BigEndian.PutUint16(udp[2:], udpPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint32(udp[8:], number)
	return b
}

// tag puts an 802.1Q header behind the addresses of a frame.
func tag(frame []byte, vlan uint16) []byte {
	b := append([]byte(nil), frame[:12]...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_8021Q)
	b = binary.BigEndian.AppendUint16(b, vlan)
	return append(b, frame[12:]...)
}

// number tells which datagram a frame bears; false if it is none of datagram's.
func number(f wire.Ethernet) (uint32, bool) {
	if f.Type() != wire.EtherTypeIPv4 {
		return 0, false
	}
	p := wire.IPv4(f.Payload())
	if !p.Valid() || !p.HeaderValid() || p.Protocol() != wire.ProtoUDP {
		return 0, false
	}
	udp := p.Payload()
	if len(udp) < 12 || binary.BigEndian.Uint16(udp[2:]) != udpPort {
		return 0, false
	}
	return binary.BigEndian.Uint32(udp[8:]), true
}
