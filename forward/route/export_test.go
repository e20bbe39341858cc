package route

import "net/netip"

// Forwardable is forwardable.
var Forwardable = forwardable

// KeptClass is the class that a builder keeps for a destination.
func (b *Builder) KeptClass(dst netip.Addr) Class { return b.classes.longest(dst, dst.BitLen()) }
