package claim

import (
	"github.com/cilium/ebpf"

	"proxyarpd/internal/wire"
)

// Decision is what the ring's filter decided about a frame.
type Decision struct {
	Carried  bool
	Ifindex  uint32
	Dst, Src wire.MAC
	Total    uint16 // length of the packet, from its header on
	Peer     bool   // by the peer
	Trim     bool   // without what follows the packet
}

// Try runs the ring's filter on a frame with an Ethernet header, as if it had
// come in by an interface, and tells what it decided. It is for tests.
func (c *Carrier) Try(ifindex int32, frame []byte) (d Decision, err error) {
	const ctxSize, ifindexAt = 192, 40 // struct __sk_buff
	ctx := make([]byte, ctxSize)
	native.PutUint32(ctx[ifindexAt:], uint32(ifindex))
	// The kernel takes an Ethernet header away before it runs a socket filter.
	twice := append(append([]byte(nil), frame[:wire.EthernetLen]...), frame...)
	none := make([]bpfDecided, ebpf.MustPossibleCPU())
	if err := c.set.objs.ParpDecision.Put(uint32(0), none); err != nil {
		return d, err
	}
	if _, err := c.set.ring.Run(&ebpf.RunOptions{Data: twice, Context: ctx}); err != nil {
		return d, err
	}
	if err := c.set.objs.ParpDecision.Lookup(uint32(0), &none); err != nil {
		return d, err
	}
	for _, of := range none {
		if of.Decision != decisionCarried {
			continue
		}
		d = Decision{Carried: true, Ifindex: of.Ifindex, Total: of.Total, Peer: of.How&byPeer != 0, Trim: of.How&trim != 0}
		d.Dst, d.Src = wordMAC(of.Dst), wordMAC(of.Src)
	}
	return d, nil
}

// TryAnswer runs the claim on a frame with an Ethernet header, as if it had come in by an
// interface, and gives its answer if it sends one there, or is nil; then left is the frame
// as it goes on. It is for tests.
func (c *Carrier) TryAnswer(ifindex int32, frame []byte) (answer, left []byte, err error) {
	const ctxSize, ifindexAt = 192, 40 // struct __sk_buff
	const redirected = 7               // TC_ACT_REDIRECT
	ctx := make([]byte, ctxSize)
	native.PutUint32(ctx[ifindexAt:], uint32(ifindex))
	run := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: ctx}
	ret, err := c.set.claim.Run(&run)
	if err == nil && ret == redirected {
		return run.DataOut, nil, nil
	}
	return nil, run.DataOut, err
}

// Of bpf/claim.c and bpf/carry.h.
const (
	decisionCarried = 3
	byPeer          = 1
	trim            = 2
)

func wordMAC(word uint64) wire.MAC {
	var b [8]byte
	native.PutUint64(b[:], word)
	return wire.MAC(b[:6])
}
