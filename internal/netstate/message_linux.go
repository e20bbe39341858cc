package netstate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A header is struct nlmsghdr without the length.
type header struct {
	typ, flags uint16
	seq        uint32
	port       uint32 // of an event: the socket that asked for the change, 0 if none did
}

// nextMessage cuts the first netlink message off a datagram. ok is false if
// what is left is not one.
func nextMessage(b []byte) (h header, body, rest []byte, ok bool) {
	if len(b) < unix.SizeofNlMsghdr {
		return h, nil, nil, false
	}
	n := native.Uint32(b)
	if n < unix.SizeofNlMsghdr || uint64(n) > uint64(len(b)) {
		return h, nil, nil, false
	}
	h = header{typ: native.Uint16(b[4:]), flags: native.Uint16(b[6:]), seq: native.Uint32(b[8:]), port: native.Uint32(b[12:])}
	return h, b[unix.SizeofNlMsghdr:n], b[min(align4(int(n)), len(b)):], true
}

// newMessage starts a request: a header, to be completed by request, and the
// fixed part of the body.
func newMessage(typ, flags uint16, fixed []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(fixed)+64)
	native.PutUint16(b[4:], typ)
	native.PutUint16(b[6:], flags|unix.NLM_F_REQUEST)
	return append(b, fixed...)
}

// appendAttr appends one attribute to a request.
func appendAttr(b []byte, typ uint16, val []byte) []byte {
	n := unix.SizeofRtAttr + len(val)
	b = native.AppendUint16(b, uint16(n))
	b = native.AppendUint16(b, typ)
	b = append(b, val...)
	return append(b, make([]byte, align4(n)-n)...)
}

func appendU32(b []byte, typ uint16, v uint32) []byte {
	return appendAttr(b, typ, native.AppendUint32(nil, v))
}

// ackError reads the struct nlmsgerr of an NLMSG_ERROR, or the number alone of
// an NLMSG_DONE, and the text that the kernel may give with it
// (NLMSGERR_ATTR_MSG, with NETLINK_CAP_ACK right behind).
func ackError(h header, body []byte) error {
	if len(body) < 4 {
		return short("acknowledgement", body)
	}
	errno := int32(native.Uint32(body))
	if errno == 0 {
		return nil
	}
	err := error(unix.Errno(-errno))
	const ackTLVs = unix.SizeofNlMsghdr + 4
	if h.typ != unix.NLMSG_ERROR || h.flags&unix.NLM_F_ACK_TLVS == 0 || len(body) < ackTLVs {
		return err
	}
	for a := (attrs{rest: body[ackTLVs:]}); a.next(); {
		if a.typ == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w (%s)", err, a.str())
		}
	}
	return err
}
