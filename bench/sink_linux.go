package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Sink is a UDP port whose socket filter takes note of each datagram and drops it.
//
// The filter (an eBPF program, see sink_program.go) runs in the receiving kernel for every datagram, after a
// super-packet has been cut and the UDP checksum was verified, and before the socket's buffer: what it counts was
// delivered, whatever the rate is, and no thread of ours takes part.
type Sink struct {
	fd   int
	port uint16
	maps sinkMaps
	ipv6 bool
	snmp *os.File
	bad  uint64 // datagrams with wrong checksums before it began
}

// OpenSink binds a port in the calling thread's namespace, at addr, which may be unspecified. It knows flows
// 0 to flows-1, of perFlow datagrams at most.
func OpenSink(addr netip.Addr, flows int, perFlow uint64) (_ *Sink, err error) {
	s := &Sink{fd: -1, ipv6: addr.Is6()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	prog, err := s.maps.load(flows, perFlow)
	if err != nil {
		return nil, err
	}
	defer prog.Close() // the socket holds it
	if s.fd, err = udpSocket(netip.AddrPortFrom(addr, 0)); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, prog.FD()); err != nil {
		return nil, fmt.Errorf("bench: sink: attach the counting filter: %w", err)
	}
	if s.port, err = boundPort(s.fd); err != nil {
		return nil, err
	}
	// Not /proc/net: that is the main thread's.
	file := "/proc/thread-self/net/snmp"
	if s.ipv6 {
		file += "6"
	}
	if s.snmp, err = os.Open(file); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s.bad, err = s.checksumErrors()
	return s, err
}

// Port is where datagrams are to go.
func (s *Sink) Port() uint16 { return s.port }

// Received is how many datagrams have come whole, the duplicates among them too.
func (s *Sink) Received() (uint64, error) {
	c, err := s.maps.counts()
	return c.whole(), err
}

// Tally says what became of the datagrams, knowing how many were sent.
func (s *Sink) Tally(sent uint64) (Tally, error) {
	c, err := s.maps.counts()
	if err != nil {
		return Tally{}, err
	}
	bad, err := s.checksumErrors()
	if err != nil {
		return Tally{}, err
	}
	t := Tally{Sent: sent, Received: c.whole(), Duplicated: c[countDuplicated], Reordered: c[countReordered],
		Corrupt: c[countCorrupt] + bad - s.bad}
	if unique := t.Received - t.Duplicated; sent > unique {
		t.Lost = sent - unique
	}
	return t, nil
}

// Flows is of how many flows something has come.
func (s *Sink) Flows() (n int, err error) {
	b := make([]byte, 8*s.maps.next.MaxEntries())
	if err := readMap(s.maps.next, b); err != nil {
		return 0, err
	}
	for ; len(b) > 0; b = b[8:] {
		if nativeUint64(b) > 0 {
			n++
		}
	}
	return n, nil
}

// Latency is the time each datagram took from the generator's stamp to the filter.
func (s *Sink) Latency() (Histogram, error) { return s.maps.histogram() }

// Times after which what has not come is lost, and after which what comes twice has come.
const (
	drained  = 200 * time.Millisecond
	repeated = 10 * time.Millisecond
)

// Drain waits for what was sent to arrive, or for nothing to come any more.
func (s *Sink) Drain(sent uint64) error {
	last, changed := uint64(0), time.Now()
	for {
		c, err := s.maps.counts()
		if err != nil {
			return err
		}
		got := c.whole()
		if got-c[countDuplicated] >= sent {
			time.Sleep(repeated)
			return nil
		}
		if got != last {
			last, changed = got, time.Now()
		} else if time.Since(changed) > drained {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Close releases the port and the filter.
func (s *Sink) Close() error {
	errs := []error{s.maps.Close()}
	if s.fd >= 0 {
		errs = append(errs, unix.Close(s.fd))
	}
	if s.snmp != nil {
		errs = append(errs, s.snmp.Close())
	}
	return errors.Join(errs...)
}

func (s *Sink) checksumErrors() (uint64, error) {
	b := make([]byte, 16<<10)
	n, err := s.snmp.ReadAt(b, 0)
	if n == 0 {
		return 0, fmt.Errorf("bench: %s: %w", s.snmp.Name(), err)
	}
	if s.ipv6 {
		return snmp6Counter(b[:n], "Udp6InCsumErrors")
	}
	return snmpCounter(b[:n], "Udp:", "InCsumErrors")
}

// snmpCounter finds a counter in the text of /proc/net/snmp, where a line of names stands before a line of numbers.
func snmpCounter(snmp []byte, protocol, counter string) (uint64, error) {
	var names [][]byte
	for line := range bytes.Lines(snmp) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != protocol {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if string(name) == counter && i < len(fields) {
				n, err := strconv.ParseUint(string(fields[i]), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("bench: /proc/net/snmp: %s: %w", counter, err)
				}
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("bench: /proc/net/snmp: no %s %s", protocol, counter)
}

// snmp6Counter finds a counter in the text of /proc/net/snmp6, which has one a line.
func snmp6Counter(snmp6 []byte, counter string) (uint64, error) {
	for line := range bytes.Lines(snmp6) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == counter {
			n, err := strconv.ParseUint(string(f[1]), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("bench: /proc/net/snmp6: %s: %w", counter, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("bench: /proc/net/snmp6: no %s", counter)
}

// boundPort is the port that the kernel has chosen.
func boundPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("bench: getsockname: %w", err)
	}
	switch at := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(at.Port), nil
	case *unix.SockaddrInet6:
		return uint16(at.Port), nil
	}
	return 0, fmt.Errorf("bench: getsockname: %T", sa)
}

// udpSocket makes a blocking UDP socket that is bound.
func udpSocket(at netip.AddrPort) (int, error) {
	name := sockaddr(at)
	fd, err := unix.Socket(familyOf(name), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("bench: UDP socket: %w", err)
	}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if err == nil {
		err = unix.Bind(fd, name)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("bench: UDP socket at %s: %w", at, err), unix.Close(fd))
	}
	return fd, nil
}

// sinkCounts are what the filter counts.
type sinkCounts [4]uint64

const (
	countInOrder = iota
	countReordered
	countDuplicated
	countCorrupt
)

func (c sinkCounts) whole() uint64 {
	return c[countInOrder] + c[countReordered] + c[countDuplicated]
}

// sinkMaps are what the filter writes.
type sinkMaps struct {
	counters, next, seen, times *ebpf.Map
}

func (m *sinkMaps) counts() (c sinkCounts, err error) {
	b := make([]byte, 8*len(c))
	if err := readMap(m.counters, b); err != nil {
		return c, err
	}
	for i := range c {
		c[i] = nativeUint64(b[8*i:])
	}
	return c, nil
}

func (m *sinkMaps) histogram() (Histogram, error) {
	b := make([]byte, 8*buckets)
	if err := readMap(m.times, b); err != nil {
		return nil, err
	}
	h := make(Histogram, buckets)
	for i := range h {
		h[i] = nativeUint64(b[8*i:])
	}
	return h, nil
}

// readMap copies what the map has, through a mapping of its memory.
func readMap(m *ebpf.Map, b []byte) error {
	memory, err := m.Memory()
	if err != nil {
		return fmt.Errorf("bench: sink: map the counters: %w", err)
	}
	if _, err := memory.ReadAt(b, 0); err != nil {
		return fmt.Errorf("bench: sink: read the counters: %w", err)
	}
	return nil
}

// Close releases the maps.
func (m *sinkMaps) Close() error {
	var errs []error
	for _, one := range []*ebpf.Map{m.counters, m.next, m.seen, m.times} {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}
