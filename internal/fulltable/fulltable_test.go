package fulltable_test

import (
	"net/netip"
	"slices"
	"testing"

	"proxyarpd/internal/fulltable"
)

// TestPrefixes: what is drawn is repeatable, distinct, and mostly /24.
func TestPrefixes(t *testing.T) {
	const n = 100_000
	all := fulltable.Prefixes(n, 1)
	if !slices.Equal(all, fulltable.Prefixes(n, 1)) {
		t.Error("another table from the same seed")
	}
	var lengths [33]int
	seen := map[netip.Prefix]bool{}
	for _, p := range all {
		if p != p.Masked() || seen[p] {
			t.Fatalf("%v is not masked, or there twice", p)
		}
		seen[p] = true
		lengths[p.Bits()]++
	}
	if share := float64(lengths[24]) / n; len(all) != n || share < 0.5 || share > 0.7 {
		t.Errorf("%d prefixes, %.2f of them /24: %v", len(all), share, lengths)
	}
	for _, a := range fulltable.Addrs(all[:100], 1000, 1) {
		if !slices.ContainsFunc(all[:100], func(p netip.Prefix) bool { return p.Contains(a) }) {
			t.Fatalf("%v is in none of the prefixes", a)
		}
	}
}
