package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"proxyarpd/internal/wire"
)

// What a word of the destinations' table says, but for the number of a next hop,
// which is greater: bpf/carry.h.
const (
	AsAbove uint32    = iota // no prefix of this length has it
	ToRing                   // it is userspace's to decide
	ToChunk = 1 << 31        // the rest is a chunk
)

// Flags beside a MAC, in a Way and in a Hop.
const (
	OutOK       = 1 << iota // frames can be sent there
	OutWorkload             // it leads to a workload
	OutPeer                 // frames may go to its peer at once
	OutOrdinary             // or the ordinary way
	OutOK6                  // OutOK of IPv6

	HopValid  = 1 // the MAC may be used
	HopStale  = 2 // Carrier.Used is to tell of its use
	HopSubnet = 4 // each destination is its own next hop
	HopFixed  = 8 // the MAC is not the kernel's to find out

	// HopSeveral stands for several ways: Ifindex, Way and MTU are the interfaces
	// of up to three, by which their destinations may come in.
	HopSeveral = 16
)

// Flags of a Way by which frames come in.
const (
	InOK        = 1 << iota // the tables know it, and the claim is attached
	InStrict                // rp_filter 1
	InLoose                 // rp_filter 2
	InAddresses             // it has addresses
	InStrict6               // InStrict and InLoose of IPv6
	InLoose6
)

// MaxHops is how many next hops there may be; the first two numbers are not one.
const MaxHops = 65536

const maxSegments = 11 // MAX_SEGMENTS of bpf/carry.h

// Carrier is the memory by which the programs forward on their own, mapped: one
// goroutine at a time writes it, and the programs see each word at once. Words
// are in host byte order, lengths in bytes.
type Carrier struct {
	set      *Set
	root     []Root
	segments [][]Chunk
	hops     []Hop
	ways     []Way
	mem      [][]byte
	maps     []*ebpf.Map // of segments
	gone     Carried     // of interfaces that have left
	used     *ringbuf.Reader
	spilled6 bool                     // parp_routes6 has had single addresses
	wants    func(ifindex int32) bool // Shown.Want's; the set's mu guards it

	changes    sync.Mutex // guards what follows
	generation uint32
	again      bool // Changed is to be called once more
	closed     bool
}

// Changed ends what the programs remember of decisions: it is called behind each
// change to what they go by. For any goroutine.
func (c *Carrier) Changed() error {
	c.changes.Lock()
	defer c.changes.Unlock()
	if loadsReordered && !c.again && !c.closed {
		c.again = true
		time.AfterFunc(settled, func() { _ = c.changedAgain() }) // it could a moment ago
	}
	c.generation++
	return c.set.vars.CarryGeneration.Set(c.generation)
}

// On a CPU that loads words out of their order a program may read the new
// generation before the old words of a change, and remember these under it. So the
// generation is counted up again when no frame is left that came before the change.
var loadsReordered = runtime.GOARCH != "amd64"

const settled = 10 * time.Millisecond

func (c *Carrier) changedAgain() error {
	c.changes.Lock()
	defer c.changes.Unlock()
	if c.again = false; c.closed {
		return nil
	}
	c.generation++
	return c.set.vars.CarryGeneration.Set(c.generation)
}

// Root is what the first two octets of an address say: struct root.
type Root struct{ Hop, Chunk uint32 }

// Chunk is what one octet more says: struct chunk.
type Chunk struct {
	Word  [256]uint32
	Above uint32
	_     uint32
}

// Hop is a next hop: struct hop.
type Hop struct {
	MAC     uint64 // Hop* flags
	Fresh   uint64 // CLOCK_MONOTONIC, ns: until then it is asked whether older frames are on their way
	Ifindex uint32
	Way     uint32 // slot of the interface
	MTU     uint32 // of the route; 0: the interface's
	Used    uint32
}

// Way is an interface, by its slot: struct way.
type Way struct {
	MAC     uint64 // Out* flags
	Ifindex uint32
	MTU     uint32
	In      uint32 // In* flags
	Shown   uint32 // not 0: somebody captures there; see Shown.Want
	Fresh   uint64 // as of a Hop, for all that comes in or leaves there
	MTU6    uint32 // of IPv6
	_       uint32
}

// MACWord packs a MAC and flags.
func MACWord(mac wire.MAC, flags uint16) uint64 {
	var b [8]byte
	copy(b[:6], mac[:])
	binary.NativeEndian.PutUint16(b[6:], flags)
	return binary.NativeEndian.Uint64(b[:])
}

// Carrier is nil unless Config.Carry was set.
func (s *Set) Carrier() *Carrier { return s.carrier }

// Root gives the entry of the first two octets of an address.
func (c *Carrier) Root(at uint16) *Root { return &c.root[at] }

// Chunk gives a chunk. 0 is that of the first octet.
func (c *Carrier) Chunk(id uint32) *Chunk { return &c.segments[id>>24][id&0xffffff] }

// Hop gives a next hop.
func (c *Carrier) Hop(id uint32) *Hop { return &c.hops[id] }

// Way gives an interface.
func (c *Carrier) Way(slot uint32) *Way { return &c.ways[slot] }

// Grow makes more chunks and gives their numbers: n from first on. It waits for
// an RCU grace period.
func (c *Carrier) Grow() (first, n uint32, err error) {
	segment := uint32(len(c.segments))
	if segment == maxSegments {
		return 0, 0, errors.New("no more room for destinations")
	}
	n = firstSegment << segment
	m, err := ebpf.NewMap(chunkSpec(n))
	if err != nil {
		return 0, 0, fmt.Errorf("room for destinations: %w", err)
	}
	chunks, mem, err := mapChunks(m.FD(), n)
	if err == nil {
		err = c.set.objs.ParpChunks.Put(segment, m)
	}
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("room for destinations: %w", err), unmap(mem), m.Close())
	}
	c.maps, c.mem, c.segments = append(c.maps, m), append(c.mem, mem), append(c.segments, chunks)
	return segment << 24, n, nil
}

