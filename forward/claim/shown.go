package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"proxyarpd/internal/wire"
)

// Shown are the packets that the programs carry, and the ARP requests and neighbour
// solicitations that they answer, for who captures. Want may be called by any goroutine, Next by one.
// Packets for which its ring has no room are counted, and carried all the same.
type Shown struct {
	set     *Set
	ring    *ebpf.Map
	reader  *ringbuf.Reader
	record  ringbuf.Record
	offset  int64 // from CLOCK_MONOTONIC to the time since 1970, ns
	unshown uint64

	last          uint64        // bytes of the ring that the last packet took
	taken, passed atomic.Uint64 // that Next gave, and that it came back from
}

const (
	shownRing = 4 << 20 // bytes
	// shownRest is how long Next lets packets gather once it has had all: each that
	// comes into an empty ring wakes it.
	shownRest = time.Millisecond
	// minShown is how much of a packet is copied at least, bytes: its headers.
	minShown = 128
)

// ShownVerdict says what a program did with a packet: SHOWN_* of bpf/carry.h.
type ShownVerdict uint8

// The verdicts.
const (
	ShownForward ShownVerdict = iota
	ShownSmall                // dropped: Carried.Small
	ShownNoMem                // dropped: Carried.NoMem
	ShownAnswer               // an ARP request, or a neighbour solicitation
)

// ShownPacket is a packet as it came, and how it leaves.
type ShownPacket struct {
	At      int64 // ns since 1970
	Verdict ShownVerdict
	In      int32
	Out     int32 // 0 if it was dropped
	PktType uint8 // PACKET_* as it came
	// Dst and Src are the MACs with which it leaves. Of what was answered Src is the
	// one that was told, and Dst is zero.
	Dst, Src wire.MAC
	Len      int    // bytes on the wire, from the Ethernet header on
	LeftLen  int    // the same as it left: without padding
	Data     []byte // as much of it as was wanted; until the next one
}

// Show makes the programs show packets; nobody else may look. It is nil if they
// carry nothing.
func (s *Set) Show() (*Shown, error) {
	if s.carrier == nil {
		return nil, nil
	}
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Name: "parp_shown_ring", Type: ebpf.RingBuf, MaxEntries: shownRing})
	if err != nil {
		return nil, fmt.Errorf("room for captured packets: %w", err)
	}
	reader, err := ringbuf.NewReader(ring)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("room for captured packets: %w", err), ring.Close())
	}
	x := &Shown{set: s, ring: ring, reader: reader}
	if err = s.vars.CarryUnshown.Get(&x.unshown); err == nil {
		err = s.objs.ParpShown.Put(uint32(0), ring)
	}
	if err == nil {
		err = s.vars.CarryShown.Set(uint32(1))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("room for captured packets: %w", err), x.Close())
	}
	return x, nil
}

// Want says on which interfaces somebody captures, and how many bytes of a packet
// are wanted. wants is asked now, and of each interface that is to come.
func (x *Shown) Want(snap int, wants func(ifindex int32) bool) error {
	s := x.set
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showTo(wants)
	return s.vars.CarrySnap.Set(uint32(max(snap, minShown)))
}

// showTo has packets of some interfaces be shown; the set's mu is held.
func (s *Set) showTo(wants func(ifindex int32) bool) {
	if s.carrier == nil {
		return // the programs carry no more
	}
	s.carrier.wants = wants
	for ifindex, p := range s.ports {
		s.carrier.show(ifindex, p.slot)
	}
}

// show says whether somebody captures on an interface; the set's mu is held.
func (c *Carrier) show(ifindex int32, slot uint32) {
	shown := uint32(0)
	if c.wants != nil && c.wants(ifindex) {
		shown = 1
	}
	atomic.StoreUint32(&c.ways[slot].Shown, shown)
}

// Next waits for a packet. The error is [os.ErrClosed] after Stop.
func (x *Shown) Next(p *ShownPacket) error {
	x.passed.Add(x.last)
	x.last = 0
	if x.reader.AvailableBytes() == 0 {
		time.Sleep(shownRest)
	}
	for {
		err := x.reader.ReadInto(&x.record)
		if errors.Is(err, ringbuf.ErrFlushed) {
			return os.ErrClosed
		}
		if err != nil {
			return fmt.Errorf("captured packets: %w", err)
		}
		n := uint64(recordHead+len(x.record.RawSample)+7) &^ 7
		if x.taken.Add(n); x.read(p) {
			x.last = n
			return nil
		}
		x.passed.Add(n)
	}
}

// recordHead stands before each record of the ring, bytes (BPF_RINGBUF_HDR_SZ).
const recordHead = 8

// Passed is how many bytes of the ring Next has given and been called again after. For
// any goroutine.
func (x *Shown) Passed() uint64 { return x.passed.Load() }

// Filled is what Passed will be when all that is there by now has been given. For any
// goroutine.
func (x *Shown) Filled() uint64 { return x.taken.Load() + uint64(x.reader.AvailableBytes()) }

// shownHead is the length of struct shown of bpf/carry.h without its data.
const shownHead = 48

// read makes a packet of the record.
func (x *Shown) read(p *ShownPacket) bool {
	b := x.record.RawSample
	if len(b) < shownHead {
		return false
	}
	le := binary.NativeEndian
	snap, total, how := int(le.Uint32(b[36:])), int(le.Uint16(b[40:])), b[42]
	if snap > len(b)-shownHead {
		return false
	}
	if x.offset == 0 || x.record.Remaining == 0 { // the clock may have been set
		x.offset = time.Now().UnixNano() - monotonic()
	}
	*p = ShownPacket{
		At: int64(le.Uint64(b)) + x.offset, Dst: wire.MAC(b[8:14]), Src: wire.MAC(b[16:22]),
		In: int32(le.Uint32(b[24:])), Out: int32(le.Uint32(b[28:])), Len: int(le.Uint32(b[32:])),
		Verdict: ShownVerdict(b[43]), PktType: b[44], Data: b[shownHead : shownHead+snap],
	}
	if p.LeftLen = p.Len; how&trim != 0 {
		p.LeftLen = wire.EthernetLen + total
	}
	return true
}

// Lost is how many packets found no room.
func (x *Shown) Lost() uint64 {
	var n uint64
	if x.set.vars.CarryUnshown.Get(&n) != nil {
		return 0
	}
	return n - x.unshown
}

// Stop ends Next.
func (x *Shown) Stop() error { return x.reader.Flush() }

// Close ends showing. Next must have returned.
func (x *Shown) Close() error {
	s := x.set
	err := s.vars.CarryShown.Set(uint32(0))
	s.mu.Lock()
	s.showTo(nil)
	s.mu.Unlock()
	if gone := s.objs.ParpShown.Delete(uint32(0)); !errors.Is(gone, ebpf.ErrKeyNotExist) {
		err = errors.Join(err, gone)
	}
	return errors.Join(err, x.reader.Close(), x.ring.Close())
}
