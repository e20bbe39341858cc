package netstate

import "golang.org/x/sys/unix"

// QdiscDefault is Link.Qdisc where a root qdisc was deleted: the kernel then
// attaches the one that it thinks right, and names that in the next link
// message only (attach_default_qdiscs in net/sched/sch_generic.c).
const QdiscDefault = "default"

// struct tcmsg and its attributes (include/uapi/linux/rtnetlink.h, pkt_sched.h).
const (
	sizeofTcmsg = 20
	tcHRoot     = 0xffffffff
	tcaKind     = 1
)

// setQdisc takes an RTM_NEWQDISC or RTM_DELQDISC about the root of a link. No
// link message tells of what tc does there.
func (s *state) setQdisc(typ uint16, b []byte) outcome {
	if len(b) < sizeofTcmsg {
		return malformed
	}
	index, parent, kind := int(int32(native.Uint32(b[4:]))), native.Uint32(b[12:]), QdiscDefault
	if typ == unix.RTM_NEWQDISC {
		a := attrs{rest: b[sizeofTcmsg:]}
		for a.next() {
			if a.typ == tcaKind {
				kind = a.str()
			}
		}
		if a.err != nil {
			return malformed
		}
	}
	l, known := s.links[index]
	if !known || parent != tcHRoot {
		return ignored
	}
	if l.Qdisc != kind {
		l.Qdisc = kind
		s.links[index] = l
		s.tell(Event{Op: Set, Link: &l})
	}
	return applied
}
