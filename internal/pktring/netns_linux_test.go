package pktring

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

// patience bounds every wait; none lasts so long when the code is right.
const patience = 10 * time.Second

// namespace moves the calling test into a network namespace of its own.
func namespace(t testing.TB) {
	t.Helper()
	nstest.Enter(t)
	nstest.NoIPv6()
}

// ethernet makes a virtio_net_hdr and a frame to everybody with payload n bytes
// long that bears its number.
func ethernet(protocol uint16, number uint32, n int) []byte {
	b := make([]byte, VnetLen+14+max(n, 4))
	for i := range 6 {
		b[VnetLen+i], b[VnetLen+6+i] = 0xff, 2
	}
	binary.BigEndian.PutUint16(b[VnetLen+12:], protocol)
	binary.BigEndian.PutUint32(b[VnetLen+14:], number)
	return b
}

func numberOf(frame []byte) uint32 { return binary.BigEndian.Uint32(frame[14:]) }

func openSender(t testing.TB, bypass bool) *Sender {
	t.Helper()
	s, err := OpenSender(bypass)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openRing(t testing.TB, cfg Config) *Socket {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// send sends frames at once; each must go.
func send(t testing.TB, s *Sender, ifindex int32, frames ...[]byte) {
	t.Helper()
	for len(frames) > 0 {
		n := min(len(frames), MaxBatch)
		for _, f := range frames[:n] {
			s.Add(f, ifindex, binary.BigEndian.Uint16(f[VnetLen+12:]))
		}
		for i, errno := range s.Flush() {
			if errno != 0 {
				t.Fatalf("frame %d of %d bytes: %v", i, len(frames[i]), errno)
			}
		}
		frames = frames[n:]
	}
}

// receive waits for the next frame, whole: the copy's, if it did not fit.
func receive(t testing.TB, s *Socket) (Slot, []byte) {
	t.Helper()
	var slot Slot
	for deadline := time.Now().Add(patience); !s.Next(&slot); {
		if time.Now().After(deadline) {
			t.Fatal("nothing comes")
		}
		if err := s.Wait(time.Second); err != nil {
			t.Fatal(err)
		}
	}
	buf := append([]byte(nil), slot.Data...)
	if slot.Copied {
		buf = make([]byte, 1<<17)
		n, ok := s.ReadCopy(buf)
		if !ok {
			t.Fatal("there is no copy of a frame marked so")
		}
		buf = buf[:n]
	}
	s.Release(1)
	return slot, buf
}

// quiet fails if a frame comes, having let the kernel deliver all that was
// sent: on a veth that happens in the sender's own softirq, before send returns.
func quiet(t testing.TB, s *Socket) {
	t.Helper()
	if err := s.Wait(0); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	var slot Slot
	if s.Next(&slot) {
		t.Fatalf("unexpected frame: %+v", slot)
	}
}
