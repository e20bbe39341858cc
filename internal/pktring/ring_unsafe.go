package pktring

import (
	"sync/atomic"
	"unsafe"
)

// tp_status is shared with the kernel, which writes it last (tpacket_rcv,
// smp_wmb) and reads it first: both ends need the ordering of an atomic access.

func loadStatus(slot []byte) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&slot[offStatus])))
}

func storeStatus(slot []byte, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&slot[offStatus])), v)
}
