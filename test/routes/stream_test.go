package routes

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

const (
	streamPort = 9
	fence      = labtest.Fence
	drained    = 2 * time.Second // within which the last packet arrives, or is lost
)

// stream sends numbered datagrams from pod to pod until it is stopped.
type stream struct {
	in, out *net.UDPConn
	end     chan struct{}
	began   time.Time
	sender  sync.WaitGroup
	taker   sync.WaitGroup
	sent    uint32
	took    map[uint32]time.Duration // by number
	doubled int
}

// startStream sends one datagram each interval.
func startStream(t testing.TB, l *lab.Lab, from, to lab.Pod, every time.Duration) *stream {
	t.Helper()
	s := &stream{end: make(chan struct{}), began: time.Now(), took: map[uint32]time.Duration{}}
	addr := netip.AddrPortFrom(to.Addr.Addr(), streamPort)
	s.in, s.out = labtest.ListenUDP(t, l, to.Node, addr), labtest.DialUDP(t, l, from.Node, addr)
	s.taker.Go(s.receive)
	s.sender.Go(func() { s.send(every) })
	return s
}

func (s *stream) receive() {
	var b [64]byte
	for {
		n, err := s.in.Read(b[:])
		if err != nil || n < 12 {
			return
		}
		number := binary.BigEndian.Uint32(b[:])
		if number == fence {
			return
		}
		if _, ok := s.took[number]; ok {
			s.doubled++
			continue
		}
		s.took[number] = time.Since(s.began) - time.Duration(binary.BigEndian.Uint64(b[4:]))
	}
}

// send catches up after it was held, so that the rate holds.
func (s *stream) send(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.end:
			return
		case <-tick.C:
		}
		for time.Duration(s.sent)*every < time.Since(s.began) {
			s.out.Write(s.datagram(s.sent)) // an ICMP error about an earlier one is none about this one
			s.sent++
		}
	}
}

func (s *stream) datagram(number uint32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 12), number)
	return binary.BigEndian.AppendUint64(b, uint64(time.Since(s.began)))
}

// passage is what a stream saw: the times are from one pod to the other.
type passage struct {
	sent, lost, doubled, late int
	took                      []time.Duration // sorted
}

// lateAfter is when a packet counts as late.
const lateAfter = 20 * time.Millisecond

func (p passage) percentile(n float64) time.Duration {
	if len(p.took) == 0 {
		return 0
	}
	return p.took[int(n/100*float64(len(p.took)-1))].Round(time.Microsecond)
}

func (p passage) String() string {
	return fmt.Sprintf("%d packets, %d lost, %d doubled, %d later than %v; p50 %v, p99 %v, p99.9 %v, longest %v",
		p.sent, p.lost, p.doubled, p.late, lateAfter, p.percentile(50), p.percentile(99), p.percentile(99.9), p.percentile(100))
}

// stop ends the stream. What has not come when the socket has been silent is lost.
func (s *stream) stop(t testing.TB) passage {
	t.Helper()
	close(s.end)
	s.sender.Wait()
	if err := s.in.SetReadDeadline(time.Now().Add(drained)); err != nil {
		t.Fatal(err)
	}
	s.out.Write(s.datagram(fence))
	s.taker.Wait()
	s.in.Close()
	s.out.Close()
	p := passage{sent: int(s.sent), lost: int(s.sent) - len(s.took), doubled: s.doubled}
	for _, d := range s.took {
		p.took = append(p.took, d)
		if d > lateAfter {
			p.late++
		}
	}
	slices.Sort(p.took)
	return p
}
