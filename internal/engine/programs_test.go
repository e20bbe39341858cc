package engine

import (
	"errors"
	"net/netip"
	"testing"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// TestWithoutPrograms: where there is no eBPF nothing is claimed, and nothing fails but what nobody may do without.
func TestWithoutPrograms(t *testing.T) {
	p := &Programs{}
	if p.Decides() || p.CanClaim() || p.Claimed(1) || p.Translated(nil) || p.Orphans() != nil || p.Set() != nil {
		t.Error("something is there")
	}
	if how, n := p.Claims(); how != claim.None || n != 0 {
		t.Errorf("claims: %s, %d", how, n)
	}
	slot, err := p.SetPort(Port{Ifindex: 1})
	if slot != 0 || errors.Join(err, p.DeletePort(1), p.Release(1), p.SetClass(netip.Prefix{}, route.ToLocal), p.SetNDTarget(claim.NDTarget{}, true), p.Close()) != nil {
		t.Errorf("slot %d, %v", slot, err)
	}
	for name, err := range map[string]error{"claim": p.Claim(1), "ARP": p.AttachARP(1), "ND": p.AttachND(1), "watch": p.AttachWatch(1, 0, 0)} {
		if !errors.Is(err, claim.ErrNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.Counters(1) != (claim.Counters{}) {
		t.Error("counts")
	}
}

// TestPuntedTo: each owner that has a counter and is not the host has a verdict of its own.
func TestPuntedTo(t *testing.T) {
	seen := map[route.Verdict]bool{}
	for _, o := range []claim.Owner{claim.Punted, claim.Transit, claim.Translated, claim.Upper, claim.GSO, claim.Stalled} {
		v, ok := PuntedTo[o]
		if !ok || v.Kind() != route.KindPunt || seen[v] {
			t.Errorf("owner %d: %s, %t", o, v, ok)
		}
		seen[v] = true
	}
}
