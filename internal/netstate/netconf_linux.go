package netstate

import "golang.org/x/sys/unix"

// Attributes of struct netconfmsg (include/uapi/linux/netconf.h).
const (
	sizeofNetconfmsg  = 4 // the family, padded
	netconfIfindex    = 1
	netconfForwarding = 2
)

// setForwarding takes an RTM_NEWNETCONF that tells of a link's forwarding
// sysctl (net/ipv4/devinet.c, inet_netconf_notify_devconf). The value is told
// when it changes only, so the State does not keep it; the link is reported
// again.
func (s *State) setForwarding(b []byte) outcome {
	if len(b) < sizeofNetconfmsg {
		return malformed
	}
	if b[0] != unix.AF_INET {
		return ignored
	}
	index, told := 0, false
	a := attrs{rest: b[sizeofNetconfmsg:]}
	for a.next() {
		switch a.typ {
		case netconfIfindex:
			index = int(int32(a.u32()))
		case netconfForwarding:
			told = true
		}
	}
	if a.err != nil {
		return malformed
	}
	l, known := s.links[index]
	if !known || !told {
		return ignored
	}
	s.tell(Event{Op: Set, Link: &l})
	return applied
}
