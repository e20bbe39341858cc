// Package afpacket is the forward.Conn over AF_PACKET: a receive ring for all
// interfaces of the network namespace, or one of several (pktring.Group), and two sockets to send from, one
// that passes by the queueing discipline and one that does not.
package afpacket

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/relay"
	"proxyarpd/internal/shortage"
)

// Window tells the ring's filter how many frames of an interface have left
// the ring, so that it can police each interface's share.
type Window interface {
	// Consume says that a frame of that slot has left the ring.
	Consume(slot uint32)
	// Resync is told how to see whether the ring is empty: if it is, nothing
	// that was admitted before is still under way.
	Resync(empty func() bool)
	// Press says that the ring has not been empty for long, or that it is again.
	Press(on bool) error
	// SetLap says how many frames the ring holds.
	SetLap(slots int)
	// Reset says that the ring is a new one, and what was in the old one lost.
	Reset()
	// Relayed is how many frames have been sent to the relay so far.
	Relayed() uint64
	// Say ends a batch: the filter sees that the ring is read.
	Say()
	// Stalled reports whether the filter has seen that it is not, and leaves to the
	// kernel what it forwards as well. Resume ends that.
	Stalled() bool
	StalledSince() int64 // ns since 1970
	Resume()
}

// Relay is where frames come from that the ring can't take as they are, and by
// which frames go back to the kernel.
type Relay interface {
	FD() int // readable while a packet waits
	Read(b []byte) (relay.Packet, bool)
	Return(buf []byte, ifindex int32, ethernet bool) error
}

// Config of a Conn.
type Config struct {
	Ring   pktring.Config
	Window Window // nil: nobody polices
	Relay  Relay  // nil: there is none; else there is a Window, too
	// Beside says that the relay is another Conn's to read: this one only gives
	// frames back by it.
	Beside bool
	// Guarded says that the ring's filter keeps out every frame whose GSO type
	// the kernel can't express: nothing can stop the ring.
	Guarded bool
}

// A frame that fits no slot of the ring is copied here. Copies are few at a
// time, so that they stay in the CPU's cache between receipt and sending.
const (
	copyBuffers = 8
	copySize    = 1<<19 + 256 // GSO_MAX_SIZE (BIG TCP), headers and the virtio_net_hdr
)

// standingLaps is for how many laps of the ring without a break a queue has to
// stand. One that only came while others had the CPU is gone sooner.
const standingLaps = 8

// loadedFrom is how many frames at a time make a load.
const loadedFrom = 8

// Conn moves frames by AF_PACKET. One goroutine uses it, but for Wake and Drops.
type Conn struct {
	cfg     Config
	sock    *pktring.Socket
	direct  *pktring.Sender // PACKET_QDISC_BYPASS
	queued  *pktring.Sender
	backlog int  // frames in full batches without a break
	pressed bool // the filter has been told of it
	copies  [copyBuffers][]byte
	ahead   time.Time // since when an empty slot has stood before a filled one
	skipped bool      // such a slot was passed over: the ring is to be replaced
	drops   uint64    // when the ring was last seen empty
	rebuilt atomic.Uint64

	relayed uint64   // frames that the relay was sent, when it was last seen empty
	looked  int      // batches since
	parcels [][]byte // buffers for packets from the relay, as many as were ever needed
	inRing  int      // frames of the batch that are the ring's
	held    atomic.Bool
	stall   stall
}

var _ forward.Conn = (*Conn)(nil)

// Open makes the sockets in the network namespace of the calling thread.
func Open(cfg Config) (*Conn, error) {
	c := &Conn{cfg: cfg}
	var err error
	if c.direct, err = pktring.OpenSender(true); err != nil {
		return nil, err
	}
	if c.queued, err = pktring.OpenSender(false); err != nil {
		return nil, errors.Join(err, c.direct.Close())
	}
	if cfg.Window != nil {
		cfg.Ring.BeforeSleep = c.idle
	}
	if c.reads() {
		cfg.Ring.Beside, cfg.Ring.BesideReady = cfg.Relay.FD(), c.waits
	}
	c.cfg = cfg
	if c.sock, err = pktring.Open(cfg.Ring); err != nil {
		return nil, errors.Join(err, c.direct.Close(), c.queued.Close())
	}
	if cfg.Window != nil {
		cfg.Window.SetLap(c.sock.Slots())
	}
	for i := range c.copies {
		c.copies[i] = make([]byte, copySize)
	}
	return c, nil
}

// idle is called when the ring has been empty for a while.
func (c *Conn) idle() {
	c.cfg.Window.Resync(func() bool { return !c.sock.Ready() && !c.waits() })
	c.backlog = 0
	if c.pressed {
		c.pressed = c.cfg.Window.Press(false) != nil
	}
}

// busy counts the frames that came without the ring having been idle.
func (c *Conn) busy(n int) {
	if c.backlog += n; c.backlog < standingLaps*c.sock.Slots() || c.pressed || c.cfg.Window == nil {
		return
	}
	c.pressed = c.cfg.Window.Press(true) == nil
}