// SetNeighbour says what next hop an address on a subnet is; 0 that it is none.
func (c *Carrier) SetNeighbour(ifindex int32, addr netip.Addr, hop uint32) error {
	if addr.Is4() {
		return put(c.set.objs.ParpNeighs, &bpfNeighkey{Ifindex: uint32(ifindex), Addr: nativeAddr(addr)}, hop)
	}
	return put(c.set.objs.ParpNeighs6, &bpfNeighkey6{Ifindex: uint32(ifindex), Addr: nativeAddr6(addr)}, hop)
}

// put makes the entry of a key a word; 0 is none.
func put(m *ebpf.Map, key any, word uint32) error {
	if word != 0 {
		return m.Put(key, word)
	}
	if err := m.Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// Switch says whether frames of IPv4, or of IPv6, may be carried.
func (c *Carrier) Switch(six, on bool) error {
	if six {
		return setFlag(c.set.vars.CarryOn6, on)
	}
	return setFlag(c.set.vars.CarryOn, on)
}

// Waiting says whether packets wait in userspace. It is the datapath's.
func (c *Carrier) Waiting(are bool) error {
	return setFlag(c.set.vars.CarryWaiting, are)
}

// Freshen has the programs ask of each frame, until then (CLOCK_MONOTONIC, ns),
// whether older ones are on their way through userspace.
func (c *Carrier) Freshen(until uint64) error { return c.set.vars.CarryFresh.Set(until) }

// KeepPriority says that packets leave with the priority with which they came, not
// that of their TOS (ip_forward_update_priority is 0).
func (c *Carrier) KeepPriority(keep bool) error {
	return setFlag(c.set.vars.CarryKeepsPriority, keep)
}

// setFlag sets a variable of the programs' that is 0 or 1.
func setFlag(v *ebpf.Variable, on bool) error {
	if on {
		return v.Set(uint32(1))
	}
	return v.Set(uint32(0))
}

// Mark has the programs mark what they send from now on; 0 is none.
func (c *Carrier) Mark(mark uint32) error { return c.set.vars.CarryMark.Set(mark) }

// Used waits for a stale next hop to be used, and gives its number. The program
// tells it once, until Hop.Used is cleared. 0 asks for Answer. The error is
// os.ErrClosed after Stop.
func (c *Carrier) Used() (hop uint32, err error) {
	var r ringbuf.Record
	for {
		if err := c.used.ReadInto(&r); err != nil {
			return 0, err
		}
		if len(r.RawSample) >= 4 {
			return binary.NativeEndian.Uint32(r.RawSample), nil
		}
	}
}

// Pulse is how often a second the programs ask, while they carry, whether somebody
// keeps what they carry by: PULSE of bpf/carry.h. Where the kernel forwards, too,
// they leave all to it if there is no answer for so long.
const Pulse = 2

// Answer says that there is somebody.
func (c *Carrier) Answer() error {
	asked, since, err := c.unanswered()
	if err != nil {
		return err
	}
	if since != 0 {
		c.set.Window(0).silent(since)
	}
	return c.set.vars.PulseAnswered.Set(asked)
}

// unanswered gives the number of the programs' last question, and since when they
// have left to the kernel what it can forward, CLOCK_MONOTONIC in ns; 0: they do not.
func (c *Carrier) unanswered() (asked uint32, since int64, err error) {
	var answered uint32
	var at uint64
	err = errors.Join(c.set.vars.PulseAsked.Get(&asked), c.set.vars.PulseAnswered.Get(&answered), c.set.vars.PulseNs.Get(&at))
	if since = int64(at) + int64(time.Second/Pulse); asked == answered || since >= monotonic() {
		since = 0
	}
	return asked, since, err
}

// Stop ends Used.
func (c *Carrier) Stop() error { return c.used.Close() }

// leave is for a slot whose interface has gone: its counters start anew.
func (c *Carrier) leave(slot uint32) error {
	atomic.StoreUint64(&c.ways[slot].MAC, 0)
	atomic.StoreUint32(&c.ways[slot].In, 0)
	atomic.StoreUint32(&c.ways[slot].Shown, 0)
	err := c.Changed()
	c.gone.add(c.read(slot))
	return errors.Join(err, c.set.objs.ParpCarried.Put(slot, make([]bpfCarried, ebpf.MustPossibleCPU())))
}

func (c *Carrier) close() error {
	if c == nil {
		return nil
	}
	c.changes.Lock()
	c.closed = true
	c.changes.Unlock()
	var errs []error
	if c.used != nil {
		errs = append(errs, c.used.Close())
	}
	for _, m := range c.mem {
		errs = append(errs, unmap(m))
	}
	for _, m := range c.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// firstSegment is FIRST_SEGMENT of bpf/carry.h.
const firstSegment = 256

// uncarried takes the maps of carrying out of spec where nothing is carried. If they
// may be wanted later placeholders stand for them: kernels that lack some of them have
// all the rest.
func uncarried(spec *ebpf.CollectionSpec, later bool) {
	for _, name := range []string{bpfMapParpRoot, bpfMapParpChunks, bpfMapParpHops, bpfMapParpWays, bpfMapParpNeighs, bpfMapParpCarried, bpfMapParpUsed, bpfMapParpMemo, bpfMapParpShown,
		bpfMapParpDirect6, bpfMapParpRoutes6, bpfMapParpNeighs6, bpfMapParpMemo6} {
		if later {
			spec.Maps[name] = &ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}
		} else {
			delete(spec.Maps, name)
		}
	}
}
