package ebpf

import (
	"sync/atomic"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// store writes a word.
func (m *mirror) store(at *uint32, word uint32) {
	old := *at
	if m.of[route.IPv4].on && begins(old, word) {
		m.freshen()
	}
	if old != word {
		atomic.StoreUint32(at, word)
	}
	m.drop(old)
}

// chunks are those in use and those that are free.
type chunks struct {
	used  map[uint32]int // words that are not AsAbove
	free  []uint32
	limbo []uint32 // free after a grace period
	total int
}

// take gives an empty chunk.
func (m *mirror) take() (id uint32, c *claim.Chunk, ok bool) {
	if len(m.chunks.free) == 0 && len(m.chunks.limbo) >= max(256, m.chunks.total/4) {
		if err := m.grace(); err != nil {
			m.fail(err)
			return 0, nil, false
		}
		m.chunks.free, m.chunks.limbo = m.chunks.limbo, nil
	}
	if len(m.chunks.free) == 0 {
		first, n, err := m.mem.Grow()
		if err != nil {
			m.failOf(route.IPv4, err)
			return 0, nil, false
		}
		for i := range n {
			m.chunks.free = append(m.chunks.free, first+n-1-i)
		}
		m.chunks.total += int(n)
	}
	last := len(m.chunks.free) - 1
	id, m.chunks.free = m.chunks.free[last], m.chunks.free[:last]
	c = m.mem.Chunk(id)
	*c = claim.Chunk{}
	m.chunks.used[id] = 0
	return id, c, true
}

func (m *mirror) give(id uint32) {
	delete(m.chunks.used, id)
	m.chunks.limbo = append(m.chunks.limbo, id)
}

// setThird writes the word of the third octet.
func (m *mirror) setThird(a, word uint32) {
	r := m.mem.Root(uint16(a >> 16))
	id, fresh := r.Chunk, false
	if id == 0 {
		if word == claim.AsAbove {
			return
		}
		var ok bool
		if id, _, ok = m.take(); !ok {
			m.drop(word)
			return
		}
		fresh = true
	}
	at := &m.mem.Chunk(id).Word[a>>8&255]
	if *at&claim.ToChunk != 0 {
		m.store(&m.mem.Chunk(*at&^claim.ToChunk).Above, word)
		return
	}
	m.count(id, *at, word)
	m.store(at, word)
	if fresh {
		atomic.StoreUint32(&r.Chunk, id)
	}
	m.prune(r)
}

// count keeps account of the words of a chunk.
func (m *mirror) count(id, old, word uint32) {
	switch {
	case old == claim.AsAbove && word != claim.AsAbove:
		m.chunks.used[id]++
	case old != claim.AsAbove && word == claim.AsAbove:
		m.chunks.used[id]--
	}
}

// prune lets go of a chunk that says nothing.
func (m *mirror) prune(r *claim.Root) {
	if id := r.Chunk; id != 0 && m.chunks.used[id] == 0 {
		atomic.StoreUint32(&r.Chunk, 0)
		m.give(id)
	}
}

// setFourth writes the word of the fourth octet.
func (m *mirror) setFourth(a, word uint32) {
	r := m.mem.Root(uint16(a >> 16))
	if word == claim.AsAbove && (r.Chunk == 0 || m.mem.Chunk(r.Chunk).Word[a>>8&255]&claim.ToChunk == 0) {
		return
	}
	id, fresh := r.Chunk, false
	if id == 0 {
		var ok bool
		if id, _, ok = m.take(); !ok {
			m.drop(word)
			return
		}
		fresh = true
	}
	at := &m.mem.Chunk(id).Word[a>>8&255]
	if *at&claim.ToChunk == 0 {
		child, c, ok := m.take()
		if !ok {
			if fresh {
				m.give(id)
			}
			m.drop(word)
			return
		}
		if m.of[route.IPv4].on && word > claim.ToRing {
			m.freshen()
		}
		c.Above, c.Word[a&255] = *at, word
		m.chunks.used[child] = 1
		m.count(id, *at, claim.ToChunk)
		atomic.StoreUint32(at, claim.ToChunk|child)
		if fresh {
			atomic.StoreUint32(&r.Chunk, id)
		}
		return
	}
	child := *at &^ claim.ToChunk
	c := m.mem.Chunk(child)
	m.count(child, c.Word[a&255], word)
	m.store(&c.Word[a&255], word)
	if m.chunks.used[child] == 0 {
		m.count(id, claim.ToChunk, c.Above)
		atomic.StoreUint32(at, c.Above)
		m.give(child)
		m.prune(r)
	}
}

// forget lets go of all destinations of a family. Nothing of it is carried meanwhile.
func (m *mirror) forget(family route.Family) {
	if family == route.IPv6 {
		m.forget6()
		return
	}
	top := m.mem.Chunk(0)
	for i := range top.Word {
		m.store(&top.Word[i], claim.AsAbove)
	}
	for at := range 1 << 16 {
		r := m.mem.Root(uint16(at))
		m.store(&r.Hop, claim.AsAbove)
		if id := r.Chunk; id != 0 {
			atomic.StoreUint32(&r.Chunk, 0)
			m.forgetChunk(id)
		}
	}
}

func (m *mirror) forgetChunk(id uint32) {
	c := m.mem.Chunk(id)
	for i := range c.Word {
		if word := c.Word[i]; word&claim.ToChunk != 0 {
			m.forgetChunk(word &^ claim.ToChunk)
		} else {
			m.drop(word)
		}
	}
	m.drop(c.Above)
	m.give(id)
}
