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
	"proxyarpd/internal/wire"
)

// memory is what the programs go by: [claim.Carrier], or a test's.
type memory interface {
	Root(at uint16) *claim.Root
	Chunk(id uint32) *claim.Chunk
	Hop(id uint32) *claim.Hop
	Way(slot uint32) *claim.Way
	Grow() (first, n uint32, err error)
	SetNeighbour(ifindex int32, addr netip.Addr, hop uint32) error
	Switch(on bool) error
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

	last  *route.Table // whose links are mirrored; nil: none's
	table *route.Table // whose routes are mirrored; nil: none's
	on    bool         // what Switch was told
	fresh bool         // Freshen was called for this change

	until     uint64   // what Freshen was told last; 0: nothing is fresh
	freshHops []uint32 // those that count as new
	aging     bool     // age is to be called

	links   map[int32]*link
	claimed map[int32]bool
	hops    hops
	chunks  chunks
	changed []change // scratch
}

type change struct {
	prefix netip.Prefix
	gone   bool
}

// link is what is kept of an interface.
type link struct {
	link       *route.Link // nil: the table has none
	hops       map[uint32]bool
	subnets    int // of hops those that stand for a subnet
	neighbours map[netip.Addr]uint32
}

func newMirror(mem memory, now func() uint64, grace func() error) *mirror {
	m := &mirror{mem: mem, now: now, grace: grace, links: map[int32]*link{}, claimed: map[int32]bool{}}
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
	m.fresh = false
	t.LinkChanges(m.last, func(was, is *route.Link) {
		if is == nil {
			m.setLink(was.Ifindex, was, nil)
		} else {
			m.setLink(is.Ifindex, was, is)
		}
	})
	m.last = t
	switch {
	case t.Plain():
		m.setRoutes(t)
	case m.table != nil:
		m.table = nil
		m.settle()
		m.forget()
	}
	m.settle()
	return m.failed
}

// setClaimed says whether the claim of an interface is attached.
func (m *mirror) setClaimed(ifindex int32, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return
	}
	m.fresh = false
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
	on := m.table != nil && m.failed == nil
	if on == m.on {
		return
	}
	if on {
		m.fresh = false
		m.freshen()
	}
	if err := m.mem.Switch(on); err != nil {
		m.fail(err)
		return
	}
	m.on = on
}

// freshen is called before frames are carried that went to the ring before.
func (m *mirror) freshen() {
	if m.fresh {
		return
	}
	m.fresh = true
	m.until = m.now() + uint64(freshTime)
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
	m.freshHops = slices.DeleteFunc(m.freshHops, func(id uint32) bool {
		h := m.mem.Hop(id)
		if h.Fresh > now {
			return false
		}
		atomic.StoreUint64(&h.Fresh, 0)
		return true
	})
	if m.until != 0 || len(m.freshHops) > 0 {
		m.ageLater()
	}
}

// linkAt gives what is kept of an interface, made if there is nothing.
func (m *mirror) linkAt(ifindex int32) *link {
	l := m.links[ifindex]
	if l == nil {
		l = &link{hops: map[uint32]bool{}, neighbours: map[netip.Addr]uint32{}}
		m.links[ifindex] = l
	}
	return l
}

// setLink makes an interface what it is now; nil is none.
func (m *mirror) setLink(ifindex int32, was, is *route.Link) {
	l := m.linkAt(ifindex)
	l.link = is
	if was != nil && was.Slot != 0 && (is == nil || is.Slot != was.Slot) {
		m.clearWay(was)
	}
	if is != nil {
		m.setWay(is)
	}
	for id := range l.hops {
		m.setHop(id, l)
	}
	m.setNeighbours(ifindex, l)
	if is == nil && len(l.hops) == 0 {
		delete(m.links, ifindex)
	}
}

// clearWay is for an interface that has gone, unless another has its slot.
func (m *mirror) clearWay(was *route.Link) {
	w := m.mem.Way(was.Slot)
	if w.Ifindex == uint32(was.Ifindex) {
		atomic.StoreUint64(&w.MAC, 0)
		atomic.StoreUint32(&w.In, 0)
	}
}

// setWay describes an interface to the programs.
func (m *mirror) setWay(l *route.Link) {
	if l.Slot == 0 {
		return // it has no port
	}
	w := m.mem.Way(l.Slot)
	if w.Ifindex != uint32(l.Ifindex) {
		atomic.StoreUint64(&w.MAC, 0)
		atomic.StoreUint32(&w.In, 0)
		atomic.StoreUint32(&w.Ifindex, uint32(l.Ifindex))
	}
	out, in := wayFlags(l, m.claimed[l.Ifindex])
	mac := claim.MACWord(l.MAC, out)
	if out != 0 && w.MAC != mac || in != 0 && w.In != in {
		m.freshen()
	}
	atomic.StoreUint32(&w.MTU, uint32(l.MTU))
	atomic.StoreUint32(&w.In, in)
	atomic.StoreUint64(&w.MAC, mac)
}

