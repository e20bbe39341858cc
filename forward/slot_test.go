package forward

import (
	"testing"

	"proxyarpd/forward/route"
)

// Every frame of a known interface gives its place in the ring back, in
// particular one of which nothing else is known than that it was lost.
func TestSlotOfEveryFrame(t *testing.T) {
	table := testBuilder(route.Policy{}).Publish()
	good := packet("10.65.0.1", "10.65.0.2", 20)
	for name, f := range map[string]Frame{
		"forwarded":    {Buf: good, Ethernet: true},
		"no route":     {Buf: packet("10.65.0.1", "10.99.0.2", 20), Ethernet: true},
		"empty":        {Buf: make([]byte, VnetLen), Ethernet: true},
		"tagged":       {Buf: good, Ethernet: true, Tagged: true},
		"a bad slot":   {Lost: route.DropGSO},
		"copy missing": {Buf: good[:VnetLen+14], Ethernet: true, Lost: route.DropNoMem},
	} {
		f.Ifindex = ifPod1
		var r result
		if step(table, &f, &r); f.Slot != 1 || f.Lost != route.NotSpecified && r.Verdict != f.Lost {
			t.Errorf("%s: slot %d, want 1; verdict %v", name, f.Slot, r.Verdict)
		}
	}
}
