package netstate

import "golang.org/x/sys/unix"

// AddressState is what an IPv6 address is good for (RFC 4862), the better the greater; also
// of several addresses the best.
type AddressState uint8

const (
	AddressMissing   AddressState = iota // there is none
	AddressFailed                        // duplicate address detection has found another
	AddressTentative                     // it goes on
	AddressUsable
)

// AddressStateOf is the state of an address with these flags, IFA_F_*.
func AddressStateOf(flags uint32) AddressState {
	switch {
	case flags&unix.IFA_F_DADFAILED != 0:
		return AddressFailed
	case flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0:
		return AddressTentative
	}
	return AddressUsable
}
