package arpd

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// memory is a Responder whose socket is its own buffers: what a test puts into
// them was received, and what is staged there is sent when the batch ends. Its
// clock stands unless a test turns it.
type memory struct {
	*Responder
	time     int64
	received int      // frames of the batch
	keep     bool     // sent is to be filled
	sent     [][]byte // replies
}

// newMemory publishes policies under their Index.
func newMemory(o Options, policies ...*Policy) *memory {
	m := &memory{Responder: newResponder(&socket{rx: newRxBatch()}, o)}
	m.now = func() int64 { return m.time }
	m.sock.queued, m.sock.direct = m.sender(), m.sender()
	m.publish(policies...)
	return m
}

func (m *memory) publish(policies ...*Policy) {
	set := map[int]*Policy{}
	for _, p := range policies {
		set[p.Index] = p
	}
	m.Publish(set)
}

// receive puts a frame behind those of the batch.
func (m *memory) receive(ifindex int, frame []byte) {
	i := m.received
	m.sock.rx.hdrs[i].n = uint32(copy(m.sock.rx.data[i][:], frame))
	m.sock.rx.addrs[i].Ifindex = int32(ifindex)
	m.received++
}

// run handles the batch.
func (m *memory) run() {
	m.batch(m.received)
	m.received = 0
}

// one handles one frame, and gives what was sent for it.
func (m *memory) one(ifindex int, frame []byte) [][]byte {
	m.keep, m.sent = true, nil
	m.receive(ifindex, frame)
	m.run()
	return m.sent
}

// again has what is held judged again, as soon as that may be.
func (m *memory) again() {
	m.time += int64(holdTick)
	m.retry()
}

// expire lets the time pass for which anything is held.
func (m *memory) expire() { m.time += int64(holdTime) }

func (m *memory) sender() *sender {
	c := &memoryConn{m: m}
	c.s = newSender(nil, c)
	return c.s
}

// memoryConn takes all replies that are staged.
type memoryConn struct {
	m *memory
	s *sender
}

func (c *memoryConn) Write(func(fd uintptr) bool) error {
	c.s.n, c.s.errno = c.s.staged-c.s.from, 0
	for i := c.s.from; c.m.keep && i < c.s.staged; i++ {
		c.m.sent = append(c.m.sent, bytes.Clone(c.s.reply(i)))
	}
	return nil
}

func (c *memoryConn) Control(func(fd uintptr)) error   { return unix.ENOTSUP }
func (c *memoryConn) Read(func(fd uintptr) bool) error { return unix.ENOTSUP }

// floods are the kinds of flood there are, by what becomes of a request. All
// that are held end as not proxied.
var floods = []struct {
	name string
	req  []byte
	want Verdict
}{
	{"answered", who(gatewayIP).bytes(), Answered},
	{"proxied", who(remoteIP).bytes(), Answered},
	{"padded", who(gatewayIP).with(func(r *request) { r.trailer = 18 }).bytes(), Answered},
	{"unrouted", who(gatewayIP).with(func(r *request) { r.spa = outsideIP }).bytes(), Answered},
	{"probe", who(gatewayIP).with(func(r *request) { r.spa = netip.IPv4Unspecified() }).bytes(), Answered},
	{"hostile", who(gatewayIP).with(func(r *request) { r.spa = limitedBroadcast }).bytes(), DropInvalidSource},
	{"ignored", who(outsideIP).bytes(), IgnoreNotProxied},
	{"otherhost", who(gatewayIP).with(func(r *request) { r.dst = otherMAC }).bytes(), IgnoreOtherhost},
	{"reply", who(gatewayIP).with(func(r *request) { r.op = wire.ARPReply }).bytes(), IgnoreReply},
	{"malformed", who(gatewayIP).with(func(r *request) { r.hlen = 8 }).bytes(), DropBadHeader},
	{"truncated", who(gatewayIP).bytes()[:30], DropTruncated},
	{"held", who(noRouteIP).bytes(), IgnoreNotProxied},
}

// flood is a Responder that learns, is looked at and always behind, with room for
// what a flood brings.
func flood() *memory {
	m := newMemory(Options{
		RatePerSecond:   -1,
		SenderPerSecond: 1 << 30, SenderBurst: 1 << 30, // looked at, and never used up
		Behind:     func() bool { return true },
		Neighbours: deaf{},
	}, testPolicy())
	m.SetTap(func(id uint64, _ int, _, _ []byte, _ Verdict) uint64 { return id + 1 })
	return m
}

// deaf is a neighbour table that lacks everything and has no room.
type deaf struct{}

func (deaf) Lacks(Asker) bool { return true }
func (deaf) Learn(Asker) bool { return false }

// fill handles a full batch of one request, and ends what is held of it.
func (m *memory) fill(req []byte) {
	for range batchSize {
		m.receive(7, req)
	}
	m.run()
	m.expire()
	m.again()
}

// TestFloodDoesNotAllocate: from the bytes that were received to those that are
// handed to the socket, whatever becomes of a request.
func TestFloodDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		nstest.Excused(t, nstest.RaceDetector, "it allocates")
	}
	for _, c := range floods {
		t.Run(c.name, func(t *testing.T) {
			m := flood()
			const batches = 50
			if n := testing.AllocsPerRun(batches, func() { m.fill(c.req) }); n != 0 {
				t.Errorf("%v allocations a batch of %d", n, batchSize)
			}
			const all = (batches + 1) * batchSize // one batch is for warming up
			if got := m.total[c.want].Load(); got != all || m.held.n != 0 {
				t.Errorf("%d of %d ended as %v, %d are held", got, all, c.want, m.held.n)
			}
			if got, held := m.total[Queued].Load(), c.name == "held"; (got != 0) != held {
				t.Errorf("%d were held", got)
			}
		})
	}
}

// BenchmarkBatch is the same path, a request an operation.
func BenchmarkBatch(b *testing.B) {
	for _, c := range floods {
		b.Run(c.name, func(b *testing.B) {
			m := flood()
			m.fill(c.req)
			b.ReportAllocs()
			for n := 1; b.Loop(); n++ {
				if n%batchSize == 0 {
					m.fill(c.req)
				}
			}
		})
	}
}
