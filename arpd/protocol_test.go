package arpd

import (
	"bytes"
	"testing"

	"golang.org/x/net/bpf"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// byProtocol is ARP, spoken by way of Protocol.
type byProtocol struct{ q Request }

func (*byProtocol) EtherType() wire.EtherType   { return wire.EtherTypeARP }
func (*byProtocol) Filter() []bpf.Instruction   { return filter() }
func (b *byProtocol) Read(frame []byte) Verdict { return b.q.Read(frame) }
func (b *byProtocol) Asker() Asker              { return b.q.asker(&Policy{}) }
func (b *byProtocol) Answer(reply []byte, p *Policy) (int, Verdict) {
	return Answer(reply, &b.q, p)
}
func (*byProtocol) Claim(frame []byte, ifindex int) (Claim, bool) { return readClaim(frame, ifindex) }

// A Responder does with another protocol what it does with ARP.
func TestProtocolIsTreatedAlike(t *testing.T) {
	type end struct {
		counts Counts
		sent   [][]byte
		stats  InterfaceStats
		asked  []Asker
	}
	for _, c := range floods {
		var ends []end
		for _, p := range []Protocol{nil, new(byProtocol)} {
			var k table
			m := newMemory(Options{Protocol: p, Neighbours: &k, Behind: func() bool { return true }}, testPolicy())
			sent := m.one(7, c.req)
			m.expire()
			m.again()
			ends = append(ends, end{m.total.load(), sent, m.ports.stats()[7], k.told})
		}
		a, b := ends[0], ends[1]
		if a.counts != b.counts || a.stats != b.stats || len(a.sent) != len(b.sent) || len(a.asked) != len(b.asked) {
			t.Errorf("%s: %+v, by a Protocol %+v", c.name, a, b)
		}
		for i := range a.sent {
			if !bytes.Equal(a.sent[i], b.sent[i]) {
				t.Errorf("%s: %x, by a Protocol %x", c.name, a.sent[i], b.sent[i])
			}
		}
		for i := range a.asked {
			if a.asked[i] != b.asked[i] {
				t.Errorf("%s: learnt %v, by a Protocol %v", c.name, a.asked[i], b.asked[i])
			}
		}
	}
}

func TestProtocolDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		nstest.Excused(t, nstest.RaceDetector, "it allocates")
	}
	for _, c := range floods {
		m := newMemory(Options{Protocol: new(byProtocol), RatePerSecond: -1, Behind: func() bool { return true }, Claimed: func(Claim) {}}, testPolicy())
		if n := testing.AllocsPerRun(20, func() { m.fill(c.req) }); n != 0 {
			t.Errorf("%s: %v allocations a batch of %d", c.name, n, batchSize)
		}
	}
}

// A gateway's address that a station claims is told of by another protocol than ARP, and
// its own MACs are no claim.
func TestProtocolHearsGatewayClaimed(t *testing.T) {
	for _, p := range []Protocol{nil, new(byProtocol)} {
		var heard []Claim
		m := newMemory(Options{Protocol: p, Claimed: func(c Claim) { heard = append(heard, c) }}, testPolicy())
		says := who(gatewayIP).with(func(q *request) { q.op, q.spa, q.sha = wire.ARPReply, gatewayIP, otherMAC })
		m.one(7, says.bytes())
		m.one(7, says.with(func(q *request) { q.sha = aliasMAC }).bytes())
		m.one(7, who(gatewayIP).bytes())
		if p == nil && len(heard) != 0 {
			t.Errorf("ARP: %v, which Claims hears", heard)
		}
		if want := (Claim{Index: 7, IP: gatewayIP, MAC: otherMAC}); p != nil && (len(heard) != 1 || heard[0] != want) {
			t.Errorf("%v, want %v", heard, want)
		}
	}
}

// What a tc program took from the kernel is another host's to it alone.
func TestTakenIsNoVLAN(t *testing.T) {
	p := testPolicy()
	for _, c := range []struct {
		f    frame
		want Verdict
	}{
		{frame{otherhost: true, taken: true}, NotSpecified},
		{frame{otherhost: true}, IgnoreVLAN},
		{frame{vlan: true, taken: true}, IgnoreVLAN},
	} {
		c.f.data = who(gatewayIP).bytes()
		q := question{other: new(byProtocol)}
		if v := q.read(c.f, p); v != c.want {
			t.Errorf("%+v: %v", c.f, v)
		}
	}
}