// holdTick is how often a Conn that is held looks whether it still is.
const holdTick = 50 * time.Microsecond

// Hold has nothing be received until the opposite is said. It is for a moment: the
// filter takes a ring that is not read for a stall. For any goroutine.
func (c *Conn) Hold(on bool) { c.held.Store(on) }

// Recv implements forward.Conn.
func (c *Conn) Recv(b *forward.Batch, wait time.Duration) error {
	b.N = 0
	s := c.sock
	for c.held.Load() {
		time.Sleep(holdTick)
	}
	wait = c.standBack(wait)
	if s.Lost() {
		s.Seek()
	}
	if !s.Ready() && !c.waits() {
		if err := c.wait(wait); err != nil {
			return err
		}
	}
	late := c.late()
	s.Gather()
	if c.looked++; c.waits() {
		// The relay gets nothing in a stall: what it holds is older.
		c.receiveRelayed(b, late != 0 && c.cfg.Window.StalledSince() < late)
	}
	relayed, copies := b.N, 0
	var slot pktring.Slot
	limit := b.Limit()
	for b.N < limit && copies < copyBuffers && s.Next(&slot) {
		f := &b.Frames[b.N]
		*f = forward.Frame{Buf: slot.Data, Ifindex: slot.Ifindex, PktType: slot.PktType,
			Ethernet: slot.Hatype == unix.ARPHRD_ETHER, Tagged: slot.Tagged && slot.TCI&pktring.VLANID != 0, Received: slot.Time,
			Tag: forward.Tag{Tagged: slot.Tagged, TCI: slot.TCI, TPID: slot.TPID}, Late: slot.Time < late}
		b.N++
		s.Came(slot.Time)
		switch {
		case slot.Copied:
			n, ok := s.ReadCopy(c.copies[copies])
			if !ok {
				f.Lost = route.DropPktTooBig
				continue
			}
			f.Buf = c.copies[copies][:n]
			copies++
		case slot.Bad:
			f.Lost = route.DropGSO
		case slot.Cut:
			f.Lost = route.DropNoMem
		}
	}
	c.inRing = b.N - relayed
	return nil
}

// Release implements forward.Conn.
func (c *Conn) Release(b *forward.Batch) {
	c.sock.Loaded = b.N >= loadedFrom
	if b.N >= forward.BatchUsual {
		c.busy(b.N)
	} else {
		c.backlog = 0
	}
	c.sock.Release(c.inRing)
	if w := c.cfg.Window; w != nil {
		for i := range b.Frames[:b.N] {
			w.Consume(b.Frames[i].Slot)
		}
		w.Say()
	}
	b.N = 0
}

// relayShare is how many frames of a batch may be the relay's.
const relayShare = 48

// lookEvery is after how many batches the relay is looked at in any case: one
// that was counted before it had come through would wait until the ring is empty.
const lookEvery = 64

// reads reports whether the relay is this Conn's to read.
func (c *Conn) reads() bool { return c.cfg.Relay != nil && !c.cfg.Beside }

// waits reports whether the relay may hold packets.
func (c *Conn) waits() bool {
	return c.reads() && (c.sock.BesideReadable || c.looked >= lookEvery || c.cfg.Window.Relayed() != c.relayed)
}

// receiveRelayed takes packets from the relay. They are older than those of the
// same flow that are in the ring.
func (c *Conn) receiveRelayed(b *forward.Batch, late bool) {
	sent, now := c.cfg.Window.Relayed(), time.Now().UnixNano()
	for b.N < relayShare {
		if b.N == len(c.parcels) {
			c.parcels = append(c.parcels, make([]byte, relay.MaxFrame))
		}
		packet, ok := c.cfg.Relay.Read(c.parcels[b.N])
		if !ok {
			c.relayed, c.looked, c.sock.BesideReadable = sent, 0, false
			return
		}
		b.Frames[b.N] = forward.Frame{Buf: packet.Buf, Ifindex: packet.Ifindex, Ethernet: packet.Ethernet, Received: now, Late: late}
		b.N++
	}
}

// Return implements forward.Conn.
func (c *Conn) Return(f *forward.Frame) bool {
	return c.cfg.Relay != nil && c.cfg.Relay.Return(f.Buf, f.Ifindex, f.Ethernet) == nil
}

// Send implements forward.Conn. Frames for the two sockets leave in the order
// of out: a change of socket sends what the other holds first.
func (c *Conn) Send(out []forward.Out) {
	// The thread may have been stopped since the batch was received.
	if late := c.late(); late != 0 {
		c.sendYoung(out, late)
		return
	}
	c.send(out)
}

