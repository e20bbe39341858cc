package pktring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

const testProto = 0x88b5 // for experiments (IEEE 802)

func TestReceive(t *testing.T) {
	namespace(t)
	from, to := nstest.Veth(t, "a", "b")
	r := openRing(t, Config{})
	s := openSender(t, false)
	for i := range uint32(3) {
		send(t, s, from, ethernet(testProto, i, 46))
	}
	send(t, s, to, ethernet(testProto, 3, 1500))
	for i := range uint32(4) {
		slot, b := receive(t, r)
		at, size := to, 46
		if i == 3 {
			at, size = from, 1500
		}
		want := ethernet(testProto, i, size)
		if slot.Ifindex != at || slot.Hatype != unix.ARPHRD_ETHER || slot.PktType != unix.PACKET_BROADCAST ||
			slot.Tagged || slot.Copied || slot.Cut || slot.Bad {
			t.Errorf("frame %d: %+v", i, slot)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("frame %d: %d bytes, want %d", i, len(b), len(want))
		}
	}
	quiet(t, r) // what was sent is not received a second time
	if n := r.Drops(); n != 0 {
		t.Errorf("%d drops", n)
	}
}

// gsoTCP is a super-packet: virtio_net_hdr with a partial checksum, and a TCP
// packet that stands for segments of mss bytes.
func gsoTCP(number uint32, payload, mss int) []byte {
	b := ethernet(unix.ETH_P_IP, 0, 20+20+payload)
	b[0], b[1] = 1, 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4
	for i, v := range []uint16{14 + 20 + 20, uint16(mss), 14 + 20, 16} {
		binary.NativeEndian.PutUint16(b[2+2*i:], v)
	}
	ip := b[VnetLen+14:]
	copy(ip, []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, unix.IPPROTO_TCP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[20+12] = 5 << 4 // TCP: no options
	binary.BigEndian.PutUint16(ip[20+16:], 0xbeef)
	for i := range payload {
		ip[40+i] = byte(i * 7)
	}
	binary.BigEndian.PutUint32(ip[40:], number)
	return b
}

// Frames that don't fit a slot take another way out of the kernel, and must
// not change places with those that do.
func TestSuperPacketsKeepOrder(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	r := openRing(t, Config{Slots: 256})
	s := openSender(t, false)
	var frames [][]byte
	for i := range uint32(60) {
		switch i % 4 {
		case 0, 3:
			frames = append(frames, gsoTCP(i, 65000, 1448))
		case 1:
			frames = append(frames, gsoTCP(i, 1448, 1000)) // fits a slot
		default:
			frames = append(frames, ethernet(testProto, i, 46))
		}
	}
	send(t, s, from, frames...)
	copied := 0
	for i, want := range frames {
		slot, b := receive(t, r)
		if slot.Copied {
			copied++
		}
		if !bytes.Equal(b[VnetLen:], want[VnetLen:]) {
			t.Fatalf("frame %d: %d bytes, want %d", i, len(b), len(want))
		}
		// hdr_len is what of the frame is linear, and the kernel's own business.
		if b[0] != want[0] || b[1] != want[1] || !bytes.Equal(b[4:VnetLen], want[4:VnetLen]) {
			t.Errorf("frame %d: virtio_net_hdr % x, want % x", i, b[:VnetLen], want[:VnetLen])
		}
	}
	if copied != 30 {
		t.Errorf("%d copies, want 30", copied)
	}
	quiet(t, r)
}

// What came out of the ring goes back out of it, header and all.
func TestForwardOutOfRing(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	out, _ := nstest.Veth(t, "c", "d")
	first, second := openRing(t, Config{}), openRing(t, Config{})
	s := openSender(t, false)
	small := gsoTCP(2, 100, 0)
	small[1] = 0 // no GSO; the checksum is still partial
	want := [][]byte{gsoTCP(1, 65000, 1448), small, ethernet(testProto, 3, 46)}
	for i, w := range want {
		send(t, s, from, w)
		_, b := receive(t, first)
		receive(t, second)
		send(t, s, out, b)
		_, again := receive(t, second)
		receive(t, first)
		if !bytes.Equal(again[VnetLen:], w[VnetLen:]) {
			t.Errorf("frame %d: %d bytes, want %d", i, len(again), len(w))
		}
		if again[0] != w[0] || again[1] != w[1] || !bytes.Equal(again[4:VnetLen], w[4:VnetLen]) {
			t.Errorf("frame %d: virtio_net_hdr % x, want % x", i, again[:VnetLen], w[:VnetLen])
		}
	}
}

func TestWait(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	for _, spin := range []time.Duration{0, 50 * time.Microsecond} {
		r := openRing(t, Config{Spin: spin})
		if err := r.Wait(time.Millisecond); err != nil || r.Ready() {
			t.Errorf("time-out: %v, ready %v", err, r.Ready())
		}
		waited := make(chan error)
		wait := func() { go func() { waited <- r.Wait(-1) }() }
		r.Wake() // before Wait: the next one returns
		wait()
		if err := <-waited; err != nil {
			t.Errorf("woken: %v", err)
		}
		wait()
		r.Wake() // most likely during Wait
		if err := <-waited; err != nil {
			t.Errorf("woken: %v", err)
		}
		wait()
		send(t, openSender(t, true), from, ethernet(testProto, 9, 46))
		if err := <-waited; err != nil || !r.Ready() {
			t.Errorf("a frame: %v, ready %v", err, r.Ready())
		}
		receive(t, r)
		wait()
		r.Shut()
		if err := <-waited; !errors.Is(err, os.ErrClosed) {
			t.Errorf("shut: %v", err)
		}
		if err := r.Wait(-1); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after it was shut: %v", err)
		}
	}
}

// An interface that goes down puts ENETDOWN on a socket bound to it; a ring of
// all interfaces must go on either way.
func TestInterfaceGoesDown(t *testing.T) {
	namespace(t)
	from, to := nstest.Veth(t, "a", "b")
	other, _ := nstest.Veth(t, "c", "d")
	r, s := openRing(t, Config{}), openSender(t, false)
	send(t, s, from, ethernet(testProto, 1, 46))
	remove(t, to)
	send(t, s, other, ethernet(testProto, 2, 46))
	for want := range uint32(2) {
		if _, b := receive(t, r); numberOf(b[VnetLen:]) != want+1 {
			t.Errorf("frame %d came, want %d", numberOf(b[VnetLen:]), want+1)
		}
	}
}
