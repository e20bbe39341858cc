package claim

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// mapArray maps an array map of n values, each a multiple of 8 bytes.
func mapArray[T any](fd int, n uint32) ([]T, []byte, error) {
	page := unix.Getpagesize()
	size := (int(n)*int(unsafe.Sizeof(*new(T))) + page - 1) / page * page
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map an eBPF array: %w", err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n), b, nil
}

func mapChunks(fd int, n uint32) ([]Chunk, []byte, error) { return mapArray[Chunk](fd, n) }

func unmap(b []byte) error {
	if b == nil {
		return nil
	}
	return unix.Munmap(b)
}

// chunkSpec is a map of n chunks: struct chunks.
func chunkSpec(n uint32) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "parp_segment", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(Chunk{})), MaxEntries: n,
		Flags: unix.BPF_F_MMAPABLE | unix.BPF_F_INNER_MAP}
}

// newCarrier maps what the programs of a set carry by, which is empty.
func newCarrier(s *Set) (_ *Carrier, err error) {
	c := &Carrier{set: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	var mem []byte
	if c.root, mem, err = mapArray[Root](s.objs.ParpRoot.FD(), 1<<16); err != nil {
		return nil, err
	}
	c.mem = append(c.mem, mem)
	if c.hops, mem, err = mapArray[Hop](s.objs.ParpHops.FD(), MaxHops); err != nil {
		return nil, err
	}
	c.mem = append(c.mem, mem)
	if c.ways, mem, err = mapArray[Way](s.objs.ParpWays.FD(), MaxPorts); err != nil {
		return nil, err
	}
	c.mem = append(c.mem, mem)
	if c.used, err = ringbuf.NewReader(s.objs.ParpUsed); err != nil {
		return nil, fmt.Errorf("used next hops: %w", err)
	}
	if _, _, err = c.Grow(); err != nil {
		return nil, err
	}
	return c, nil
}
