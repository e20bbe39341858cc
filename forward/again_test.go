package forward

import (
	"testing"

	"proxyarpd/forward/route"
)

// A next hop that the table does not know is asked for again soon, but not for
// ever: it may be a dead one. One that the kernel is known to resolve is not.
func TestAskedAgainSoon(t *testing.T) {
	const ms = 1000000
	out := &route.Link{}
	for _, c := range []struct {
		name string
		n    *route.Neighbour
		want []int64 // ms
	}{
		{"unknown", nil, []int64{100, 300, 1300, 2300}},
		{"being resolved", &route.Neighbour{}, []int64{1000, 2000}},
	} {
		q, h := hopQueue{held: new(held)}, &heldHop{}
		var got []int64
		for now := int64(0); now < 3000; now += 50 {
			if q.again(h, out, c.n, now*ms) {
				got = append(got, now)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: asked again after %v ms, want %v", c.name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: asked again after %v ms, want %v", c.name, got, c.want)
				break
			}
		}
	}
}
