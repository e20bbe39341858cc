package arpd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

func TestResponderAnswers(t *testing.T) {
	for _, settled := range []bool{false, true} {
		t.Run(fmt.Sprintf("settled=%t", settled), func(t *testing.T) {
			s := newLab(t).veth("cali1")
			r := s.start(Options{})
			p := s.policy()
			p.Settled = settled
			if settled {
				s.awaitSettled()
			}
			r.Publish(map[int]*Policy{s.index: p})

			s.ask(s.who("169.254.1.1"))
			s.ask(s.who("169.254.1.1").with(func(q *request) { q.dst = p.Own }))
			s.ask(s.who("169.254.1.1").with(func(q *request) { q.dst = answerMAC }))
			s.ask(s.who("169.254.1.1").with(func(q *request) { q.spa = netip.IPv4Unspecified() }))
			s.ask(s.who("169.254.1.1").with(func(q *request) { q.trailer = 18 }))
			s.ask(s.who("10.20.1.3"))

			for _, q := range []request{
				s.who("192.0.2.1"),
				s.who("10.20.1.3").with(func(q *request) { q.spa = netip.IPv4Unspecified() }),
				s.who("169.254.1.1").with(func(q *request) { q.op = wire.ARPReply }),
				s.who("169.254.1.1").with(func(q *request) { q.dst = otherMAC }),
				s.who("169.254.1.1").with(func(q *request) { q.hlen = 255 }),
				s.who("169.254.1.1").with(func(q *request) { q.trailer = 1400; q.plen = 255 }),
			} {
				s.must(s.send(q.bytes()))
			}
			s.must(s.send(s.who("169.254.1.1").bytes()[:20]))
			s.ask(s.who("169.254.1.1")) // none of them ended anything

			await(t, r, "every frame is counted", func(st Stats) bool {
				c, i := st.ByVerdict, st.Interfaces[s.index]
				return c == i.ByVerdict && c[Answered] == 7 && c[IgnoreNotProxied] == 1 &&
					c[IgnoreProbe] == 1 && c[IgnoreReply] == 1 && c[IgnoreOtherhost] == 1 &&
					c[DropBadHeader] == 2 && c[DropTruncated] == 1 && i.Requests == 10 && i.Replies == 7
			})
		})
	}
}

// The first frame of an interface that was made after Open, sent as soon as it is
// up, and before anybody published it.
func TestResponderFirstFrame(t *testing.T) {
	l := newLab(t)
	var made sync.Map // ifindex -> *Policy
	var asked atomic.Int32
	r := l.start(Options{Lookup: func(ifindex int) (*Policy, bool) {
		asked.Add(1)
		p, ok := made.Load(ifindex)
		if !ok {
			return nil, false
		}
		return p.(*Policy), true
	}})
	const n = 100
	for i := range n {
		s := l.vethDown(fmt.Sprintf("cali%d", i))
		made.Store(s.index, s.policy())
		s.up()
		s.ask(s.who("169.254.1.1"))
		s.ask(s.who("169.254.1.1"))
	}
	await(t, r, "both frames of each counted", func(st Stats) bool {
		return st.ByVerdict[Answered] == 2*n && len(st.Interfaces) == n
	})
	if asked.Load() != n {
		t.Errorf("Lookup was asked %d times, want %d", asked.Load(), n)
	}
}

