package livecapture

import (
	"testing"

	"proxyarpd/capture"
)

// gone reports whether what a session looks at is.
func (s *session) isGone() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// TestLinks: sessions see from Publish on what became of interfaces. One that was
// named is followed by its index, a pattern by its names.
func TestLinks(t *testing.T) {
	h := newHub()
	named := join(t, h, capture.Request{Interfaces: []string{"cali1"}})
	globbed := join(t, h, capture.Request{Interfaces: []string{"cali*"}})
	mixed := join(t, h, capture.Request{Interfaces: []string{"cali1", "x*"}})
	shows := func(s *session, index int32) bool {
		t.Helper()
		k := look(udp(64))
		k.Ifindex = index
		h.Look(k)
		var others *session
		for _, o := range h.sessions {
			if o != s {
				others = o
				others.seen()
			}
		}
		return s.seen()[fromDatapath] == 1
	}
	h.SetLink(testLink(testPod, "eth9"), true)
	h.SetLink(testLink(9, "cali9"), true)
	if !shows(globbed, testPod) || shows(globbed, 9) {
		t.Error("what is not published is seen")
	}
	h.Publish()
	for name, c := range map[string]struct {
		s     *session
		index int32
		want  bool
	}{
		"named, renamed": {named, testPod, true}, "named, new": {named, 9, false}, "glob, renamed": {globbed, testPod, false}, "glob, new": {globbed, 9, true},
		"both, renamed": {mixed, testPod, true}, "both, new": {mixed, 9, false}, "another": {globbed, testHost, false},
	} {
		if got := shows(c.s, c.index); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	k := look(udp(64))
	h.Look(k)
	if e, _ := named.rings[fromDatapath].Peek(); e == nil || e.name != "eth9" {
		t.Errorf("it is called %+v", e)
	}
	h.DeleteLink(testPod)
	if named.isGone() {
		t.Error("what is not published is gone")
	}
	h.SetLink(testLink(testPod, "cali1"), true) // another, of the same index
	if h.Publish(); named.isGone() {
		t.Error("there is one of its index")
	}
	h.DeleteLink(testPod)
	h.Publish()
	if !named.isGone() || globbed.isGone() || mixed.isGone() {
		t.Errorf("gone: named %v, glob %v, both %v", named.isGone(), globbed.isGone(), mixed.isGone())
	}
	h.DeleteLink(9)
	h.Publish() // is not closed twice
	for _, s := range []*session{named, globbed, mixed} {
		h.part(s)
	}
	if h.view.Load() != nil {
		t.Error("there is a view without sessions")
	}
	h.SetLink(testLink(9, "cali9"), true)
	if h.Publish(); h.view.Load() != nil {
		t.Error("there is a view without sessions")
	}
	join(t, h, capture.Request{Interfaces: []string{"cali9"}})
}

// A session that names two interfaces ends with the second.
func TestGone(t *testing.T) {
	h := newHub()
	s := join(t, h, capture.Request{Interfaces: []string{"cali1", "ens192"}})
	for index, want := range map[int]bool{testPod: false} {
		h.DeleteLink(index)
		if h.Publish(); s.isGone() != want {
			t.Errorf("after %d: gone %v", index, s.isGone())
		}
	}
	h.DeleteLink(testHost)
	if h.Publish(); !s.isGone() {
		t.Error("both are gone, and it is not")
	}
}

func TestOnlyOne(t *testing.T) {
	for _, c := range []struct {
		wanted []map[int32]bool
		want   int
	}{
		{nil, 0},
		{[]map[int32]bool{{7: true}}, 7},
		{[]map[int32]bool{{7: true}, {7: true}}, 7},
		{[]map[int32]bool{{7: true}, {8: true}}, 0},
		{[]map[int32]bool{{7: true, 8: true}}, 0},
		{[]map[int32]bool{{7: true}, nil}, 0}, // all
		{[]map[int32]bool{{}}, 0},
	} {
		if got := onlyOne(c.wanted); got != c.want {
			t.Errorf("%v: %d", c.wanted, got)
		}
	}
}