func (c *Conn) send(out []forward.Out) {
	for first := 0; first < len(out); {
		s := c.queued
		if out[first].Bypass {
			s = c.direct
		}
		s.SetPriority(out[first].Priority)
		last := first
		for last < len(out) && out[last].Bypass == out[first].Bypass && out[last].Priority == out[first].Priority &&
			s.AddPieces(out[last].Buf, out[last].Tail, out[last].Ifindex, uint16(out[last].Type)) {
			last++
		}
		for i, errno := range s.Flush() {
			out[first+i].Err = verdict(errno)
		}
		first = last
	}
}

// verdict names the errors of packet_snd (net/packet/af_packet.c).
func verdict(errno syscall.Errno) route.Verdict {
	switch errno {
	case 0:
		return route.Forward
	case unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
		return route.DropIfDown
	case unix.EMSGSIZE:
		return route.DropPktTooBig
	case unix.ENOBUFS:
		return route.DropQdisc
	case unix.EAGAIN, unix.ENOMEM:
		return route.DropNoMem
	case unix.EINVAL:
		return route.DropGSO
	}
	return route.DropPacketSockError
}

// FD is the socket of the ring, for another process to have it too. For any goroutine.
func (c *Conn) FD() int { return c.sock.FD() }

// Position is the slot that is to be read next.
func (c *Conn) Position() int { return c.sock.Position() }

// GoOn has the Conn read on at a slot of a ring that another process has read so far;
// pktring.Unknown: nobody has told how far.
func (c *Conn) GoOn(slot int) { c.sock.SetPosition(slot) }

// Wake implements forward.Conn.
func (c *Conn) Wake() { c.sock.Wake() }

// Drops is how many frames found no free slot in the ring.
func (c *Conn) Drops() uint64 { return c.sock.Drops() }

// SetMark marks the frames that are sent from now on (SO_MARK), so that who
// looks on can tell them from the kernel's. For any goroutine.
func (c *Conn) SetMark(mark uint32) error {
	return errors.Join(c.direct.SetMark(mark), c.queued.SetMark(mark))
}

// Refilter has the ring's filter attached anew, where it is another one by now.
// For any goroutine.
func (c *Conn) Refilter() error { return c.sock.Refilter() }

// Mute has the ring get nothing more; what comes is left to the kernel. For any
// goroutine.
func (c *Conn) Mute() error { return c.sock.Mute() }

// Rebuilt is how often a ring had to be replaced because the kernel had
// stopped it.
func (c *Conn) Rebuilt() uint64 { return c.rebuilt.Load() }

// Close releases the sockets. Nothing may use the Conn any more.
func (c *Conn) Close() error {
	return errors.Join(c.sock.Close(), c.direct.Close(), c.queued.Close())
}

// A TPACKET_V2 ring that receives a frame whose GSO type no virtio_net_hdr can
// express takes a slot for it and never gives it back (net/packet/af_packet.c,
// tpacket_rcv): the ring is stopped for good, and every further frame a drop.
// Before Linux 5.6 it stops one lap later; until then the lost slot shows as an
// empty one before filled ones. The eBPF filter keeps such frames out; where it
// can't be loaded or can't see the type, the ring is looked at now and then. A
// lost slot is skipped, and the ring replaced as soon as it has been emptied.
const (
	lostSlotAfter = 50 * time.Millisecond
	lookAfter     = 20 * time.Millisecond
)

func (c *Conn) wait(wait time.Duration) error {
	s := c.sock
	if c.skipped {
		return c.rebuild(wait)
	}
	look := !c.cfg.Guarded && (wait < 0 || wait >= lookAfter)
	if look {
		wait, c.drops = lookAfter, s.Drops()
	}
	if err := s.Wait(wait); err != nil || s.Ready() {
		return err
	}
	switch {
	case look && s.Drops() != c.drops && !s.Ready():
		return c.rebuild(wait) // empty all the time, and yet without room
	case c.cfg.Guarded || !s.Ahead():
		c.ahead = time.Time{}
	case c.ahead.IsZero():
		c.ahead = time.Now() // another CPU may still be filling the slot
	case time.Since(c.ahead) > lostSlotAfter:
		s.Skip()
		c.skipped, c.ahead = true, time.Time{}
	}
	return nil
}

// rebuildPause is the time between attempts, where descriptors or memory for a
// new ring are short.
const rebuildPause = 100 * time.Millisecond

// rebuild replaces the ring. If that can't be done at the moment the old one,
// which gets nothing any more, is waited for, and then it is tried again.
func (c *Conn) rebuild(wait time.Duration) error {
	if err := c.sock.Reopen(); shortage.Passing(err) {
		c.skipped = true
		if wait < 0 || wait > rebuildPause {
			wait = rebuildPause
		}
		return c.sock.Wait(wait)
	} else if err != nil {
		return fmt.Errorf("replace the ring that the kernel stopped: %w", err)
	}
	if c.cfg.Window != nil {
		c.cfg.Window.Reset()
	}
	c.skipped = false
	c.rebuilt.Add(1)
	return nil
}
