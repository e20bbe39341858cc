package pktring

import (
	"bytes"
	"encoding/binary"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// A frame that can't be sent must not hold up those behind it, wherever it
// stands in the batch and however many there are.
func TestFailingFrames(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	down, _ := nstest.Veth(t, "c", "d")
	l, err := netlink.LinkByIndex(int(down))
	if err == nil {
		err = netlink.LinkSetDown(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	odd := ethernet(testProto, 0, 46)
	odd[1] = 99 // no GSO type
	type frame struct {
		b       []byte
		ifindex int32
		want    syscall.Errno
	}
	bad := []frame{
		{ethernet(testProto, 0, 46), 1 << 20, unix.ENXIO},
		{ethernet(testProto, 0, 1501), from, unix.EMSGSIZE},
		{odd, from, unix.EINVAL},
		{ethernet(testProto, 0, 46), down, unix.ENETDOWN},
		{ethernet(testProto, 0, 46), 0, unix.ENXIO},
	}
	for _, bypass := range []bool{false, true} {
		for name, at := range map[string][]int{"first": {0}, "middle": {20, 40}, "neighbours": {10, 11, 12}, "last": {MaxBatch - 1}} {
			r, s := openRing(t, Config{}), openSender(t, bypass)
			var frames []frame
			var arrive []uint32
			for i := range MaxBatch {
				if slices.Contains(at, i) {
					frames = append(frames, bad[len(frames)%len(bad)])
					continue
				}
				arrive = append(arrive, uint32(i))
				frames = append(frames, frame{ethernet(testProto, uint32(i), 46), from, 0})
			}
			if s.Len() != 0 || len(s.Flush()) != 0 {
				t.Error("something to send from the start")
			}
			for _, f := range frames {
				s.Add(f.b, f.ifindex, testProto)
			}
			if s.Len() != MaxBatch {
				t.Errorf("%d added, want %d", s.Len(), MaxBatch)
			}
			for i, errno := range s.Flush() {
				if errno != frames[i].want {
					t.Errorf("bypass %v, bad at the %s: frame %d: %v, want %v", bypass, name, i, errno, frames[i].want)
				}
			}
			for _, want := range arrive {
				if _, b := receive(t, r); numberOf(b[VnetLen:]) != want {
					t.Fatalf("bypass %v, bad at the %s: frame %d came, want %d", bypass, name, numberOf(b[VnetLen:]), want)
				}
			}
			quiet(t, r)
			if s.Len() != 0 {
				t.Errorf("%d left to send", s.Len())
			}
			r.Close()
		}
	}
}

// The result of one Flush says nothing of the one before.
func TestErrorsAreNotKept(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	s := openSender(t, true)
	for i := range 6 {
		ifindex := from
		want := syscall.Errno(0)
		if i%2 == 0 {
			ifindex, want = 1<<20, unix.ENXIO
		}
		s.Add(ethernet(testProto, 1, 46), ifindex, testProto)
		if errs := s.Flush(); len(errs) != 1 || errs[0] != want {
			t.Errorf("time %d: %v, want %v", i, errs, want)
		}
	}
}

// A super-packet leaves in segments, each with its checksum, by an interface
// that can't segment.
func TestSegmentedOnTheWay(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	noOffloads(t, "a")
	r, s := openRing(t, Config{}), openSender(t, false)
	send(t, s, from, gsoTCP(0, 10*1000, 1000))
	sequence := uint32(0)
	for i := range 10 {
		_, b := receive(t, r)
		ip := b[VnetLen+14:]
		if len(ip) != 1040 || b[0] != 0 || b[1] != 0 {
			t.Fatalf("segment %d: %d bytes, virtio_net_hdr % x", i, len(ip), b[:VnetLen])
		}
		if got := binary.BigEndian.Uint32(ip[24:]); got != sequence {
			t.Errorf("segment %d: sequence number %d, want %d", i, got, sequence)
		}
		if i > 0 && !bytes.Equal(ip[40:44], []byte{byte(i * 7000), byte(i*7000 + 7), byte(i*7000 + 14), byte(i*7000 + 21)}) {
			t.Errorf("segment %d: payload % x", i, ip[40:44])
		}
		sequence += 1000
	}
	quiet(t, r)
}

func TestNoAllocations(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	r, s := openRing(t, Config{}), openSender(t, true)
	var frames [MaxBatch][]byte
	for i := range frames {
		frames[i] = ethernet(testProto, uint32(i), 46)
	}
	got := 0
	const rounds = 50
	allocs := testing.AllocsPerRun(rounds, func() {
		for _, f := range frames {
			s.Add(f, from, testProto)
		}
		for _, errno := range s.Flush() {
			if errno != 0 {
				t.Error(errno)
			}
		}
		var slot Slot
		n := 0
		for r.Next(&slot) {
			n++
		}
		r.Release(n)
		got += n
		if err := r.Wait(0); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a batch", allocs)
	}
	if want := (rounds + 1) * MaxBatch; got != want {
		t.Errorf("%d frames came, want %d", got, want)
	}

	super, buf := gsoTCP(1, 65000, 1448), make([]byte, 1<<17)
	allocs = testing.AllocsPerRun(rounds, func() {
		s.Add(super, from, unix.ETH_P_IP)
		s.Flush()
		var slot Slot
		for r.Next(&slot) {
			if n, ok := r.ReadCopy(buf); !ok || n != len(super) {
				t.Errorf("%d bytes, %v", n, ok)
			}
			r.Release(1)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a super-packet", allocs)
	}
}
