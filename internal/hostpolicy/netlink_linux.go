package hostpolicy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often a dump is repeated that the kernel marked as interrupted by a change.
const dumpTries = 10

// dump sends one netlink dump request and returns the payloads of the answers. An inconsistent dump is repeated;
// one that never gets consistent is an error, since a rule might be missing from it.
func dump(ctx context.Context, protocol int, typ uint16, payload []byte) ([][]byte, error) {
	return request(ctx, protocol, typ, unix.NLM_F_DUMP, payload)
}

func request(ctx context.Context, protocol int, typ uint16, flags int, payload []byte) ([][]byte, error) {
	var err error
	for range dumpTries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		req := nl.NewNetlinkRequest(int(typ), flags)
		req.AddRawData(payload)
		var msgs [][]byte
		msgs, err = req.Execute(protocol, 0)
		switch {
		case err == nil:
			return msgs, nil
		case errors.Is(err, nl.ErrDumpInterrupted), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
			// Two errnos say nothing of the kind to errors.Is, so say it for all of them.
			return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		default:
			return nil, err
		}
	}
	return nil, &changing{err}
}

// A changing error is of what changed each time it was read. It passes.
type changing struct{ err error }

func (e *changing) Error() string {
	return fmt.Sprintf("changed while it was read, %d times: %v", dumpTries, e.err)
}

func (e *changing) Is(target error) bool { return target == unix.EAGAIN }

// attributes walks netlink attributes (include/uapi/linux/netlink.h, struct nlattr). The type comes without the
// bits for nesting and byte order; a malformed rest ends the walk.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			if !yield(typ, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

// text returns an attribute's string, without the terminating NUL if there is one.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// be32 returns a big-endian number, as nfnetlink writes them; 0 if it is too short.
func be32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// native32 returns a number in the host's order, as rtnetlink writes them; 0 if it is too short.
func native32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
