package daemon

import "testing"

// TestPulse: who has not come round is named; another engine starts anew.
func TestPulse(t *testing.T) {
	var p pulse
	for i, c := range []struct {
		forward []uint64
		arp     uint64
		stuck   string
	}{
		{[]uint64{0, 0}, 0, ""}, // nobody was asked before
		{[]uint64{1, 9}, 1, ""},
		{[]uint64{2, 9}, 2, "worker 1 of the datapath"},
		{[]uint64{3, 10}, 3, ""},
		{[]uint64{4, 11}, 3, "the ARP responder"},
		{[]uint64{5, 12}, 4, ""},
		{nil, 5, ""},
		{[]uint64{0}, 6, ""},
		{[]uint64{0}, 7, "worker 0 of the datapath"},
		{[]uint64{3}, 8, ""},
		{[]uint64{1}, 9, ""}, // a ring that was opened anew
	} {
		if got := p.beat(c.forward, [2]uint64{c.arp, noBeat}); got != c.stuck {
			t.Errorf("%d: stuck is %q, want %q", i, got, c.stuck)
		}
	}
}

func TestKernelFrom(t *testing.T) {
	for release, want := range map[string]bool{"5.19.0": true, "5.18.99": false, "6.1.0-18-amd64": true, "5.4.0": false, "10.0": true, "5.20-rc1": true, "rubbish": false, "": false} {
		if got := kernelFrom(release, 5, 19); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}
