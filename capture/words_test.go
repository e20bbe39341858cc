package capture

import (
	"math"
	"net/netip"
	"testing"
)

// The words by which a stream and a file say things come back, and nothing else is taken for them.
func TestWords(t *testing.T) {
	for text, want := range map[string]int{IfindexText(7): 7, IfindexText(math.MaxInt32): math.MaxInt32, "ifindex 2147483648": 0, "ifindex -1": 0, "ifindex 7x": 0,
		"index 7": 0, "7": 0, "": 0, "ifindex ": 0} {
		if got := ParseIfindex(text); got != want {
			t.Errorf("%q is %d, not %d", text, got, want)
		}
	}
	for text, want := range map[string]string{EndText(Disappeared): Disappeared, "end: x": "x", "end:x": "", "x": "", "": "", "the end: x": ""} {
		if got := ParseEnd(text); got != want {
			t.Errorf("%q is %q, not %q", text, got, want)
		}
	}
	for text, want := range map[string]bool{"verdict=drop id=1 again=1": true, "verdict=drop id=1": false, "verdict=drop again=0": false, "note again=1": false,
		"verdict=dropagain=1": false} {
		if got := IsAgain([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
		if v, ok := ParseComment(text); ok && v.Again != want {
			t.Errorf("%q is parsed as %+v", text, v)
		}
	}
	if v, ok := ParseComment("verdict=queue again=1 id=18446744073709551615 table=4294967296 mtu=2147483648 took_ns=x"); !ok || !v.Again || v.ID != math.MaxUint64 || v.Table != 0 || v.MTU != 0 || v.Took != 0 {
		t.Errorf("%+v", v)
	}
}

// Which names stand for several interfaces.
func TestSeveral(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  bool
	}{{nil, true}, {[]string{"eth0"}, false}, {[]string{"any"}, true}, {[]string{"eth*"}, true}, {[]string{"eth?"}, true}, {[]string{"[e]th0"}, true},
		{[]string{`e\th0`}, true}, {[]string{"a", "b"}, true}, {[]string{"anyone"}, false}} {
		if got := Several(c.names); got != c.want {
			t.Errorf("%q: %v", c.names, got)
		}
	}
}

// The neighbour that was not reached is a next hop, the one that was is a way.
func TestNextHop(t *testing.T) {
	for kind, want := range map[string]string{Forward: " => forward ens1 via 10.0.0.1", Queue: " => queue ens1 nh 10.0.0.1", Drop: " => drop ens1 nh 10.0.0.1"} {
		v := Verdict{Kind: kind, Out: "ens1", Via: netip.MustParseAddr("10.0.0.1")}
		if got := string(v.AppendSuffix(nil)); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// A packet that fills the ring fits it.
func TestRingFull(t *testing.T) {
	r := NewRing[int](8, 100)
	if f, b := r.Reserve(100); f == nil || len(b) != 100 || r.Pressed() != true {
		t.Error("there is no room for all that there is room for")
	}
	r.Commit()
	r.Peek()
	r.Next()
	if r.Pressed() || r.Lost() != 0 {
		t.Error("it is not empty")
	}
}
