package pktring

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// kernel fills the slots of a ring as tpacket_rcv does.
type kernel struct {
	mem      []byte
	slotSize int
	head     int
}

const (
	testSlots    = 8
	testSlotSize = 256
	testMAC      = 96 // where the kernel puts the frame: behind header, address and room
)

func newTestRing() (*Ring, *kernel) {
	mem := make([]byte, testSlots*testSlotSize)
	return NewRing(mem, testSlotSize), &kernel{mem: mem, slotSize: testSlotSize}
}

func (k *kernel) slot(i int) []byte { return k.mem[i*k.slotSize : (i+1)*k.slotSize] }

// received is what the kernel says of a frame.
type received struct {
	status    uint32
	length    int // 0: that of frame
	mac       uint16
	ifindex   int32
	hatype    uint16
	pktType   uint8
	vnet      byte // first byte of the virtio_net_hdr
	frame     []byte
	snapTwist int // added to tp_snaplen
}

// put fills the kernel's next slot; false if the reader still has it.
func (k *kernel) put(f received) bool {
	b := k.slot(k.head)
	if loadStatus(b) != statusKernel {
		return false
	}
	if f.mac == 0 {
		f.mac = testMAC
	}
	if f.length == 0 {
		f.length = len(f.frame)
	}
	binary.NativeEndian.PutUint32(b[offLen:], uint32(f.length))
	binary.NativeEndian.PutUint32(b[offSnaplen:], uint32(len(f.frame)+f.snapTwist))
	binary.NativeEndian.PutUint16(b[offMAC:], f.mac)
	binary.NativeEndian.PutUint32(b[offIfindex:], uint32(f.ifindex))
	binary.NativeEndian.PutUint16(b[offHatype:], f.hatype)
	b[offPkttype] = f.pktType
	if int(f.mac)+len(f.frame) <= len(b) {
		b[f.mac-VnetLen] = f.vnet
		copy(b[f.mac:], f.frame)
	}
	storeStatus(b, statusUser|f.status)
	k.head = (k.head + 1) % (len(k.mem) / k.slotSize)
	return true
}

func (k *kernel) mustPut(t *testing.T, f received) {
	t.Helper()
	if !k.put(f) {
		t.Fatalf("slot %d is not the kernel's", k.head)
	}
}

func numbered(i int) []byte { return fmt.Appendf(nil, "frame %04d", i) }

func take(t *testing.T, r *Ring) Slot {
	t.Helper()
	var s Slot
	if !r.Ready() || !r.Next(&s) {
		t.Fatal("no frame")
	}
	return s
}

func TestRingOrderAndWrap(t *testing.T) {
	r, k := newTestRing()
	in, out := 0, 0
	for round := range 5 * testSlots {
		for range 1 + round%testSlots {
			if !k.put(received{frame: numbered(in), ifindex: int32(in), vnet: byte(in)}) {
				break
			}
			in++
		}
		n := 0
		var s Slot
		for ; r.Next(&s); n++ {
			if want := numbered(out); !bytes.Equal(s.Data[VnetLen:], want) || s.Ifindex != int32(out) || s.Data[0] != byte(out) {
				t.Fatalf("frame %d: interface %d, %q", out, s.Ifindex, s.Data)
			}
			out++
		}
		if r.Borrowed() != n {
			t.Fatalf("%d taken, %d borrowed", n, r.Borrowed())
		}
		r.Release(n)
	}
	if in != out || in < 3*testSlots {
		t.Errorf("%d put in, %d taken out", in, out)
	}
}

func TestRingBorrowed(t *testing.T) {
	r, k := newTestRing()
	for i := range testSlots {
		k.mustPut(t, received{frame: numbered(i)})
	}
	slots := make([]Slot, testSlots)
	for i := range slots {
		slots[i] = take(t, r)
	}
	var s Slot
	if r.Ready() || r.Next(&s) || r.Borrowed() != testSlots {
		t.Error("all slots are borrowed, and yet there is a frame")
	}
	if k.put(received{frame: numbered(99)}) {
		t.Fatal("the kernel has a slot that is borrowed")
	}
	r.Release(3)
	for i := range 3 {
		k.mustPut(t, received{frame: numbered(testSlots + i)})
	}
	if k.put(received{frame: numbered(99)}) {
		t.Fatal("more slots were given back than released")
	}
	for i := 3; i < testSlots; i++ { // those not released keep their bytes
		if !bytes.Equal(slots[i].Data[VnetLen:], numbered(i)) {
			t.Errorf("borrowed frame %d is now %q", i, slots[i].Data)
		}
	}
	for i := range 3 {
		if s := take(t, r); !bytes.Equal(s.Data[VnetLen:], numbered(testSlots+i)) {
			t.Errorf("got %q", s.Data)
		}
	}
	r.Release(1000) // more than there are
	if r.Borrowed() != 0 {
		t.Errorf("%d borrowed", r.Borrowed())
	}
	if r.Ready() {
		t.Error("a frame out of nothing")
	}
}

