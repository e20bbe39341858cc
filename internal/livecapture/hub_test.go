package livecapture

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

const (
	testPod  = 7
	testHost = 2
)

// newHub is a hub that knows two interfaces, and one of them is served.
func newHub() *Hub {
	h := New(Config{Log: slog.New(slog.DiscardHandler), Sources: nothing{}})
	h.SetLink(testLink(testPod, "cali1"), true)
	h.SetLink(testLink(testHost, "ens192"), false)
	return h
}

func testLink(index int, name string) *netstate.Link {
	return &netstate.Link{Index: index, Name: name, Type: unix.ARPHRD_ETHER, Flags: unix.IFF_UP}
}

// nothing are Sources that show nothing.
type nothing struct{}

func (nothing) SetTaps(_ forward.Tap, _, _ arpd.Tap) {}
func (nothing) SetMark(uint32) error                 { return nil }
func (nothing) AttachWatch(int, uint32, int) error   { return claim.ErrNotSupported }
func (nothing) Table() *route.Table                  { return nil }
func (nothing) Counters(int32) claim.Counters        { return claim.Counters{} }
func (nothing) Translated([]byte) bool               { return false }
func (nothing) Announces(int, netip.Addr) bool       { return false }
func (nothing) Drops() map[string]uint64             { return nil }
func (nothing) Stalled(int64) bool                   { return false }
func (nothing) ShowCarried() (Carried, error)        { return nil, nil }

