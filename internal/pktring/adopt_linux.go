package pktring

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Handed is the ring of another process, which reads it no more. Its frames stay
// where they are: the kernel goes on behind them, and the new reader goes on where
// the old one has stopped.
type Handed struct {
	// FD is the socket, which is the Socket's from then on.
	FD int
	// Next is the slot to be read next, -1 where the other process can't say.
	Next int
}

// Unknown is a Handed.Next that nobody has told.
const Unknown = -1

// adopt makes a Socket of a ring that is there. Its options are what Open has made
// of the same Config.
func (s *Socket) adopt(h *Handed) error {
	size := s.cfg.Slots * s.cfg.SlotSize
	mem, err := unix.Mmap(h.FD, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("packet socket: mmap of another process's ring of %d bytes: %w", size, err)
	}
	if s.cfg.Group != nil {
		if err := s.cfg.Group.adopt(h.FD); err != nil {
			return errors.Join(err, unix.Munmap(mem))
		}
	}
	s.statMu.Lock()
	defer s.statMu.Unlock()
	s.fd = h.FD
	s.use(mem)
	s.SetPosition(h.Next)
	return nil
}

// adopt counts a socket that is a member already.
func (g *Group) adopt(fd int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	id, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return fmt.Errorf("packet socket: PACKET_FANOUT: %w", err)
	}
	g.id = uint16(id)
	g.members++
	return nil
}

// Unshut undoes Shut, and reports whether there was one.
func (s *Socket) Unshut() bool { return s.closed.CompareAndSwap(true, false) }

// FD is the socket's descriptor, for another process to have it too. For any goroutine.
func (s *Socket) FD() int {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	return s.fd
}

// Position is the slot to be read next. Nothing may be borrowed.
func (r *Ring) Position() int {
	if r.lost {
		return Unknown
	}
	return r.head
}

// SetPosition has the reader go on at a slot; with Unknown it looks for the place,
// by Seek. Nothing may be borrowed.
func (r *Ring) SetPosition(slot int) {
	r.lost = slot < 0 || slot >= r.slots
	if !r.lost {
		r.head, r.tail = slot, slot
	}
}

// Lost reports whether it is not known which slot is to be read next.
func (r *Ring) Lost() bool { return r.lost }

// Seek looks for the slot that is to be read next, if that is not known. Frames lie
// in the ring without a gap between them, so it is the first of them; without any it
// can't be told.
//
// A gap is a slot that another CPU is just filling: what was taken first is then
// where it was received first.
func (r *Ring) Seek() {
	first, at := Unknown, int64(0)
	waits := func(i int) bool { return loadStatus(r.slot(i))&statusUser != 0 }
	before := r.slots > 0 && waits(r.slots-1)
	all := before
	for i := range r.slots {
		now := waits(i)
		all = all && now
		if now && !before {
			if t := r.received(i); first == Unknown || t < at {
				first, at = i, t
			}
		}
		before = now
	}
	if all {
		for i := range r.slots {
			if t := r.received(i); first == Unknown || t < at {
				first, at = i, t
			}
		}
	}
	r.SetPosition(first)
}

// received is when the kernel took in the frame of a slot, ns since 1970.
func (r *Ring) received(slot int) int64 {
	b := r.slot(slot)
	return int64(binary.NativeEndian.Uint32(b[offSec:]))*1e9 + int64(binary.NativeEndian.Uint32(b[offNsec:]))
}