func TestRingAhead(t *testing.T) {
	r, k := newTestRing()
	k.mustPut(t, received{frame: numbered(0)})
	take(t, r)
	r.Release(1)
	if r.Ahead() {
		t.Error("an empty ring has nothing ahead")
	}
	k.head++ // the kernel loses a slot
	k.mustPut(t, received{frame: numbered(1)})
	if r.Ready() || !r.Ahead() {
		t.Errorf("ready %v, ahead %v; want the gap seen", r.Ready(), r.Ahead())
	}
	r.Skip()
	if s := take(t, r); !bytes.Equal(s.Data[VnetLen:], numbered(1)) {
		t.Errorf("behind the gap: %q", s.Data)
	}
	r.Release(1)
	if r.Borrowed() != 0 || r.Ready() || r.Ahead() {
		t.Error("not empty behind the gap")
	}

	// The gap is the last slot, and what follows is the first.
	r, k = newTestRing()
	for i := range testSlots - 1 {
		k.mustPut(t, received{frame: numbered(i)})
		take(t, r)
		r.Release(1)
	}
	k.head = 0
	k.mustPut(t, received{frame: numbered(8)})
	if !r.Ahead() {
		t.Fatal("a gap at the ring's end is not seen")
	}
	r.Skip()
	if s := take(t, r); !bytes.Equal(s.Data[VnetLen:], numbered(8)) {
		t.Errorf("got %q", s.Data)
	}
}

func TestRingSlotMarks(t *testing.T) {
	whole := bytes.Repeat([]byte{7}, testSlotSize-testMAC)
	for name, c := range map[string]struct {
		in   received
		want Slot
	}{
		"plain":            {received{ifindex: 7, hatype: 1, pktType: 3}, Slot{Ifindex: 7, Hatype: 1, PktType: 3}},
		"tagged":           {received{status: statusVLANValid}, Slot{Tagged: true}},
		"copied":           {received{status: statusCopy, frame: whole, length: 65000}, Slot{Copied: true}},
		"cut":              {received{frame: whole, length: 65000}, Slot{Cut: true}},
		"losing":           {received{status: 1 << 2}, Slot{}},
		"fills the slot":   {received{frame: whole}, Slot{}},
		"one byte beyond":  {received{frame: whole, snapTwist: 1}, Slot{Bad: true}},
		"far beyond":       {received{snapTwist: 1<<31 - 1}, Slot{Bad: true}},
		"negative length":  {received{snapTwist: -100}, Slot{Bad: true}},
		"in the header":    {received{mac: minSlot + VnetLen - 1}, Slot{Bad: true}},
		"behind the slot":  {received{mac: testSlotSize + 1}, Slot{Bad: true}},
		"no frame at all":  {received{mac: testSlotSize}, Slot{}},
		"lowest that goes": {received{mac: minSlot + VnetLen}, Slot{}},
	} {
		t.Run(name, func(t *testing.T) {
			r, k := newTestRing()
			if c.in.frame == nil && !c.want.Bad && c.in.mac == 0 {
				c.in.frame = numbered(1)
			}
			k.mustPut(t, c.in)
			k.mustPut(t, received{frame: numbered(2)})
			s := take(t, r)
			if c.want.Bad == (s.Data != nil) || !c.want.Bad && !bytes.Equal(s.Data[VnetLen:], c.in.frame) {
				t.Errorf("data %q", s.Data)
			}
			if cap(s.Data) != len(s.Data) {
				t.Error("the frame can be appended to beyond its end")
			}
			if n := max(c.in.length, len(c.in.frame)); s.Len != n {
				t.Errorf("length on the wire %d, want %d", s.Len, n)
			}
			s.Len = 0
			if s.Data = nil; c.want.Bad {
				s.Cut = false // says nothing then
			}
			if fmt.Sprint(s) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", s, c.want)
			}
			if next := take(t, r); !bytes.Equal(next.Data[VnetLen:], numbered(2)) {
				t.Errorf("the frame behind it: %q", next.Data)
			}
		})
	}
}
