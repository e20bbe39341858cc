package claim

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// SetRoute6 says by what word packets go to those destinations of an IPv6 prefix that no
// longer one has; 0 (AsAbove): by that of the next shorter one. The programs see the word
// before or the new one.
func (c *Carrier) SetRoute6(p netip.Prefix, word uint32) error {
	m, key := &c.set.objs, bpfLpmkey6{Prefixlen: uint32(p.Bits()), Addr: nativeAddr6(p.Addr())}
	if !p.IsSingleIP() {
		return put(m.ParpRoutes6, &key, word)
	}
	if word == AsAbove && c.spilled6 { // it is hidden for as long as the other is there
		if err := put(m.ParpRoutes6, &key, word); err != nil {
			return err
		}
	}
	err := put(m.ParpDirect6, &key.Addr, word)
	if errors.Is(err, unix.E2BIG) { // it has room for so many
		c.spilled6 = true
		return put(m.ParpRoutes6, &key, word)
	}
	return err
}
