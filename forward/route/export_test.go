package route

import "net/netip"

// Forwardable is forwardable, and forwardable6 of IPv6.
func Forwardable(dst netip.Addr) bool {
	if dst.Is6() {
		return keyOf(dst).forwardable6()
	}
	return forwardable(dst)
}

// KeptClass is the class that a builder keeps for a destination.
func (b *Builder) KeptClass(dst netip.Addr) Class { return b.classes.longest(dst, dst.BitLen()) }
