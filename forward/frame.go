package forward

import (
	"encoding/binary"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// VnetLen is the length of the struct virtio_net_hdr before each frame, bytes.
const VnetLen = 10

// Frame is one received packet in a borrowed buffer.
//
// Buf is the virtio_net_hdr and then the frame from its link-layer header; it
// belongs to the Conn and may be read and rewritten until Conn.Release.
type Frame struct {
	Buf      []byte
	Ifindex  int32  // ingress
	Slot     uint32 // of the ingress link, set by step; 0: not known
	PktType  uint8  // PACKET_HOST, PACKET_OTHERHOST (include/uapi/linux/if_packet.h)
	Ethernet bool   // there is an Ethernet header
	Tagged   bool   // bore a VLAN tag that Buf no longer shows
	Tag      Tag    // that it bore, be it a mere priority's: for a Tap
	Lost     route.Verdict
	Received int64 // ns since 1970, when the kernel took it in; 0: not known
	// Late says that it has waited so long that the kernel has had, for long, what
	// came behind it: it is lost where the kernel forwards.
	Late bool

	id uint64 // event id, where somebody looks
}

// Kernel packet types, PACKET_*.
const (
	packetHost      = 0
	packetOtherHost = 3
)

// Vnet is a struct virtio_net_hdr (include/uapi/linux/virtio_net.h), in the
// host's byte order: checksum and GSO state that travel with a frame.
type Vnet []byte

// The flags and types in a Vnet.
const (
	vnetNeedsCsum = 1
	gsoNone       = 0
	gsoTCPv4      = 1
	gsoTCPv6      = 4
	gsoUDPL4      = 5
	gsoECN        = 0x80
)

// wants reports whether something is left to be done for the frame: segments to
// be made, a checksum to be filled in.
func (v Vnet) wants() bool { return v.gso() != gsoNone || v.flags()&vnetNeedsCsum != 0 }

// lacksChecksums reports whether a super-packet's segments have no checksums, and nobody is
// asked to fill them in.
func (v Vnet) lacksChecksums() bool { return v.gso() == gsoUDPL4 && v.flags()&vnetNeedsCsum == 0 }

func (v Vnet) flags() uint8       { return v[0] }
func (v Vnet) gso() uint8         { return v[1] &^ gsoECN }
func (v Vnet) headerLen() int     { return int(binary.NativeEndian.Uint16(v[2:])) }
func (v Vnet) setHeaderLen(n int) { binary.NativeEndian.PutUint16(v[2:], uint16(n)) }
func (v Vnet) gsoSize() int       { return int(binary.NativeEndian.Uint16(v[4:])) }
func (v Vnet) csumStart() int     { return int(binary.NativeEndian.Uint16(v[6:])) }
func (v Vnet) csumOffset() int    { return int(binary.NativeEndian.Uint16(v[8:])) }

// moveHeaders says that the network header stands n bytes further on.
func (v Vnet) moveHeaders(n int) {
	v.setCsumStart(v.csumStart() + n)
	if length := int(binary.NativeEndian.Uint16(v[2:])); length != 0 {
		binary.NativeEndian.PutUint16(v[2:], uint16(length+n))
	}
}

func (v Vnet) setCsumStart(n int) { binary.NativeEndian.PutUint16(v[6:], uint16(n)) }

// Batch is what one Recv gave.
type Batch struct {
	Frames [BatchSize]Frame
	N      int
	Most   int // Recv is to take no more; 0: as many as fit
}

// Limit is how many frames Recv may take.
func (b *Batch) Limit() int {
	if b.Most == 0 {
		return BatchSize
	}
	return b.Most
}

// BatchSize is how many frames are taken and sent at a time at most, and
// BatchUsual how many where more would be of no use.
const (
	BatchSize  = 512
	BatchUsual = 64
)

// Out is a frame to send: its virtio_net_hdr and the frame. The buffer is
// borrowed from Queue until Flush has returned.
type Out struct {
	Buf     []byte
	Tail    [][]byte // further pieces of the same frame
	Ifindex int32
	Type    wire.EtherType // of what the frame bears, also where the frame does not say so
	Bypass  bool           // may pass by the queueing discipline
	// Priority is that of the kernel's buffer (SO_PRIORITY).
	Priority uint8
	// Received is that of the frame where the kernel forwards as well, else 0: it
	// is not sent if it is Late by now.
	Received int64
	Err      route.Verdict
}

// Conn is what moves frames: the loop's way to the network. One serves all
// interfaces. It is used by one goroutine, but for Wake.
type Conn interface {
	// Recv waits until frames are there, wait is over (negative: never) or
	// Wake was called, and fills b. Frames are borrowed until Release.
	Recv(b *Batch, wait time.Duration) error
	// Release gives b's frames back.
	Release(b *Batch)
	// Send sends in order and sets Err of each: Forward, or why not.
	Send(out []Out)
	// Return gives a received frame, as it came, back to the kernel, which handles
	// it as if it had not been taken. It is false if that can't be done. The frame
	// stays borrowed.
	Return(f *Frame) bool
	// Wake makes Recv return. For any goroutine.
	Wake()
}

// Tag is a VLAN tag beside a frame's bytes.
type Tag struct {
	Tagged bool   // there is one
	TCI    uint16 // priority, DEI and VLAN ID
	TPID   uint16 // its EtherType; 0: not told
}

// ethernet is the frame's link-layer header; only if f.Ethernet.
func (f *Frame) ethernet() wire.Ethernet { return wire.Ethernet(f.Buf[VnetLen:]) }

// isIPv6 reports whether a frame says that it bears IPv6: by its EtherType, and without a
// link layer by the version of what it bears.
func (f *Frame) isIPv6() bool {
	if f.Ethernet {
		eth := f.ethernet()
		return eth.Valid() && eth.Type() == wire.EtherTypeIPv6
	}
	return len(f.Buf) > VnetLen && isIPv6(f.Buf[VnetLen:])
}

// isIPv6 reports whether a packet is one by its version.
func isIPv6(packet []byte) bool { return packet[0]>>4 == 6 }

// l2len is the length of the link-layer header in bytes.
func (f *Frame) l2len() int {
	if f.Ethernet {
		return wire.EthernetLen
	}
	return 0
}
