package afpacket

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
)

// Frames leave in the order in which they were given, whichever socket each
// takes, and come in that order, whether they fit a slot or not.
func TestOrder(t *testing.T) {
	namespace(t)
	from, to := nstest.Veth(t, "a", "a"+"p")
	w := &window{}
	p := open(t, Config{Window: w})
	random := rand.New(rand.NewPCG(1, 2))
	var b forward.Batch
	sent, got := uint32(0), uint32(0)
	for range 20 {
		out := make([]forward.Out, 1+random.IntN(3*forward.BatchUsual))
		for i := range out {
			out[i] = forward.Out{Buf: frame(sent, 60), Ifindex: from, Bypass: random.IntN(3) == 0, Err: route.NotSpecified}
			if random.IntN(8) == 0 {
				out[i] = forward.Out{Buf: frame(sent, 40000), Ifindex: from}
			}
			sent++
		}
		p.Send(out)
		for i := range out {
			if out[i].Err != route.Forward {
				t.Fatalf("frame %d: %v", i, out[i].Err)
			}
		}
		for got < sent {
			recv(t, p, &b)
			for i := range b.Frames[:b.N] {
				f := &b.Frames[i]
				if f.Lost != route.NotSpecified || f.Ifindex != to || !f.Ethernet || f.Tagged || f.PktType != unix.PACKET_BROADCAST {
					t.Fatalf("frame %d: lost %v, interface %d, type %d", got, f.Lost, f.Ifindex, f.PktType)
				}
				if number(f.Buf) != got {
					t.Fatalf("frame %d came, want %d", number(f.Buf), got)
				}
				f.Slot = got % 7
				got++
			}
			p.Release(&b)
			if b.N != 0 {
				t.Fatal("released, and still in the batch")
			}
		}
	}
	for i, slot := range w.consumed {
		if slot != uint32(i)%7 {
			t.Fatalf("frame %d: slot %d was told", i, slot)
		}
	}
	if len(w.consumed) != int(got) {
		t.Errorf("%d consumed of %d", len(w.consumed), got)
	}
	if p.Drops() != 0 || p.Rebuilt() != 0 {
		t.Errorf("%d drops, %d rebuilt", p.Drops(), p.Rebuilt())
	}
}

// The window hears of an empty ring whenever the port is about to sleep, and of
// the ring's size before all else.
func TestResync(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "a"+"p")
	w := &window{}
	p := open(t, Config{Window: w})
	if w.lap != p.sock.Slots() {
		t.Errorf("a lap of %d, the ring has %d", w.lap, p.sock.Slots())
	}
	var b forward.Batch
	for range 3 {
		p.Send([]forward.Out{{Buf: frame(0, 60), Ifindex: from}, {Buf: frame(1, 60), Ifindex: from}})
		recv(t, p, &b)
		p.Release(&b)
		before := w.resyncs
		if err := p.Recv(&b, 0); err != nil || b.N != 0 {
			t.Fatalf("%v, %d frames", err, b.N)
		}
		if w.resyncs == before {
			t.Error("the empty ring was not told of")
		}
	}
}

func TestVerdicts(t *testing.T) {
	for errno, want := range map[syscall.Errno]route.Verdict{
		0: route.Forward, unix.ENETDOWN: route.DropIfDown, unix.ENXIO: route.DropIfDown, unix.ENODEV: route.DropIfDown,
		unix.EMSGSIZE: route.DropPktTooBig, unix.ENOBUFS: route.DropQdisc, unix.EAGAIN: route.DropNoMem,
		unix.ENOMEM: route.DropNoMem, unix.EINVAL: route.DropGSO, unix.EPERM: route.DropPacketSockError, unix.EIO: route.DropPacketSockError,
	} {
		if got := verdict(errno); got != want {
			t.Errorf("%v: %v, want %v", errno, got, want)
		}
	}
}

// What the kernel says in earnest.
func TestVerdictsOfTheKernel(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "a"+"p")
	down, _ := nstest.Veth(t, "b", "b"+"p")
	full, _ := nstest.Veth(t, "c", "c"+"p")
	if err := netlink.LinkSetDown(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(down)}}); err != nil {
		t.Fatal(err)
	}
	// A queue that takes packets of 10 bytes at most.
	if err := netlink.QdiscAdd(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: int(full), Parent: netlink.HANDLE_ROOT},
		Rate: 1000, Limit: 1000, Buffer: 10e6 / 64}); err != nil {
		t.Fatal(err)
	}
	p := open(t, Config{})
	odd := frame(0, 60)
	odd[1] = 77
	large := frame(0, 1501)
	large[1] = 0
	for _, bypass := range []bool{false, true} {
		out := []forward.Out{
			{Buf: frame(1, 60), Ifindex: from},
			{Buf: frame(0, 60), Ifindex: 1 << 20},
			{Buf: frame(2, 60), Ifindex: from},
			{Buf: frame(0, 60), Ifindex: down},
			{Buf: large, Ifindex: from},
			{Buf: odd, Ifindex: from},
			{Buf: frame(3, 60), Ifindex: from},
			{Buf: frame(0, 60), Ifindex: full},
			{Buf: frame(4, 60), Ifindex: from},
		}
		want := []route.Verdict{route.Forward, route.DropIfDown, route.Forward, route.DropIfDown, route.DropPktTooBig,
			route.DropGSO, route.Forward, route.DropQdisc, route.Forward}
		if bypass {
			want[7] = route.Forward // past the full queue
		}
		for i := range out {
			out[i].Bypass = bypass
		}
		p.Send(out)
		got := make([]route.Verdict, len(out))
		for i := range out {
			got[i] = out[i].Err
		}
		if !slices.Equal(got, want) {
			t.Errorf("bypass %v: %v, want %v", bypass, got, want)
		}
		arrived := 4
		if bypass {
			arrived++
		}
		var b forward.Batch
		for recv(t, p, &b); b.N < arrived; {
			t.Fatalf("%d of %d arrived", b.N, arrived)
		}
		p.Release(&b)
	}
}

func TestWakeAndClose(t *testing.T) {
	namespace(t)
	p := open(t, Config{Guarded: true})
	var b forward.Batch
	p.Wake()
	if err := p.Recv(&b, -1); err != nil || b.N != 0 {
		t.Errorf("woken: %v, %d frames", err, b.N)
	}
	if err := p.Recv(&b, time.Millisecond); err != nil || b.N != 0 {
		t.Errorf("time-out: %v, %d frames", err, b.N)
	}
	p.sock.Shut()
	if err := p.Recv(&b, -1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("shut: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(Config{Ring: pktring.Config{Filter: func(int) error { return unix.EPERM }}}); !errors.Is(err, unix.EPERM) {
		t.Errorf("no filter: %v", err)
	}
}

// A ring that has not been empty for some laps is pressed, until it has been idle.
func TestPress(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "a"+"p")
	w := &window{}
	p := open(t, Config{Window: w, Ring: pktring.Config{Slots: 128}})
	var b forward.Batch
	b.N = forward.BatchUsual
	for range 2 * standingLaps {
		if w.pressed {
			t.Fatal("pressed too early")
		}
		p.busy(b.N)
	}
	if !w.pressed {
		t.Fatal("not pressed after so many laps without a break")
	}
	p.Send([]forward.Out{{Buf: frame(0, 60), Ifindex: from}})
	recv(t, p, &b)
	p.Release(&b)
	if err := p.Recv(&b, 0); err != nil {
		t.Fatal(err)
	}
	if w.pressed {
		t.Error("still pressed though the ring was idle")
	}
}
