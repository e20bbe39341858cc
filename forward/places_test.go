package forward

import (
	"testing"

	"proxyarpd/forward/route"
)

// TestPlaces: however many places there are, all is counted, in bounded memory.
func TestPlaces(t *testing.T) {
	p := new(places)
	const interfaces = 5000
	for range 2 {
		for i := range int32(interfaces) {
			p.add(route.Forward, i, 3)
			p.add(route.DropIPInNoRoutes, i, 1)
		}
	}
	sums := map[route.Verdict]uint64{}
	got := p.load()
	for at, n := range got {
		sums[at.Verdict] += n
	}
	if sums[route.Forward] != 6*interfaces || sums[route.DropIPInNoRoutes] != 2*interfaces || len(sums) != 2 {
		t.Errorf("%v", sums)
	}
	if len(got) < placeSets*placeWays*3/4 || len(got) > placeSets*placeWays+2 {
		t.Errorf("%d places are told apart", len(got))
	}
}

// A thousand interfaces with the verdicts that such have are told apart.
func TestPlacesUsual(t *testing.T) {
	p := new(places)
	for i := range int32(1000) {
		for _, v := range []route.Verdict{route.Forward, route.Queue, route.DropIPRPFilter} {
			p.add(v, i+1, uint64(i+1))
		}
	}
	if got := p.load(); len(got) < 2900 {
		t.Errorf("%d places of 3000", len(got))
	}
}

func TestPlacesNoAllocations(t *testing.T) {
	p := new(places)
	i := int32(0)
	if n := testing.AllocsPerRun(10000, func() { i++; p.add(route.Local, i, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
