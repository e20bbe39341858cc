package ebpf

import (
	"errors"
	"net/netip"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// heap is a memory of no program's.
type heap struct {
	root       [1 << 16]claim.Root
	segments   [][]claim.Chunk
	hops       [claim.MaxHops]claim.Hop
	ways       [64]claim.Way
	neighbours map[hopKey]uint32
	routes6    map[netip.Prefix]uint32
	on         [2]bool // by family
	until      uint64
	full       bool // Grow fails
	full6      bool // SetRoute6 fails for what is new
}

func newHeap() *heap {
	return &heap{segments: [][]claim.Chunk{make([]claim.Chunk, 256)}, neighbours: map[hopKey]uint32{}, routes6: map[netip.Prefix]uint32{}}
}

func (h *heap) Root(at uint16) *claim.Root   { return &h.root[at] }
func (h *heap) Chunk(id uint32) *claim.Chunk { return &h.segments[id>>24][id&0xffffff] }
func (h *heap) Hop(id uint32) *claim.Hop     { return &h.hops[id] }
func (h *heap) Way(slot uint32) *claim.Way   { return &h.ways[slot] }

func (h *heap) Grow() (first, n uint32, err error) {
	if h.full {
		return 0, 0, errors.New("full")
	}
	n = 64 << (len(h.segments) - 1)
	h.segments = append(h.segments, make([]claim.Chunk, n))
	return uint32(len(h.segments)-1) << 24, n, nil
}

func (h *heap) SetNeighbour(ifindex int32, addr netip.Addr, hop uint32) error {
	key := hopKey{ifindex: ifindex, next: addr}
	if hop == 0 {
		delete(h.neighbours, key)
	} else {
		h.neighbours[key] = hop
	}
	return nil
}

func (h *heap) SetRoute6(p netip.Prefix, word uint32) error {
	switch _, known := h.routes6[p]; {
	case word == claim.AsAbove:
		delete(h.routes6, p)
	case h.full6 && !known:
		return errors.New("full")
	default:
		h.routes6[p] = word
	}
	return nil
}

func (h *heap) Switch(six, on bool) error {
	if six {
		h.on[route.IPv6] = on
	} else {
		h.on[route.IPv4] = on
	}
	return nil
}

func (h *heap) Changed() error             { return nil }
func (h *heap) Freshen(until uint64) error { h.until = until; return nil }

// lookup is hop_to of claim/bpf/carry.h, and hop_to6 of carry6.h.
func (h *heap) lookup(addr netip.Addr) uint32 {
	for bits := addr.BitLen(); addr.Is6() && bits >= 0; bits-- {
		p, _ := addr.Prefix(bits)
		if word, ok := h.routes6[p]; ok || bits == 0 {
			return word
		}
	}
	a := number(addr)
	r := h.root[a>>16]
	best := r.Hop
	if r.Chunk != 0 {
		word := h.Chunk(r.Chunk).Word[a>>8&255]
		if word&claim.ToChunk != 0 {
			c := h.Chunk(word &^ claim.ToChunk)
			if word = c.Word[a&255]; word == 0 {
				word = c.Above
			}
		}
		if word != 0 {
			best = word
		}
	}
	if best != 0 {
		return best
	}
	return h.Chunk(0).Word[a>>24]
}
