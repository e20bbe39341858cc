package netstate

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// parseAddress reads struct ifaddrmsg and attributes (inet_fill_ifaddr in
// net/ipv4/devinet.c).
func parseAddress(b []byte) (Address, error) {
	var ad Address
	if len(b) < unix.SizeofIfAddrmsg {
		return ad, short("ifaddrmsg", b)
	}
	family, bits := b[0], int(b[1])
	if bits > familyBits(family) {
		return ad, fmt.Errorf("%w: address of family %d with %d bits", errMalformed, family, bits)
	}
	ad.Flags, ad.Scope = uint32(b[2]), Scope(b[3])
	if ad.Index = int(int32(native.Uint32(b[4:]))); ad.Index <= 0 {
		return ad, fmt.Errorf("%w: address of link %d", errMalformed, ad.Index)
	}
	var address netip.Addr
	a := attrs{rest: b[unix.SizeofIfAddrmsg:]}
	for a.next() {
		switch a.typ {
		case unix.IFA_ADDRESS:
			address = a.addr(family)
		case unix.IFA_LOCAL:
			ad.Local = a.addr(family)
		case unix.IFA_BROADCAST:
			ad.Broadcast = a.addr(family)
		case unix.IFA_LABEL:
			ad.Label = a.str()
		case unix.IFA_FLAGS:
			ad.Flags = a.u32()
		}
	}
	if a.err != nil {
		return ad, a.err
	}
	err := ad.complete(address, bits)
	return ad, err
}

// complete settles local, peer and prefix: IFA_ADDRESS is the peer's on a
// point-to-point address and equal to IFA_LOCAL, or alone, on any other.
func (ad *Address) complete(address netip.Addr, bits int) error {
	if !ad.Local.IsValid() {
		ad.Local = address
	}
	if !address.IsValid() {
		address = ad.Local
	}
	if !ad.Local.IsValid() {
		return fmt.Errorf("%w: address without an address", errMalformed)
	}
	if address != ad.Local {
		ad.Peer = address
	}
	ad.Prefix = netip.PrefixFrom(address, bits).Masked()
	return nil
}
