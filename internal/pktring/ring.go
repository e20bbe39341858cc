// Package pktring moves frames between user memory and network devices
// through AF_PACKET: a TPACKET_V2 receive ring with virtio_net_hdr, and batched
// transmission by sendmmsg (packet(7), Documentation/networking/packet_mmap.rst).
//
// The ring has many small slots. A frame that does not fit into its slot (a
// super-packet of up to 64 KB) is marked TP_STATUS_COPY by the kernel and
// waits, whole, in the socket's queue; slot and queue entry are made under one
// lock, so taking the queue's head for each marked slot keeps the order.
//
// ring.go walks bytes and knows no system call: a test plays the kernel.
package pktring

import "encoding/binary"

// VnetLen is the length of the struct virtio_net_hdr that stands before each
// frame (include/uapi/linux/virtio_net.h, without num_buffers), in bytes.
const VnetLen = 10

// Bits of tp_status (include/uapi/linux/if_packet.h).
const (
	statusKernel    = 0
	statusUser      = 1 << 0
	statusCopy      = 1 << 1
	statusVLANValid = 1 << 4

	statusVLANTPIDValid = 1 << 6
)

// Offsets in struct tpacket2_hdr and in the sockaddr_ll behind it. All fields
// are in host byte order but sll_protocol.
const (
	offStatus  = 0
	offLen     = 4
	offSnaplen = 8
	offMAC     = 12
	offSec     = 16
	offNsec    = 20
	offTCI     = 24
	offTPID    = 26
	offSLL     = 32 // TPACKET_ALIGN(sizeof(struct tpacket2_hdr))
	offIfindex = offSLL + 4
	offHatype  = offSLL + 8
	offPkttype = offSLL + 10
	minSlot    = offSLL + 20
)

// Slot is what the kernel says of one received frame.
type Slot struct {
	// Data is the virtio_net_hdr and, from VnetLen on, the frame from its
	// link-layer header; without the former if the ring is Plain. It lies in
	// the ring: borrowed until Release.
	Data    []byte
	Len     int    // of the frame on the wire, bytes
	TCI     uint16 // of the VLAN tag, if Tagged
	TPID    uint16 // EtherType of the VLAN tag, 0: not told
	Time    int64  // when the kernel took it in, ns since 1970
	Ifindex int32
	Hatype  uint16 // ARPHRD_* of the device
	PktType uint8  // PACKET_HOST, PACKET_OTHERHOST, ...
	Tagged  bool   // the frame bore a VLAN tag, which Data no longer shows
	Copied  bool   // Data is cut off; the whole frame is next in the socket's queue
	Cut     bool   // Data is cut off and there is no copy: the frame is lost
	Bad     bool   // the slot's offsets make no sense
}

// TagLen is the length of a VLAN tag in bytes.
const TagLen = 4

// VLANID is the part of Slot.TCI that names the VLAN; 0 there is a mere priority,
// and the frame is the device's own (IEEE 802.1Q).
const VLANID = 0x0fff

// Retag writes a frame with the VLAN tag that the kernel took out of it to b
// (IEEE 802.1Q), which has room for it, and returns it. The frame may lie in b
// from TagLen on.
func (s *Slot) Retag(b, frame []byte) []byte {
	const addresses, dot1q = 12, 0x8100
	tpid := s.TPID
	if tpid == 0 {
		tpid = dot1q
	}
	n := copy(b, frame[:addresses])
	binary.BigEndian.PutUint16(b[n:], tpid)
	binary.BigEndian.PutUint16(b[n+2:], s.TCI)
	return b[:n+TagLen+copy(b[n+TagLen:], frame[addresses:])]
}

// Ring walks the slots of a receive ring in order. It has one reader.
type Ring struct {
	mem      []byte
	slotSize int
	slots    int
	head     int // next slot to look at
	tail     int // next slot to give back; head-tail slots are borrowed
	borrowed int
	vnetLen  int  // VnetLen, or 0
	lost     bool // which slot is next is not known: Seek finds it
}

