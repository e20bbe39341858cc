package pktring

import (
	"encoding/binary"
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

// openGroup makes a group of n rings.
func openGroup(t testing.TB, n int) (g *Group, rings []*Socket) {
	t.Helper()
	g = &Group{}
	for range n {
		rings = append(rings, openRing(t, Config{Group: g, Slots: 1024}))
	}
	return g, rings
}

// flow makes a UDP datagram of a flow, with a number.
func flow(source uint16, number uint32) []byte {
	b := gsoTCP(number, 8, 0)
	clear(b[:VnetLen])
	ip := b[VnetLen+14:]
	ip[9] = 17
	binary.BigEndian.PutUint16(ip[20:], source)
	binary.BigEndian.PutUint16(ip[22:], 9)
	return b
}

// takeAll empties rings and says in which one each number came.
func takeAll(t testing.TB, rings []*Socket) map[uint32][]int {
	t.Helper()
	got := map[uint32][]int{}
	for i, r := range rings {
		var s Slot
		for r.Next(&s) {
			got[binary.BigEndian.Uint32(s.Data[VnetLen+14+40:])] = append(got[binary.BigEndian.Uint32(s.Data[VnetLen+14+40:])], i)
			r.Release(1)
		}
	}
	return got
}

// Each frame comes to one ring of a group, those of a flow to the same one, also
// when a ring has been replaced meanwhile.
func TestGroup(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	_, rings := openGroup(t, 3)
	s := openSender(t, true)
	of := map[uint16]int{}
	used := map[int]bool{}
	for round := range 4 {
		if round > 0 {
			if err := rings[round-1].Reopen(); err != nil {
				t.Fatal(err)
			}
		}
		for source := range uint16(64) {
			number := uint32(round)<<16 | uint32(source)
			send(t, s, from, flow(source, number))
			got := takeAll(t, rings)
			if len(got) != 1 || len(got[number]) != 1 {
				t.Fatalf("round %d, flow %d: %v", round, source, got)
			}
			ring := got[number][0]
			if before, ok := of[source]; ok && before != ring {
				t.Fatalf("round %d: flow %d comes to ring %d, before to %d", round, source, ring, before)
			}
			of[source], used[ring] = ring, true
		}
	}
	if len(used) != 3 {
		t.Errorf("rings that got anything: %v", used)
	}
}

// A muted ring gets nothing, and no other ring gets it instead.
func TestMute(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	_, rings := openGroup(t, 2)
	s := openSender(t, true)
	for _, r := range rings {
		if err := r.Mute(); err != nil {
			t.Fatal(err)
		}
	}
	for source := range uint16(16) {
		send(t, s, from, flow(source, uint32(source)))
	}
	if got := takeAll(t, rings); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// Of the rings of a group no more look than may; the others sleep, and are woken.
func TestLooking(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	g, rings := openGroup(t, 1)
	g.Most = 1
	r := rings[0]
	r.spin = newSpinner(16 * time.Microsecond)
	if !g.looking.begin(1) {
		t.Fatal("the first may not look")
	}
	if g.looking.begin(1) {
		t.Error("a second one may look")
	}
	s := openSender(t, true)
	send(t, s, from, flow(1, 1))
	if r.look(time.Now()) {
		t.Error("looked although as many as may were looking")
	}
	g.looking.end()
	if !r.look(time.Now()) {
		t.Error("did not look")
	}
	if !g.looking.begin(1) {
		t.Error("who has looked is counted still")
	}
}