// A frame that came before the answer to it could be known: between Open and Run.
func TestResponderQueuesBeforeRun(t *testing.T) {
	l := newLab(t)
	r, err := Open(Options{})
	l.must(err)
	defer r.Close()
	s := l.veth("cali1")
	l.must(s.send(s.who("169.254.1.1").bytes()))
	r.Publish(map[int]*Policy{s.index: s.policy()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	if _, err := s.reply(patience); err != nil {
		t.Error(err)
	}
	cancel()
	l.must(<-done)
	// Run may be started again.
	go func() { done <- r.Run(context.Background()) }()
	s.ask(s.who("169.254.1.1"))
	l.must(r.Close())
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	r.Stats()
}

func TestResponderVLAN(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	withDevice := l.vlanDevice(s, "cali1.5", 5)
	r := l.start(Options{})
	r.Publish(map[int]*Policy{s.index: s.policy()})

	tag := func(q request, tci string) []byte {
		b := q.bytes()
		mid, err := hex.DecodeString("8100" + tci)
		l.must(err)
		return append(append(append([]byte{}, b[:12]...), mid...), b[12:]...)
	}
	gw := s.who("169.254.1.1")
	toDevice := gw.with(func(q *request) { q.dst = s.policy().Own })
	l.must(s.send(tag(gw, "0006")))       // a VLAN that has no device
	l.must(s.send(tag(toDevice, "0006"))) //
	want := Counts{IgnoreVLAN: 2}
	if withDevice {
		l.must(s.send(tag(gw, "0005"))) // comes from cali1.5
		want[IgnoreNotWorkload]++
	}
	await(t, r, "tagged frames are told apart", func(st Stats) bool { return st.ByVerdict == want })
	l.must(s.send(tag(gw, "e000"))) // a priority is no VLAN
	if _, err := s.reply(patience); err != nil {
		t.Error(err)
	}
	s.ask(gw)
	await(t, r, "untagged frames are answered", func(st Stats) bool { return st.ByVerdict[Answered] == 2 })
}

func TestResponderNotWorkload(t *testing.T) {
	l := newLab(t)
	s, other := l.veth("cali1"), l.veth("ens192")
	r := l.start(Options{Lookup: func(int) (*Policy, bool) { return nil, false }})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	l.must(other.send(other.who("169.254.1.1").bytes()))
	s.ask(s.who("169.254.1.1"))
	await(t, r, "counted", func(st Stats) bool {
		return st.ByVerdict == Counts{Answered: 1, IgnoreNotWorkload: 1} && len(st.Interfaces) == 1
	})
	// It becomes one, by a new name say.
	r.Publish(map[int]*Policy{s.index: s.policy(), other.index: other.policy()})
	other.ask(other.who("169.254.1.1"))
}

func TestResponderTap(t *testing.T) {
	s := newLab(t).veth("cali1")
	r := s.start(Options{})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	type event struct {
		ifindex, frame, reply int
		v                     Verdict
	}
	events := make(chan event, 10)
	r.SetTap(func(_ uint64, ifindex int, frame, reply []byte, v Verdict) uint64 {
		events <- event{ifindex, len(frame), len(reply), v}
		return 0
	})
	s.ask(s.who("169.254.1.1").with(func(q *request) { q.trailer = 18 }))
	s.must(s.send(s.who("192.0.2.1").bytes()))
	for _, want := range []event{
		{s.index, 60, ReplyLen, Answered},
		{s.index, 42, 0, IgnoreNotProxied},
	} {
		select {
		case got := <-events:
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("not seen: %+v", want)
		}
	}
	r.SetTap(nil)
	s.ask(s.who("169.254.1.1"))
	if len(events) != 0 {
		t.Errorf("%+v after the tap was taken off", <-events)
	}
}

// TestSocketOptions: what the sockets are told, and that both go when the Responder
// is closed.
func TestSocketOptions(t *testing.T) {
	l := newLab(t)
	r, err := Open(Options{})
	l.must(err)
	defer r.Close()
	const mark = 0x4d52
	l.must(r.SetMark(mark))
	for _, c := range []struct {
		name        string
		raw         syscall.RawConn
		level, what int
		want        int
	}{
		{"PACKET_AUXDATA", r.sock.raw, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
		{"PACKET_IGNORE_OUTGOING", r.sock.raw, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{"PACKET_QDISC_BYPASS", r.sock.queued.raw, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 0},
		{"PACKET_QDISC_BYPASS, direct", r.sock.direct.raw, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1},
		{"SO_RCVBUF", r.sock.raw, unix.SOL_SOCKET, unix.SO_RCVBUF, 2 * receiveBuffer}, // see socket(7)
		{"SO_MARK", r.sock.queued.raw, unix.SOL_SOCKET, unix.SO_MARK, mark},
		{"SO_MARK, direct", r.sock.direct.raw, unix.SOL_SOCKET, unix.SO_MARK, mark},
	} {
		l.must(control(c.raw, func(fd int) error {
			got, err := unix.GetsockoptInt(fd, c.level, c.what)
			if got != c.want {
				t.Errorf("%s is %d, want %d", c.name, got, c.want)
			}
			return err
		}))
	}
	if r.sock.queued.direct || !r.sock.direct.direct {
		t.Error("which socket passes by the queues is not known")
	}
	l.must(r.Close())
	for name, raw := range map[string]syscall.RawConn{"queued": r.sock.queued.raw, "direct": r.sock.direct.raw} {
		if err := control(raw, func(int) error { return nil }); err == nil {
			t.Errorf("%s is open still", name)
		}
	}
	if err := r.SetMark(mark); err == nil {
		t.Error("a closed socket was marked")
	}
}

func TestOpenErrors(t *testing.T) {
	l := newLab(t)
	want := errors.New("no such program")
	if _, err := Open(Options{Filter: func(int) error { return want }}); !errors.Is(err, want) {
		t.Errorf("Filter fails: %v", err)
	}
	fd := 0
	r, err := Open(Options{Filter: func(got int) error { fd = got; return nil }})
	l.must(err)
	l.must(r.Close())
	l.must(r.Close())
	if fd == 0 {
		t.Error("Filter was not called")
	}

	// The thread ends with the test, and what it gives up with it.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	l.must(unix.Capget(&hdr, &caps[0]))
	caps[0].Effective &^= 1 << unix.CAP_NET_RAW
	l.must(unix.Capset(&hdr, &caps[0]))
	if _, err := Open(Options{}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("without CAP_NET_RAW: %v", err)
	}
}

// receive ends when it is woken, before or while it waits, and in time.
func TestReceiveWakes(t *testing.T) {
	newLab(t)
	r, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.sock.wake()
	if n, err := r.sock.receive(-1); n != 0 || err != nil {
		t.Errorf("woken before: %d, %v", n, err)
	}
	ended := make(chan error)
	go func() {
		_, err := r.sock.receive(-1)
		ended <- err
	}()
	r.sock.wake()
	if err := <-ended; err != nil {
		t.Errorf("woken: %v", err)
	}
	began := time.Now()
	if n, err := r.sock.receive(20 * time.Millisecond); n != 0 || err != nil || time.Since(began) < 20*time.Millisecond {
		t.Errorf("%d, %v after %v", n, err, time.Since(began))
	}
}
