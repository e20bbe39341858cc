package arpd

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr (recvmmsg(2)). The compiler pads it as C does, Msghdr
// being aligned to a pointer.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

const (
	sockaddrLen = unix.SizeofSockaddrLinklayer
	// auxLen is a control message with PACKET_AUXDATA, controlLen the room for it.
	auxLen     = unix.SizeofCmsghdr + int(unsafe.Sizeof(unix.TpacketAuxdata{}))
	stampLen   = unix.SizeofCmsghdr + int(unsafe.Sizeof(unix.Timespec{}))
	markLen    = unix.SizeofCmsghdr + 4
	controlLen = (auxLen+7)&^7 + (stampLen+7)&^7 + (markLen+7)&^7
)

// rxBatch is what recvmmsg fills. The kernel writes through pointers that stay
// the same for good; everything they point to is in the struct itself, so that it
// lives as long.
type rxBatch struct {
	hdrs    [batchSize]mmsghdr
	iovs    [batchSize]unix.Iovec
	addrs   [batchSize]unix.RawSockaddrLinklayer
	control [batchSize][controlLen / 8]uint64 // aligned as Cmsghdr
	data    [batchSize][snapLen]byte
	used    int // how many headers the last call changed
}

func newRxBatch() *rxBatch {
	b := &rxBatch{used: batchSize}
	for i := range b.hdrs {
		b.iovs[i].Base = &b.data[i][0]
		b.iovs[i].SetLen(snapLen)
		h := &b.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&b.control[i]))
	}
	b.reset()
	return b
}

// reset makes room again where the kernel wrote how much it used.
func (b *rxBatch) reset() {
	for i := range b.used {
		h := &b.hdrs[i].hdr
		h.Namelen = sockaddrLen
		h.SetControllen(controlLen)
		h.Flags = 0
	}
	b.used = 0
}

// recvmmsg does not wait, and so not for Go's scheduler either.
func (b *rxBatch) recvmmsg(fd uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[0])),
		batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	b.used = int(n)
	return b.used, 0
}

// frame reads message i. Lengths are bounded: they are the kernel's, but a slice
// beyond the buffer would be the end of everything.
func (b *rxBatch) frame(i int) frame {
	sa := &b.addrs[i]
	f := frame{
		data:      b.data[i][:min(b.hdrs[i].n, snapLen)],
		ifindex:   int(sa.Ifindex),
		otherhost: sa.Pkttype == unix.PACKET_OTHERHOST,
	}
	b.readControl(i, &f)
	return f
}

// readControl takes what the kernel says beside message i: whether it bore a tag,
// with Options.Timed when it came, and of another protocol than ARP its mark.
func (b *rxBatch) readControl(i int, f *frame) {
	all := min(int(b.hdrs[i].hdr.Controllen), controlLen)
	for at := 0; at+unix.SizeofCmsghdr <= all; {
		h := (*unix.Cmsghdr)(unsafe.Add(unsafe.Pointer(&b.control[i]), at))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || at+n > all {
			return
		}
		data := unsafe.Add(unsafe.Pointer(h), unix.SizeofCmsghdr)
		switch {
		case h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && n >= auxLen:
			aux := (*unix.TpacketAuxdata)(data)
			f.vlan = aux.Status&unix.TP_STATUS_VLAN_VALID != 0 && aux.Vlan_tci&0x0fff != 0
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && n >= stampLen:
			f.received = (*unix.Timespec)(data).Nano()
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_MARK && n >= markLen:
			f.taken = *(*uint32)(data) == MarkTaken
		}
		at += (n + 7) &^ 7
	}
}

// txBatch is what sendmmsg reads, made like rxBatch.
type txBatch struct {
	hdrs  [batchSize]mmsghdr
	iovs  [batchSize]unix.Iovec
	addrs [batchSize]unix.RawSockaddrLinklayer
	data  [batchSize][ReplyRoom]byte
}

func newTxBatch() *txBatch {
	b := new(txBatch)
	for i := range b.hdrs {
		b.iovs[i].Base = &b.data[i][0]
		b.addrs[i] = unix.RawSockaddrLinklayer{
			Family: unix.AF_PACKET,
			Halen:  6,
		}
		h := &b.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
		h.Namelen = sockaddrLen
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
	}
	return b
}

// stage addresses the reply that was written to data[i].
func (b *txBatch) stage(i, size, ifindex int) {
	b.iovs[i].SetLen(size)
	b.addrs[i].Ifindex = int32(ifindex)
	b.addrs[i].Protocol = binary.NativeEndian.Uint16(b.data[i][12:14]) // network byte order in both
	copy(b.addrs[i].Addr[:6], b.data[i][:6])
}

// sendmmsg gives the number sent before the first failure, or, if that is the
// first one, its error.
func (b *txBatch) sendmmsg(fd uintptr, from, to int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[from])),
		uintptr(to-from), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
