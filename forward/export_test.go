package forward

import "time"

// Once runs one batch: what Run does in a circle.
func (l *Loop) Once() error {
	if err := l.port.Recv(&l.batch, 0); err != nil {
		return err
	}
	l.once()
	return nil
}

// Age makes everything that waits older.
func (l *Loop) Age(d time.Duration) { l.start = l.start.Add(-d) }

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
	l.clock = 0
	l.taps.begin(l.wanted.Load())
	l.batch = t.batch
	l.process(l.table.Load())
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
