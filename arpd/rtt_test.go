package arpd

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// bareSocket is a blocking packet socket at the pod's end: what is measured is
// the answer, not the Go scheduler on the asking side.
func (s *station) bareSocket() int {
	s.t.Helper()
	var fd int
	s.inPod(func() {
		var err error
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		s.must(err)
		s.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{0x08, 0x06}), Ifindex: s.link.Attrs().Index}))
	})
	s.t.Cleanup(func() { _ = unix.Close(fd) })
	s.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}))
	return fd
}

// BenchmarkRoundTrip is the time from a request to its answer on an idle
// Responder, one request at a time, at the pod's socket. The pause lets the
// Responder fall asleep, as it is between the requests of real pods.
func BenchmarkRoundTrip(b *testing.B) {
	for _, c := range []struct {
		name    string
		kernel  bool
		settled bool
		pause   time.Duration
	}{
		{"back-to-back/kernel", true, false, 0},
		{"back-to-back/queued", false, true, 0},
		{"back-to-back/direct", false, false, 0},
		{"every-millisecond/kernel", true, false, time.Millisecond},
		{"every-millisecond/queued", false, true, time.Millisecond},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newLab(b).veth("cali1")
			s.awaitSettled()
			if c.kernel {
				s.must(s.hostLinks.AddrAdd(s.host, &netlink.Addr{IPNet: &net.IPNet{
					IP: gatewayIP.AsSlice(), Mask: net.CIDRMask(32, 32),
				}}))
				s.must(s.hostLinks.RouteAdd(&netlink.Route{
					LinkIndex: s.index, Scope: netlink.SCOPE_LINK,
					Dst: &net.IPNet{IP: podIP.AsSlice(), Mask: net.CIDRMask(32, 32)},
				}))
			} else {
				r := s.start(Options{RatePerSecond: -1, SenderPerSecond: -1})
				p := s.policy()
				p.Settled = c.settled
				r.Publish(map[int]*Policy{s.index: p})
			}
			fd := s.bareSocket()
			req, buf := s.who("169.254.1.1").bytes(), make([]byte, 128)
			var took []time.Duration
			for b.Loop() {
				if c.pause > 0 {
					ts := unix.NsecToTimespec(int64(c.pause))
					_ = unix.Nanosleep(&ts, nil)
				}
				begin := time.Now()
				s.must(sendBare(fd, req))
				s.must(receiveBare(fd, buf))
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
		})
	}
}

func sendBare(fd int, b []byte) error {
	_, err := unix.Write(fd, b)
	return err
}

func receiveBare(fd int, b []byte) error {
	for {
		if _, _, err := unix.Recvfrom(fd, b, 0); err != unix.EINTR {
			return err
		}
	}
}

// flooder gives a function that sends a batch of one frame to all.
func (s *station) flooder(frame []byte) func() {
	fd := s.bareSocket()
	tx := newTxBatch()
	for i := range batchSize {
		copy(tx.data[i][:], frame)
		tx.stage(i, len(frame), s.link.Attrs().Index)
		tx.addrs[i].Addr = [8]byte(append(wire.Broadcast[:], 0, 0))
	}
	return func() {
		for from := 0; from < batchSize; {
			n, errno := tx.sendmmsg(uintptr(fd), from, batchSize)
			if errno != 0 {
				s.t.Fatal(errno)
			}
			from += n
		}
	}
}

// BenchmarkFlood is how many answers a second come out while one sender floods.
func BenchmarkFlood(b *testing.B) {
	s := newLab(b).veth("cali1")
	s.awaitSettled()
	r := s.start(Options{RatePerSecond: -1, SenderPerSecond: -1})
	p := s.policy()
	p.Settled = true
	r.Publish(map[int]*Policy{s.index: p})
	send := s.flooder(s.who("169.254.1.1").bytes())
	begin := time.Now()
	for b.Loop() {
		send()
	}
	st := r.Stats()
	b.ReportMetric(float64(st.ByVerdict[Answered])/time.Since(begin).Seconds(), "answers/s")
	b.ReportMetric(float64(st.ByVerdict[DropReceiveOverflow])/time.Since(begin).Seconds(), "overflows/s")
}

// TestSocketDoesNotAllocate is TestFloodDoesNotAllocate with the system calls.
func TestSocketDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		nstest.Excused(t, nstest.RaceDetector, "it allocates")
	}
	l := newLab(t)
	s := l.veth("cali1")
	r, err := Open(Options{RatePerSecond: -1, SenderPerSecond: -1})
	l.must(err)
	defer r.Close()
	all := 0
	for _, settled := range []bool{false, true} {
		lost := 0
		p := s.policy()
		p.Settled = settled
		r.Publish(map[int]*Policy{s.index: p})
		send := s.flooder(s.who("169.254.1.1").bytes())
		const batches = 50
		before := nstest.BacklogDrops(t)
		if allocs := testing.AllocsPerRun(batches, func() {
			send()
			for left := batchSize; left > 0; {
				n, err := r.sock.receive(time.Second)
				l.must(err)
				if n == 0 { // what a CPU's backlog has no room for does not come
					lost += left
					return
				}
				r.batch(n)
				left -= n
			}
		}); allocs != 0 {
			t.Errorf("settled %t: %v allocations a batch of %d", settled, allocs, batchSize)
		}
		if n := nstest.Unexplained(t, lost, 51*batchSize, before); n > 0 {
			t.Errorf("settled %t: %d of %d requests do not come", settled, n, 51*batchSize)
		}
		all += 51*batchSize - lost
	}
	if st := r.Stats(); st.ByVerdict != (Counts{Answered: uint64(all)}) {
		t.Errorf("counters %s, want %d answers", st.ByVerdict, all)
	}
}
