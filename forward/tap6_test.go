package forward_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestShown6: an IPv6 packet is shown and kept as it came, whether it waits, is joined, fails
// or was not looked at before.
func TestShown6(t *testing.T) { synctest.Test(t, testShown6) }

func testShown6(t *testing.T) {
	padded := append(forward.Packet6(pod1, silent, 1), make([]byte, 5)...)
	bare := forward.Packet6(tunnelled, silent, 40)
	bare = slices.Concat(bare[:forward.VnetLen], bare[forward.VnetLen+wire.EthernetLen:])
	for name, c := range map[string]struct {
		frame  []byte
		from   int32
		looked bool // as it came
	}{
		"padded": {padded, forward.IfPod1, true}, "no link layer": {bare, forward.IfTun, true},
		"nobody looked": {padded[:len(padded)-5], forward.IfPod1, false}, "no link layer, nobody looked": {bare, forward.IfTun, false},
	} {
		for _, n := range []*route.Neighbour{{Failed: true}, {Valid: true, MAC: wire.MAC{2, 0, 0, 0, 9, 9}}} {
			p, k := memconn.New(), &keeper{}
			l := forward.NewLoop(p, forward.Options{Recorder: func(int) forward.Recorder { return k }})
			b := forward.Builder6(route.Policy{Transit: true})
			l.Publish(b.Publish())
			tap := &recorder{}
			inject := p.Inject
			if c.from == forward.IfTun {
				inject = p.InjectBare
			}
			if c.looked {
				l.SetTap(tap)
			}
			inject(c.from, bytes.Clone(c.frame))
			once(t, l)
			l.SetTap(tap)
			b.SetNeighbour(forward.IfUplink, addr("fe80::77"), n)
			l.Publish(b.Publish())
			l.Age(200 * time.Millisecond)
			once(t, l)
			same := func(k *looked) bool {
				return k.Ifindex == c.from && k.Ethernet == (c.from != forward.IfTun) && bytes.Equal(k.frame[forward.VnetLen:], c.frame[forward.VnetLen:])
			}
			ends := 0
			for i := range tap.seen {
				if k := &tap.seen[i]; !k.Out && k.Verdict != route.Queue {
					if ends++; k.Again != c.looked || !same(k) {
						t.Errorf("%s, failed %v: %+v\n%x\n%x", name, n.Failed, k.Look, k.frame, c.frame)
					}
					if n.Failed && (k.ICMPType != 1 || k.ICMPCode != 3) {
						t.Errorf("%s: ICMPv6 %d/%d", name, k.ICMPType, k.ICMPCode)
					}
				}
			}
			if want := c.looked || n.Failed; ends > 1 || want != (ends == 1) {
				t.Errorf("%s, failed %v: %d ends: %+v", name, n.Failed, ends, tap.seen)
			}
			if !n.Failed {
				continue
			}
			if len(k.seen) != 1 || k.seen[0].Verdict != route.DropNeighFailed || k.seen[0].ICMPCode != 3 {
				t.Fatalf("%s: kept %+v", name, k.seen)
			}
			if got := &k.seen[0]; got.Ifindex != c.from || !bytes.Equal(got.frame[forward.VnetLen:], c.frame[forward.VnetLen:][:len(got.frame)-forward.VnetLen]) {
				t.Errorf("%s: kept %+v\n%x\n%x", name, got.Look, got.frame, c.frame)
			}
		}
	}
}