func wayFlags(l *route.Link, claimed bool) (out uint16, in uint32) {
	peer := l.Flags&(route.LinkPeer|route.LinkBypass) == route.LinkPeer|route.LinkBypass
	if l.Ethernet() && l.Serves() && l.Up() {
		out = claim.OutOK
		if l.Workload() {
			out |= claim.OutWorkload
		}
		if peer {
			out |= claim.OutPeer
		}
		if l.Flags&route.LinkUnsettled == 0 {
			out |= claim.OutOrdinary
		}
	}
	if l.Ethernet() && claimed {
		in = claim.InOK
		switch l.Conf.RPFilter {
		case 1:
			in |= claim.InStrict
		case 2:
			in |= claim.InLoose
		}
		if l.HasAddresses() {
			in |= claim.InAddresses
		}
	}
	return out, in
}

// setNeighbours tells of the neighbours of an interface that has subnets.
func (m *mirror) setNeighbours(ifindex int32, l *link) {
	usable := func(n *route.Neighbour) bool { return n != nil && n.Valid }
	for addr, id := range l.neighbours {
		if l.subnets == 0 || l.link == nil || !usable(l.link.Neighbour(addr)) {
			if err := m.mem.SetNeighbour(ifindex, addr, 0); err != nil {
				m.fail(err)
			}
			delete(l.neighbours, addr)
			m.drop(id)
		}
	}
	if l.link == nil || l.subnets == 0 {
		return
	}
	l.link.EachNeighbour(func(addr netip.Addr, n *route.Neighbour) {
		if _, known := l.neighbours[addr]; known || !usable(n) || !addr.Is4() {
			return
		}
		id := m.hold(hopKey{ifindex: ifindex, next: addr})
		if id == claim.ToRing {
			return
		}
		if m.mem.SetNeighbour(ifindex, addr, id) != nil { // the map is full: the ring's
			m.drop(id)
			return
		}
		l.neighbours[addr] = id
	})
}

// hopKey is a way on.
type hopKey struct {
	ifindex int32
	next    netip.Addr // invalid: a subnet, whose addresses are next hops themselves
	mtu     int        // of the route, 0: the interface's
	// several: it is several ways, by ifindex and these interfaces.
	several bool
	others  [2]int32
}

// subnet reports whether each destination is a next hop itself.
func (k *hopKey) subnet() bool { return !k.next.IsValid() && !k.several }

type hop struct {
	key  hopKey
	refs int // words that name it
}

// hops are all next hops, by number.
type hops struct {
	byKey map[hopKey]uint32
	all   []hop
	free  []uint32
	limbo []uint32 // free after a grace period
}

// hold gives the number of a next hop, for one word more that names it; ToRing
// if there is no room for it.
func (m *mirror) hold(key hopKey) uint32 {
	if id, ok := m.hops.byKey[key]; ok {
		m.hops.all[id].refs++
		return id
	}
	if len(m.hops.free) == 0 && len(m.hops.limbo) >= claim.MaxHops/4 {
		if err := m.grace(); err != nil {
			m.fail(err)
			return claim.ToRing
		}
		m.hops.free, m.hops.limbo = m.hops.limbo, nil
	}
	var id uint32
	switch n := len(m.hops.free); {
	case n > 0:
		id, m.hops.free = m.hops.free[n-1], m.hops.free[:n-1]
	case len(m.hops.all) < claim.MaxHops:
		id = uint32(len(m.hops.all))
		m.hops.all = append(m.hops.all, hop{})
	default:
		return claim.ToRing
	}
	m.hops.byKey[key], m.hops.all[id] = id, hop{key, 1}
	l := m.linkAt(key.ifindex)
	l.hops[id] = true
	h := m.mem.Hop(id)
	*h = claim.Hop{Ifindex: uint32(key.ifindex), MTU: uint32(key.mtu)}
	if key.several {
		h.Way, h.MTU, h.MAC = uint32(key.others[0]), uint32(key.others[1]), claim.MACWord(wire.MAC{}, claim.HopSeveral)
	} else {
		m.setHop(id, l)
	}
	if key.subnet() {
		if l.subnets++; l.subnets == 1 {
			m.setNeighbours(key.ifindex, l)
		}
	}
	return id
}

// drop takes back one word's hold.
func (m *mirror) drop(word uint32) {
	if word <= claim.ToRing {
		return
	}
	h := &m.hops.all[word]
	if h.refs--; h.refs > 0 {
		return
	}
	key := h.key
	*h = hop{}
	delete(m.hops.byKey, key)
	m.hops.limbo = append(m.hops.limbo, word)
	l := m.links[key.ifindex]
	delete(l.hops, word)
	if key.subnet() {
		if l.subnets--; l.subnets == 0 {
			m.setNeighbours(key.ifindex, l)
		}
	}
	if l.link == nil && len(l.hops) == 0 {
		delete(m.links, key.ifindex)
	}
}

