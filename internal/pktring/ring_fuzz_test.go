package pktring

import (
	"encoding/binary"
	"testing"
	"unsafe"
)

// FuzzRing plays a kernel that writes anything into the slots, and a reader
// that keeps to the rules: no panic, and no byte outside the frame's own slot
// ever handed out, since the datapath writes into what it gets.
func FuzzRing(f *testing.F) {
	const (
		opPut = iota
		opNext
		opRelease
		opSkip
		opRaw
		ops
	)
	header := make([]byte, minSlot)
	binary.NativeEndian.PutUint32(header[offStatus:], statusUser)
	binary.NativeEndian.PutUint32(header[offLen:], 60)
	binary.NativeEndian.PutUint32(header[offSnaplen:], 60)
	binary.NativeEndian.PutUint16(header[offMAC:], testMAC)
	f.Add(append(append([]byte{3, opPut}, header...), opNext, opRelease, 1))
	f.Add([]byte{0, opNext, opRelease, 200, opSkip})
	binary.NativeEndian.PutUint32(header[offSnaplen:], 1<<31)
	f.Add(append(append([]byte{7, opSkip, opPut}, header...), opNext, opNext))
	binary.NativeEndian.PutUint16(header[offMAC:], 0xffff)
	f.Add(append(append([]byte{1, opRaw, 0, opPut}, header...), opNext, opRelease, 0))

	f.Fuzz(func(t *testing.T, in []byte) {
		byteOf := func() byte {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return b
		}
		slots := 1 + int(byteOf()%8)
		mem := make([]byte, slots*testSlotSize)
		r := NewRing(mem, testSlotSize)
		head, borrowed, first := 0, 0, 0 // the kernel's next slot; the reader's oldest
		for len(in) > 0 {
			switch byteOf() % ops {
			case opPut: // the kernel fills its next slot
				b := mem[head*testSlotSize:][:testSlotSize]
				n := copy(b[:minSlot], in)
				in = in[n:]
				head = (head + 1) % slots
			case opRaw: // or writes a status anywhere
				i := int(byteOf()) % slots
				storeStatus(mem[i*testSlotSize:], uint32(byteOf()))
			case opNext:
				var s Slot
				ready := r.Ready()
				if got := r.Next(&s); got != ready {
					t.Fatalf("Ready %v, Next %v", ready, got)
				} else if got {
					check(t, mem, (first+borrowed)%slots, &s)
					borrowed++
				}
			case opRelease:
				n := int(byteOf())
				r.Release(n)
				n = min(n, borrowed)
				borrowed -= n
				first = (first + n) % slots
			case opSkip:
				if r.Ahead() && borrowed == 0 {
					r.Skip()
					first = (first + 1) % slots
				}
			}
			if r.Borrowed() != borrowed || borrowed > slots {
				t.Fatalf("%d borrowed, want %d of %d", r.Borrowed(), borrowed, slots)
			}
		}
	})
}

func check(t *testing.T, mem []byte, slot int, s *Slot) {
	t.Helper()
	if s.Bad {
		if s.Data != nil {
			t.Fatal("a bad slot with data")
		}
		return
	}
	if len(s.Data) < VnetLen || cap(s.Data) != len(s.Data) {
		t.Fatalf("data of %d bytes, %d to the end", len(s.Data), cap(s.Data))
	}
	from := int(uintptr(unsafe.Pointer(&s.Data[0])) - uintptr(unsafe.Pointer(&mem[0])))
	if from < slot*testSlotSize+minSlot || from+len(s.Data) > (slot+1)*testSlotSize {
		t.Fatalf("slot %d: data from %d, %d bytes", slot, from, len(s.Data))
	}
}
