package forward

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"time"

	"proxyarpd/forward/route"
)

// Once runs one batch: what Run does in a circle.
func (l *Loop) Once() error {
	if err := l.conn.Recv(&l.batch, 0); err != nil {
		return err
	}
	l.once()
	return nil
}

// Age makes everything that waits older.
func (l *Loop) Age(d time.Duration) { l.turn.start = l.turn.start.Add(-d) }

// What the external tests need of the fixture.
const (
	IfPod1   = ifPod1
	IfPod2   = ifPod2
	IfUplink = ifUplink
)

var (
	TestBuilder = testBuilder
	Packet      = packet
	TTL         = ttl
	TCPGSO      = tcpGSO
)

// The same of IPv6.
const IfTun, IfSmall = ifTun, ifSmall

var (
	Builder6    = builder6
	Packet6     = packet6
	Hops        = hops
	WithOptions = withOptions
	Framed6     = framed6
	GSO6        = gso6
	Own6        = own6
	Own6LL      = own6LL
	MACRouter   = macRouter
	MACUplink   = macUplink
)

// TestBatch is a batch that can be processed again and again.
type TestBatch struct {
	batch    Batch
	fresh    [][]byte
	ifindex  int32
	pristine [][]byte
}

// NewTestBatch makes one of up to BatchSize frames.
func NewTestBatch(frames [][]byte, ifindex int32) *TestBatch {
	t := &TestBatch{fresh: frames, ifindex: ifindex}
	for _, f := range frames {
		t.pristine = append(t.pristine, append([]byte(nil), f...))
	}
	return t
}

// Reset makes the frames as they were.
func (t *TestBatch) Reset() {
	t.batch.N = len(t.fresh)
	for i, b := range t.fresh {
		copy(b, t.pristine[i])
		t.batch.Frames[i] = Frame{Buf: b, Ifindex: t.ifindex, Ethernet: true}
	}
}

// Process runs a batch through the loop without a port's Recv.
func (l *Loop) Process(t *TestBatch) {
	l.turn.begin(l.taps.begin(l.wanted.Load()))
	l.batch = t.batch
	l.process()
}

// Segments and PutL4Checksum are what a receiver of super-packets does.
var (
	Segments      = segments
	PutL4Checksum = putL4Checksum
)

// What the tests of links without a link layer need.
var (
	MACHost = macHost
	MACPod1 = macPod1
)

func (v Vnet) NeedsCsum() bool   { return v.flags()&vnetNeedsCsum != 0 }
func (v Vnet) MoveHeaders(n int) { v.moveHeaders(n) }

// TestWorld is a random host, for tests of who else decides about its frames.
type TestWorld struct {
	world
	told map[netip.Prefix]bool
}

// NewTestWorld draws one, from which the kernel is to take what is left.
func NewTestWorld(rng *rand.Rand) *TestWorld {
	w := &TestWorld{newWorld(rng), map[netip.Prefix]bool{}}
	w.Policy.Copies = false
	return w
}

// Publish builds the host's table and tells of the classes of its destinations.
func (w *TestWorld) Publish(set func(netip.Prefix, route.Class)) *route.Table {
	b := w.Builder()
	t := b.Publish()
	b.UpdateClasses(func(p netip.Prefix, c route.Class) {
		w.told[p] = true
		set(p, c)
	})
	return t
}

// Forget names all destinations that Publish told of.
func (w *TestWorld) Forget(forget func(netip.Prefix)) {
	for p := range w.told {
		forget(p)
	}
}

// Transit reports whether uplinks are forwarded between.
func (w *TestWorld) Transit() bool { return w.Policy.Transit }

// Packet draws a packet with at least an IPv4 header's bytes, and where it comes
// in; nil if that is nowhere.
func (w *TestWorld) Packet(rng *rand.Rand, t *route.Table) (in *route.Link, packet []byte) {
	data := make([]byte, 48)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	f := w.newFrame(data)
	if in = t.Link(f.Ifindex); in == nil || len(f.Buf) < VnetLen+f.l2len()+20 {
		return nil, nil
	}
	packet = f.Buf[VnetLen+f.l2len():]
	return in, packet[:min(len(packet), 1500)]
}

// OwnerByDestination is what can be said of a packet's owner without its source:
// what the table says where no sound header begins the packet.
func (w *TestWorld) OwnerByDestination(t *route.Table, in *route.Link, packet []byte) route.Verdict {
	unsound := bytes.Clone(packet)
	unsound[0] = 0
	return t.Owner(unsound, in)
}

// Conn is the loop's.
func (l *Loop) Conn() Conn { return l.conn }

// LockAll takes all locks, which unlock gives back.
func (s *Shared) LockAll() (unlock func()) {
	s.icmp.Lock()
	s.held.mu.Lock()
	return func() {
		s.icmp.Unlock()
		s.held.mu.Unlock()
	}
}

// Held is how much waits in all loops.
type Held struct{ Loops, Bytes, Hops, Shares, Misses, MissBytes, MissShares int }

// Held counts it.
func (s *Shared) Held() Held {
	h := &s.held
	h.mu.Lock()
	defer h.mu.Unlock()
	return Held{h.loops, h.bytes, len(h.hops), len(h.shares), h.misses, h.missBytes, len(h.missShares)}
}
