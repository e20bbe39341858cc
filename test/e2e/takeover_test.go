package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestTakeover has a daemon taken over again and again, under traffic of one packet a
// millisecond in three directions and a thousand requests for the gateway a second: none
// is lost or doubled, counters go on, and the MACs stay.
func TestTakeover(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	labtest.Daemon(t, l, "host1")
	p := labtest.Daemon(t, l, "host0")
	here, there := pods(l, 0), pods(l, 1)
	for _, to := range []lab.Pod{there[0], here[1]} {
		labtest.Warm(t, l, here[0].Node, ip(to))
	}
	asks := startAsker(listen(t, l, here[1].Node, "eth0", unix.ETH_P_ARP), ip(here[1]))
	flows := map[string]*labtest.Flow{
		"out":    labtest.StartFlow(t, l, here[0], there[0], 1),
		"in":     labtest.StartFlow(t, l, there[0], here[0], 1),
		"within": labtest.StartFlow(t, l, here[0], here[1], 1),
	}
	stalled := statusOf(t, p).Forward.Drops["PARP_STALLED"]
	overflowed := backlogDrops(t)
	for range 4 {
		before := statusOf(t, p)
		next := p.Successor(t)
		if err := p.Wait(t); err != nil {
			t.Fatalf("the daemon that was taken over: %v\n%s\nits successor:\n%s", err, p.Stderr(), next.Stderr())
		}
		next.AwaitReady(t)
		now := statusOf(t, next)
		if now.Forward.PacketsIn < before.Forward.PacketsIn || now.PID == before.PID || !now.Ready {
			t.Errorf("packets in %d, and %d before; process %d, and %d before", now.Forward.PacketsIn, before.Forward.PacketsIn, now.PID, before.PID)
		}
		for _, f := range flows {
			f.Progress(100)
		}
		if got := linkMAC(t, l, "host0", here[0].Iface); got != answerMAC {
			t.Errorf("%s has %s", here[0].Iface, got)
		}
		p = next
	}
	all := 0
	for name, f := range flows {
		sent, missing, doubled := f.StopMissing()
		if all += len(missing); len(missing)+doubled > 0 {
			t.Logf("%s: of %d datagrams %d lost, %d doubled", name, sent, len(missing), doubled)
		}
		if doubled > 0 {
			t.Errorf("%s: %d doubled", name, doubled)
		}
	}
	if stalled = statusOf(t, p).Forward.Drops["PARP_STALLED"] - stalled; uint64(all) > stalled+backlogDrops(t)-overflowed {
		t.Errorf("%d datagrams lost; %+v\n%s", all, statusOf(t, p).Forward, p.Stderr())
	}
	if asked, lost := asks.stop(); lost > 0 || asked == 0 {
		t.Errorf("of %d requests %d not answered", asked, lost)
	}
	if strings.Contains(p.Stderr(), "ERROR") {
		t.Errorf("errors:\n%s", p.Stderr())
	}
}
