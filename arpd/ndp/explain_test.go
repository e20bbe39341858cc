package ndp

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// Explain judges as Answer does, and the last rule that it tells decides.
func TestExplain(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addresses := []netip.Addr{podIP, podLL, gatewayIP, remoteIP, noRouteIP, localIP, ownIP, outsideIP, otherLL, anyIP}
	stations := []wire.MAC{podMAC, podMAC, podMAC, answerMAC, deviceMAC, otherMAC, wire.Broadcast, {}}
	seen := map[Verdict]int{}
	for range 20000 {
		p := testPolicy()
		if random.IntN(2) == 0 {
			p = uplinkPolicy()
			p.Uplink.Unforwarded = random.IntN(4) == 0
		}
		s := NewSolicitation(stations[random.IntN(len(stations))], addresses[random.IntN(len(addresses))], addresses[random.IntN(len(addresses))])
		if random.IntN(4) == 0 {
			s.Dst = stations[random.IntN(len(stations))]
		}
		if random.IntN(4) == 0 {
			s.To = addresses[random.IntN(len(addresses))]
		}
		want := judge(s, p)
		got, steps := Explain(s, p)
		if got != want {
			t.Fatalf("%v, judged %v", got, want)
		}
		if len(steps) == 0 {
			t.Fatalf("%v: no rule", want)
		}
		for i, step := range steps {
			if step.Decides != (i == len(steps)-1) || step.Rule == "" || step.Says == "" {
				t.Fatalf("%+v on %s: %v: %+v", s, p.Name, want, steps)
			}
		}
		seen[want]++
	}
	for v := range arpd.NumVerdicts {
		judged := v.Request() && !v.OnlyARP() && v != arpd.DropRateLimit && v != arpd.DropSenderRate && v != arpd.DropIfDown && v != arpd.DropQdisc &&
			v != arpd.DropSend && v != arpd.DropInvalidSource && v != arpd.DropInvalidTarget // these are Read's
		if judged && seen[v] == 0 {
			t.Errorf("%v was never judged", v)
		}
	}
}
