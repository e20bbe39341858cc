package labtest

import "proxyarpd/internal/status"

// Ends sums the verdicts of packets that came out of the ring: with nothing in the
// ring, and nothing that waits, they are PacketsIn. What the filter decided before
// the ring is left out, and so are the two verdicts that are no end.
func Ends(f *status.Forward) (n uint64) {
	for v, count := range f.Verdicts {
		switch v {
		case "queue", "originate", "local", "punt", "transit", "punted-flow", "upper-device", "gso", "reader-stalled", "vlan-tagged":
		default:
			n += count
		}
	}
	for v, count := range f.Drops {
		switch v {
		case "FULL_RING", "PARP_RATE_LIMIT":
		default:
			n += count
		}
	}
	return n + f.Returned
}
