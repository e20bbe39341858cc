package claim

import (
	"testing"
	"time"
)

// TestPolicedAhead: CPUs that police one interface at once read the clock and then the bucket, so
// that one may find it ahead of its own time. That fills no bucket.
func TestPolicedAhead(t *testing.T) {
	namespace(t)
	e := veth(t, "a")
	const burst = 10
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: burst}, Replaceable: true}) // else nobody has the map
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := openARP(t, s)
	slot, err := s.SetPort(Port{Ifindex: e.index, Workload: true, ARP: true, L2Len: 14})
	if err != nil {
		t.Fatal(err)
	}
	arp := packet(e.mac, "203.0.113.9")
	arp[len(arp)-60+13] = 0x06
	ahead := bpfArpbucket{Last: uint64(monotonic() + time.Hour.Nanoseconds())}
	for _, c := range []struct{ had, passes int }{{0, 0}, {3, 3}, {burst, burst}} {
		ahead.Credit = uint64(c.had) * uint64(time.Second)
		if err := s.objs.ParpBuckets.Put(slot, &ahead); err != nil {
			t.Fatal(err)
		}
		e.put(t, repeat(2*burst, arp)...)
		if n := len(k.got(t)); n != c.passes {
			t.Errorf("%d had been left, %d passed", c.had, n)
		}
	}
}