func join(t testing.TB, h *Hub, req capture.Request) *session {
	t.Helper()
	s, err := newSession(req, h.cfg.Workers)
	if err == nil {
		_, err = h.join(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// udp is a virtio_net_hdr and a datagram of n bytes with its headers.
func udp(n int) []byte {
	b := make([]byte, forward.VnetLen+wire.EthernetLen+n)
	eth := wire.Ethernet(b[forward.VnetLen:])
	eth.SetType(wire.EtherTypeIPv4)
	p := eth.Payload()
	wire.PutIPv4(p, 0, len(p), 0, wire.IPv4DF, 64, wire.ProtoUDP, [4]byte{10, 65, 0, 2}, [4]byte{10, 65, 1, 2})
	binary.BigEndian.PutUint16(p[22:], 53)
	return b
}

// look is what the datapath shows of a forwarded packet.
func look(buf []byte) *forward.Look {
	return &forward.Look{ID: 1, Received: 1, Buf: buf, Ifindex: testPod, Ethernet: true, Verdict: route.Forward,
		From: &route.Link{Ifindex: testPod, Name: "cali1"}, To: &route.Link{Ifindex: testHost, Name: "ens192"}}
}

// TestLookNoAllocations: the datapath is not to allocate for a capture, whether
// that wants its packets or not, has room for them or not.
func TestLookNoAllocations(t *testing.T) {
	for name, c := range map[string]struct {
		req     capture.Request
		read    bool // there is room
		selects bool
	}{
		"another interface": {capture.Request{Interfaces: []string{"ens*"}}, false, false},
		"another filter":    {capture.Request{Interfaces: []string{"any"}, Filter: "tcp port 443 and host 10.0.0.5"}, false, false},
		"another verdict":   {capture.Request{Interfaces: []string{"any"}, Drops: true}, false, false},
		"another direction": {capture.Request{Interfaces: []string{"any"}, Direction: "out"}, false, false},
		"all":               {capture.Request{Interfaces: []string{"any"}, Snap: 96}, true, true},
		"all, no room":      {capture.Request{Interfaces: []string{"any"}}, false, true},
	} {
		h := newHub()
		s := join(t, h, c.req)
		k := look(udp(500))
		ring := s.rings[fromDatapath]
		taken := 0
		if n := testing.AllocsPerRun(2*capturePackets(fromDatapath, captureBuffer), func() {
			h.Look(k)
			if e, _ := ring.Peek(); e != nil && c.read {
				ring.Next()
				taken++
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a packet", name, n)
		}
		e, _ := ring.Peek()
		if !c.selects && (e != nil || ring.Lost() > 0) || c.selects && c.read && taken == 0 || c.selects && !c.read && (e == nil || ring.Lost() == 0) {
			t.Errorf("%s: %d read, %d lost", name, taken, ring.Lost())
		}
	}
}

// BenchmarkLook is what a session costs the datapath, per packet shown.
func BenchmarkLook(b *testing.B) {
	for _, c := range []struct {
		name string
		req  capture.Request
	}{
		{"nothing", capture.Request{Interfaces: []string{"any"}, Filter: "tcp port 443 and host 10.0.0.5"}},
		{"interface", capture.Request{Interfaces: []string{"ens192"}}},
		{"all96", capture.Request{Interfaces: []string{"any"}, Snap: 96}},
		{"all", capture.Request{Interfaces: []string{"any"}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := newHub()
			ring := join(b, h, c.req).rings[fromDatapath]
			k := look(udp(1486))
			for b.Loop() {
				h.Look(k)
				if e, _ := ring.Peek(); e != nil {
					ring.Next()
				}
			}
		})
	}
}

// BenchmarkStream is what a packet costs the session's goroutine.
func BenchmarkStream(b *testing.B) {
	h := newHub()
	s := join(b, h, capture.Request{Interfaces: []string{"any"}, Snap: 96})
	w := newStream(s, h, nil)
	k := look(udp(1486))
	k.Neighbour = &route.Neighbour{Valid: true}
	for b.Loop() {
		h.Look(k)
		w.fill()
		w.buf = w.buf[:0]
	}
}

// pair is a connected pair of sockets as a control client has them.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { c.Close() })
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// TestSessionsComeAndGo: sessions begin and end while the datapath, the
// responder and the kernel's news go on; each gets whole packets and its end.
func TestSessionsComeAndGo(t *testing.T) {
	h := newHub()
	var stop atomic.Bool
	var sources sync.WaitGroup
	sources.Go(func() {
		for k := look(udp(200)); !stop.Load(); {
			k.ID = h.ID()
			h.Look(k)
		}
	})
	sources.Go(func() {
		for frame := make([]byte, 60); !stop.Load(); time.Sleep(time.Microsecond) {
			h.lookARP(0, testPod, frame, frame, arpd.Answered)
		}
	})
	sources.Go(func() {
		for !stop.Load() {
			h.SetLink(testLink(testHost, "ens192"), false)
			h.Publish()
			time.Sleep(time.Millisecond)
		}
	})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for round := range 15 {
				s := join(t, h, capture.Request{Interfaces: []string{"any"}, Snap: 96, Buffer: 1})
				ours, theirs := pair(t)
				w := newStream(s, h, ours)
				w.buf = pcapfile.AppendSectionHeader(nil, &pcapfile.Section{})
				over := make(chan struct{})
				var writer sync.WaitGroup
				writer.Go(func() {
					w.run(over)
					h.part(s)
					w.end()
					ours.Close()
				})
				read(t, theirs, 50*(round%3), func() { close(over) })
				writer.Wait()
			}
		})
	}
	clients.Wait()
	stop.Store(true)
	sources.Wait()
	if h.view.Load() != nil || len(h.sessions) > 0 {
		t.Error("sessions are left")
	}
}

// read takes packets, says after some that it is enough, and wants the end.
func read(t *testing.T, conn net.Conn, some int, enough func()) {
	if some == 0 {
		enough()
	}
	r, err := pcapfile.NewReader(conn)
	if err != nil {
		t.Error(err)
		return
	}
	var p pcapfile.Packet
	for n := 1; ; n++ {
		if err := r.Next(&p); err != nil {
			if !errors.Is(err, io.EOF) || len(r.Interfaces()) == 0 || r.Interfaces()[0].Statistics == nil {
				t.Errorf("after %d packets: %v", n, err)
			}
			break
		}
		if n == some {
			enough()
		}
	}
}

// TestFiltersOnce: what the filters said when the datapath asked is used when it
// shows the packet, unless sessions have come or gone since.
func TestFiltersOnce(t *testing.T) {
	h := newHub()
	s := join(t, h, capture.Request{Interfaces: []string{"cali1"}, Filter: "udp"})
	others := join(t, h, capture.Request{Interfaces: []string{"cali1"}, Filter: "tcp"})
	taken := func(s *session) (n int) {
		ring := s.rings[fromDatapath]
		for {
			if e, _ := ring.Peek(); e == nil {
				return n
			}
			ring.Next()
			n++
		}
	}
	buf := udp(64)
	k := look(buf)
	if !h.Wants(k) {
		t.Fatal("nobody wants it")
	}
	wire.IPv4(wire.Ethernet(buf[forward.VnetLen:]).Payload())[9] = wire.ProtoTCP // the filters would say something else now
	h.Look(k)
	if n, o := taken(s), taken(others); n != 1 || o != 0 {
		t.Errorf("%d and %d packets", n, o)
	}
	h.part(s)
	h.Look(k) // by another view
	if n, o := taken(s), taken(others); n != 0 || o != 1 {
		t.Errorf("after a session has gone: %d and %d packets", n, o)
	}
	unasked := look(buf)
	h.Look(unasked)
	if taken(others) != 1 {
		t.Error("one that was not asked about is not shown")
	}
}
