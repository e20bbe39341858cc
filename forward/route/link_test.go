package route

import "testing"

func TestNeighbourState(t *testing.T) {
	for want, n := range map[string]*Neighbour{
		"PERMANENT": {Fixed: true, Valid: true}, "FAILED": {Failed: true}, "STALE": {Stale: true, Valid: true}, "REACHABLE": {Valid: true}, "INCOMPLETE": {},
	} {
		if got := n.State(); got != want {
			t.Errorf("%s is %s", want, got)
		}
	}
}
