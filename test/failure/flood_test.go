package failure

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// flood sends frames from a pod as fast as it can until it is stopped.
type flood struct {
	end  chan struct{}
	wg   sync.WaitGroup
	sent atomic.Uint64
}

func startFlood(t testing.TB, l *lab.Lab, from lab.Pod, frames ...[]byte) *flood {
	t.Helper()
	var s *pktring.Sender
	var index int
	err := l.Do(from.Node, func() (err error) {
		ifi, err := net.InterfaceByName(from.Peer)
		if err != nil {
			return err
		}
		index = ifi.Index
		s, err = pktring.OpenSender(true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &flood{end: make(chan struct{})}
	f.wg.Go(func() {
		runtime.LockOSThread()
		defer s.Close()
		for i := 0; ; {
			select {
			case <-f.end:
				return
			default:
			}
			for range pktring.MaxBatch {
				b := frames[i%len(frames)]
				s.Add(b, int32(index), binary.BigEndian.Uint16(b[pktring.VnetLen+12:]))
				i++
			}
			for _, errno := range s.Flush() {
				if errno == 0 {
					f.sent.Add(1)
				} else if errno == syscall.ENXIO || errno == syscall.ENODEV {
					return // the interface is gone
				}
			}
		}
	})
	return f
}

func (f *flood) stop() uint64 {
	close(f.end)
	f.wg.Wait()
	return f.sent.Load()
}

// datagram is a virtio_net_hdr and a UDP datagram of a pod to its host's MAC.
func datagram(t testing.TB, from lab.Pod, to string) []byte {
	t.Helper()
	b := make([]byte, pktring.VnetLen+wire.EthernetLen+wire.IPv4MinLen+8+18)
	eth := wire.Ethernet(b[pktring.VnetLen:])
	eth.SetDst(mac(t, answerMAC))
	eth.SetSrc(mac(t, from.PeerMAC))
	eth.SetType(wire.EtherTypeIPv4)
	p := eth.Payload()
	wire.PutIPv4(p, 0, len(p), 0, wire.IPv4DF, 64, wire.ProtoUDP, from.Addr.Addr().As4(), netip.MustParseAddr(to).As4())
	binary.BigEndian.PutUint16(p[20:], 1024)
	binary.BigEndian.PutUint16(p[22:], 7)
	binary.BigEndian.PutUint16(p[24:], 8+18)
	return b
}

// whoHas is a virtio_net_hdr and a pod's broadcast request.
func whoHas(t testing.TB, from lab.Pod, target string) []byte {
	t.Helper()
	b := make([]byte, pktring.VnetLen+wire.EthernetLen+wire.ARPLen)
	eth := wire.Ethernet(b[pktring.VnetLen:])
	eth.SetDst(wire.Broadcast)
	eth.SetSrc(mac(t, from.PeerMAC))
	eth.SetType(wire.EtherTypeARP)
	p := eth.Payload()
	copy(p, []byte{0, 1, 8, 0, 6, 4, 0, byte(wire.ARPRequest)})
	copy(p[8:], eth[6:12])
	sender, asked := from.Addr.Addr().As4(), netip.MustParseAddr(target).As4()
	copy(p[14:], sender[:])
	copy(p[24:], asked[:])
	return b
}
