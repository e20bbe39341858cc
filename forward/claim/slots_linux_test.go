package claim

import (
	"strings"
	"testing"
)

// The next interface starts from zero, whatever its slot's last one had under
// way when it vanished.
func TestSlotIsUsedAgain(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	openRing(t, s, 256)
	const quota = 100
	slot := forward(t, s, e, quota)
	if n := admitted(t, s, e, 300); n != quota {
		t.Fatalf("%d admitted", n)
	}
	before := s.Totals()
	if err := s.DeletePort(e.index); err != nil {
		t.Fatal(err)
	}
	if s.Claimed(e.index) || s.Counters(e.index) != (Counters{}) {
		t.Error("the interface is still known")
	}
	if err := s.DeletePort(e.index); err != nil {
		t.Error(err)
	}
	if after := s.Totals(); after != before {
		t.Errorf("totals %+v, %+v before it went", after, before)
	}
	next := veth(t, "b")
	if again := forward(t, s, next, quota); again != slot {
		t.Errorf("slot %d, want %d again", again, slot)
	}
	if c := s.Counters(next.index); c != (Counters{}) {
		t.Errorf("the new interface begins with %+v", c)
	}
	if n := admitted(t, s, next, 300); n != quota {
		t.Errorf("the new interface: %d admitted, want %d", n, quota)
	}
	if after := s.Totals(); after.Admitted != before.Admitted+quota || after.Policed != before.Policed+200 {
		t.Errorf("totals %+v, %+v before", after, before)
	}
	before = s.Totals()
	if err := s.DeletePort(next.index); err != nil {
		t.Error(err)
	}
	if after := s.Totals(); after != before {
		t.Errorf("the second of a slot: totals %+v, %+v before it went", after, before)
	}
}

func TestAllSlots(t *testing.T) {
	namespace(t)
	s := load(t)
	seen := map[uint32]bool{0: true} // for interfaces not known yet
	for i := int32(1); i < MaxPorts; i++ {
		slot, err := s.SetPort(Port{Ifindex: i, Forward: true, Quota: 1})
		if err != nil {
			t.Fatalf("interface %d: %v", i, err)
		}
		if seen[slot] || slot >= MaxPorts {
			t.Fatalf("interface %d: slot %d twice, or none", i, slot)
		}
		seen[slot] = true
	}
	for range 2 {
		_, err := s.SetPort(Port{Ifindex: MaxPorts, Forward: true})
		if err == nil || !strings.Contains(err.Error(), "4095 slots") || !strings.Contains(err.Error(), "4096") {
			t.Fatalf("one too many: %v", err)
		}
	}
	// The others are unharmed, and one that goes makes room.
	if _, err := s.SetPort(Port{Ifindex: 7, Forward: false, Quota: 1}); err != nil {
		t.Errorf("change of a known one: %v", err)
	}
	if err := s.DeletePort(9); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetPort(Port{Ifindex: MaxPorts, Forward: true}); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}
