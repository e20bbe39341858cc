package ebpf

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// memory is what the programs go by: [claim.Carrier], or a test's.
type memory interface {
	Root(at uint16) *claim.Root
	Chunk(id uint32) *claim.Chunk
	Hop(id uint32) *claim.Hop
	Way(slot uint32) *claim.Way
	Grow() (first, n uint32, err error)
	SetNeighbour(ifindex int32, addr netip.Addr, hop uint32) error
	SetRoute6(p netip.Prefix, word uint32) error
	Switch(six, on bool) error
	Freshen(until uint64) error
	Changed() error
}

// freshTime is how long the programs ask of each frame whether older ones of its
// flow may be on their way through userspace, once it came to be carried: longer
// than any waits there but for its next hop, and until that is known nothing is
// carried.
const freshTime = 100 * time.Millisecond

// mirror keeps what the programs go by up to date with the tables: what a table
// and the one before have not in common, and no more. All that is not certain
// goes to the ring.
//
// Words are written one by one, each whole, and in an order in which none names
// what is not there. Numbers of chunks and next hops that no word names any more
// are used again after an RCU grace period, for a frame may be on its way by them.
type mirror struct {
	mu     sync.Mutex
	mem    memory
	now    func() uint64 // CLOCK_MONOTONIC, ns
	grace  func() error  // waits for an RCU grace period
	failed error         // why nothing is carried any more

	last *route.Table // whose links are mirrored; nil: none's
	of   [2]routes    // by family

	until     uint64   // what Freshen was told last; 0: nothing is fresh
	freshHops []uint32 // those that count as new
	freshWays []uint32 // the same, by slot
	aging     bool     // age is to be called

	links   map[int32]*link
	claimed map[int32]bool
	hops    hops
	chunks  chunks          // the destinations of IPv4
	words6  map[key6]uint32 // those of IPv6
	changed []change        // scratch
}

// routes is what is mirrored of a family's: a family that can't be does not keep the
// other from it.
type routes struct {
	table  *route.Table // nil: none's
	on     bool         // what Switch was told
	failed error        // why nothing of it is carried any more
}

var families = [...]route.Family{route.IPv4, route.IPv6}

func newMirror(mem memory, now func() uint64, grace func() error) *mirror {
	m := &mirror{mem: mem, now: now, grace: grace, links: map[int32]*link{}, claimed: map[int32]bool{}, words6: map[key6]uint32{}}
	m.hops = hops{byKey: map[hopKey]uint32{}, all: make([]hop, 2)}
	m.chunks.used = map[uint32]int{}
	for id := uint32(1); id < 256; id++ { // 0 is that of the first octet
		m.chunks.free = append(m.chunks.free, id)
	}
	return m
}

// publish brings all up to date with a table.
func (m *mirror) publish(t *route.Table) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return nil
	}
	t.LinkChanges(m.last, func(was, is *route.Link) {
		if is == nil {
			m.setLink(was.Ifindex, was, nil)
		} else {
			m.setLink(is.Ifindex, was, is)
		}
	})
	m.last = t
	var err error
	for _, family := range families {
		switch of := &m.of[family]; {
		case of.failed == nil && t.Plain(family):
			m.setRoutes(family, t)
			err = errors.Join(err, of.failed)
		case of.table != nil:
			of.table = nil
			m.settle()
			m.forget(family)
		}
	}
	m.settle()
	return errors.Join(m.failed, err)
}

// setClaimed says whether the claim of an interface is attached.
func (m *mirror) setClaimed(ifindex int32, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return
	}
	if on {
		m.claimed[ifindex] = true
	} else {
		delete(m.claimed, ifindex)
	}
	if l := m.links[ifindex]; l != nil && l.link != nil {
		m.setWay(l.link)
	}
	m.settle()
}

// fail ends carrying for good: something can't be told to the programs.
func (m *mirror) fail(err error) {
	if m.failed == nil && err != nil {
		m.failed = err
		m.settle()
	}
}

// failOf ends carrying of a family for good.
func (m *mirror) failOf(family route.Family, err error) {
	if of := &m.of[family]; of.failed == nil {
		of.failed = familyError{family, err}
		m.settle()
	}
}

// familyError is why nothing of a family is carried any more.
type familyError struct {
	family route.Family
	error
}

// stop ends it too, and is no fault.
func (m *mirror) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail(errStopped)
}

var errStopped = errors.New("stopped")

// settle tells the programs whether they may carry, and that something has changed.
func (m *mirror) settle() {
	if err := m.mem.Changed(); err != nil && m.failed == nil {
		m.failed = err
	}
	for _, family := range families {
		of := &m.of[family]
		on := of.table != nil && of.failed == nil && m.failed == nil
		if on == of.on {
			continue
		}
		if on {
			m.freshen()
		}
		if err := m.mem.Switch(family == route.IPv6, on); err != nil {
			m.fail(err)
			return
		}
		of.on = on
	}
}

// freshen is called before frames are carried that went to the ring before. A
// change may take longer than freshTime, so it is called for each word of it.
func (m *mirror) freshen() {
	now := m.now()
	if m.until > now+uint64(freshTime) {
		return
	}
	m.until = now + uint64(freshTime+freshTime/2)
	if err := m.mem.Freshen(m.until); err != nil {
		m.fail(err)
	}
	m.ageLater()
}

// ageLater has age called when what is new now is so no more: to ask for the time
// of each frame costs more than all else of the question.
func (m *mirror) ageLater() {
	if !m.aging {
		m.aging = true
		time.AfterFunc(freshTime+freshTime/10, m.age)
	}
}

func (m *mirror) age() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.aging = false
	if m.failed != nil {
		return
	}
	now := m.now()
	if m.until != 0 && m.until <= now { // a change, but one that lets more be remembered
		m.until = 0
		if err := m.mem.Freshen(0); err != nil {
			m.fail(err)
			return
		}
	}
	old := func(fresh *uint64) bool {
		if *fresh > now {
			return false
		}
		atomic.StoreUint64(fresh, 0)
		return true
	}
	m.freshHops = slices.DeleteFunc(m.freshHops, func(id uint32) bool { return old(&m.mem.Hop(id).Fresh) })
	m.freshWays = slices.DeleteFunc(m.freshWays, func(slot uint32) bool { return old(&m.mem.Way(slot).Fresh) })
	if m.until != 0 || len(m.freshHops)+len(m.freshWays) > 0 {
		m.ageLater()
	}
}
