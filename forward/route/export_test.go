package route

import "net/netip"

// Forwardable is forwardable.
var Forwardable = forwardable

// OwnerOf says whose packets of a class are.
func (t *Table) OwnerOf(c Class, in *Link) Verdict { return t.policy.owner(c, in) }

// KeptClass is the class that a builder keeps for a destination.
func (b *Builder) KeptClass(dst netip.Addr) Class { return b.classes.longest(dst, dst.BitLen()) }
