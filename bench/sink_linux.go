package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// quiet is how long nothing may arrive before the rest counts as lost.
const quiet = 300 * time.Millisecond

// Sink reads numbered datagrams one by one.
type Sink struct {
	fd    int
	flows []Sequence
	total chan uint64 // how many were sent, once that is known
	done  chan Tally
}

// OpenSink binds the discard port in the calling thread's namespace and reads.
func OpenSink(addr netip.Addr, flows int) (*Sink, error) {
	fd, err := udpSocket(netip.AddrPortFrom(addr, discardPort))
	if err != nil {
		return nil, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	if err == nil {
		tv := unix.NsecToTimeval(int64(quiet))
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: sink: %w", err), unix.Close(fd))
	}
	s := &Sink{fd: fd, flows: make([]Sequence, flows), total: make(chan uint64, 1), done: make(chan Tally, 1)}
	go s.read()
	return s, nil
}

func (s *Sink) read() {
	runtime.LockOSThread()
	defer unix.Close(s.fd)
	var corrupt, got, total uint64
	known, buf := false, make([]byte, 2048)
	for {
		if !known {
			select {
			case total = <-s.total:
				known = true
			default:
			}
		}
		if known && got >= total {
			// All have come; what still comes within a moment is a duplicate.
			tv := unix.NsecToTimeval(int64(quiet / 10))
			_ = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		}
		// Not raw: the scheduler's signals to a raw call begin its time-out anew.
		n, err := unix.Read(s.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if known {
				s.done <- s.tally(total, corrupt)
				return
			}
		case err != nil:
			s.done <- s.tally(total, corrupt)
			return
		case !s.add(buf[:n]):
			corrupt++
		default:
			got++
		}
	}
}

func (s *Sink) add(b []byte) bool {
	if len(b) < payloadLen {
		return false
	}
	flow := int(binary.BigEndian.Uint16(b[payloadFlow:]))
	return flow < len(s.flows) && s.flows[flow].Add(binary.BigEndian.Uint64(b[payloadNumber:]))
}

func (s *Sink) tally(sent, corrupt uint64) Tally {
	var t Tally
	for i := range s.flows {
		t = t.Plus(s.flows[i].Tally(0))
	}
	t.Sent, t.Corrupt = sent, corrupt
	if unique := t.Received - t.Duplicated; sent > unique {
		t.Lost = sent - unique
	}
	return t
}

// Tally waits for what was sent to arrive, or for nothing to come any more, and
// releases the sink.
func (s *Sink) Tally(sent uint64) Tally {
	s.total <- sent
	return <-s.done
}
