package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Discard is a UDP port that nobody reads, and the count of what reached it.
//
// Its buffer is full after a few datagrams; from then on the kernel drops each
// and counts it, after all that it does for a datagram that is delivered but the
// copy to the reader. Veth counters would not do: they count a super-packet as one.
type Discard struct {
	fd   int
	snmp *os.File
	buf  []byte
}

// OpenDiscard binds the discard port in the calling thread's namespace.
func OpenDiscard(addr netip.Addr) (*Discard, error) {
	fd, err := udpSocket(netip.AddrPortFrom(addr, discardPort))
	if err != nil {
		return nil, err
	}
	d := &Discard{fd: fd, buf: make([]byte, 16<<10)}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the kernel makes it its least
		return nil, errors.Join(fmt.Errorf("bench: discard socket: %w", err), unix.Close(fd))
	}
	// Not /proc/net: that is the main thread's.
	if d.snmp, err = os.Open("/proc/thread-self/net/snmp"); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), unix.Close(fd))
	}
	return d, nil
}

// Count is how many datagrams have reached UDP in the namespace: delivered,
// dropped for want of buffer, or sent to no port.
func (d *Discard) Count() (uint64, error) {
	n, err := d.snmp.ReadAt(d.buf, 0)
	if n == 0 {
		return 0, fmt.Errorf("bench: %s: %w", d.snmp.Name(), err)
	}
	return udpArrivals(d.buf[:n])
}

// Close releases the port.
func (d *Discard) Close() error { return errors.Join(d.snmp.Close(), unix.Close(d.fd)) }

// udpArrivals sums the counters of /proc/net/snmp that datagrams end in. A drop
// also counts as InErrors, so that is left out.
func udpArrivals(snmp []byte) (sum uint64, err error) {
	var names [][]byte
	for line := range bytes.Lines(snmp) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if len(fields) != len(names) {
			break
		}
		for i, name := range names {
			switch string(name) {
			case "InDatagrams", "NoPorts", "RcvbufErrors", "InCsumErrors", "MemErrors":
				n, err := strconv.ParseUint(string(fields[i]), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("bench: /proc/net/snmp: %s: %w", name, err)
				}
				sum += n
			}
		}
		return sum, nil
	}
	return 0, errors.New("bench: /proc/net/snmp: no line Udp")
}

// udpSocket makes a blocking UDP socket that is bound.
func udpSocket(at netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("bench: UDP socket: %w", err)
	}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())})
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("bench: UDP socket at %s: %w", at, err), unix.Close(fd))
	}
	return fd, nil
}