// setHop says what is known of a next hop, on the interface l.
func (m *mirror) setHop(id uint32, l *link) {
	h, key := m.mem.Hop(id), m.hops.all[id].key
	if key.several {
		return
	}
	slot, word := uint32(0), uint64(0)
	if l.link != nil {
		slot = l.link.Slot
		if !key.next.IsValid() {
			word = claim.MACWord(wire.MAC{}, claim.HopSubnet)
		} else if n := l.link.Neighbour(key.next); n != nil && n.Valid {
			flags := uint16(claim.HopValid)
			if n.Stale {
				flags |= claim.HopStale
			}
			if n.Fixed {
				flags |= claim.HopFixed
			}
			word = claim.MACWord(n.MAC, flags)
		}
	}
	if h.MAC == 0 && word != 0 {
		atomic.StoreUint64(&h.Fresh, m.now()+uint64(freshTime))
		m.freshHops = append(m.freshHops, id)
		m.ageLater()
	}
	atomic.StoreUint32(&h.Way, slot)
	atomic.StoreUint64(&h.MAC, word)
}

// used says what a next hop is that a program has told of.
func (m *mirror) used(id uint32) (ifindex int32, next netip.Addr, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if int(id) >= len(m.hops.all) || m.hops.all[id].refs == 0 {
		return 0, next, false
	}
	key := m.hops.all[id].key
	return key.ifindex, key.next, key.next.IsValid()
}

// again has a program tell of a next hop's use once more.
func (m *mirror) again(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil { // else the memory may be gone
		atomic.StoreUint32(&m.mem.Hop(id).Used, 0)
	}
}

// setRoutes brings the destinations up to date. Each goes from what it was to
// what it is, and to nothing in between: longer prefixes come before shorter
// ones, and go after them.
func (m *mirror) setRoutes(t *route.Table) {
	begin := m.table == nil
	was := m.table
	m.changed = m.changed[:0]
	if begin {
		t.RouteChanges(nil, func(p netip.Prefix, _ bool) { m.refresh(t, p) }) // nothing is carried yet
		m.table = t
		return
	}
	m.table = t
	t.RouteChanges(was, func(p netip.Prefix, gone bool) { m.changed = append(m.changed, change{p, gone}) })
	if len(m.changed) > 1 {
		slices.SortStableFunc(m.changed, func(a, b change) int {
			switch {
			case a.gone != b.gone && b.gone:
				return -1
			case a.gone != b.gone:
				return 1
			case a.gone:
				return a.prefix.Bits() - b.prefix.Bits()
			}
			return b.prefix.Bits() - a.prefix.Bits()
		})
	}
	for _, c := range m.changed {
		m.refresh(t, c.prefix)
	}
	if cap(m.changed) > 4096 {
		m.changed = nil
	}
}

// refresh looks anew at the destinations of a prefix that no longer one has.
func (m *mirror) refresh(t *route.Table, p netip.Prefix) {
	level := max(p.Bits()-1, 0) / 8
	first := number(p.Addr())
	for i := range uint32(1) << (8*(level+1) - p.Bits()) {
		a := first | i<<(24-8*level)
		word := m.word(t, address(a), level)
		switch level {
		case 0:
			m.store(&m.mem.Chunk(0).Word[a>>24], word)
		case 1:
			m.store(&m.mem.Root(uint16(a>>16)).Hop, word)
		case 2:
			m.setThird(a, word)
		case 3:
			m.setFourth(a, word)
		}
		if m.failed != nil {
			return
		}
	}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func address(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// word is what prefixes of a level say of an address, with a hold on what it names.
func (m *mirror) word(t *route.Table, a netip.Addr, level int) uint32 {
	r, own := t.OneRoute(a, level)
	switch {
	case !own:
		return claim.AsAbove
	case r == nil || r.Type != route.TypeUnicast:
		return claim.ToRing
	case len(r.Nexthops) != 1:
		return m.several(r)
	case r.Nexthops[0].Encap:
		return claim.ToRing
	}
	nh := &r.Nexthops[0]
	key := hopKey{ifindex: nh.Ifindex, next: nh.Gateway, mtu: r.MTU}
	if !key.next.IsValid() && r.Bits == 32 {
		key.next = a
	}
	return m.hold(key)
}

// several is the word for a route with several next hops.
func (m *mirror) several(r *route.Route) uint32 {
	var all []int32
	for i := range r.Nexthops {
		if by := r.Nexthops[i].Ifindex; !slices.Contains(all, by) {
			all = append(all, by)
		}
	}
	if len(all) == 0 || len(all) > 3 {
		return claim.ToRing
	}
	slices.Sort(all)
	key := hopKey{ifindex: all[0], several: true}
	copy(key.others[:], all[1:])
	return m.hold(key)
}

// store writes a word.
func (m *mirror) store(at *uint32, word uint32) {
	old := *at
	if old <= claim.ToRing && word > claim.ToRing && m.on {
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
			m.fail(err)
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
			m.drop(word)
			return
		}
		if m.on && word > claim.ToRing {
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

// forget lets go of all destinations. Nothing is carried meanwhile.
func (m *mirror) forget() {
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
