package capture

import "sync/atomic"

// Ring hands packets from one writer to one reader, in order. Its memory is
// bounded, and made once; a packet that finds no room is lost and counted. The
// writer never waits.
type Ring[T any] struct {
	entries []entry[T]
	data    []byte

	head     atomic.Uint64 // entries written
	tail     atomic.Uint64 // entries read
	dataTail atomic.Uint64 // bytes given back
	lost     atomic.Uint64

	dataHead uint64 // bytes taken; the writer's
}

type entry[T any] struct {
	facts T
	data  []byte
	end   uint64 // dataTail once the entry has been read
}

// NewRing makes a ring for that many packets, and as many bytes of them.
func NewRing[T any](packets, bytes int) *Ring[T] {
	return &Ring[T]{entries: make([]entry[T], packets), data: make([]byte, bytes)}
}

// Reserve gives the place for a packet with n bytes, or nil if there is none.
// What it points to is the writer's until Commit.
func (r *Ring[T]) Reserve(n int) (facts *T, data []byte) {
	head, size := r.head.Load(), uint64(len(r.data))
	if head-r.tail.Load() == uint64(len(r.entries)) || uint64(n) > size {
		r.lost.Add(1)
		return nil, nil
	}
	if head == r.tail.Load() { // empty, so nothing of the reader's: all bytes are one piece
		r.dataHead += (size - r.dataHead%size) % size
		r.dataTail.Store(r.dataHead)
	}
	start := r.dataHead % size
	end := r.dataHead + uint64(n)
	if start+uint64(n) > size { // does not fit before the end: begin anew
		end += size - start
		start = 0
	}
	if end-r.dataTail.Load() > size {
		r.lost.Add(1)
		return nil, nil
	}
	r.dataHead = end
	e := &r.entries[head%uint64(len(r.entries))]
	e.end, e.data = end, r.data[start:start+uint64(n):start+uint64(n)]
	return &e.facts, e.data
}

// Commit gives the packet that was reserved last to the reader.
func (r *Ring[T]) Commit() { r.head.Add(1) }

// Peek gives the oldest packet, or nil if there is none. It is the reader's
// until Next.
func (r *Ring[T]) Peek() (facts *T, data []byte) {
	tail := r.tail.Load()
	if tail == r.head.Load() {
		return nil, nil
	}
	e := &r.entries[tail%uint64(len(r.entries))]
	return &e.facts, e.data
}

// Next gives back what Peek gave.
func (r *Ring[T]) Next() {
	tail := r.tail.Load()
	e := &r.entries[tail%uint64(len(r.entries))]
	var none T
	e.facts = none // keeps nothing alive
	r.dataTail.Store(e.end)
	r.tail.Store(tail + 1)
}

// Pressed reports whether so much waits that the reader had better not. It is
// the writer's.
func (r *Ring[T]) Pressed() bool {
	const share = 4
	return r.head.Load()-r.tail.Load() >= uint64(len(r.entries)/share) || r.dataHead-r.dataTail.Load() >= uint64(len(r.data)/share)
}

// Lost is how many packets found no room.
func (r *Ring[T]) Lost() uint64 { return r.lost.Load() }
