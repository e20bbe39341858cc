package daemon

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestConflictsKept: the latest are kept, with how often each was heard; each is
// said once a minute.
func TestConflictsKept(t *testing.T) {
	c := newConflicts()
	now := time.Now()
	one := conflict{kind: foreignAnswer, index: 1, ip: netip.MustParseAddr("169.254.1.1"), mac: macAddr{2}, last: now}
	if !c.note(one) || c.note(one) {
		t.Error("said not once")
	}
	for i := range 2 * conflictsKept {
		c.note(conflict{kind: addressTwice, index: 2, ip: netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i)), last: now})
	}
	c.note(one)
	if got := c.of(1); got != (conflictCounts{foreign: 3}) || c.of(2).twice != 2*conflictsKept || len(c.recent) != conflictsKept {
		t.Errorf("%+v, %+v, %d kept", got, c.of(2), len(c.recent))
	}
	c.forget(2)
	if len(c.recent) != 1 || c.of(2) != (conflictCounts{}) || c.of(1).foreign != 3 {
		t.Errorf("%d kept", len(c.recent))
	}
}

// TestIsForeign: a MAC of ours is nobody else's, and what is not served no concern.
func TestIsForeign(t *testing.T) {
	cfg := Default()
	gateway := cfg.Gateways[0]
	b := route.NewBuilder(route.Policy{})
	b.SetLink(route.Link{Ifindex: 1, MAC: macAddr{2, 1}, Aliases: [2]macAddr{{2, 2}}, Flags: route.LinkWorkload})
	b.SetLink(route.Link{Ifindex: 2, MAC: macAddr{2, 3}, Flags: route.LinkUplink})
	table := b.Publish()
	for _, c := range []struct {
		claim arpd.Claim
		want  bool
	}{
		{arpd.Claim{Index: 1, IP: gateway, MAC: wire.MAC{2, 9}}, true},
		{arpd.Claim{Index: 2, IP: gateway, MAC: wire.MAC{2, 9}}, true},
		{arpd.Claim{Index: 1, IP: gateway, MAC: cfg.MAC}, false},
		{arpd.Claim{Index: 1, IP: gateway, MAC: wire.MAC{2, 1}}, false},
		{arpd.Claim{Index: 1, IP: gateway, MAC: wire.MAC{2, 2}}, false},
		{arpd.Claim{Index: 3, IP: gateway, MAC: wire.MAC{2, 9}}, false},
		{arpd.Claim{Index: 1, IP: netip.MustParseAddr("10.0.0.1"), MAC: wire.MAC{2, 9}}, false},
	} {
		if got := isForeign(table, &cfg, c.claim); got != c.want {
			t.Errorf("%+v: %t", c.claim, got)
		}
	}
}
