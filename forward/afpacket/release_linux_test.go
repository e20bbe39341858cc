package afpacket

import (
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/relay"
)

// fakeRelay has packets of its own ready; its descriptor is that of an eventfd.
type fakeRelay struct {
	fd      int
	packets []relay.Packet
}

func newFakeRelay(t *testing.T) *fakeRelay {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &fakeRelay{fd: fd}
}

func (r *fakeRelay) FD() int { return r.fd }

func (r *fakeRelay) Read(b []byte) (p relay.Packet, ok bool) {
	if len(r.packets) == 0 {
		return p, false
	}
	p, r.packets = r.packets[0], r.packets[1:]
	p.Buf = b[:copy(b, p.Buf)]
	return p, true
}

func (r *fakeRelay) Return([]byte, int32, bool) error { return nil }

// Frames of the relay hold no slot of the ring: to give slots back for them
// would give back those of frames that nobody has read.
func TestReleaseBesideTheRelay(t *testing.T) {
	namespace(t)
	from, to := nstest.Veth(t, "a", "ap")
	r := newFakeRelay(t)
	p := open(t, Config{Window: &window{}, Relay: r, Ring: pktring.Config{Slots: 128}})
	var b forward.Batch
	sent, got := uint32(0), uint32(0)
	for round := range 100 {
		out := make([]forward.Out, 7)
		for i := range out {
			out[i] = forward.Out{Buf: frame(sent, 60), Ifindex: from}
			sent++
		}
		p.Send(out)
		for i := range 3 {
			r.packets = append(r.packets, relay.Packet{Buf: frame(uint32(i), 60), Ifindex: 99})
		}
		p.sock.BesideReadable = true
		relayed := 0
		for got < sent || relayed < 3 {
			recv(t, p, &b)
			for i := range b.Frames[:b.N] {
				switch f := &b.Frames[i]; {
				case f.Ifindex == 99:
					relayed++
				case f.Ifindex != to || number(f.Buf) != got:
					t.Fatalf("round %d: frame %d at %d, want %d at %d", round, number(f.Buf), f.Ifindex, got, to)
				default:
					got++
				}
			}
			p.Release(&b)
		}
	}
	if p.Drops() != 0 {
		t.Errorf("%d frames found no slot", p.Drops())
	}
}

// A batch that is not full ends a standing queue, also if the ring is never idle.
func TestBatchThatIsNotFull(t *testing.T) {
	namespace(t)
	w := &window{}
	p := open(t, Config{Window: w, Ring: pktring.Config{Slots: 128}})
	var b forward.Batch
	for range 4 * standingLaps {
		for _, n := range []int{forward.BatchUsual, forward.BatchUsual - 1} {
			b.N = n
			p.Release(&b)
		}
	}
	if w.pressed {
		t.Fatal("pressed although every second batch emptied the ring")
	}
	for range 4 * standingLaps {
		b.N = forward.BatchUsual
		p.Release(&b)
	}
	if !w.pressed {
		t.Error("not pressed after so many full batches")
	}
}

// A tag that names no VLAN is a mere priority: the frame is the device's own, and
// keeps the tag.
func TestPriorityTag(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "ap")
	p := open(t, Config{})
	var b forward.Batch
	for _, c := range []struct {
		tci    uint16
		tagged bool
	}{{5 << 13, false}, {5<<13 | 12, true}} {
		plain := frame(0, 60)
		at := forward.VnetLen + 12
		tagged := append(append(append([]byte(nil), plain[:at]...), 0x81, 0, byte(c.tci>>8), byte(c.tci)), plain[at:]...)
		p.Send([]forward.Out{{Buf: tagged, Ifindex: from}})
		recv(t, p, &b)
		f := b.Frames[0]
		if want := (forward.Tag{Tagged: true, TCI: c.tci, TPID: unix.ETH_P_8021Q}); f.Tagged != c.tagged || f.Tag != want {
			t.Errorf("TCI %#04x: of a VLAN %v, tag %+v", c.tci, f.Tagged, f.Tag)
		}
		p.Release(&b)
	}
}

// Whichever way a frame leaves, who looks on sees the mark.
func TestSetMark(t *testing.T) {
	namespace(t)
	p := open(t, Config{})
	if err := p.SetMark(0x1234); err != nil {
		t.Fatal(err)
	}
	marked := 0
	for fd := range 1024 {
		if mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK); err == nil && mark == 0x1234 {
			marked++
		}
	}
	if marked != 2 {
		t.Errorf("%d sockets mark what they send, want both senders", marked)
	}
}
