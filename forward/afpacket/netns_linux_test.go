package afpacket

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/internal/nstest"
)

// patience bounds every wait; none lasts so long when the code is right.
const patience = 10 * time.Second

// namespace moves the calling test into a network namespace of its own, on one
// CPU.
func namespace(t testing.TB) {
	t.Helper()
	nstest.Enter(t)
	nstest.NoIPv6()
	nstest.OneCPU(t)
}

// frame is a virtio_net_hdr and a broadcast IPv4 frame that bears a number; if
// it is larger than the MTU it is TCP that stands for segments.
func frame(number uint32, size int) []byte {
	b := make([]byte, forward.VnetLen+14+size)
	eth := b[forward.VnetLen:]
	for i := range 6 {
		eth[i], eth[6+i] = 0xff, 2
	}
	binary.BigEndian.PutUint16(eth[12:], unix.ETH_P_IP)
	ip := eth[14:]
	copy(ip, []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	ip[32] = 5 << 4
	binary.BigEndian.PutUint32(ip[40:], number)
	if size > 1500 {
		b[0], b[1] = 1, 1
		for i, v := range []uint16{54, 1448, 34, 16} {
			binary.NativeEndian.PutUint16(b[2+2*i:], v)
		}
	}
	return b
}

func number(b []byte) uint32 { return binary.BigEndian.Uint32(b[forward.VnetLen+14+40:]) }

func open(t testing.TB, cfg Config) *Conn {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// recv waits for the next batch that is not empty.
func recv(t testing.TB, p *Conn, b *forward.Batch) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if err := p.Recv(b, time.Second); err != nil {
			t.Fatal(err)
		}
		if b.N > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing comes")
		}
	}
}

// window remembers what it was told.
type window struct {
	said     int   // of consumed
	stalled  int64 // since when; 0: not
	consumed []uint32
	resyncs  int
	reset    int
	pressed  bool
	lap      int
}

func (w *window) Consume(slot uint32) { w.consumed = append(w.consumed, slot) }

func (w *window) Resync(empty func() bool) {
	if empty() {
		w.resyncs++
	}
}

func (w *window) Reset()              { w.reset++ }
func (w *window) Press(on bool) error { w.pressed = on; return nil }
func (w *window) SetLap(slots int)    { w.lap = slots }
func (w *window) Relayed() uint64     { return 0 }
func (w *window) Say()                { w.said = len(w.consumed) }
func (w *window) Stalled() bool       { return w.stalled != 0 }
func (w *window) StalledSince() int64 { return w.stalled }
func (w *window) Resume()             { w.stalled = 0 }