// NewRing walks mem, which holds slots of slotSize bytes each, with a
// virtio_net_hdr before each frame.
func NewRing(mem []byte, slotSize int) *Ring {
	return &Ring{mem: mem, slotSize: slotSize, slots: len(mem) / slotSize, vnetLen: VnetLen}
}

// Ready reports whether the next slot holds a frame.
func (r *Ring) Ready() bool {
	return r.borrowed < r.slots && loadStatus(r.slot(r.head))&statusUser != 0
}

// Borrowed is the number of slots taken by Next and not yet released.
func (r *Ring) Borrowed() int { return r.borrowed }

// Waiting is how many frames wait, if less than most, else most.
func (r *Ring) Waiting(most int) (n int) {
	for at := r.head; n < min(most, r.slots-r.borrowed) && loadStatus(r.slot(at))&statusUser != 0; n++ {
		if at++; at == r.slots {
			at = 0
		}
	}
	return n
}

// Slots is how many slots the ring has.
func (r *Ring) Slots() int { return r.slots }

func (r *Ring) slot(i int) []byte {
	o := i * r.slotSize
	return r.mem[o : o+r.slotSize : o+r.slotSize]
}

// Next takes the next frame, if there is one. Its slot stays borrowed, with
// all bytes in it the caller's to change, until Release.
func (r *Ring) Next(s *Slot) bool {
	if r.borrowed == r.slots {
		return false
	}
	b := r.slot(r.head)
	status := loadStatus(b)
	if status&statusUser == 0 {
		return false
	}
	if r.head++; r.head == r.slots {
		r.head = 0
	}
	r.borrowed++

	s.Time = int64(binary.NativeEndian.Uint32(b[offSec:]))*1e9 + int64(binary.NativeEndian.Uint32(b[offNsec:]))
	s.Ifindex = int32(binary.NativeEndian.Uint32(b[offIfindex:]))
	s.Hatype = binary.NativeEndian.Uint16(b[offHatype:])
	s.PktType = b[offPkttype]
	s.Tagged = status&statusVLANValid != 0
	s.Copied = status&statusCopy != 0
	length := int(binary.NativeEndian.Uint32(b[offLen:]))
	snap := int(binary.NativeEndian.Uint32(b[offSnaplen:]))
	mac := int(binary.NativeEndian.Uint16(b[offMAC:]))
	s.Cut = snap < length && !s.Copied
	s.Len = length
	s.TCI = binary.NativeEndian.Uint16(b[offTCI:])
	if s.TPID = 0; status&statusVLANTPIDValid != 0 {
		s.TPID = binary.NativeEndian.Uint16(b[offTPID:])
	}
	s.Bad = mac < minSlot+r.vnetLen || snap < 0 || snap > len(b)-mac
	if s.Bad {
		s.Data = nil
		return true
	}
	s.Data = b[mac-r.vnetLen : mac+snap : mac+snap]
	return true
}

// Ahead reports whether the next slot is empty although the one behind it is
// filled: another CPU is about to fill it, or the kernel has lost it.
func (r *Ring) Ahead() bool {
	if r.borrowed+1 >= r.slots || r.Ready() {
		return false
	}
	return loadStatus(r.slot((r.head+1)%r.slots))&statusUser != 0
}

// Skip passes over the next slot, which must be one that Ahead told of, with
// nothing borrowed.
func (r *Ring) Skip() {
	r.head = (r.head + 1) % r.slots
	r.tail = r.head
}

// Release gives the n slots borrowed longest back to the kernel; their bytes
// must not be touched any more.
func (r *Ring) Release(n int) {
	for ; n > 0 && r.borrowed > 0; n-- {
		storeStatus(r.slot(r.tail), statusKernel)
		if r.tail++; r.tail == r.slots {
			r.tail = 0
		}
		r.borrowed--
	}
}
