package arpd

import "testing"

func TestPublishKeepsCounters(t *testing.T) {
	p := newPorts(newLimit(1, 1))
	one, two := testPolicy(), testPolicy()
	p.publish(map[int]*Policy{7: one, 8: one, 9: nil}, 0)
	first := *p.snap.Load()
	if len(first) != 2 {
		t.Fatalf("%d entries, want 2: a nil policy is none", len(first))
	}
	first[7].port.counts[Answered].Add(3)
	first[7].port.bucket.take(p.limit, 0)

	p.publish(map[int]*Policy{7: two}, 0)
	second := *p.snap.Load()
	if second[7].policy != two || first[7].policy != one {
		t.Error("policy was not replaced in the new snapshot only")
	}
	if second[7].port.bucket.take(p.limit, 0) {
		t.Error("the share of answers starts anew with each Publish")
	}
	s := p.stats()
	if len(s) != 1 || s[7].Replies != 3 || s[7].Requests != 3 {
		t.Errorf("stats %v", s)
	}

	p.publish(nil, 0)
	p.publish(map[int]*Policy{7: one}, 0)
	if s := p.stats()[7]; s.Requests != 0 {
		t.Errorf("an index that is used again inherits %d requests", s.Requests)
	}
}

// A Publish that was made before the daemon heard of an interface must not forget
// what was counted there since.
func TestPublishKeepsStrays(t *testing.T) {
	p := newPorts(limit{})
	p.port(7, 0).counts[Answered].Add(1)
	p.publish(nil, 0)
	if p.stats()[7].Replies != 1 {
		t.Fatal("forgotten")
	}
	p.publish(map[int]*Policy{7: testPolicy()}, 0)
	if p.stats()[7].Replies != 1 {
		t.Fatal("forgotten when published")
	}
	p.publish(nil, 0)
	if len(p.stats()) != 0 || p.stray != 0 {
		t.Fatalf("not forgotten when it went: %v, stray %d", p.stats(), p.stray)
	}
}

func TestStraysAreBounded(t *testing.T) {
	p := newPorts(limit{})
	for i := range 3 * maxStray {
		p.port(i+1, 0)
	}
	p.publish(map[int]*Policy{1: testPolicy()}, 0)
	if n := len(p.stats()); n != 1 || p.stray != 0 {
		t.Errorf("%d ports, %d stray", n, p.stray)
	}
	s := strays{said: make(map[int]*entry)}
	for i := range 3 * maxStray {
		s.remember(i, nil)
	}
	if len(s.said) > maxStray {
		t.Errorf("%d remembered", len(s.said))
	}
	s.sync(p.snap.Load())
	if len(s.said) != 0 {
		t.Error("remembered beyond a Publish")
	}
}

func TestLookupIsAskedOnce(t *testing.T) {
	asked := map[int]int{}
	gone := 3
	r := &Responder{
		ports:  newPorts(limit{}),
		now:    clock(),
		strays: strays{said: make(map[int]*entry)},
		lookup: func(ifindex int) (*Policy, bool) {
			asked[ifindex]++
			switch ifindex {
			case 1:
				return testPolicy(), true
			case gone:
				return nil, true
			}
			return nil, false
		},
	}
	judge := func(ifindex int) Verdict {
		snap := r.ports.snap.Load()
		r.strays.sync(snap)
		e, v := r.entry(*snap, ifindex, 0)
		if (e == nil) != (v != NotSpecified) {
			t.Errorf("interface %d: entry %v with %v", ifindex, e, v)
		}
		return v
	}
	for range 3 {
		for ifindex, want := range map[int]Verdict{1: NotSpecified, 2: IgnoreNotWorkload, gone: DropUnknownIf} {
			if v := judge(ifindex); v != want {
				t.Errorf("interface %d: %v, want %v", ifindex, v, want)
			}
		}
	}
	if asked[1] != 1 || asked[2] != 1 || asked[gone] != 3 {
		t.Errorf("asked %v", asked)
	}
	r.Publish(map[int]*Policy{2: testPolicy()})
	if v := judge(2); v != NotSpecified || asked[2] != 1 {
		t.Errorf("published: %v, asked %v", v, asked)
	}
	if judge(1); asked[1] != 2 {
		t.Errorf("not asked again after Publish: %v", asked)
	}
	r.lookup = nil
	if v := judge(99); v != IgnoreNotWorkload {
		t.Errorf("without Lookup: %v", v)
	}
}
